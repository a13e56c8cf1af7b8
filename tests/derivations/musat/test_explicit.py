"""The staged loss of the nineteen coordinates against the transformer written out."""

from dataclasses import replace

import pytest
import sympy as sp

from derivations.core.residuals import normal
from derivations.core.staged import N, defined, map_expressions
from derivations.musat.explicit import execute, residuals
from derivations.musat.recall import TASKS, Recall
from tests.derivations.programs import CASES, attention, program_for


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
    coordinates = Recall(self_attention, cue).coordinates
    assert len(coordinates) == 14
    assert {c.word for c in coordinates} == {"I"}


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
