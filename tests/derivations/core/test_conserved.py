"""Linear first integrals: found, and as many as the gradient leaves."""

import pytest
import sympy as sp

from derivations.core.conserved import gradient_rank, linear_invariants
from derivations.core.differentiate import gradient
from derivations.core.staged import scalar_program, substitute, unroll
from derivations.musat.head import recall_programs
from tests.derivations.programs import attention, is_zero, numbers, program_for


def names(exprs):
    return {frozenset(str(s) for s in e.free_symbols) for e in exprs}


def test_twelve_of_nineteen_move():
    still = {frozenset({f"beta{k}"}) for k in (5, 6, 7, 8)} | {frozenset({"alpha2"})}
    pairs = {frozenset({"beta3", "beta9"}), frozenset({"beta4", "beta11"})}
    for program in recall_programs():
        conserved = linear_invariants(program)
        assert names(conserved) == still | pairs
        # Differences, so that along the flow from zero the two are equal.
        for e in conserved:
            assert len(e.free_symbols) == 1 or sum(e.coeff(s) for s in e.free_symbols) == 0
    # For 2 <= q the report computes it.
    assert gradient_rank(recall_programs()[0], 3, 1) == 19 - 7


def test_with_self_attention_seventeen_move():
    for program in recall_programs(True):
        assert names(linear_invariants(program)) == {frozenset({"beta6"}), frozenset({"beta8"})}
    assert gradient_rank(recall_programs(True)[1], 3, 2) == 19 - 2


@attention
@pytest.mark.parametrize(("n", "query"), [(2, 1), (3, 2)])
def test_conserved_directions_by_the_unrolled_gradient(n, query, self_attention):
    program = program_for(query, self_attention)
    values = unroll(substitute(gradient(program), numbers(program.coordinates, 6)), n, query)
    for e in linear_invariants(program):
        assert is_zero(sum(e.coeff(c) * values[sp.Symbol(f"d_{c}")] for c in e.free_symbols))


def test_a_program_that_conserves_nothing():
    x, y = sp.symbols("x y", real=True)
    assert linear_invariants(scalar_program(x**2 + y**3, (x, y))) == ()
    found = linear_invariants(scalar_program((x - 2 * y) ** 2, (x, y)))
    assert [sp.simplify(e / (2 * x + y)).is_number for e in found] == [True]
