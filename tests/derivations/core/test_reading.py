"""Expressions and stages arranged for a reader, and lines of text."""

import pytest
import sympy as sp

from derivations.core import reading
from derivations.core.differentiate import gradient
from derivations.core.reading import arranged, cases, condition, in_attention
from derivations.core.residuals import normal
from derivations.core.staged import N, Program, Scalar, closed_form, expressions, q
from derivations.core.text import program_lines
from derivations.musat.head import query_last, recall_programs, restrict
from tests.derivations.programs import program_for


def test_arranging_changes_nothing_and_is_checked(monkeypatch):
    program = gradient(program_for(2, True))
    for stage in program.stages:
        for e in expressions(stage):
            assert sp.expand(sp.together(arranged(e, program) - e)) == 0
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


def test_lines_break_only_where_a_reader_would():
    x = sp.symbols("gamma1:5", real=True)
    long = sum((k + 10) ** 9 * s * (s + 1) ** 2 for k, s in enumerate(x))
    (name,) = sp.symbols("total,", real=True)
    program = Program(x, (), (), (Scalar(name, long),), {"loss": name})
    text = list(program_lines(program))
    assert len(text) > 1 and max(map(len, text)) <= 100
    assert all(line.lstrip()[0] in "+-" for line in text[1:])
    assert all(line.count("(") == line.count(")") for line in text)
