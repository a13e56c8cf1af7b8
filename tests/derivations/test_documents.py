"""What `derive` prints and typesets."""

import json
import re
import shutil
import subprocess
import sys
from functools import cache

import pytest
import sympy as sp

from derivations import documents
from derivations.core.differentiate import gradient
from derivations.core.report import Article, Check, Heading, Report
from derivations.core.staged import defined
from derivations.musat import report as musat
from derivations.musat.head import query_last, recall_programs, restrict
from reduced_dynamics.catalogue import find, offered
from tests.derivations.programs import attention

REPORTS = {name: find("reports", name) for name in offered("reports")}
systems = pytest.mark.parametrize("name", ["musat19", "musat3"])
every = pytest.mark.parametrize(
    ("name", "self_attention"),
    [(name, on) for name, r in REPORTS.items() for on in (False, True)[: 1 + bool(r.options)]],
)


def options(name, self_attention):
    return dict.fromkeys(REPORTS[name].options, self_attention)


@cache
def document(name, self_attention):
    return documents.document(REPORTS[name], **options(name, self_attention))


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


@every
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
    left, right = (re.findall(rf"\\{side}(?![a-z])", text) for side in ("left", "right"))
    assert len(left) == len(right)
    # Coordinates are Greek, and no name of Python's is left in a formula.
    formulas = "".join(re.findall(r"\\begin\{equation\*\}\n(.*?)\n\\tag", text, re.DOTALL))
    if "musat" in name:
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
    assert r"\tag{\texttt{matched}}" in document("chen", False)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@every
def test_the_documents_compile(name, self_attention, tmp_path):
    (tmp_path / "derived.tex").write_text(document(name, self_attention))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "derived.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout[-2000:]
    assert (tmp_path / "derived.pdf").stat().st_size > 10_000
    assert "Overfull" not in run.stdout
    assert "LaTeX Warning" not in run.stdout


@cache
def lines(name, self_attention):
    return list(documents.lines(REPORTS[name], **options(name, self_attention)))


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


def toy(residual=sp.S.Zero):
    def steps():
        yield "What is meant."
        yield Heading("One step")
        yield "  a line"
        yield Check("nothing", sp.S.Zero)
        yield Heading("Another")
        yield Check("something", residual)
        yield "the end"

    return Report("toy: a title", steps, lambda: Article("", "", []))


def test_steps_are_numbered_and_set_apart():
    assert list(documents.lines(toy())) == [
        "toy: a title", "", "What is meant.", "", "1. One step", "  a line",
        "    nothing; residual: 0", "", "2. Another", "    something; residual: 0", "the end", "",
        "2 checks passed: residuals exactly 0",
    ]  # fmt: skip


def test_a_derivation_as_one_object():
    found = documents.record(toy(sp.Integer(3)))
    assert json.loads(json.dumps(found)) == {
        "title": "toy: a title",
        "options": {},
        "introduction": ["What is meant."],
        "steps": [
            {
                "title": "One step",
                "text": ["a line"],
                "residuals": [{"check": "nothing", "residual": "0"}],
            },
            {
                "title": "Another",
                "text": ["the end"],
                "residuals": [{"check": "something", "residual": "3"}],
            },
        ],
        "counts": {"steps": 2, "checks": 2, "failed": 1},
    }


def test_a_failed_check_ends_the_report(monkeypatch):
    monkeypatch.setattr(musat, "residuals", lambda n, *_: {"S_a[1]": sp.Integer(n - 1)})
    with pytest.raises(ArithmeticError, match="N = 2, q = 1"):
        for line in documents.lines(musat.MUSAT3, self_attention=False):
            last = line
    assert "CHECK FAILED" in last and "residual 1" in last


def test_derivations_need_no_compiler_and_no_integrator():
    code = """
import pkgutil, sys, importlib, derivations
for module in pkgutil.walk_packages(derivations.__path__, "derivations."):
    importlib.import_module(module.name)
print("derivations.musat.gram" in sys.modules)
print(*sorted({"numba", "scipy", "numpy", "reduced_dynamics"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True"]
