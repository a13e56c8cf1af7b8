"""``sweep``: many trajectories over a grid or a sample, kept in a Zarr store, resumable."""

import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reduced_dynamics import catalogue
from reduced_dynamics.commands import sweep_results
from reduced_dynamics.commands.arguments import (
    REPEATABLE,
    integration_options,
    number,
    pairs,
    read_config,
    whole,
)
from reduced_dynamics.commands.progress import Reporter
from reduced_dynamics.core.errors import InputError, IntegrationError
from reduced_dynamics.integration.problem import ATOL, DYNAMICS, METHODS, RTOL, THRESHOLD
from reduced_dynamics.io.jsonable import printed

DESCRIPTION = """\
Integrate one trajectory for every point of a grid or a sample, and keep what happened.

  simulate.py sweep musat3 --grid N=8:4096:log:40 --t-end '20*N**2' --out n.zarr
  simulate.py sweep musat3 --grid N=8:4096:log:12 --t-end '20*N**2' --fit t_icl~N
  simulate.py sweep wang --grid w_star=.1:.9:lin:20 --grid alpha_star=.1:10:log:20 --map T_half
  simulate.py sweep musat3 --grid N=8,16,32 --grid query=last,uniform --t-end '20*N**2'
  simulate.py sweep wang --grid L=20:80:lin:4 --grid w_star=0.2:0.8:lin:4 --out map.zarr
  simulate.py sweep musat3 --set N=64 --grid start.gamma3=1e-3:1:log:20 --t-end '20*N**2'
  simulate.py sweep musat3 --random N=8:512:log --points 1000000 --t-end '20*N**2' --out r.zarr
  simulate.py sweep musat3 --full --set N=4 --grid seed=0,1,2 --grid learning_rate=0.5,1

Results are stored as they come. Ctrl-C, kill -9 and power cuts lose nothing that is stored: the
same command with --resume computes the rest, and the result is that of an uninterrupted run.
Read it with xarray.open_zarr(NAME), or reduced_dynamics.open_sweep(NAME) for the grid's dimensions.
"""

#: What a config file may hold: plain options, tables, files and flags.
_PLAIN = ("points", "seed", "sampling", "t-end", "at", "keep", "method", "rtol", "atol",
          "threshold", "dynamics", "step", "max-step", "full", "resume", "block", "threads",
          "workers", "scheduler")  # fmt: skip
_TABLES = ("grid", "random", "set", "start", "clamp")
_FILES, _FLAGS = ("system", "out", "json"), ("json", "full", "resume")
#: Reasons of failures that are listed.
MOST_REASONS = 5


def add_parser(commands):
    command = commands.add_parser(
        "sweep", help="many trajectories over a grid of parameters", description=DESCRIPTION
    )
    add = command.add_argument
    add("system", nargs="?", metavar="SYSTEM", help="musat3, musat19, ...")
    add(
        "--grid",
        **REPEATABLE,
        metavar="K=SPEC",
        help="values of a parameter: LOW:HIGH:log|lin:COUNT or A,B,...; start.NAME is where a "
        "coordinate starts (repeatable: all combinations)",
    )
    sample = "sample a parameter, or a start, in this range (repeatable)"
    add("--random", **REPEATABLE, metavar="K=LOW:HIGH:log|lin", help=sample)
    add("--points", metavar="COUNT", help="how many samples")
    add("--seed", metavar="S", help="seed of the samples (0)")
    add("--sampling", metavar="random|sobol|halton|lhs", help="how to sample (random)")
    add("--set", **REPEATABLE, metavar="K=V", help="a parameter, fixed (repeatable)")
    add("--config", metavar="FILE.toml", help="the same options from a file; these here win")
    add("--start", **REPEATABLE, metavar="NAME=X", help="a start, fixed")
    add("--clamp", **REPEATABLE, metavar="NAME=X", help="hold a coordinate fixed")
    add(
        "--t-end",
        metavar="EXPR",
        help="horizon in reduced training time, arithmetic over the parameters such as 20*N**2; "
        "or 'auto' (default): until the head has formed and the loss has settled, which takes "
        "longer to find",
    )
    add("--at", metavar="T1,T2,...", help="keep states at these times, or expressions such as N**2")
    kept = "events, final, loss, stats (default: these), at, trajectory"
    add("--keep", metavar="WHAT,...", help=kept)
    add("--method", metavar="|".join(METHODS), help="(Rodas5P)")
    add("--rtol", metavar="X", help=f"relative tolerance of the trajectories ({RTOL:g})")
    add("--atol", metavar="X", help=f"absolute tolerance of the trajectories ({ATOL:g})")
    add("--threshold", metavar="X", help=f"level at which a coordinate has emerged ({THRESHOLD:g})")
    add("--dynamics", metavar="|".join(DYNAMICS), help="gradient flow, or descent with --step")
    add("--step", metavar="X", help="step of gradient descent, in reduced training time")
    add("--max-step", metavar="X", help="longest step of the integrator")
    add(
        "--full",
        action="store_true",
        help="train the full transformer at every point, as validate does; its settings (seed, "
        "batch, learning_rate, ...) are parameters too",
    )
    add("--out", metavar="NAME.zarr", help="the store; without it, only the summary is shown")
    add("--resume", action="store_true", help="go on with the store, if it is there")
    add("--block", metavar="COUNT", help="points that are computed and stored together")
    add("--threads", metavar="K", help="threads of this process (all processors)")
    add("--workers", metavar="K", help="so many processes instead")
    add("--scheduler", metavar="ADDRESS", help="a running dask.distributed scheduler instead")
    sweep_results.add_options(add)
    add("--json", action="store_true", help="print one JSON object, nothing else")
    return command


def execute(options) -> int:
    given = arguments(options)
    if not options.system:
        raise InputError("name the system to sweep, e.g. simulate.py sweep musat3 --grid N=8,16")
    sweep_results.check(options)
    from reduced_dynamics.sweeping.reading import summary
    from reduced_dynamics.sweeping.run import NOTHING_TO_RESUME, SweepInterrupted, perform, planned

    where = {name: given.pop(name) for name in ("threads", "workers", "scheduler")}
    if options.resume and options.out is None:
        raise InputError(NOTHING_TO_RESUME)
    system = catalogue.system(options.system)
    given["full"] = catalogue.full_model(system) if options.full else None
    plan = planned(system, **given)
    sweep_results.check_names(options, plan)
    for remark in plan.remarks:
        print(remark, file=sys.stderr)
    began = time.monotonic()
    with _target(options.out) as out, _terminable():
        try:
            with Reporter() as reporter:
                computed = perform(plan, out, options.resume, progress=reporter, **where)
        except (SweepInterrupted, KeyboardInterrupt) as stopped:
            print(f"simulate.py: {_how_to_resume(options, stopped)}", file=sys.stderr)
            return 130
        seconds = time.monotonic() - began
        found = summary(out)
        if not options.json:
            print("\n".join(as_text(plan, found, options.out, computed, seconds)))
        useless = _useless(found)
        lines, results = ([], {}) if useless else sweep_results.report(out, options)
    if options.json:
        described = as_json(plan, found, options.out, computed, seconds)
        print(printed(described | results))
    elif lines:
        print("\n".join(lines))
    if useless:
        print(f"simulate.py: {useless[1]}", file=sys.stderr)
        return useless[0]
    return 0


def _useless(found) -> tuple[int, str] | None:
    """The exit code and the sentence for a sweep that came to nothing."""
    for count, what, code in (
        (found.refused, "was refused", InputError.exit_code),
        (found.failed, "failed", IntegrationError.exit_code),
    ):
        if count == found.points:
            (reason, _), *others = found.reasons.most_common()
            example = f" (for {len(others) + 1} reasons, such as this)" if others else ""
            return code, f"every point {what}{example}: {reason}"
    return None


def arguments(options) -> dict[str, Any]:
    """The command line as the arguments of `sweep`.

    Raises
    ------
    InputError
        For anything malformed.
    """
    config = read_config(options.config, _PLAIN, _TABLES, _FILES, _FLAGS) if options.config else {}
    for name, value in config.items():
        key = name.replace("-", "_")
        if name not in _TABLES and getattr(options, key) in (None, False):
            setattr(options, key, value)
    found: dict[str, Any] = {
        name: dict(config.get(name, {})) | _named(name, getattr(options, name))
        for name in ("grid", "random")
    }
    for name, key in (("set", "parameters"), ("start", "start"), ("clamp", "clamp")):
        found[key] = dict(config.get(name, {})) | pairs(name, getattr(options, name))
    for name in ("points", "seed", "block", "threads", "workers"):
        value = getattr(options, name)
        found[name] = None if value is None else whole(name, value)
    if found["seed"] is None:
        del found["seed"]
    found |= integration_options({k: getattr(options, k.replace("-", "_")) for k in _PLAIN})
    if options.sampling is not None:
        found["sampling"] = str(options.sampling)
    if options.seed is not None and not found["random"]:
        raise InputError("--seed is of the samples of --random; without them, drop it")
    if options.at is not None:
        found["at"] = [_time(part) for part in _parts(options.at)]
    if options.keep is not None:
        found["keep"] = [str(part) for part in _parts(options.keep) if part]
    found["scheduler"] = options.scheduler
    return found


def _named(option: str, texts: list[str]) -> dict[str, str]:
    """``["N=8:64:log:9", ...]`` as a mapping; nothing is given twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, spec = (part.strip() for part in text.partition("="))
        if not (name and equals):
            raise InputError(f"--{option} takes NAME=SPEC, such as N=8:64:log:9, not '{text}'")
        if name in found:
            raise InputError(f"--{option} {name} is given twice; put its values into one")
        found[name] = spec
    return found


def _parts(value: Any) -> list:
    """``"A,B"``, or a list as it is."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return value if isinstance(value, list) else [value]


def _time(value: Any) -> float | str:
    """A time, or an expression."""
    try:
        return number("at", value)
    except InputError:
        if not isinstance(value, str) or value.strip().lower().lstrip("+-") in ("nan", "inf"):
            raise
        return value


@contextmanager
def _target(out: str | None) -> Iterator[Path]:
    """Where the store is: as named, or in a directory that does not outlive the command."""
    if out is not None:
        if not out:
            raise InputError("--out needs the name of a directory, NAME.zarr")
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(
        prefix="reduced-dynamics-", ignore_cleanup_errors=True
    ) as made:
        yield Path(made) / "sweep.zarr"


@contextmanager
def _terminable() -> Iterator[None]:
    """A request to end (SIGTERM) is treated like Ctrl-C."""

    def interrupt(*_):
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _how_to_resume(options, stopped) -> str:
    said = str(stopped) or "interrupted"
    if options.out is None:
        return f"{said}; nothing is kept without --out NAME.zarr"
    words = [*options.arguments, *([] if options.resume else ["--resume"])]
    return f"{said}; go on with: simulate.py {shlex.join(words)}"


def as_json(plan, found, out, computed: int, seconds: float) -> dict[str, Any]:
    """The object that ``sweep --json`` prints."""
    return {
        "system": plan.settings.system.name,
        "plan": plan.identity,
        "dims": dict(zip(plan.dims, plan.shape, strict=True)),
        "out": out,
        **{k: getattr(found, k) for k in ("points", "complete", "failed", "refused")},
        "reasons": dict(found.reasons.most_common()),
        "events": found.events,
        "computed": computed,
        "wall_s": seconds,
        "points_per_s": computed / seconds,
    }


def as_text(plan, found, out, computed: int, seconds: float) -> list[str]:
    """What ``sweep`` prints for people."""
    settings = plan.settings
    shape = " x ".join(f"{name} {size}" for name, size in zip(plan.dims, plan.shape, strict=True))
    held = (("", settings.parameters), ("start ", settings.start), ("clamped ", settings.clamp))
    fixed = ", ".join(f"{word}{k}={v}" for word, given in held for k, v in given.items())
    lines = [
        f"{settings.system.name}: {found.points} point{'s' * (found.points != 1)} ({shape})"
        f"{', ' if fixed else ''}{fixed}"
    ]
    before = found.points - computed
    said = f"; {before} were stored before" if before else ""
    lines += [
        f"  {computed} computed in {seconds:.1f} s, {computed / seconds:.4g} a second{said}",
        f"  {found.complete} complete, {found.failed} failed, {found.refused} refused "
        "(outside a parameter's range, or impossible)",
    ]
    for reason, count in found.reasons.most_common(MOST_REASONS):
        lines.append(f"    {count} x {'such as: ' if count > 1 else ''}{reason}")
    if len(found.reasons) > MOST_REASONS:
        lines.append(f"    and {len(found.reasons) - MOST_REASONS} further reasons")
    if found.events:
        width = max(14, *(len(name) for name in found.events))
        lines += ["", f"  {'event':{width}} {'reached':>9} {'earliest':>12} {'latest':>12}"]
        for name, event in found.events.items():
            form = "12.6g" if event["reached"] else ">12"
            least, most = (event[k] if event["reached"] else "-" for k in ("min", "max"))
            lines.append(f"  {name:{width}} {event['reached']:9d} {least:{form}} {most:{form}}")
    return [*lines, "", f"stored in {out}" if out else "not stored; --out NAME.zarr keeps it"]
