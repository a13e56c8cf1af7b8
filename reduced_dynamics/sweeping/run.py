"""`sweep`: plan, compute what is missing, store it as it comes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reduced_dynamics.core.errors import InputError, check_interrupt, unknown
from reduced_dynamics.core.progress import Progress, watched
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.sweeping import disk, reading, store
from reduced_dynamics.sweeping.full import Trained
from reduced_dynamics.sweeping.plan import Plan
from reduced_dynamics.sweeping.plan import plan as make_plan
from reduced_dynamics.sweeping.runners import Runner, chosen
from reduced_dynamics.sweeping.settings import KEEP, Settings
from reduced_dynamics.sweeping.work import Task, derivation

if TYPE_CHECKING:
    import xarray

NOTHING_TO_RESUME = "nothing is kept without --out NAME.zarr, so drop --resume, or add --out"


class SweepInterrupted(KeyboardInterrupt):
    """The user interrupted a sweep; `done` of `total` points are in the store."""

    def __init__(self, done: int, total: int):
        super().__init__(f"interrupted with {done} of {total} points stored")
        self.done, self.total = done, total


def sweep(
    system: ReducedSystem,
    *,
    grid: Mapping[str, Any] | None = None,
    random: Mapping[str, Any] | None = None,
    points: int | None = None,
    seed: int = 0,
    sampling: str = "random",
    parameters: Mapping[str, Any] | None = None,
    start: Mapping[str, Any] | None = None,
    clamp: Mapping[str, Any] | None = None,
    at: Sequence[float | str] = (),
    keep: Sequence[str] = KEEP,
    full: Trained | None = None,
    out=None,
    resume: bool = False,
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    block: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> xarray.Dataset:
    """Integrate one trajectory for every point of a grid or a sample, and keep what is asked for.

    Parameters
    ----------
    system : ReducedSystem
    grid : mapping of str to str or sequence
        Values of parameters, and as ``"start.NAME"`` of where coordinates start:
        ``"8:4096:log:40"`` (from, to, spacing, count), ``"last,uniform"``, or a sequence. All
        combinations are points. Between the ends of a range, integer parameters are rounded.
    random : mapping of str to str or tuple
        Ranges to be sampled, ``"8:4096:log"`` or ``(8, 4096, "log")``; with a grid, all samples
        belong to every point of it.
    points, seed : int
        How many samples, and from which seed.
    sampling : {"random", "sobol", "halton", "lhs"}
        Independent and uniform, or of low discrepancy (`scipy.stats.qmc`).
    parameters, start, clamp : mapping
        The same at all points; see `integrate`.
    at : sequence of float or str
        Times whose states are kept, or expressions over the parameters.
    keep : sequence of str
        Of "events", "final", "loss", "stats", "at" and "trajectory".
    full : Trained, optional
        The full model to train at every point, as ``validate`` does, instead of the reduced system
        alone; its settings (`seed`, `batch`, …) can be swept like parameters.
    out : path, optional
        The store, a directory ``NAME.zarr``; without it, results are kept in memory.
    resume : bool
        Go on with the store if it is there. Nothing that it holds is computed again, and the
        result is that of a sweep without interruption, to the last bit.
    threads, workers : int, optional
        Threads of this process (by default one a processor), or so many processes.
    scheduler : str, optional
        Address of a running dask.distributed scheduler, whose workers compute.
    block : int, optional
        Points that are computed and stored together.
    progress : callable, optional
        Called with what is stored by now, in words, and which share of all points that is.
    **options
        t_end, method ("Rodas5P" by default), rtol, atol, threshold, dynamics, step and max_step
        of `integrate`. Flows by Rodas5P are integrated many at once (`ensemble.integrate_many`);
        with other methods, gradient descent, max_step, whole trajectories, and for systems whose
        loss is costly, one by one.

    Returns
    -------
    xarray.Dataset
        As `open_sweep` opens it. A point that fails is nan, with its `reason`.

    Raises
    ------
    InputError
        For contradictions, and for a store of another sweep, which differs as it says.
    StoreError
        On a full disk.
    SweepInterrupted
        On Ctrl-C; what was stored can be resumed.
    """
    if resume and out is None:
        raise InputError(NOTHING_TO_RESUME)
    plan = planned(
        system, grid=grid, random=random, points=points, seed=seed, sampling=sampling,
        parameters=parameters, start=start, clamp=clamp, at=at, keep=keep, full=full, block=block,
        **options,
    )  # fmt: skip
    if out is not None:
        perform(plan, reading.path_of(out), resume, threads, workers, scheduler, progress)
        return reading.open_sweep(out)
    folder = Path(tempfile.mkdtemp(prefix="reduced-dynamics-sweep-"))
    try:
        perform(plan, folder / "sweep.zarr", False, threads, workers, scheduler, progress)
        return reading.open_sweep(folder / "sweep.zarr").load()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


#: What says which points a sweep has; the rest says what is done at each.
_POINTS = ("grid", "random", "points", "seed", "sampling", "block")


def planned(system: ReducedSystem, **options: Any) -> Plan:
    """The points of a sweep, checked, and nothing computed; see `sweep` for the arguments."""
    points = {name: options.pop(name) for name in _POINTS if name in options}
    for name in ("grid", "random"):
        _mapping(name, points.get(name))
    for name in ("parameters", "start", "clamp"):
        options[name] = _mapping(name, options.get(name))
    for name in ("at", "keep"):
        if name in options:
            if isinstance(options[name], str) or not isinstance(options[name], Iterable):
                raise InputError(f"{name} takes a list, not {options[name]!r}")
            options[name] = tuple(options[name])
    known = [f.name for f in fields(Settings) if f.name not in ("system", "derivation")]
    for name in options:
        if name not in known:
            raise unknown("option of sweep", name, known)
    settings = Settings(system, **options)
    settings = replace(settings, derivation=derivation(settings.homes))
    return make_plan(settings, **points)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping | None):
        raise InputError(f"{name} takes a mapping such as {{'N': 8}}, not {value!r}")
    return dict(value or {})


def perform(
    plan: Plan,
    out: Path,
    resume: bool = False,
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Compute and store whatever a store lacks, how many points that are; see `sweep`."""
    progress = watched(progress)
    for name, value in (("threads", threads), ("workers", workers)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"{name} must be a whole number, at least 1, not {value}")
    if sum(x is not None for x in (threads, workers, scheduler)) > 1:
        raise InputError("give one of threads, workers and scheduler")
    store.check_target(out)
    with ExitStack() as opened:
        with disk.alone(out):
            check(plan, out, resume)
            kept = store.Store(out, plan) if store.exists(out) else None
            if kept is not None:
                opened.callback(kept.close)
                if kept.done().all():
                    _tell(progress, len(plan), plan)
                    return 0
            runner = opened.enter_context(chosen(threads, workers, scheduler, plan.settings.homes))
            if kept is None:
                _undisturbed(store.create, out, plan)
                kept = store.Store(out, plan)
                opened.callback(kept.close)
        return _complete(plan, kept, runner, progress)


def check(plan: Plan, out: Path, resume: bool) -> None:
    """Refuse a store that is not this sweep's, or that is not to be resumed.

    Raises
    ------
    InputError
    """
    if not store.exists(out):
        return
    if reason := store.difference(out, plan):
        block = json.loads(store.attributes(out)["plan"]).get("block")
        if not store.difference(out, replace(plan, block=block)):
            options = f"--block {block}" if resume else f"--block {block} --resume"
            raise InputError(
                f"'{out}' holds this sweep in blocks of {block} points, not {plan.block}; add "
                f"{options} to go on with it, or choose another --out"
            )
        raise InputError(
            f"'{out}' holds another sweep: {reason}; choose another --out, or the same settings"
        )
    if not resume:
        raise InputError(
            f"'{out}' holds this sweep already, {reading.stored(out)}; add --resume to go on with "
            "it, or choose another --out"
        )


def _complete(plan: Plan, kept: store.Store, runner: Runner, progress: Progress) -> int:
    done = kept.done()
    sizes = [last - first for first, last in map(plan.span, range(plan.blocks))]
    before = stored = sum(size for size, known in zip(sizes, done, strict=True) if known)
    missing = [k for k in range(plan.blocks) if not done[k]]
    _tell(progress, stored, plan)
    outcomes = runner.run(_tasks(plan, missing), len(missing))
    try:
        for task, results in outcomes:
            _undisturbed(kept.write, task.block, results)
            stored += sizes[task.block]
            _tell(progress, stored, plan)
    except (KeyboardInterrupt, SystemError) as stopped:
        check_interrupt(stopped)
        stored = sum(size for size, known in zip(sizes, kept.done(), strict=True) if known)
        raise SweepInterrupted(stored, len(plan)) from None
    finally:
        outcomes.close()
    return stored - before


def _tell(progress: Progress, stored: int, plan: Plan) -> None:
    progress(f"{stored} of {len(plan)} points stored", stored / len(plan))


def _undisturbed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that Ctrl-C does not cut short, and be interrupted after it.

    Signals reach the main thread only; Zarr's event loop would be left in the middle of a write.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


def _tasks(plan: Plan, blocks: list[int]) -> Iterator[Task]:
    for block in blocks:
        yield Task(block, plan.settings, plan.columns(*plan.span(block)), plan.variables)
