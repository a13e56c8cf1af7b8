"""What ``derive`` prints and typesets of `musat19` and `musat3`."""

from collections.abc import Iterable, Iterator
from functools import partial

import sympy as sp

from derivations.core.conserved import gradient_rank, linear_invariants
from derivations.core.differentiate import gradient, softmax_rule
from derivations.core.latex import Printer as Tex
from derivations.core.latex import (
    displayed,
    gradient_equations,
    invariant_equations,
    rows,
    stage_equations,
    symbol_tex,
)
from derivations.core.reading import by_power, in_attention
from derivations.core.report import Article, Check, Equation, Heading, Part, Report
from derivations.core.residuals import DIGITS, along_a_line, normal, worst
from derivations.core.staged import (
    N,
    Program,
    Scalar,
    Softmax,
    Stage,
    closed_form,
    q,
    substitute,
    unroll,
)
from derivations.core.text import Printer as Text
from derivations.core.text import indented, program_lines
from derivations.musat.explicit import residuals
from derivations.musat.head import (
    alpha,
    beta,
    first_integral,
    gamma,
    musat3_loss,
    others,
    query_last,
    recall_programs,
    restrict,
)
from derivations.musat.limits import sharp_constants, slow_flow
from derivations.musat.recall import ARCHITECTURE, TASK
from derivations.subspace.coordinates import count
from derivations.subspace.report import steps as commutant_steps
from derivations.subspace.report import weight_equations

#: Sizes at which the staged loss is held against the explicit transformer.
SIZES = (1, 2, 3)

Steps = Iterator[Heading | Check | str]

# ---------------------------------------------------------------- checks


def every_query() -> Iterator[tuple[int, int]]:
    """The small cases: N and q."""
    return ((n, query) for n in SIZES for query in range(1, n + 1))


def with_zeros(program: Program) -> Program:
    """A program on the 19 coordinates with all but the head's three set to 0, nothing collapsed."""
    return substitute(program, others(program))


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


def _explicit_checks(self_attention: bool) -> Iterator[Check]:
    for n, query in every_query():
        found = residuals(n, query, self_attention)
        yield Check(f"N = {n}, q = {query}: {len(found)} values", worst(found.values()))


# ---------------------------------------------------------------- the steps


def _list(program: Program, expressions: Iterable[sp.Expr]) -> str:
    return ", ".join(map(Text(program).doprint, expressions))


def _loops(stage: Stage) -> bool:
    return bool(stage.pairs) if isinstance(stage, Softmax) else not isinstance(stage, Scalar)


def steps19(self_attention: bool = False) -> Steps:
    """All nineteen coordinates: how they are found, the loss, its gradient, what is conserved."""
    first, later = recall_programs(self_attention)
    total = count(TASK, ARCHITECTURE)
    text = Text(later).doprint
    yield Heading("The linear maps that the task's symmetries allow in every weight")
    yield from (f"  {line}" for line in commutant_steps(TASK, ARCHITECTURE))
    yield f"  the {total.total} coordinates in their order:"
    yield from indented([_list(later, later.coordinates)])
    unlike = len({*total.names} ^ {*map(str, later.coordinates)})
    yield Check("coordinates counted and not used, or the reverse", sp.Integer(unlike))

    yield Heading(
        "The loss on them with orthonormal inputs: N and q symbolic, O(1) work for every pair"
    )
    for label, program in (("2 ≤ q ≤ N", later), ("q = 1", first)):
        yield f"  {label}, {len(program.stages)} stages:"
        yield from program_lines(program)

    yield Heading(
        "The stages against the transformer executed on unit vectors, with its full matrices"
    )
    yield "  attention and scores of both layers, output and loss, in all coordinates"
    yield from _explicit_checks(self_attention)

    yield Heading("The gradient, stage by stage backwards")
    yield Check("softmax rule dW = W (ds - Σ m W ds), from the definition", softmax_rule())
    for label, program in (("2 ≤ q ≤ N", later), ("q = 1", first)):
        forward, both = len(program.stages), len(gradient(program).stages)
        yield f"  {label}: {forward} stages forward, {both - forward} backward"
    yield f"  slope along a random line, against differences of the loss, to {DIGITS} digits"
    for query in (1, 2, 3):
        residual = along_a_line(first if query == 1 else later, 3, query)
        yield Check(f"N = 3, q = {query}", residual)

    yield Heading("What the flow conserves")
    conserved = linear_invariants(later)
    yield f"  {len(conserved)} linear first integrals, along which no stage changes:"
    yield from indented([_list(later, conserved)])
    unlike = len({*conserved} ^ {*linear_invariants(first)})
    yield Check("those of q = 1 that differ from those of 2 ≤ q ≤ N", sp.Integer(unlike))
    for e in conserved:
        if len(e.free_symbols) > 1:
            solved = max(e.free_symbols, key=lambda s: later.coordinates.index(s))
            yield f"  from zero, {text(solved)} = {text(sp.solve(e, solved)[0])} at all times"
    rank = gradient_rank(later, 3, 2)
    yield f"  gradients at random points (N = 3, q = 2) span {rank} dimensions"
    yield Check("moving + conserved - all", sp.Integer(rank + len(conserved) - total.total))
    yield f"  {rank} of the {total.total} move independently"


def steps3(self_attention: bool = False) -> Steps:
    """The head alone: the restriction, its closed form, its first integral, its limits."""
    programs = recall_programs(self_attention)
    first, later = map(restrict, programs)
    last = query_last(self_attention)
    text = Text(last).doprint
    held = len(programs[1].coordinates) - len(later.coordinates)
    yield Heading(
        f"The restriction to {_list(later, later.coordinates)}, the other {held} held at 0"
    )
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

    yield Heading(f"Query last, q = N ≥ 2: {len(last.stages)} stages, no loop")
    yield from program_lines(last)
    loss = closed_form(last)
    if not self_attention:
        yield "  in the two attention weights:"
        yield from indented([f"loss = {text(by_power(in_attention(last), last))}"])
        slopes = gradient(last)
        for c in last.coordinates:
            slope = text(in_attention(slopes, f"d_{c}"))
            yield from indented([f"∂loss/∂{text(c)} = {slope}"])
    yield "  closed form in N against the 19-dimensional loss with zeros"
    for n in SIZES[1:]:
        literal = _outputs(with_zeros(programs[1]), n, n)["loss"]
        yield Check(f"N = {n}", normal(loss.subs(N, n) - literal))
    yield "  slopes by stages minus derivatives of the closed form, for all N"
    for c in last.coordinates:
        slope = closed_form(gradient(last), f"d_{c}")
        yield Check(f"∂loss/∂{text(c)}", normal(slope - sp.diff(loss, c)))
    if self_attention:
        return

    yield Heading("First integral, q = N: the ratio of the slopes along α₃ and β₂ separates")
    integral = first_integral()
    yield f"    {text(integral)} is constant along the flow"
    drift = -sp.Add(*(sp.diff(integral, c) * sp.diff(loss, c) for c in last.coordinates))
    yield Check("its rate of change, for all N", normal(drift))

    yield Heading("N → ∞, q = N")
    scale = {gamma: "N", alpha: "N²", beta: "N²"}
    for c, unit in scale.items():
        yield f"    lim {unit}·d{text(c)}/dt = {text(slow_flow()[str(c)])}"
    yield "  emergence at ½, from these and the first integral:"
    names = {"T_gamma3": "T_γ/N", "T_beta2": "T_β/N²", "T_alpha3": "T_α/N²", "t_icl": "t_ICL/N²"}
    for name, value in sharp_constants().items():
        shown = text(sp.expand_log(value, force=True))
        yield f"    lim {names[name]} = {shown} ≈ {sp.N(value, 12)}"


# ---------------------------------------------------------------- LaTeX

MEANINGS = {
    "u": "layer 1: the query's attention on the item it repeats",
    "v": "layer 1: the query's attention on any other row",
    "s_T": "layer 1: the query's attention on itself",
    "c": "layer 1: an item's attention on an earlier row",
    "s_a": "layer 1: an item's attention on itself",
    "w": "layer 1: a label's attention on its own item",
    "r": "layer 1: a label's attention on an earlier row",
    "s_b": "layer 1: a label's attention on itself",
    "S_a": "layer 2: score of an item's row",
    "S_b": "layer 2: score of a label's row",
    "S_T": "layer 2: score of the query's own row",
    "A_a": "layer 2: attention on an item's row",
    "A_b": "layer 2: attention on a label's row",
    "A_T": "layer 2: attention on the query's own row",
    "P_a": "what later rows hand on of a token they saw",
    "P_b": "what later rows hand on of a label they saw",
    "e_a": "error of the output on an item",
    "e_b": "error of the output on a label",
    "loss": "loss",
    "loss_loop": "the part of the loss that is a sum over pairs",
    "A": "attention on the right label",
    "w_q": "the right label's attention on its own item",
}

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


def head_equations() -> list[Equation]:
    """The loss of `musat3` for q = N: in closed form, and with its slopes in attention weights."""
    program = gradient(query_last())
    tex = Tex(program)
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
        lines = [f"{symbol_tex(symbol)} = {displayed(tex, shown)}"]
        lines += [rf"{e} = \exp\left({tex.doprint(full.exp)}\right)" for full, e in names.items()]
        result.append(Equation(name, text, r", \qquad ".join(lines)))
    return result


def limit_equations() -> list[Equation]:
    """First integral, slow flow and sharp constants of `musat3`, q = N."""
    tex = Tex(query_last()).doprint

    def scale(name):
        return "N" if name == str(gamma) else "N^2"

    flow = [
        rf"\lim_{{N\to\infty}} {scale(name)} \frac{{d{symbol_tex(name)}}}{{dt}} = {tex(speed)}"
        for name, speed in slow_flow().items()
    ]
    constants = []
    for name, value in sharp_constants().items():
        event = name.removeprefix("T_")
        time = r"t_{\mathrm{ICL}}" if name == "t_icl" else f"T_{{{symbol_tex(event)}}}"
        shown = tex(sp.expand_log(value, force=True))
        limit = rf"\lim_{{N\to\infty}} \frac{{{time}}}{{{scale(event)}}}"
        constants.append(rf"{limit} = {shown} \approx {sp.N(value, 8)}")
    integral = f"{tex(first_integral())} = \\mathrm{{const}}"
    return [
        Equation("first_integral", "first integral of the flow", integral),
        Equation("slow_flow", "leading order of the flow at fixed coordinates", rows(flow)),
        Equation("constants", "sharp constants of emergence, threshold 1/2", rows(constants)),
    ]


def _loss_and_gradient(program: Program, where: str, text: str = "") -> list[Part]:
    return [
        Part(f"The loss, {where}", text, stage_equations(program, MEANINGS)),
        Part(f"Its gradient, {where}", _ADJOINTS, gradient_equations(program, MEANINGS)),
    ]


def _article(title: str, parts: list[Part], self_attention: bool) -> Article:
    seen = "A row attends to itself as well." if self_attention else "Attention is strictly causal."
    introduction = f"Musat et al., arXiv 2511.01033; orthonormal inputs. {seen} {_CONVENTIONS}"
    return Article(title, introduction, parts)


def article19(self_attention: bool = False) -> Article:
    """The 19 coordinates, the loss and its gradient on them, and what is conserved."""
    first, later = recall_programs(self_attention)
    weights = "Blocks that commute with the symmetries of the task; $t$ tokens, $p$ positions."
    conserved = "Along these directions no stage of the loss changes."
    parts = [
        Part("The invariant subspace", weights, weight_equations(TASK, ARCHITECTURE)),
        *_loss_and_gradient(later, r"$2 \le q \le N$"),
        *_loss_and_gradient(first, "$q = 1$"),
        Part("What the flow conserves", conserved, invariant_equations(later)),
    ]
    title = "The disentangled transformer on item--label recall: 19 coordinates"
    return _article(title, parts, self_attention)


def article3(self_attention: bool = False) -> Article:
    """The head's loss and gradient for every query; for the last one in closed form, and limits."""
    first, later = map(restrict, recall_programs(self_attention))
    last = query_last(self_attention)
    kept = ", ".join(f"${symbol_tex(str(c))}$" for c in last.coordinates)
    held = f"The coordinates {kept}; the others are held at $0$. Values that are equal at many"
    held += " pairs have the index of one of them."
    average = rf"\overline{{\mathcal{{L}}}} = \frac{{1}}{{N}} \sum_{{{q}=1}}^{{N}} \mathcal{{L}}_q"
    mean = [Equation("mean", "population loss", average)]
    parts = [
        *_loss_and_gradient(later, r"$2 \le q \le N$", held),
        *_loss_and_gradient(first, "$q = 1$"),
        Part("The query uniform over the pairs", "", mean),
        *_loss_and_gradient(last, "$q = N$", "No sum over pairs is left."),
    ]
    if not self_attention:
        limits = "Conservation and the limit of many pairs, $q = N$"
        parts.append(Part("Closed form, $q = N$", "", head_equations()))
        parts.append(Part(limits, "", limit_equations()))
    return _article("The induction head: 3 of the 19 coordinates", parts, self_attention)


_report = partial(
    Report,
    closing=f"residuals exactly 0, along random lines 0 to {DIGITS} digits",
    options=("self_attention",),
)
MUSAT19 = _report(
    "musat19: the disentangled transformer on item-label recall (arXiv 2511.01033)",
    steps19, article19,
)  # fmt: skip
MUSAT3 = _report(
    "musat3: the induction head alone, inside musat19 (arXiv 2511.01033)", steps3, article3
)
