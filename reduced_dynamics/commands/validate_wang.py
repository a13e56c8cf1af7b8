"""``validate wang``: the two-layer, two-head network on sampled sequences, against the flow."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from reduced_dynamics import catalogue
from reduced_dynamics.commands.arguments import number, pairs, times
from reduced_dynamics.commands.validate import (
    Columns,
    conclude,
    coordinates_text,
    draw,
    finite,
    run_jobs,
    run_json,
    runs_text,
    seeds,
    study_json,
    study_text,
    whole,
)
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.families.wang.validation import (
    STUDIES,
    MixedComparison,
    MixedJob,
    MixedStudy,
    plan,
)
from reduced_dynamics.io.versions import versions

#: The study of the reduced system alone: emergence time against the parameters.
SCALING = "scaling"
#: How many seeds a study takes unless said otherwise: draws of sequences differ, steps hardly.
SEEDS = {"sequences": 5, "step": 2}
#: Options that mean nothing for six scalars that start at sigma_init.
STRANGERS = {
    "init_scale": "every scalar starts at --set sigma_init",
    "perturbation": "no subspace is left out: the coordinates are all of the weights",
}
#: What each study tabulates.
COLUMNS: dict[str, Columns] = {
    "sequences": (("error", "error"), ("largest", "largest"), ("half", "T_half")),
    "step": (("stepping", "stepping"), ("discretisation", "reduced"), ("error", "error")),
}
NOTES = {
    "sequences": """\
error: the flow of M sequences against the reduced flow, root mean square over time of the distance
  over all coordinates; largest: of any coordinate at any time; T_half: by which part that event is
  early or late. Power laws are fitted to root mean squares over the seeds.""",
    "step": """\
stepping: descent against the flow of the same sequences. reduced: reduced descent with the same
  steps against the reduced flow. error: descent against the reduced flow; it ends at the error of
  finitely many sequences. Root mean squares over time of the distance over all coordinates.""",
}


def execute(options) -> int:
    if options.study == SCALING:
        from reduced_dynamics.commands import scaling_wang

        return scaling_wang.report(options)
    jobs = _jobs(options)
    done, complete, stopped = run_jobs(jobs, options)
    if done:
        study = MixedStudy(options.study, tuple(complete)) if options.study and complete else None
        if options.plot:
            draw(done, study, options.plot, options.json)
        if options.json:
            print(json.dumps(as_json(jobs, done, study, stopped), indent=1, allow_nan=False))
        else:
            print("\n".join(as_text(done, study)))
    return conclude(stopped)


def _jobs(options) -> list[MixedJob]:
    for name, why in STRANGERS.items():
        if getattr(options, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} means nothing for wang: {why}")
    if options.study is not None and options.study not in STUDIES:
        raise unknown("study of wang", options.study, [*STUDIES, SCALING])
    if options.t_end is not None and options.steps is not None:
        raise InputError("--t-end and --steps both say when to stop; give one of the two")
    system, parameters = catalogue.system("wang"), pairs("set", options.set)
    found: dict[str, Any] = {"seeds": seeds(options.seeds, SEEDS.get(options.study, 1))}
    for name in parameters:
        known = [*(p.name for p in system.parameters), "sequences"]
        if name not in known:
            raise unknown("parameter of wang", name, known)
    if "sequences" in parameters:
        found["sequences"] = whole("set sequences", parameters.pop("sequences"))
    given = {k: v for k, v in vars(options).items() if v is not None}
    found |= {k: whole(k, given[k]) for k in ("batch", "steps") if k in given}
    if "learning_rate" in given:
        found["learning_rate"] = number("learning-rate", given["learning_rate"])
    found |= {k: given[k] for k in ("t_end", "optimiser", "study") if k in given}
    found |= {k: times(given[k], k) for k in ("at", "values") if k in given}
    jobs = plan(system, parameters, clamp=pairs("clamp", options.clamp), **found)
    if options.checkpoint and jobs[0].config.optimiser == "flow":
        raise InputError(
            "--checkpoint belongs to training in steps, not to a flow; drop it, or give "
            "--optimiser sgd"
        )
    return jobs


def as_text(done: list[tuple[MixedJob, MixedComparison]], study: MixedStudy | None) -> list[str]:
    """What ``validate wang`` prints for people."""
    job, first = done[0]
    config = job.config
    parameters = ", ".join(f"{k}={v}" for k, v in job.parameters.items())
    varied = study.option if study else ""
    data = f"batch {config.batch}, measured on" if config.batch else "full batch of"
    said = [f"{data} {config.sequences} sequences"] if varied != "sequences" else []
    if config.optimiser == "flow":
        said.append("gradient flow")
    else:
        rate = "" if varied == "learning_rate" else f", learning rate {config.learning_rate:g}"
        said.append(f"{config.optimiser}{rate}; t = step x learning rate")
    lines = [
        f"wang ({parameters}) against the two-layer, two-head network",
        f"  {', '.join(said)}, up to t = {first.t[-1]:g}",
    ]
    if job.clamp:
        lines.append(f"  held: {', '.join(f'{k}={v:g}' for k, v in job.clamp.items())}")
    lines.append("")
    if study is not None:
        return lines + study_text(study, COLUMNS[study.over], NOTES[study.over])
    found = [comparison for _, comparison in done]
    lines += [*coordinates_text(found), "", *_losses_text(found), ""]
    if first.events:
        lines += [*_events_text(found), ""]
    return [*lines, *runs_text(done)]


def _losses_text(found: list[MixedComparison]) -> list[str]:
    rows = min(len(c.table["t"]) for c in found)
    mean = {k: np.mean([c.table[k][:rows] for c in found], axis=0) for k in found[0].table}
    error = np.max([c.table["error"][:rows] for c in found], axis=0)
    pairs_of = ("loss", "L_G4", "L_IH")
    lines = [
        f"  {'t':>8} " + " ".join(f"{f'{n} full':>11} {'reduced':>11}" for n in pairs_of)
        + f" {'max error':>11}"
    ]  # fmt: skip
    for k in range(rows):
        cells = (f"{mean[f'full_{n}'][k]:11.4e} {mean[f'reduced_{n}'][k]:11.4e}" for n in pairs_of)
        lines.append(f"  {mean['t'][k]:8.4g} " + " ".join(cells) + f" {error[k]:11.2e}")
    if len(found) > 1:
        lines.append("  means over the runs, errors their largest")
    return lines


def _events_text(found: list[MixedComparison]) -> list[str]:
    alone = len(found) == 1
    lines = [f"  {'event':14} {'reduced':>10} {'full':>10} {'late by':>9}"
             + ("" if alone else f" {'deviation':>10}")]  # fmt: skip
    for name, (_, reduced) in found[0].events.items():
        full = [c.events[name][0] for c in found if c.events[name][0] is not None]
        cells = [f"{'-' if reduced is None else f'{reduced:.1f}':>10}"]
        cells.append(f"{f'{np.mean(full):.1f}' if full else '-':>10}")
        late = [x for c in found if np.isfinite(x := c.lateness(name))]
        cells.append(f"{f'{np.mean(late):.2%}' if late else '-':>9}")
        if not alone:
            cells.append(f"{f'{np.std(full, ddof=1):.1f}' if len(full) > 1 else '-':>10}")
        lines.append(f"  {name:14} {' '.join(cells)}")
    lines.append(
        "  the full model's saddle is that of its own sequences"
        + ("" if alone else "; means, and the standard deviation of one run")
    )
    return lines


def as_json(jobs, done, study, stopped) -> dict[str, Any]:
    """The object that ``validate wang --json`` prints; null stands for what is not finite."""
    job, _ = done[0]
    config = job.config
    training = {
        name: getattr(config, name)
        for name in ("optimiser", "sequences", "batch", "learning_rate")
        if not (config.optimiser == "flow" and name in ("batch", "learning_rate"))
    }
    runs = []
    for each, found in done:
        events = {
            name: {"full": full, "reduced": reduced}
            for name, (full, reduced) in found.events.items()
        }
        runs.append(run_json(each, found) | {"events": events})
    result = {
        "system": "wang",
        "parameters": dict(job.parameters),
        "training": training | {"clamp": dict(config.clamp)},
        "complete": stopped is None,
        "message": str(stopped) if stopped is not None else "",
        "planned_runs": len(jobs),
        "runs": runs,
    }
    if study is not None:
        del result["training"][study.option]
        result["study"] = study_json(study, COLUMNS[study.over])
    return finite(result | {"versions": versions()})
