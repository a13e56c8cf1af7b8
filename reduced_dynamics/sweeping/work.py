"""Computing one block of points, in any thread of any process: numbers in, arrays out."""

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError, IntegrationError
from reduced_dynamics.core.expressions import evaluate
from reduced_dynamics.core.identity import identity
from reduced_dynamics.core.system import numeric
from reduced_dynamics.integration.many import integrate_many
from reduced_dynamics.integration.one import integrate, report_at
from reduced_dynamics.sweeping.axes import START
from reduced_dynamics.sweeping.kept import STATISTICS
from reduced_dynamics.sweeping.settings import Settings
from reduced_dynamics.sweeping.variables import COMPLETE, FAILED, REASON, REFUSED, STATUS, Variable


@dataclass(frozen=True, eq=False)
class Task:
    """A block of points to be computed, complete in itself.

    Attributes
    ----------
    block : int
        Its number.
    settings : Settings
    columns : mapping of str to ndarray of shape (points,)
        What is swept.
    variables : tuple of Variable
        What is to be returned.
    """

    block: int
    settings: Settings
    columns: dict[str, np.ndarray]
    variables: tuple[Variable, ...]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


class Stopped(Exception):
    """The sweep is being given up."""


class _Table:
    """The arrays of a block while they are filled."""

    def __init__(self, task: Task):
        times = len(task.settings.at)
        self.arrays = {v.name: v.empty(len(task), times) for v in task.variables}

    def put(self, name: str, rows, values) -> None:
        """Fill in what is wanted; names that are not are passed over."""
        if name in self.arrays:
            self.arrays[name][rows] = values


def derivation(homes: tuple[str, ...] = ()) -> str:
    """Hash of everything that results follow from: sources, found by their imports, and versions.

    Parameters
    ----------
    homes : tuple of str
        Modules of the system and of the full model, see `Settings.homes`.
    """
    said = f"{identity(__name__, *homes)} scipy {version('scipy')}"
    return hashlib.sha256(said.encode()).hexdigest()[:20]


def compute(
    task: Task, threads: int = 1, stopped: Callable[[], bool] = lambda: False
) -> dict[str, np.ndarray]:
    """All variables of a block, by name, shape (points,) or (points, times).

    With "trajectory" among what is kept, ``"trajectory"`` holds the list of trajectories, None
    for points that have none.

    Raises
    ------
    InputError
        If this process has other derivations than the one that planned the sweep.
    Stopped
        If `stopped` says so.
    """
    if task.settings.derivation != (own := derivation(task.settings.homes)):
        raise InputError(
            f"this process derives other equations ({own}) than the one that asks "
            f"({task.settings.derivation}): the package or its dependencies differ in version; "
            "install the same on all machines"
        )
    table = _Table(task)
    engine = {"ensemble": _ensemble, "single": _single, "full": _full}[task.settings.engine]
    with np.errstate(all="ignore"):
        engine(task, table, threads, stopped)
    return table.arrays


_BUILDING = threading.Lock()
_BUILT: set[Any] = set()


@contextmanager
def _built(key: Any) -> Iterator[None]:
    """One thread at a time where something is derived and compiled for the first time."""
    with nullcontext() if key in _BUILT else _BUILDING:
        yield
    _BUILT.add(key)


def _form(settings: Settings, point: dict[str, Any]) -> tuple:
    """What is compiled apart: the values of the parameters that change the equations."""
    system = settings.system
    given = {**settings.parameters, **point}
    return (system.name, system.key, *(str(given.get(name)) for name in system.structure))


def _ensemble(task: Task, table: _Table, threads: int, stopped) -> None:
    settings = task.settings
    structure = [n for n in settings.system.structure if n in task.columns]
    shapes = list(zip(*(task.columns[n].tolist() for n in structure), strict=True))
    for shape in dict.fromkeys(shapes) if structure else [()]:
        rows = np.arange(len(task))
        if structure:
            rows = np.flatnonzero([s == shape for s in shapes])
        with _built(_form(settings, dict(zip(structure, shape, strict=True)))):
            _together(task, table, rows, threads)
        if stopped():
            raise Stopped


def _together(task: Task, table: _Table, rows: np.ndarray, threads: int) -> None:
    """Integrate points of one form, all at once."""
    settings = task.settings
    columns = {name: column[rows] for name, column in task.columns.items()}
    starts = {k.removeprefix(START): v for k, v in columns.items() if k.startswith(START)}
    parameters = {k: v for k, v in columns.items() if not k.startswith(START)}
    options = {
        "rtol": settings.rtol,
        "atol": settings.atol,
        "threshold": settings.threshold,
        "clamp": settings.clamp,
    }
    given, moved = {**settings.parameters, **parameters}, {**settings.start, **starts}
    try:
        found = integrate_many(
            settings.system, given, t_end=settings.t_end, starts=moved, at=settings.at,
            threads=threads, **options,
        )  # fmt: skip
    except InputError as error:  # nothing here can be integrated
        table.put(STATUS, rows, REFUSED)
        table.put(REASON, rows, str(error))
        return
    refused, failed = found.refused, ~found.done
    table.put(STATUS, rows, np.where(refused, REFUSED, np.where(failed, FAILED, COMPLETE)))
    table.put(REASON, rows, np.array(found.reasons, dtype=object))
    table.put("t_reached", rows, np.where(refused, np.nan, found.t))
    for k, name in enumerate(found.event_names):
        table.put(name, rows, found.events[:, k])
    for k, name in enumerate(found.coordinates):
        table.put(f"final_{name}", rows, found.final[:, k])
        if settings.at:
            table.put(f"at_{name}", rows, found.states[:, :, k])
    for name, column in found.observables.items():
        table.put(f"final_{name}", rows, column)
    table.put("final_loss", rows, found.loss)
    for name in STATISTICS:
        table.put(f"n_{name}", rows, found.stats[name])
    if settings.at:
        table.put("at_t", rows, found.times)
        for name, column in found.values_at.items():
            table.put(f"at_{name}", rows, column)


def _points(task: Task) -> Iterator[dict[str, Any]]:
    """The points of a block one by one: values by name."""
    lists = {name: column.tolist() for name, column in task.columns.items()}
    for values in zip(*lists.values(), strict=True):
        yield dict(zip(lists, values, strict=True))


def _single(task: Task, table: _Table, threads: int, stopped) -> None:
    settings = task.settings
    system = settings.system
    kept: list[Any] = []

    def watch(*_) -> None:
        if stopped():
            raise Stopped

    for k, point in enumerate(_points(task)):
        if stopped():
            raise Stopped
        given = {n: v for n, v in point.items() if not n.startswith(START)}
        moved = {n.removeprefix(START): v for n, v in point.items() if n.startswith(START)}
        run, times, status, reason = None, [], COMPLETE, ""
        try:
            values = system.values({**settings.parameters, **given})
            numbers = numeric(values)
            times = [evaluate(t, numbers) if isinstance(t, str) else t for t in settings.at]
            options = {**settings.options, "start": {**settings.start, **moved}, "at": times}
            with _built(_form(settings, given)):
                run = integrate(system, values, clamp=settings.clamp, progress=watch, **options)
            report = report_at(system.adapted(values), run, times)
        except InputError as error:
            status, reason, report = REFUSED, str(error), {}
        except IntegrationError as error:
            status, reason, report = FAILED, str(error), {}
            run = error.trajectory
        table.put(STATUS, k, status)
        table.put(REASON, k, reason)
        for name, column in report.items():
            table.put(f"at_{name}", k, column)
        kept.append(run)
        if run is None:
            continue
        table.put("t_reached", k, run.t_end)
        for name, t in run.events.items():
            table.put(name, k, np.nan if t is None else t)
        for name, value in itertools.chain(
            run.final.items(), ((n, v[-1]) for n, v in run.observables.items())
        ):
            table.put(f"final_{name}", k, value)
        table.put("final_loss", k, run.loss[-1])
        for name in STATISTICS:
            table.put(f"n_{name}", k, run.stats.get(name, 0))
    if "trajectory" in settings.keep:
        table.arrays["trajectory"] = kept


def _full(task: Task, table: _Table, threads: int, stopped) -> None:
    settings, model = task.settings, task.settings.full
    own = {p.name: p for p in model.settings}

    def watch(*_) -> None:
        if stopped():
            raise Stopped

    for k, point in enumerate(_points(task)):
        given = {**settings.parameters, **point}
        try:
            training = {n: own[n].parse(v) for n, v in given.items() if n in own}
            results = model.numbers(
                settings.system,
                {n: v for n, v in given.items() if n not in own},
                training,
                settings.t_end,
                settings.clamp,
                watch,
            )
            status, reason = COMPLETE, ""
        except InputError as error:
            status, reason, results = REFUSED, str(error), {}
        except IntegrationError as error:
            status, reason, results = FAILED, str(error), {}
        table.put(STATUS, k, status)
        table.put(REASON, k, reason)
        for name, value in results.items():
            table.put(name, k, np.nan if value is None else value)
