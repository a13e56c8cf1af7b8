"""One step of Rodas5P: its stages, the dense output within it, and how long the first may be.

Part of generated modules, as `kernel` is; `interface` says what a system brings.
"""

from __future__ import annotations

import math

from numba import njit

from reduced_dynamics.integration.rosenbrock.interface import GAMMA, SIZE, rate_into, stage

# ---- what follows becomes part of the generated module

#: Counting references to arrays takes most of a small system's time. It is left out where nothing
#: is allocated: all room comes from `march` and `march_points`.
#: Nothing but compiled code calls these: no wrappers, a sixth of the time it takes to compile.
INNER = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
INNER |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
lean, inlined = njit(**INNER), njit(**INNER, forceinline=True)


@inlined
def factor(matrix, pivots):
    """LU decomposition in place with partial pivoting; False if singular or not finite."""
    for k in range(SIZE):
        p = k
        for j in range(k + 1, SIZE):
            if abs(matrix[j, k]) > abs(matrix[p, k]):
                p = j
        pivots[k] = p
        if not abs(matrix[p, k]) > 0.0 or not math.isfinite(matrix[p, k]):
            return False
        if p != k:
            for j in range(SIZE):
                matrix[k, j], matrix[p, j] = matrix[p, j], matrix[k, j]
        matrix[k, k] = 1.0 / matrix[k, k]
        for j in range(k + 1, SIZE):
            if matrix[j, k] != 0.0:  # coordinates that do not move cost nothing
                matrix[j, k] *= matrix[k, k]
                for i in range(k + 1, SIZE):
                    matrix[j, i] -= matrix[j, k] * matrix[k, i]
    return True


@inlined
def solve(matrix, pivots, x, s):
    """Solve for row s of `x`, in place, with what `factor` left."""
    for k in range(SIZE):
        p = pivots[k]
        if p != k:
            x[s, k], x[s, p] = x[s, p], x[s, k]
    for k in range(SIZE):
        for j in range(k):
            x[s, k] -= matrix[k, j] * x[s, j]
    for k in range(SIZE - 1, -1, -1):
        for j in range(k + 1, SIZE):
            x[s, k] -= matrix[k, j] * x[s, j]
        x[s, k] *= matrix[k, k]


@inlined
def attempt(z, h, par, held, room):
    """One step of length h from z, whose rate is known: the stages, and the state after it."""
    vectors, squares, stages, _, outs, _, _, pivots, _ = room
    rate, base, right, slope, after = vectors[0], vectors[1], vectors[2], vectors[3], vectors[4]
    jacobian, matrix, out = squares[0], squares[1], outs[2]
    for j in range(SIZE):
        for k in range(SIZE):
            matrix[j, k] = -jacobian[j, k]
        matrix[j, j] += 1.0 / (h * GAMMA)
    if not factor(matrix, pivots):
        return False
    for s in range(8):
        if s == 0:
            for k in range(SIZE):
                stages[0, k] = rate[k]
        else:
            stage(s, z, h, stages, base, right)
            rate_into(base, par, out, slope)
            for k in range(SIZE):
                stages[s, k] = right[k] + (0.0 if held[k] else slope[k])
        solve(matrix, pivots, stages, s)
    for k in range(SIZE):
        after[k] = base[k] + stages[7, k]
    return True


@inlined
def between(x, z, after, inner, k):
    """Coordinate k of the dense output at x in [0, 1]."""
    return z[k] + x * (
        (after[k] - z[k]) + (1.0 - x) * (inner[0, k] + x * (inner[1, k] + x * inner[2, k]))
    )


@inlined
def place(x, z, after, inner, state):
    """The dense output at x in [0, 1] into `state`."""
    for k in range(SIZE):
        state[k] = between(x, z, after, inner, k)


@lean
def first_step(rate, jacobian, z, rtol, atol, t_end):
    """A first step from the time in which the rate changes."""
    speed, bend = 0.0, 0.0
    for k in range(SIZE):
        scale = atol + rtol * abs(z[k])
        change = 0.0
        for j in range(SIZE):
            change += jacobian[k, j] * rate[j]
        speed, bend = max(speed, abs(rate[k]) / scale), max(bend, abs(change) / scale)
    if not bend > 0.0:
        return t_end
    return min(t_end, (speed / bend) * min(1.0, rtol**0.2))
