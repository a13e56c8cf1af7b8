"""``validate ih``: a two-layer transformer trained on the in-context n-gram IH_n, over seeds."""

from __future__ import annotations

import dataclasses
import json
import sys
from statistics import median
from typing import Any

import numpy as np

from reduced_dynamics.commands.arguments import number, pairs, times
from reduced_dynamics.commands.validate import conclude, finite, run_jobs, seeds, whole
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.families.wang.full.induction_training import InductionConfig
from reduced_dynamics.families.wang.induction_study import Job, Result, fewest, plan
from reduced_dynamics.io.versions import versions

#: Parameters of --set; the rest of the configuration has options of its own.
PARAMETERS = (
    "n", "H", "D", "H2", "L", "d", "w_star", "encoding", "content", "skip", "training", "schedule",
    "slope",
)  # fmt: skip
#: Settings with options of their own.
OPTIONS = ("optimiser", "learning_rate", "batch", "steps", "init_scale")
#: Options that speak of a reduced flow, which this model does not have.
STRANGERS = ("t_end", "perturbation", "clamp")
#: Intervals of the table that is printed.
ROWS = 10


def execute(options) -> int:
    config, tied = configuration(options)
    values = options.values
    if values is not None:
        values = [number("values", part) for part in values.split(",")]
    chosen = seeds(options.seeds, 3 if options.study else 1)
    jobs = plan(config, chosen, options.study, values, tied)
    runs, whole_runs, stopped = run_jobs(jobs, options)
    done, finished = ([found for _, found in some] for some in (runs, whole_runs))
    if done:
        if options.plot:
            from reduced_dynamics.families.wang.induction_figure import induction_figure
            from reduced_dynamics.plotting.style import save_figure

            save_figure(induction_figure(done), options.plot)
            print(f"drew {options.plot}", file=sys.stderr if options.json else sys.stdout)
        if options.json:
            report = as_json(jobs, done, stopped)
            print(json.dumps(finite(report), indent=1, allow_nan=False))
        else:
            print("\n".join(as_text(done, finished, _asked(options))))
    return conclude(stopped)


def configuration(options) -> tuple[InductionConfig, bool]:
    """The settings, and whether the width follows the number of heads, as it does if not set.

    Raises
    ------
    InputError
        For options that belong to the reduced systems, unknown parameters and bad values.
    """
    for name in STRANGERS:
        if getattr(options, name):
            raise InputError(
                f"--{name.replace('_', '-')} belongs to systems with a reduced flow; ih takes "
                "--set, --steps, --at, --batch, --learning-rate, --optimiser, --init-scale, "
                "--seeds, --study and --values"
            )
    default, changes = InductionConfig(), {}
    for name, text in pairs("set", options.set).items():
        if name not in PARAMETERS:
            raise unknown("parameter of ih", name, PARAMETERS)
        kind = type(getattr(default, name))
        if kind is bool:
            if text.lower() not in ("true", "false"):
                raise InputError(f"{name} is true or false, not '{text}'")
            changes[name] = text.lower() == "true"
        else:
            changes[name] = {int: whole, float: number, str: lambda _, text: text}[kind](name, text)
    tied = "D" not in changes
    if tied and "H" in changes:
        changes["D"] = changes["H"]
    for name in {"heads": ("H",), "needed": ("n", "H")}.get(options.study, (options.study,)):
        if name in changes and not (name == "D" and tied):
            raise InputError(f"--study {options.study} varies {name}; leave it out of --set")
    for name in ("batch", "steps"):
        if getattr(options, name) is not None:
            changes[name] = whole(name, getattr(options, name))
    for name in ("learning_rate", "init_scale"):
        if getattr(options, name) is not None:
            changes[name] = number(name.replace("_", "-"), getattr(options, name))
    if options.optimiser is not None:
        changes["optimiser"] = options.optimiser
    config = dataclasses.replace(default, **changes)
    record, steps = min(config.steps, default.record), _asked(options)
    if steps:
        record = tuple(sorted({*np.linspace(0, config.steps, record + 1).tolist(), *steps}))
    return dataclasses.replace(config, record=record), tied


def _asked(options) -> list[float]:
    """The steps of --at."""
    steps = times(options.at) if options.at is not None else []
    if any(step != int(step) for step in steps):
        raise InputError("--at takes numbers of steps for ih, such as --at 100,1000")
    return steps


# Reports


def as_text(done: list[Result], finished: list[Result], at: list[float]) -> list[str]:
    """What ``validate ih`` prints for people: of all runs, and a verdict on the finished ones.

    `at` are the steps to report, if there is no study; evenly spaced ones if it is empty.
    """
    job = done[0].job
    config = job.config
    hidden = _varied(done)
    settings = ", ".join(f"{k}={getattr(config, k)}" for k in PARAMETERS if k not in hidden)
    lines = [
        f"two-layer transformer on IH_n ({settings})",
        f"  {config.optimiser}, "
        + ", ".join(
            f"{k.replace('_', ' ')} {getattr(config, k):g}" for k in OPTIONS[1:] if k not in hidden
        ),
        "",
    ]
    if not job.varied:
        lines += [*_levels(done[0]), "", *_curves(done, at), ""]
    return [*lines, *_table(done), "", *_verdict(finished)]


def _levels(found: Result) -> list[str]:
    shown = ", ".join(f"{level:.3f}" for level in found.levels)
    return [
        "  error: E|out - IH_n|^2 / E|IH_n|^2, on held-out sequences; the best predictors that "
        "compare only",
        f"  {', '.join(map(str, range(len(found.levels))))} of the tokens leave {shown}",
    ]


def _curves(done: list[Result], at: list[float]) -> list[str]:
    """Error and probing distance during training: medians over the seeds, and their range."""
    rows = min(len(found.full) for found in done)
    steps = done[0].full.t[:rows]
    error = np.array([found.full["error"][:rows] for found in done])
    distance = np.array([found.full["probing_distance"][:rows] for found in done])
    tokens = np.array([found.full.z[:rows] for found in done])
    chosen = np.linspace(0, rows - 1, ROWS + 1).astype(int)
    if at:
        chosen = np.flatnonzero(np.isin(steps, [0.0, *at, steps[-1]]))
    named = " ".join(f"{f'x_s-{k}' if k else 'x_s':>9}" for k in range(tokens.shape[2]))
    many = len(done) > 1
    between = f"{'least':>9} {'largest':>9} " if many else ""
    lines = [f"  {'step':>7} {'error':>9} {between}{'probing':>9}   {named}"]
    for k in np.unique(chosen):
        between = f"{error[:, k].min():9.4f} {error[:, k].max():9.4f} " if many else ""
        parts = " ".join(f"{x:9.2e}" for x in np.median(tokens[:, k], axis=0))
        lines.append(
            f"  {steps[k]:7.0f} {np.median(error[:, k]):9.4f} {between}"
            f"{np.median(distance[:, k]):9.2e}   {parts}"
        )
    lines += [
        "  probing: of x_s and earlier tokens, the part that no linear map reads off row s of",
        "  layer 1's output; the mean of all but the last" + ("; medians of the seeds" * many),
    ]
    return lines


def _varied(done: list[Result]) -> set[str]:
    """The settings in which the runs differ."""
    names = {*PARAMETERS, *OPTIONS}
    return {k for k in names if len({getattr(found.job.config, k) for found in done}) > 1}


def _table(done: list[Result]) -> list[str]:
    shown = [k for k in dict.fromkeys([*done[0].job.varied, "H", "D"]) if k != "heads"]
    head = " ".join(f"{name:>{max(len(name), 4)}}" for name in shown)
    lines = [
        f"  {head} {'seed':>5} {'error':>9} {'compares':>9} {'probing':>9} {'oldest':>9} "
        f"{'seconds':>8}"
    ]
    for found in done:
        config = found.job.config
        cells = " ".join(f"{getattr(config, k):{max(len(k), 4)}g}" for k in shown)
        of = f"{found.compared} of {config.n - 1}"
        lines.append(
            f"  {cells} {found.job.seed:5d} {found.error:9.4f} {of:>9} "
            f"{found.full['probing_distance'][-1]:9.2e} {found.full.z[-1, -1]:9.2e} "
            f"{found.full.stats['wall_s']:8.1f}"
        )
    lines += [
        "  compares: the number m of tokens for which the error of the best predictor that",
        "  compares only m of them is nearest; learnt: all n - 1. oldest: the probing of x_s-n+1",
    ]
    return lines


def _verdict(done: list[Result]) -> list[str]:
    lines = []
    for point in dict.fromkeys(tuple(found.job.varied.items()) for found in done):
        here = [found for found in done if tuple(found.job.varied.items()) == point]
        config, errors = here[0].job.config, [found.error for found in here]
        learnt = sum(found.learnt for found in here)
        what = "".join(f", {k} = {v:g}" for k, v in point if k not in ("heads", "n", "H", "D"))
        lines.append(
            f"IH_{config.n}, H = {config.H}, D = {config.D}{what}: {learnt} of {len(here)} "
            f"{'seed learns' if len(here) == 1 else 'seeds learn'} it; error "
            f"{median(errors):.4f} ({min(errors):.4f} to {max(errors):.4f})"
        )
    if done and "n" in done[0].job.varied and "H" in done[0].job.varied:
        for n, heads in fewest(done).items():
            some, every = (f"with H >= {H}" if H else "with none of these H" for H in heads)
            lines.append(
                f"IH_{n} has {n - 1} {'shift' if n == 2 else 'shifts'} to make: some seeds learn "
                f"it {some}, all {every}"
            )
    return lines


def as_json(jobs: list[Job], done: list[Result], stopped) -> dict[str, Any]:
    """The object that ``validate ih --json`` prints."""
    job = done[0].job
    settings = dataclasses.asdict(job.config)
    hidden = _varied(done)
    result = {
        "system": "ih",
        "parameters": {k: settings[k] for k in PARAMETERS if k not in hidden},
        "training": {k: settings[k] for k in OPTIONS if k not in hidden},
        "complete": stopped is None,
        "message": str(stopped) if stopped is not None else "",
        "planned_runs": len(jobs),
        "runs": [_run_json(found) for found in done],
    }
    if job.varied:
        result["study"] = [
            dict(point) for point in dict.fromkeys(tuple(j.varied.items()) for j in jobs)
        ]
    return result | {"versions": versions()}


def _run_json(found: Result) -> dict[str, Any]:
    job, full = found.job, found.full
    return {
        **job.varied,
        "n": job.config.n,
        "H": job.config.H,
        "D": job.config.D,
        "seed": job.config.seed,
        "steps": int(full.t[-1]),
        "levels": list(found.levels),
        "error": found.error,
        "compared": found.compared,
        "learnt": found.learnt,
        "probing_distance": float(full["probing_distance"][-1]),
        "at": {
            "step": full.t.tolist(),
            "loss": full.loss.tolist(),
            "error": full["error"].tolist(),
            "probing_distance": full["probing_distance"].tolist(),
            **{name: full[name].tolist() for name in full.coordinates},
        },
        "wall_s": full.stats["wall_s"],
    }
