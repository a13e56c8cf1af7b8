"""LaTeX of everything derived: every stage of every program as a named equation, and the rest.

`document` gives a complete article for ``pdflatex``; `stage_equations` the equations of any
program. Formulas are printed from the derivation's own objects; the words between them are all
that is written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import NamedTuple

import sympy as sp
from sympy.printing.latex import LatexPrinter

from derivations.core.conserved import linear_invariants
from derivations.core.differentiate import gradient
from derivations.core.reading import (
    REGION_INDEX,
    Case,
    Order,
    arranged,
    by_power,
    cases,
    condition,
    in_attention,
)
from derivations.core.staged import (
    Pair,
    Program,
    RowSoftmax,
    Scalar,
    Scan,
    Softmax,
    Stage,
    Sum,
    Weight,
    defined,
    i,
    q,
)
from derivations.musat.derive import (
    first_integral,
    gamma,
    musat3_loss,
    query_last,
    recall_programs,
    restrict,
    sharp_constants,
    slow_flow,
)
from derivations.subspace.commutant import LETTERS, count, labels

# ---------------------------------------------------------------- symbols

_GREEK = frozenset(LETTERS)
_DECORATION = {
    "bar": r"\bar{%s}%s",
    "sum": r"\bar{%s}%s^{\,\Sigma}",
    "scan": r"\vec{%s}%s",
    "mean": r"\langle\bar{%s}\rangle%s",
    "pairmean": r"\langle\bar{%s}\rangle%s^{\Sigma}",
    "d": r"\frac{\partial\mathcal{L}}{\partial %s%s}",
}


def symbol_tex(name: str, index: str | None = None) -> str:
    """A stage's or coordinate's symbol; `index` is the pair's where there is one a pair."""
    if name == "w_q":  # what a program reports of w at the query's pair
        return "w"
    prefix, _, rest = name.partition("_")
    if prefix not in _DECORATION or not rest:
        prefix, rest = "", name
    if rest == "loss" or rest.startswith("loss_"):
        head, subscripts = r"\mathcal{L}", [rf"\mathrm{{{p}}}" for p in rest.split("_")[1:]]
    else:
        first, *others = rest.split("_")
        letters, digits = re.fullmatch(r"([A-Za-z]+'*)(\d*)", first).groups()
        head = f"\\{letters}" if letters in _GREEK else letters
        subscripts = [digits] if digits else []
        if prefix in ("mean", "pairmean"):
            others = []  # one softmax, named by any of its weights
        subscripts += [REGION_INDEX.get(part, part) for part in others]
    if index:
        subscripts.append(index)
    subscript = f"_{{{','.join(subscripts)}}}" if subscripts else ""
    return (_DECORATION.get(prefix, "%s%s")) % (head, subscript)


class _Printer(Order, LatexPrinter):
    """SymPy's LaTeX with the symbols of a program, at the pair `index`."""

    def __init__(self, program: Program, index: sp.Expr = i):
        super().__init__()
        self.program, self.index = program, index
        self.pairs = program.pair_symbols

    def _print_Symbol(self, expr):
        if expr == i:
            return str(self.index)
        return symbol_tex(str(expr), str(self.index) if expr in self.pairs else None)

    def _print_Mul(self, expr):
        negative, above, below = self.split(expr)
        tex = " ".join(self._factor(f, alone=len(above) == 1 and below) for f in above) or "1"
        if below:
            bottom = " ".join(self._factor(f, alone=len(below) == 1) for f in below)
            if r"\frac" in tex and all(f.is_Integer for f in below):
                tex = rf"\frac{{1}}{{{bottom}}} {' '.join(self._factor(f, False) for f in above)}"
            else:
                tex = rf"\frac{{{tex}}}{{{bottom}}}"
        return f"- {tex}" if negative else tex

    def _factor(self, expr, alone):
        tex = self._print(expr)
        if not expr.is_Add or alone:
            return tex
        return rf"\left({tex}\right)" if r"\frac" in tex else f"({tex})"


# ---------------------------------------------------------------- equations

#: What fits in a line, in glyphs: of a case, of a whole equation.
NARROW, WIDE = 54, 80


class Equation(NamedTuple):
    """A named equation: the name of what it defines, what that is, and its LaTeX."""

    name: str
    text: str
    tex: str


def _glyphs(tex: str) -> int:
    """Roughly how many glyphs wide a formula is."""
    tex = re.sub(r"[_^]\{([^{}]*)\}", r"\1", tex)
    tex = re.sub(r"\\(left|right|mathcal|mathrm|quad|bar|vec)|\s", "", tex)
    tex = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", lambda m: max(m.groups(), key=len), tex)
    return len(re.sub(r"\\[A-Za-z]+|[{}_^]", "x", tex))


def _lines(printer: _Printer, expr: sp.Expr, width: int) -> list[str]:
    """A sum as lines that fit; products are not broken."""
    lines, current = [], ""
    for term in printer._as_ordered_terms(expr):
        text = printer.doprint(term)
        if not text.startswith("-") and (current or lines):
            text = f"+ {text}"
        if current and _glyphs(current) + _glyphs(text) > width:
            lines.append(current)
            current = rf"\quad {{}}{text}"
        else:
            current = f"{current} {text}".strip()
    return [*lines, current]


def _block(lines: Sequence[str]) -> str:
    if len(lines) == 1:
        return lines[0]
    return r"\begin{aligned}[t] & " + " \\\\\n & ".join(lines) + r" \end{aligned}"


def _rows(lines: Iterable[str]) -> str:
    return r"\begin{aligned} & " + " \\\\[1ex]\n & ".join(filter(None, lines)) + r" \end{aligned}"


def _by_cases(program: Program, found: Sequence[Case], index: sp.Symbol = i) -> str:
    """Right-hand side of a value of pair `index`."""
    rows = []
    for case in found:
        lines = _lines(_Printer(program, index), arranged(case.form, program), NARROW)
        lines[-1] += ","
        value = _block(lines)
        style = r"\displaystyle " if r"\frac" in value and len(lines) == 1 else ""
        rows.append((style + value, condition(case, str(index))))
    if len(rows) == 1:
        return rf"{rows[0][0]} \qquad {rows[0][1]}"
    body = " \\\\ \\noalign{\\vskip 0.8ex}\n".join(rf"{value} & {where}" for value, where in rows)
    return rf"\begin{{cases}} {body} \end{{cases}}"


def _summand(printer: _Printer, expr: sp.Expr) -> str:
    tex = printer.doprint(expr)
    return rf"\left({tex}\right)" if expr.is_Add else tex


def _sum(program: Program, found: Sequence[Case]) -> str:
    if len(found) == 1 and found[0].single is not None:
        case = found[0]
        printer = _Printer(program, case.single)
        return _block(_lines(printer, arranged(case.form, program), WIDE))
    ranges = [r for case in found for r in case.ranges]
    program_order = [r.first for r in program.regions]
    first = min(ranges, key=lambda r: program_order.index(r[0]))[0]
    last = max(ranges, key=lambda r: program_order.index(r[0]))[1]
    limits = rf"\sum_{{i={first}}}^{{{last}}}"
    if len(found) == 1 and len(found[0].ranges) == 1:
        return f"{limits} {_summand(_Printer(program), arranged(found[0].form, program))}"
    return rf"{limits} {_by_cases(program, found)}"


def _total(printer: _Printer, weights: Iterable[Weight]) -> str:
    """What a softmax divides by; the classes of one score together, those of score 0 last."""
    by_score: dict[sp.Expr, sp.Expr] = {}
    for w in weights:
        by_score[w.score] = by_score.get(w.score, sp.S.Zero) + w.multiplicity
    terms = sorted(by_score.items(), key=lambda item: item[0] == 0)
    return " + ".join(printer.doprint(m * sp.exp(score)) for score, m in terms)


def _shares(printer: _Printer, weights: Sequence[Weight], total: str) -> list[str]:
    return [
        rf"{printer.doprint(w.name)} = \frac{{{printer.doprint(sp.exp(w.score))}}}{{{total}}}"
        for w in weights
    ]


def _normalised(printer: _Printer, weights: Sequence[Weight], index: str = "") -> str:
    """Weights of one softmax in a line; the total has a name where it is needed often."""
    total = _total(printer, weights)
    if len(weights) <= 2:
        return r", \qquad ".join(_shares(printer, weights, total))
    return r", \qquad ".join([*_shares(printer, weights, f"Z{index}"), f"Z{index} = {total}"])


def _softmax(program: Program, stage: Softmax) -> str:
    printer = _Printer(program)
    if not stage.pairs:
        return _normalised(printer, stage.classes)
    found = cases(program, stage.pairs)
    lines = [r", \qquad ".join(_shares(printer, stage.classes, "Z"))]
    lines += [r", \qquad ".join([*_shares(printer, c.form, "Z"), condition(c)]) for c in found]
    parts = [_total(printer, stage.classes)] if stage.classes else []
    for case in found:
        ((first, last),) = case.ranges
        parts.append(rf"\sum_{{i={first}}}^{{{last}}} \left({_total(printer, case.form)}\right)")
    return _rows([*lines, "Z = " + " + ".join(parts)])


def _row_softmax(program: Program, stage: RowSoftmax) -> str:
    printer = _Printer(program)
    return _rows(
        rf"{_normalised(printer, case.form, '_i')}, \qquad {condition(case)}"
        for case in cases(program, stage.rows)
    )


def stage_tex(program: Program, stage: Stage) -> str:
    """A stage as one displayed formula."""
    if isinstance(stage, Softmax):
        return _softmax(program, stage)
    if isinstance(stage, RowSoftmax):
        return _row_softmax(program, stage)
    left = _Printer(program).doprint(stage.name)
    match stage:
        case Scalar(_, expr):
            right = _block(_lines(_Printer(program), arranged(expr, program), WIDE))
        case Pair(_, exprs):
            right = _by_cases(program, cases(program, exprs))
        case Sum(_, exprs):
            right = _sum(program, cases(program, exprs))
        case Scan(_, exprs, suffix):
            j = sp.Symbol("j", integer=True, positive=True)
            found = cases(program, exprs)
            limit = r"\sum_{j>i}" if suffix else r"\sum_{j<i}"
            # A sum over all pairs, or over all that can be later than another, needs no condition.
            everywhere = {((k, program.regions[-1].last),) for k in (1, 2)[: 1 + suffix]}
            if len(found) == 1 and found[0].ranges in everywhere:
                shown = arranged(found[0].form, program)
                right = f"{limit} {_summand(_Printer(program, j), shown)}"
            else:
                right = rf"{limit} {_by_cases(program, found, j)}"
    return f"{left} = {right}"


# ---------------------------------------------------------------- names in words

_WORDS = {
    "u": "the query's attention on the item it repeats",
    "v": "the query's attention on any other row",
    "s_T": "the query's attention on itself",
    "c": "an item's attention on an earlier row",
    "s_a": "an item's attention on itself",
    "w": "a label's attention on its own item",
    "r": "a label's attention on an earlier row",
    "s_b": "a label's attention on itself",
    "S_a": "score of an item's row",
    "S_b": "score of a label's row",
    "S_T": "score of the query's own row",
    "A_a": "attention on an item's row",
    "A_b": "attention on a label's row",
    "A_T": "attention on the query's own row",
    "P_a": "what later rows hand on of a token they saw",
    "P_b": "what later rows hand on of a label they saw",
    "e_a": "error of the output on an item",
    "e_b": "error of the output on a label",
    "loss": "loss",
    "loss_loop": "the part of the loss that is a sum over pairs",
    "A": "attention on the right label",
    "w_q": "the right label's attention on its own item",
}
_LAYERS = {1: {"u", "v", "s_T", "c", "s_a", "w", "r", "s_b"}, 2: {"S_a", "S_b", "S_T"}}
_LAYERS[2] |= {"A_a", "A_b", "A_T"}
_REGION_WORDS = {
    "first": "first pair",
    "before": "pairs before the query's",
    "at": "query's pair",
    "after": "pairs after the query's",
}
_ADJOINT_WORDS = {
    "bar": "adjoint of ${}$",
    "sum": "adjoint of ${}$, summed over the pairs",
    "scan": "adjoint of what adds up to ${}$",
    "mean": "mean adjoint in the softmax of ${}$",
    "pairmean": "mean adjoint in the softmax of ${}$, summed over the pairs",
}


def _words(name: str) -> str:
    base, _, region = name.rpartition("_")
    if region in _REGION_WORDS and base in _WORDS:
        return f"{_WORDS[base]} ({_REGION_WORDS[region]}, and all rows of the same score)"
    return _WORDS.get(name, "a value")


def describe(program: Program, stage: Stage) -> str:
    """What a stage defines, in words; several values are told apart by their symbols."""
    printer, names = _Printer(program), list(map(str, defined(stage)))
    prefix, _, rest = names[0].partition("_")
    if prefix in _ADJOINT_WORDS:
        return _ADJOINT_WORDS[prefix].format(printer.doprint(sp.Symbol(rest, real=True)))
    base = re.sub(rf"_({'|'.join(_REGION_WORDS)})$", "", names[0])
    layer = next((f"layer {k}: " for k, members in _LAYERS.items() if base in members), "")
    if len(names) == 1:
        return layer + _words(names[0])
    parts = (f"${printer.doprint(s)}$ {_words(str(s))}" for s in defined(stage))
    return layer + "; ".join(parts)


# ---------------------------------------------------------------- collections of equations


def stage_equations(program: Program, after: int = 0) -> list[Equation]:
    """One equation for every stage of a program, from stage `after` on."""
    return [
        Equation(
            ", ".join(map(str, defined(stage))),
            describe(program, stage),
            stage_tex(program, stage),
        )
        for stage in program.stages[after:]
    ]


def gradient_equations(program: Program) -> list[Equation]:
    """The stages that the gradient adds, and what they give."""
    full = gradient(program)
    printer = _Printer(full)
    slopes = {c: full.outputs[f"d_{c}"] for c in full.coordinates}
    moving = [f"{symbol_tex(f'd_{c}')} = {printer.doprint(e)}" for c, e in slopes.items() if e != 0]
    still = [symbol_tex(f"d_{c}") for c, e in slopes.items() if e == 0]
    lines = [r" \qquad ".join(moving[k : k + 5]) for k in range(0, len(moving), 5)]
    if still:
        lines.append(" = ".join([*still, "0"]))
    result = stage_equations(full, after=len(program.stages))
    return [*result, Equation("gradient", "the gradient", _rows(lines))]


def weight_equations() -> list[Equation]:
    """The weight matrices on the invariant subspace, block by block."""
    result = count()
    equations = []
    for weight, rows, columns in result.weights:
        blocks = [["0"] * len(columns) for _ in rows]
        for c in result.coordinates:
            if c.weight == weight:
                text = f"{symbol_tex(c.name)} {c.map.name}"
                known = blocks[c.row][c.column]
                blocks[c.row][c.column] = text if known == "0" else f"{known} + {text}"
        body = " \\\\\n".join(" & ".join(row) for row in blocks)
        name = re.sub(r"(\d)", r"_\1", weight)
        tex = rf"{name} = \begin{{pmatrix}} {body} \end{{pmatrix}}"
        of = " and ".join(
            f"{side} (${', '.join(labels(spaces))}$)"
            for side, spaces in (("rows", rows), ("columns", columns))
        )
        equations.append(Equation(weight, f"blocks of {name[0]}{name[2:]}, {of}", tex))
    return equations


def invariant_equations(program: Program) -> list[Equation]:
    """Linear first integrals of a program's flow."""
    printer = _Printer(program)
    found = [rf"{printer.doprint(e)} = \mathrm{{const}}" for e in linear_invariants(program)]
    lines = [r", \qquad ".join(found[k : k + 5]) for k in range(0, len(found), 5)]
    return [
        Equation("invariants", f"{len(found)} linear first integrals of the flow", _rows(lines))
    ]


# ---------------------------------------------------------------- musat3, without loops


def head_equations() -> list[Equation]:
    """The loss of `musat3` for q = N: in closed form, and with its slopes in attention weights."""
    program = gradient(query_last())
    found = [("closed form", "loss", "the loss in closed form", musat3_loss())]
    found += [("loss", "loss", "the loss, by the two attention weights", in_attention(program))]
    for c in program.coordinates:
        slope = in_attention(program, f"d_{c}")
        found.append((f"d_{c}", f"d_{c}", f"its slope along ${symbol_tex(str(c))}$", slope))
    result = []
    for name, symbol, text, expr in found:
        # Exponentials of exponentials are named: they are not legible in an exponent.
        nested = [e for e in expr.atoms(sp.exp) if e.exp.has(sp.exp)]
        names = {e: sp.Symbol("E" + "'" * k) for k, e in enumerate(nested)}
        shown = by_power(expr.xreplace(names), program)
        lines = [f"{symbol_tex(symbol)} = {_block(_lines(_Printer(program), shown, WIDE))}"]
        lines += [
            rf"{e} = \exp\left({_Printer(program).doprint(full.exp)}\right)"
            for full, e in names.items()
        ]
        result.append(Equation(name, text, r", \qquad ".join(lines)))
    return result


def limit_equations() -> list[Equation]:
    """First integral, slow flow and sharp constants of `musat3`, q = N."""
    printer = _Printer(query_last())
    scales = {str(gamma): "N"}

    def scale(name):
        return scales.get(name, "N^2")

    flow = [
        rf"\lim_{{N\to\infty}} {scale(name)} \frac{{d{symbol_tex(name)}}}{{dt}}"
        rf" = {printer.doprint(speed)}"
        for name, speed in slow_flow().items()
    ]
    constants = []
    for name, value in sharp_constants().items():
        event = name.removeprefix("T_")
        time = r"t_{\mathrm{ICL}}" if name == "t_icl" else f"T_{{{symbol_tex(event)}}}"
        shown = printer.doprint(sp.expand_log(value, force=True))
        limit = rf"\lim_{{N\to\infty}} \frac{{{time}}}{{{scale(event)}}}"
        constants.append(rf"{limit} = {shown} \approx {sp.N(value, 8)}")
    integral = printer.doprint(first_integral())
    return [
        Equation("first_integral", "first integral of the flow", f"{integral} = \\mathrm{{const}}"),
        Equation("slow_flow", "leading order of the flow at fixed coordinates", _rows(flow)),
        Equation("constants", "sharp constants of emergence, threshold 1/2", _rows(constants)),
    ]


# ---------------------------------------------------------------- documents

#: A part of a document: heading, introduction, equations.
Part = tuple[str, str, list[Equation]]

_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[a4paper, margin=20mm]{geometry}
\usepackage{amsmath}
\setlength{\parindent}{0pt}
\setlength{\parskip}{1ex}
\allowdisplaybreaks
\begin{document}
"""

_CONVENTIONS = (
    "Pairs are numbered $i = 1, \\dots, N$, the query repeats the item of pair $q$. A value is $0$"
    " at pairs for which no case is listed, and an empty sum is $0$. The tag of an equation is the"
    " name of the stage in the program. Subscripts $a$ and $b$ mean items and labels."
)


_ADJOINTS = (
    "Stages in the order of computation. A bar is the derivative of the loss by a value,"
    " $\\Sigma$ its sum over the pairs, an arrow a sum over earlier pairs, angle brackets the mean"
    " over a softmax."
)


def _musat19_parts(self_attention: bool) -> list[Part]:
    first, later = recall_programs(self_attention)
    weights = "Blocks that commute with the symmetries of the task; $t$ tokens, $p$ positions."
    conserved = "Along these directions no stage of the loss changes."
    return [
        ("The invariant subspace", weights, weight_equations()),
        (r"The loss, $2 \le q \le N$", "", stage_equations(later)),
        (r"Its gradient, $2 \le q \le N$", _ADJOINTS, gradient_equations(later)),
        ("The loss, $q = 1$", "", stage_equations(first)),
        ("Its gradient, $q = 1$", _ADJOINTS, gradient_equations(first)),
        ("What the flow conserves", conserved, invariant_equations(later)),
    ]


def _musat3_parts(self_attention: bool) -> list[Part]:
    first, later = (restrict(p) for p in recall_programs(self_attention))
    last = query_last(self_attention)
    printer = _Printer(last)
    kept = ", ".join(f"${printer.doprint(c)}$" for c in last.coordinates)
    held = f"The coordinates {kept}; the others are held at $0$. Values that are equal at many"
    held += " pairs have the index of one of them."
    average = rf"\overline{{\mathcal{{L}}}} = \frac{{1}}{{N}} \sum_{{{q}=1}}^{{N}} \mathcal{{L}}_q"
    parts = [
        (r"The loss, $2 \le q \le N$", held, stage_equations(later)),
        (r"Its gradient, $2 \le q \le N$", _ADJOINTS, gradient_equations(later)),
        ("The loss, $q = 1$", "", stage_equations(first)),
        ("Its gradient, $q = 1$", _ADJOINTS, gradient_equations(first)),
        ("The query uniform over the pairs", "", [Equation("mean", "population loss", average)]),
        ("The loss, $q = N$", "No sum over pairs is left.", stage_equations(last)),
        ("Its gradient, $q = N$", _ADJOINTS, gradient_equations(last)),
    ]
    if not self_attention:
        parts.append(("Closed form, $q = N$", "", head_equations()))
        parts.append(("Conservation and the limit of many pairs, $q = N$", "", limit_equations()))
    return parts


PARTS = {"musat19": _musat19_parts, "musat3": _musat3_parts}
_TITLES = {
    "musat19": "The disentangled transformer on item--label recall: 19 coordinates",
    "musat3": "The induction head: 3 of the 19 coordinates",
}


def equations(name: str, *, self_attention: bool = False) -> list[Equation]:
    """Every equation of a system's document; KeyError for an unknown name."""
    return [e for _, _, part in PARTS[name](self_attention) for e in part]


def _display(equation: Equation) -> str:
    tag = equation.name.replace("_", r"\_")
    text = equation.text[:1].upper() + equation.text[1:]
    return (
        f"{text}:\\nopagebreak\n\\begin{{equation*}}\n{equation.tex}\n"
        f"\\tag{{\\texttt{{{tag}}}}}\n\\end{{equation*}}\n"
    )


def document(name: str, *, self_attention: bool = False) -> str:
    """A LaTeX article with every derived equation of `musat19` or `musat3`, named.

    Raises
    ------
    KeyError
        If there is no such system.
    """
    from derivations.core.report import FAMILIES

    if name in FAMILIES:
        family = import_module(FAMILIES[name])
        parts = family.parts(self_attention)
        return _article(family.LATEX_TITLE, family.LATEX_INTRODUCTION, parts)
    rows = "A row attends to itself as well." if self_attention else "Attention is strictly causal."
    introduction = f"Musat et al., arXiv 2511.01033; orthonormal inputs. {rows} {_CONVENTIONS}"
    return _article(_TITLES[name], introduction, PARTS[name](self_attention))


def _article(title: str, introduction: str, parts: Iterable[Part]) -> str:
    lines = [_PREAMBLE, rf"\section*{{{title}}}", introduction]
    for heading, text, found in parts:
        lines += ["", rf"\subsection*{{{heading}}}", text, "", *map(_display, found)]
    return "\n".join([*lines, r"\end{document}", ""])
