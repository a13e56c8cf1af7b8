"""Stages and expressions of a program in plain text."""

import re
from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap

import sympy as sp
from sympy.printing.str import StrPrinter

from derivations.core.letters import GREEK
from derivations.core.reading import REGION_INDEX, J, Order, arranged, cases, condition
from derivations.core.staged import Pair, Program, RowSoftmax, Scalar, Scan, Softmax, Stage, Sum, i

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def symbol_text(name: str, index: str | None = None) -> str:
    """α₃ for alpha3, S_a[i] for a value of pair i, A_b[q] for the value at the query's pair."""
    name = name.removesuffix("_q")  # what a program reports of w at the query's pair is w
    if match := re.fullmatch(r"([a-z]+)(\d+)", name):
        letter, digits = match.groups()
        if letter in GREEK:
            return GREEK[letter] + digits.translate(_SUBSCRIPTS)
    base, _, region = name.rpartition("_")
    if region in REGION_INDEX:
        name, index = base, REGION_INDEX[region]
    return f"{name}[{index}]" if index else name


class Printer(Order, StrPrinter):
    """Plain text with the symbols of a program, at the pair `index`."""

    symbol, share = staticmethod(symbol_text), "%s = %s/%s"

    def _print_Mul(self, expr):
        negative, above, below = self.split(expr)
        text = "·".join(map(self._factor, above)) or "1"
        if below:
            bottom = "·".join(map(self._factor, below))
            text += f"/({bottom})" if len(below) > 1 else f"/{bottom}"
        return f"-{text}" if negative else text

    def _print_Pow(self, expr, rational=False):
        if expr.exp.is_Integer and expr.exp > 1:
            return self._factor(expr.base) + str(expr.exp).translate(_SUPERSCRIPTS)
        if expr.exp == sp.Rational(1, 2):
            return f"√{self._factor(expr.base)}"
        return super()._print_Pow(expr, rational)

    def _print_Pi(self, expr):
        return "π"

    def _factor(self, expr):
        text = self._print(expr)
        return f"({text})" if expr.is_Add or (expr.is_Rational and not expr.is_Integer) else text


def _where(case, index: str = "i") -> str:
    return f"{_FOR}{condition(case, index, ' ≤ ', ' ≠ ', ', ')}"


def _by_cases(
    program: Program, left: str, by_region: Mapping, index: sp.Symbol = i, summed: bool = False
) -> Iterator[str]:
    for case in cases(program, by_region):
        shown = arranged(case.form, program)
        text = Printer(program, index).doprint(shown)
        if summed and shown.is_Add:
            text = f"({text})"
        yield f"{left}{text}{_where(case, str(index))}"


def stage_lines(program: Program, stage: Stage) -> Iterator[str]:
    """A stage in plain text, a line for every form it has."""
    printer = Printer(program)

    def shares(weights, total):
        return ", ".join(printer.shares(weights, total))

    match stage:
        case RowSoftmax(rows):
            for case in cases(program, rows):
                total = printer.total(case.form)
                yield f"{shares(case.form, 'Z[i]')}, Z[i] = {total}{_where(case)}"
            return
        case Softmax(classes, pairs) if not pairs:
            yield f"{shares(classes, 'Z')}, Z = {printer.total(classes)}"
            return
        case Softmax(classes, pairs):
            total = [printer.total(classes)] if classes else []
            if classes:
                yield shares(classes, "Z")
            for case in cases(program, pairs):
                yield f"{shares(case.form, 'Z')}{_where(case)}"
                ((first, last),) = case.ranges
                total.append(f"Σ_{{{first}≤i≤{last}}} ({printer.total(case.form)})")
            yield f"Z = {' + '.join(total)}"
            return
    left = f"{printer.doprint(stage.name)} = "
    match stage:
        case Scalar(_, expr):
            yield left + printer.doprint(arranged(expr, program))
        case Pair(_, exprs):
            yield from _by_cases(program, left, exprs)
        case Sum(_, exprs):
            found = cases(program, exprs)
            if len(found) == 1 and (single := found[0].single) is not None:
                yield left + Printer(program, single).doprint(arranged(found[0].form, program))
            else:
                yield from _by_cases(program, f"{left}Σ_i ", exprs, summed=True)
        case Scan(_, exprs, suffix):
            left += f"Σ_{{j{'>' if suffix else '<'}i}} "
            yield from _by_cases(program, left, exprs, J, summed=True)


_HARD, _FOR = "\u00a0", "   for "


def _glue(line: str) -> str:
    """Hard spaces where a formula must not be broken: in brackets, after a sign, in a condition."""
    formula, found, where = line.partition(_FOR)
    depth, out = 0, []
    for k, c in enumerate(formula):
        depth += (c in "([{") - (c in ")]}")
        breaks = depth == 0 and (formula[k + 1 : k + 3] in ("+ ", "- ") or formula[k - 1] == ",")
        out.append(_HARD if c == " " and not breaks else c)
    return "".join(out) + (found + where).replace(" ", _HARD).replace(_HARD, " ", 1)


def indented(lines: Iterable[str]) -> Iterator[str]:
    """At most 100 wide, so that it reads in a terminal."""
    for line in lines:
        indents = {"initial_indent": " " * 4, "subsequent_indent": " " * 12}
        whole = {"break_long_words": False, "break_on_hyphens": False}
        for part in wrap(_glue(line), 100, **indents, **whole):
            yield part.replace(_HARD, " ").rstrip()


def program_lines(program: Program) -> Iterator[str]:
    """All stages of a program in plain text."""
    for stage in program.stages:
        yield from indented(stage_lines(program, stage))
