"""The softmax over S relative positions is the kernel over all of them, folded to period S.

For heads with the exponential positional encoding of arXiv 2410.11474 (slope β > 0, x = e^{−β}):

    κ_S(k) = x^{k−1} / Σ_{j=1}^S x^{j−1},    k = 1..S,
    κ_∞(k) = (1 − x) x^{k−1},                k = 1, 2, …,
    κ_S(k) = Σ_{j≥0} κ_∞(k + jS).

The sums are SymPy's, of symbolic k and S; the identity is proved by clearing denominators. With
α_h x_h^{k−1} = c_h κ_∞(k) the coefficients of an approximation by plain exponentials
become c_h = α_h/(1 − x_h), for every S the same.
"""

import sympy as sp

#: e^{−β}. It is written 1/(1 + z), z > 0, so that SymPy knows it to be between 0 and 1.
z = sp.Symbol("z", positive=True)
x = 1 / (1 + z)
k, S = sp.symbols("k S", integer=True, positive=True)
_j = sp.Symbol("j", integer=True, nonnegative=True)


def softmax_kernel() -> sp.Expr:
    """κ_S(k), from its definition as a softmax over S lags."""
    return x ** (k - 1) / sp.summation(x**_j, (_j, 0, S - 1))


def endless_kernel() -> sp.Expr:
    """κ_∞(k): the limit S → ∞ of the softmax over all lags."""
    return x ** (k - 1) / sp.summation(x**_j, (_j, 0, sp.oo))


def folded_kernel() -> sp.Expr:
    """Σ_{j≥0} κ_∞(k + jS)."""
    ratio = sp.Symbol("q", positive=True)  # x^S, between 0 and 1
    geometric = sp.summation(ratio**_j, (_j, 0, sp.oo)).args[0][0]
    return endless_kernel() * geometric.subs(ratio, x**S)


def residual() -> sp.Expr:
    """κ_S(k) − Σ_j κ_∞(k + jS), which is 0."""
    return sp.simplify(sp.powsimp(sp.expand_power_base(softmax_kernel() - folded_kernel())))


def coefficient() -> sp.Expr:
    """c/α such that c κ_∞(k) = α x^{k−1}."""
    return sp.simplify(x ** (k - 1) / endless_kernel())
