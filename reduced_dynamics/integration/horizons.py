"""Where automatic horizons end, for many trajectories at once; see `recorder.Recorder.horizon`.

A single run ends when the loss has converged, or when it has settled some time after the system's
`formed` events; it looks for that as it goes. Here the points are integrated to a bound first,
without a stop, to find those events; then once more for the losses after them.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from reduced_dynamics.core.expressions import evaluate
from reduced_dynamics.core.system import ReducedSystem, numeric
from reduced_dynamics.integration.ensemble import Ensemble, Preparation
from reduced_dynamics.integration.problem import CONVERGENCE, LONGEST
from reduced_dynamics.integration.recorder import AFTER, FLAT

#: Parts of the bound to which the points are integrated in search of the events.
PARTS = (1 / 50, 1.0)
#: Doublings of the time after them in which the loss is looked at first; most have settled then.
DOUBLINGS = 4


class Horizons:
    """The ends of automatic horizons, for the arguments of `Preparation`.

    Attributes
    ----------
    ends : ndarray, shape (points,)
        Training times; nan for points that are refused.

    Raises
    ------
    InputError
        If the system declares no automatic horizon.
    """

    def __init__(self, system: ReducedSystem, parameters, starts, at, threads, lanes, **options):
        self.system, self.parameters, self.starts = _watching(system), parameters, starts or {}
        self.options, self.how = options, (threads, lanes)
        # Longer than any bound, so that no time of `at` is refused here.
        points = Preparation(
            self.system, parameters, starts=starts, at=at, t_end=LONGEST, **options
        )
        self.count = len(points.parameters)
        bound = np.full(self.count, np.nan)
        self.formed: tuple[str, ...] = ()
        for group in points.groups.values():
            own = group.system
            latest, self.formed = own.horizon.of(own.name), own.horizon.formed
            each = [evaluate(latest, numeric(kind.values)) for kind in group.kinds]
            bound[group.points] = np.array(each)[group.which]
        self.bound, self.ends = bound, bound.copy()
        self._look(*self._events())
        if points.times.shape[1]:
            self.ends = np.fmax(self.ends, points.times.max(axis=1))
        self.ends = np.fmin(self.ends, bound)

    def _run(self, rows: np.ndarray, ends: np.ndarray, times: np.ndarray | None = None) -> Ensemble:
        prepared = Preparation(
            self.system,
            _picked(self.parameters, rows, self.count),
            starts=_picked(self.starts, rows, self.count),
            t_end=ends,
            **self.options,
        )
        if times is not None:
            prepared.times = times
        return prepared.run(*self.how)

    def _events(self) -> tuple[np.ndarray, np.ndarray]:
        """The points at which the head forms, and when."""
        rows, formed = np.flatnonzero(np.isfinite(self.bound)), np.full(self.count, np.nan)
        for part in PARTS:
            if len(rows):
                found = self._run(rows, part * self.bound[rows])
                times = [found[name] for name in self.formed]
                formed[rows] = np.max(times, axis=0) if times else 1.0
                rows = rows[~np.isfinite(formed[rows])]
        rows = np.flatnonzero(np.isfinite(formed))
        return rows, formed[rows]

    def _look(self, rows: np.ndarray, formed: np.ndarray) -> None:
        """Look at the losses after the head has formed, and place the ends."""
        bound = self.bound[rows]
        most = math.log2(max(float((bound / np.fmax(formed, 1e-300)).max(initial=1.0)), 1.0))
        for doublings in (DOUBLINGS, math.ceil(most)):
            if not len(rows):
                return
            # 0, then formed × 2^(k/2) from k = −1 on.
            later = np.full((len(rows), 2 * doublings + 2), math.sqrt(2.0))
            later[:, 0] = formed / math.sqrt(2.0)
            later = np.cumprod(later, axis=1)
            later[:, 1] = formed
            reach = np.minimum(later[:, -1], bound)
            times = np.column_stack([np.zeros(len(rows)), np.minimum(later, reach[:, None])])
            found = self._run(rows, reach, times)
            loss = found.values_at["loss"]
            fallen = loss[:, 1:-2] - loss[:, 3:]
            known = later[:, 2:] <= reach[:, None]
            flat = known & (fallen < FLAT * np.abs(loss[:, :1]))
            flat &= not self.system.horizon.plateaus
            at = later[np.arange(len(rows)), 2 + flat.argmax(axis=1)]
            settled = np.where(flat.any(axis=1), at, np.nan)
            converged = found[CONVERGENCE.name]
            first = np.isfinite(settled) & ~(converged < settled)
            ends = np.where(first, settled, AFTER * np.fmax(converged, formed))
            ends = np.where(np.isfinite(converged) | first, ends, np.nan)
            self.ends[rows] = np.where(np.isfinite(ends), ends, bound)
            open_ = ~np.isfinite(ends) & (reach < bound)
            rows, formed, bound = rows[open_], formed[open_], bound[open_]


def _watching(system: ReducedSystem) -> ReducedSystem:
    """The system with the event of a converged loss."""

    def more(own: ReducedSystem) -> ReducedSystem:
        return replace(own, events=(*own.events, CONVERGENCE))

    if system.adapt is None:
        return more(system)
    return replace(more(system), adapt=lambda values: more(system.adapt(values)))


def _picked(values, rows: np.ndarray, count: int):
    """Those of some points, of arrays, of sequences of mappings, or the single value for all."""
    if not isinstance(values, Mapping):
        return [values[k] for k in rows.tolist()]
    return {name: _some(value, rows, count) for name, value in values.items()}


def _some(value: Any, rows: np.ndarray, count: int) -> Any:
    if isinstance(value, str) or np.ndim(value) == 0 or len(value) != count:
        return value
    if isinstance(value, np.ndarray):
        return value[rows]
    return [value[k] for k in rows.tolist()]
