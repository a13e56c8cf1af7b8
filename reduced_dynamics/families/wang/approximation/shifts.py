"""Heads that copy the tokens before: one for Theorem 3.1, H that share their slopes for 3.3.

Theorem 3.3 needs x_{s−1}, …, x_{s−n+1} at every position s: for each i < n coefficients c with
Σ_h c_h κ_h ≈ δ_i and Σ_h |c_h| ≤ B. For given slopes `combination` finds them; the slopes are
searched for here. What is known beforehand (tested, not used):

- H < n − 1: the largest of the n − 1 errors is 1, whatever slopes, coefficients and kind. Some
  y ≠ 0 on lags 1..n−1 is orthogonal to all H kernels; where |y_i| is largest, pairing with
  y / |y_i| shows ‖Σ_h c_h κ_h − δ_i‖₁ ≥ 1. And c = 0 attains it.
- H ≥ n − 1 with decays e^{−β_h} = η a_h: finite differences at 0 give δ_i with error O(η^{H−i+1})
  and Σ|c| = O(η^{−(i−1)}). So *without* a bound n − 1 heads do, to any accuracy; with the bound B
  the error goes as B^{−(H−i+1)/(i−1)}, exponentially in H, until it meets a floor.
- The floor: no number of heads makes the error 0 for i ≥ 2 at finite B, since a measure on decays
  whose moments are those of δ_i would have to sit at 0 alone.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.wang.approximation.combination import Combination, System, combine
from reduced_dynamics.families.wang.approximation.kernels import (
    endless,
    error,
    error_everywhere,
    kernel,
)

#: Slopes: the steepest leaves e⁻⁴⁰ (or 2⁻⁴⁰) at the next lag.
STEEPEST, FLATTEST = 40.0, 0.02
#: Lags that the linear program tells apart; the mass beyond is counted in full.
LAGS = 300
#: Errors below this are the linear program's rounding; a search that gets there stops.
ROUNDING = 1e-8


@dataclass(frozen=True)
class Shifts:
    """Heads that copy x_{s−1}, …, x_{s−n+1}.

    Attributes
    ----------
    kind : str
    slopes : ndarray, shape (H,)
    coefficients : ndarray, shape (n − 1, H)
        Row i − 1 makes the shift by i.
    errors, lower : ndarray, shape (n − 1,)
        ℓ₁ errors reached with these slopes, and what no coefficients within the bound can beat.
    """

    kind: str
    slopes: np.ndarray
    coefficients: np.ndarray
    errors: np.ndarray
    lower: np.ndarray

    @property
    def n(self) -> int:
        return len(self.coefficients) + 1

    @property
    def error(self) -> float:
        """The largest of the errors."""
        return float(self.errors.max())

    @property
    def size(self) -> float:
        """The largest Σ_h |c_{i,h}|."""
        return float(np.abs(self.coefficients).sum(axis=1).max())

    def error_over(self, S: int) -> float:
        """The largest error over the S tokens that a position near the start sees, S ≥ n − 1."""
        rows = enumerate(self.coefficients, start=1)
        return max(error(self.kind, self.slopes, c, i, S) for i, c in rows)


def copy(kind: str, p: float, S: int | None = None) -> Shifts:
    """One head that copies the previous token (Theorem 3.1).

    Its error is 2(1 − κ(1)), over S tokens, or without S over all lags. The polynomial kind has no
    limit for p ≤ 1 and needs S.
    """
    if S is None:
        if kind != "exponential":
            raise InputError("the polynomial kernel has no limit over all lags; give it S")
        wrong = 2.0 * np.exp(-p)
    else:
        wrong = 2.0 * kernel(kind, np.array([p]), S)[1:].sum()
    one = np.ones((1, 1))
    return Shifts(kind, np.array([float(p)]), one, np.array([wrong]), np.zeros(1))


def fit(
    kind: str,
    n: int,
    H: int,
    bound: float,
    lengths: tuple[int, ...] | None = None,
    slopes: np.ndarray | None = None,
    start: np.ndarray | None = None,
) -> Shifts:
    """Slopes and coefficients of H heads for the shifts by 1..n−1.

    Parameters
    ----------
    kind : {"exponential", "polynomial"}
    n, H : int
    bound : float
        Of Σ_h |c_{i,h}|, for every i.
    lengths : tuple of int, optional
        The numbers S of tokens over which the largest error counts. Without it all lags, for the
        exponential kind, which serves every S ≥ i (`kernels`); the polynomial kind needs it.
    slopes : ndarray, shape (H,), optional
        By default searched for. First the decays e^{−β} (2^{−p} of the polynomial kind) are
        t sin(π s^q/2), s = h/(H−1), with the best t and q; then each slope for itself.
    start : ndarray, shape (at most H,), optional
        Slopes of fewer heads that the search tries too, with more put into their widest gaps: the
        result is never worse than theirs.

    Raises
    ------
    InputError
        For sizes out of range, or a polynomial kernel without lengths.
    """
    if n < 2 or H < 1 or not bound > 0:
        raise InputError(f"a fit needs n ≥ 2, H ≥ 1 and bound > 0, not {n}, {H} and {bound:g}")
    if lengths is None and kind != "exponential":
        raise InputError("the polynomial kernel has no limit over all lags; give it lengths")
    if lengths is not None and min(lengths) < n - 1:
        raise InputError(f"a shift by {n - 1} needs at least {n - 1} tokens, not {min(lengths)}")

    def solve(slopes: np.ndarray) -> tuple[Shifts, np.ndarray]:
        """The shifts, and the derivative of their largest error by the slopes."""
        systems = _systems(kind, slopes, lengths)
        found = [combine(systems, i, bound) for i in range(1, n)]
        c, errors, lower, _ = zip(*found, strict=True)
        shifts = Shifts(kind, slopes, np.array(c), np.array(errors), np.array(lower))
        worst = max(found, key=lambda one: one.error)
        return shifts, _derivative(kind, slopes, systems, worst, lengths)

    if slopes is not None:
        found, _ = solve(np.asarray(slopes, float))
    elif n - 1 > H:  # the error is 1 with any slopes
        found, _ = solve(_spread(kind, H, 0.5, 1.0))
    else:
        shapes = [_widened(start, H)] if start is not None and len(start) >= n - 1 else []
        found = _search(solve, lambda t, q: _spread(kind, H, t, q), shapes)
    return replace(found, errors=_errors(found, lengths))


def floor(n: int, bound: float) -> float:
    """The error of the exponential kind that no number of heads beats, nearly.

    The lower bound of the dual program over 151 slopes at once; slopes between them can reach a
    little less (a per cent or so), but never 0.
    """
    decays = np.concatenate([[np.exp(-STEEPEST)], np.geomspace(1e-4, 0.97, 150)])
    systems = [endless(-np.log(decays), LAGS)]
    return max(combine(systems, i, bound).lower for i in range(1, n))


def _errors(found: Shifts, lengths) -> np.ndarray:
    """Those of the coefficients, without the rounding of the sums that the search compares."""
    kind, slopes, rows = found.kind, found.slopes, enumerate(found.coefficients, start=1)
    if lengths is None:
        K = _lags(slopes)
        return np.array([error_everywhere(slopes, c, i, K) for i, c in rows])
    return np.array([max(error(kind, slopes, c, i, S) for S in lengths) for i, c in rows])


def _lags(slopes) -> int:
    """Enough that what lies beyond is far below the smallest error of interest."""
    return int(np.clip(np.ceil(35 / slopes.min()), 30, LAGS))


def _systems(kind, slopes, lengths, lags: int | None = None) -> list[System]:
    if lengths is not None:
        nothing = np.zeros(len(slopes))
        return [(kernel(kind, slopes, S), nothing) for S in lengths]
    return [endless(slopes, lags or _lags(slopes))]


def _derivative(kind, slopes, systems, worst: Combination, lengths) -> np.ndarray:
    """Of the error by the slopes: −c_h Σ_k y_k ∂κ_h(k), with c and y at their best (envelope)."""
    step = 1e-6 * slopes
    moved = _systems(kind, slopes + step, lengths, lags=len(systems[0][0]))
    change = np.zeros(len(slopes))
    for y, after, before in zip(worst.witness, moved, systems, strict=True):
        change += y @ (after[0] - before[0])
        change -= np.sign(worst.coefficients) * (after[1] - before[1])
    return -worst.coefficients * change / step


def _spread(kind, H, top, power) -> np.ndarray:
    s = np.linspace(0.0, 1.0, H) if H > 1 else np.ones(1)
    with np.errstate(divide="ignore"):
        slopes = -np.log(top * np.sin(np.pi / 2 * s**power))
    return np.minimum(slopes / (1.0 if kind == "exponential" else np.log(2.0)), STEEPEST)


def _widened(slopes, H) -> np.ndarray:
    """More slopes, each in the middle of the widest gap on a logarithmic scale."""
    found = np.sort(np.asarray(slopes, float))
    while len(found) < H:
        ends = np.log(np.concatenate([[found[0] / 2], found, [2 * found[-1]]]))
        gap = int(np.argmax(np.diff(ends)))
        found = np.sort(np.append(found, np.exp((ends[gap] + ends[gap + 1]) / 2)))
    return np.clip(found, FLATTEST, STEEPEST)


def _search(solve, spread, others) -> Shifts:
    """The best of `solve`: a coarse grid over `spread`, Nelder and Mead in it, then L-BFGS."""
    best: list[Shifts] = []

    def tried(slopes: np.ndarray) -> tuple[float, np.ndarray]:
        """The logarithm of the error and its gradient by the logarithm of the slopes."""
        if best and best[0].error < ROUNDING:
            return np.log(ROUNDING), np.zeros(len(slopes))
        found, derivative = solve(slopes)
        if not best or found.error < best[0].error:
            best[:] = [found]
        scale = max(found.error, ROUNDING)
        return np.log(scale), derivative * slopes / scale

    def by_shape(point) -> float:
        top = 0.97 / (1 + np.exp(-point[0]))
        return tried(spread(top, np.exp(np.clip(point[1], -1.0, 1.5))))[0]

    grid = [(a, b) for a in np.linspace(-5.5, 3.0, 9) for b in (0.0, 0.4, 0.8)]
    start = grid[int(np.argmin([by_shape(point) for point in grid]))]
    simplex = np.array([start, (start[0] + 0.5, start[1]), (start[0], start[1] + 0.3)])
    minimize(by_shape, start, method="Nelder-Mead",
             options={"maxfev": 20, "initial_simplex": simplex})  # fmt: skip
    for slopes in others:
        tried(slopes)
    within = [(np.log(FLATTEST), np.log(STEEPEST))] * len(best[0].slopes)
    minimize(lambda z: tried(np.exp(z)), np.log(best[0].slopes), jac=True, method="L-BFGS-B",
             bounds=within, options={"maxfun": 40})  # fmt: skip
    return best[0]
