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
    JAC,
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
def march_lanes(points, starts, par, offsets, watching, limits, results):
    """Integrate `points` of an ensemble, LANES at a time; see `kernel.march_points`."""
    watch, levels, of_start, directions, from_start = watching
    t_ends, rtol, atol, most_steps = limits
    event_t, final, final_values, counts, status, reached = results
    events = len(watch)
    z, after, base, right = np.zeros(WIDE), np.zeros(WIDE), np.zeros(WIDE), np.zeros(WIDE)
    rate, rate_after, middle = np.zeros(WIDE), np.zeros(WIDE), np.zeros(WIDE)
    jacobian, matrix = np.zeros(SIZE * WIDE), np.zeros(SIZE * WIDE)
    stages, inner = np.zeros(8 * WIDE), np.zeros(3 * WIDE)
    given = np.ones(max(PARAMETERS, 1) * LANES)
    before, out, spare = (
        np.zeros(VALUES * LANES), np.zeros(VALUES * LANES), np.zeros(VALUES * LANES),
    )  # fmt: skip
    h, inverse, steps, errors = np.ones(LANES), np.ones(WIDE), np.ones(LANES), np.zeros(LANES)
    high, low, ends, ok = np.zeros(LANES), np.zeros(LANES), np.ones(LANES), np.zeros(LANES)
    last, look = np.zeros(LANES), np.zeros(LANES)
    level, pending = np.zeros((events, LANES)), np.zeros((events, LANES))
    wanted = np.zeros(LANES)
    owner = np.full(LANES, -1)
    # Per lane: attempts, accepted steps, rejections, and rejections in a row.
    tried, taken, refused, row = (
        np.zeros(LANES), np.zeros(LANES), np.zeros(LANES), np.zeros(LANES),
    )  # fmt: skip
    # One lane's own numbers, for what is done one at a time.
    one, one_after, one_rate, one_state = (
        np.empty(SIZE), np.empty(SIZE), np.empty(SIZE), np.empty(SIZE),
    )  # fmt: skip
    one_inner, one_matrix = np.empty((3, SIZE)), np.empty((SIZE, SIZE))
    one_out = np.empty(VALUES + SIZE)
    found, signs = np.empty(MOST), np.empty(MOST, np.int64)
    searched = np.empty((7, 2 * DEEPEST))

    waiting, active, free = 0, 0, True
    for l in range(LANES):
        ok[l] = -1.0  # to be filled
    while True:
        # Lanes that are free take the next point.
        for l in range(LANES if free else 0):
            while ok[l] < 0.0 and waiting < len(points):
                p = points[waiting]
                waiting += 1
                own = par[offsets[p] : offsets[p + 1]]
                one[:] = starts[p]
                rate_into(one, own, one_out, one_rate)
                jacobian_into(one, own, one_matrix)
                usable = True
                for k in range(VALUES):
                    usable = usable and math.isfinite(one_out[k])
                for k in range(SIZE):
                    usable = usable and math.isfinite(one_rate[k])
                for e in range(events):
                    what = watch[e]
                    now = one[what] if what < SIZE else one_out[what - SIZE]
                    level[e, l] = levels[e] * now if of_start[e] else levels[e]
                    event_t[p, e] = math.nan
                    pending[e, l] = 1.0
                    there = from_start[e] and directions[e] >= 0 and not of_start[e]
                    if there and now >= level[e, l]:
                        event_t[p, e], pending[e, l] = 0.0, 0.0
                if not usable:
                    final[p], reached[p], status[p] = one, 0.0, NOT_FINITE
                    final_values[p] = one_out[:VALUES]
                    continue
                for k in range(SIZE):
                    z[k * LANES + l], rate[k * LANES + l] = one[k], one_rate[k]
                for k in range(VALUES):
                    before[k * LANES + l] = one_out[k]
                for k in range(PARAMETERS):
                    given[k * LANES + l] = own[k]
                high[l], low[l], ends[l] = 0.0, 0.0, t_ends[p]
                steps[l] = first_step(one_rate, one_matrix, one, rtol, atol, t_ends[p])
                owner[l], ok[l] = p, 0.0
                tried[l] = taken[l] = refused[l] = row[l] = 0.0
                active += 1
        if active == 0:
            return

        # One attempt of every lane.
        for l in range(LANES):
            remaining = (ends[l] - high[l]) - low[l]
            last[l] = 1.0 if 1.001 * steps[l] >= remaining else 0.0
            h[l] = remaining if 1.001 * steps[l] >= remaining else steps[l]
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
        lane_steps(h, errors, steps)
        lane_judge(errors, ok, last, tried, taken, refused, row)

        # Crossings: all lanes are sifted at once, the few that may cross are searched one by one.
        coordinates_wanted, values_wanted = 0.0, 0.0
        for e in range(events):
            for l in range(LANES):
                wanted[l] = pending[e, l] * max(ok[l], 0.0)
            if watch[e] >= SIZE:
                values_wanted += any_of(wanted)
            else:
                coordinates_wanted += any_of(wanted)
        if values_wanted + coordinates_wanted > 0.0:
            lane_dense(stages, inner)
        if values_wanted > 0.0:
            lane_middle(z, after, inner, middle)
            lane_values(middle, given, spare)
        for e in range(events):
            what = watch[e]
            for l in range(LANES):
                wanted[l] = pending[e, l] * max(ok[l], 0.0)
            if any_of(wanted) == 0.0:
                continue
            if what < SIZE:
                lane_out_of_reach(what, level[e], z, after, inner, wanted, look)
            else:
                lane_remote(what - SIZE, level[e], before, out, spare, wanted, look)
            for l in range(LANES if any_of(look) > 0.0 else 0):
                if look[l] > 0.0:
                    for k in range(SIZE):
                        one[k], one_after[k] = z[k * LANES + l], after[k * LANES + l]
                        for m in range(3):
                            one_inner[m, k] = inner[(m * SIZE + k) * LANES + l]
                    p = owner[l]
                    i = (what if what < SIZE else what - SIZE) * LANES + l
                    begin = (z[i] if what < SIZE else before[i]) - level[e, l]
                    end = (after[i] if what < SIZE else out[i]) - level[e, l]
                    count = search(
                        what, level[e, l], begin, end, one, one_after, one_inner,
                        par[offsets[p] : offsets[p + 1]], one_state, one_out, found, signs, 0,
                        searched,
                    )  # fmt: skip
                    for c in range(count):
                        if pending[e, l] > 0.0 and directions[e] in (0, signs[c]):
                            event_t[p, e] = high[l] + (low[l] + found[c] * h[l])
                            pending[e, l] = 0.0

        lane_accept(ok, z, after, rate, rate_after, before, out)
        lane_clock(ok, h, high, low)
        for l in range(LANES):
            over = last[l] if ok[l] > 0.0 else 0.0
            over = 1.0 if taken[l] >= most_steps else over
            over = 1.0 if row[l] > REJECTIONS else over
            look[l] = over if ok[l] >= 0.0 else 0.0
        free = any_of(look) > 0.0
        for l in range(LANES if free else 0):
            if look[l] == 0.0:
                continue
            p = owner[l]
            for k in range(SIZE):
                final[p, k] = z[k * LANES + l]
            for k in range(VALUES):
                final_values[p, k] = before[k * LANES + l]
            counts[p, STEPS], counts[p, REJECTED] = int(taken[l]), int(refused[l])
            counts[p, JAC], counts[p, RHS] = int(tried[l]), 1 + 8 * int(tried[l])
            status[p], reached[p] = DONE, ends[l]
            if row[l] > REJECTIONS:
                status[p], reached[p] = STUCK, high[l]
            elif not (ok[l] > 0.0 and last[l] > 0.0):
                status[p], reached[p] = TOO_MANY, high[l]
            owner[l], ok[l] = -1, -1.0
            active -= 1
