"""Speed at equal accuracy: this package's integrator beside others, on the same trajectories.

Every contender integrates the same points; for each the loosest tolerance is sought whose events
are right to the accuracy asked for, and with that one it is timed. Time is that of the thread, so
that other processes on the machine disturb little; the best of several repetitions counts.
"""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import numpy as np

from reduced_dynamics.ensemble import Preparation
from reduced_dynamics.errors import InputError, IntegrationError
from reduced_dynamics.integration import integrate
from reduced_dynamics.problem import Options, Problem
from reduced_dynamics.rosenbrock.build import integrator
from reduced_dynamics.systems import get

#: Tolerances tried, loosest first; the absolute one is this part of the relative one.
TOLERANCES = tuple(float(f"{m}e{e}") for e in range(-4, -13, -1) for m in ("3", "1"))
ABSOLUTE = 1e-3
#: The reference's tolerances, and scipy's Radau's that it is checked against.
REFERENCE, CHECK = 1e-13, 1e-12


@dataclass(frozen=True)
class Case:
    """The trajectories to integrate, and when their events truly happen."""

    name: str
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


@dataclass(frozen=True)
class Row:
    """One line of the table; times are seconds of one thread."""

    contender: str
    rtol: float
    error: float
    per_s: float
    trajectory_s: float
    steps: float | None
    rhs: float | None
    floor: float | None
    points: int
    note: str = ""


def make_case(name: str, parameters: list[dict], t_end: str) -> Case:
    """The points of a benchmark with reference events, three of them checked against Radau.

    Raises
    ------
    InputError
        For parameters out of range.
    """
    options = {"t_end": t_end, "rtol": REFERENCE, "atol": REFERENCE * ABSOLUTE}
    ensemble = Preparation(name, parameters, **options).run(lanes=False)
    for reason in filter(None, ensemble.reasons):
        raise InputError(f"a point of the benchmark cannot be integrated: {reason}")
    problems = [Problem(get(name), p, Options(t_end=t_end)) for p in parameters]
    worst = 0.0
    for k in sorted({0, len(parameters) // 2, len(parameters) - 1}):
        run = integrate(
            name, parameters[k], t_end=t_end, method="Radau", rtol=CHECK, atol=CHECK * ABSOLUTE
        )
        for true, t in zip(ensemble.events[k], run.events.values(), strict=True):
            if t is not None:
                worst = max(worst, abs(t / true - 1.0))
    return Case(name, parameters, t_end, problems, ensemble.events, worst)


# ---------------------------------------------------------------- contenders


def _own(lanes: bool) -> Callable[[Case, float, int], Outcome]:
    def solve(case: Case, rtol: float, count: int) -> Outcome:
        prepared = Preparation(
            case.name, case.parameters[:count], t_end=case.t_end, rtol=rtol, atol=rtol * ABSOLUTE
        )
        began = time.thread_time()
        ensemble = prepared.run(threads=1, lanes=lanes)
        seconds = time.thread_time() - began
        stats = ensemble.stats
        steps = (stats["steps"] + stats["rejected"]).mean()
        return Outcome(seconds, ensemble.events, steps, stats["rhs"].mean())

    return solve


def _single(method: str) -> Callable[[Case, float, int], Outcome]:
    def solve(case: Case, rtol: float, count: int) -> Outcome:
        began = time.thread_time()
        runs = [
            integrate(
                case.name, p, t_end=case.t_end, method=method, rtol=rtol, atol=rtol * ABSOLUTE
            )
            for p in case.parameters[:count]
        ]
        seconds = time.thread_time() - began
        events = np.array([[np.nan if t is None else t for t in r.events.values()] for r in runs])
        steps, rhs = (np.mean([r.stats[k] for r in runs]) for k in ("steps", "rhs"))
        return Outcome(seconds, events, float(steps), float(rhs))

    return solve


def _scipy(method: str) -> Callable[[Case, float, int], Outcome]:
    """scipy as people use it: compiled right-hand side and Jacobian, events as functions."""

    def solve(case: Case, rtol: float, count: int) -> Outcome:
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

    return solve


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
        if event.watch in problem.columns:
            column = problem.columns[event.watch]

            def function(t, z):
                return problem.compiled.value_table(z[None], problem.par)[0, column] - level

        else:
            place = problem.system.index(event.watch)

            def function(t, z):
                return z[place] - level

        function.direction = event.direction
        return function

    return [watch(e, problem.levels[k]) for k, e in enumerate(problem.system.events)]


def _numbalsoda() -> Callable[[Case, float, int], Outcome]:
    """numbalsoda locates no events: it is asked for the states at their true times.

    The error of an event's time is then the watched quantity there over its rate of change; and
    its time does not include finding events.
    """
    import numba
    from numbalsoda import lsoda, lsoda_sig

    functions: dict[str, tuple] = {}

    def compiled(problem: Problem):
        key = problem.compiled.source
        if key not in functions:
            module = integrator(problem.system, problem.values, problem.compiled)._module
            rate, size, values = module.rate_into, module.SIZE, module.VALUES
            tail = size + values + 1

            @numba.cfunc(lsoda_sig)
            def right_hand_side(t, z, dz, data):
                # data: length, parameters, room for values, and a count.
                length = int(numba.carray(data, (1,))[0])
                everything = numba.carray(data, (length,))
                everything[length - 1] += 1.0
                rate(
                    numba.carray(z, (size,)),
                    everything[1 : length - tail],
                    everything[length - tail : length - 1],
                    numba.carray(dz, (size,)),
                )

            address = right_hand_side.address

            @numba.njit
            def run(starts, data, offsets, times, rtol, atol, states):
                fine = True
                for k in range(len(starts)):
                    own = data[offsets[k] : offsets[k + 1]]
                    found, good = lsoda(address, starts[k], times[k], own, rtol, atol, 1_000_000)
                    states[k] = found
                    fine = fine and good
                return fine

            functions[key] = run, tail, right_hand_side
        return functions[key]

    def solve(case: Case, rtol: float, count: int) -> Outcome:
        problems = case.problems[:count]
        run, tail, _ = compiled(problems[0])
        ends = np.array([[p.t_end] for p in problems])
        order = np.argsort(case.reference[:count], axis=1)
        times = np.take_along_axis(case.reference[:count], order, axis=1)
        times = np.where(np.isnan(times), ends, times)
        times = np.concatenate([np.zeros((count, 1)), times, ends], axis=1)
        parts = [np.concatenate([[0.0], p.par, np.zeros(tail)]) for p in problems]
        for part in parts:
            part[0] = len(part)
        data, starts = np.concatenate(parts), np.array([p.z0 for p in problems])
        offsets = np.cumsum([0, *map(len, parts)])
        states = np.empty((*times.shape, starts.shape[1]))
        arguments = (starts, data, offsets, times, rtol, rtol * ABSOLUTE, states)
        run(*(a[:1] if k in (0, 3, 6) else a for k, a in enumerate(arguments)))  # compiles
        data[offsets[1:] - 1] = 0.0
        began = time.thread_time()
        fine = run(*arguments)
        seconds = time.thread_time() - began
        if not fine:
            raise ArithmeticError("numbalsoda failed")
        events = case.reference[:count].copy()
        for k, problem in enumerate(problems):
            for place, event in enumerate(order[k]):
                if not np.isnan(events[k, event]):
                    events[k, event] += _late(problem, event, states[k, 1 + place])
        return Outcome(seconds, events, None, float(data[offsets[1:] - 1].mean()))

    return solve


def _late(problem: Problem, event: int, state: np.ndarray) -> float:
    """How much later than now, where the state is `state`, an event takes place."""
    rate = problem.rate(0.0, state)
    step = 1e-6 / max(np.abs(rate).max(), 1e-300)
    states = np.stack([state - step * rate, state, state + step * rate])
    table = problem.compiled.value_table(states, problem.par)
    before, now, after = problem.watched(states, table)[:, event]
    return -now * 2.0 * step / (after - before)


def _sundae() -> Callable[[Case, float, int], Outcome]:
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
                    for k in np.flatnonzero(which):
                        row[k] = t if np.isnan(row[k]) else row[k]
            events.append(row)
            rhs.append(solution.nfev)
            steps.append(len(solution.t) - 1)
        return Outcome(seconds, np.array(events), float(np.mean(steps)), float(np.mean(rhs)))

    return solve


#: (name, package that must be installed, how to solve, points at most).
CONTENDERS: tuple[tuple[str, str, Callable, int], ...] = (
    ("Rodas5P, lanes", "", lambda: _own(True), 10**6),
    ("Rodas5P, scalar", "", lambda: _own(False), 10**6),
    ("Rodas5P, single runs", "", lambda: _single("Rodas5P"), 50),
    ("numbalsoda", "numbalsoda", _numbalsoda, 10**6),
    ("scipy LSODA", "scipy", lambda: _scipy("LSODA"), 10),
    ("scipy BDF", "scipy", lambda: _scipy("BDF"), 4),
    ("scipy Radau", "scipy", lambda: _scipy("Radau"), 4),
    ("scikit-sundae CVODE", "sksundae", _sundae, 10),
)


def compare(case: Case, accuracy: float, repeat: int = 3) -> Iterator[Row]:
    """Time every contender that is installed, at the accuracy asked for.

    Parameters
    ----------
    case : Case
    accuracy : float
        Largest relative error of any event's time.
    repeat : int
        The best of so many timings counts.
    """
    for name, package, make, most in CONTENDERS:
        if package and importlib.util.find_spec(package) is None:
            yield _skipped(name, f"not installed ({package})")
            continue
        try:
            yield _measure(name, make(), case, accuracy, min(most, len(case.parameters)), repeat)
        except (InputError, IntegrationError, ArithmeticError) as reason:
            yield _skipped(name, re.split("[;:]", str(reason))[0])


def _skipped(name: str, why: str) -> Row:
    return Row(name, np.nan, np.nan, np.nan, np.nan, None, None, None, 0, why)


def _measure(name, solve, case: Case, accuracy: float, count: int, repeat: int) -> Row:
    probe = min(count, 12)
    # Points are shuffled, so the first of them stand for all.
    for rtol in TOLERANCES:
        if rtol > 1e3 * accuracy:
            continue
        try:
            error = case.error(solve(case, rtol, probe).events)
        except ArithmeticError:
            continue
        if error <= accuracy:
            outcomes = [solve(case, rtol, count) for _ in range(repeat)]
            best = min(outcomes, key=lambda o: o.seconds)
            error = case.error(best.events)
            if error <= accuracy:
                break
    else:
        raise ArithmeticError(f"no tolerance reaches an accuracy of {accuracy:g}")
    each = best.seconds / count
    floor = None
    if name.startswith("Rodas5P,") and best.steps:
        floor = 8 * best.steps * _throughput(case, name.endswith("lanes")) / each
    return Row(name, rtol, error, 1.0 / each, each, best.steps, best.rhs, floor, count)


def _throughput(case: Case, lanes: bool, calls: int = 20_000) -> float:
    """Seconds of one right-hand side, called again and again with nothing between."""
    from numba import njit

    problem = case.problems[0]
    module = integrator(problem.system, problem.values, problem.compiled)._module
    wide = module.LANES if lanes else 1
    function = module.lane_rate if lanes else module.rate_into
    size, values = module.SIZE, module.VALUES

    @njit(error_model="numpy")
    def loop(count, z, par, out, rate):
        for _ in range(count):
            function(z, par, out, rate)
            z[0] += 1e-12 * rate[0]

    z, par = np.repeat(problem.z0, wide), np.repeat(problem.par, wide) if lanes else problem.par
    arguments = (z, par, np.empty((values + size) * wide), np.empty(size * wide))
    loop(1, *arguments)
    best = np.inf
    for _ in range(5):
        began = time.thread_time()
        loop(calls // wide, *arguments)
        best = min(best, (time.thread_time() - began) / (calls // wide))
    return best / wide


def as_dict(row: Row) -> dict:
    """The row for JSON: what is not a number is null."""
    return {
        k: None if isinstance(v, float) and not np.isfinite(v) else v
        for k, v in asdict(row).items()
    }
