"""Rodas5P for many trajectories that share vector registers, each with its own time and step.

LANES trajectories advance side by side: arithmetic runs over lanes in loops without branches, which
become vector instructions; each lane accepts or rejects its own step, and one that has ended makes
room for the next point. What a lane computes does not depend on its neighbours.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from reduced_dynamics.compilation.exponential import bits, exponential
from reduced_dynamics.integration.rosenbrock.crossings import DEEPEST, MOST, search
from reduced_dynamics.integration.rosenbrock.interface import (
    LANES,
    PARAMETERS,
    SIZE,
    VALUES,
    jacobian_into,
    lane_dense,
    lane_factor,
    lane_jacobian,
    lane_rate,
    lane_solve,
    lane_stage,
    lane_values,
    rate_into,
)
from reduced_dynamics.integration.rosenbrock.kernel import (
    DONE,
    GROW,
    HIGH,
    JAC,
    LOW,
    NEXT,
    NOT_FINITE,
    ORDER,
    REJECTED,
    REJECTIONS,
    RHS,
    SAFETY,
    SHRINK,
    STEPS,
    STUCK,
    TOO_MANY,
)
from reduced_dynamics.integration.rosenbrock.step import INNER, first_step, lean

# ---- what follows becomes part of the generated module

#: Numbers of a state in all lanes.
WIDE = SIZE * LANES

#: As `crossings.REMOTE`, for closed forms of exponentials and rational functions: what moves this
#: little between three points of a step that the integrator resolves does not jump between them.
REMOTE_LANE = 4.0

#: Of loops over lanes, which allocate nothing; see `step.lean`.
wide = njit(**INNER, fastmath={"contract"})

#: The places of a lane's state, the state after its step, the rates before; of its marks: accepted
#: (1), rejected (0) or free (−1); in its last step; to be looked at; and of its clock, beside
#: `kernel`'s, the end.
Z, AFTER, RATE = 0, 1, 4
OK, LAST, LOOK, END = 0, 1, 2, 3

#: What the generated lane functions call these, lest a coordinate bear the same name.
_LANES, _exp = LANES, exponential


@wide
def lane_errors(z, after, stages, rate, out, rtol, atol, errors):
    """The error of every lane's step over its tolerance; not a number where anything is not."""
    for l in range(LANES):
        errors[l] = 0.0
    for k in range(SIZE):
        for l in range(LANES):
            i = k * LANES + l
            scale = atol + rtol * max(abs(z[i]), abs(after[i]))
            size = abs(stages[(7 * SIZE + k) * LANES + l]) / scale
            # 0·x is 0, or not a number where x is not finite.
            errors[l] = max(errors[l], size) + 0.0 * (rate[i] + size)
    for k in range(VALUES):
        for l in range(LANES):
            errors[l] += 0.0 * out[k * LANES + l]


@wide
def lane_steps(h, errors, steps):
    """The next step of every lane; the logarithm is the exponent's, good enough for a step."""
    for l in range(LANES):
        error = errors[l]
        error = error if error <= 1e300 else 1e300
        error = max(error, 1e-10)
        log2 = float(bits(error)) * 2.220446049250313e-16 - 1023.0
        grown = SAFETY * exponential(log2 * (-0.6931471805599453 / ORDER))
        steps[l] = h[l] * min(max(grown, SHRINK), GROW)


@wide
def lane_out_of_reach(k, level, z, after, inner, wanted, look):
    """Mark the lanes in which coordinate k may come to its level; see `crossings.out_of_reach`."""
    for l in range(LANES):
        i = k * LANES + l
        i1, i2 = (SIZE + k) * LANES + l, (2 * SIZE + k) * LANES + l
        first, last = z[i] - level[l], after[i] - level[l]
        c1 = after[i] - z[i] + inner[i]
        c2, c3 = inner[i1] - inner[i], inner[i2] - inner[i1]
        b1 = first + c1 * 0.25
        b2 = first + c1 * 0.5 + c2 * (1.0 / 6.0)
        b3 = first + 0.75 * c1 + c2 * 0.5 + c3 * 0.25
        low = min(min(first, last), min(b1, min(b2, b3)))
        high = max(max(first, last), max(b1, max(b2, b3)))
        near = 1.0 if low <= 0.0 else 0.0
        near = near if high >= 0.0 else 0.0
        look[l] = near * wanted[l]


@wide
def lane_remote(k, level, before, out, middle, wanted, look):
    """The same for value k, from its values at three points of the step."""
    for l in range(LANES):
        i = k * LANES + l
        first, last, at = before[i] - level[l], out[i] - level[l], middle[i] - level[l]
        centre = 0.5 * at + 0.25 * (first + last)
        variation = 0.5 * abs(last - first) + abs(0.25 * (first + last) - 0.5 * at)
        look[l] = (0.0 if abs(centre) > REMOTE_LANE * variation else 1.0) * wanted[l]


@wide
def lane_middle(z, after, inner, middle):
    """The dense output in the middle of every lane's step."""
    for k in range(WIDE):
        middle[k] = 0.5 * (z[k] + after[k]) + 0.25 * (
            inner[k] + 0.5 * (inner[WIDE + k] + 0.5 * inner[2 * WIDE + k])
        )


@njit(**INNER, fastmath={"reassoc"})
def any_of(marks):
    """More than 0 if any lane is marked."""
    total = 0.0
    for l in range(LANES):
        total += marks[l]
    return total


@lean
def lane_judge(errors, ok, last, tried, taken, refused, row):
    """Accept (1) or reject (0) every busy lane's attempt, and count."""
    for l in range(LANES):
        good = 1.0 if errors[l] <= 1.0 else 0.0
        busy = 1.0 if ok[l] >= 0.0 else 0.0
        tried[l] += busy
        taken[l] += busy * good
        refused[l] += busy * (1.0 - good)
        row[l] = 0.0 if good > 0.0 else row[l] + busy
        ok[l] = good if busy > 0.0 else -1.0


@lean
def lane_accept(ok, z, after, rate, rate_after, before, out):
    """Where a lane's step is accepted, what is after it becomes what is before the next."""
    for k in range(SIZE):
        for l in range(LANES):
            i = k * LANES + l
            z[i] = after[i] if ok[l] > 0.0 else z[i]
            rate[i] = rate_after[i] if ok[l] > 0.0 else rate[i]
    for k in range(VALUES):
        for l in range(LANES):
            i = k * LANES + l
            before[i] = out[i] if ok[l] > 0.0 else before[i]


@lean
def lane_clock(ok, h, high, low):
    """Advance every accepted lane's time, kept in two parts."""
    for l in range(LANES):
        step = h[l] if ok[l] > 0.0 else 0.0
        total = high[l] + step
        rest = low[l] + (step - (total - high[l]))
        high[l] = total + rest
        low[l] = rest - (high[l] - total)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=True, no_cfunc_wrapper=True)
def make_lanes(events):
    """All that `march_lanes` works with: numbers of all lanes, and one lane's own."""
    points = (
        np.zeros((7, WIDE)), np.zeros((3, VALUES * LANES)),
        np.ones(max(PARAMETERS, 1) * LANES), np.full(LANES, -1),
    )  # fmt: skip
    algebra = np.zeros(SIZE * WIDE), np.zeros(SIZE * WIDE), np.zeros(8 * WIDE), np.zeros(3 * WIDE)
    times = np.ones(LANES), np.ones(WIDE), np.ones((4, LANES))
    times[2][HIGH], times[2][LOW] = 0.0, 0.0
    marks = np.zeros((5, LANES)), np.zeros((events, LANES)), np.zeros((events, LANES))
    one = (
        np.empty((4, SIZE)), np.empty((3, SIZE)), np.empty((SIZE, SIZE)), np.empty(VALUES + SIZE),
        np.empty(MOST), np.empty(MOST, np.int64), np.empty((7, 2 * DEEPEST)),
    )  # fmt: skip
    return points, algebra, times, marks, np.zeros((4, LANES)), one


@lean
def lane_begin(l, p, starts, own, events, limits, results, lanes):
    """Put point p into lane l; False if there is nothing finite to begin with."""
    (states, outs, given, owner), _, (_, _, clocks), (flags, level, pending), tallies, one = lanes
    watch, levels, of_start, directions, from_start = events
    t_ends, rtol, atol, _ = limits
    event_t, final, final_values, _, status, reached = results
    z, rate, matrix, out = one[0][0], one[0][2], one[2], one[3]
    for k in range(SIZE):
        z[k] = starts[p, k]
    rate_into(z, own, out, rate)
    jacobian_into(z, own, matrix)
    usable = True
    for k in range(VALUES):
        usable = usable and math.isfinite(out[k])
    for k in range(SIZE):
        usable = usable and math.isfinite(rate[k])
    for e in range(len(watch)):
        what = watch[e]
        now = z[what] if what < SIZE else out[what - SIZE]
        level[e, l] = levels[e] * now if of_start[e] else levels[e]
        event_t[p, e] = math.nan
        pending[e, l] = 1.0
        there = from_start[e] and directions[e] >= 0 and not of_start[e]
        if there and now >= level[e, l]:
            event_t[p, e], pending[e, l] = 0.0, 0.0
    if not usable:
        reached[p], status[p] = 0.0, NOT_FINITE
        for k in range(SIZE):
            final[p, k] = z[k]
        for k in range(VALUES):
            final_values[p, k] = out[k]
        return False
    for k in range(SIZE):
        states[Z, k * LANES + l], states[RATE, k * LANES + l] = z[k], rate[k]
    for k in range(VALUES):
        outs[0, k * LANES + l] = out[k]
    for k in range(PARAMETERS):
        given[k * LANES + l] = own[k]
    clocks[HIGH, l], clocks[LOW, l], clocks[END, l] = 0.0, 0.0, t_ends[p]
    clocks[NEXT, l] = first_step(rate, matrix, z, rtol, atol, t_ends[p])
    owner[l], flags[OK, l] = p, 0.0
    for k in range(4):
        tallies[k, l] = 0.0
    return True


@lean
def lane_attempt(rtol, atol, lanes):
    """One attempt of every lane, judged; the next steps."""
    (states, outs, given, _), (jacobian, matrix, stages, _), times, marks, tallies, _ = lanes
    h, inverse, clocks = times
    z, after, base, right = states[Z], states[AFTER], states[2], states[3]
    rate, rate_after, out, spare = states[RATE], states[5], outs[1], outs[2]
    last, errors, flags = marks[0][LAST], marks[0][4], marks[0]
    for l in range(LANES):
        step = clocks[NEXT, l]
        remaining = (clocks[END, l] - clocks[HIGH, l]) - clocks[LOW, l]
        last[l] = 1.0 if 1.001 * step >= remaining else 0.0
        h[l] = remaining if 1.001 * step >= remaining else step
        inverse[l] = 1.0 / h[l]
    for k in range(LANES, WIDE):
        inverse[k] = inverse[k - LANES]
    lane_jacobian(z, given, jacobian)
    lane_factor(jacobian, inverse, matrix)
    for k in range(WIDE):
        stages[k] = rate[k]
    lane_solve(matrix, stages[:WIDE])
    for s in range(1, 8):
        lane_stage(s, z, inverse, stages, base, right)
        now = stages[s * WIDE : (s + 1) * WIDE]
        lane_rate(base, given, spare, now)
        for k in range(WIDE):
            now[k] += right[k]
        lane_solve(matrix, now)
    for k in range(WIDE):
        after[k] = base[k] + stages[7 * WIDE + k]
    lane_rate(after, given, out, rate_after)
    lane_errors(z, after, stages, rate_after, out, rtol, atol, errors)
    lane_steps(h, errors, clocks[NEXT])
    lane_judge(errors, flags[OK], last, tallies[0], tallies[1], tallies[2], tallies[3])


@lean
def lane_wanted(e, ok, pending, wanted):
    """Mark the accepted lanes in which event e has not happened yet; how many there are."""
    for l in range(LANES):
        wanted[l] = pending[e, l] * max(ok[l], 0.0)
    return any_of(wanted)


@lean
def lane_crossings(watch, directions, event_t, par, offsets, lanes):
    """Crossings: all lanes are sifted at once, the few that may cross are searched one by one."""
    (states, outs, given, _), (_, _, stages, inner), _, (flags, level, pending), _, _ = lanes
    z, after, middle = states[Z], states[AFTER], states[6]
    before, out, spare = outs[0], outs[1], outs[2]
    ok, look, wanted = flags[OK], flags[LOOK], flags[3]
    coordinates_wanted, values_wanted = 0.0, 0.0
    for e in range(len(watch)):
        if watch[e] >= SIZE:
            values_wanted += lane_wanted(e, ok, pending, wanted)
        else:
            coordinates_wanted += lane_wanted(e, ok, pending, wanted)
    if values_wanted + coordinates_wanted > 0.0:
        lane_dense(stages, inner)
    if values_wanted > 0.0:
        lane_middle(z, after, inner, middle)
        lane_values(middle, given, spare)
    for e in range(len(watch)):
        what = watch[e]
        if lane_wanted(e, ok, pending, wanted) == 0.0:
            continue
        if what < SIZE:
            lane_out_of_reach(what, level[e], z, after, inner, wanted, look)
        else:
            lane_remote(what - SIZE, level[e], before, out, spare, wanted, look)
        for l in range(LANES if any_of(look) > 0.0 else 0):
            if look[l] > 0.0:
                lane_search(l, e, what, directions[e], event_t, par, offsets, lanes)


@lean
def lane_search(l, e, what, direction, event_t, par, offsets, lanes):
    """Look for event e in lane l's step."""
    (states, outs, _, owner), (_, _, _, inner), times, (_, level, pending), _, one = lanes
    h, _, clocks = times
    z, after, inside, out, found, signs, searched = (
        one[0][0], one[0][1], one[1], one[3], one[4], one[5], one[6],
    )  # fmt: skip
    for k in range(SIZE):
        z[k], after[k] = states[Z, k * LANES + l], states[AFTER, k * LANES + l]
        for m in range(3):
            inside[m, k] = inner[(m * SIZE + k) * LANES + l]
    p = owner[l]
    i = (what if what < SIZE else what - SIZE) * LANES + l
    begin = (states[Z, i] if what < SIZE else outs[0, i]) - level[e, l]
    end = (states[AFTER, i] if what < SIZE else outs[1, i]) - level[e, l]
    count = search(
        what, level[e, l], begin, end, z, after, inside, par[offsets[p] : offsets[p + 1]],
        one[0][3], out, found, signs, 0, searched,
    )  # fmt: skip
    for c in range(count):
        if pending[e, l] > 0.0 and direction in (0, signs[c]):
            event_t[p, e] = clocks[HIGH, l] + (clocks[LOW, l] + found[c] * h[l])
            pending[e, l] = 0.0


@lean
def lane_over(most_steps, flags, tallies):
    """Mark the lanes that have come to an end; whether there are any."""
    for l in range(LANES):
        over = flags[LAST, l] if flags[OK, l] > 0.0 else 0.0
        over = 1.0 if tallies[1, l] >= most_steps else over
        over = 1.0 if tallies[3, l] > REJECTIONS else over
        flags[LOOK, l] = over if flags[OK, l] >= 0.0 else 0.0
    return any_of(flags[LOOK]) > 0.0


@lean
def lane_end(l, results, lanes):
    """Write down the point of lane l, and free the lane."""
    (states, outs, _, owner), _, (_, _, clocks), (flags, _, _), tallies, _ = lanes
    _, final, final_values, counts, status, reached = results
    p = owner[l]
    for k in range(SIZE):
        final[p, k] = states[Z, k * LANES + l]
    for k in range(VALUES):
        final_values[p, k] = outs[0, k * LANES + l]
    tried = int(tallies[0, l])
    counts[p, STEPS], counts[p, REJECTED] = int(tallies[1, l]), int(tallies[2, l])
    counts[p, JAC], counts[p, RHS] = tried, 1 + 8 * tried
    status[p], reached[p] = DONE, clocks[END, l]
    if tallies[3, l] > REJECTIONS:
        status[p], reached[p] = STUCK, clocks[HIGH, l]
    elif not (flags[OK, l] > 0.0 and flags[LAST, l] > 0.0):
        status[p], reached[p] = TOO_MANY, clocks[HIGH, l]
    owner[l], flags[OK, l] = -1, -1.0


@njit(cache=True, nogil=True, error_model="numpy", _nrt=True, no_cfunc_wrapper=True)
def march_lanes(points, starts, par, offsets, events, limits, results):
    """Integrate `points` of an ensemble, LANES at a time; see `kernel.march_points`."""
    lanes = make_lanes(len(events[0]))
    (states, outs, _, _), _, (h, _, clocks), (flags, _, _), tallies, _ = lanes
    waiting, active, free = 0, 0, True
    for l in range(LANES):
        flags[OK, l] = -1.0  # to be filled
    while True:
        # Lanes that are free take the next point.
        for l in range(LANES if free else 0):
            while flags[OK, l] < 0.0 and waiting < len(points):
                p = points[waiting]
                waiting += 1
                own = par[offsets[p] : offsets[p + 1]]
                active += lane_begin(l, p, starts, own, events, limits, results, lanes)
        if active == 0:
            return
        lane_attempt(limits[1], limits[2], lanes)
        lane_crossings(events[0], events[3], results[0], par, offsets, lanes)
        lane_accept(flags[OK], states[Z], states[AFTER], states[RATE], states[5], outs[0], outs[1])
        lane_clock(flags[OK], h, clocks[HIGH], clocks[LOW])
        free = lane_over(limits[3], flags, tallies)
        for l in range(LANES if free else 0):
            if flags[LOOK, l] > 0.0:
                lane_end(l, results, lanes)
                active -= 1
