"""`musat19` and `musat3`: the invariant subspace of the disentangled transformer, and its heart.

Source: Musat et al., arXiv 2511.01033. The 19 coordinates come from `commutant`, the loss
on them from `recall`; `musat3` is the restriction to alpha3, beta2, gamma3.
"""

from __future__ import annotations

from functools import cache

import sympy as sp

from derivations.core.conserved import linear_invariants
from derivations.core.dense import substitute as substitute_dense
from derivations.core.derivation import Derivation
from derivations.core.differentiate import gradient
from derivations.core.staged import N, Program, closed_form, collapse, prune, q, substitute
from derivations.musat.gram import gram_program
from derivations.musat.recall import Entry, Recall
from derivations.subspace.commutant import ARCHITECTURE, TASK, count

#: The three coordinates of the induction head: layer 1 looks back from a label to its item, the
#: query looks for its item among what labels have seen, the label found is written out.
HEAD = ("alpha3", "beta2", "gamma3")

alpha, beta, gamma = (sp.Symbol(name, real=True) for name in HEAD)


@cache
def entries() -> tuple[Entry, ...]:
    """The 19 coordinates as places in the weights, from the commutant computation."""
    return tuple(
        Entry(c.name, c.weight, c.row, c.column, c.map.name)
        for c in count(TASK, ARCHITECTURE).coordinates
    )


@cache
def recall_programs(self_attention: bool = False) -> tuple[Program, Program]:
    """The loss on the 19 coordinates for q = 1 and for 2 <= q <= N."""
    model = Recall(entries(), self_attention)
    return model.program(query_first=True), model.program()


def _difference_name(expr: sp.Expr) -> str:
    """``beta9-beta3``: a linear first integral with its positive terms first."""
    terms = sp.Add.make_args(expr)
    plus = [str(t) for t in terms if not t.could_extract_minus_sign()]
    minus = [str(-t) for t in terms if t.could_extract_minus_sign()]
    return "".join(["+".join(plus), *(f"-{t}" for t in minus)])


def derive_gaussian(name: str, self_attention: bool = False) -> Derivation:
    """`musat19` or `musat3` with gaussian inputs: the mean over a bank of sampled Gram matrices.

    No linear first integral is left: what `linear_invariants` finds is what is declared.
    """
    program = gram_program(entries(), self_attention)
    if name == "musat3":
        others = {c: sp.S.Zero for c in program.coordinates if str(c) not in HEAD}
        program = substitute_dense(program, others)
    return Derivation(
        name=name,
        coordinates=program.coordinates,
        parameters=(N, q, sp.Symbol("bank", integer=True, positive=True)),
        variants=((None, program),),
        observables=("A", "w"),
        invariants={_difference_name(e): e for e in linear_invariants(program)},
        average=q,
        summary="Disentangled transformer on item-label recall, gaussian inputs by their Gram"
        f" matrices, query on pair q (0: the mean over q = 1..N), self_attention={self_attention}.",
    )


def derive_musat19(self_attention: bool = False, inputs: str = "orthonormal") -> Derivation:
    """`musat19`; inputs are "orthonormal" or "gaussian"."""
    if inputs == "gaussian":
        return derive_gaussian("musat19", self_attention)
    first, later = recall_programs(self_attention)
    conserved = linear_invariants(later)
    moving = [e for e in conserved if len(e.free_symbols) > 1]
    still = [e for e in conserved if len(e.free_symbols) == 1]
    return Derivation(
        name="musat19",
        coordinates=later.coordinates,
        parameters=(N, q),
        variants=(("{q} == 1.0", first), (None, later)),
        observables=("A", "w"),
        invariants={_difference_name(e): e for e in moving + still},
        average=q,
        summary="Disentangled transformer on item-label recall, orthonormal inputs, query on pair q"
        f" (0: the mean over q = 1..N), self_attention={self_attention}.",
    )


def restrict(program: Program) -> Program:
    """A program on the 19 coordinates with all but the head's three held at 0."""
    others = {c: sp.S.Zero for c in program.coordinates if str(c) not in HEAD}
    return collapse(substitute(program, others))


@cache
def query_last(self_attention: bool = False) -> Program:
    """`musat3` for q = N >= 2, without any loop."""
    _, later = recall_programs(self_attention)
    return collapse(prune(substitute(restrict(later), {q: N})))


@cache
def musat3_loss() -> sp.Expr:
    """The closed form of the loss of `musat3` for q = N, in alpha3, beta2, gamma3 and N."""
    return closed_form(query_last())


@cache
def first_integral() -> sp.Expr:
    """What the flow of `musat3` from zero conserves for q = N >= 2, found by separation.

    The ratio of the two slopes dα/dβ = ∂_α L / ∂_β L does not involve γ and is a product
    f(α) g(β), so ∫ dα / f(α) − ∫ g(β) dβ is constant.

    Raises
    ------
    ArithmeticError
        If the ratio does not separate, i.e. the derivation has changed.
    """
    loss = musat3_loss()
    ratio = sp.simplify(sp.diff(loss, alpha) / sp.diff(loss, beta))
    parts = sp.separatevars(ratio, [alpha, beta], dict=True)
    if parts is None or ratio.has(gamma):
        raise ArithmeticError(f"dα/dβ = {ratio} does not separate")
    more = sp.Symbol("m", positive=True)  # N = 1 + m: N = 1 has no α to move
    inverse = sp.expand(sp.simplify((1 / (parts[alpha] * parts["coeff"])).subs(N, 1 + more)))
    integral = sp.integrate(inverse, alpha) - sp.integrate(parts[beta], beta)
    integral -= integral.subs({alpha: 0, beta: 0})
    terms = sp.Add.make_args(sp.expand(integral))
    over = sp.factor(sp.Add(*(t for t in terms if t.has(more))))
    return (sp.Add(*(t for t in terms if not t.has(more))) + over).subs(more, N - 1)


def derive_musat3(self_attention: bool = False, inputs: str = "orthonormal") -> Derivation:
    """`musat3`: alpha3, beta2, gamma3, the other 16 coordinates held at 0."""
    if inputs == "gaussian":
        return derive_gaussian("musat3", self_attention)
    from derivations.musat.chart import chart

    first, later = (restrict(p) for p in recall_programs(self_attention))
    last = query_last(self_attention)
    return Derivation(
        name="musat3",
        coordinates=(alpha, beta, gamma),
        parameters=(N, q),
        variants=(("{q} == 1.0", first), ("{q} == {N}", last), (None, later)),
        observables=("A", "w"),
        invariants={} if self_attention else {"first_integral": first_integral()},
        average=q,
        chart=None if self_attention else chart(),
        summary="The induction head alone: alpha3, beta2, gamma3 of musat19, the other 16 held at"
        f" 0, query on pair q (0: the mean over q = 1..N), self_attention={self_attention}.",
    )


# ---------------------------------------------------------------- N → ∞


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


def checks_musat3() -> dict[str, sp.Expr]:
    """Residuals of the derivation of `musat3`; every one must be exactly 0."""
    loss, integral = musat3_loss(), first_integral()
    drift = sum(sp.diff(integral, s) * -sp.diff(loss, s) for s in (alpha, beta))
    staged = gradient(query_last())
    slopes = {s: closed_form(staged, f"d_{s}") - sp.diff(loss, s) for s in (alpha, beta, gamma)}
    return {"d/dt first integral": sp.simplify(drift)} | {
        f"staged ∂L/∂{s} − ∂(closed form)/∂{s}": sp.simplify(r) for s, r in slopes.items()
    }
