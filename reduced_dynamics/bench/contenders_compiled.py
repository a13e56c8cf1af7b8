"""Contenders that compile the whole of an integration: numbalsoda, scijit, diffrax."""

import time

import numpy as np

from reduced_dynamics.bench.contenders import ABSOLUTE, Case, Outcome, Solve, late, once
from reduced_dynamics.integration.problem import Problem
from reduced_dynamics.integration.rosenbrock.build import integrator
from reduced_dynamics.integration.rosenbrock.single import watches


def asked(case: Case, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which event comes when, and the true times of all and the horizon, point by point."""
    ends = np.array([[p.t_end] for p in case.problems[:count]])
    order = np.argsort(case.reference[:count], axis=1)
    times = np.take_along_axis(case.reference[:count], order, axis=1)
    return order, np.concatenate([np.where(np.isnan(times), ends, times), ends], axis=1)


def found_late(case: Case, order: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Times of events from the states at their true times; see `late`."""
    events = case.reference[: len(states)].copy()
    for k, problem in enumerate(case.problems[: len(states)]):
        for place, event in enumerate(order[k]):
            if not np.isnan(events[k, event]):
                events[k, event] += late(problem, event, states[k, place])
    return events


def numbalsoda() -> Solve:
    """numbalsoda locates no events: it is asked for the states at their true times.

    The error of an event's time is then the watched quantity there over its rate of change; and
    its time does not include finding events.
    """
    import numba
    from numbalsoda import lsoda, lsoda_sig

    @once
    def compiled(problem: Problem):
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

        return run, tail, right_hand_side

    def solve(case: Case, rtol: float, count: int) -> Outcome:
        problems = case.problems[:count]
        run, tail, _ = compiled(problems[0])
        order, times = asked(case, count)
        times = np.concatenate([np.zeros((count, 1)), times], axis=1)
        parts = [[1.0 + len(p.par) + tail, *p.par, *np.zeros(tail)] for p in problems]
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
        events = found_late(case, order, states[:, 1:])
        return Outcome(seconds, events, None, float(data[offsets[1:] - 1].mean()))

    return solve


def scijit() -> Solve:
    """ODEPACK's LSODA with root finding, called from compiled code; events are found by it."""
    import numba
    from scijit.integrate import solve_ivp

    @once
    def compiled(problem: Problem):
        module = integrator(problem.system, problem.values, problem.compiled)._module
        rate, values = module.rate_into, module.values
        size, count = module.SIZE, module.VALUES
        system = problem.system
        watch = watches(system.events, system.names, problem.columns)
        direction = np.array([float(e.direction) for e in system.events])
        events = len(watch)

        @numba.njit(error_model="numpy")
        def flow(t, z, data):
            dz = np.empty(size)
            rate(z, data[events:], np.empty(count + size), dz)
            return dz

        @numba.njit(error_model="numpy")
        def found(t, z, data):
            out, g = np.empty(count), np.empty(events)
            values(z, data[events:], out)
            for e in range(events):
                what = watch[e]
                g[e] = (z[what] if what < size else out[what - size]) - data[e]
            return g

        @numba.njit
        def run(starts, data, offsets, ends, rtol, atol, times, rhs):
            fine = True
            for k in range(len(starts)):
                own = data[offsets[k] : offsets[k + 1]]
                solution = solve_ivp(
                    flow, (0.0, ends[k]), starts[k], method="LSODA", events=found, args=own,
                    rtol=rtol, atol=atol, mxstep=1_000_000, direction=direction,
                )  # fmt: skip
                fine = fine and solution.success
                rhs[k] = solution.nfev
                for e in range(events):
                    if len(solution.t_events[e]):
                        times[k, e] = solution.t_events[e][0]
            return fine

        return run

    def solve(case: Case, rtol: float, count: int) -> Outcome:
        problems = case.problems[:count]
        run, events = compiled(problems[0]), len(problems[0].system.events)
        parts = [np.concatenate([p.levels[:events], p.par]) for p in problems]
        starts, ends = np.array([p.z0 for p in problems]), np.array([p.t_end for p in problems])
        data, offsets = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
        times, rhs = np.full((count, events), np.nan), np.zeros(count)
        arguments = (starts, data, offsets, ends, rtol, rtol * ABSOLUTE, times, rhs)
        run(starts[:1], *arguments[1:])  # compiles
        began = time.thread_time()
        fine = run(*arguments)
        seconds = time.thread_time() - began
        if not fine:
            raise ArithmeticError("scijit failed")
        return Outcome(seconds, times, None, float(rhs.mean()))

    return solve


def diffrax() -> Solve:
    """Kvaerno5 of diffrax, all points in one batch, where the loss has a closed form.

    As numbalsoda, it is asked for the states at the true times of the events. Its time is that of
    the process: XLA computes in threads of its own.
    """
    import diffrax as dfx
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    @once
    def compiled(problem: Problem):
        loss, derivation = _closed_form(problem)
        numbers = len(derivation.parameters)

        def flow(t, z, par):
            return -jax.grad(lambda x: loss(*x, *par[:numbers]))(z)

        def one(z0, par, times, rtol):
            return dfx.diffeqsolve(
                dfx.ODETerm(flow), dfx.Kvaerno5(), 0.0, times[-1], None, z0, args=par,
                saveat=dfx.SaveAt(ts=times), max_steps=50_000, throw=False,
                stepsize_controller=dfx.PIDController(rtol=rtol, atol=rtol * ABSOLUTE),
            )  # fmt: skip

        return jax.jit(jax.vmap(one, (0, 0, 0, None)))

    def solve(case: Case, rtol: float, count: int) -> Outcome:
        problems = case.problems[:count]
        run = compiled(problems[0])
        order, times = asked(case, count)
        arguments = [
            jnp.array(a) for a in ([p.z0 for p in problems], [p.par for p in problems], times)
        ]
        jax.block_until_ready(run(*arguments, rtol).ys)  # compiles
        began = time.process_time()
        solution = run(*arguments, rtol)
        states = np.array(jax.block_until_ready(solution.ys))
        seconds = time.process_time() - began
        if not np.isfinite(states).all():
            raise ArithmeticError("diffrax failed")
        steps = float(np.array(solution.stats["num_steps"]).mean())
        return Outcome(seconds, found_late(case, order, states), steps, 7.0 * steps)

    return solve


def _closed_form(problem: Problem):
    """The loss as a function for JAX, and the derivation.

    Raises
    ------
    ArithmeticError
        Where the system has none.
    """
    import sympy as sp

    from derivations.core.staged import Program, Scalar, Softmax, closed_form

    derivation = problem.system.derive(problem.values)
    names = [str(p) for p in derivation.parameters]
    places = {name: f"par[{k}]" for k, name in enumerate(names)}
    # As generated code does: the first variant whose condition holds.
    program = next(
        program
        for condition, program in derivation.variants
        if condition is None or eval(condition.format(**places), {"par": problem.par})
    )
    straight = isinstance(program, Program) and all(
        isinstance(s, Scalar) or (isinstance(s, Softmax) and not s.pairs) for s in program.stages
    )
    if not straight or derivation.mobility or len(problem.par) != len(names):
        raise ArithmeticError("needs a closed form without tables, which this system has not")
    symbols = [*derivation.coordinates, *derivation.parameters]
    return sp.lambdify(symbols, closed_form(program), modules="jax"), derivation
