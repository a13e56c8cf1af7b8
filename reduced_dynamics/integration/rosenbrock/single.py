"""One trajectory by Rodas5P, with its dense output and every crossing, for `integrate`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from reduced_dynamics.core.errors import IntegrationError
from reduced_dynamics.core.system import Event
from reduced_dynamics.integration.chart import Charted, chart_of
from reduced_dynamics.integration.flow import ADVANCE, PATIENCE
from reduced_dynamics.integration.problem import MAX_STEPS, Problem
from reduced_dynamics.integration.rosenbrock.build import integrator
from reduced_dynamics.integration.rosenbrock.crossings import MOST
from reduced_dynamics.integration.rosenbrock.kernel import CROSSED as CROSSINGS
from reduced_dynamics.integration.rosenbrock.kernel import (
    DONE,
    JAC,
    NOT_FINITE,
    RECORDED,
    REJECTED,
    RHS,
    RUNNING,
    STUCK,
    TOO_MANY,
)

#: The tolerances asked for are the trajectory's; a step is given these parts of them, relative and
#: absolute. A small start on a plateau needs the second: errors grow there as the state does.
LOCAL = (1.0, 1e-3)
#: Steps between two looks at the clock, the horizon and the keyboard: at first, and at most; as
#: many as take about `PAUSE` seconds.
FIRST, MOST_STEPS, PAUSE = 32, 1024, 0.1

REASONS = {
    STUCK: "the step has become too small to go on",
    NOT_FINITE: "the Jacobian is no longer finite",
    TOO_MANY: f"no end after {MAX_STEPS} steps or more",
}


def watches(events: Sequence[Event], names: Sequence[str], columns: Mapping[str, int], chart=False):
    """What every event watches, as the kernel counts: coordinates, then loss and observables.

    Parameters
    ----------
    events : sequence of Event
    names : sequence of str
        The coordinates.
    columns : mapping of str to int
        Places of the loss and the observables among the values; in a chart, coordinates follow.
    """
    size = len(names)
    places = {name: size + len(columns) + k if chart else k for k, name in enumerate(names)}
    places |= {name: size + k for name, k in columns.items()}
    return np.array([places[e.watch] for e in events], dtype=np.int64)


def run_rodas(problem: Problem, recorder, progress) -> str:
    size, options, events = len(problem.z0), problem.options, problem.events
    chart = chart_of(problem)
    charted = isinstance(chart, Charted)
    march = integrator(problem.system, problem.values, problem.compiled, charted).march
    z, clock, counts = chart.start.copy(), np.zeros(3), np.zeros(7, np.int64)
    held = np.ascontiguousarray(problem.held)
    watch = watches(events, problem.system.names, problem.columns, charted)
    directions = np.array([e.direction for e in events], dtype=np.int64)
    watching = watch, problem.levels, directions, np.full(len(watch), np.nan), False
    asked = np.empty(0), np.empty((0, size))
    room = 2 * MOST
    event, at, sign = np.empty(room, np.int64), np.empty(room), np.empty(room, np.int64)
    where = np.empty((room, size))
    started = set(recorder.seen)
    taken, chunk = 0, FIRST
    mark = (0, 0.0)  # steps and time when it was last looked whether they advance
    while True:
        # Steps are written to where the recorder keeps them.
        reached, nodes, values = recorder.room(chunk)
        own_nodes, own_values = nodes, values
        if charted:
            own_nodes, own_values = np.empty_like(nodes), np.empty((chunk, values.shape[1] + size))
        limits = (
            float(problem.t_end), options.rtol * LOCAL[0], options.atol * LOCAL[1],
            float(options.max_step), problem.most_steps,
        )  # fmt: skip
        began = time.perf_counter()
        status = march(
            z, clock, counts, problem.par, held, watching, limits, asked,
            (reached, own_nodes, own_values), (event, at, sign, where),
        )  # fmt: skip
        seconds = time.perf_counter() - began
        if seconds < 0.5 * PAUSE:
            chunk = min((8 if seconds < 0.05 * PAUSE else 2) * chunk, MOST_STEPS)
        chunk = max(chunk // 2, 1) if seconds > 2.0 * PAUSE else chunk
        recorder.stats |= {
            **chart.stats,
            "rhs": int(counts[RHS]),
            "jac": int(counts[JAC]),
            "rejected": int(counts[REJECTED]),
        }
        steps, crossed = int(counts[RECORDED]), int(counts[CROSSINGS])
        if charted:
            nodes[:steps] = chart.rows(own_nodes[:steps])
            values[:steps] = own_values[:steps, : values.shape[1]]
            where[:crossed] = chart.rows(where[:crossed])
        crossings = [
            (events[event[c]], float(at[c]), int(sign[c]), where[c]) for c in range(crossed)
        ]
        if charted:
            crossings = _new(crossings, started)
        crossings.reverse()
        if not problem.automatic and steps and _rises(recorder.t[-1], reached[:steps]):
            kept, reason = _inside(problem, nodes[:steps, -1])
            for crossing in reversed(crossings):
                recorder.cross(*crossing)
            recorder.keep(kept)
            recorder.stats["steps"] = taken + kept
            if reason:
                raise IntegrationError(reason, recorder.trajectory(reason))
            message = recorder.done()
            if message is not None:
                return message
        else:
            for k in range(steps):
                while crossings and crossings[-1][1] <= reached[k]:
                    recorder.cross(*crossings.pop())
                recorder.add_step(float(reached[k]), nodes[k], values[k])
                if reason := problem.outside(nodes[k, -1]):
                    raise IntegrationError(reason, recorder.trajectory(reason))
                recorder.stats["steps"] = taken + k + 1
                message = recorder.done()
                if message is not None:
                    return message
        taken += steps
        if taken - mark[0] >= PATIENCE and status == RUNNING:
            if recorder.t[-1] - mark[1] <= ADVANCE * recorder.t[-1]:
                raise _failure(problem, recorder, "steps no longer advance the time")
            mark = (taken, recorder.t[-1])
        recorder.tell(progress)
        if status not in (RUNNING, DONE):
            raise _failure(problem, recorder, REASONS[status])


def _new(crossings: list, started: set[str]) -> list:
    """Without those of events that began at their level, and come to it again from below.

    On the way into the chart and back a start may lose its last digit, and lie below the level.
    """
    kept = []
    for crossing in crossings:
        event, _, direction, _ = crossing
        if event.name not in started or direction < 0:
            kept.append(crossing)
        started.discard(event.name)
    return kept


def _inside(problem: Problem, states: np.ndarray) -> tuple[int, str]:
    """How many of the steps to keep: up to the first where the equations do not hold, and why."""
    if problem.system.outside is not None:
        for k, state in enumerate(states):
            if reason := problem.outside(state):
                return k + 1, reason
    return len(states), ""


def _rises(before: float, times: np.ndarray) -> bool:
    """Whether every one of the times is later than the one before."""
    return bool(before < times[0]) and bool((times[1:] > times[:-1]).all())


def _failure(problem, recorder, reason: str) -> IntegrationError:
    message = (
        f"{problem.options.method} failed at t = {recorder.t[-1]:g}: {reason}; try --method Radau, "
        "a looser --rtol, or a horizon before that time (--t-end)"
    )
    return IntegrationError(message, recorder.trajectory(message))
