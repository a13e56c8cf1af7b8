"""LaTeX of programs: every stage as a named equation, its gradient and what it conserves."""

import re
from collections.abc import Iterable, Mapping, Sequence

import sympy as sp
from sympy.printing.latex import LatexPrinter

from derivations.core.conserved import linear_invariants
from derivations.core.differentiate import gradient
from derivations.core.letters import GREEK
from derivations.core.reading import (
    REGION_INDEX,
    REGION_WORDS,
    Case,
    J,
    Order,
    arranged,
    cases,
    condition,
)
from derivations.core.report import Equation
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
)

# ---------------------------------------------------------------- symbols

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
    name = name.removesuffix("_q")  # what a program reports of w at the query's pair is w
    prefix, _, rest = name.partition("_")
    if prefix not in _DECORATION or not rest:
        prefix, rest = "", name
    if rest == "loss" or rest.startswith("loss_"):
        head, subscripts = r"\mathcal{L}", [rf"\mathrm{{{p}}}" for p in rest.split("_")[1:]]
    else:
        first, *others = rest.split("_")
        letters, digits = re.fullmatch(r"([A-Za-z]+'*)(\d*)", first).groups()
        head = f"\\{letters}" if letters in GREEK else letters
        subscripts = [digits] if digits else []
        if prefix in ("mean", "pairmean"):
            others = []  # one softmax, named by any of its weights
        subscripts += [REGION_INDEX.get(part, part) for part in others]
    if index:
        subscripts.append(index)
    subscript = f"_{{{','.join(subscripts)}}}" if subscripts else ""
    return (_DECORATION.get(prefix, "%s%s")) % (head, subscript)


class Printer(Order, LatexPrinter):
    """SymPy's LaTeX with the symbols of a program, at the pair `index`."""

    symbol, share = staticmethod(symbol_tex), r"%s = \frac{%s}{%s}"

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


def glyphs(tex: str) -> int:
    """Roughly how many glyphs wide a formula is."""
    tex = re.sub(r"[_^]\{([^{}]*)\}", r"\1", tex)
    tex = re.sub(r"\\(left|right|mathcal|mathrm|quad|bar|vec)|\s", "", tex)
    tex = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", lambda m: max(m.groups(), key=len), tex)
    return len(re.sub(r"\\[A-Za-z]+|[{}_^]", "x", tex))


def _broken(printer: Printer, expr: sp.Expr, width: int) -> list[str]:
    """A sum as lines that fit; products are not broken."""
    lines, current = [], ""
    for term in printer._as_ordered_terms(expr):
        text = printer.doprint(term)
        if not text.startswith("-") and (current or lines):
            text = f"+ {text}"
        if current and glyphs(current) + glyphs(text) > width:
            lines.append(current)
            current = rf"\quad {{}}{text}"
        else:
            current = f"{current} {text}".strip()
    return [*lines, current]


def _block(lines: Sequence[str]) -> str:
    if len(lines) == 1:
        return lines[0]
    return r"\begin{aligned}[t] & " + " \\\\\n & ".join(lines) + r" \end{aligned}"


def displayed(printer: Printer, expr: sp.Expr) -> str:
    """A right-hand side on as many lines as it needs."""
    return _block(_broken(printer, expr, WIDE))


def rows(lines: Iterable[str]) -> str:
    return r"\begin{aligned} & " + " \\\\[1ex]\n & ".join(filter(None, lines)) + r" \end{aligned}"


def _by_cases(program: Program, found: Sequence[Case], index: sp.Symbol = i) -> str:
    """Right-hand side of a value of pair `index`."""
    values = []
    for case in found:
        lines = _broken(Printer(program, index), arranged(case.form, program), NARROW)
        lines[-1] += ","
        value = _block(lines)
        style = r"\displaystyle " if r"\frac" in value and len(lines) == 1 else ""
        values.append((style + value, condition(case, str(index))))
    if len(values) == 1:
        return rf"{values[0][0]} \qquad {values[0][1]}"
    body = " \\\\ \\noalign{\\vskip 0.8ex}\n".join(rf"{value} & {where}" for value, where in values)
    return rf"\begin{{cases}} {body} \end{{cases}}"


def _summand(printer: Printer, expr: sp.Expr) -> str:
    tex = printer.doprint(expr)
    return rf"\left({tex}\right)" if expr.is_Add else tex


def _sum(program: Program, found: Sequence[Case]) -> str:
    if len(found) == 1 and found[0].single is not None:
        case = found[0]
        return displayed(Printer(program, case.single), arranged(case.form, program))
    ranges = [r for case in found for r in case.ranges]
    program_order = [r.first for r in program.regions]
    first = min(ranges, key=lambda r: program_order.index(r[0]))[0]
    last = max(ranges, key=lambda r: program_order.index(r[0]))[1]
    limits = rf"\sum_{{i={first}}}^{{{last}}}"
    if len(found) == 1 and len(found[0].ranges) == 1:
        return f"{limits} {_summand(Printer(program), arranged(found[0].form, program))}"
    return rf"{limits} {_by_cases(program, found)}"


def _normalised(printer: Printer, weights: Sequence[Weight], index: str = "") -> str:
    """Weights of one softmax in a line; the total has a name where it is needed often."""
    total = printer.total(weights)
    if len(weights) <= 2:
        return r", \qquad ".join(printer.shares(weights, total))
    return r", \qquad ".join([*printer.shares(weights, f"Z{index}"), f"Z{index} = {total}"])


def _softmax(program: Program, stage: Softmax) -> str:
    printer = Printer(program)
    if not stage.pairs:
        return _normalised(printer, stage.classes)
    found = cases(program, stage.pairs)
    lines = [r", \qquad ".join(printer.shares(stage.classes, "Z"))]
    lines += [r", \qquad ".join([*printer.shares(c.form, "Z"), condition(c)]) for c in found]
    parts = [printer.total(stage.classes)] if stage.classes else []
    for case in found:
        ((first, last),) = case.ranges
        parts.append(rf"\sum_{{i={first}}}^{{{last}}} \left({printer.total(case.form)}\right)")
    return rows([*lines, "Z = " + " + ".join(parts)])


def stage_tex(program: Program, stage: Stage) -> str:
    """A stage as one displayed formula."""
    if isinstance(stage, Softmax):
        return _softmax(program, stage)
    printer = Printer(program)
    if isinstance(stage, RowSoftmax):
        return rows(
            rf"{_normalised(printer, case.form, '_i')}, \qquad {condition(case)}"
            for case in cases(program, stage.rows)
        )
    left = printer.doprint(stage.name)
    match stage:
        case Scalar(_, expr):
            right = displayed(printer, arranged(expr, program))
        case Pair(_, exprs):
            right = _by_cases(program, cases(program, exprs))
        case Sum(_, exprs):
            right = _sum(program, cases(program, exprs))
        case Scan(_, exprs, suffix):
            found = cases(program, exprs)
            limit = r"\sum_{j>i}" if suffix else r"\sum_{j<i}"
            # A sum over all pairs, or over all that can be later than another, needs no condition.
            everywhere = {((k, program.regions[-1].last),) for k in (1, 2)[: 1 + suffix]}
            if len(found) == 1 and found[0].ranges in everywhere:
                shown = arranged(found[0].form, program)
                right = f"{limit} {_summand(Printer(program, J), shown)}"
            else:
                right = rf"{limit} {_by_cases(program, found, J)}"
    return f"{left} = {right}"


# ---------------------------------------------------------------- names in words

_ADJOINT_WORDS = {
    "bar": "adjoint of ${}$",
    "sum": "adjoint of ${}$, summed over the pairs",
    "scan": "adjoint of what adds up to ${}$",
    "mean": "mean adjoint in the softmax of ${}$",
    "pairmean": "mean adjoint in the softmax of ${}$, summed over the pairs",
}


def describe(program: Program, stage: Stage, meanings: Mapping[str, str]) -> str:
    """What a stage defines, in words; several values are told apart by their symbols.

    `meanings` has "layer 1: what it is" for the name of a value, without the region of a value that
    is one number there; what stands before the colon is said once.
    """
    printer, names = Printer(program), list(map(str, defined(stage)))
    prefix, _, rest = names[0].partition("_")
    if prefix in _ADJOINT_WORDS:
        return _ADJOINT_WORDS[prefix].format(printer.doprint(sp.Symbol(rest, real=True)))
    said = []
    for name in names:
        base, _, region = name.rpartition("_")
        known = meanings.get(base if region in REGION_WORDS else name, "a value")
        where, colon, what = known.rpartition(": ")
        if region in REGION_WORDS:
            what += f" ({REGION_WORDS[region]}, and all rows of the same score)"
        said.append(what)
    if len(names) > 1:
        symbols = map(printer.doprint, defined(stage))
        said = [f"${symbol}$ {what}" for symbol, what in zip(symbols, said, strict=True)]
    return where + colon + "; ".join(said)


# ---------------------------------------------------------------- collections of equations


def stage_equations(
    program: Program, meanings: Mapping[str, str], after: int = 0
) -> list[Equation]:
    """One equation for every stage of a program, from stage `after` on."""
    return [
        Equation(
            ", ".join(map(str, defined(stage))),
            describe(program, stage, meanings),
            stage_tex(program, stage),
        )
        for stage in program.stages[after:]
    ]


def _fives(formulas: Sequence[str], between: str) -> list[str]:
    return [between.join(formulas[k : k + 5]) for k in range(0, len(formulas), 5)]


def gradient_equations(program: Program, meanings: Mapping[str, str]) -> list[Equation]:
    """The stages that the gradient adds, and what they give."""
    full = gradient(program)
    printer = Printer(full)
    slopes = {c: full.outputs[f"d_{c}"] for c in full.coordinates}
    moving = [f"{symbol_tex(f'd_{c}')} = {printer.doprint(e)}" for c, e in slopes.items() if e != 0]
    still = [symbol_tex(f"d_{c}") for c, e in slopes.items() if e == 0]
    lines = [*_fives(moving, r" \qquad "), " = ".join([*still, "0"]) if still else ""]
    result = stage_equations(full, meanings, after=len(program.stages))
    return [*result, Equation("gradient", "the gradient", rows(lines))]


def invariant_equations(program: Program) -> list[Equation]:
    """Linear first integrals of a program's flow."""
    printer = Printer(program)
    found = [rf"{printer.doprint(e)} = \mathrm{{const}}" for e in linear_invariants(program)]
    lines = [r", \qquad ".join(found[k : k + 5]) for k in range(0, len(found), 5)]
    return [Equation("invariants", f"{len(found)} linear first integrals of the flow", rows(lines))]
