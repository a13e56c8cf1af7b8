"""Where a watched quantity crosses its level within a step, by its dense output.

Part of generated modules, as `kernel` is; `interface` says what a system brings.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev

from reduced_dynamics.integration.rosenbrock.interface import SIZE, values
from reduced_dynamics.integration.rosenbrock.step import inlined, lean, place

# ---- what follows becomes part of the generated module

#: A watched value whose variation, seen at three points of the step, times this is less than its
#: distance from the level is out of reach.
REMOTE = 20.0
#: The third of these points: not the middle, since steps of equal length may be in step with what
#: oscillates.
INSIDE = 0.4142135623730951
#: Nodes of the interpolant of a watched quantity; the part of the variation that its last two
#: Chebyshev coefficients may carry; how many times its variation away from 0 it is out of reach.
NODES, SMOOTH, FAR = 9, 0.05, 4.0
#: Places between the nodes at which the interpolant is compared with what is watched.
CHECKED = (0.3137, 0.7251)
#: How often a step is halved to resolve what is watched, and how often to separate its roots; how
#: many parts of a step are looked at; how many crossings a step may hold.
DEPTH, DEEPEST, PARTS, MOST = 12, 40, 20_000, 256

PLACES = 0.5 - 0.5 * np.cos(np.pi * np.arange(NODES) / (NODES - 1))
TO_COEFFICIENTS = np.linalg.inv(chebyshev.chebvander(2.0 * PLACES - 1.0, NODES - 1))


@inlined
def out_of_reach(z, after, inner, level, k):
    """Whether coordinate k keeps away from a level: its Bernstein coefficients have one sign."""
    first, last = z[k] - level, after[k] - level
    c1 = after[k] - z[k] + inner[0, k]
    c2, c3 = inner[1, k] - inner[0, k], inner[2, k] - inner[1, k]
    b1 = first + c1 / 4.0
    b2 = first + c1 / 2.0 + c2 / 6.0
    b3 = first + 0.75 * c1 + c2 / 2.0 + c3 / 4.0
    low = min(min(first, last), min(b1, min(b2, b3)))
    high = max(max(first, last), max(b1, max(b2, b3)))
    return low > 0.0 or high < 0.0


@lean
def watched(x, what, level, z, after, inner, par, state, out):
    """A watched quantity minus its level at x in [0, 1] within the step."""
    place(x, z, after, inner, state)
    if what < SIZE:
        return state[what] - level
    values(state, par, out)
    return out[what - SIZE] - level


@lean
def polish(low, high, at_low, at_high, what, level, z, after, inner, par, state, out):
    """The root between two places of opposite sign, by Chandrupatla's method."""
    a, b, c = high, low, low
    fa, fb, fc = at_high, at_low, at_low
    t = 0.5
    for _ in range(80):
        x = a + t * (b - a)
        fx = watched(x, what, level, z, after, inner, par, state, out)
        if (fx > 0.0) == (fa > 0.0):
            c, fc = a, fa
        else:
            c, b, fc, fb = b, a, fb, fa
        a, fa = x, fx
        best = a if abs(fa) < abs(fb) else b
        tolerance = 2e-16 * abs(best) + 1e-17
        limit = tolerance / abs(b - a)
        if limit > 0.5 or fa == 0.0:
            return a if fa == 0.0 else best
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        if phi * phi < xi and (1.0 - phi) * (1.0 - phi) < 1.0 - xi:
            t = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (
                fc - fb
            )
            t = min(max(t, limit), 1.0 - limit)
        else:
            t = 0.5
    return best


@lean
def examine(node, coefficients):
    """What nodes of an interpolant tell: 0 out of reach, 1 monotone or without root, 2 look closer,
    3 unresolved; its Chebyshev coefficients into `coefficients`."""
    variation = 0.0
    for j in range(NODES):
        total = 0.0
        for k in range(NODES):
            total += TO_COEFFICIENTS[j, k] * node[k]
        coefficients[j] = total
        if j > 0:
            variation += abs(total)
    size = abs(coefficients[0])
    if FAR * variation < size:
        return 0
    tail = abs(coefficients[NODES - 1]) + abs(coefficients[NODES - 2])
    if tail > SMOOTH * variation:
        return 3
    if size - variation > 1e-13 * (size + variation):
        return 1
    # The derivative's coefficients, by the usual recurrence.
    ahead, here, constant, others = 0.0, 0.0, 0.0, 0.0
    for j in range(NODES - 1, 0, -1):
        value = ahead + 2.0 * j * coefficients[j]
        ahead, here = here, value
        if j == 1:
            constant = 0.5 * value
        else:
            others += abs(value)
    return 1 if abs(constant) > others else 2


@lean
def misses(x, value, coefficients):
    """Whether the interpolant is not the watched quantity at x in [0, 1], where that has `value`.

    Nodes may happen to look smooth on what swings between them.
    """
    y, ahead, here, variation = 2.0 * x - 1.0, 0.0, 0.0, 0.0
    for j in range(NODES - 1, 0, -1):
        here, ahead = coefficients[j] + 2.0 * y * here - ahead, here
        variation += abs(coefficients[j])
    return abs(coefficients[0] + y * here - ahead - value) > SMOOTH * variation


@lean
def search(what, level, first, last, z, after, inner, par, state, out, found, signs, count, room):
    """All sign changes of a watched quantity within a step, in order, after the `count` known.

    `first` and `last` are its values at the step's ends. What touches 0 within the step has not
    crossed; what is 0 at its end has, and what is 0 at its start has done so in the step before.
    `room` is of shape (7, 2 * DEEPEST). Returns the new count, or −1 if there are more than the
    arrays hold.
    """
    lows, highs, at_low, at_high, depths = room[0], room[1], room[2], room[3], room[4]
    node, coefficients = room[5], room[6]
    lows[0], highs[0], at_low[0], at_high[0], depths[0] = 0.0, 1.0, first, last, 0
    waiting, looked = 1, 0
    previous, before, sign, zero = 0.0, first, 0, -1.0
    if first != 0.0:
        sign = 1 if first > 0.0 else -1
    while waiting > 0:
        waiting -= 1
        low, high, depth = lows[waiting], highs[waiting], depths[waiting]
        g_low, g_high = at_low[waiting], at_high[waiting]
        looked += 1
        node[0], node[NODES - 1] = g_low, g_high
        least, most = min(g_low, g_high), max(g_low, g_high)
        for k in range(1, NODES - 1):
            x = low + (high - low) * PLACES[k]
            node[k] = watched(x, what, level, z, after, inner, par, state, out)
            least, most = min(least, node[k]), max(most, node[k])
        kind = 1
        if most - least > 8.0 * 2.3e-16 * (abs(level) + max(abs(least), abs(most))):
            kind = examine(node, coefficients)
            if 0 < kind < 3:
                for x in CHECKED:
                    here = low + (high - low) * x
                    value = watched(here, what, level, z, after, inner, par, state, out)
                    kind = 3 if misses(x, value, coefficients) else kind
        if kind >= 2 and looked < PARTS and depth < (DEPTH if kind == 3 else DEEPEST):
            middle = low + (high - low) * 0.5
            g = node[NODES // 2]
            lows[waiting], highs[waiting], depths[waiting] = middle, high, depth + 1
            at_low[waiting], at_high[waiting] = g, g_high
            waiting += 1
            lows[waiting], highs[waiting], depths[waiting] = low, middle, depth + 1
            at_low[waiting], at_high[waiting] = g_low, g
            waiting += 1
            continue
        if g_high == 0.0:
            zero = high if zero < 0.0 else zero
            continue
        now = 1 if g_high > 0.0 else -1
        if sign != 0 and now != sign:
            if count >= len(found):
                return -1
            if zero >= 0.0:
                found[count] = zero
            else:
                found[count] = polish(
                    previous, high, before, g_high, what, level, z, after, inner, par, state, out
                )
            signs[count] = now
            count += 1
        previous, before, sign, zero = high, g_high, now, -1.0
    if zero >= 0.0 and sign != 0:
        if count >= len(found):
            return -1
        found[count], signs[count] = zero, -sign
        count += 1
    return count


@inlined
def remote(first, inside, last):
    """Whether a watched value keeps away from its level, from those at the step's ends and at
    INSIDE: by the parabola through the three."""
    bend = (inside - first - INSIDE * (last - first)) / (4.0 * INSIDE * (1.0 - INSIDE))
    centre = 0.5 * (first + last + bend)
    return abs(centre) > REMOTE * 0.5 * (abs(last - first) + abs(bend))
