"""What ``simulate.py derive`` prints: the steps of a derivation, with the checks made on the way.

Nothing is stored: every line is written from the objects it is about when its turn comes, and
every check is made then. A residual that is not exactly 0 ends the report with an error.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from textwrap import wrap
from typing import NamedTuple

import sympy as sp
from sympy.printing.str import StrPrinter

from derivations.core.conserved import gradient_rank, linear_invariants
from derivations.core.differentiate import gradient, softmax_rule
from derivations.core.reading import (
    REGION_INDEX,
    Order,
    arranged,
    by_power,
    cases,
    condition,
    in_attention,
)
from derivations.core.staged import (
    N,
    Pair,
    Program,
    RowSoftmax,
    Scalar,
    Scan,
    Softmax,
    Stage,
    Sum,
    Weight,
    closed_form,
    i,
    substitute,
    unroll,
)
from derivations.musat.derive import (
    HEAD,
    alpha,
    beta,
    first_integral,
    gamma,
    query_last,
    recall_programs,
    restrict,
    sharp_constants,
    slow_flow,
)
from derivations.musat.explicit import normal, residuals
from derivations.subspace.commutant import ARCHITECTURE, TASK, count
from derivations.subspace.commutant import steps as commutant_steps

#: Digits to which the staged gradient must equal differences of the loss at random points.
DIGITS = 40

#: Sizes at which the staged loss is held against the explicit transformer.
SIZES = (1, 2, 3)


class Check(NamedTuple):
    """Something that must vanish, and what it came to."""

    name: str
    residual: sp.Expr


# ---------------------------------------------------------------- stages as text

_GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε"}
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def symbol_text(name: str, index: str | None = None) -> str:
    """α₃ for alpha3, S_a[i] for a value of pair i, A_b[q] for the value at the query's pair."""
    if name == "w_q":  # what a program reports of w at the query's pair
        return "w"
    if match := re.fullmatch(r"([a-z]+)(\d+)", name):
        letter, digits = match.groups()
        if letter in _GREEK:
            return _GREEK[letter] + digits.translate(_SUBSCRIPTS)
    base, _, region = name.rpartition("_")
    if region in REGION_INDEX:
        name, index = base, REGION_INDEX[region]
    return f"{name}[{index}]" if index else name


class _Printer(Order, StrPrinter):
    """Plain text with the symbols of a program, at the pair `index`."""

    def __init__(self, program: Program, index: sp.Expr = i):
        super().__init__()
        self.program, self.index = program, index
        self.pairs = program.pair_symbols

    def _print_Symbol(self, expr):
        if expr == i:
            return str(self.index)
        return symbol_text(str(expr), str(self.index) if expr in self.pairs else None)

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


def _text(program: Program, expr: sp.Expr, index: sp.Expr = i) -> str:
    return _Printer(program, index).doprint(expr)


def _where(case, index: str = "i") -> str:
    return f"{_FOR}{condition(case, index, ' ≤ ', ' ≠ ', ', ')}"


def _by_cases(
    program: Program, left: str, by_region: Mapping, index: sp.Symbol = i, summed: bool = False
) -> Iterator[str]:
    for case in cases(program, by_region):
        shown = arranged(case.form, program)
        text = _text(program, shown, index)
        if summed and shown.is_Add:
            text = f"({text})"
        yield f"{left}{text}{_where(case, str(index))}"


def _shares(program: Program, weights: Iterable[Weight], total: str) -> str:
    return ", ".join(
        f"{_text(program, w.name)} = {_text(program, sp.exp(w.score))}/{total}" for w in weights
    )


def _total(program: Program, weights: Iterable[Weight]) -> str:
    weights = sorted(weights, key=lambda w: w.score == 0)
    return " + ".join(_text(program, w.multiplicity * sp.exp(w.score)) for w in weights)


def stage_lines(program: Program, stage: Stage) -> Iterator[str]:
    """A stage in plain text, a line for every form it has."""
    match stage:
        case Scalar(name, expr):
            yield f"{_text(program, name)} = {_text(program, arranged(expr, program))}"
        case Pair(name, exprs):
            yield from _by_cases(program, f"{_text(program, name)} = ", exprs)
        case Sum(name, exprs):
            found, left = cases(program, exprs), f"{_text(program, name)} = "
            if len(found) == 1 and found[0].single is not None:
                yield left + _text(program, arranged(found[0].form, program), found[0].single)
            else:
                yield from _by_cases(program, f"{left}Σ_i ", exprs, summed=True)
        case Scan(name, exprs, suffix):
            left = f"{_text(program, name)} = Σ_{{j{'>' if suffix else '<'}i}} "
            j = sp.Symbol("j", integer=True, positive=True)
            yield from _by_cases(program, left, exprs, j, summed=True)
        case RowSoftmax(rows):
            for case in cases(program, rows):
                total = _total(program, case.form)
                yield f"{_shares(program, case.form, 'Z[i]')}, Z[i] = {total}{_where(case)}"
        case Softmax(classes, pairs) if not pairs:
            yield f"{_shares(program, classes, 'Z')}, Z = {_total(program, classes)}"
        case Softmax(classes, pairs):
            total = [_total(program, classes)] if classes else []
            if classes:
                yield _shares(program, classes, "Z")
            for case in cases(program, pairs):
                yield f"{_shares(program, case.form, 'Z')}{_where(case)}"
                ((first, last),) = case.ranges
                total.append(f"Σ_{{{first}≤i≤{last}}} ({_total(program, case.form)})")
            yield f"Z = {' + '.join(total)}"


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


def _indented(lines: Iterable[str], by: int = 4) -> Iterator[str]:
    """At most 100 wide, so that it reads in a terminal."""
    for line in lines:
        broken = wrap(
            _glue(line),
            100,
            initial_indent=" " * by,
            subsequent_indent=" " * (by + 8),
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from (part.replace(_HARD, " ").rstrip() for part in broken)


def program_lines(program: Program) -> Iterator[str]:
    """All stages of a program in plain text."""
    for stage in program.stages:
        yield from _indented(stage_lines(program, stage))


# ---------------------------------------------------------------- checks


def every_query() -> Iterator[tuple[int, int]]:
    """The small cases: N and q."""
    return ((n, query) for n in SIZES for query in range(1, n + 1))


def worst(values: Iterable[sp.Expr]) -> sp.Expr:
    """The first that is not 0, or 0."""
    return next((v for v in values if v != 0), sp.S.Zero)


def along_a_line(program: Program, n: int, query: int, seed: int = 0) -> sp.Expr:
    """d loss/dt on a random line through coordinate space, from values of the loss, minus staged.

    0 if they agree to `DIGITS` digits. A random direction sees every component of the gradient.
    """
    draw = random.Random(seed)
    # The difference errs by step² from curvature, by 10^-working/step from rounding.
    working, step = 3 * DIGITS, sp.Float(10, 3 * DIGITS) ** -(DIGITS // 2 + 5)

    def vector():
        # Numbers of order 1 whose digits do not end, so that nothing cancels by accident.
        return {c: sp.sqrt(draw.randint(1, 99)).evalf(working) / 7 for c in program.coordinates}

    point, direction = vector(), vector()

    def values(program, t):
        shifted = {c: point[c] + t * direction[c] for c in point}
        return unroll(substitute(program, shifted), n, query)

    ahead, behind = (values(program, t)[sp.Symbol("loss")] for t in (step, -step))
    slopes = values(gradient(program), 0)
    staged = sp.Add(*(slopes[sp.Symbol(f"d_{c}")] * direction[c] for c in point))
    difference = sp.N((ahead - behind) / (2 * step) - staged, working)
    return sp.S.Zero if abs(difference) < sp.Float(10) ** -DIGITS else sp.N(difference, 5)


def with_zeros(program: Program) -> Program:
    """A program on the 19 coordinates with all but the head's three set to 0, nothing collapsed."""
    others = [c for c in program.coordinates if str(c) not in HEAD]
    return substitute(program, dict.fromkeys(others, sp.S.Zero))


def _outputs(program: Program, n: int, query: int) -> dict[str, sp.Expr]:
    values = unroll(program, n, query)
    return {name: values[sp.Symbol(name)] for name in ("loss", "A", "w")}


def mean_loss(first: Program, later: Program, n: int) -> sp.Expr:
    """The loss for a uniformly drawn query, from the programs for q = 1 and q ≥ 2."""
    losses = (_outputs(first if k == 1 else later, n, k)["loss"] for k in range(1, n + 1))
    return sp.Add(*losses) / n


def differences(one: Program, other: Program, n: int, query: int) -> list[sp.Expr]:
    """Two programs' outputs at N = n and q = query, exactly: 0 where they are the same function."""
    left, right = _outputs(one, n, query), _outputs(other, n, query)
    return [normal(left[name] - right[name]) for name in left]


# ---------------------------------------------------------------- the reports

Step = str | Check


def _explicit_checks(self_attention: bool) -> Iterator[Check]:
    for n, query in every_query():
        found = residuals(n, query, self_attention)
        yield Check(f"N = {n}, q = {query}: {len(found)} values", worst(found.values()))


def _list(program: Program, expressions: Iterable[sp.Expr]) -> str:
    return ", ".join(_text(program, e) for e in expressions)


def _musat19(self_attention: bool) -> Iterator[Step]:
    first, later = recall_programs(self_attention)
    total = count(TASK, ARCHITECTURE)
    yield "1. The linear maps that the task's symmetries allow in every weight"
    yield from (f"  {line}" for line in commutant_steps())
    yield f"  the {total.total} coordinates in their order:"
    yield from _indented([_list(later, later.coordinates)])
    unlike = len({*total.names} ^ {*map(str, later.coordinates)})
    yield Check("coordinates counted and not used, or the reverse", sp.Integer(unlike))

    yield ""
    yield "2. The loss on them with orthonormal inputs: N and q symbolic, O(1) work for every pair"
    for label, program in (("2 ≤ q ≤ N", later), ("q = 1", first)):
        yield f"  {label}, {len(program.stages)} stages:"
        yield from program_lines(program)

    yield ""
    yield "3. The stages against the transformer executed on unit vectors, with its full matrices"
    yield "  attention and scores of both layers, output and loss, in all coordinates"
    yield from _explicit_checks(self_attention)

    yield ""
    yield "4. The gradient, stage by stage backwards"
    yield Check("softmax rule dW = W (ds - Σ m W ds), from the definition", softmax_rule())
    for label, program in (("2 ≤ q ≤ N", later), ("q = 1", first)):
        forward, both = len(program.stages), len(gradient(program).stages)
        yield f"  {label}: {forward} stages forward, {both - forward} backward"
    yield f"  slope along a random line, against differences of the loss, to {DIGITS} digits"
    for query in (1, 2, 3):
        residual = along_a_line(first if query == 1 else later, 3, query)
        yield Check(f"N = 3, q = {query}", residual)

    yield ""
    yield "5. What the flow conserves"
    conserved = linear_invariants(later)
    yield f"  {len(conserved)} linear first integrals, along which no stage changes:"
    yield from _indented([_list(later, conserved)])
    unlike = len({*conserved} ^ {*linear_invariants(first)})
    yield Check("those of q = 1 that differ from those of 2 ≤ q ≤ N", sp.Integer(unlike))
    for e in conserved:
        if len(e.free_symbols) > 1:
            solved = max(e.free_symbols, key=lambda s: later.coordinates.index(s))
            value = sp.solve(e, solved)[0]
            yield f"  from zero, {_text(later, solved)} = {_text(later, value)} at all times"
    rank = gradient_rank(later, 3, 2)
    yield f"  gradients at random points (N = 3, q = 2) span {rank} dimensions"
    yield Check("moving + conserved - all", sp.Integer(rank + len(conserved) - total.total))
    yield f"  {rank} of the {total.total} move independently"


def _musat3(self_attention: bool) -> Iterator[Step]:
    programs = recall_programs(self_attention)
    first, later = map(restrict, programs)
    last = query_last(self_attention)
    held = len(programs[1].coordinates) - len(later.coordinates)
    yield f"1. The restriction to {_list(later, later.coordinates)}, the other {held} held at 0"
    yield "  the loss it is taken from, against the transformer executed on unit vectors"
    yield from _explicit_checks(self_attention)
    for label, program in (("2 ≤ q ≤ N", later), ("q = 1", first)):
        loops = sum(map(_loops, program.stages))
        yield f"  {label}: {len(program.stages)} stages, {loops} of them over the pairs after q"
        yield from program_lines(program)
    yield "  loss, A and w after the restriction minus those before it"
    for n, query in every_query():
        full, part = (programs[0], first) if query == 1 else (programs[1], later)
        yield Check(f"N = {n}, q = {query}", worst(differences(with_zeros(full), part, n, query)))
    yield "  query = uniform: the mean over q = 1..N"
    for n in SIZES[1:]:
        full = mean_loss(*map(with_zeros, programs), n)
        yield Check(f"N = {n}", normal(mean_loss(first, later, n) - full))

    yield ""
    yield f"2. Query last, q = N ≥ 2: {len(last.stages)} stages, no loop"
    yield from program_lines(last)
    loss = closed_form(last)
    if not self_attention:
        yield "  in the two attention weights:"
        shown = by_power(in_attention(last), last)
        yield from _indented([f"loss = {_text(last, shown)}"])
        slopes = gradient(last)
        for c in last.coordinates:
            slope = _text(last, in_attention(slopes, f"d_{c}"))
            yield from _indented([f"∂loss/∂{_text(last, c)} = {slope}"])
    yield "  closed form in N against the 19-dimensional loss with zeros"
    for n in SIZES[1:]:
        literal = _outputs(with_zeros(programs[1]), n, n)["loss"]
        yield Check(f"N = {n}", normal(loss.subs(N, n) - literal))
    yield "  slopes by stages minus derivatives of the closed form, for all N"
    for c in last.coordinates:
        slope = closed_form(gradient(last), f"d_{c}")
        yield Check(f"∂loss/∂{_text(last, c)}", normal(slope - sp.diff(loss, c)))
    if self_attention:
        return

    yield ""
    yield "3. First integral, q = N: the ratio of the slopes along α₃ and β₂ separates"
    integral = first_integral()
    yield f"    {_text(last, integral)} is constant along the flow"
    drift = -sp.Add(*(sp.diff(integral, c) * sp.diff(loss, c) for c in last.coordinates))
    yield Check("its rate of change, for all N", normal(drift))

    yield ""
    yield "4. N → ∞, q = N"
    scale = {gamma: "N", alpha: "N²", beta: "N²"}
    for c, unit in scale.items():
        yield f"    lim {unit}·d{_text(last, c)}/dt = {_text(last, slow_flow()[str(c)])}"
    yield "  emergence at ½, from these and the first integral:"
    names = {"T_gamma3": "T_γ/N", "T_beta2": "T_β/N²", "T_alpha3": "T_α/N²", "t_icl": "t_ICL/N²"}
    for name, value in sharp_constants().items():
        shown = _text(last, sp.expand_log(value, force=True))
        yield f"    lim {names[name]} = {shown} ≈ {sp.N(value, 12)}"


def _loops(stage: Stage) -> bool:
    match stage:
        case Scalar():
            return False
        case Softmax(_, pairs):
            return bool(pairs)
        case _:
            return True


STEPS = {"musat19": _musat19, "musat3": _musat3}
#: Systems whose reports are modules of their own: TITLE, steps, and for `latex` parts,
#: LATEX_TITLE and LATEX_INTRODUCTION.
FAMILIES = {"wang": "derivations.wang.report", "chen": "derivations.chen.report"}
_TITLES = {
    "musat19": "musat19: the disentangled transformer on item-label recall",
    "musat3": "musat3: the induction head alone, inside musat19",
}


def report(name: str, *, self_attention: bool = False) -> Iterator[str]:
    """The derivation of a system, line by line as it is made.

    Raises
    ------
    KeyError
        If there is no derivation of that name.
    ArithmeticError
        If a check fails; the last line before says which.
    """
    if name in FAMILIES:
        family = import_module(FAMILIES[name])
        yield from narrate(family.TITLE, family.steps(self_attention), "residuals exactly 0")
        return
    title = f"{_TITLES[name]} (arXiv 2511.01033), self_attention={str(self_attention).lower()}"
    closing = f"residuals exactly 0, along random lines 0 to {DIGITS} digits"
    yield from narrate(title, STEPS[name](self_attention), closing)


def narrate(title: str, steps: Iterable[Step], closing: str) -> Iterator[str]:
    """The lines of a report; ArithmeticError after one that says which check failed."""
    made = 0
    yield title
    yield ""
    for step in steps:
        if isinstance(step, str):
            yield step
            continue
        made += 1
        if step.residual != 0:
            yield f"  CHECK FAILED: {step.name}: residual {step.residual}, should be 0"
            raise ArithmeticError(f"{step.name}: residual {step.residual}")
        yield f"    {step.name}; residual: 0"
    yield ""
    yield f"{made} checks passed: {closing}"


def checks(name: str, *, self_attention: bool = False) -> dict[str, sp.Expr]:
    """The residuals of a report's checks, by number and name; KeyError for an unknown name."""
    steps = import_module(FAMILIES[name]).steps if name in FAMILIES else STEPS[name]
    made = [step for step in steps(self_attention) if isinstance(step, Check)]
    return {f"{k}. {check.name}": check.residual for k, check in enumerate(made, 1)}
