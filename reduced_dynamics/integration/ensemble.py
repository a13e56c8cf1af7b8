"""An ensemble: points of one system, integrated compiled and threaded, failures recorded.

Every point (parameter values and a start) is integrated by Rodas5P without any Python in between;
closed-form systems go several at a time through vector registers (`rosenbrock.lanes`). Results do
not depend on the number of threads, nor on which points are neighbours.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.progress import Progress, watched
from reduced_dynamics.integration.points import Group, Points
from reduced_dynamics.integration.problem import MAX_STEPS
from reduced_dynamics.integration.rosenbrock import single
from reduced_dynamics.integration.rosenbrock.build import Integrator, integrator
from reduced_dynamics.integration.rosenbrock.kernel import (
    DONE,
    JAC,
    NOT_FINITE,
    REJECTED,
    RHS,
    STEPS,
)
from reduced_dynamics.io.versions import versions

#: Points handed to a thread at a time, at most; with lanes, where a queue keeps all lanes busy.
CHUNK, LANE_CHUNK = 64, 4096
STATISTICS = {"steps": STEPS, "rejected": REJECTED, "rhs": RHS, "jac": JAC}


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What many trajectories ended in, point by point.

    Attributes
    ----------
    system : str
    coordinates, event_names : tuple of str
    parameters : tuple of dict
        All parameters of every point; what was given, where they were refused.
    events : ndarray, shape (points, events)
        Time of the first crossing of every event; nan where it never happened.
    t : ndarray, shape (points,)
        Time reached: the horizon, or where the integration failed.
    final : ndarray, shape (points, d)
        The state at `t`; nan for refused points.
    loss : ndarray, shape (points,)
    observables : mapping of str to ndarray of shape (points,)
        At `t`, as is the loss.
    at : ndarray, shape (m,)
        The times, or expressions, that were asked for.
    times : ndarray, shape (points, m)
        What they are at every point; nan for refused points.
    states : ndarray, shape (points, m, d)
        States at these times; nan where they were not reached.
    values_at : mapping of str to ndarray of shape (points, m)
        The loss and the observables there.
    stats : mapping of str to ndarray of int, shape (points,)
        Steps, rejected steps, right-hand sides and Jacobians.
    reasons : tuple of str
        Why a point is not complete; empty for those that are.
    refused : ndarray of bool, shape (points,)
        Which points were not begun, for their parameters or start.
    solver, versions : mapping
        How it was made.
    """

    system: str
    coordinates: tuple[str, ...]
    event_names: tuple[str, ...]
    parameters: tuple[dict[str, Any], ...]
    events: np.ndarray
    t: np.ndarray
    final: np.ndarray
    loss: np.ndarray
    observables: Mapping[str, np.ndarray]
    at: np.ndarray
    times: np.ndarray
    states: np.ndarray
    values_at: Mapping[str, np.ndarray]
    stats: Mapping[str, np.ndarray]
    reasons: tuple[str, ...]
    refused: np.ndarray
    solver: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.t)

    @property
    def done(self) -> np.ndarray:
        """Which points are complete, shape (points,)."""
        return np.array([not reason for reason in self.reasons], dtype=bool)

    def __getitem__(self, name: str) -> np.ndarray:
        """An event's times, a coordinate, an observable or ``"loss"`` at the end, (points,).

        Raises
        ------
        InputError
            For an unknown name, with the nearest known one.
        """
        if name in self.event_names:
            return self.events[:, self.event_names.index(name)]
        if name in self.coordinates:
            return self.final[:, self.coordinates.index(name)]
        if name in self.observables:
            return self.observables[name]
        if name == "loss":
            return self.loss
        known = (*self.event_names, *self.coordinates, *self.observables, "loss")
        raise unknown("result", name, known)


class Preparation(Points):
    """The points of an ensemble, checked and packed; see `integrate_many`."""

    def run(
        self,
        threads: int | None = None,
        lanes: bool | None = None,
        progress: Progress | None = None,
    ) -> Ensemble:
        """Integrate all points."""
        if threads is not None and not (isinstance(threads, Integral) and threads >= 1):
            raise InputError(f"threads must be a whole number from 1 on, not {threads!r}")
        if lanes not in (None, True, False):
            raise InputError(f"lanes is True, False or None, not {lanes!r}")
        progress = watched(progress)
        system, groups = self.system, self.groups.values()
        kinds = {(g.system.names, tuple(e.name for e in g.system.events)) for g in groups}
        if len(kinds) > 1:
            raise InputError(
                f"these points of {system.name} have different coordinates or events; integrate "
                "those that agree together"
            )
        own = (system.names, tuple(e.name for e in system.events))
        names, events = kinds.pop() if kinds else own
        count = len(self.parameters)
        result = _Results(count, names, events, self.times, self.parameters, list(self.reasons))
        done = count - sum(len(group.points) for group in groups)
        for group in groups:
            arrays = _Arrays(
                group, self.clamp, self.threshold, self.rtol, self.atol, self.times[group.points]
            )
            for finished in arrays.run(threads or _processors(), lanes):
                done += finished
                progress(f"{done} of {count} points", done / count)
            result.take(group, arrays)
        t_end = self.t_end if isinstance(self.t_end, str) else "given by point"
        solver = {"method": "Rodas5P", "rtol": self.rtol, "atol": self.atol}
        solver |= {"threshold": self.threshold, "t_end": t_end}
        solver |= {f"clamp.{name}": float(value) for name, value in self.clamp.items()}
        return result.ensemble(system.name, solver, self.at)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Arrays:
    """The arguments and results of the compiled integrator for one group of points."""

    def __init__(self, group: Group, clamp, threshold, rtol, atol, times):
        self.group = group
        system, compiled = group.system, group.compiled
        packed = [kind.packed for kind in group.kinds]
        count, size, values = len(group.points), len(system.names), 1 + len(compiled.observables)
        columns = {name: k for k, name in enumerate(("loss", *compiled.observables))}
        events = system.events
        lengths = np.array([len(p) for p in packed], dtype=np.int64)[group.which]
        self.par = np.concatenate([*(packed[k] for k in group.which.tolist()), np.empty(0)])
        self.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.starts = np.ascontiguousarray(group.starts, dtype=float)
        if group.chart:
            values += size
            self._convert(compiled.to_chart, self.starts)
        self.held = np.array([name in clamp for name in system.names])
        self.events = (
            single.watches(events, system.names, columns, group.chart),
            np.array([threshold if e.level is None else e.level for e in events], float),
            np.array([e.of_start for e in events], dtype=bool),
            np.array([e.direction for e in events], dtype=np.int64),
            np.array([e.from_start and e.watch not in clamp for e in events], dtype=bool),
        )
        self.ends = np.ascontiguousarray(group.ends, dtype=float)
        rtol, atol = rtol * single.LOCAL[0], atol * single.LOCAL[1]
        self.limits = self.ends, rtol, atol, MAX_STEPS
        # The kernel takes times that rise, the same ones for all points of a call.
        self.order = np.argsort(times, axis=1, kind="stable")
        self.times = np.take_along_axis(times, self.order, axis=1)
        self.event_t = np.full((count, len(events)), np.nan)
        self.final = np.full((count, size), np.nan)
        self.values = np.full((count, values), np.nan)
        self.counts = np.zeros((count, 7), np.int64)
        self.status = np.full(count, NOT_FINITE, np.int64)
        self.reached = np.zeros(count)
        self.results = (
            self.event_t,
            self.final,
            self.values,
            self.counts,
            self.status,
            self.reached,
        )
        self.states = np.full((count, times.shape[1], size), np.nan)

    def run(self, threads: int, lanes: bool | None):
        """Integrate all points; yields how many more are done."""
        group = self.group
        compiled = integrator(group.system, group.values, group.compiled, group.chart)
        together, shared = np.empty(0, np.int64), compiled.lane_shared
        # Points with equal loops share lanes where that is asked for: whether there are enough of
        # them is known to the user, and what a point gives must not depend on its neighbours.
        if lanes or (lanes is None and shared is None):
            together = self._together(compiled)
        if lanes and len(together) < len(self.ends):
            raise InputError(
                f"not all of these points of {group.system.name} can share vector registers: that "
                "needs a closed form in few coordinates or equal loops over pairs, none of them "
                "held, and no times `at`"
            )
        tasks = []
        if len(together):
            march_lanes = compiled.march_lanes
            # Lanes run empty at the end of every task: one thread takes as few as can be.
            share = -(-len(together) // (1 if threads == 1 else 4 * threads))
            size = max(LANE_CHUNK // 32, min(LANE_CHUNK, share))
            for part in self._with_equal_loops(together, shared, size):
                tasks.append((len(part), partial(self._march_lanes, march_lanes, part)))
        others = np.setdiff1d(np.arange(len(self.ends)), together)
        if len(others):
            march = compiled.march_points
            size = max(1, min(CHUNK, len(others) // (4 * threads)))
            for alike in self._alike(others):
                for k in range(0, len(alike), size):
                    part = alike[k : k + size]
                    tasks.append((len(part), partial(self._march, march, part)))
        yield from _spread(tasks, threads)
        if group.chart:
            for states in (self.final, *self.states.transpose(1, 0, 2)):
                self._convert(group.compiled.from_chart, states)

    def _convert(self, convert, states: np.ndarray) -> None:
        """Every point's state into the chart or out of it, in place."""
        for k in range(len(states)):
            par = self.par[self.offsets[k] : self.offsets[k + 1]]
            states[k] = convert(np.ascontiguousarray(states[k : k + 1]), par)[0]

    def _alike(self, points: np.ndarray) -> list[np.ndarray]:
        """Those of `points` that keep states at the same times, together."""
        times = self.times[points]
        if (times == times[:1]).all():
            return [points]
        _, which = np.unique(times, axis=0, return_inverse=True)
        return [points[which.ravel() == k] for k in range(which.max() + 1)]

    def _together(self, compiled: Integrator) -> np.ndarray:
        """The points that can share vector registers."""
        if compiled.lane_applies is None or self.held.any() or self.times.shape[1]:
            return np.empty(0, np.int64)
        kinds = self.group.kinds
        applies = np.array([bool(compiled.lane_applies(kind.packed)) for kind in kinds])
        return np.flatnonzero(applies[self.group.which])

    def _with_equal_loops(self, together: np.ndarray, shared, size: int) -> Iterator[np.ndarray]:
        """Those points, at most `size` at a time, each time with equal loops."""
        numbers: dict[Any, int] = {}
        keys = [None if shared is None else shared(kind.packed) for kind in self.group.kinds]
        which = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
        which = which[self.group.which[together]]
        for number in range(len(numbers)):
            points = together[which == number]
            for k in range(0, len(points), size):
                yield points[k : k + size]

    def _march(self, march, points: np.ndarray) -> None:
        march(
            points, self.starts, self.par, self.offsets, self.held, self.events, self.limits,
            self.times[points[0]].copy(), self.states, self.results,
        )  # fmt: skip

    def _march_lanes(self, march, points: np.ndarray) -> None:
        march(points, self.starts, self.par, self.offsets, self.events, self.limits, self.results)

    def states_at(self) -> np.ndarray:
        """States at the times in the order they were given, shape (points, m, d)."""
        back = np.argsort(self.order, axis=1)
        return np.take_along_axis(self.states, back[:, :, None], axis=1)

    def values_at(self, states: np.ndarray) -> np.ndarray:
        """Loss and observables at `states`, shape (points, m, 1 + observables)."""
        table = np.full((*states.shape[:2], 1 + len(self.group.compiled.observables)), np.nan)
        for k in range(len(states) if states.shape[1] else 0):
            par = self.par[self.offsets[k] : self.offsets[k + 1]]
            table[k] = self.group.compiled.value_table(np.ascontiguousarray(states[k]), par)
        return table


def _spread(tasks: list[tuple[int, Callable[[], None]]], threads: int):
    """Run tasks on threads; yields the size of each as it ends. An interruption drops the rest."""
    if threads == 1 or len(tasks) == 1:
        for size, task in tasks:
            task()
            yield size
        return
    with ThreadPoolExecutor(threads) as pool:
        running = {pool.submit(task): size for size, task in tasks}
        try:
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Results:
    """The arrays of an `Ensemble`, filled group by group."""

    def __init__(self, count, names, events, times, parameters, reasons):
        self.names, self.event_names, self.times = names, events, times
        self.parameters, self.reasons = parameters, reasons
        self.refused = np.array([bool(reason) for reason in reasons], dtype=bool)
        self.events = np.full((count, len(events)), np.nan)
        self.t = np.zeros(count)
        self.final = np.full((count, len(names)), np.nan)
        self.loss = np.full(count, np.nan)
        self.observables: dict[str, np.ndarray] = {}
        self.states = np.full((*times.shape, len(names)), np.nan)
        self.values_at: dict[str, np.ndarray] = {}
        self.stats = {name: np.zeros(count, np.int64) for name in STATISTICS}

    def take(self, group: Group, arrays: _Arrays) -> None:
        points = group.points
        self.events[points], self.t[points] = arrays.event_t, arrays.reached
        self.final[points], self.loss[points] = arrays.final, arrays.values[:, 0]
        self.states[points] = states = arrays.states_at()
        later = arrays.values_at(states)
        for k, name in enumerate(("loss", *group.compiled.observables)):
            if name != "loss":
                column = self.observables.setdefault(name, np.full(len(self.t), np.nan))
                column[points] = arrays.values[:, k]
            column = self.values_at.setdefault(name, np.full(self.times.shape, np.nan))
            column[points] = later[:, :, k]
        for name, column in STATISTICS.items():
            self.stats[name][points] = arrays.counts[:, column]
        for k in np.flatnonzero(arrays.status != DONE):
            status, t = int(arrays.status[k]), arrays.reached[k]
            reason = single.REASONS[status]
            if t == 0.0 and status == NOT_FINITE:
                reason = "the loss or its gradient is not finite at the start"
            self.reasons[points[k]] = f"failed at t = {t:g}: {reason}"
        if group.system.outside is not None:
            for k, point in enumerate(points):
                state = dict(zip(self.names, arrays.final[k], strict=True))
                if reason := group.system.outside(self.parameters[point], state):
                    self.reasons[point] = self.reasons[point] or reason

    def ensemble(self, system: str, solver: dict[str, Any], at: tuple) -> Ensemble:
        return Ensemble(
            system=system,
            coordinates=tuple(self.names),
            event_names=self.event_names,
            parameters=tuple(self.parameters),
            events=self.events,
            t=self.t,
            final=self.final,
            loss=self.loss,
            observables=self.observables,
            at=np.array(at, dtype=object if any(isinstance(t, str) for t in at) else float),
            times=self.times,
            states=self.states,
            values_at=self.values_at,
            stats=self.stats,
            reasons=tuple(self.reasons),
            refused=self.refused,
            solver=solver,
            versions=versions(),
        )
