"""The points of an ensemble: parameters and starts, checked and packed, equal ones once for all.

Sweeps repeat parameter values, above all whole numbers; what Python has to do for each of them is
then done for each value, and the rest with whole arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.expressions import evaluate
from reduced_dynamics.core.system import COORDINATE_LIMIT, ReducedSystem, numeric
from reduced_dynamics.integration.chart import applies
from reduced_dynamics.integration.problem import ATOL, LONGEST, RTOL, SHORTEST, THRESHOLD, Options


class Group:
    """Points that one compiled system serves.

    Attributes
    ----------
    points : ndarray of int, shape (k,)
        Their numbers, ascending.
    which : ndarray of int, shape (k,)
        Which of the group's kinds each of them is of.
    kinds : list of Kind
        Those parameter values that differ.
    starts, ends : ndarray, shape (k, d) and (k,)
    chart : bool
        Whether they are integrated in the derivation's chart.
    """

    def __init__(self, kinds: list[Kind]):
        self.kinds = kinds
        self.system, self.values, self.compiled = kinds[0].system, kinds[0].values, None
        self.chart = kinds[0].chart
        self.points = self.which = np.empty(0, np.int64)
        self.starts = self.ends = np.empty(0)


class Kind:
    """Parameter values that one or many points share: checked and packed, once for all of them."""

    def __init__(self, system: ReducedSystem, given, clamp, started, t_end, at):
        self.values = system.values(given)
        self.system = own = system.adapted(self.values)
        both = sorted(clamp.keys() & set(started))
        if both:
            raise InputError(f"{both[0]} is both clamped and started; give one of the two")
        for name in started:
            own.index(name)
        held = {name: own.place(name, value) for name, value in clamp.items()}
        self.origin = dict(zip(own.names, own.origin(self.values), strict=True)) | held
        numbers = numeric(self.values)
        self.end = evaluate(t_end, numbers) if isinstance(t_end, str) else None
        times = [evaluate(t, numbers) if isinstance(t, str) else float(t) for t in at]
        self.times = np.array(times, dtype=float)
        if len(times) and min(times) < 0.0:
            raise InputError(f"the state can be reported at times >= 0, not at {min(times):g}")
        self.packed = np.array(own.pack(self.values), dtype=float)
        form = None if own is system else (own.key, own.names, own.events)
        self.chart = applies(own, self.values, bool(held))
        self.key = (form, self.chart, *(self.values[name] for name in own.structure))


class Points:
    """The points of an ensemble, checked and packed; see `integrate_many` for the arguments."""

    def __init__(
        self,
        system: ReducedSystem,
        parameters,
        *,
        t_end,
        starts=None,
        rtol=RTOL,
        atol=ATOL,
        threshold=THRESHOLD,
        clamp=None,
        at=(),
    ):
        self.system = system
        for name, value in (("clamp", clamp), ("starts", starts)):
            if not isinstance(value, Mapping | None):
                raise InputError(
                    f"{name} takes a mapping from names to numbers, such as {{'a': 1}}"
                )
        for name, value in (clamp or {}).items():
            if np.ndim(value):
                raise InputError(f"{name} is clamped at one number for all points, not {value!r}")
        if isinstance(at, str) or not isinstance(at, Iterable):
            raise InputError(f"at takes a list of times, not {at!r}")
        self.clamp, starts = dict(clamp or {}), dict(starts or {})
        self.at = tuple(at)
        fixed = [t for t in self.at if not isinstance(t, str)]
        Options(rtol=rtol, atol=atol, threshold=threshold, at=fixed)
        if len(fixed) == len(self.at) and np.any(np.diff(fixed) < 0):
            raise InputError("the times of `at` must not fall; sort them")
        if isinstance(t_end, str) and t_end == "auto":
            bound = (
                f", or the system's bound, '{system.horizon.bound}'" if system.horizon.bound else ""
            )
            raise InputError(f"an ensemble needs a horizon: give t_end, such as '20*N**2'{bound}")
        self.rtol, self.atol, self.threshold = rtol, atol, threshold
        given, which = _distinct(parameters, [*starts.values(), t_end])
        count = len(which)
        self.t_end = t_end if isinstance(t_end, str) else _column("t_end", t_end, count)
        self.starts = {name: _column(name, value, count) for name, value in starts.items()}
        known = {parameter.name for parameter in system.parameters}
        for name in set().union(set(), *given):
            if name not in known:
                raise unknown(f"parameter of {system.name}", name, known)
        self.reasons = [""] * count
        kinds: list[Kind | None] = []
        checked: list[dict[str, Any]] = []
        for k, values in enumerate(given):
            try:
                kinds.append(Kind(system, values, self.clamp, self.starts, t_end, self.at))
                checked.append(kinds[-1].values)
            except InputError as error:
                kinds.append(None)
                checked.append(values)
                self._refuse(np.flatnonzero(which == k), str(error))
        self.parameters = [checked[k] for k in which.tolist()]
        self.times = np.full((count, len(self.at)), np.nan)
        self.groups = self._grouped(kinds, which)

    def _refuse(self, points: np.ndarray, reason: str) -> None:
        for k in points.tolist():
            self.reasons[k] = reason

    def _grouped(self, kinds: list[Kind | None], which: np.ndarray) -> dict[Any, Group]:
        """The points that can be integrated, by what is compiled for them."""
        shared: dict[Any, list[int]] = {}
        for k, kind in enumerate(kinds):
            if kind is not None:
                shared.setdefault(kind.key, []).append(k)
        groups = {}
        for key, members in shared.items():
            group = Group([kinds[k] for k in members])
            position = np.full(len(kinds), -1)
            position[members] = np.arange(len(members))
            group.points = np.flatnonzero(position[which] >= 0)
            group.which = position[which[group.points]]
            self._place(group)
            if len(group.points):
                group.compiled = compile_system(group.system, group.values)
                groups[key] = group
        return groups

    def _place(self, group: Group) -> None:
        """Start and end of every point of a group; those where that is impossible leave it."""
        system, kinds, which = group.system, group.kinds, group.which
        starts = np.array([list(kind.origin.values()) for kind in kinds], dtype=float)[which]
        for name, column in self.starts.items():
            column = column[group.points]
            starts[:, system.index(name)] = column
            for k in np.flatnonzero(~(np.abs(column) <= COORDINATE_LIMIT)).tolist():
                try:
                    system.place(name, column[k])
                except InputError as error:
                    self.reasons[group.points[k]] = str(error)
        if isinstance(self.t_end, str):
            ends = np.array([kind.end for kind in kinds])[which]
        else:
            ends = np.array(self.t_end[group.points])
        for k in np.flatnonzero(~((ends >= SHORTEST) & (ends <= LONGEST))).tolist():
            self._add_reason(
                group,
                k,
                f"the horizon must be a positive time in {SHORTEST:g} .. {LONGEST:g}, not "
                f"{ends[k]:g}",
            )
        times = np.array([kind.times for kind in kinds])[which]
        self.times[group.points] = times
        for k in np.flatnonzero((times > ends[:, None]).any(axis=1)).tolist():
            late = times[k][times[k] > ends[k]][0]
            self._add_reason(
                group, k, f"time {late:g} lies beyond the horizon {ends[k]:g}; raise t_end"
            )
        if system.outside is not None:
            for k, row in enumerate(starts.tolist()):
                state = dict(zip(system.names, row, strict=True))
                if reason := system.outside(kinds[which[k]].values, state):
                    self._add_reason(group, k, reason)
        good = np.array([not self.reasons[k] for k in group.points.tolist()], dtype=bool)
        group.points, group.which = group.points[good], which[good]
        group.starts, group.ends = starts[good], ends[good]

    def _add_reason(self, group: Group, k: int, reason: str) -> None:
        point = group.points[k]
        self.reasons[point] = self.reasons[point] or reason


def _distinct(parameters, others: Sequence) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The parameter values that differ, and which of them every point has.

    Where no parameter is an array, `others` say how many points there are.
    """
    if not isinstance(parameters, Mapping):
        listed = isinstance(parameters, Iterable) and not isinstance(parameters, str)
        given = list(parameters) if listed else [parameters]
        if not all(isinstance(point, Mapping) for point in given):
            raise InputError(
                "parameters of an ensemble are a mapping from names to values or arrays, or a list "
                f"of mappings, one a point; not {parameters!r}"
            )
        given = [dict(point) for point in given]
        return given, np.arange(len(given))
    columns = {name: _listed(value) for name, value in parameters.items()}
    columns = {name: column for name, column in columns.items() if column is not None}
    lengths = {name: len(c) for name, c in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name}: {n}" for name, n in lengths.items())
        raise InputError(f"parameters of one ensemble need equally many values; they have {counts}")
    told = [len(c) for c in map(_listed, others) if c is not None]
    count = next(iter(lengths.values()), max(told, default=1))
    # Most sweeps repeat values, above all whole numbers: those are checked and packed once.
    shared = {name: value for name, value in parameters.items() if name not in columns}
    which, found = np.zeros(count, np.int64), np.arange(min(count, 1))
    for column in columns.values():
        numbers: dict[Any, int] = {}
        try:
            own = [numbers.setdefault((type(v), v), len(numbers)) for v in column]
        except TypeError:  # not hashable, hence no parameter's value; refused point by point
            own = [numbers.setdefault(k, k) for k in range(count)]
        codes = which * len(numbers) + np.array(own, np.int64)
        _, found, which = np.unique(codes, return_index=True, return_inverse=True)
    kinds = [shared | {name: column[k] for name, column in columns.items()} for k in found]
    return kinds, which


def _listed(value) -> list | None:
    """The entries of an array; None for a single value."""
    if isinstance(value, str) or not isinstance(value, Iterable) or np.ndim(value) == 0:
        return None
    return value.tolist() if isinstance(value, np.ndarray) else list(value)


def _column(name: str, value, count: int) -> np.ndarray:
    try:
        column = np.array(value, dtype=float)
        return np.broadcast_to(column, (count,))
    except (TypeError, ValueError):
        raise InputError(f"{name} must be one number, or one for each of {count} points") from None
