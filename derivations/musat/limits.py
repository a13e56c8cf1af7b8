"""`musat3` as N → ∞, query last: the slow flow and the sharp constants of emergence."""

from functools import cache

import sympy as sp

from derivations.core.staged import N
from derivations.musat.head import alpha, beta, first_integral, gamma, musat3_loss


@cache
def slow_flow() -> dict[str, sp.Expr]:
    """Leading order of the flow of `musat3` (q = N) as N → ∞ at fixed coordinates.

    Returns
    -------
    dict
        ``gamma3``: lim N·dγ/dt; ``alpha3``, ``beta2``: lim N²·dα/dt, lim N²·dβ/dt. The loss is
        analytic in 1/N at 0, so limits are Taylor coefficients; that the lower ones vanish is
        checked.

    Raises
    ------
    ArithmeticError
        If a slope has a lower order in 1/N than claimed.
    """
    epsilon = sp.Symbol("epsilon", positive=True)
    loss = sp.simplify(musat3_loss().subs(N, 1 / epsilon))
    result = {}
    for symbol, order in ((gamma, 1), (alpha, 2), (beta, 2)):
        slope = -sp.diff(loss, symbol)
        for k in range(order):
            lower = sp.simplify(sp.diff(slope, epsilon, k).subs(epsilon, 0))
            if lower != 0:
                raise ArithmeticError(f"d{symbol}/dt has a term {lower} at order N^-{k}")
        leading = sp.diff(slope, epsilon, order).subs(epsilon, 0) / sp.factorial(order)
        result[str(symbol)] = sp.simplify(leading)
    return result


@cache
def sharp_constants(threshold: sp.Expr = sp.S.Half) -> dict[str, sp.Expr]:
    """Limits of T_γ/N, T_β/N², T_α/N², t_ICL/N² for `musat3`, q = N, as N → ∞.

    γ relaxes to 1 on the time scale N; then, on N², the first integral ties α to β and leaves one
    separable equation, which blows up in finite time: there the attention jumps, and t_ICL is.
    """
    flow = slow_flow()
    # γ: linear relaxation, dγ/dτ = k(1 − γ) with τ = t/N.
    rate = -sp.diff(flow["gamma3"], gamma)
    level = sp.solve(flow["gamma3"], gamma)[0]
    if sp.simplify(flow["gamma3"] - rate * (level - gamma)) != 0 or level != 1:
        raise ArithmeticError("γ does not relax linearly to 1")
    t_gamma = sp.log(1 / (1 - sp.sympify(threshold))) / rate
    # β, with γ at 1 and α from the first integral at N → ∞.
    limit = sp.limit(first_integral(), N, sp.oo)
    alpha_of_beta = sp.solve(limit, alpha)[0]
    speed = flow["beta2"].subs(gamma, 1).subs(alpha, alpha_of_beta)
    b = sp.Symbol("b", nonnegative=True)
    time = lambda upper: sp.simplify(sp.integrate(1 / speed.subs(beta, b), (b, 0, upper)))  # noqa: E731
    beta_of_alpha = next(r for r in sp.solve(alpha_of_beta - threshold, beta) if r.is_positive)
    return {
        "T_gamma3": sp.simplify(t_gamma),
        "T_beta2": time(threshold),
        "T_alpha3": time(beta_of_alpha),
        "t_icl": time(sp.oo),
    }
