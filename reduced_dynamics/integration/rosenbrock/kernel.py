"""Rodas5P for one trajectory: step after step, their control, and every crossing within them.

Written against `interface`; `build` puts a system's own functions in the place of the imports, and
the whole is compiled together with `step` and `crossings`. Nothing allocates once a trajectory has
begun.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from reduced_dynamics.integration.rosenbrock.crossings import (
    DEEPEST,
    INSIDE,
    MOST,
    NODES,
    PLACES,
    out_of_reach,
    remote,
    search,
)
from reduced_dynamics.integration.rosenbrock.interface import (
    SIZE,
    VALUES,
    dense,
    jacobian_into,
    rate_into,
    values,
)
from reduced_dynamics.integration.rosenbrock.step import attempt, between, first_step, lean, place

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
    longest, most_steps, at, at_states, step_t, step_nodes, step_values,
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
    longest, most_steps : how long a step may be, how many there may be
    at, at_states : times and the states there
    step_t, step_nodes, step_values : records of steps; none are kept if `step_t` is empty
    crossing_event, crossing_t, crossing_sign, crossing_state : records of crossings

    Returns RUNNING if a record is full, DONE at the end, or what failed.
    """
    return advance(
        z, clock, counts, par, held, watch, levels, directions, first_only, seen, t_end, rtol, atol,
        longest, most_steps, at, at_states, step_t, step_nodes, step_values,
        crossing_event, crossing_t, crossing_sign, crossing_state, make_room(),
    )  # fmt: skip


@lean
def advance(
    z, clock, counts, par, held, watch, levels, directions, first_only, seen, t_end, rtol, atol,
    longest, most_steps, at, at_states, step_t, step_nodes, step_values,
    crossing_event, crossing_t, crossing_sign, crossing_state, room,
):  # fmt: skip
    """`march`, with the room that `make_room` makes."""
    vectors, squares, stages, inner, outs, found, searched, _, whole = room
    events = len(watch)
    rate, after, state, rate_after = vectors[0], vectors[4], vectors[5], vectors[6]
    jacobian = squares[0]
    out, out_after, spare, within = outs[0], outs[1], outs[2], outs[3]
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
        h = min(clock[NEXT], longest)
        last = 1.001 * h >= remaining and remaining <= longest
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
            looked = False
            for e in range(events):
                what = watch[e]
                if first_only and not math.isnan(seen[e]):
                    continue
                begin = (z[what] if what < SIZE else out[what - SIZE]) - levels[e]
                end = (after[what] if what < SIZE else out_after[what - SIZE]) - levels[e]
                if what < SIZE:
                    far = out_of_reach(z, after, inner, levels[e], what)
                else:
                    if not looked:
                        place(INSIDE, z, after, inner, state)
                        values(state, par, within)
                        looked = True
                    far = remote(begin, within[what - SIZE] - levels[e], end)
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
    """Integrate `points` of an ensemble; see `march` and `reduced_dynamics.integration.many`."""
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
                t_ends[p], rtol, atol, math.inf, most_steps, at, at_states[p], none, no_nodes,
                no_values, nothing, none, nothing, no_states, room,
            )  # fmt: skip
            values(z, given, out)
        final[p] = z
        final_values[p] = out
        reached[p] = clock[HIGH]
