"""``derive`` over a report that takes no time; the families' own are in tests/derivations."""

import json

import pytest
import sympy as sp

from derivations.core.report import Article, Check, Equation, Heading, Part, Report
from reduced_dynamics import catalogue
from reduced_dynamics.commands.main import main


def offer(monkeypatch, residual=0, options=()):
    def steps(**given):
        yield Heading("One step")
        yield Check(f"what must vanish {given}", sp.sympify(residual))

    def article(**given):
        return Article("Toy", "", [Part("All", "", [Equation("x", "nothing", "x = 0")])])

    report = Report("toy", steps, article, options=options)
    find = catalogue.find
    monkeypatch.setattr(
        catalogue, "find", lambda kind, name: report if kind == "reports" else find(kind, name)
    )


def test_one_object_and_nothing_else(monkeypatch, capsys):
    offer(monkeypatch)
    assert main(["derive", "chen", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["system"], found["counts"]["checks"], err) == ("chen", 1, "")
    assert found["steps"][0]["residuals"] == [{"check": "what must vanish {}", "residual": "0"}]


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_a_check_that_fails_ends_with_exit_code_3(monkeypatch, capsys, extra):
    offer(monkeypatch, residual="7/2")
    assert main(["derive", "chen", *extra]) == 3
    out, err = capsys.readouterr()
    assert "what must vanish {}: residual 7/2" in err and err.count("\n") == 1
    assert "7/2" in out
    if extra:
        assert json.loads(out)["counts"] == {"steps": 1, "checks": 1, "failed": 1}


def test_options_are_those_of_the_report(monkeypatch, capsys):
    offer(monkeypatch, options=("self_attention",))
    assert main(["derive", "chen", "--self-attention"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("toy, self_attention=true\n") and "{'self_attention': True}" in out
    assert main(["derive", "chen"]) == 0
    assert "self_attention=false" in capsys.readouterr().out
    offer(monkeypatch)
    assert main(["derive", "chen", "--self-attention"]) == 2
    assert "no meaning for chen" in capsys.readouterr().err


def test_latex_beside_the_object(monkeypatch, capsys, tmp_path):
    offer(monkeypatch)
    target = tmp_path / "f.tex"
    assert main(["derive", "chen", "--latex", str(target), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["system"] == "chen" and "wrote" in err
    assert r"\tag{\texttt{x}}" in target.read_text()


def test_a_system_without_a_report(monkeypatch, capsys):
    monkeypatch.setattr(catalogue, "find", lambda *_: None)
    monkeypatch.setattr(catalogue, "system", lambda name: type("S", (), {"name": name}))
    assert main(["derive", "toy"]) == 2
    err = capsys.readouterr().err
    assert "no report on how toy is derived" in err and "musat19" in err
