"""What a gradient flow conserves: constant directions along which the loss does not change.

If c·∇loss vanishes identically, c·z is a first integral of dz/dt = −∇loss. Such directions are
found by asking that the directional derivative of *every stage* of the program vanish, which is a
linear system for c; so each is proved as it is found. `gradient_rank` bounds their number from the
other side.
"""

import random

import sympy as sp

from derivations.core.dense import Dense
from derivations.core.differentiate import gradient
from derivations.core.staged import Program, i, substitute, unroll


def linear_invariants(program: Program | Dense) -> tuple[sp.Expr, ...]:
    """Independent linear first integrals, those of fewest coordinates first."""
    coordinates = program.coordinates
    c = sp.symbols(f"c1:{len(coordinates) + 1}", real=True)
    equations: set[sp.Expr] = set()
    for expr in program.expressions:
        rate = sp.Add(*(ck * sp.diff(expr, z) for ck, z in zip(c, coordinates, strict=True)))
        if rate == 0:
            continue
        numerator = sp.fraction(sp.together(rate))[0]
        others = sorted(numerator.free_symbols - set(c), key=str) or [i]
        equations.update(sp.Poly(numerator, *others).coeffs())
    matrix, _ = sp.linear_eq_to_matrix(sorted(equations, key=str), c)
    if not equations:
        matrix = sp.zeros(0, len(c))
    found = [
        sp.Add(*(v * z for v, z in zip(vector, coordinates, strict=True)))
        for vector in matrix.nullspace()
    ]
    return tuple(sorted(found, key=lambda e: (len(e.free_symbols), str(e))))


def gradient_rank(program: Program, n: int = 4, query: int = 3, digits: int = 40) -> int:
    """Dimension of the span of the gradient at random points, for N = `n` and q = `query`.

    Evaluated with `digits` decimal digits, so that the rank is not a matter of rounding: the
    pivots that count are many orders of magnitude above those that do not.
    """
    draw = random.Random(0)
    full = gradient(program)
    rows = []
    for _ in range(len(program.coordinates) + 3):
        point = {
            z: sp.Float(sp.Rational(draw.randint(-99, 99), 50), digits) for z in program.coordinates
        }
        at_point = substitute(full, point)
        values = unroll(at_point, n, query)
        rows.append([sp.N(values[sp.Symbol(f"d_{z}")], digits) for z in program.coordinates])
    matrix = sp.Matrix(rows)
    rank = 0
    rest = list(range(matrix.rows))
    for column in range(matrix.cols):
        best = max(rest, key=lambda r: abs(matrix[r, column]), default=None)
        if best is None or abs(matrix[best, column]) < sp.Float(10) ** (-digits // 2):
            continue
        rank += 1
        rest.remove(best)
        for r in rest:
            factor = matrix[r, column] / matrix[best, column]
            for k in range(column, matrix.cols):
                matrix[r, k] -= factor * matrix[best, k]
    return rank
