"""``validate chen``: the copier–selector–classifier on finite data, against the recorded run."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from reduced_dynamics.commands import progress
from reduced_dynamics.commands.arguments import number, pairs, times
from reduced_dynamics.commands.validate import conclude, finite, run_jobs, seeds, whole
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.families.chen import validation as validate_markov
from reduced_dynamics.families.chen.validation import Plan, Run
from reduced_dynamics.integration.one import Interrupted
from reduced_dynamics.io.versions import versions

#: Options that mean nothing for full-batch descent of a model with a dozen weights.
STRANGERS = {
    "batch": "every step is on all sequences; their number is --set sequences=9000",
    "init_scale": "the start is --set w_plus, w_minus, c_init and a_init",
    "perturbation": "no subspace is left out: the coordinates are all of the weights",
    "clamp": "hold parts of the model by --set training=C (or W, or a, or C-W-a in some order)",
}
STUDIES = ("transfer", "criterion", "stages", "step")
#: Exit code.
INTERRUPTED = 130
#: Below this log10 p a weight c has left the range of numbers.
UNDERFLOWN = -600.0
#: Standard deviations within which the recorded run is expected to lie.
WITHIN = 2.0


def execute(options) -> int:
    for name, why in STRANGERS.items():
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} means nothing for chen: {why}")
    if options.optimiser not in (None, "sgd"):
        raise InputError("chen is trained by plain gradient descent; drop --optimiser")
    if options.study is not None and options.study not in STUDIES:
        raise unknown("study of chen", options.study, STUDIES)
    if options.study in (None, "transfer"):
        if options.values is not None:
            raise InputError("--values belongs to the studies criterion, stages and step")
        return _validate(options)
    from reduced_dynamics.commands import study_chen

    return study_chen.execute(options)


def _validate(options) -> int:
    plan = validate_markov.plan(pairs("set", options.set), **_plan_options(options))
    done, _, stopped = run_jobs(plan.jobs, options)
    runs = [run for _, run in done]
    if runs:
        if options.study:
            report = _transfer(plan, runs)
        else:
            # Who interrupts a training does not want to wait for the population.
            report = _comparison(plan, runs, ("flow", "gd") if stopped is None else ())
        complete = stopped is None and "interrupted" not in report
        report = {"complete": complete, "message": str(stopped or "")} | report
        if options.plot:
            _draw(plan, runs, report, options)
        if options.json:
            shown = as_json(plan, runs, report)
            print(json.dumps(finite(shown), indent=1, allow_nan=False))
        else:
            print("\n".join(as_text(plan, runs, report)))
        if report.get("interrupted"):
            print("simulate.py: interrupted; all trainings had ended", file=sys.stderr)
            return INTERRUPTED
    return conclude(stopped)


def _plan_options(options) -> dict[str, Any]:
    if options.t_end is not None and options.steps is not None:
        raise InputError("--t-end and --steps both say when to stop; give one of the two")
    found: dict[str, Any] = {
        "seeds": seeds(options.seeds, 1 if options.study else validate_markov.SEEDS)
    }
    if options.t_end is not None:
        found["t_end"] = options.t_end
    if options.steps is not None:
        found["steps"] = whole("steps", options.steps)
    if options.at is not None:
        found["at"] = times(options.at)
    if options.learning_rate is not None:
        found["learning_rate"] = number("learning-rate", options.learning_rate)
    return found


def _comparison(plan: Plan, runs: list[Run], population: Sequence[str]) -> dict[str, Any]:
    """What is reported of runs: the spread, the population's trajectories, the limit."""
    found: dict[str, Any] = {"summary": validate_markov.summary(plan, runs), "population": {}}
    reached = max(run.full.t_end for run in runs)
    for dynamics in population:
        reporter = progress.Reporter()
        try:
            trajectory = validate_markov.population(plan, reached, dynamics, reporter)
        except (Interrupted, KeyboardInterrupt) as error:  # the latter while it compiles
            trajectory, found["interrupted"] = getattr(error, "trajectory", None), True
        reporter.close()
        if trajectory is not None and len(trajectory) > 1:
            found["population"][dynamics] = {
                "trajectory": trajectory,
                "at": validate_markov.population_at(plan, trajectory, plan.at),
            }
        if "interrupted" in found:
            break
    found["limit"] = [row | {"seed": run.config.seed} for run in runs for row in run.limit]
    return found


def _transfer(plan: Plan, runs: list[Run]) -> dict[str, Any]:
    reporter = _Tests()
    rows = []
    for run in runs:
        rows += [
            row | {"seed": run.config.seed}
            for row in validate_markov.transfer(
                run, count=validate_markov.TESTED, progress=reporter
            )
        ]
    reporter.close()
    return {"transfer": rows}


class _Tests(progress.Reporter):
    """How many tests are done, silent for two seconds."""

    def __call__(self, done: int, all_of_them: int) -> None:
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + self.every
        text = f"tested on {done} of {all_of_them} sets of sequences"
        self.stream.write(f"\r{text}\x1b[K" if self.live else f"{text}\n")
        self.stream.flush()
        self.shown = True


def _draw(plan, runs, report, options) -> None:
    from reduced_dynamics.families.chen import figures as markov_figures
    from reduced_dynamics.plotting.style import save_figure

    if options.study:
        figure = markov_figures.transfer_figure(runs[0].config, report["transfer"])
    else:
        population = {k: v["trajectory"] for k, v in report["population"].items()}
        figure = markov_figures.validation_figure(plan, runs, population)
    save_figure(figure, options.plot)
    print(f"drew {options.plot}", file=sys.stderr if options.json else sys.stdout)


# Reports


def as_text(plan: Plan, runs: list[Run], report: dict[str, Any]) -> list[str]:
    """What ``validate chen`` prints for people."""
    config = plan.config
    shown = ", ".join(f"{k}={v}" for k, v in plan.values.items()) + (
        f", sequences={config.sequences}, validation={config.validation}"
    )
    weights = len(config.coordinates)
    reached = max(run.full.t_end for run in runs)
    which = ", ".join(str(run.config.seed) for run in runs)
    lines = [
        f"chen ({shown})",
        f"  all {weights} weights, full batch, learning rate {config.learning_rate:g}; "
        f"t = step x learning rate, up to t = {reached:g}; data seeds {which}",
        "",
    ]
    if "transfer" in report:
        return lines + _transfer_text(config, report["transfer"])
    lines += [*_summary_text(plan, report, "a"), "", *_summary_text(plan, report, "loss"), ""]
    lines += [*_selector_text(plan, report), "", *_runs_text(runs), "", *_limit_text(report)]
    return [*lines, "", *_verdict(plan, report)]


def _summary_text(plan: Plan, report, quantity: str) -> list[str]:
    name = {"a": "a", "loss": "training loss"}[quantity]
    rows = [row for row in report["summary"] if row["quantity"] == quantity]
    lines = [f"  {'t':>8} {name:>14} {'sd':>9} {'recorded':>9} {'z':>6} "
             f"{'population flow':>16} {'population gd':>14}"]  # fmt: skip
    for row in rows:
        beside = [
            f"{_at(report['population'].get(dynamics), quantity, row['t']):{width}}"
            for dynamics, width in (("flow", ">16"), ("gd", ">14"))
        ]
        lines.append(
            f"  {row['t']:8g} {row['mean']:14.5f} {_number(row['sd'], '9.5f')} "
            f"{_number(row['recorded'], '9.5g')} {_number(row['z'], '+6.2f')} {' '.join(beside)}"
        )
    return lines


def _at(found, quantity: str, t: float) -> str:
    if found is None:
        return "-"
    near = np.isclose(found["at"]["t"], t)
    return f"{found['at'][quantity][near][0]:.5f}" if near.any() else "-"


def _selector_text(plan: Plan, report) -> list[str]:
    labels = plan.config.labels
    width = 15
    lines = ["  log10 p, mean and sd; recorded, z",
             "  " + " " * 8 + "".join(f"{_braces(k):>{width}}" for k in labels)]  # fmt: skip
    by = {(row["quantity"], row["t"]): row for row in report["summary"]}
    for t in plan.at:
        rows = [by.get((f"log10_p_{label}", t)) for label in labels]
        if rows[0] is None:
            continue
        cells = (
            f"{row['mean']:.2f} {_number(row['sd'], '.2f').strip()}"
            if row["mean"] > UNDERFLOWN
            else f"< {UNDERFLOWN:g}"
            for row in rows
        )
        lines.append(f"  {t:8g}" + "".join(f"{cell:>{width}}" for cell in cells))
        if rows[0]["recorded"] is not None:
            cells = (f"{row['recorded']:.4g}, {_number(row['z'], '+.1f').strip()}" for row in rows)
            lines.append("  recorded" + "".join(f"{cell:>{width}}" for cell in cells))
    return lines


def _runs_text(runs: list[Run]) -> list[str]:
    lines = [f"  {'seed':>6} {'a':>9} {'train loss':>11} {'valid. loss':>12} {'accuracy':>9} "
             f"{'valid. acc.':>12} {'selected':>9} {'T_selected':>11} {'steps/s':>8}"]  # fmt: skip
    for run in runs:
        full, config = run.full, run.config
        p = {label: full[f"p_{label}"][-1] for label in config.labels}
        selected = full.events["T_selected"]
        lines.append(
            f"  {config.seed:6d} {full['a'][-1]:9.4f} {full.loss[-1]:11.5f} "
            f"{full['validation_loss'][-1]:12.5f} {full['accuracy'][-1]:9.4f} "
            f"{full['validation_accuracy'][-1]:12.4f} {_braces(max(p, key=p.get)):>9} "
            f"{_number(selected, '11.2f')} {_number(full.stats['steps_per_s'] or None, '8.0f')}"
        )
    return lines


def _limit_text(report) -> list[str]:
    lines = [
        "  the limit W_h_0, a -> infinity, p = 1 on the parents: the generalised induction head",
        f"  {'set':>10} {'loss':>5} {'model':>10} {'head':>10} {'model - head':>13} "
        f"{'bayes':>10} {'oracle':>10} {'no match':>9}",
    ]
    rows = report["limit"]
    for name, loss in dict.fromkeys((row["set"], row["loss"]) for row in rows):
        here = [row for row in rows if (row["set"], row["loss"]) == (name, loss)]
        mean = {
            key: float(np.mean([row[key] for row in here]))
            for key in ("model", "induction_head", "bayes", "oracle", "unmatched")
        }
        lines.append(
            f"  {name:>10} {loss:>5} {mean['model']:10.5f} {mean['induction_head']:10.5f} "
            f"{mean['model'] - mean['induction_head']:+13.5f} {mean['bayes']:10.5f} "
            f"{mean['oracle']:10.5f} {mean['unmatched']:9.4f}"
        )
    return [
        *lines,
        "  means over the seeds; without a match the head attends to all positions alike. bayes "
        "knows the",
        "  order and the prior, oracle the kernel; both give the output with the least expected "
        "loss",
    ]


def _verdict(plan: Plan, report) -> list[str]:
    scores = [row for row in report["summary"] if row["z"] is not None]
    if not scores:
        return [
            "no run of this setting has been recorded"
            if not plan.as_recorded
            else "z-scores of the recorded run need two seeds at least, and one of its times"
        ]
    worst = max(scores, key=lambda row: abs(row["z"]))
    within = sum(abs(row["z"]) <= WITHIN for row in scores)
    return [
        f"the recorded run lies within {WITHIN:g} sd of the seeds' mean in {within} of "
        f"{len(scores)} numbers; farthest: {worst['quantity']} at t = {worst['t']:g}, "
        f"z = {worst['z']:+.2f}",
        "z = (recorded - mean) / sqrt(sd^2 + rounding^2), sd over "
        f"{max(row['count'] for row in scores)} seeds",
    ]


def _transfer_text(config, rows) -> list[str]:
    lines = [
        f"  trained at L = {config.L}, dirichlet = {config.dirichlet:g} on loss {config.loss}; "
        f"{validate_markov.TESTED} fresh sequences a test",
        f"  {'L':>6} {'dirichlet':>9} {'loss':>5} {'model':>9} {'head':>9} {'difference':>11} "
        f"{'se':>8} {'bayes':>9} {'oracle':>9}   {'accuracy: model':>15} {'head':>7} {'bayes':>7} "
        f"{'oracle':>7} {'no match':>9}",
    ]
    tests = dict.fromkeys((row["L"], row["dirichlet"], row["loss"]) for row in rows)
    for L, dirichlet, loss in tests:
        here = [r for r in rows if (r["L"], r["dirichlet"], r["loss"]) == (L, dirichlet, loss)]
        mean = {
            k: float(np.mean([r[k] for r in here]))
            for k, v in here[0].items()
            if isinstance(v, float)
        }
        lines.append(
            f"  {L:6d} {dirichlet:9g} {loss:>5} {mean['model']:9.4f} "
            f"{mean['induction_head']:9.4f} {mean['model'] - mean['induction_head']:+11.4f} "
            f"{mean['standard_error'] / math.sqrt(len(here)):8.4f} {mean['bayes']:9.4f} "
            f"{mean['oracle']:9.4f}   {mean['model_accuracy']:15.4f} "
            f"{mean['induction_head_accuracy']:7.4f} {mean['bayes_accuracy']:7.4f} "
            f"{mean['oracle_accuracy']:7.4f} {mean['unmatched']:9.4f}"
        )
    return [
        *lines,
        "  head: the generalised induction head; bayes: knows order and prior; oracle: knows the "
        "kernel.",
        "  se: standard error of the difference; all predict the same sequences",
    ]


def as_json(plan: Plan, runs: list[Run], report: dict[str, Any]) -> dict[str, Any]:
    """The object that ``validate chen --json`` prints; null stands for what is not finite."""
    config = plan.config
    found = {
        "system": "chen",
        "parameters": dict(plan.values),
        "training": {
            "optimiser": "sgd",
            "learning_rate": config.learning_rate,
            "steps": config.steps,
            "sequences": config.sequences,
            "validation": config.validation,
            "training": config.training,
        },
        "complete": report["complete"],
        "message": report["message"],
        "planned_runs": len(plan.jobs),
        "as_recorded": plan.as_recorded,
    }
    if "transfer" in report:
        found["transfer"] = report["transfer"]
    else:
        found |= {
            "summary": report["summary"],
            "population": {
                dynamics: {k: v.tolist() for k, v in part["at"].items()}
                for dynamics, part in report["population"].items()
            },
            "limit": report["limit"],
        }
    found["runs"] = [
        {
            "seed": run.config.seed,
            "steps": run.full.stats["steps"],
            "t_end": run.full.t_end,
            "final": run.full.final,
            "loss": float(run.full.loss[-1]),
            "validation_loss": float(run.full["validation_loss"][-1]),
            "accuracy": float(run.full["accuracy"][-1]),
            "validation_accuracy": float(run.full["validation_accuracy"][-1]),
            "T_selected": run.full.events["T_selected"],
            "at": {k: v.tolist() for k, v in run.at(plan.at).items()},
            "wall_s": run.full.stats["wall_s"],
            "steps_per_s": run.full.stats["steps_per_s"] or None,  # none were left to do
        }
        for run in runs
    ]
    return found | {"versions": versions()}


def _braces(label: str) -> str:
    return (
        "{" + ",".join(label.split("_") if "_" in label else label) + "}"
        if (label != "empty")
        else "{}"
    )


def _number(x: float | None, form: str) -> str:
    """A number, or a dash of the same width."""
    if x is None or not math.isfinite(x):
        width = form.lstrip("+").partition(".")[0]
        return f"{'-':>{width or 1}}"
    return f"{x:{form}}"
