"""Vectors on a formal orthonormal frame: sums over families of frame vectors, none written out.

A vector is a coefficient for every (family, support): the frame vectors of a family over which the
term runs. Coefficients are complex where a map of the task multiplies by i. How many frame vectors
two supports share is all that an inner product needs.
"""

from collections.abc import Callable, Iterable, Mapping

import sympy as sp

#: (family, support) -> coefficient.
Vector = Mapping[tuple[str, str], sp.Expr]


def combine(terms: Iterable[tuple[sp.Expr, Vector]]) -> Vector:
    """Σ coefficient × vector."""
    total: dict[tuple[str, str], sp.Expr] = {}
    for coefficient, vector in terms:
        for key, value in vector.items():
            total[key] = total.get(key, sp.S.Zero) + coefficient * value
    return {k: v for k, v in total.items() if v != 0}


def inner(x: Vector, y: Vector, unit: sp.Expr, overlap: Callable[[str, str], sp.Expr]) -> sp.Expr:
    """Re⟨x, unit · y⟩; ``overlap(support, support)`` is the number of shared frame vectors."""
    total = sp.S.Zero
    for (family_x, support_x), cx in x.items():
        for (family_y, support_y), cy in y.items():
            if family_x == family_y:
                product = sp.re(sp.conjugate(cx) * unit * cy)
                # Equal terms that are divided by their number must cancel before it is one.
                total += sp.cancel(product * overlap(support_x, support_y))
    return total
