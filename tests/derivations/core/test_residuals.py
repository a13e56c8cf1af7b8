"""The normal form."""

import sympy as sp

from derivations.core.residuals import normal


def test_normal_form_is_zero_exactly_if_the_function_is():
    x, y = sp.symbols("x y", real=True)
    e = sp.exp
    assert normal(e(2 * x) - e(x) ** 2) == 0
    assert normal(e(x / 2) * e(x / 3) ** 3 - e(3 * x / 2)) == 0
    assert normal(e(y * e(x) / (e(x) + 1)) - e(y / (1 + e(-x)))) == 0
    assert normal(e(y / (2 * e(x) + 2)) ** 2 - e(y / (e(x) + 1))) == 0
    assert normal((1 + e(x)) / (1 + e(-x)) - e(x)) == 0
    assert normal(e(x + y) - e(x)) != 0
    assert normal(e(y * e(x)) - e(y)) != 0
