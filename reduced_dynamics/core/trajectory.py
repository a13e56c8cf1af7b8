"""A trajectory: named coordinates over training time, with everything that says how it was made.

Reduced systems and full transformers both end in this type, so that laying one over the other
is a comparison of two equal things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError, unknown

#: Chebyshev–Lobatto nodes kept inside every accepted step; nine nodes follow a step of any of
#: scipy's methods to well below its tolerance, and every second one is again a Lobatto grid.
NODES = 9


def lobatto(n: int) -> np.ndarray:
    """The `n` Chebyshev–Lobatto points on [0, 1], ascending."""
    return 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / (n - 1))


_BARYCENTRIC = np.where(np.arange(NODES) % 2, -1.0, 1.0)
_BARYCENTRIC[[0, -1]] *= 0.5


@dataclass(frozen=True)
class Crossing:
    """One event: `name` crossed its level at time `t` in `direction` (+1 rising, −1 falling)."""

    name: str
    t: float
    direction: int
    state: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Named coordinates against training time.

    Attributes
    ----------
    system : str
        Name of the system or of the full model.
    coordinates : tuple of str, length d
    t : ndarray, shape (n,)
        Reduced training time. For a full model it is step × learning rate / D, so that it is the
        same time as the reduced system's (`time_scale` says by what the model's own time was
        divided).
    z : ndarray, shape (n, d)
        Coordinates at `t`.
    loss : ndarray, shape (n,)
        Loss at `t`. A full model reports its minibatch loss here.
    observables : mapping of str to ndarray of shape (n,)
        Further scalars recorded at `t`, e.g. the attention on the right label, or for a full
        model the norm outside the invariant subspace over the norm inside it.
    crossings : tuple of Crossing
        Every crossing of every event, in order of time.
    event_names : tuple of str
        All events that were watched, those that never happened included.
    parameters, solver, stats, versions : mapping
        How the trajectory was made; scalars and strings only, so that they travel in a file.
    invariants : mapping of str to float
        Largest drift of every first integral along the trajectory.
    loss_rise : float
        Largest amount by which the loss ever rose above an earlier value.
    time_scale : float
        Model's own training time divided by `t` (1 for a reduced system, D for a full model).
    source : str
        Hash of the derivation (reduced) or name of the model code (full).
    message : str
        Why the trajectory ends where it does.
    nodes : ndarray, shape (n - 1, 9, d), or None
        Coordinates at the Chebyshev–Lobatto points of every step, for `at`; None for discrete
        dynamics, where `at` holds the last state reached.
    """

    system: str
    coordinates: tuple[str, ...]
    t: np.ndarray
    z: np.ndarray
    loss: np.ndarray
    parameters: Mapping[str, Any] = field(default_factory=dict)
    observables: Mapping[str, np.ndarray] = field(default_factory=dict)
    crossings: tuple[Crossing, ...] = ()
    event_names: tuple[str, ...] = ()
    solver: Mapping[str, Any] = field(default_factory=dict)
    invariants: Mapping[str, float] = field(default_factory=dict)
    loss_rise: float = 0.0
    stats: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    time_scale: float = 1.0
    source: str = ""
    message: str = ""
    nodes: np.ndarray | None = None

    def __post_init__(self):
        n, d = self.z.shape
        if self.t.shape != (n,) or self.loss.shape != (n,) or len(self.coordinates) != d:
            raise ValueError(
                f"inconsistent trajectory: t {self.t.shape}, z {self.z.shape}, "
                f"loss {self.loss.shape}, {len(self.coordinates)} coordinates"
            )

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, name: str) -> np.ndarray:
        """A coordinate, an observable, ``"t"`` or ``"loss"``, shape (n,)."""
        if name in self.coordinates:
            return self.z[:, self.coordinates.index(name)]
        if name in self.observables:
            return self.observables[name]
        if name == "t":
            return self.t
        if name == "loss":
            return self.loss
        raise unknown("coordinate", name, [*self.coordinates, *self.observables, "t", "loss"])

    @property
    def t_end(self) -> float:
        return float(self.t[-1])

    @property
    def final(self) -> dict[str, float]:
        """The state at `t_end`, by name."""
        return dict(zip(self.coordinates, map(float, self.z[-1]), strict=True))

    @cached_property
    def events(self) -> dict[str, float | None]:
        """Time of the first crossing of every event, None where it never happened."""
        first: dict[str, float | None] = dict.fromkeys(self.event_names)
        for crossing in self.crossings:
            if first.get(crossing.name) is None:
                first[crossing.name] = crossing.t
        return first

    def at(self, t) -> np.ndarray:
        """Coordinates at time(s) `t`.

        Parameters
        ----------
        t : float or array_like of shape (m,)
            Reduced training time, within the trajectory.

        Returns
        -------
        ndarray, shape (d,) or (m, d)
            From the solver's own dense output, kept at nine points a step. For discrete
            dynamics, the state after the last step at or before `t`.

        Raises
        ------
        InputError
            If a time lies outside the trajectory, or between the steps of a flow that was read
            from a file without dense output.
        """
        try:
            times = np.atleast_1d(np.asarray(t, dtype=float))
        except (TypeError, ValueError):
            raise InputError(f"a time must be a number, not {t!r}") from None
        if times.ndim > 1:
            raise InputError(f"times come as one number or as a list, not of shape {times.shape}")
        low, high = self.t[0], self.t[-1]
        slack = 4 * np.finfo(float).eps * max(abs(low), abs(high))
        # A discrete state holds until the next step.
        step = self.solver.get("step", 0.0) if self.nodes is None else 0.0
        bad = ~((times >= low - slack) & (times <= high + max(slack, step * (1.0 - 1e-12))))
        if bad.any():
            raise InputError(
                f"time {times[bad][0]:g} lies outside the trajectory, which runs from {low:g} "
                f"to {high:g}; integrate further with a larger t_end"
            )
        # The time of the n-th discrete step is n * step, rounded.
        reached = times if self.nodes is not None else times + slack
        step = np.clip(np.searchsorted(self.t, reached, side="right") - 1, 0, len(self.t) - 1)
        if self.nodes is None:
            between = np.abs(self.t[step] - times) > slack
            if self.solver.get("dynamics") == "flow" and between.any():
                raise InputError(
                    f"the state at {times[between][0]:g} is not known: this trajectory came "
                    "without dense output, which .csv does not hold; save it as .nc, .npz or "
                    ".json, or ask for its recorded times"
                )
            out = self.z[step]
        else:
            step = np.minimum(step, len(self.t) - 2)
            x = (times - self.t[step]) / (self.t[step + 1] - self.t[step])
            nodes = self.nodes[step]
            # What does not move, such as a clamped coordinate, is not to be rounded either.
            still = (nodes == nodes[:, :1]).all(axis=1)
            out = np.where(still, nodes[:, 0], interpolate(x, nodes))
        return out[0] if np.ndim(t) == 0 else out

    def with_(self, **changes) -> Trajectory:
        """A copy with some attributes replaced."""
        return replace(self, **changes)


def interpolate(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Barycentric interpolation of `values` (m, NODES, d) at relative positions `x` (m,)."""
    difference = x[:, None] - lobatto(NODES)[None, :]
    exact = difference == 0.0
    weights = _BARYCENTRIC / np.where(exact, 1.0, difference)
    hit = exact.any(axis=1)
    weights[hit] = exact[hit]
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("mk,mkd->md", weights, values)
