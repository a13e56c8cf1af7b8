"""The 4-gram component of the mixed target: its loss in closed form, for any length.

Target c₄ x_{L−2}, model g Σ_s softmax_s(−p(L−2−s)) x_s over s = 2..L−2: N = L − 3 tokens, iid
N(0, 1). With k = L − 2 − s the weights are π_k = r^k / Σ_j r^j, r = e^{−p}, k = 0..N−1, and

    L_G4 = ½ E(c₄ x_0 − g Σ_k π_k x_k)² = ½ [c₄² − 2 c₄ g π_0 + g² Σ_k π_k²].

π_0 (`share`) and Σ π_k² (`collision`) are rational in r and r^N. In floating point they and their
derivatives are computed from sums that do not cancel: by a series where N|p| < 1, by `expm1` and
hyperbolic functions elsewhere. Source: Wang et al., arXiv 2410.11474 (target and model); derived
here.
"""

from collections.abc import Callable
from functools import cache

import sympy as sp
from sympy.codegen.cfunctions import expm1

from derivations.core.named import Named, closed
from derivations.core.staged import N

p, g = sp.symbols("p g", real=True)
#: Weights of the two components of the target, c₄ = α*/(1 + α*) and c = 1/(1 + α*).
c4 = sp.Symbol("c_4", nonnegative=True)

#: Terms of the series, which converge like (Np/π)^2k: the last is below rounding for N|p| < 1.
TERMS = 17


# ---------------------------------------------------------------- from the model


def moments(first: sp.Expr, second: sp.Expr) -> sp.Expr:
    """E[first·second] for two linear forms in iid standard normal tokens x_k: E[x_j x_k] = δ_jk.

    The forms map a token's number to its coefficient, as SymPy expressions in `j`.
    """
    k = sp.Symbol("k", integer=True, nonnegative=True)
    inner = sp.summation(second.subs(j, k) * sp.KroneckerDelta(j, k), (k, 0, N - 1))
    # The index j lies in the range by its own sum's bounds.
    inner = inner.args[0][0] if isinstance(inner, sp.Piecewise) else inner
    return sp.Sum(sp.powsimp(first * inner), (j, 0, N - 1))


j = sp.Symbol("j", integer=True, nonnegative=True)
r = sp.Symbol("r", positive=True)


def geometric(ratio: sp.Expr) -> sp.Expr:
    """Σ_{k<N} ratio^k for a ratio other than 1."""
    total = sp.summation(ratio**j, (j, 0, N - 1))
    return total.args[-1][0] if isinstance(total, sp.Piecewise) else total


@cache
def weights() -> tuple[sp.Expr, sp.Expr]:
    """π_0 and Σ_k π_k² as functions of r and N, summed by SymPy from E[x_j x_k] = δ_jk."""
    total = geometric(r)
    squares = moments(r**j, r**j)
    ratio = sp.simplify(squares.function.subs(j, 1) / squares.function.subs(j, 0))
    if sp.simplify(squares.function - ratio**j) != 0:
        raise ArithmeticError(f"the terms {squares.function} are not a geometric series")
    return sp.simplify(1 / total), sp.simplify(geometric(ratio) / total**2)


def explicit_loss(n: int) -> sp.Expr:
    """L_G4 for N = `n`, the square expanded over the tokens and averaged one product at a time."""
    x = sp.symbols(f"x0:{n}", real=True)
    total = sum(r**k for k in range(n))
    error = c4 * x[0] - g * sum(r**k * xk for k, xk in enumerate(x)) / total
    poly = sp.Poly(sp.expand(error**2), *x)
    # E[x_j x_k] is 1 where both are the same token, 0 otherwise.
    return sum(c for monomial, c in poly.terms() if max(monomial) == 2) / 2


# ---------------------------------------------------------------- sound in floating point


def bernoulli_series(x: sp.Expr) -> sp.Expr:
    """1/(e^x − 1) − 1/x + ½ = Σ_k B_2k x^(2k−1)/(2k)!, the first terms."""
    terms = (sp.bernoulli(2 * k) / sp.factorial(2 * k) * x ** (2 * k - 1) for k in _orders())
    return sp.Add(*terms)


def cosecant_series(x: sp.Expr) -> sp.Expr:
    """1/sinh x − 1/x = −Σ_k (2^2k − 2) B_2k x^(2k−1)/(2k)!, the first terms."""
    terms = (
        -(2 ** (2 * k) - 2) * sp.bernoulli(2 * k) / sp.factorial(2 * k) * x ** (2 * k - 1)
        for k in _orders()
    )
    return sp.Add(*terms)


def _orders() -> range:
    return range(1, TERMS + 1)


def series_residuals() -> dict[str, sp.Expr]:
    """Both series times their denominators, minus what that must be, up to their last order."""
    x = sp.Symbol("x")
    order = 2 * TERMS + 1

    def power(coefficient):
        return sp.Add(*(coefficient(k) * x**k / sp.factorial(k) for k in range(order + 2)))

    def low(expr):
        poly = sp.Poly(sp.expand(expr), x)
        return sp.Add(*(c * x**k for (k,), c in poly.terms() if k < order))

    exponential = power(lambda k: 1) - 1
    sine = power(lambda k: k % 2)
    return {
        "x (e^x − 1)·(series + 1/x − ½) − x": low(
            exponential * (x * bernoulli_series(x) + 1 - x / 2) - x
        ),
        "sinh x·(x series + 1) − x": low(sine * (x * cosecant_series(x) + 1) - x),
    }


def _difference(series, slope: int = 0) -> sp.Expr:
    """d^slope/dp^slope of series(p) − N series(Np), as two polynomials in Horner's form."""
    x = sp.Symbol("x", real=True)
    poly = sp.horner(sp.diff(series(x), x, slope))
    return poly.subs(x, p) - N ** (slope + 1) * poly.subs(x, N * p)


def _logarithm(series) -> sp.Expr:
    """∫₀^p of `_difference`."""
    x = sp.Symbol("x", real=True)
    poly = sp.horner(sp.integrate(series(x), (x, 0, x)))
    return poly.subs(x, p) - poly.subs(x, N * p)


#: Where the series serve; elsewhere the closed forms lose at most one digit to cancellation.
SMALL = N * sp.Abs(p) < 1


class _FourGram(Named):
    """A function of p and N."""

    nargs = 2
    arguments = (p, N)


class share(_FourGram):
    """π_0 = (1 − r)/(1 − r^N)."""

    def fdiff(self, argindex=1):
        return self * mean_lag(*self.args)

    @classmethod
    def form(cls):
        return weights()[0].subs(r, sp.exp(-p))

    @classmethod
    def branches(cls):
        small = sp.exp((N - 1) * p / 2 + _logarithm(bernoulli_series)) / N
        ratio = sp.exp((N - 1) * p) * expm1(p) / expm1(N * p)
        return (SMALL, small), (p < 0, ratio), (None, expm1(-p) / expm1(-N * p))


class mean_lag(_FourGram):
    """Σ_k k π_k = d log π_0/dp = 1/(e^p − 1) − N/(e^{Np} − 1)."""

    def fdiff(self, argindex=1):
        return -variance_lag(*self.args)

    @classmethod
    def form(cls):
        return 1 / (sp.exp(p) - 1) - N / (sp.exp(N * p) - 1)

    @classmethod
    def branches(cls):
        small = (N - 1) / sp.S(2) + _difference(bernoulli_series)
        return (SMALL, small), (None, 1 / expm1(p) - N / expm1(N * p))


class variance_lag(_FourGram):
    """Σ_k (k − mean)² π_k = 1/(4 sinh²(p/2)) − N²/(4 sinh²(Np/2))."""

    @classmethod
    def form(cls):
        return 1 / (4 * sp.sinh(p / 2) ** 2) - N**2 / (4 * sp.sinh(N * p / 2) ** 2)

    @classmethod
    def branches(cls):
        return (SMALL, -_difference(bernoulli_series, 1)), (None, cls.form())


class collision(_FourGram):
    """Σ_k π_k² = tanh(p/2)/tanh(Np/2)."""

    def fdiff(self, argindex=1):
        return self * collision_rate(*self.args)

    @classmethod
    def form(cls):
        return sp.tanh(p / 2) / sp.tanh(N * p / 2)

    @classmethod
    def branches(cls):
        return (SMALL, sp.exp(_logarithm(cosecant_series)) / N), (None, cls.form())


class collision_rate(_FourGram):
    """d log Σ_k π_k² / dp = 1/sinh p − N/sinh Np."""

    def fdiff(self, argindex=1):
        return collision_curve(*self.args)

    @classmethod
    def form(cls):
        return 1 / sp.sinh(p) - N / sp.sinh(N * p)

    @classmethod
    def branches(cls):
        return (SMALL, _difference(cosecant_series)), (None, cls.form())


class collision_curve(_FourGram):
    """d² log Σ_k π_k² / dp²."""

    @classmethod
    def form(cls):
        return N**2 / (sp.sinh(N * p) * sp.tanh(N * p)) - 1 / (sp.sinh(p) * sp.tanh(p))

    @classmethod
    def branches(cls):
        return (SMALL, _difference(cosecant_series, 1)), (None, cls.form())


def loss_g4() -> sp.Expr:
    """L_G4(p, g), in the named functions."""
    return (c4**2 - 2 * c4 * g * share(p, N) + g**2 * collision(p, N)) / 2


# ---------------------------------------------------------------- checks


def _normal(expr: sp.Expr) -> sp.Expr:
    """0 where two forms are the same function of e^p and e^{Np}."""
    u, v = sp.symbols("u v", positive=True)  # e^{p/2}, e^{Np/2}
    rewritten = expr.rewrite(sp.exp)
    powers = {
        e: u ** sp.expand(2 * e.exp / p).coeff(N, 0) * v ** sp.expand(2 * e.exp / p).coeff(N, 1)
        for e in rewritten.atoms(sp.exp)
    }
    return sp.factor(sp.together(rewritten.xreplace(powers)))


def closed_form_residuals() -> dict[str, sp.Expr]:
    """Residuals of the closed forms, for all N; every one must be exactly 0."""
    first, second = (w.subs(r**N, sp.exp(-N * p)).subs(r, sp.exp(-p)) for w in weights())
    found = {
        "π_0 summed − (1 − r)/(1 − r^N)": sp.simplify(weights()[0] - (1 - r) / (1 - r**N)),
        "Σ π_k² summed − tanh(p/2)/tanh(Np/2)": _normal(second - collision.form()),
        "π_0 for p < 0, multiplied by e^p and e^{Np}": _normal(
            sp.exp((N - 1) * p) * (sp.exp(p) - 1) / (sp.exp(N * p) - 1) - first
        ),
    }
    for function in (share, mean_lag, collision, collision_rate):
        given = closed(function(p, N).diff(p))
        found[f"d {function.__name__}/dp"] = _normal(sp.diff(function.form(), p) - given)
    return found


def small_residuals() -> dict[str, sp.Expr]:
    """The series at N|p| < 1 differentiate into each other exactly, and start right at p = 0."""
    small = {f: f.branches()[0][1] for f in (share, mean_lag, variance_lag)}
    squares = {f: f.branches()[0][1] for f in (collision, collision_rate, collision_curve)}
    d = lambda e: sp.diff(sp.log(e), p)  # noqa: E731
    return {
        "d log π_0": sp.expand(d(small[share]) - small[mean_lag]),
        "d mean": sp.expand(sp.diff(small[mean_lag], p) + small[variance_lag]),
        "d log Σ π²": sp.expand(d(squares[collision]) - squares[collision_rate]),
        "d² log Σ π²": sp.expand(sp.diff(squares[collision_rate], p) - squares[collision_curve]),
        "π_0 at p = 0": sp.simplify(small[share].subs(p, 0) - 1 / N),
        "Σ π² at p = 0": sp.simplify(squares[collision].subs(p, 0) - 1 / N),
    }


# ---------------------------------------------------------------- late times


def from_zero(rate: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
    """The solution x(t) of dx/dt = rate(x) from x(0) = 0."""
    t, path = sp.Symbol("t", positive=True), sp.Function("P")
    found = sp.dsolve(sp.Eq(path(t).diff(t), rate(path(t))), path(t), ics={path(0): 0})
    return sp.simplify((found[0] if isinstance(found, list) else found).rhs)


@cache
def late_law() -> dict[str, sp.Expr]:
    """The flow of p at late times: on the slow manifold of g, to leading order in r = e^{−p}.

    Returns
    -------
    dict
        ``manifold``: g where ∂L/∂g = 0, to second order in r; ``loss``: ½ c₄² r²; ``speed``:
        dp/dt; ``p``: the solution from p(0) = 0; ``limit``: lim t·L_G4.
    """
    t = sp.Symbol("t", positive=True)
    # At fixed p > 0 and N ≥ 3, r^N is beyond the orders kept: π_0 = 1 − r, Σ π² = (1 − r)/(1 + r).
    first, second = (w.subs(r**N, 0).subs(r ** (2 * N), 0) for w in weights())
    loss = (c4**2 - 2 * c4 * g * first + g**2 * second) / 2
    manifold = sp.solve(sp.diff(loss, g), g)[0]
    lowest = sp.simplify(loss.subs(g, manifold))
    # dr/dp = −r, and g stands on its manifold, where ∂L/∂g = 0.
    speed = sp.simplify((r * sp.diff(loss, r)).subs(g, manifold))
    leading = sp.series(speed, r, 0, 3).removeO()
    end = from_zero(lambda at: leading.subs(r, sp.exp(-at)))
    limit = sp.limit(t * lowest.subs(r, sp.exp(-end)).rewrite(sp.Pow), t, sp.oo)
    return {
        "manifold": sp.factor(manifold),
        "loss": sp.factor(lowest),
        "speed": leading,
        "p": end,
        "limit": sp.simplify(limit),
    }
