"""Rodas5P for one trajectory: steps, their control, and every crossing within them.

Written against `interface`; `build` puts a system's own functions in the place of the imports, and
the whole is compiled together. Nothing here allocates once a trajectory has begun.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.polynomial import chebyshev

from reduced_dynamics.rosenbrock.interface import (
    GAMMA,
    SIZE,
    VALUES,
    dense,
    jacobian_into,
    rate_into,
    stage,
    values,
)

# ---- what follows becomes part of the generated module

#: Why `march` came back.
RUNNING, DONE, STUCK, NOT_FINITE, TOO_MANY = 0, 1, 2, 3, 4
#: The places of what a trajectory carries from step to step: time (in two parts), next step.
HIGH, LOW, NEXT = 0, 1, 2
#: The places of what it counts.
STEPS, REJECTED, RHS, JAC, REACHED, RECORDED, CROSSED = 0, 1, 2, 3, 4, 5, 6
#: Step control: the next step is SAFETY·error^(−1/5) of the last, within these limits.
ORDER, SAFETY, SHRINK, GROW = 5, 0.9, 0.2, 8.0
#: So many rejections in a row end a trajectory.
REJECTIONS = 60
#: A watched value whose variation, seen at three points of the step, times this is less than its
#: distance from the level is out of reach.
REMOTE = 20.0
#: Nodes of the interpolant of a watched quantity; the part of the variation that its last two
#: Chebyshev coefficients may carry; how many times its variation away from 0 it is out of reach.
NODES, SMOOTH, FAR = 9, 0.05, 4.0
#: How often a step is halved to resolve what is watched, and how often to separate its roots; how
#: many parts of a step are looked at; how many crossings a step may hold.
DEPTH, DEEPEST, PARTS, MOST = 12, 40, 20_000, 256

PLACES = 0.5 - 0.5 * np.cos(np.pi * np.arange(NODES) / (NODES - 1))
TO_COEFFICIENTS = np.linalg.inv(chebyshev.chebvander(2.0 * PLACES - 1.0, NODES - 1))

#: Counting references to arrays takes most of a small system's time. It is left out where nothing
#: is allocated: all room comes from `march` and `march_points`.
lean = njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
inlined = njit(cache=True, nogil=True, error_model="numpy", _nrt=False, forceinline=True)


@inlined
def factor(matrix, pivots):
    """LU decomposition in place with partial pivoting; False if singular or not finite."""
    for k in range(SIZE):
        p = k
        for j in range(k + 1, SIZE):
            if abs(matrix[j, k]) > abs(matrix[p, k]):
                p = j
        pivots[k] = p
        if not abs(matrix[p, k]) > 0.0 or not math.isfinite(matrix[p, k]):
            return False
        if p != k:
            for j in range(SIZE):
                matrix[k, j], matrix[p, j] = matrix[p, j], matrix[k, j]
        matrix[k, k] = 1.0 / matrix[k, k]
        for j in range(k + 1, SIZE):
            if matrix[j, k] != 0.0:  # coordinates that do not move cost nothing
                matrix[j, k] *= matrix[k, k]
                for i in range(k + 1, SIZE):
                    matrix[j, i] -= matrix[j, k] * matrix[k, i]
    return True


@inlined
def solve(matrix, pivots, x, s):
    """Solve for row s of `x`, in place, with what `factor` left."""
    for k in range(SIZE):
        p = pivots[k]
        if p != k:
            x[s, k], x[s, p] = x[s, p], x[s, k]
    for k in range(SIZE):
        for j in range(k):
            x[s, k] -= matrix[k, j] * x[s, j]
    for k in range(SIZE - 1, -1, -1):
        for j in range(k + 1, SIZE):
            x[s, k] -= matrix[k, j] * x[s, j]
        x[s, k] *= matrix[k, k]


@inlined
def attempt(z, h, par, held, room):
    """One step of length h from z, whose rate is known: the stages, and the state after it."""
    vectors, squares, stages, _, outs, _, _, pivots, _ = room
    rate, base, right, slope, after = vectors[0], vectors[1], vectors[2], vectors[3], vectors[4]
    jacobian, matrix, out = squares[0], squares[1], outs[2]
    for j in range(SIZE):
        for k in range(SIZE):
            matrix[j, k] = -jacobian[j, k]
        matrix[j, j] += 1.0 / (h * GAMMA)
    if not factor(matrix, pivots):
        return False
    for s in range(8):
        if s == 0:
            for k in range(SIZE):
                stages[0, k] = rate[k]
        else:
            stage(s, z, h, stages, base, right)
            rate_into(base, par, out, slope)
            for k in range(SIZE):
                stages[s, k] = right[k] + (0.0 if held[k] else slope[k])
        solve(matrix, pivots, stages, s)
    for k in range(SIZE):
        after[k] = base[k] + stages[7, k]
    return True


@inlined
def between(x, z, after, inner, k):
    """Coordinate k of the dense output at x in [0, 1]."""
    return z[k] + x * (
        (after[k] - z[k]) + (1.0 - x) * (inner[0, k] + x * (inner[1, k] + x * inner[2, k]))
    )


@inlined
def place(x, z, after, inner, state):
    """The dense output at x in [0, 1] into `state`."""
    for k in range(SIZE):
        state[k] = between(x, z, after, inner, k)


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
    """What nodes of an interpolant tell: 0 no root, 1 monotone, 2 look closer, 3 unresolved."""
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
        return 0
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
def remote(first, middle, last):
    """Whether a watched value keeps away from its level, from three values within the step."""
    centre = 0.5 * middle + 0.25 * (first + last)
    variation = 0.5 * abs(last - first) + abs(0.25 * (first + last) - 0.5 * middle)
    return abs(centre) > REMOTE * variation


@lean
def first_step(rate, jacobian, z, rtol, atol, t_end):
    """A first step from the time in which the rate changes."""
    speed, bend = 0.0, 0.0
    for k in range(SIZE):
        scale = atol + rtol * abs(z[k])
        change = 0.0
        for j in range(SIZE):
            change += jacobian[k, j] * rate[j]
        speed, bend = max(speed, abs(rate[k]) / scale), max(bend, abs(change) / scale)
    if not bend > 0.0:
        return t_end
    return min(t_end, (speed / bend) * min(1.0, rtol**0.2))


@njit(cache=True, nogil=True, error_model="numpy", _nrt=True)
def make_room():
    """All that `advance` works with."""
    return (
        np.empty((7, SIZE)), np.empty((2, SIZE, SIZE)), np.empty((8, SIZE)), np.empty((3, SIZE)),
        np.empty((4, VALUES + SIZE)), np.empty(MOST), np.empty((7, 2 * DEEPEST)),
        np.empty(SIZE, np.int64), np.empty((3, MOST), np.int64),
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy", _nrt=True)
def march(
    z, clock, counts, par, held, watch, levels, directions, first_only, seen, t_end, rtol, atol,
    most_steps, at, at_states, step_t, step_nodes, step_values,
    crossing_event, crossing_t, crossing_sign, crossing_state,
):  # fmt: skip
    """Integrate from where `z`, `clock` and `counts` stand until the end or full records.

    Parameters
    ----------
    z : (SIZE,) state, updated
    clock : (3,) time in two parts, next step (0: choose)
    counts : (7,) steps, rejections, right-hand sides, Jacobians, times of `at` passed, steps and
        crossings recorded by this call
    watch, levels, directions, seen : (events,) what is watched (coordinates, then loss and
        observables), its level, +1, −1 or 0 for both, and the first crossing (nan before it)
    first_only : whether a crossing matters only the first time
    at, at_states : times and the states there
    step_t, step_nodes, step_values : records of steps; none are kept if `step_t` is empty
    crossing_event, crossing_t, crossing_sign, crossing_state : records of crossings

    Returns RUNNING if a record is full, DONE at the end, or what failed.
    """
    return advance(
        z, clock, counts, par, held, watch, levels, directions, first_only, seen, t_end, rtol, atol,
        most_steps, at, at_states, step_t, step_nodes, step_values,
        crossing_event, crossing_t, crossing_sign, crossing_state, make_room(),
    )  # fmt: skip


@lean
def advance(
    z, clock, counts, par, held, watch, levels, directions, first_only, seen, t_end, rtol, atol,
    most_steps, at, at_states, step_t, step_nodes, step_values,
    crossing_event, crossing_t, crossing_sign, crossing_state, room,
):  # fmt: skip
    """`march`, with the room that `make_room` makes."""
    vectors, squares, stages, inner, outs, found, searched, _, whole = room
    events = len(watch)
    rate, after, state, rate_after = vectors[0], vectors[4], vectors[5], vectors[6]
    jacobian = squares[0]
    out, out_after, spare, middle = outs[0], outs[1], outs[2], outs[3]
    signs, owner, order = whole[0], whole[1], whole[2]
    recording = len(step_t) > 0
    counts[RECORDED] = counts[CROSSED] = 0
    rejected = 0

    rate_into(z, par, out, rate)
    counts[RHS] += counts[STEPS] == 0  # later it is that after the last step, counted there
    for k in range(SIZE):
        if held[k]:
            rate[k] = 0.0
    fresh = True
    while True:
        remaining = (t_end - clock[HIGH]) - clock[LOW]
        if not remaining > 0.0:
            return DONE
        if counts[STEPS] >= most_steps:
            return TOO_MANY
        if fresh:
            jacobian_into(z, par, jacobian)
            counts[JAC] += 1
            for k in range(SIZE):
                for j in range(SIZE):
                    if held[k]:
                        jacobian[k, j] = 0.0
                    if not math.isfinite(jacobian[k, j]):
                        return NOT_FINITE
            fresh = False
        if clock[NEXT] <= 0.0:
            clock[NEXT] = first_step(rate, jacobian, z, rtol, atol, t_end)
        h = clock[NEXT]
        last = 1.001 * h >= remaining
        if last:
            h = remaining
        error = math.inf
        if attempt(z, h, par, held, room):
            rate_into(after, par, out_after, rate_after)
            counts[RHS] += 8
            error = 0.0
            for k in range(SIZE):
                scale = atol + rtol * max(abs(z[k]), abs(after[k]))
                size = abs(stages[7, k]) / scale
                if not (size <= error):  # also where it is not a number
                    error = size
                if not math.isfinite(rate_after[k]):
                    error = math.inf
            for k in range(VALUES):
                if not math.isfinite(out_after[k]):
                    error = math.inf
        count = 0
        if error <= 1.0:
            dense(stages, inner)
            halfway = False
            for e in range(events):
                what = watch[e]
                if first_only and not math.isnan(seen[e]):
                    continue
                begin = (z[what] if what < SIZE else out[what - SIZE]) - levels[e]
                end = (after[what] if what < SIZE else out_after[what - SIZE]) - levels[e]
                if what < SIZE:
                    far = out_of_reach(z, after, inner, levels[e], what)
                else:
                    if not halfway:
                        place(0.5, z, after, inner, state)
                        values(state, par, middle)
                        halfway = True
                    far = remote(begin, middle[what - SIZE] - levels[e], end)
                if not far:
                    known = count
                    count = search(
                        what, levels[e], begin, end, z, after, inner, par, state, spare,
                        found, signs, known, searched,
                    )  # fmt: skip
                    if count < 0:
                        break
                    for c in range(known, count):
                        owner[c] = e
        if not error <= 1.0 or count < 0:
            counts[REJECTED] += 1
            rejected += 1
            shrunk = SAFETY * error ** (-1.0 / ORDER) if 1.0 < error < math.inf else SHRINK
            clock[NEXT] = h * max(shrunk, SHRINK)
            if rejected > REJECTIONS:
                return STUCK
            continue
        rejected = 0

        # Accepted: crossings in order, states asked for, then the step itself.
        for c in range(count):
            order[c] = c
            k = c
            while k > 0 and found[order[k - 1]] > found[order[k]]:
                order[k - 1], order[k] = order[k], order[k - 1]
                k -= 1
        for k in range(count):
            c = order[k]
            e = owner[c]
            if directions[e] != 0 and directions[e] != signs[c]:
                continue
            t = clock[HIGH] + (clock[LOW] + found[c] * h)
            if first_only and not math.isnan(seen[e]):
                continue
            if math.isnan(seen[e]):
                seen[e] = t
            if recording:
                place(found[c], z, after, inner, state)
                row = counts[CROSSED]
                crossing_event[row], crossing_t[row], crossing_sign[row] = e, t, signs[c]
                for j in range(SIZE):
                    crossing_state[row, j] = state[j]
                counts[CROSSED] += 1
        while counts[REACHED] < len(at):
            x = ((at[counts[REACHED]] - clock[HIGH]) - clock[LOW]) / h
            if not x <= 1.0 and not last:
                break
            place(min(max(x, 0.0), 1.0), z, after, inner, state)
            for k in range(SIZE):
                at_states[counts[REACHED], k] = state[k]
            counts[REACHED] += 1
        total = clock[HIGH] + h
        clock[LOW] += h - (total - clock[HIGH])
        clock[HIGH] = total + clock[LOW]
        clock[LOW] -= clock[HIGH] - total
        if last:
            clock[HIGH], clock[LOW] = t_end, 0.0
        if recording:
            row = counts[RECORDED]
            step_t[row] = clock[HIGH]
            for j in range(NODES - 1):
                x = PLACES[j]
                for k in range(SIZE):
                    step_nodes[row, j, k] = between(x, z, after, inner, k)
            for k in range(SIZE):
                step_nodes[row, NODES - 1, k] = after[k]
            for k in range(VALUES):
                step_values[row, k] = out_after[k]
            counts[RECORDED] += 1
        for k in range(SIZE):
            z[k], rate[k] = after[k], 0.0 if held[k] else rate_after[k]
        for k in range(VALUES):
            out[k] = out_after[k]
        counts[STEPS] += 1
        fresh = True
        grown = SAFETY * max(error, 1e-10) ** (-1.0 / ORDER)
        clock[NEXT] = h * min(max(grown, SHRINK), GROW)
        if recording and (
            counts[RECORDED] == len(step_t) or counts[CROSSED] + MOST > len(crossing_t)
        ):
            return RUNNING


@njit(cache=True, nogil=True, error_model="numpy", _nrt=True)
def march_points(
    points, starts, par, offsets, held, watch, levels, of_start, directions, from_start,
    t_ends, rtol, atol, most_steps, at,
    event_t, final, final_values, counts, status, reached, at_states,
):  # fmt: skip
    """Integrate `points` of an ensemble; see `march` and `reduced_dynamics.ensemble`."""
    events = len(watch)
    clock, own = np.empty(3), np.empty(events)
    out, z = np.empty(VALUES), np.empty(SIZE)
    none, no_nodes, no_values = np.empty(0), np.empty((0, NODES, SIZE)), np.empty((0, VALUES))
    room = make_room()
    nothing, no_states = np.empty(0, np.int64), np.empty((0, SIZE))
    for p in points:
        given = par[offsets[p] : offsets[p + 1]]
        z[:] = starts[p]
        clock[:] = 0.0
        values(z, given, out)
        usable = True
        for k in range(VALUES):
            usable = usable and math.isfinite(out[k])
        for e in range(events):
            now = z[watch[e]] if watch[e] < SIZE else out[watch[e] - SIZE]
            own[e] = levels[e] * now if of_start[e] else levels[e]
            event_t[p, e] = math.nan
            if from_start[e] and directions[e] >= 0 and now >= own[e] and not of_start[e]:
                event_t[p, e] = 0.0
        status[p] = NOT_FINITE
        if usable:
            status[p] = advance(
                z, clock, counts[p], given, held, watch, own, directions, True, event_t[p],
                t_ends[p], rtol, atol, most_steps, at, at_states[p], none, no_nodes, no_values,
                nothing, none, nothing, no_states, room,
            )  # fmt: skip
            values(z, given, out)
        final[p] = z
        final_values[p] = out
        reached[p] = clock[HIGH]
