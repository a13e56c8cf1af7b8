"""Fixed points of a reduced flow, and what the flow does beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reduced_dynamics.analysis.vector_field import VectorField
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.system import ReducedSystem

#: More starting points than anybody waits for.
MOST_TRIES = 100_000
#: What is left of the rate at a fixed point, against (size of the Jacobian) × (size of the state).
RESIDUAL = 1e-10
#: Newton's step at a fixed point is shorter than this. In a slow valley that leads to infinity the
#: rate vanishes as well, but the step along it is long.
STEP = 1e-6
#: Below this part of the largest one, a singular value or a rate is rounding.
ROUNDING = 1e-13
#: An eigenvalue below this part of the largest one is taken for zero, as rounding leaves it.
ZERO = 1e-12
#: Newton's steps from where the search ends: at a root of higher order they converge linearly.
POLISH = 200


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """A state that does not move.

    Attributes
    ----------
    state : dict of str to float
    loss : float
    eigenvalues : ndarray, shape (free coordinates,)
        Of the Jacobian, largest real part first, in 1/(reduced training time).
    residual : float
        Largest component of dz/dt at the state, in size.
    """

    state: dict[str, float]
    loss: float
    eigenvalues: np.ndarray
    residual: float

    @property
    def unstable(self) -> int:
        """How many directions grow."""
        return int((self.eigenvalues.real > self._zero).sum())

    @property
    def neutral(self) -> int:
        """How many directions neither grow nor decay to first order: of a continuum, or slow."""
        return int((np.abs(self.eigenvalues.real) <= self._zero).sum())

    @property
    def kind(self) -> str:
        """``"stable"``, ``"saddle"`` or ``"unstable"``, with ``", degenerate"`` if neutral."""
        decaying = len(self.eigenvalues) - self.unstable - self.neutral
        if self.unstable:
            name = "saddle" if decaying else "unstable"
        else:
            name = "stable" if decaying else "neutral"
        return name + (", degenerate" if self.neutral and name != "neutral" else "")

    @property
    def _zero(self) -> float:
        return ZERO * float(np.abs(self.eigenvalues).max(initial=0.0))


def fixed_points(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    within: Mapping[str, tuple[float, float]] | None = None,
    hold: Mapping[str, float] | None = None,
    tries: int = 64,
    seed: int = 0,
) -> list[FixedPoint]:
    """Fixed points of a reduced flow inside a box, lowest loss first.

    From the system's start and from points spread over the box (a scrambled Sobol sequence), the
    squared rate is minimised with the derived Jacobian; what ends with a vanishing rate is kept.
    Nothing proves that these are all: raise `tries` and see whether more appear. Points where the
    system's equations do not hold, as `integrate` would refuse them, are left out.

    Parameters
    ----------
    system : ReducedSystem
    within : mapping of str to (low, high)
        The box, by coordinate; −3 to 3 for the rest.
    hold : mapping of str to float
        Coordinates held fixed; the others then need not be at rest with them.
    tries, seed : int
        How many starting points, and which.

    Raises
    ------
    InputError
        For unknown names, an empty box, or tries below 1.
    """
    from scipy.optimize import least_squares
    from scipy.stats import qmc

    if not isinstance(tries, int) or not 1 <= tries <= MOST_TRIES:
        raise InputError(f"tries = {tries} must be a whole number in 1 .. {MOST_TRIES}")
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed = {seed} must be a whole number, at least 0")
    field = VectorField(system, parameters, hold)
    low, high = _box(field, within or {})
    free = field.free
    sample = qmc.Sobol(len(free), seed=seed).random_base2(int(np.ceil(np.log2(tries + 1))))[:tries]
    starts = [field.origin[free], *(low + (high - low) * sample)]
    found: list[FixedPoint] = []
    for start in starts:
        start = np.clip(start, low + 1e-9 * (high - low), high - 1e-9 * (high - low))

        def residual(x):
            return np.nan_to_num(field.rate(_at(field, x))[free], nan=1e30, posinf=1e30)

        def slope(x):
            return np.nan_to_num(field.jacobian(_at(field, x))[np.ix_(free, free)])

        with np.errstate(all="ignore"):
            end = least_squares(
                residual, start, jac=slope, bounds=(low, high), xtol=1e-15, ftol=1e-15,
                gtol=1e-15, max_nfev=400, x_scale="jac",
            )  # fmt: skip
            point = _point(field, _polish(field, end.x, low, high))
        if point is not None and not any(_same(point, other) for other in found):
            found.append(point)
    return sorted(found, key=lambda p: p.loss)


def _at(field: VectorField, x: np.ndarray) -> np.ndarray:
    z = field.origin.copy()
    z[field.free] = x
    return z


def _box(field: VectorField, within: Mapping[str, tuple[float, float]]):
    low, high = np.full(len(field.names), -3.0), np.full(len(field.names), 3.0)
    for name, bounds in within.items():
        k = field.index(name)
        if k not in field.free:
            raise InputError(f"{name} is held, so it has no range; drop one of the two")
        try:
            below, above = bounds
        except (TypeError, ValueError):
            raise InputError(f"the range of {name} is (low, high), not {bounds!r}") from None
        low[k], high[k] = field.system.place(name, below), field.system.place(name, above)
        if not low[k] < high[k]:
            raise InputError(f"the box is empty in {name}: {low[k]:g} is not below {high[k]:g}")
    return low[field.free], high[field.free]


def _polish(field: VectorField, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A few Newton steps of least norm, kept while they make the rate smaller; what is then
    rounding beside 1 becomes 0 where that is at rest, so that no processor shows."""
    free = field.free
    best = np.abs(field.rate(_at(field, x))).max()
    for _ in range(POLISH):
        matrix = field.jacobian(_at(field, x))[np.ix_(free, free)]
        if not np.isfinite(matrix).all():
            break
        step = np.linalg.lstsq(matrix, field.rate(_at(field, x))[free], rcond=1e-14)[0]
        trial = np.clip(x - step, low, high)
        reached = np.abs(field.rate(_at(field, trial))).max()
        if not reached < best:
            break
        x, best = trial, reached
    rounded = np.where(np.abs(x) <= ROUNDING * np.abs(x).max(initial=1.0), 0.0, x).clip(low, high)
    return rounded if np.abs(field.rate(_at(field, rounded))).max() <= best else x


def _point(field: VectorField, x: np.ndarray) -> FixedPoint | None:
    z = _at(field, x)
    if field.outside(z):
        return None
    rate, jacobian = np.abs(field.rate(z)).max(), field.jacobian(z)
    size = np.abs(jacobian).max() * max(1.0, np.abs(z).max())
    if not (np.isfinite(rate) and np.isfinite(jacobian).all() and rate <= RESIDUAL * size):
        return None
    if _newton_step(field, z) > STEP * max(1.0, np.abs(z).max()):
        return None
    return FixedPoint(
        state=dict(zip(field.names, map(float, z), strict=True)),
        loss=float(field.table(z[None])[0, 0]),
        eigenvalues=field.spectrum(z),
        residual=float(rate),
    )


def _newton_step(field: VectorField, z: np.ndarray) -> float:
    """Longest component of Newton's step; along a continuum of fixed points there is none."""
    free = field.free
    left, values, _ = np.linalg.svd(field.jacobian(z)[np.ix_(free, free)])
    along = left.T @ field.rate(z)[free]
    rounding = ROUNDING * values.max(initial=0.0)
    moving = (values > rounding) | (np.abs(along) > rounding * max(1.0, np.abs(z).max()))
    with np.errstate(divide="ignore"):
        step = np.where(moving, along / values, 0.0)
    return float(np.abs(step).max(initial=0.0))


def _same(a: FixedPoint, b: FixedPoint) -> bool:
    x, y = np.array([*a.state.values()]), np.array([*b.state.values()])
    return bool(np.abs(x - y).max() <= 1e-5 * max(1.0, np.abs(x).max()))
