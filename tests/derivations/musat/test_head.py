"""The induction head: the restriction, its closed form, its first integral and its limits."""

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from derivations.core.residuals import normal
from derivations.core.staged import (
    N,
    Pair,
    Scan,
    Sum,
    closed_form,
    collapse,
    defined,
    expressions,
    i,
    q,
    substitute,
    unroll,
)
from derivations.musat.derive import derive_musat3, derive_musat19
from derivations.musat.head import (
    HEAD,
    alpha,
    beta,
    first_integral,
    gamma,
    musat3_loss,
    query_last,
    recall_programs,
    restrict,
)
from derivations.musat.limits import sharp_constants, slow_flow
from derivations.musat.report import differences, with_zeros
from tests.derivations.programs import CASES, attention, is_zero, numbers, program_for


def test_closed_form_of_the_paper():
    w = sp.exp(alpha) / (sp.exp(alpha) + 2 * N - 2)
    A = sp.exp(beta * w) / (sp.exp(beta * w) + 2 * N - 1)
    L = ((1 - gamma * A) ** 2 + gamma**2 * (1 - A) ** 2 / (2 * N - 1)) / 2
    assert normal(musat3_loss() - L) == 0
    assert normal(closed_form(query_last(), "A") - A) == 0
    assert normal(closed_form(query_last(), "w") - w) == 0


@attention
@pytest.mark.parametrize(("n", "query"), CASES)
def test_restriction_to_the_head(n, query, self_attention):
    full = with_zeros(program_for(query, self_attention))
    part = restrict(program_for(query, self_attention))
    assert {str(c) for c in part.coordinates} == set(HEAD)
    assert set(differences(full, part, n, query)) == {sp.S.Zero}
    if query == n > 1:
        last = query_last(self_attention)
        assert set(differences(full, last, n, query)) == {sp.S.Zero}
        assert last.parameters == (N,)


def test_query_last_needs_no_loop_and_a_fixed_query_only_over_later_pairs():
    assert not any(isinstance(s, Pair | Scan | Sum) for s in query_last().stages)
    for first, program in zip((2, q + 1), map(restrict, recall_programs()), strict=True):
        loops = [s for s in program.stages if isinstance(s, Pair | Sum)]
        assert loops and all(set(s.exprs) == {"after"} for s in loops)
        assert program.region("after").first == first
        with pytest.raises(ValueError, match="no closed form"):
            closed_form(program)


@settings(max_examples=12, deadline=None)
@given(
    zeros=st.sets(st.integers(0, 18), max_size=18),
    case=st.sampled_from([c for c in CASES if c[0] <= 3]),
    self_attention=st.booleans(),
)
def test_collapsing_changes_no_value(zeros, case, self_attention):
    n, query = case
    program = program_for(query, self_attention)
    held = {c: sp.S.Zero for k, c in enumerate(program.coordinates) if k in zeros}
    point = numbers([c for c in program.coordinates if c not in held], 9)
    before = substitute(program, held)
    after = collapse(before)
    assert len(after.coordinates) == 19 - len(held)
    left, right = (unroll(substitute(p, point), n, query) for p in (before, after))
    for name in ("loss", "A", "w"):
        assert is_zero(left[sp.Symbol(name)] - right[sp.Symbol(name)])


def test_first_integral():
    integral = first_integral()
    spec = alpha + (sp.exp(alpha) - 1) / (2 * N - 2) - beta**2 / 2
    assert normal(integral - spec) == 0
    loss = musat3_loss()
    drift = sum(sp.diff(integral, s) * -sp.diff(loss, s) for s in (alpha, beta, gamma))
    assert normal(drift) == 0


def test_slow_flow():
    assert slow_flow() == {
        "gamma3": (1 - gamma) / 2,
        "beta2": gamma * sp.exp(alpha) / 4,
        "alpha3": beta * gamma * sp.exp(alpha) / 4,
    }
    # It is what the flow approaches: corrections are of relative order 1/N.
    at = {alpha: sp.Rational(1, 3), beta: sp.Rational(1, 2), gamma: sp.Rational(2, 3)}
    for c, order in ((gamma, 1), (beta, 2), (alpha, 2)):
        slope = -sp.diff(musat3_loss(), c) * N**order
        for size in (10**4, 10**5):
            exact = sp.N(slope.subs({**at, N: size}), 60)
            limit = sp.N(slow_flow()[str(c)].subs(at), 60)
            assert abs(exact / limit - 1) < 20 / sp.Integer(size)


def test_sharp_constants():
    b = sp.Symbol("b", positive=True)

    def area(upper):
        return 4 * sp.Integral(sp.exp(-(b**2) / 2), (b, 0, upper)).doit()

    expected = {
        "T_gamma3": 2 * sp.log(2),
        "T_beta2": area(sp.S.Half),
        "T_alpha3": area(1),
        "t_icl": 2 * sp.sqrt(2 * sp.pi),
    }
    found = sharp_constants()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert sp.simplify(sp.expand_log(found[name] - value)) == 0
    assert f"{sp.N(found['t_icl'], 5)}" == "5.0133"
    # The paper's lower threshold: alpha = 1/10 is beta = √(1/5), by the first integral.
    low = sharp_constants(sp.Rational(1, 10))
    assert sp.simplify(low["T_alpha3"] - area(1 / sp.sqrt(5))) == 0
    assert sp.simplify(sp.expand_log(low["T_gamma3"] + 2 * sp.log(sp.Rational(9, 10)))) == 0


@attention
def test_derivations_hand_on_what_was_derived(self_attention):
    one, other = derive_musat19(self_attention), derive_musat3(self_attention)
    assert len(one.coordinates) == 19 and other.coordinates == (alpha, beta, gamma)
    assert len(one.invariants) == (2 if self_attention else 7)
    assert ("first_integral" in other.invariants) == (not self_attention)
    for derivation in (one, other):
        assert derivation.parameters == (N, q) and derivation.average == q
        assert derivation.variants[-1][0] is None
        for _, program in derivation.variants:
            assert {"loss", *derivation.observables} <= set(program.outputs)
            free = set().union(*(e.free_symbols for s in program.stages for e in expressions(s)))
            made = {s for stage in program.stages for s in defined(stage)}
            assert free <= made | {*program.coordinates, *program.parameters, i}
