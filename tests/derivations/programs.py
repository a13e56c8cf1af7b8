"""The programs that tests of the derivations look at, and numbers to look at them with."""

import pytest
import sympy as sp

from derivations.musat.head import recall_programs

LOSS = sp.Symbol("loss")
DIGITS = 40

#: Every N and q up to the given N.
CASES = [(n, query) for n in (1, 2, 3, 4) for query in range(1, n + 1)]
attention = pytest.mark.parametrize("self_attention", [False, True], ids=["strict", "self"])


def program_for(query, self_attention=False):
    first, later = recall_programs(self_attention)
    return first if query == 1 else later


def is_zero(residual):
    return abs(sp.N(residual, DIGITS)) < sp.Float(10) ** (10 - DIGITS)


def numbers(coordinates, offset):
    """Irrational numbers of order 1, of both signs, to more digits than are compared."""
    return {
        c: (-1) ** k * sp.sqrt(2 + (7 * k + offset) % 31).evalf(3 * DIGITS) / 3
        for k, c in enumerate(coordinates)
    }
