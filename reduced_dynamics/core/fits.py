"""Power laws and straight lines through measured points, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reduced_dynamics.core.errors import InputError


@dataclass(frozen=True, eq=False)
class Fit:
    """A straight line through points, by least squares.

    Attributes
    ----------
    slope, intercept : float
        Of y against x, or of log y against log x for a power law (its exponent, log of its factor).
    standard_error : float
        Of the slope; nan for two points, which fix the line.
    interval : tuple of float
        Confidence interval of the slope, from Student's t; (-inf, inf) for two points.
    level : float
        Of the confidence interval.
    residual : float
        Root mean square of what the line leaves.
    local : ndarray, shape (n - 1,)
        Slope between neighbouring points; for a curve that only tends to a line they say more than
        the interval, which takes its bend for scatter.
    """

    slope: float
    intercept: float
    standard_error: float
    interval: tuple[float, float]
    level: float
    residual: float
    local: np.ndarray


def line(x: Sequence[float], y: Sequence[float], level: float = 0.95) -> Fit:
    """The straight line through (x, y).

    Parameters
    ----------
    x, y : sequence of float, length n >= 2
    level : float
        Confidence of the slope's interval, between 0 and 1.

    Raises
    ------
    InputError
        If there are fewer than two different x, the lengths differ, or something is not finite.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("a fit needs as many finite x as y; drop points that were not reached")
    if len(np.unique(x)) < 2:
        raise InputError("a fit needs at least two different values; give more of them")
    if not 0.0 < level < 1.0:
        raise InputError(f"a confidence level lies between 0 and 1, not at {level:g}")
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    centred = x - x.mean()
    spread = centred @ centred
    slope = centred @ (y - y.mean()) / spread
    intercept = y.mean() - slope * x.mean()
    left = y - (intercept + slope * x)
    freedom = len(x) - 2
    error, half = np.nan, np.inf
    if freedom > 0:
        from scipy.stats import t

        error = np.sqrt(left @ left / freedom / spread)
        half = t.ppf(0.5 + level / 2, freedom) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        local = np.diff(y) / np.diff(x)
    return Fit(
        slope=float(slope),
        intercept=float(intercept),
        standard_error=float(error),
        interval=(float(slope - half), float(slope + half)),
        level=level,
        residual=float(np.sqrt(left @ left / len(x))),
        local=local,
    )


def power_law(x: Sequence[float], y: Sequence[float], level: float = 0.95) -> Fit:
    """The power law y = e^intercept · x^slope, as a line through the logarithms; see `line`.

    Raises
    ------
    InputError
        As `line`, and if something is not positive.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not ((x > 0).all() and (y > 0).all()):
        raise InputError("a power law needs positive numbers; drop points that were not reached")
    return line(np.log(x), np.log(y), level)
