"""``validate standard``: the order of emergence in a standard transformer, over seeds."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import Any

from reduced_dynamics.commands.arguments import number, pairs
from reduced_dynamics.commands.progress import Reporter
from reduced_dynamics.commands.validate import check_targets, finite, seeds, store, whole
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.families.musat.emergence import MEASURES, Emergence, orders
from reduced_dynamics.families.musat.full.standard_training import (
    ADAM,
    SGD,
    StandardConfig,
    train_standard,
)
from reduced_dynamics.io.versions import versions
from reduced_dynamics.training.loop import DivergedError, TrainingInterrupted

#: Parameters of --set; the rest of the configuration has options of its own.
PARAMETERS = ("N", "vocabulary", "positions", "width", "query", "scaled", "precision")
#: Options that speak of a reduced flow, which this model does not have.
STRANGERS = ("t_end", "at", "perturbation", "clamp", "study", "values")
#: Rows to record: measures that emerge a few steps apart are to be told apart.
INTERVALS = 2000
#: Parts of its largest value at which a measure counts as emerged, first the one reported in full.
LEVELS = (0.5, 0.1)


def execute(options) -> int:
    config = configuration(options)
    chosen = seeds(options.seeds)
    alone = len(chosen) == 1
    jobs = [dataclasses.replace(config, seed=seed) for seed in chosen]
    if not jobs:
        raise InputError("at least one seed is needed; give --seeds a number or a list")
    check_targets(options, [_named(job) for job in jobs], alone)
    reporter, done, stopped = Reporter(), [], None
    for count, job in enumerate(jobs, start=1):
        reporter.label = "" if alone else f"seed {job.seed} ({count} of {len(jobs)}): "
        own = (lambda path: path) if alone else _named(job)
        checkpoint = own(options.checkpoint) if options.checkpoint else None
        try:
            trajectory, _ = train_standard(job, reporter, checkpoint)
        except (TrainingInterrupted, DivergedError) as error:
            stopped, trajectory = error, error.trajectory
        reporter.close()
        if trajectory is not None:
            done.append((job, Emergence(trajectory)))
            if options.out:
                store(trajectory, own(options.out), options.json)
        if stopped is not None:
            break
    if done:
        if options.plot:
            from reduced_dynamics.families.musat.figures import emergence_figure
            from reduced_dynamics.plotting.style import save_figure

            save_figure(emergence_figure([found for _, found in done]), options.plot)
            print(f"drew {options.plot}", file=sys.stderr if options.json else sys.stdout)
        if options.json:
            report = as_json(config, done, stopped)
            print(json.dumps(finite(report), indent=1, allow_nan=False))
        else:
            print("\n".join(as_text(config, done)))
    if isinstance(stopped, TrainingInterrupted):
        print(f"simulate.py: {stopped}", file=sys.stderr)
        return stopped.exit_code
    if stopped is not None:
        raise stopped
    return 0


def configuration(options) -> StandardConfig:
    """The settings of SGD or Adam that are known to learn, with the user's changes.

    Raises
    ------
    InputError
        For options that belong to the reduced systems, unknown parameters and bad values.
    """
    for name in STRANGERS:
        if getattr(options, name):
            raise InputError(
                f"--{name.replace('_', '-')} belongs to systems with a reduced flow; the standard "
                "transformer takes --set, --steps, --batch, --learning-rate, --optimiser, "
                "--init-scale and --seeds"
            )
    changes: dict[str, Any] = {}
    for name, text in pairs("set", options.set).items():
        if name not in PARAMETERS:
            raise unknown("parameter of standard", name, PARAMETERS)
        kind = type(getattr(SGD, name))
        if kind is int:
            changes[name] = whole(name, text)
        elif kind is bool:
            if text.lower() not in ("true", "false"):
                raise InputError(f"{name} is true or false, not '{text}'")
            changes[name] = text.lower() == "true"
        else:
            changes[name] = text
    for name in ("batch", "steps"):
        if getattr(options, name) is not None:
            changes[name] = whole(name, getattr(options, name))
    for name in ("learning_rate", "init_scale"):
        if getattr(options, name) is not None:
            changes[name] = number(name.replace("_", "-"), getattr(options, name))
    if options.optimiser not in (None, "sgd", "adam"):
        changes["optimiser"] = options.optimiser
    config = dataclasses.replace(ADAM if options.optimiser == "adam" else SGD, **changes)
    return dataclasses.replace(config, record=min(config.steps, INTERVALS))


def _named(job: StandardConfig):
    def name(path) -> str:
        root, end = os.path.splitext(os.fspath(path))
        return f"{root}-seed{job.seed}{end}"

    return name


def as_text(config: StandardConfig, done: list[tuple[StandardConfig, Emergence]]) -> list[str]:
    """What ``validate standard`` prints for people."""
    parameters = ", ".join(f"{name}={getattr(config, name)}" for name in PARAMETERS)
    lines = [
        f"standard transformer ({parameters})",
        f"  {config.optimiser}, learning rate {config.learning_rate:g}, batch {config.batch}, "
        f"start {config.init_scale:g}, {config.steps} steps",
        "",
        "  step at which each progress measure first reaches half of its largest value",
        f"  {'seed':>4} {'gamma3':>8} {'beta2':>8} {'alpha3':>8}  {'order':22} {'accurate':>8} "
        f"{'accuracy':>8} {'loss':>9} {'seconds':>8}",
    ]
    for job, found in done:
        at = found.times(LEVELS[0])
        cells = " ".join(f"{_step(at[name]):>8}" for name in reversed(MEASURES))
        trajectory = found.trajectory
        lines.append(
            f"  {job.seed:4d} {cells}  {', '.join(found.order(LEVELS[0])):22} "
            f"{_step(found.learnt):>8} {found.accuracy:8.4f} "
            f"{trajectory['held_out_loss'][-1]:9.2e} {trajectory.stats['wall_s']:8.1f}"
        )
    every = config.steps / config.record
    lines += [
        "  accurate: step at which the accuracy on held-out sequences reaches 0.9; "
        f"all recorded every {every:.3g} steps",
        "",
    ]
    for level in LEVELS:
        counted = orders([found for _, found in done], level)
        said = "; ".join(f"{', '.join(o) or 'none'}: {n}" for o, n in counted.most_common())
        lines.append(f"  order at {level:g} of the largest value: {said} (of {len(done)})")
    return lines


def as_json(config, done, stopped) -> dict[str, Any]:
    """The object that ``validate standard --json`` prints."""
    settings = dataclasses.asdict(config)
    return {
        "system": "standard",
        "parameters": {name: settings[name] for name in PARAMETERS},
        "training": {
            name: settings[name]
            for name in ("optimiser", "batch", "learning_rate", "init_scale", "steps")
        },
        "complete": stopped is None,
        "message": str(stopped) if stopped is not None else "",
        "runs": [
            {
                "seed": job.seed,
                "emergence": {f"{level:g}": found.times(level) for level in LEVELS},
                "order": {f"{level:g}": list(found.order(level)) for level in LEVELS},
                "accurate": found.learnt,
                "accuracy": found.accuracy,
                "loss": float(found.trajectory["held_out_loss"][-1]),
                "largest": dict(
                    zip(MEASURES, found.trajectory.z.max(axis=0).tolist(), strict=True)
                ),
                "wall_s": found.trajectory.stats["wall_s"],
            }
            for job, found in done
        ],
        "versions": versions(),
    }


def _step(step: float | None) -> str:
    return "-" if step is None else f"{step:.0f}"
