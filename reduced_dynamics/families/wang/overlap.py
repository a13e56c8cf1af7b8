"""Overlaps of softmax averages of Gaussian tokens by quadrature, and their tables.

`overlap` evaluates Q(a, b) = E[o_a o_b] for N pairs of overlapping keys and values: the integrand
derived in derivations/wang/overlap.py, summed by trapezoids in z = x_L, in log t_a and
log t_b, and in the token x. The token's factor exp(−t_a e^{azx}) exp(−t_b e^{bzx}) is a product,
so all averages over x are matrix products over the grids of t_a and t_b.

`table` holds what the compiled system interpolates (see `derivations.wang.derive.deflated_loss`),
in y = asinh(a/STRETCH), which moves the singularities of Q in the complex plane away from the axis:

    (Q(a, a) − Q*)/(y − y*)   and   E(o_a − o_*)²/(y − y*)²,   Q* = Q(a*, a*),

as Chebyshev series, made once for every N and a* and kept in the cache.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
from numpy.polynomial import chebyshev

from reduced_dynamics.compilation.cache import key, recall, remember
from reduced_dynamics.core.errors import ReducedDynamicsError
from reduced_dynamics.core.identity import identity

log = logging.getLogger(__name__)

#: Every trapezoid sum is carried on until what is left out is e^−DEPTH of it.
DEPTH = 25.0
#: Steps at level 1, for scores of order 1: in z, in log t, and (over the slope) in x.
STEP_Z, STEP_T, STEP_X = 0.24, 0.25, 9.0
#: How much finer the second grid in log t is.
DETUNED = 1.35
#: Exponentials beyond e^CLIP are infinite for every purpose here.
CLIP = 300.0
#: The variable of the tables is asinh(a/STRETCH).
STRETCH = 0.5
#: Tables reach from −BACK to BEYOND a* (or 1 at least). The flow from equal starts stays within
#: 0..a*; as far below 0 as above it, the series would need three times as many terms.
BACK, BEYOND = 0.25, 1.25
#: Size of the last coefficients of the series of Q(a, a) over its least value, and relative
#: distance of a table from a refined quadrature at the points between nodes that are tried.
TAIL, ACCURACY = 1e-9, 1e-8
#: Numbers of Chebyshev nodes that are tried.
SIZES = (17, 25, 33, 41, 49, 57, 65, 81, 97, 129)
#: A table that is not made within so many seconds is announced in the log.
QUIET = 1.0


@cache
def _polynomial() -> Callable[..., np.ndarray]:
    """The derived integrand over A_0^(N−4), as a function of arrays."""
    import sympy as sp

    from derivations.wang import overlap as derived

    order = (derived.N, derived.A0, derived.A1, derived.A2, derived.E_ab)
    order += (derived.E_a, derived.E_b, derived.X_a, derived.X_b)
    return sp.lambdify(order, derived.reduced_integrand(), "numpy")


def overlap(n: int, a: float, b: float, level: float = 1.0) -> float:
    """Q(a, b) for `n` = L − 3 pairs, at least 2; a and b are the score weights of two softmaxes.

    Every step is divided by `level`. At 1 the relative error is about 1e-10 (see `ACCURACY`).

    Source: derived in derivations/wang/overlap.py.
    """
    step = STEP_Z / (level * max(1.0, 1.2 * max(abs(a), abs(b))))
    total, k = 0.0, 0
    while True:
        z = k * step
        # Of what is left after the weight of z, which Q(a, b | z) can outgrow up to 20 N times.
        depth = DEPTH - z * z / 2 + min(max(a * b, 0.0) * z * z, math.log(20 * n))
        if depth <= 0.0:
            return total
        weight = (1 if k == 0 else 2) * step * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        total += weight * _given_z(n, a * z, b * z, min(max(depth, 8.0), DEPTH), level)
        k += 1


def _given_z(n: int, alpha: float, beta: float, depth: float, level: float) -> float:
    """E[o o | z] for scores alpha·x and beta·x, to a relative e^−depth."""
    reach = math.sqrt(2 * (math.log(n) + depth))  # no token is likely to lie beyond
    # The edge of exp(−t e^{αx}) is analytic in a strip of half-width π/2α around the real x.
    steepest = max(abs(alpha), abs(beta), 1e-9)
    step = min(0.6, STEP_X / (steepest * depth)) / level
    half = math.ceil(reach / step)
    x = np.arange(-half, half + 1) * step
    w = np.exp(-x * x / 2) * (step / math.sqrt(2 * math.pi))
    once = (w, w * x, w * x * x)
    t_a, w_a = _logarithms(n, abs(alpha), depth, level, reach)
    power_a = np.exp(np.minimum(t_a[:, None] + alpha * x, CLIP))
    less_a = np.expm1(-power_a)
    f_a = less_a + 1.0
    g_a = power_a * f_a
    if alpha == beta:
        # 1/S² = ∫ t e^{−tS} dt = ∫ t² e^{−tS} d log t: one grid is enough.
        lowered = [less_a @ v for v in once]
        own = [g_a @ w, g_a @ (w * x)]
        averages = ((power_a * g_a) @ w, own[0], own[0], own[1], own[1])
        return float(w_a @ _summed(n, lowered, w @ (x * x), averages))
    # Both sums are over e^{score × largest key}: with steps in proportion to the scores their
    # errors would be in phase and not average out over keys.
    t_b, w_b = _logarithms(n, abs(beta), depth, level * DETUNED, reach)
    power_b = np.exp(np.minimum(t_b + beta * x[:, None], CLIP))
    less_b = np.expm1(-power_b)
    f_b = less_b + 1.0
    g_b = power_b * f_b
    # E[v (f − 1)]: f_a f_b − 1 = (f_a − 1) + (f_b − 1) + (f_a − 1)(f_b − 1).
    lowered = [(less_a @ v)[:, None] + v @ less_b + (less_a * v) @ less_b for v in once]
    averages = ((g_a * w) @ g_b, (g_a * w) @ f_b, (f_a * w) @ g_b)
    averages += ((g_a * (w * x)) @ f_b, (f_a * (w * x)) @ g_b)
    return float(w_a @ _summed(n, lowered, w @ (x * x), averages) @ w_b)


def _summed(n: int, lowered, second: float, averages) -> np.ndarray:
    """The derived integrand, from E[x^k (f − 1)], E[x²] and E_ab, E_a, E_b, X_a, X_b."""
    less = lowered[0]
    # Where A_0 underflows its powers are 0 after all; the floor only keeps them from being 0/0.
    a0 = np.maximum(1.0 + less, 1e-140)
    log_a0 = np.where(less > -0.5, np.log1p(np.maximum(less, -0.9)), np.log(a0))
    rest = _polynomial()(float(n), a0, lowered[1], second + lowered[2], *averages)
    return np.exp((n - 4) * log_a0) * rest


def _logarithms(n: int, slope: float, depth: float, level: float, reach: float):
    """Nodes in log t and their weights for ∫ dt/t: t S is of order 1 between them, and t falls
    double-exponentially to 0 on the left.

    log S ≤ log n + slope·reach. It is no less than slope × (the largest of n tokens, at its least),
    nor, where many tokens are expected beyond some x, than that of half of them at x (Chernoff).
    """
    from scipy.special import log_ndtr, ndtri

    low = -(math.log(n) + slope * reach)
    least = slope * float(ndtri(math.exp(-depth / n)))
    beyond = np.linspace(-2.0, 5.0, 29)
    count = math.log(n) + log_ndtr(-beyond)
    many = count > math.log(8 * depth)
    least = max([least, *(count + slope * beyond - math.log(2.0))[many]])
    high = math.log(depth) + 0.3 - least
    # Averages over tokens are smooth on this scale; the sharper, the more tokens there are.
    width = max(1.0, slope / math.sqrt(1.0 + 0.3 * math.log(n)))
    step = STEP_T * width / level
    k = np.arange(math.floor(-3.4 * width / step), math.ceil((high - low) / step) + 1)
    w, bend = k * step, np.exp(-k * step / width)
    return low + w - width * bend, step * (1.0 + bend)


# ---------------------------------------------------------------- tables


class QuadratureError(ReducedDynamicsError, ArithmeticError):
    """A table did not reach its accuracy."""

    exit_code = 3


@dataclass(frozen=True, eq=False)
class Table:
    """What the exact engine interpolates, for one N and a*.

    `target` is Q(a*, a*). `series`, shape (2, n), holds Chebyshev coefficients, on
    y = asinh(a/STRETCH) for a from −BACK to `reach`, of (Q(a, a) − Q*)/(y − y*) and
    E(o_a − o_*)²/(y − y*)²; `error` is the largest relative difference from a refined quadrature,
    over the points tried.
    """

    a_star: float
    target: float
    reach: float
    series: np.ndarray
    error: float

    @cached_property
    def packed(self) -> np.ndarray:
        """As compiled functions read it: Q*, STRETCH; then size and interval in y, and every series
        with its first two derivatives."""
        size, (low, high) = self.series.shape[1], _ends(self.reach)
        flat = [np.array([self.target, STRETCH, size, low, high])]
        for series in self.series:
            for order in range(3):
                derived = chebyshev.chebder(series, order, scl=2 / (high - low))
                flat.append(np.pad(derived, (0, size - len(derived))))
        return np.concatenate(flat)

    def own(self, a) -> np.ndarray:
        """Q(a, a) at `a`, of any shape."""
        place, away = self._place(a)
        return self.target + away * chebyshev.chebval(place, self.series[0])

    def cross(self, a) -> np.ndarray:
        """Q(a, a*) at `a`, of any shape."""
        place, away = self._place(a)
        distance = away**2 * chebyshev.chebval(place, self.series[1])
        return (self.target + self.own(a) - distance) / 2

    def _place(self, a):
        y, star = np.arcsinh(np.asarray(a) / STRETCH), math.asinh(self.a_star / STRETCH)
        low, high = _ends(self.reach)
        return (2 * y - low - high) / (high - low), y - star


@lru_cache(maxsize=64)
def table(n: int, a_star: float) -> Table:
    """The table for `n` pairs and `a_star`, from the cache or made on the spot.

    Raises
    ------
    QuadratureError
        If no refinement reaches `ACCURACY`.
    """
    name = f"overlap-{key(str(n), float(a_star).hex(), identity(__name__))}"
    kept = recall(name)
    if kept is None:
        made = _made(n, a_star)
        numbers = [made.target, made.reach, made.error, *made.series.ravel()]
        remember(name, np.array(numbers, dtype="<f8").tobytes())
        return made
    target, reach, error, *series = np.frombuffer(kept, dtype="<f8")
    return Table(a_star, float(target), float(reach), np.reshape(series, (2, -1)), float(error))


def _made(n: int, a_star: float) -> Table:
    """A table, refined until a finer quadrature agrees with it."""
    worst, watch = math.inf, _Watch(n, a_star)
    for level in (1.0, 1.4, 2.0):
        made = _interpolated(n, a_star, level, watch)
        # Between the nodes and off any pattern; the flow's own range, 0..a*, most of all.
        trial = np.array([0.0, 0.06, 0.31, 0.77, 1.0]) * a_star
        trial = np.append(trial, [-0.83 * BACK, 0.91 * made.reach])
        finer, error = 1.3 * level, 0.0
        for a in trial:
            watch()
            own, cross = overlap(n, a, a, finer), overlap(n, a, a_star, finer)
            error = max(error, abs(made.own(a) / own - 1), abs(made.cross(a) / cross - 1))
        worst = min(worst, error)
        if error <= ACCURACY:
            watch.end()
            return Table(a_star, made.target, made.reach, made.series, float(error))
    raise QuadratureError(
        f"the overlaps for L = {n + 3}, a* = {a_star:g} were found to {worst:.0e} only, not to "
        f"{ACCURACY:g}; use the asymptotic engine, or a smaller w_star"
    )


class _Watch:
    """Says in the log that a table is being made, once that takes long enough to be noticed."""

    def __init__(self, n: int, a_star: float):
        self.what = f"overlaps for L = {n + 3}, a* = {a_star:g}"
        self.began, self.said = time.monotonic(), False

    def __call__(self) -> None:
        if not self.said and time.monotonic() - self.began > QUIET:
            self.said = True
            log.info("tabulating the %s by quadrature (once; kept in the cache)", self.what)

    def end(self) -> None:
        log.debug("%s: %.2f s", self.what, time.monotonic() - self.began)


def _ends(reach: float) -> tuple[float, float]:
    """The interval of the tables' variable y."""
    return -math.asinh(BACK / STRETCH), math.asinh(reach / STRETCH)


def _interpolated(n: int, a_star: float, level: float, watch: Callable[[], None]) -> Table:
    reach = max(1.0, BEYOND * a_star)
    low, high = _ends(reach)
    half, star = (high - low) / 2, math.asinh(a_star / STRETCH)
    # Q(a, a) takes a matrix product less than Q(a, a*): it decides how many nodes there are.
    for size in SIZES:
        nodes = low + half * (1 + np.cos(math.pi * np.arange(size) / (size - 1)))
        places = STRETCH * np.sinh(nodes)
        own = np.array([overlap(n, a, a, level) for a in places])
        watch()
        found = _coefficients(own)
        if np.abs(found[-3:]).max() <= TAIL * own.min():
            break
    cross = np.empty(size)
    for k, a in enumerate(places):
        cross[k] = overlap(n, a, a_star, level)
        watch()
    x = (star - low) / half - 1
    target = float(chebyshev.chebval(x, found))
    curve = found - 2 * _coefficients(cross)  # the constant Q* does not survive the division
    slopes = _divided(found, x) / half
    curves = _divided(_divided(curve, x), x) / half**2
    series = np.zeros((2, len(slopes)))
    series[0], series[1, : len(curves)] = slopes, curves
    return Table(a_star, target, reach, series, math.nan)


def _coefficients(values: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients from values at cos(πk/(n−1)), along the last axis."""
    n = values.shape[-1]
    even = np.concatenate([values, values[..., -2:0:-1]], axis=-1)
    found = np.fft.rfft(even, axis=-1).real / (n - 1)
    found[..., [0, -1]] /= 2
    return found


def _divided(series: np.ndarray, place: float) -> np.ndarray:
    """The series of (f(x) − f(place))/(x − place), by Clenshaw's recurrence backwards."""
    n = len(series)
    quotient = np.zeros(n + 1)
    for k in range(n - 1, 0, -1):
        quotient[k - 1] = 2 * series[k] + 2 * place * quotient[k] - quotient[k + 1]
    quotient[0] /= 2
    return quotient[: n - 1]
