"""Two-dimensional slices of a reduced flow: arrows, nullclines, loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reduced_dynamics.analysis.vector_field import VectorField
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.system import ReducedSystem

#: Points along an axis, at most.
MOST = 2000


@dataclass(frozen=True, eq=False)
class Plane:
    """A slice through the state space along two coordinates.

    Attributes
    ----------
    system : str
    names : (str, str)
        The coordinates along x and y.
    x, y : ndarrays, shapes (nx,) and (ny,)
    u, v : ndarrays, shape (ny, nx)
        Their rates, dx/dt and dy/dt; zero lines of them are the nullclines.
    loss : ndarray, shape (ny, nx)
        All three are nan where the equations do not hold, as `integrate` would refuse it.
    across : ndarray, shape (ny, nx)
        Norm of the rates of the other coordinates over the norm of all: how much of the flow
        leaves the slice, 0 where the slice is invariant.
    others : dict of str to float
        Where the other coordinates are.
    parameters : dict
    """

    system: str
    names: tuple[str, str]
    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    loss: np.ndarray
    across: np.ndarray
    others: dict[str, float]
    parameters: dict[str, Any]

    @property
    def at_rest(self) -> bool:
        """Whether neither coordinate moves anywhere on the slice."""
        return not (np.nan_to_num(self.u).any() or np.nan_to_num(self.v).any())


def plane(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    x: tuple[str, float, float],
    y: tuple[str, float, float],
    at: Mapping[str, float] | None = None,
    points: int = 61,
) -> Plane:
    """The flow on a slice along two coordinates.

    Parameters
    ----------
    system : ReducedSystem
    x, y : (name, low, high)
        The coordinates of the slice and their ranges.
    at : mapping of str to float
        Where the others are; where the system starts, if not said.
    points : int
        Grid points along each axis.

    Raises
    ------
    InputError
        For unknown names, empty ranges, the same coordinate twice, or one that is in `at` too.
    """
    field = VectorField(system, parameters)
    try:
        (x_name, *x_range), (y_name, *y_range) = x, y
        (_, _), (_, _) = x_range, y_range
    except (TypeError, ValueError):
        raise InputError("an axis of a plane is (name, low, high)") from None
    if x_name == y_name:
        raise InputError(f"a plane needs two different coordinates, not {x_name} twice")
    if not isinstance(points, int) or not 2 <= points <= MOST:
        raise InputError(f"points = {points} must be a whole number in 2 .. {MOST}")
    i, j = field.index(x_name), field.index(y_name)
    for name in (x_name, y_name):
        if name in (at or {}):
            raise InputError(f"{name} spans the plane; it has no single value")
    axes = [_axis(field, name, *r, points) for name, r in ((x_name, x_range), (y_name, y_range))]
    base = field.state(at)
    states = np.tile(base, (points * points, 1))
    states[:, i] = np.tile(axes[0], points)
    states[:, j] = np.repeat(axes[1], points)
    with np.errstate(all="ignore"):
        rates = np.array([field.rate(z) for z in states])
        loss = field.table(states)[:, 0]
        outside = np.array([bool(field.outside(z)) for z in states])
        rates[outside], loss[outside] = np.nan, np.nan
        others = np.delete(rates, [i, j], axis=1)
        across = np.linalg.norm(others, axis=1) / np.linalg.norm(rates, axis=1)
    shape = (points, points)
    return Plane(
        system=field.system.name,
        names=(x_name, y_name),
        x=axes[0],
        y=axes[1],
        u=rates[:, i].reshape(shape),
        v=rates[:, j].reshape(shape),
        loss=loss.reshape(shape),
        across=across.reshape(shape),
        others={n: float(base[k]) for k, n in enumerate(field.names) if k not in (i, j)},
        parameters=dict(field.values),
    )


def _axis(field: VectorField, name: str, low: float, high: float, points: int) -> np.ndarray:
    low, high = field.system.place(name, low), field.system.place(name, high)
    if not low < high:
        raise InputError(f"the range of {name} is empty: {low:g} is not below {high:g}")
    return np.linspace(low, high, points)
