"""Gradient descent: the discrete map, with its step."""

import math

import numpy as np

from reduced_dynamics.core.errors import InputError, IntegrationError

#: Discrete dynamics keep at most about this many recorded states.
RECORDED = 5_000
#: Discrete steps per call into compiled code.
CHUNK = 4_096


def run_descent(problem, recorder, progress) -> str:
    step = problem.options.step
    if problem.t_end / step > 2**53:
        raise InputError(
            f"{problem.t_end / step:.3g} steps are too many; raise --step or lower --t-end"
        )
    total = math.floor(problem.t_end / step * (1 + 1e-12))
    if total == 0:
        raise InputError(
            f"the horizon {problem.t_end:g} is shorter than one step of {step:g}; raise --t-end or "
            "lower --step"
        )
    problem.t_end = total * step
    late = [t for t in problem.options.at if t > problem.t_end * (1 + 1e-12)]
    if late:
        raise InputError(
            f"time {late[0]:g} lies beyond the last whole step, at t = {problem.t_end:g}; raise "
            "--t-end"
        )
    # States are kept at even spacing, and (automatic horizons end long before their bound) at
    # least at every hundredth part of the time run so far.
    even = 1 if problem.automatic else -(-total // RECORDED)
    wanted = {min(math.floor(t / step * (1 + 1e-12)), total) for t in problem.options.at}
    done, z = 0, problem.z0.copy()
    previous = problem.watched(z[None], recorder.table[0][None])[0]
    next_record, checked = 1, problem.system.outside is not None
    while done < total:
        n = min(CHUNK, total - done)
        path = problem.compiled.descend(z, problem.par, step, n, problem.held)[1:]
        table = problem.compiled.value_table(path, problem.par)
        finite = np.isfinite(table).all(axis=1) & np.isfinite(path).all(axis=1)
        too_far = table[:, 0] > 1e6 * max(1.0, abs(recorder.table[0][0]))
        bad = np.flatnonzero(~finite | too_far)
        n = int(bad[0]) if len(bad) else n
        path, table = path[:n], table[:n]
        watched = np.vstack([previous, problem.watched(path, table)])
        changed = (watched[1:] >= 0) != (watched[:-1] >= 0)
        for row, k in zip(*np.nonzero(changed), strict=True):
            direction = 1 if watched[row + 1, k] >= 0 else -1
            recorder.cross(problem.events[k], float((done + row + 1) * step), direction, path[row])
        previous = watched[-1]
        for row in range(n):
            index = done + row + 1
            last = index == total or (len(bad) and row == n - 1)
            if reason := problem.outside(path[row]) if checked else "":
                recorder.add(index * step, path[row].copy(), table[row])
                raise IntegrationError(reason, recorder.trajectory(reason))
            if index >= next_record or last or index in wanted:
                recorder.add(index * step, path[row].copy(), table[row])
                next_record = index + max(even, index // 1000 if problem.automatic else 1)
        done += n
        if len(bad):
            raise _divergence(problem, recorder, done + 1)
        z = path[-1].copy()
        recorder.stats |= {"rhs": done, "steps": done}
        recorder.tell(progress)
        message = recorder.done()
        recorder.stats["steps"] = round(recorder.t[-1] / step)
        if message is not None:
            return message
    return "the horizon was reached"


def _divergence(problem, recorder, step_number: int) -> IntegrationError:
    """Gradient descent that blows up: say where, and which step would do."""
    states = [
        z
        for z, row in zip(recorder.z, recorder.table, strict=True)
        if row[0] <= recorder.table[0][0]
    ][-20:]
    curvature = max(np.linalg.eigvalsh(-problem.jacobian(0.0, z))[-1] for z in states)
    stable = f"; a step under {2.0 / curvature:.3g} was stable so far" if curvature > 0 else ""
    message = (
        f"gradient descent with step {problem.options.step:g} diverged at step {step_number} "
        f"(t = {step_number * problem.options.step:g}){stable}; lower --step"
    )
    return IntegrationError(message, recorder.trajectory(message))
