"""The induction head among the nineteen coordinates: its programs, its loss, its first integral.

Source: Musat et al., arXiv 2511.01033. The loss on all 19 coordinates comes from `recall`; the
head, `musat3`, is the restriction to alpha3, beta2, gamma3.
"""

from functools import cache

import sympy as sp

from derivations.core.dense import Dense
from derivations.core.staged import N, Program, closed_form, collapse, prune, q, substitute
from derivations.musat.recall import Recall

#: The three coordinates of the induction head: layer 1 looks back from a label to its item, the
#: query looks for its item among what labels have seen, the label found is written out.
HEAD = ("alpha3", "beta2", "gamma3")

alpha, beta, gamma = (sp.Symbol(name, real=True) for name in HEAD)


@cache
def recall_programs(self_attention: bool = False) -> tuple[Program, Program]:
    """The loss on the 19 coordinates for q = 1 and for 2 <= q <= N."""
    model = Recall(self_attention)
    return model.program(query_first=True), model.program()


def others(program: Program | Dense) -> dict[sp.Symbol, sp.Expr]:
    """The values of all coordinates but the head's three: 0."""
    return {c: sp.S.Zero for c in program.coordinates if str(c) not in HEAD}


def restrict(program: Program) -> Program:
    """A program on the 19 coordinates with all but the head's three held at 0."""
    return collapse(substitute(program, others(program)))


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
