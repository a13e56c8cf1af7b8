"""Other integrators on the same trajectories, each behind one small contract.

A contender is a function of a `Case`, a relative tolerance and a number of points that gives an
`Outcome`. Those that compile do so before their time is taken. Time is that of the thread.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.integration.problem import Problem

#: The absolute tolerance is this part of the relative one.
ABSOLUTE = 1e-3


@dataclass(frozen=True)
class Case:
    """The trajectories to integrate, and when their events truly happen."""

    system: ReducedSystem
    parameters: list[dict]
    t_end: str
    problems: list[Problem] = field(repr=False)
    reference: np.ndarray = field(repr=False)
    checked: float = 0.0

    def error(self, events: np.ndarray) -> float:
        """Largest relative error of an event's time over the first points."""
        true = self.reference[: len(events)]
        with np.errstate(invalid="ignore"):
            wrong = np.isnan(true) != np.isnan(events)
            return np.inf if wrong.any() else float(np.nanmax(np.abs(events / true - 1.0)))


@dataclass(frozen=True)
class Outcome:
    """What one contender did with the first points of a case."""

    seconds: float
    events: np.ndarray
    steps: float | None = None
    rhs: float | None = None


Solve = Callable[[Case, float, int], Outcome]


def once(make: Callable[[Problem], Any]) -> Callable[[Problem], Any]:
    """What is compiled for a problem, kept for others of the same equations."""
    known: dict[str, Any] = {}

    def compiled(problem: Problem) -> Any:
        key = problem.compiled.source
        if key not in known:
            known[key] = make(problem)
        return known[key]

    return compiled


def scipy_method(method: str, case: Case, rtol: float, count: int) -> Outcome:
    """scipy as people use it: compiled right-hand side and Jacobian, events as functions."""
    from scipy.integrate import solve_ivp

    events, steps, rhs = [], [], []
    began = time.thread_time()
    for problem in case.problems[:count]:
        found = solve_ivp(
            lambda t, z, p=problem: p.compiled.flow(t, z, p.par),
            (0.0, problem.t_end),
            problem.z0,
            method=method,
            jac=lambda t, z, p=problem: p.compiled.jacobian(t, z, p.par),
            events=_watchers(problem),
            rtol=rtol,
            atol=rtol * ABSOLUTE,
        )
        if not found.success:
            raise ArithmeticError(found.message)
        events.append([t[0] if len(t) else np.nan for t in found.t_events])
        steps.append(len(found.t) - 1)
        rhs.append(found.nfev)
    seconds = time.thread_time() - began
    return Outcome(seconds, np.array(events), float(np.mean(steps)), float(np.mean(rhs)))


def _in_place(problem: Problem) -> tuple[Callable, Callable, Callable]:
    """Flow, Jacobian and events as `CVODE` takes them; the state it hands over is read-only."""
    watchers = _watchers(problem)

    def flow(t, z, dz):
        dz[:] = problem.compiled.flow(t, z.copy(), problem.par)

    def jacobian(t, z, dz, matrix):
        matrix[:, :] = problem.compiled.jacobian(t, z.copy(), problem.par)

    def found(t, z, g):
        g[:] = [watch(t, z.copy()) for watch in watchers]

    found.terminal = [False] * len(watchers)
    found.direction = [watch.direction for watch in watchers]
    return flow, jacobian, found


def _watchers(problem: Problem) -> list[Callable]:
    """What `solve_ivp` takes as events, those of the system."""

    def watch(event, level):
        column = problem.columns.get(event.watch)
        place = problem.system.index(event.watch) if column is None else None

        def function(t, z):
            if column is None:
                return z[place] - level
            return problem.compiled.value_table(z[None], problem.par)[0, column] - level

        function.direction = event.direction
        return function

    return [watch(e, problem.levels[k]) for k, e in enumerate(problem.system.events)]


def late(problem: Problem, event: int, state: np.ndarray) -> float:
    """How much later than now, where the state is `state`, an event takes place."""
    rate = problem.rate(0.0, state)
    step = 1e-6 / max(np.abs(rate).max(), 1e-300)
    states = np.stack([state - step * rate, state, state + step * rate])
    table = problem.compiled.value_table(states, problem.par)
    before, now, after = problem.watched(states, table)[:, event]
    return -now * 2.0 * step / (after - before)


def sundae() -> Solve:
    """SUNDIALS' CVODE through scikit-sundae, with functions called from Python."""
    from sksundae.cvode import CVODE

    def solve(case: Case, rtol: float, count: int) -> Outcome:
        events, steps, rhs, seconds = [], [], [], 0.0
        for problem in case.problems[:count]:
            flow, jacobian, found = _in_place(problem)
            watchers = problem.system.events
            began = time.thread_time()
            solver = CVODE(
                flow, rtol=rtol, atol=rtol * ABSOLUTE, jacfn=jacobian, eventsfn=found,
                num_events=len(watchers), max_num_steps=10**6,
            )  # fmt: skip
            solution = solver.solve(np.array([0.0, problem.t_end]), problem.z0)
            seconds += time.thread_time() - began
            if not solution.success:
                raise ArithmeticError(solution.message)
            row = np.full(len(watchers), np.nan)
            if solution.t_events is not None:
                for t, which in zip(solution.t_events, solution.i_events, strict=True):
                    row[(np.asarray(which) != 0) & np.isnan(row)] = t
            events.append(row)
            rhs.append(solution.nfev)
            steps.append(len(solution.t) - 1)
        return Outcome(seconds, np.array(events), float(np.mean(steps)), float(np.mean(rhs)))

    return solve
