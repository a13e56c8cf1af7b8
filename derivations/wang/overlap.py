"""The induction component of the mixed target: overlaps of two softmax averages, for any length.

Tokens x_1..x_{N+1} and z = x_L are iid N(0, 1), N = L − 3. Pair i = 1..N has the key x_i and the
value x_{i+1}, so every value but the last is also the next pair's key. With

    o_a = Σ_i e^{a z x_i} x_{i+1} / S_a,   S_a = Σ_i e^{a z x_i},   Q(a, b) = E[o_a o_b],

1/S_a = ∫₀^∞ e^{−tS_a} dt turns E[· | z] into an integral over t_a, t_b > 0 of products over tokens:

    A_k = E[x^k f], E_a = E[e^{azx} f], X_a = E[x e^{azx} f], E_ab = E[e^{(a+b)zx} f],
    f = exp(−t_a e^{azx} − t_b e^{bzx}).

`integrand` sums them over all pairs of pairs. To leading order in 1/N it gives the asymptotic form
(1/N)(1 − 2ab)^{−1/2} (`annealed`). Source: task by Wang et al., arXiv 2410.11474; derived here.
"""

from functools import cache

import sympy as sp

from derivations.core.named import Named
from derivations.core.staged import N

A0, A1, A2 = sp.symbols("A_0 A_1 A_2", real=True)
E_a, E_b, X_a, X_b, E_ab = sp.symbols("E_a E_b X_a X_b E_ab", real=True)
t_a, t_b = sp.symbols("t_a t_b", positive=True)
a, b, z = sp.symbols("a b z", real=True)

#: A token's average by (has e^{azx}, has e^{bzx}, power of x).
AVERAGES = {
    (False, False, 0): A0,
    (False, False, 1): A1,
    (False, False, 2): A2,
    (True, False, 0): E_a,
    (False, True, 0): E_b,
    (True, False, 1): X_a,
    (False, True, 1): X_b,
    (True, True, 0): E_ab,
}
#: Moments of the last value, which is nobody's key and in no exponential.
FREE = {0: sp.S.One, 1: sp.S.Zero, 2: sp.S.One}


# ---------------------------------------------------------------- which tokens coincide


def product(i: int, j: int, n: int) -> sp.Expr:
    """E[e^{az x_i} x_{i+1} · e^{bz x_j} x_{j+1} · f(all keys)] for `n` pairs, token by token."""
    result = sp.S.One
    for token in range(1, n + 2):
        power = (token == i + 1) + (token == j + 1)
        if token > n:
            result *= FREE[power]
        else:
            result *= AVERAGES[token == i, token == j, power]
    return result


def enumerated(n: int) -> sp.Expr:
    """The integrand for `n` pairs, summed over all n² ordered pairs of pairs."""
    return sp.Add(*(product(i, j, n) for i in range(1, n + 1) for j in range(1, n + 1)))


#: How two pairs can lie: description, how often for symbolic N, and an example for N = 6.
def classes() -> tuple[tuple[str, sp.Expr, tuple[int, int]], ...]:
    """The ways in which pairs i and j can share tokens.

    Which averages a product holds depends only on j − i being 0, ±1 or more (value of one, key of
    the other) and on whether the last pair, whose value is free, is among them. Each way is given
    by a description, its multiplicity summed over positions, and an example among 6 pairs.
    """
    m = sp.Symbol("m", integer=True, positive=True)

    def positions(first, last, each=sp.S.One):
        return sp.factor(sp.summation(each, (m, first, last)))

    return (
        ("i = j < N", positions(1, N - 1), (2, 2)),
        ("i = j = N", positions(N, N), (6, 6)),
        ("j = i + 1 < N", positions(2, N - 1), (2, 3)),
        ("i = j + 1 < N", positions(2, N - 1), (3, 2)),
        ("|i − j| ≥ 2, both < N", positions(3, N - 1, 2 * (m - 2)), (2, 4)),
        ("i ≠ j, one of them N", 2 * positions(1, N - 1), (6, 3)),
    )


def contribution(example: tuple[int, int], n: int = 6) -> sp.Expr:
    """The product of a class for symbolic N: tokens that neither pair touches are A_0 each."""
    found = product(*example, n)
    return found.subs(A0, 1) * A0 ** (N - n + sp.degree(found, A0)) if found != 0 else sp.S.Zero


@cache
def integrand() -> sp.Expr:
    """E[Σ_ij e^{az x_i + bz x_j} x_{i+1} x_{j+1} f | z] for symbolic N."""
    return sp.Add(*(count * contribution(example) for _, count, example in classes()))


@cache
def reduced_integrand() -> sp.Expr:
    """`integrand` over A_0^(N−4): a polynomial in the averages."""
    return sp.Add(*(sp.powsimp(t * A0 ** (4 - N)) for t in sp.Add.make_args(integrand())))


def combinatorial_residuals(largest: int = 9) -> dict[str, sp.Expr]:
    """The symbolic integrand minus the enumerated one for N = 2, 3, ...; all classes counted."""
    found = {
        f"N = {n}, {n * n} products": sp.expand(sp.simplify(integrand().subs(N, n)) - enumerated(n))
        for n in range(2, largest + 1)
    }
    every = sp.expand(sp.Add(*(count for _, count, _ in classes())) - N**2)
    return found | {"pairs of pairs counted − N²": every}


def polar_residual() -> sp.Expr:
    """dt_a dt_b = t dt dθ with t_a = tθ, t_b = t(1 − θ): the Jacobian minus t."""
    t, theta = sp.symbols("t theta", positive=True)
    place = sp.Matrix([t * theta, t * (1 - theta)])
    return sp.simplify(sp.Abs(place.jacobian([t, theta]).det()) - t)


def laplace_residual() -> sp.Expr:
    """∫∫ e^{−t_a S_a − t_b S_b} dt_a dt_b − 1/(S_a S_b)."""
    s_a, s_b = sp.symbols("S_a S_b", positive=True)
    inner = sp.integrate(sp.exp(-t_a * s_a - t_b * s_b), (t_a, 0, sp.oo))
    return sp.simplify(sp.integrate(inner, (t_b, 0, sp.oo)) - 1 / (s_a * s_b))


# ---------------------------------------------------------------- leading order in 1/N


def gaussian(power: int, slope: sp.Expr) -> sp.Expr:
    """E[x^power e^{slope·x}] over x ~ N(0, 1): derivatives of ∫ e^{sx − x²/2} dx/√2π by s."""
    x, s = sp.symbols("x s", real=True)
    density = sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)
    generating = sp.simplify(sp.integrate(sp.exp(s * x) * density, (x, -sp.oo, sp.oo)))
    return sp.diff(generating, s, power).subs(s, slope)


@cache
def leading_order() -> dict[str, sp.Expr]:
    """The leading order of Q(a, b) as N → ∞, from `integrand`.

    With t = τ/N the integrand lives at τ of order 1, where f = 1 − (τ_a e^{azx} + τ_b e^{bzx})/N.

    Returns
    -------
    dict
        ``orders``: the order in 1/N of each class of `classes`, as it contributes to Q (a tuple);
        ``given z``: lim N·E[o_a o_b | z]; ``Q``: lim N·Q(a, b), where 2ab < 1.

    Raises
    ------
    ArithmeticError
        If a step does not come out as claimed.
    """
    epsilon = sp.Symbol("epsilon", positive=True)
    tau_a, tau_b = sp.symbols("tau_a tau_b", positive=True)
    slopes = {
        (False, False): 0,
        (True, False): a * z,
        (False, True): b * z,
        (True, True): (a + b) * z,
    }
    expanded = {}
    for (has_a, has_b, power), symbol in AVERAGES.items():
        slope = slopes[has_a, has_b]
        first = gaussian(power, slope)
        second = tau_a * gaussian(power, slope + a * z) + tau_b * gaussian(power, slope + b * z)
        expanded[symbol] = first - epsilon * second
    # A_0^N → exp(−τ_a m_a − τ_b m_b), where the m are E e^{azx} and E e^{bzx}.
    decay = sp.Symbol("X", positive=True)
    if sp.limit((1 - epsilon * decay) ** (1 / epsilon), epsilon, 0) != sp.exp(-decay):
        raise ArithmeticError("(1 − X/N)^N does not tend to e^{−X}")
    rate = sp.expand(-sp.diff(expanded[A0], epsilon))
    mean_a, mean_b = rate.coeff(tau_a), rate.coeff(tau_b)
    orders, leading = [], sp.S.Zero
    for _, count, example in classes():
        # dt_a dt_b = dτ_a dτ_b / N².
        value = epsilon**2 * count * product(*example, 6).subs(A0, 1)
        poly = sp.Poly(sp.expand(value.subs(N, 1 / epsilon).xreplace(expanded)), epsilon)
        lowest = min((k for (k,), c in poly.terms() if c != 0), default=sp.oo)
        orders.append(lowest)
        leading += poly.coeff_monomial(epsilon)
    decays = sp.symbols("m_a m_b", positive=True)
    over = sp.integrate(sp.exp(-tau_a * decays[0]), (tau_a, 0, sp.oo))
    over *= sp.integrate(sp.exp(-tau_b * decays[1]), (tau_b, 0, sp.oo))
    if leading.has(tau_a, tau_b):
        raise ArithmeticError(f"the leading term {leading} is not free of τ")
    over = over.subs(dict(zip(decays, (mean_a, mean_b), strict=True)))
    given = sp.powsimp(sp.expand(leading * over), force=True)
    given = sp.exp(sp.expand(sp.simplify(given).exp))
    if sp.expand(given.exp - a * b * z**2) != 0:
        raise ArithmeticError(f"the average given z is {given}")
    excess = sp.Symbol("u", positive=True)  # the integral over z exists for u = 1 − 2ab > 0
    exponent = sp.expand(given.exp - z**2 / 2).subs(b, (1 - excess) / (2 * a))
    average = sp.integrate(sp.exp(sp.expand(exponent)) / sp.sqrt(2 * sp.pi), (z, -sp.oo, sp.oo))
    return {
        "orders": tuple(orders),
        "given z": given,
        "Q": sp.simplify(average).subs(excess, 1 - 2 * a * b),
    }


#: Beyond this the asymptotic form is continued by a constant: no run is let there.
EDGE = sp.Rational(99999999, 100000000)


class annealed(Named):
    """(1 − x)^{−1/2}: N·Q(a, b) to leading order in 1/N, at x = 2ab < 1."""

    nargs = 1
    arguments = (sp.Symbol("x", real=True),)

    def fdiff(self, argindex=1):
        return annealed(*self.args) ** 3 / 2

    @classmethod
    def form(cls):
        return (1 - cls.arguments[0]) ** sp.Rational(-1, 2)

    @classmethod
    def branches(cls):
        (x,) = cls.arguments
        return (x < EDGE, 1 / sp.sqrt(1 - x)), (None, sp.Float(1 / sp.sqrt(1 - EDGE)))
