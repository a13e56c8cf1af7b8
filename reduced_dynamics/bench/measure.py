"""Speed at equal accuracy: this package's integrator beside others, on the same trajectories.

Every contender integrates the same points; for each the loosest tolerance is sought whose events
are right to the accuracy asked for, and with that one it is timed. Time is that of the thread, so
that other processes on the machine disturb little; the best of several repetitions counts.
"""

import importlib.util
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from reduced_dynamics.bench.contenders import ABSOLUTE, Case, Outcome, scipy_method, sundae
from reduced_dynamics.bench.contenders_compiled import diffrax, numbalsoda, scijit
from reduced_dynamics.core.errors import InputError, IntegrationError
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.integration.ensemble import Preparation
from reduced_dynamics.integration.one import integrate
from reduced_dynamics.integration.problem import Options, Problem
from reduced_dynamics.integration.rosenbrock.build import integrator

#: Tolerances tried, loosest first.
TOLERANCES = tuple(float(f"{m}e{e}") for e in range(-4, -13, -1) for m in ("3", "1"))
#: The reference's tolerances, and scipy's Radau's that it is checked against.
REFERENCE, CHECK = 1e-13, 1e-12


@dataclass(frozen=True)
class Row:
    """One line of the table; times are seconds of one thread."""

    contender: str
    rtol: float = np.nan
    error: float = np.nan
    per_s: float = np.nan
    trajectory_s: float = np.nan
    steps: float | None = None
    rhs: float | None = None
    floor: float | None = None
    points: int = 0
    note: str = ""


def make_case(system: ReducedSystem, parameters: list[dict], t_end: str) -> Case:
    """The points of a benchmark with reference events, three of them checked against Radau.

    Raises
    ------
    InputError
        For parameters out of range.
    """
    options = {"t_end": t_end, "rtol": REFERENCE, "atol": REFERENCE * ABSOLUTE}
    ensemble = Preparation(system, parameters, **options).run(lanes=False)
    for reason in filter(None, ensemble.reasons):
        raise InputError(f"a point of the benchmark cannot be integrated: {reason}")
    problems = [Problem(system, p, Options(t_end=t_end)) for p in parameters]
    worst = 0.0
    for k in sorted({0, len(parameters) // 2, len(parameters) - 1}):
        run = integrate(
            system, parameters[k], t_end=t_end, method="Radau", rtol=CHECK, atol=CHECK * ABSOLUTE
        )
        for true, t in zip(ensemble.events[k], run.events.values(), strict=True):
            if t is not None:
                worst = max(worst, abs(t / true - 1.0))
    return Case(system, parameters, t_end, problems, ensemble.events, worst)


def _own(lanes: bool, case: Case, rtol: float, count: int) -> Outcome:
    prepared = Preparation(
        case.system, case.parameters[:count], t_end=case.t_end, rtol=rtol, atol=rtol * ABSOLUTE
    )
    began = time.thread_time()
    ensemble = prepared.run(threads=1, lanes=lanes)
    seconds = time.thread_time() - began
    stats = ensemble.stats
    steps = (stats["steps"] + stats["rejected"]).mean()
    return Outcome(seconds, ensemble.events, steps, stats["rhs"].mean())


def _single(case: Case, rtol: float, count: int) -> Outcome:
    options = {"t_end": case.t_end, "method": "Rodas5P", "rtol": rtol, "atol": rtol * ABSOLUTE}
    began = time.thread_time()
    runs = [integrate(case.system, p, **options) for p in case.parameters[:count]]
    seconds = time.thread_time() - began
    events = np.array([[np.nan if t is None else t for t in r.events.values()] for r in runs])
    steps = np.mean([r.stats["steps"] + r.stats["rejected"] for r in runs])
    rhs = np.mean([r.stats["rhs"] for r in runs])
    return Outcome(seconds, events, float(steps), float(rhs))


#: (name, package that must be installed, how to solve, points at most).
CONTENDERS: tuple[tuple[str, str, Callable, int], ...] = (
    ("Rodas5P, lanes", "", lambda: partial(_own, True), 10**6),
    ("Rodas5P, scalar", "", lambda: partial(_own, False), 10**6),
    ("Rodas5P, single runs", "", lambda: _single, 50),
    ("numbalsoda", "numbalsoda", numbalsoda, 10**6),
    ("scipy LSODA", "scipy", lambda: partial(scipy_method, "LSODA"), 10),
    ("scipy BDF", "scipy", lambda: partial(scipy_method, "BDF"), 4),
    ("scipy Radau", "scipy", lambda: partial(scipy_method, "Radau"), 4),
    ("scikit-sundae CVODE", "sksundae", sundae, 10),
    # These compile for minutes.
    ("scijit LSODA", "scijit", scijit, 12),
    ("diffrax Kvaerno5", "diffrax", diffrax, 4),
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
            yield Row(name, note=f"not installed ({package})")
            continue
        try:
            yield _measure(name, make(), case, accuracy, min(most, len(case.parameters)), repeat)
        except (InputError, IntegrationError, ArithmeticError) as reason:
            yield Row(name, note=re.split("[;:]", str(reason))[0])


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
    """Seconds of one right-hand side, when many that do not need each other follow each other."""
    from numba import njit

    problem = case.problems[0]
    module = integrator(problem.system, problem.values, problem.compiled)._module
    wide = module.LANES if lanes else 1
    function = module.lane_rate if lanes else module.rate_into
    size, values = module.SIZE, module.VALUES

    @njit(error_model="numpy")
    def loop(times, states, par, out, rate):
        total = 0.0
        for _ in range(times):
            for k in range(len(states)):
                function(states[k], par, out, rate)
                total += rate[0]
        return total

    z, par = np.repeat(problem.z0, wide), np.repeat(problem.par, wide) if lanes else problem.par
    states = z + np.random.default_rng(0).uniform(0.0, 1e-3, (16, len(z)))
    arguments = (states, par, np.empty((values + size) * wide), np.empty(size * wide))
    loop(1, *arguments)
    times, best = max(1, calls // (len(states) * wide)), np.inf
    for _ in range(5):
        began = time.thread_time()
        loop(times, *arguments)
        best = min(best, (time.thread_time() - began) / (times * len(states) * wide))
    return best
