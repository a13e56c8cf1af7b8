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
from reduced_dynamics.integration.rosenbrock.step import (
    attempt,
    between,
    first_step,
    inlined,
    lean,
    place,
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


@njit(cache=True, nogil=True, error_model="numpy", _nrt=True, no_cfunc_wrapper=True)
def make_room():
    """All that `advance` works with."""
    return (
        np.empty((7, SIZE)), np.empty((2, SIZE, SIZE)), np.empty((8, SIZE)), np.empty((3, SIZE)),
        np.empty((4, VALUES + SIZE)), np.empty(MOST), np.empty((7, 2 * DEEPEST)),
        np.empty(SIZE, np.int64), np.empty((3, MOST), np.int64),
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy", _nrt=True, no_cfunc_wrapper=True)
def march(z, clock, counts, par, held, watching, limits, asked, steps, crossings):
    """Integrate from where `z`, `clock` and `counts` stand until the end or full records.

    Parameters
    ----------
    z : (SIZE,) state, updated
    clock : (3,) time in two parts, next step (0: choose)
    counts : (7,) steps, rejections, right-hand sides, Jacobians, times of `asked` passed, steps
        and crossings recorded by this call
    watching : what is watched (coordinates, then loss and observables), its level, +1, −1 or 0 for
        both directions, and the first crossing (nan before it), each of shape (events,); whether a
        crossing matters only the first time
    limits : the end, relative and absolute tolerance, how long a step may be, how many there may be
    asked : times, and the states there
    steps : records of steps, their ends, nodes and values; none are kept if they have no room
    crossings : records of crossings, of which event, when, in which direction and where

    Returns RUNNING if a record is full, DONE at the end, or what failed.
    """
    return advance(
        z, clock, counts, par, held, watching, limits, asked, steps, crossings, make_room()
    )


@lean
def advance(z, clock, counts, par, held, watching, limits, asked, steps, crossings, room):
    """`march`, with the room that `make_room` makes."""
    vectors, squares, _, inner, outs, _, _, _, _ = room
    rate, after, rate_after, jacobian = vectors[0], vectors[4], vectors[6], squares[0]
    out, out_after = outs[0], outs[1]
    t_end, rtol, atol, longest, most_steps = limits
    recording = len(steps[0]) > 0
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
        error, count = math.inf, 0
        if attempt(z, h, par, held, room):
            rate_into(after, par, out_after, rate_after)
            counts[RHS] += 8
            error = error_of(z, rtol, atol, room)
        if error <= 1.0:
            dense(room[2], inner)
            count = find_crossings(z, par, watching, room)
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
        note_crossings(count, h, z, clock, counts, watching, recording, crossings, room)
        note_states(h, last, z, clock, counts, asked, room)
        total = clock[HIGH] + h
        clock[LOW] += h - (total - clock[HIGH])
        clock[HIGH] = total + clock[LOW]
        clock[LOW] -= clock[HIGH] - total
        if last:
            clock[HIGH], clock[LOW] = t_end, 0.0
        if recording:
            note_step(z, clock, counts, steps, room)
        for k in range(SIZE):
            z[k], rate[k] = after[k], 0.0 if held[k] else rate_after[k]
        for k in range(VALUES):
            out[k] = out_after[k]
        counts[STEPS] += 1
        fresh = True
        grown = SAFETY * max(error, 1e-10) ** (-1.0 / ORDER)
        clock[NEXT] = h * min(max(grown, SHRINK), GROW)
        if recording and (
            counts[RECORDED] == len(steps[0]) or counts[CROSSED] + MOST > len(crossings[0])
        ):
            return RUNNING


@inlined
def error_of(z, rtol, atol, room):
    """The error of an attempt over its tolerance; infinite if anything after it is not finite."""
    vectors, _, stages, _, outs, _, _, _, _ = room
    after, rate_after, out_after = vectors[4], vectors[6], outs[1]
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
    return error


@inlined
def find_crossings(z, par, watching, room):
    """How many crossings there are within a step, or −1 if there are more than the room holds."""
    vectors, _, _, inner, outs, found, searched, _, whole = room
    watch, levels, _, seen, first_only = watching
    after, state = vectors[4], vectors[5]
    out, out_after, spare, within = outs[0], outs[1], outs[2], outs[3]
    signs, owner = whole[0], whole[1]
    count, looked = 0, False
    for e in range(len(watch)):
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
    return count


@inlined
def note_crossings(count, h, z, clock, counts, watching, recording, crossings, room):
    """Take the crossings of a step in order of time: the first of each event, and the records."""
    vectors, _, _, inner, _, found, _, _, whole = room
    _, _, directions, seen, first_only = watching
    event, when, direction, where = crossings
    after, state = vectors[4], vectors[5]
    signs, owner, order = whole[0], whole[1], whole[2]
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
            event[row], when[row], direction[row] = e, t, signs[c]
            for j in range(SIZE):
                where[row, j] = state[j]
            counts[CROSSED] += 1


@inlined
def note_states(h, last, z, clock, counts, asked, room):
    """The states at those times asked for that lie within a step."""
    vectors, inner = room[0], room[3]
    after, state = vectors[4], vectors[5]
    at, states = asked
    while counts[REACHED] < len(at):
        x = ((at[counts[REACHED]] - clock[HIGH]) - clock[LOW]) / h
        if not x <= 1.0 and not last:
            break
        place(min(max(x, 0.0), 1.0), z, after, inner, state)
        for k in range(SIZE):
            states[counts[REACHED], k] = state[k]
        counts[REACHED] += 1


@inlined
def note_step(z, clock, counts, steps, room):
    """The step's end, the dense output at its nodes, and its values."""
    after, inner, out_after = room[0][4], room[3], room[4][1]
    ends, nodes, values_after = steps
    row = counts[RECORDED]
    ends[row] = clock[HIGH]
    for j in range(NODES - 1):
        x = PLACES[j]
        for k in range(SIZE):
            nodes[row, j, k] = between(x, z, after, inner, k)
    for k in range(SIZE):
        nodes[row, NODES - 1, k] = after[k]
    for k in range(VALUES):
        values_after[row, k] = out_after[k]
    counts[RECORDED] += 1


@njit(cache=True, nogil=True, error_model="numpy", _nrt=True, no_cfunc_wrapper=True)
def march_points(points, starts, par, offsets, held, events, limits, at, at_states, results):
    """Integrate `points` of an ensemble; see `march` and `reduced_dynamics.integration.many`.

    Parameters
    ----------
    events : what is watched, its level, whether that is a share of the start, the direction that
        counts, whether the event may be there from the start
    limits : the ends, relative and absolute tolerance, how many steps there may be
    results : times of events, final states and values, counts, how it ended, and where
    """
    watch, levels, of_start, directions, from_start = events
    t_ends, rtol, atol, most_steps = limits
    event_t, final, final_values, counts, status, reached = results
    clock, own = np.empty(3), np.empty(len(watch))
    out, z = np.empty(VALUES), np.empty(SIZE)
    none, nothing = np.empty(0), np.empty(0, np.int64)
    steps = none, np.empty((0, NODES, SIZE)), np.empty((0, VALUES))
    crossings = nothing, none, nothing, np.empty((0, SIZE))
    room = make_room()
    for p in points:
        given = par[offsets[p] : offsets[p + 1]]
        z[:] = starts[p]
        clock[:] = 0.0
        values(z, given, out)
        usable = True
        for k in range(VALUES):
            usable = usable and math.isfinite(out[k])
        for e in range(len(watch)):
            now = z[watch[e]] if watch[e] < SIZE else out[watch[e] - SIZE]
            own[e] = levels[e] * now if of_start[e] else levels[e]
            event_t[p, e] = math.nan
            if from_start[e] and directions[e] >= 0 and now >= own[e] and not of_start[e]:
                event_t[p, e] = 0.0
        status[p] = NOT_FINITE
        if usable:
            status[p] = advance(
                z, clock, counts[p], given, held, (watch, own, directions, event_t[p], True),
                (t_ends[p], rtol, atol, math.inf, most_steps), (at, at_states[p]), steps,
                crossings, room,
            )  # fmt: skip
            values(z, given, out)
        final[p] = z
        final_values[p] = out
        reached[p] = clock[HIGH]
