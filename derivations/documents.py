"""What ``derive`` prints, typesets and counts of a system, from the report its family offers."""

from collections.abc import Iterator
from typing import Any

from derivations.core.report import Equation, Heading, Report


def lines(report: Report, **options: bool) -> Iterator[str]:
    """The derivation, line by line as it is made.

    Raises
    ------
    ArithmeticError
        If a check fails: its residual is not exactly 0. The last line before says which.
    """
    steps = made = 0
    line = ""
    yield ", ".join([report.title, *(f"{k}={str(v).lower()}" for k, v in options.items())])
    yield line
    for told in report.steps(**options):
        if isinstance(told, Heading):
            steps += 1
            if line:
                yield ""
            line = f"{steps}. {told}"
        elif isinstance(told, str):
            line = told
        elif told.residual == 0:
            made += 1
            line = f"    {told.name}; residual: 0"
        else:
            yield f"  CHECK FAILED: {told.name}: residual {told.residual}, should be 0"
            raise ArithmeticError(f"{told.name}: residual {told.residual}")
        yield line
    yield ""
    yield f"{made} checks passed: {report.closing}"


def record(report: Report, **options: bool) -> dict[str, Any]:
    """The derivation as one object: title, options, steps with their text and residuals, counts.

    A check that fails is among them, with the residual it left.
    """
    steps: list[dict[str, Any]] = []
    introduction: list[str] = []
    text = introduction
    for told in report.steps(**options):
        if isinstance(told, Heading):
            text = []
            steps.append({"title": str(told), "text": text, "residuals": []})
        elif isinstance(told, str):
            text.append(told.strip())
        else:
            found = {"check": told.name, "residual": str(told.residual)}
            steps[-1]["residuals"].append(found)
    residuals = [found["residual"] for step in steps for found in step["residuals"]]
    failed = len(residuals) - residuals.count("0")
    return {
        "title": report.title,
        "options": options,
        "introduction": introduction,
        "steps": steps,
        "counts": {"steps": len(steps), "checks": len(residuals), "failed": failed},
    }


# ---------------------------------------------------------------- LaTeX

_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[a4paper, margin=20mm]{geometry}
\usepackage{amsmath}
\setlength{\parindent}{0pt}
\setlength{\parskip}{1ex}
\allowdisplaybreaks
\begin{document}
"""


def _display(equation: Equation) -> str:
    tag = equation.name.replace("_", r"\_")
    text = equation.text[:1].upper() + equation.text[1:]
    return (
        f"{text}:\\nopagebreak\n\\begin{{equation*}}\n{equation.tex}\n"
        f"\\tag{{\\texttt{{{tag}}}}}\n\\end{{equation*}}\n"
    )


def document(report: Report, **options: bool) -> str:
    """A LaTeX article, for ``pdflatex``, with every derived equation, named."""
    title, introduction, parts = report.article(**options)
    found = [_PREAMBLE, rf"\section*{{{title}}}", introduction]
    for heading, text, equations in parts:
        found += ["", rf"\subsection*{{{heading}}}", text, "", *map(_display, equations)]
    return "\n".join([*found, r"\end{document}", ""])
