"""``validate``: a full model's training, and the reduced flow laid over it."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from reduced_dynamics import catalogue
from reduced_dynamics.commands.arguments import REPEATABLE, given, times, whole
from reduced_dynamics.commands.outputs import draw, say
from reduced_dynamics.commands.progress import Reporter
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments.comparison import Comparison, Job, in_flow_time, largest
from reduced_dynamics.experiments.full import FullModel
from reduced_dynamics.integration.one import Interrupted
from reduced_dynamics.io import files, storage
from reduced_dynamics.io.jsonable import printed
from reduced_dynamics.io.versions import versions
from reduced_dynamics.plotting.style import check_target
from reduced_dynamics.training.loop import DivergedError, TrainingInterrupted

Done = Sequence[tuple[Job, Comparison]]

DESCRIPTION = """\
Train the full model and lay the reduced flow over its trajectory. --set takes the parameters of
the reduced system and the settings of the training alike; `list SYSTEM` shows both.

  simulate.py validate musat19 --set N=4 --set D=16 --plot overlay.pdf
  simulate.py validate musat19 --set N=8 --set batch=64 --seeds 5 --checkpoint full.npz
  simulate.py validate musat3                      the other 16 coordinates are held at 0
  simulate.py validate wang --set sequences=1024 --t-end 300
  simulate.py validate chen --seeds 5              finite data beside the population

Ctrl-C keeps what was done; with --checkpoint the same command takes it up again. Of several
runs every file has a name of its own, such as full-seed3.npz.
"""
#: The error that is asked for, as a measure and not as a gate.
YARDSTICK = 1e-2
#: Quantities smaller than this throughout are counted, not listed.
STILL = 1e-9
INTERRUPTED = 130
_PLAIN = ("t-end", "steps", "at", "seed", "seeds")
_FILES = ("checkpoint", "out", "plot", "json")


def add_parser(commands):
    command = commands.add_parser(
        "validate",
        help="a full model's training, and the reduced flow laid over it",
        description=DESCRIPTION,
    )
    add = command.add_argument
    add("system", metavar="SYSTEM", help=", ".join(catalogue.offered("full")))
    meaning = "a parameter of the system, or a setting of the training (repeatable)"
    add("--set", **REPEATABLE, metavar="K=V", help=meaning)
    add("--config", metavar="FILE.toml", help="the same options from a file; these here win")
    horizon = "horizon in reduced training time, arithmetic over the parameters"
    add("--t-end", metavar="EXPR", help=horizon)
    add("--steps", metavar="COUNT", help="training steps, instead of --t-end")
    add("--at", metavar="T1,T2,...", help="report at these times")
    add("--clamp", **REPEATABLE, metavar="NAME=X", help="held in both (repeatable)")
    add("--seed", metavar="N", help="this seed")
    add("--seeds", metavar="COUNT|S1,S2,...", help="how many seeds, from 0 on; or which")
    add("--checkpoint", metavar="FILE.npz", help="keep training here, and resume it from here")
    add("--out", metavar="FILE", help="save the full trajectory: .nc, .npz, .csv or .json")
    add("--plot", metavar="FILE", help="draw it: .png, .pdf or .svg")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    return command


def execute(options) -> int:
    system = catalogue.system(options.system)
    model = catalogue.full_model(system)
    own, chosen, wanted = _gather(options, model)
    parameters, training = model.split(system, own)
    jobs = model.plan(system, parameters, **chosen, **training)
    done, stopped = _run(jobs, wanted)
    if done:
        if wanted["plot"]:
            from reduced_dynamics.plotting.trajectories import overlay_figure

            found = done[0][1]
            figure = overlay_figure(found.reduced, found.full, model.xscale, found.names)
            draw(figure, wanted["plot"], wanted["json"])
        if wanted["json"]:
            print(printed(_record(model, jobs, done, stopped)))
        else:
            print("\n".join(_text(model, done)))
    if stopped is None:
        return 0
    if stopped.exit_code != INTERRUPTED:
        raise stopped
    print(f"simulate.py: {stopped}", file=sys.stderr)
    return INTERRUPTED


def _gather(options, model) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What --set gives, the options of the plan, and the files; from command line and file."""
    own, tables = given(options, _PLAIN, ("set", "clamp"), _FILES)
    for one, other, what in (("t-end", "steps", "when to stop"), ("seed", "seeds", "which seeds")):
        if own[one] is not None and own[other] is not None:
            raise InputError(f"--{one} and --{other} both say {what}; give one of the two")
    chosen = {
        "t_end": own["t-end"],
        "steps": None if own["steps"] is None else whole("steps", own["steps"]),
        "at": None if own["at"] is None else times(own["at"]),
        "seeds": own["seeds"] if own["seed"] is None else [whole("seed", own["seed"])],
    }
    chosen = {"seeds": model.seeds} | {k: v for k, v in chosen.items() if v is not None}
    return tables["set"], chosen | {"clamp": tables["clamp"]}, {k: own[k] for k in _FILES}


class Stopped(KeyboardInterrupt):
    """Ctrl-C after the training, while the reduced flow was integrated."""

    exit_code = INTERRUPTED


def _run(jobs: Sequence[Job], wanted) -> tuple[Done, Exception | Stopped | None]:
    """Make the comparisons one by one, keeping of each what is wanted.

    Returns
    -------
    tuple
        The (job, comparison) pairs, one that was cut short among them; and what stopped the rest,
        or None.
    """
    alone = len(jobs) == 1
    # Files that could not be written are refused before anything is computed.
    if wanted["plot"]:
        check_target(wanted["plot"])
    for job in jobs:
        if wanted["out"]:
            storage.check_target(_own(job, alone, wanted["out"]))
        if wanted["checkpoint"]:
            files.check_target(_own(job, alone, wanted["checkpoint"]), [".npz"])
    done, stopped = [], None
    for count, job in enumerate(jobs, start=1):
        label = "" if alone else f"{job.label} ({count} of {len(jobs)}): "
        checkpoint = wanted["checkpoint"] and _own(job, alone, wanted["checkpoint"])
        with Reporter() as reporter:
            try:
                job.prepare()
                full = job.trained(lambda what, share, r=reporter, p=label: r(p + what, share),
                                   checkpoint)  # fmt: skip
            except (TrainingInterrupted, DivergedError) as error:
                stopped, full = error, error.trajectory
        if wanted["out"] and full is not None:
            path = _own(job, alone, wanted["out"])
            storage.save(in_flow_time(full, job.config), path)
            say(f"saved {path}", wanted["json"])
        if full is not None and full.t_end > 0:
            try:
                done.append((job, job.compare(full)))
            except (Interrupted, KeyboardInterrupt):
                stopped = stopped or Stopped("interrupted; this training had ended")
        if stopped is not None:
            break
    return done, stopped


def _own(job: Job, alone: bool, path: str) -> str:
    return path if alone else job.file(path)


# Reports


def _text(model: FullModel, done: Done) -> list[str]:
    """What ``validate`` prints for people."""
    job, first = done[0]
    parameters = ", ".join(f"{k}={v}" for k, v in job.parameters.items() if v is not None)
    training = ", ".join(f"{k} {v}" for k, v in _training(model, job).items() if v is not None)
    lines = [
        f"{job.system.name} ({parameters}) against {model.title}",
        f"  {training}; {job.config.steps} steps, up to t = {first.t[-1]:g}",
        *(f"  {line}" for line in model.remarks(done)),
    ]
    if job.clamp:
        lines.append(f"  held: {', '.join(f'{k}={v:g}' for k, v in job.clamp.items())}")
    found = [comparison for _, comparison in done]
    events = _events_text(found) if first.events else []
    for part in (_names_text(found), _times_text(found), events, _runs_text(done), _verdict(done)):
        lines += ["", *part] if part else []
    return lines


def _training(model: FullModel, job: Job) -> dict[str, Any]:
    return {s.name: getattr(job.config, s.name) for s in model.settings if s.name != "seed"}


def _names_text(found: Sequence[Comparison]) -> list[str]:
    """States of both models, and the largest and final error of every quantity compared."""
    first, rows = found[0], min(len(c.t) for c in found)
    worst = np.abs([c.error[:rows] for c in found]).max(axis=0)
    lines = [f"  {'coordinate':10} {'reduced':>12} {'full':>12} {'max error':>11} {'at t':>9} "
             f"{'final error':>12}"]  # fmt: skip
    still = []
    for k, name in enumerate(first.names):
        if max(np.abs(c.full[name]).max() for c in found) < STILL:
            still.append(name)
            continue
        final = max((c.error[-1, k] for c in found), key=abs)
        lines.append(
            f"  {name:10} {first.beside[name][-1]:12.6f} {first.full[name][-1]:12.6f} "
            f"{worst[:, k].max():11.2e} {first.t[worst[:, k].argmax()]:9.4g} {final:12.2e}"
        )
    if still:
        lines.append(f"  and {len(still)} that stay at 0 in both: {', '.join(still)}")
    if len(found) > 1:
        lines.append(f"  states of the first run; errors are the largest of {len(found)} runs")
    return lines


def _times_text(found: Sequence[Comparison]) -> list[str]:
    """The tables' means over the runs; errors are the largest."""
    rows = min(len(c.table["t"]) for c in found)
    table = {k: np.array([c.table[k][:rows] for c in found]) for k in found[0].table}
    heads = {k: k.replace("_", " ") if k.endswith("loss") else k for k in table}
    heads["error"] = "max error"
    columns = {k: v.max(axis=0) if k == "error" else v.mean(axis=0) for k, v in table.items()}
    widths = {k: max(len(head), 11) for k, head in heads.items()}
    lines = ["  " + " ".join(f"{heads[k]:>{widths[k]}}" for k in columns)]
    for row in range(rows):
        cells = ((v[row], widths[k], ".2e" if k == "error" else ".6g") for k, v in columns.items())
        lines.append("  " + " ".join(f"{x:{width}{form}}" for x, width, form in cells))
    if len(found) > 1:
        lines.append("  means over the runs, errors their largest")
    return lines


def _events_text(found: Sequence[Comparison]) -> list[str]:
    lines = [f"  {'event':14} {'reduced':>10} {'full':>10} {'late by':>9} {'deviation':>10}"]
    for name, (_, reduced) in found[0].events.items():
        full = [c.events[name][0] for c in found if c.events[name][0] is not None]
        late = [x for c in found if np.isfinite(x := c.lateness(name))]
        cells = [
            "-" if reduced is None else f"{reduced:.1f}",
            f"{np.mean(full):.1f}" if full else "-",
            f"{np.mean(late):.2%}" if late else "-",
            f"{np.std(full, ddof=1):.1f}" if len(full) > 1 else "-",
        ]
        shown = " ".join(f"{c:>{w}}" for c, w in zip(cells, (10, 10, 9, 10), strict=True))
        lines.append(f"  {name:14} {shown}")
    return [*lines, *(["  means; deviation: standard, of one run"] if len(found) > 1 else [])]


def _runs_text(done: Done) -> list[str]:
    """Largest error and seconds of every run."""
    lines = [f"  {'seed':>4} {'max error':>11} {'where':>16} {'final error':>12} {'stepping':>10} "
             f"{'sampling':>10} {'full':>8} {'reduced':>8}"]  # fmt: skip
    for job, found in done:
        worst, name, t = found.worst
        parts = [largest(found.discretisation), largest(found.sampling)]
        shown = " ".join(f"{'-' if x is None else f'{x:.2e}':>10}" for x in parts)
        lines.append(
            f"  {job.config.seed:4d} {worst:11.2e} {f'{name} t={t:.4g}':>16} "
            f"{largest(found.error[-1]):12.2e} {shown} "
            f"{found.wall_s['full']:6.1f} s {found.wall_s['reduced']:6.2f} s"
        )
    lines.append(
        "  stepping: largest error of the reduced equations descended with the same steps; "
        "sampling: the rest"
    )
    return lines


def _verdict(done: Done) -> list[str]:
    sizes = [found.worst[0] for _, found in done]
    within = sum(x <= YARDSTICK for x in sizes)
    job, worst = done[int(np.argmax(sizes))]
    size, name, t = worst.worst
    runs = "the run" if len(done) == 1 else f"{within} of {len(done)} runs"
    verb = "stays" if within == len(done) == 1 else "stay" if len(done) > 1 else "does not stay"
    return [
        f"largest error {size:.2e} ({name} at t = {t:.4g}"
        + (f", seed {job.config.seed}" if len(done) > 1 else "")
        + f"), {size / YARDSTICK:.2f} of {YARDSTICK:g}; {runs} {verb} within {YARDSTICK:g} "
        "in every coordinate at every recorded time"
    ]


def _record(model: FullModel, jobs: Sequence[Job], done: Done, stopped) -> dict[str, Any]:
    """The object that ``validate --json`` prints; null stands for what is not finite."""
    job, _ = done[0]
    held = dict(getattr(job.config, "clamp", {}))
    return {
        "system": job.system.name,
        "parameters": dict(job.parameters),
        "training": _training(model, job) | {"steps": job.config.steps, "clamp": held},
        "complete": stopped is None,
        "message": str(stopped) if stopped is not None else "",
        "planned_runs": len(jobs),
        "runs": [_run_record(*one) for one in done],
        "versions": versions(),
    }


def _run_record(job: Job, found: Comparison) -> dict[str, Any]:
    """One run's errors, states, events and table."""
    worst, name, t = found.worst
    return {
        "seed": job.config.seed,
        "t_end": float(found.t[-1]),
        "steps": found.full.stats["steps"],
        "largest_error": {"value": worst, "coordinate": name, "t": t},
        "max_error": found.max_error,
        "final_error": found.final_error,
        "final": {
            "full": {k: float(found.full[k][-1]) for k in found.names},
            "reduced": {k: float(found.beside[k][-1]) for k in found.names},
        },
        "events": {k: {"full": a, "reduced": b} for k, (a, b) in found.events.items()},
        "max_stepping_error": largest(found.discretisation),
        "max_sampling_error": largest(found.sampling),
        "at": found.table,
        "wall_s": found.wall_s,
    }
