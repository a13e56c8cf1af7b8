"""The derivations of musat3 and musat19: against the transformer written out, and exact proofs."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache

import mpmath
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from derivations.core import latex, report
from derivations.core.conserved import gradient_rank, linear_invariants
from derivations.core.differentiate import gradient, hessian, softmax_rule, tangent
from derivations.core.reading import arranged, cases, condition, in_attention
from derivations.core.staged import (
    N,
    Pair,
    Program,
    Region,
    Scalar,
    Scan,
    Softmax,
    Sum,
    Weight,
    closed_form,
    collapse,
    defined,
    expressions,
    i,
    map_expressions,
    q,
    scalar_program,
    substitute,
    unroll,
)
from derivations.musat.derive import (
    HEAD,
    alpha,
    beta,
    checks_musat3,
    derive_musat3,
    derive_musat19,
    first_integral,
    gamma,
    musat3_loss,
    query_last,
    recall_programs,
    restrict,
    sharp_constants,
    slow_flow,
)
from derivations.musat.explicit import TASKS, execute, model, normal, residuals

LOSS = sp.Symbol("loss")
DIGITS = 40

#: Every N and q up to the given N.
CASES = [(n, query) for n in (1, 2, 3, 4) for query in range(1, n + 1)]
attention = pytest.mark.parametrize("self_attention", [False, True], ids=["strict", "self"])
systems = pytest.mark.parametrize("name", ["musat19", "musat3"])


def program_for(query, self_attention=False):
    first, later = recall_programs(self_attention)
    return first if query == 1 else later


def is_zero(residual):
    return abs(sp.N(residual, DIGITS)) < sp.Float(10) ** (10 - DIGITS)


def numbers(coordinates, offset):
    """Irrational numbers of order 1, of both signs, to more digits than are compared."""
    return {
        c: (-1) ** k * sp.sqrt(2 + (7 * k + offset) % 31).evalf(3 * DIGITS) / 3
        for k, c in enumerate(coordinates)
    }


# ---------------------------------------------------------------- the model


@attention
@pytest.mark.parametrize(("n", "query"), CASES)
def test_every_stage_equals_the_explicit_transformer(n, query, self_attention):
    found = residuals(n, query, self_attention)
    assert {k: v for k, v in found.items() if v != 0} == {}
    rows = 2 * n + self_attention
    # A score and a weight for every row seen, an error for every token, and three outputs.
    assert len(found) >= 2 * rows + 2 * n + 3
    layer1 = [name for name in found if "→" in name]
    # The query's row always has two scores; all other rows with two scores are compared as well.
    assert len([name for name in layer1 if name.startswith("T ")]) == rows


@attention
@pytest.mark.parametrize("cue", ["same", "none"])
@pytest.mark.parametrize(("n", "query"), [(1, 1), (2, 1), (3, 2)])
def test_other_cues_of_the_label(n, query, cue, self_attention):
    assert set(residuals(n, query, self_attention, cue).values()) == {sp.S.Zero}
    recipe = model(self_attention, cue)
    assert len(recipe.entries) == 14
    assert {e.word for e in recipe.entries} == {"I"}


def test_the_cue_decides_what_the_label_sees():
    # With M the label finds its item through alpha3, at the same position through alpha2.
    expected = {"rotated": {"alpha3"}, "same": {"alpha2"}, "none": set()}
    assert set(expected) == set(TASKS)
    for cue, names in expected.items():
        run = execute(2, 2, cue=cue)
        label, item = run.rows.index(("b", 2)), run.rows.index(("a", 2))
        assert {str(s) for s in run.attention[label, item].free_symbols} == names


def test_the_explicit_transformer_attends_causally():
    for self_attention in (False, True):
        run = execute(3, 2, self_attention)
        T = len(run.rows)
        for t in range(T):
            # The first row attends to nothing, every other row's weights add up to 1.
            assert normal(sum(run.attention[t, :])) == (0 if t == 0 and not self_attention else 1)
            for s in range(T):
                seen = s < t or (s == t and self_attention)
                assert (run.attention[t, s] != 0) == seen
        assert (("T", 0) in run.scores) == self_attention


def corrupted(program, target, change):
    """The program with `change` applied to the expressions of the stage that defines `target`."""
    stages = tuple(
        map_expressions(s, lambda _, e: change(e)) if target in map(str, defined(s)) else s
        for s in program.stages
    )
    assert stages != program.stages
    return replace(program, stages=stages)


@pytest.mark.parametrize(
    ("target", "change"),
    [
        ("u", lambda e: e + 1 if e.has(N) else e),
        ("w", lambda e: 2 * e),
        ("S_a", lambda e: e.subs(sp.Symbol("beta9", real=True), 0)),
        ("S_b", lambda e: e.subs(sp.Symbol("beta12", real=True), sp.Symbol("beta10", real=True))),
        ("A_b", lambda e: e if e == 1 else -e),
        ("P_a", lambda e: e / 2),  # seen in e_a, to which it adds
        ("e_b", lambda e: -e),
        ("loss", lambda e: 2 * e),
    ],
)
def test_a_wrong_stage_is_noticed(target, change):
    wrong = corrupted(program_for(2), target, change)
    found = residuals(2, 2, program=wrong)
    seen_in = {"P_a": "e_a"}.get(target, target)
    assert any(v != 0 for name, v in found.items() if seen_in in name)


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


# ---------------------------------------------------------------- derivatives


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
    assert report.along_a_line(program_for(query, self_attention), n, query) == 0


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


# ---------------------------------------------------------------- what is conserved


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


# ---------------------------------------------------------------- musat3


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
    full = report.with_zeros(program_for(query, self_attention))
    part = restrict(program_for(query, self_attention))
    assert {str(c) for c in part.coordinates} == set(HEAD)
    assert set(report.differences(full, part, n, query)) == {sp.S.Zero}
    if query == n > 1:
        last = query_last(self_attention)
        assert set(report.differences(full, last, n, query)) == {sp.S.Zero}
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
    assert all(r == 0 for r in checks_musat3().values())


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


# ---------------------------------------------------------------- arranged for reading


def test_arranging_changes_nothing_and_is_checked(monkeypatch):
    program = gradient(program_for(2, True))
    for stage in program.stages:
        for e in expressions(stage):
            assert sp.expand(sp.together(arranged(e, program) - e)) == 0
    from derivations.core import reading

    monkeypatch.setattr(reading, "_collected", lambda e, p, level: 2 * e)
    with pytest.raises(ArithmeticError, match="became"):
        arranged(sp.Symbol("gamma1", real=True) + 1, program)


def test_regions_of_one_form_are_one_case():
    program = program_for(2)
    x, y = sp.symbols("x y")
    everywhere = cases(program, dict.fromkeys(("first", "before", "at", "after"), x))
    assert [condition(c) for c in everywhere] == [r"1 \le i \le N"]
    but_one = cases(program, {"first": x, "before": x, "at": y, "after": x})
    assert [condition(c) for c in but_one] == [r"1 \le i \le N,\ i \ne q", "i = q"]
    assert [c.single for c in but_one] == [None, q]
    assert [c.form for c in cases(program, {"at": y, "after": x})] == [y, x]


def test_outputs_in_attention_weights():
    A, w = (closed_form(query_last(), name) for name in ("A", "w"))
    named = {sp.Symbol("A_b_at", real=True): A, sp.Symbol("w_at", real=True): w}
    full = gradient(query_last())
    for name in ("loss", *(f"d_{c}" for c in full.coordinates)):
        short = in_attention(full, name)
        assert short.free_symbols - {*full.coordinates, N} <= set(named)
        assert normal(short.xreplace(named) - closed_form(full, name)) == 0
    with pytest.raises(ValueError, match="runs over the pairs"):
        in_attention(restrict(recall_programs()[1]))


# ---------------------------------------------------------------- LaTeX


@cache
def document(name, self_attention):
    return latex.document(name, self_attention=self_attention)


def derived_names(name, self_attention):
    first, later = recall_programs(self_attention)
    programs = [first, later]
    if name == "musat3":
        programs = [*map(restrict, programs), query_last(self_attention)]
    return {str(s) for p in programs for stage in gradient(p).stages for s in defined(stage)}


@attention
@systems
def test_every_derived_stage_is_named(name, self_attention):
    text = document(name, self_attention)
    tags = re.findall(r"\\tag\{\\texttt\{(.*?)\}\}\n", text)
    tagged = {part for tag in tags for part in tag.replace(r"\_", "_").split(", ")}
    assert derived_names(name, self_attention) <= tagged
    assert len(tags) == text.count(r"\begin{equation*}")
    # Every equation comes with a sentence of its own.
    sentences = re.findall(r"^(\S.*):\\nopagebreak$", text, re.MULTILINE)
    assert len(sentences) == len(tags)
    assert not any("a value" in sentence.lower() for sentence in sentences)


@attention
@systems
def test_the_documents_are_well_formed(name, self_attention):
    text = document(name, self_attention)
    assert text.isascii()
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    open_environments = []
    for kind, environment in re.findall(r"\\(begin|end)\{(\w+\*?)\}", text):
        if kind == "begin":
            open_environments.append(environment)
        else:
            assert open_environments.pop() == environment
    assert open_environments == []
    assert text.count(r"\left") - text.count(r"\left\langle") == text.count(r"\right")
    # Coordinates are Greek, and no name of Python's is left in a formula.
    formulas = "".join(re.findall(r"\\begin\{equation\*\}\n(.*?)\n\\tag", text, re.DOTALL))
    assert r"\beta_{2}" in formulas
    assert not re.search(r"(?<!\\)\b(alpha|beta|gamma|exp|loss|bar|sum)\b", formulas)
    assert "**" not in formulas


def test_the_equations_of_the_paper_are_in_the_documents():
    one, other = document("musat19", False), document("musat3", False)
    assert r"\alpha_{2} I + \alpha_{3} M" in one
    assert r"\begin{pmatrix} \gamma_{1} I & 0 & \gamma_{2} I & 0 &" in one
    assert r"\beta_{9} - \beta_{3}" in one or r"\beta_{3} + \beta_{9} = " in one
    assert r"\frac{e^{\alpha_{3}} - 1}{2 (N - 1)} - \frac{\beta_{2}^{2}}{2}" in other
    assert r"\approx 5.0132565" in other


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@attention
@systems
def test_the_documents_compile(name, self_attention, tmp_path):
    (tmp_path / "derived.tex").write_text(document(name, self_attention))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "derived.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout[-2000:]
    assert (tmp_path / "derived.pdf").stat().st_size > 10_000
    assert "Overfull" not in run.stdout
    assert "LaTeX Warning" not in run.stdout


# ---------------------------------------------------------------- the report


@cache
def lines(name, self_attention):
    return list(report.report(name, self_attention=self_attention))


@pytest.mark.parametrize(
    ("name", "self_attention"), [("musat19", False), ("musat3", False), ("musat3", True)]
)
def test_a_report_shows_its_checks(name, self_attention):
    text = lines(name, self_attention)
    made = [line for line in text if line.endswith("residual: 0")]
    assert text[-1].startswith(f"{len(made)} checks passed")
    assert sum("values; residual: 0" in line for line in made) == 6
    assert max(map(len, text)) <= 100
    assert not any("FAILED" in line for line in text)


def test_what_the_reports_say():
    text = [line.strip() for line in lines("musat19", False)]
    assert "Count: 3 + 12 + 4 = 19" in text
    assert "12 of the 19 move independently" in text
    assert "from zero, β₁₁ = β₄ at all times" in text
    assert "2 ≤ q ≤ N: 11 stages forward, 25 backward" in text
    assert "S_a[i] = β₁ + (β₃ + β₉)·u + (β₄ + β₁₀ + β₁₁)·v   for i = q" in text
    text = "\n".join(lines("musat3", False))
    assert "loss = γ₃²·(1 - A_b[q])²/(2·(2·N - 1)) + (γ₃·A_b[q] - 1)²/2" in text
    assert "lim t_ICL/N² = 2·√2·√π ≈ 5.01325654926" in text


def test_the_checks_by_name():
    found = report.checks("musat3")
    assert set(found.values()) == {sp.S.Zero}
    assert len(found) == sum(line.endswith("residual: 0") for line in lines("musat3", False))


def test_a_failed_check_ends_the_report(monkeypatch):
    monkeypatch.setattr(report, "residuals", lambda n, *_: {"S_a[1]": sp.Integer(n - 1)})
    steps = report.report("musat3")
    with pytest.raises(ArithmeticError, match="N = 2, q = 1"):
        for line in steps:
            last = line
    assert "CHECK FAILED" in last and "residual 1" in last


def test_unknown_names():
    with pytest.raises(KeyError):
        next(report.report("musat4"))
    for ask in (report.checks, latex.document, latex.equations):
        with pytest.raises(KeyError):
            ask("musat4")


def test_lines_break_only_where_a_reader_would():
    x = sp.symbols("gamma1:5", real=True)
    long = sum((k + 10) ** 9 * s * (s + 1) ** 2 for k, s in enumerate(x))
    (name,) = sp.symbols("total,", real=True)
    program = Program(x, (), (), (Scalar(name, long),), {"loss": name})
    text = list(report.program_lines(program))
    assert len(text) > 1 and max(map(len, text)) <= 100
    assert all(line.lstrip()[0] in "+-" for line in text[1:])
    assert all(line.count("(") == line.count(")") for line in text)


# ---------------------------------------------------------------- the package


def test_derivations_need_no_compiler_and_no_integrator():
    code = """
import pkgutil, sys, importlib, derivations
for module in pkgutil.iter_modules(derivations.__path__):
    importlib.import_module(f"derivations.{module.name}")
print(*sorted({"numba", "scipy", "numpy", "reduced_dynamics"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
