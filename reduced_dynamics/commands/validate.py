"""``validate``: reduced trajectory against the full numpy transformer."""

from __future__ import annotations

import json
import math
import sys
from importlib import import_module
from typing import Any

import numpy as np

from reduced_dynamics import catalogue
from reduced_dynamics.commands.arguments import number, pairs, times
from reduced_dynamics.commands.progress import Reporter
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.musat import validation as validate
from reduced_dynamics.families.musat.validation import STUDIES, Comparison, Job, Study
from reduced_dynamics.io import files
from reduced_dynamics.io.versions import versions
from reduced_dynamics.training.loop import DivergedError, TrainingInterrupted

DESCRIPTION = """\
Train the full transformer in numpy and lay the reduced flow over its trajectory; the times match
by t = step x learning rate / D.

  simulate.py validate musat19 --set N=4 --set D=16 --plot overlay.pdf
  simulate.py validate musat19 --set N=8 --seeds 5 --checkpoint full.npz
  simulate.py validate musat3                      the other 16 coordinates are held at 0
  simulate.py validate musat19 --study batch --plot batch.pdf
  simulate.py validate standard --seeds 5          order of emergence in a standard transformer
  simulate.py validate wang --study sequences      error against the number of sequences
  simulate.py validate chen --seeds 5              the authors' recorded run beside ours
  simulate.py validate ih --study heads --seeds 5  which heads and widths learn the 4-gram head

Ctrl-C keeps what was done; with --checkpoint the same command takes it up again. Of several
runs every file has a name of its own, such as full-seed3.npz.
"""

#: What is validated by a module of its own.
FAMILIES = {
    name: f"reduced_dynamics.commands.validate_{name}"
    for name in ("standard", "wang", "chen", "ih")
}
#: The error that issue and paper ask for, as a measure and not as a gate.
YARDSTICK = 1e-2
#: Coordinates smaller than this throughout are counted, not listed.
STILL = 1e-9


def add_parser(commands):
    command = commands.add_parser(
        "validate",
        help="reduced trajectory against the full numpy transformer",
        description=DESCRIPTION,
    )
    add = command.add_argument
    add("system", metavar="SYSTEM", help="musat19, musat3, wang, chen; or standard, ih")
    add("--set", action="append", default=[], metavar="K=V", help="a parameter (repeatable)")
    add(
        "--t-end",
        metavar="EXPR",
        help=f"horizon in reduced training time, arithmetic over the parameters "
        f"({validate.HORIZON})",
    )
    add("--steps", metavar="COUNT", help="training steps, instead of --t-end")
    add("--at", metavar="T1,T2,...", help="report at these times")
    add("--batch", metavar="COUNT", help="fresh sequences a step (256; standard 64)")
    add("--learning-rate", metavar="X", help="of the full model (1; standard 0.2, adam 1e-3)")
    add("--optimiser", metavar="sgd|momentum|adam", help="(sgd; adam for standard only)")
    add("--init-scale", metavar="X", help="standard deviation of a random start (0; standard 0.15)")
    add("--perturbation", metavar="X", help="the same, its part off the subspace only (0)")
    add("--clamp", action="append", default=[], metavar="NAME=X", help="held in both (repeatable)")
    add("--seeds", metavar="COUNT|S1,S2,...", help="how many seeds, from 0 on; or which")
    add(
        "--study",
        metavar="|".join(STUDIES),
        help="repeat over batch sizes, ...; wang: sequences, step, scaling; chen: criterion, "
        "stages, step, transfer; ih: heads, needed",
    )
    add("--values", metavar="V1,V2,...", help="the values that the study goes over")
    add("--checkpoint", metavar="FILE.npz", help="keep training here, and resume it from here")
    add("--out", metavar="FILE", help="save the full trajectory: .nc, .npz, .csv or .json")
    add("--plot", metavar="FILE", help="draw it: .png, .pdf or .svg")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    return command


def execute(options) -> int:
    if options.system in FAMILIES:
        return import_module(FAMILIES[options.system]).execute(options)
    system = catalogue.system(options.system)
    jobs = validate.plan(system, pairs("set", options.set), **_plan_options(options))
    done, whole, stopped = run_jobs(jobs, options)
    if done:
        study = Study(options.study, tuple(whole)) if options.study and whole else None
        if options.plot:
            draw(done, study, options.plot, options.json)
        if options.json:
            print(json.dumps(as_json(jobs, done, study, stopped), indent=1, allow_nan=False))
        else:
            print("\n".join(as_text(done, study)))
    return conclude(stopped)


def run_jobs(jobs, options):
    """Make the comparisons one by one, keeping what `options` ask to keep of each.

    Returns
    -------
    tuple
        The (job, comparison) pairs, one that was cut short among them; those of whole runs; and
        what stopped the rest, a `TrainingInterrupted` or `DivergedError`, or None.
    """
    alone = len(jobs) == 1
    check_targets(options, [job.file for job in jobs], alone)
    reporter, done, stopped = Reporter(), [], None
    for count, job in enumerate(jobs, start=1):
        reporter.label = "" if alone else f"{job.label} ({count} of {len(jobs)}): "
        own = (lambda path: path) if alone else job.file
        checkpoint = own(options.checkpoint) if options.checkpoint else None
        try:
            comparison = job.run(reporter, checkpoint)
            full = comparison.full
        except (TrainingInterrupted, DivergedError) as error:
            stopped, full = error, error.trajectory
            begun = full is not None and full.t_end > 0
            comparison = job.compare(full) if begun else None
        reporter.close()
        if comparison is not None:
            done.append((job, comparison))
        if options.out and full is not None:
            store(full if comparison is None else comparison.full, own(options.out), options.json)
        if stopped is not None:
            break
    cut_short = stopped is not None and comparison is not None
    return done, done[:-1] if cut_short else done, stopped


def conclude(stopped) -> int:
    """The exit code, of an interruption as well; any other error is raised."""
    if isinstance(stopped, TrainingInterrupted):
        print(f"simulate.py: {stopped}", file=sys.stderr)
        return stopped.exit_code
    if stopped is not None:
        raise stopped
    return 0


def check_targets(options, names, alone: bool) -> None:
    """Refuse files that could not be written, before anything is computed."""
    from reduced_dynamics.io import storage
    from reduced_dynamics.plotting import style as figure_style

    if options.plot:
        figure_style.check_target(options.plot)
    for name in [lambda path: path] if alone else names:
        if options.out:
            storage.check_target(name(options.out))
        if options.checkpoint:
            files.check_target(name(options.checkpoint), [".npz"])


def whole(name: str, value: Any) -> int:
    """A whole number from text, for option `name`."""
    found = number(name, value)
    if found != int(found):
        raise InputError(f"--{name} takes a whole number, not {value}")
    return int(found)


def seeds(text: str | None, default: int = 1) -> list[int]:
    """``"5"`` is the seeds 0 to 4; ``"3,7"`` those two, and ``"3,"`` that one."""
    if text is None:
        return list(range(default))
    if "," in text:
        return [whole("seeds", part) for part in text.split(",") if part.strip()]
    return list(range(whole("seeds", text)))


def _plan_options(options) -> dict[str, Any]:
    found: dict[str, Any] = {"seeds": seeds(options.seeds, 3 if options.study else 1)}
    if options.t_end is not None and options.steps is not None:
        raise InputError("--t-end and --steps both say when to stop; give one of the two")
    given = {k: v for k, v in vars(options).items() if v is not None}
    found |= {k: whole(k, given[k]) for k in ("batch", "steps") if k in given}
    for name in ("learning_rate", "init_scale", "perturbation"):
        if name in given:
            found[name] = number(name.replace("_", "-"), given[name])
    found |= {k: given[k] for k in ("t_end", "optimiser", "study") if k in given}
    for name in ("at", "values"):
        if name in given:
            found[name] = times(given[name], name)
    if options.clamp:
        found["clamp"] = pairs("clamp", options.clamp)
    return found


def store(trajectory, path, quiet: bool) -> None:
    """Save a trajectory and say so."""
    from reduced_dynamics.io.storage import save

    save(trajectory, path)
    print(f"saved {path}", file=sys.stderr if quiet else sys.stdout)


def draw(done, study, path, quiet: bool) -> None:
    from reduced_dynamics.plotting.style import save_figure
    from reduced_dynamics.plotting.trajectories import overlay_figure

    if study is not None and len(study.values) > 1:
        from reduced_dynamics.families.musat.figures import study_figure

        figure = study_figure(study)
    else:
        _, comparison = done[0]
        figure = overlay_figure(comparison.reduced, comparison.full)
    save_figure(figure, path)
    print(f"drew {path}", file=sys.stderr if quiet else sys.stdout)


# Reports


def as_text(done: list[tuple[Job, Comparison]], study: Study | None) -> list[str]:
    """What ``validate`` prints for people."""
    job, first = done[0]
    config = job.config
    parameters = ", ".join(f"{k}={v}" for k, v in job.parameters.items() if v is not None)
    held = len(config.clamp)
    fixed = {"batch": config.batch, "learning rate": config.learning_rate}
    fixed |= {"init scale": config.init_scale, "perturbation": config.perturbation}
    varied = study.option.replace("_", " ") if study else ""
    shown = ", ".join(
        f"{k} {v:g}" for k, v in fixed.items() if k != varied and (v or k == "learning rate")
    )
    lines = [
        f"{job.system.name} ({parameters}) against all {28 * config.D**2} weights of the "
        "disentangled transformer",
        f"  {config.optimiser}, {shown}; t = step x learning rate / {first.full.time_scale:g}, "
        f"up to t = {first.t[-1]:g}",
    ]
    if held:
        lines.append(f"  {held} coordinates of the full model are held")
    lines.append("")
    if study is not None:
        return lines + study_text(study, COLUMNS[study.over], NOTES[study.over])
    comparisons = [comparison for _, comparison in done]
    lines += [*coordinates_text(comparisons), "", *_times_text(comparisons), ""]
    return [*lines, *runs_text(done), "", *_verdict(done)]


def coordinates_text(found: list[Comparison]) -> list[str]:
    """States of both models, and the largest and final error of every coordinate."""
    worst = np.abs([c.error for c in found]).max(axis=0) if _alike(found) else None
    lines = [f"  {'coordinate':10} {'reduced':>12} {'full':>12} {'max error':>11} {'at t':>9} "
             f"{'final error':>12}"]  # fmt: skip
    still = []
    first = found[0]
    for k, name in enumerate(first.names):
        if max(np.abs(c.full[name]).max() for c in found) < STILL:
            still.append(name)
            continue
        largest = worst[:, k] if worst is not None else np.abs(first.error[:, k])
        final = max((c.error[-1, k] for c in found), key=abs)
        lines.append(
            f"  {name:10} {first.reduced[name][-1]:12.6f} {first.full[name][-1]:12.6f} "
            f"{largest.max():11.2e} {first.t[largest.argmax()]:9.4g} {final:12.2e}"
        )
    if still:
        lines.append(f"  and {len(still)} that stay at 0 in both: {', '.join(still)}")
    if len(found) > 1:
        lines.append(f"  states of the first run; errors are the largest of {len(found)} runs")
    return lines


def _times_text(found: list[Comparison]) -> list[str]:
    rows = min(len(c.table["t"]) for c in found)
    column = {
        name: np.array([c.table[name][:rows] for c in found]) for name in found[0].table
    }  # shape (runs, times)
    lines = [f"  {'t':>8} {'loss full':>12} {'loss reduced':>13} {'max error':>11} "
             f"{'outside':>10} {'outside/inside':>15}"]  # fmt: skip
    for k in range(rows):
        lines.append(
            f"  {column['t'][0, k]:8.4g} {column['full_loss'][:, k].mean():12.6f} "
            f"{column['reduced_loss'][:, k].mean():13.6f} {column['error'][:, k].max():11.2e} "
            f"{column['outside_norm'][:, k].mean():10.4f} "
            f"{column['outside_over_inside'][:, k].mean():15.4f}"
        )
    lines.append(
        "  loss full: of one minibatch; norms: Frobenius"
        + ("; means over the runs, errors their largest" if len(found) > 1 else "")
    )
    return lines


def runs_text(done) -> list[str]:
    """Largest error and seconds of every run."""
    lines = [f"  {'seed':>4} {'max error':>11} {'where':>16} {'final error':>12} {'stepping':>10} "
             f"{'sampling':>10} {'full':>8} {'reduced':>8}"]  # fmt: skip
    for job, found in done:
        largest, name, t = found.worst
        parts = [_largest(found.discretisation), _largest(found.sampling)]
        shown = " ".join(f"{'-' if x is None else f'{x:.2e}':>10}" for x in parts)
        lines.append(
            f"  {job.config.seed:4d} {largest:11.2e} {f'{name} t={t:.4g}':>16} "
            f"{np.abs(found.error[-1]).max():12.2e} {shown} "
            f"{found.wall_s['full']:6.1f} s {found.wall_s['reduced']:6.2f} s"
        )
    lines.append(
        "  stepping: largest error of the reduced equations descended with the same steps; "
        "sampling: the rest"
    )
    return lines


def _verdict(done) -> list[str]:
    largest = [found.worst[0] for _, found in done]
    within = sum(x <= YARDSTICK for x in largest)
    job, worst = done[int(np.argmax(largest))]
    size, name, t = worst.worst
    runs = "the run" if len(done) == 1 else f"{within} of {len(done)} runs"
    verb = "stays" if within == len(done) == 1 else "stay" if len(done) > 1 else "does not stay"
    return [
        f"largest error {size:.2e} ({name} at t = {t:.4g}"
        + (f", seed {job.config.seed}" if len(done) > 1 else "")
        + f"), {size / YARDSTICK:.2f} of {YARDSTICK:g}; {runs} {verb} within {YARDSTICK:g} "
        "in every coordinate at every recorded time"
    ]


Columns = tuple[tuple[str, str], ...]
#: What each study tabulates: quantity of `Study.points`, and heading.
COLUMNS: dict[str, Columns] = {
    "batch": (
        ("error", "error"),
        ("sampling", "sampling"),
        ("scatter", "scatter"),
        ("outside", "outside"),
    ),
    "step": (("error", "error"), ("discretisation", "stepping"), ("sampling", "sampling")),
    "perturbation": (
        ("outside_start", "out(0)"),
        ("outside_largest", "out(max)"),
        ("outside_end", "out(end)"),
        ("shift", "shift"),
        ("error", "error"),
    ),
}
NOTES = {
    "batch": """\
error: full model against the flow; it ends at the error of finite steps. sampling: full model
  against reduced descent with the same steps. scatter: of the seeds about their mean. All are root
  mean squares over time of a distance over all coordinates; outside: of the norm outside the
  subspace. On the subspace, with orthonormal inputs and a fixed query, every sequence has the same
  gradient inside it: noise then enters the coordinates at second order only, through the norm
  outside, as 1/batch. With query=uniform the scatter falls as batch^(-1/2).""",
    "step": """\
error: full model against the flow. stepping: reduced descent with the same steps against the flow.
  sampling: full model against that descent. Root mean squares over time""",
    "perturbation": """\
out: norm outside the subspace, at the start, its largest, at the end. shift: distance of the
  coordinates from the run on the same minibatches without a perturbation; error: from the flow.
  Root mean squares over time""",
}


def study_text(study: Study, columns: Columns, note: str) -> list[str]:
    """A study's table and the power laws of its columns."""
    points = study.points
    width = max(13, len(study.option) + 2)
    head = study.option.replace("_", " ")
    lines = [f"  {head:>{width}} {'seeds':>6} " + " ".join(f"{h:>11}" for _, h in columns)]
    for value in study.values:
        here = points["value"] == value
        cells = (points[name][here].mean() for name, _ in columns)
        shown = " ".join(f"{'-' if math.isnan(x) else f'{x:.3e}':>11}" for x in cells)
        lines.append(f"  {value:{width}g} {here.sum():6d} {shown}")
    lines += [f"  {note}", ""]
    for name, heading in columns:
        slope = study.slope(name)
        if slope is not None:
            known = not math.isnan(slope.standard_error)
            error = f" ± {slope.standard_error:.3f}" if known else ", two values: no error known"
            lines.append(f"  {heading:10} ~ {head}^({slope.exponent:.3f}{error})")
    return lines


def as_json(jobs, done, study, stopped) -> dict[str, Any]:
    """The object that ``validate --json`` prints; null stands for what is not finite."""
    job, _ = done[0]
    config = job.config
    result = {
        "system": job.system.name,
        "parameters": dict(job.parameters),
        "training": {
            "optimiser": config.optimiser,
            "batch": config.batch,
            "learning_rate": config.learning_rate,
            "init_scale": config.init_scale,
            "perturbation": config.perturbation,
            "clamp": dict(config.clamp),
        },
        "complete": stopped is None,
        "message": str(stopped) if stopped is not None else "",
        "planned_runs": len(jobs),
        "runs": [run_json(*one) for one in done],
    }
    if study is not None:
        del result["training"][study.option]
        result["study"] = study_json(study, COLUMNS[study.over])
    return finite(result | {"versions": versions()})


def study_json(study: Study, columns: Columns) -> dict[str, Any]:
    """A study's points and power laws."""
    slopes = {name: study.slope(name) for name, _ in columns}
    return {
        "over": study.option,
        "points": {name: values.tolist() for name, values in study.points.items()},
        "slopes": {
            name: slope
            and {
                "exponent": slope.exponent,
                # JSON knows no nan: two values leave no error.
                "standard_error": finite(slope.standard_error),
            }
            for name, slope in slopes.items()
        },
    }


def run_json(job: Job, found: Comparison) -> dict[str, Any]:
    """One run's errors, states and table."""
    largest, name, t = found.worst
    result = {"seed": job.config.seed}
    if job.over:
        result[job.option] = job.value
    return result | {
        "t_end": float(found.t[-1]),
        "steps": found.full.stats["steps"],
        "largest_error": {"value": largest, "coordinate": name, "t": t},
        "max_error": found.max_error,
        "final_error": found.final_error,
        "final": {
            "full": {k: float(found.full[k][-1]) for k in found.names},
            "reduced": found.reduced.final,
        },
        "max_stepping_error": _largest(found.discretisation),
        "max_sampling_error": _largest(found.sampling),
        "at": found.table,
        "wall_s": found.wall_s,
    }


def _largest(error: np.ndarray | None) -> float | None:
    return None if error is None else float(np.abs(error).max())


def _alike(found: list[Comparison]) -> bool:
    return len({len(c.t) for c in found}) == 1


def finite(value: Any) -> Any:
    """The same with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
