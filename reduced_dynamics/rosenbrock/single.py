"""One trajectory by Rodas5P, with its dense output and every crossing, for `integrate`."""

from __future__ import annotations

import numpy as np

from reduced_dynamics.errors import IntegrationError
from reduced_dynamics.problem import Problem
from reduced_dynamics.rosenbrock.build import integrator
from reduced_dynamics.rosenbrock.kernel import (
    DONE,
    JAC,
    MOST,
    NOT_FINITE,
    RECORDED,
    REJECTED,
    RHS,
    RUNNING,
    STUCK,
    TOO_MANY,
)
from reduced_dynamics.rosenbrock.kernel import CROSSED as CROSSINGS
from reduced_dynamics.trajectory import NODES

#: The tolerances asked for are the trajectory's; a step is given this part of them.
LOCAL = 1.0
#: A step count no healthy run comes near; beyond it a run is stuck.
MAX_STEPS = 200_000
#: Steps computed between two looks at the clock, the horizon and the keyboard.
CHUNK = 128

REASONS = {
    STUCK: "the step has become too small to go on",
    NOT_FINITE: "the Jacobian is no longer finite",
    TOO_MANY: f"no end after {MAX_STEPS} steps",
}


def watches(problem: Problem) -> np.ndarray:
    """What every event watches, as the kernel counts: coordinates, then loss and observables."""
    size, columns, system = len(problem.z0), problem.columns, problem.system
    return np.array(
        [
            size + columns[e.watch] if e.watch in columns else system.index(e.watch)
            for e in problem.events
        ],
        dtype=np.int64,
    )


def run_rodas(problem: Problem, recorder, progress) -> str:
    size, options = len(problem.z0), problem.options
    march = integrator(problem.system, problem.values, problem.compiled).march
    z, clock, counts = problem.z0.copy(), np.zeros(3), np.zeros(7, np.int64)
    held = np.ascontiguousarray(problem.held)
    watch, directions = watches(problem), np.array([e.direction for e in problem.events])
    seen = np.full(len(watch), np.nan)
    times, nodes = np.empty(CHUNK), np.empty((CHUNK, NODES, size))
    table = np.empty((CHUNK, len(problem.first)))
    room = 4 * MOST
    event, at, sign = np.empty(room, np.int64), np.empty(room), np.empty(room, np.int64)
    where = np.empty((room, size))
    none, no_states = np.empty(0), np.empty((0, size))
    while True:
        status = march(
            z, clock, counts, problem.par, held, watch, problem.levels, directions, False, seen,
            problem.t_end, options.rtol * LOCAL, options.atol * LOCAL, MAX_STEPS, none, no_states,
            times, nodes, table, event, at, sign, where,
        )  # fmt: skip
        recorder.stats |= {
            "rhs": int(counts[RHS]),
            "jac": int(counts[JAC]),
            "rejected": int(counts[REJECTED]),
        }
        crossed, count = 0, int(counts[CROSSINGS])
        steps = int(counts[RECORDED])
        kept, values, reached = nodes[:steps].copy(), table[:steps].copy(), times[:steps].tolist()
        for k in range(steps):
            while crossed < count and at[crossed] <= reached[k]:
                c = crossed
                recorder.cross(
                    problem.events[event[c]], float(at[c]), int(sign[c]), where[c].copy()
                )
                crossed += 1
            if reason := problem.outside(kept[k, -1]):
                raise IntegrationError(reason, recorder.trajectory(reason))
            recorder.stats["steps"] += 1
            recorder.add_step(reached[k], kept[k], values[k])
            message = recorder.done()
            if message is not None:
                return message
        if progress is not None:
            progress(recorder.progress())
        if status not in (RUNNING, DONE):
            raise _failure(problem, recorder, REASONS[status])


def _failure(problem, recorder, reason: str) -> IntegrationError:
    message = (
        f"{problem.options.method} failed at t = {recorder.t[-1]:g}: {reason}; try --method Radau, "
        "a looser --rtol, or a horizon before that time (--t-end)"
    )
    return IntegrationError(message, recorder.trajectory(message))
