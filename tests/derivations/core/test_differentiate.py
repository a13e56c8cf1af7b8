"""Derivatives of staged programs, against SymPy's own and against differences."""

import mpmath
import pytest
import sympy as sp

from derivations.core.differentiate import gradient, hessian, softmax_rule, tangent
from derivations.core.residuals import along_a_line, normal
from derivations.core.staged import (
    N,
    Pair,
    Program,
    Region,
    Scan,
    Softmax,
    Sum,
    Weight,
    closed_form,
    i,
    q,
    scalar_program,
    substitute,
    unroll,
)
from derivations.musat.head import alpha, beta, gamma, musat3_loss, query_last, restrict
from tests.derivations.programs import DIGITS, LOSS, attention, is_zero, numbers, program_for


def test_softmax_rule():
    assert [softmax_rule(classes) for classes in (1, 2, 3)] == [0, 0, 0]


#: A coordinate of every role, for what is slow in SymPy; the lines below see them all.
SOME = ("alpha1", "alpha3", "beta4", "beta12", "gamma4")


@pytest.mark.parametrize(
    ("n", "query", "self_attention", "some"),
    [
        (1, 1, True, ("alpha3", "beta4")),
        (2, 1, False, SOME),
        (2, 2, False, SOME),
        (2, 2, True, ("alpha3", "gamma4")),
        (3, 3, False, ("beta12", "gamma4")),
    ],
)
def test_gradient_equals_sympys_derivative_of_the_loss(n, query, self_attention, some):
    program = program_for(query, self_attention)
    loss = unroll(program, n, query)[LOSS]
    point = numbers(program.coordinates, 0)
    values = unroll(substitute(gradient(program), point), n, query)
    for name in some:
        slope = sp.diff(loss, sp.Symbol(name, real=True))
        compiled = sp.lambdify(program.coordinates, slope, "mpmath", cse=True)
        with mpmath.workdps(2 * DIGITS):
            literal = compiled(*(sp.N(point[c], 2 * DIGITS)._to_mpmath(300) for c in point))
        assert is_zero(sp.Float(literal, 2 * DIGITS) - values[sp.Symbol(f"d_{name}")])
        assert not is_zero(values[sp.Symbol(f"d_{name}")])


@attention
@pytest.mark.parametrize(("n", "query"), [(3, 1), (3, 2), (3, 3), (4, 2)])
def test_gradient_equals_differences_of_the_loss(n, query, self_attention):
    assert along_a_line(program_for(query, self_attention), n, query) == 0


@pytest.mark.parametrize(("n", "query"), [(2, 1), (2, 2), (3, 2)])
@attention
def test_gradient_of_the_head_is_exact(n, query, self_attention):
    program = restrict(program_for(query, self_attention))
    values = unroll(gradient(program), n, query)
    for c in program.coordinates:
        slope = sp.diff(values[LOSS], c)
        if query < n and c != gamma:
            # Many exponentials: 40 digits at a point instead of a normal form.
            point = numbers(program.coordinates, 3)
            assert is_zero((values[sp.Symbol(f"d_{c}")] - slope).xreplace(point))
        else:
            assert normal(values[sp.Symbol(f"d_{c}")] - slope) == 0


@attention
@pytest.mark.parametrize(("n", "query"), [(2, 2), (3, 1)])
def test_tangent_is_the_gradient_along_a_direction(n, query, self_attention):
    program = program_for(query, self_attention)
    point, direction = numbers(program.coordinates, 1), numbers(program.coordinates, 8)
    along = tangent(program, direction, {"loss": "dot_loss", "A": "dot_A"})
    values = unroll(substitute(along, point), n, query)
    slopes = unroll(substitute(gradient(program), point), n, query)
    staged = sum(slopes[sp.Symbol(f"d_{c}")] * direction[c] for c in point)
    assert is_zero(values[sp.Symbol("dot_loss")] - staged)
    slopes = unroll(substitute(gradient(program, "A"), point), n, query)
    staged = sum(slopes[sp.Symbol(f"d_{c}")] * direction[c] for c in point)
    assert is_zero(values[sp.Symbol("dot_A")] - staged)


@attention
def test_tangent_of_the_gradient(self_attention):
    n, query = 3, 2
    program = program_for(query, self_attention)
    point, direction = numbers(program.coordinates, 2), numbers(program.coordinates, 11)
    step = sp.Float(10, 3 * DIGITS) ** (5 - DIGITS)
    slopes = {f"d_{c}": f"dot_{c}" for c in program.coordinates}

    def values(program, t):
        shifted = {c: point[c] + t * direction[c] for c in point}
        return unroll(substitute(program, shifted), n, query)

    staged = values(tangent(gradient(program), direction, slopes), 0)
    ahead, behind = (values(gradient(program), t) for t in (step, -step))
    for slope, rate in slopes.items():
        difference = (ahead[sp.Symbol(slope)] - behind[sp.Symbol(slope)]) / (2 * step)
        assert is_zero(staged[sp.Symbol(rate)] - difference)


def test_hessian_is_symmetric_and_contracts_to_the_tangent():
    n, query = 2, 2
    program = program_for(query)
    coordinates = program.coordinates
    point, direction = numbers(coordinates, 2), numbers(coordinates, 11)
    slopes = {f"d_{c}": f"dot_{c}" for c in coordinates}
    along = unroll(substitute(tangent(gradient(program), direction, slopes), point), n, query)
    values = unroll(substitute(hessian(program), point), n, query)
    names = [[f"d_{a}_{b}" for b in coordinates] for a in coordinates]
    matrix = sp.Matrix([[values[sp.Symbol(name)] for name in row] for row in names])
    assert all(is_zero(v) for v in matrix - matrix.T)
    product = matrix * sp.Matrix([direction[c] for c in coordinates])
    for c, rate in zip(coordinates, product, strict=True):
        assert is_zero(rate - along[sp.Symbol(f"dot_{c}")])


def test_hessian_of_the_head_is_exact():
    full, loss = hessian(query_last()), musat3_loss()
    for a in (alpha, beta, gamma):
        for b in (alpha, beta, gamma):
            assert normal(closed_form(full, f"d_{a}_{b}") - sp.diff(loss, a, b)) == 0


def test_a_plain_loss_is_a_program():
    x, y, k = sp.symbols("x y k", real=True)
    program = scalar_program(k * x**2 * sp.exp(y), (x, y))
    assert program.parameters == (k,)
    full = hessian(program)
    assert closed_form(full, "d_x") == 2 * k * x * sp.exp(y)
    assert closed_form(full, "d_x_y") == closed_form(full, "d_y_x") == 2 * k * x * sp.exp(y)


def toy():
    """Scans both ways and a softmax whose classes have multiplicities, once and for every pair."""
    x, y, z = sp.symbols("x y z", real=True)
    f, g, down, up, a, b, loss = sp.symbols("f g down up a b loss", real=True)
    regions = (Region("first", sp.S.One, sp.S.One), Region("rest", sp.Integer(2), N))
    each = tuple(r.name for r in regions)
    stages = (
        Pair(f, {"first": x, "rest": x * y * i}),
        Scan(down, dict.fromkeys(each, f * z)),
        Scan(up, {"rest": f**2}, suffix=True),
        Softmax((Weight(a, x * z, sp.Integer(3)),), {r: (Weight(b, down * y, i),) for r in each}),
        Pair(g, {"first": b * up, "rest": b * f + a}),
        Sum(loss, dict.fromkeys(each, g**2)),
    )
    return Program((x, y, z), (N, q), regions, stages, {"loss": loss})


@pytest.mark.parametrize("n", [1, 3])
def test_every_kind_of_stage_is_differentiated(n):
    program = toy()
    along = tangent(program, {c: sp.Integer(k) for k, c in enumerate(program.coordinates, 1)},
                    {"loss": "dot_loss"})  # fmt: skip
    values, dot = unroll(gradient(program), n, 1), unroll(along, n, 1)
    second = unroll(hessian(program), n, 1)
    point = numbers(program.coordinates, 4)
    slopes = [sp.diff(values[LOSS], c) for c in program.coordinates]
    for c, slope in zip(program.coordinates, slopes, strict=True):
        assert is_zero((values[sp.Symbol(f"d_{c}")] - slope).xreplace(point))
        for b in program.coordinates:
            expected = sp.diff(slope, b)
            assert is_zero((second[sp.Symbol(f"d_{c}_{b}")] - expected).xreplace(point))
    total = sum(k * s for k, s in enumerate(slopes, 1))
    assert is_zero((dot[sp.Symbol("dot_loss")] - total).xreplace(point))
