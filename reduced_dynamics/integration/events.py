"""Locating every crossing of a level inside one step of an integration.

Inside a step the watched quantity is interpolated at Chebyshev–Lobatto nodes. Where the
coefficients prove that the interpolant keeps its sign the step is done; otherwise every root of the
interpolant in the step is found, so that a pair of crossings within one step is not missed, and
each is polished on the solver's own dense output.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.polynomial import chebyshev
from scipy.optimize import brentq

from reduced_dynamics.core.trajectory import lobatto

#: Part of the variation that the last two Chebyshev coefficients may carry.
SMOOTH = 0.05
#: How many times its own variation away from 0 a quantity is out of reach.
FAR = 4.0
#: How often a step is halved at most.
DEPTH = 12
#: Places between the nodes at which the interpolant is compared with what is watched.
CHECKED = (0.3137, 0.7251)


@cache
def _to_coefficients(n: int) -> np.ndarray:
    """Matrix from values at the n Lobatto points (ascending) to Chebyshev coefficients."""
    x = 2.0 * lobatto(n) - 1.0
    return np.linalg.inv(chebyshev.chebvander(x, n - 1))


def may_cross(values: np.ndarray) -> np.ndarray:
    """Which columns of `values` (nodes, events) may have a root within the step.

    The constant Chebyshev coefficient outweighing all others together proves there is none; by
    more than rounding errors, or what is 0 at the very end of a step would be dismissed.
    """
    coefficients = np.abs(_to_coefficients(len(values)) @ values)
    total = coefficients.sum(axis=0)
    return ~(2.0 * coefficients[0] - total > 1e-13 * total)


def resolved(values: np.ndarray) -> np.ndarray:
    """Which columns of `values` (nodes, events) are smooth enough to trust an interpolant.

    The last two coefficients must carry little of the variation; a quantity that swings within
    the step, while the state moves smoothly, must be looked at in parts. One that varies by much
    less than its distance from 0 cannot cross, however rough (rounding is) its variation.
    """
    size = np.abs(_to_coefficients(len(values)) @ values)
    variation = size[1:].sum(axis=0)
    return (size[-2:].sum(axis=0) <= SMOOTH * variation) | (FAR * variation < size[0])


def search(
    values: np.ndarray, function: Callable[[float], float], low=0.0, high=1.0, depth=DEPTH
) -> list[tuple[float, int]]:
    """`roots` on [low, high] within a step, halving it until the quantity is resolved.

    What passes between the nine points at which a step is first looked at, a spike narrower than
    a tenth of a step, cannot be seen from there; a smaller `max_step` makes it visible.
    """
    if depth and not (resolved(values[:, None])[0] and _fits(values, function, low, high)):
        middle, nodes = 0.5 * (low + high), lobatto(len(values))
        found = []
        for a, b in ((low, middle), (middle, high)):
            part = np.array([function(a + (b - a) * x) for x in nodes])
            found += search(part, function, a, b, depth - 1)
        return found
    if not may_cross(values[:, None])[0]:
        return []
    inner = roots(values, lambda x: function(low + (high - low) * x))
    return [(low + (high - low) * x, direction) for x, direction in inner]


def _fits(values: np.ndarray, function: Callable[[float], float], low: float, high: float) -> bool:
    """Whether the interpolant is what is watched between the nodes, too.

    Nodes may happen to look smooth on what swings between them. Where the quantity is out of reach
    by far, or varies by its rounding only, there is nothing to compare.
    """
    coefficients = _to_coefficients(len(values)) @ values
    variation = np.abs(coefficients[1:]).sum()
    if FAR * variation < abs(coefficients[0]):
        return True
    return all(
        abs(chebyshev.chebval(2.0 * x - 1.0, coefficients) - function(low + (high - low) * x))
        <= SMOOTH * variation
        for x in CHECKED
    )


def roots(values: np.ndarray, function: Callable[[float], float]) -> list[tuple[float, int]]:
    """All sign changes within one step.

    Parameters
    ----------
    values : ndarray, shape (nodes,)
        The watched quantity minus its level at the Lobatto points of the step.
    function : callable
        The same quantity at any relative position in [0, 1].

    Returns
    -------
    list of (position, direction)
        Relative positions in ascending order, with +1 for rising and −1 for falling. What touches
        0 within the step has not crossed; what is 0 at its end has, and what is 0 at its start
        has done so in the step before.
    """
    n = len(values)
    nodes = lobatto(n)
    coefficients = _to_coefficients(n) @ values
    scale = np.abs(coefficients).max()
    kept = np.nonzero(np.abs(coefficients) > 1e-14 * scale)[0] if scale > 0 else []
    marks = list(nodes)
    if len(kept) and kept[-1] > 0:
        found = chebyshev.chebroots(coefficients[: kept[-1] + 1])
        real = 0.5 + 0.5 * found[np.abs(found.imag) < 1e-6].real
        inside = np.array([0.0, *np.sort(real[(real > 0.0) & (real < 1.0)]), 1.0])
        # Between two neighbouring roots of the interpolant lies a point of definite sign.
        marks += list(0.5 * (inside[1:] + inside[:-1]))
    marks = np.unique(marks)
    known = dict(zip(nodes, values, strict=True))
    signs = [(x, known[x] if x in known else function(x)) for x in marks]
    result = []
    previous, zero = None, None  # the last point of definite sign, and a zero met since
    for x, g in signs:
        if g == 0.0:
            zero = x if zero is None else zero
        elif previous is not None and (g > 0.0) != (previous[1] > 0.0):
            root = _polish(function, values, previous[0], x) if zero is None else float(zero)
            result.append((root, 1 if g > 0.0 else -1))
        if g != 0.0:
            previous, zero = (x, g), None
    if zero is not None and previous is not None:
        result.append((float(zero), -1 if previous[1] > 0.0 else 1))
    return result


def _polish(function: Callable[[float], float], values: np.ndarray, low: float, high: float):
    """The root between `low` and `high`, on `function` or, failing a sign change, its values."""
    coefficients = _to_coefficients(len(values)) @ values
    for g in (function, lambda x: chebyshev.chebval(2.0 * x - 1.0, coefficients)):
        if g(low) * g(high) < 0.0:
            return float(brentq(g, low, high, xtol=1e-15, rtol=1e-14))
    # Rounding decides the sign at one end: the root is there.
    return float(low if abs(function(low)) < abs(function(high)) else high)
