"""Dense programs: a scalar function of a few coordinates, computed in stages over rows r = 1..T.

Where the inputs are not orthonormal every row meets every other one, and what a transformer
computes is contractions with tables of inner products (data), causal softmaxes, and small
expressions in between. A `Dense` program writes it as such. A stage holds one SymPy expression
in *cells*: ``x[r]`` and ``x[s]`` are a vector's values at the row and at the column of a pair
(r, s), ``F[r, s]`` a matrix's value there, a plain symbol is one number. Every stage but the
softmax is linear in its expression, so its derivative is the same stage with the expression's
derivative (SymPy's), and its transpose one of the other sums:

    value at r, read in a sum over s  ↔  sum over s
    value at s, read in a sum over r  ↔  sum over r
    one number, read everywhere       ↔  sum over everything

so gradients (`gradient`) and Hessian-vector products (`tangent`) are again dense programs.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy as sp

#: Where a stage's expression lives: at every row; at the rows that the query's row sees; at every
#: pair of rows; at every pair of which the first row sees the second.
ROWS, SEEN, PAIRS, CAUSAL = "rows", "seen", "pairs", "causal"


def at(name: str, index: str = "r") -> sp.Symbol:
    """A cell: a vector's value at ``"r"`` or ``"s"``, a matrix's at ``"r, s"``."""
    return sp.Symbol(f"{name}[{index}]", real=True)


def cell(symbol: sp.Symbol) -> tuple[str, str]:
    """Name and index of a cell; the index of a plain number is empty."""
    name, _, index = str(symbol).partition("[")
    return name, index.rstrip("]")


@dataclass(frozen=True)
class Stage:
    """What every stage has: the name of its result, where it lives, what it computes."""

    name: str
    domain: str
    expr: sp.Expr


class Each(Stage):
    """``name[r] = expr`` on ROWS, ``name[r, s] = expr`` on CAUSAL."""


class Total(Stage):
    """``name = Σ expr`` over the whole domain."""


class RowSum(Stage):
    """``name[r] = Σ_s expr`` over PAIRS or CAUSAL."""


class ColumnSum(Stage):
    """``name[s] = Σ_r expr`` over PAIRS or CAUSAL."""


class Softmax(Stage):
    """Softmax of the cells `expr`: over the rows SEEN, or for every row over what it sees.

    It is 0 at rows that are not seen.
    """


@dataclass(frozen=True)
class Space:
    """Vectors known by their Gram matrix, and which of them each kind of row holds.

    Attributes
    ----------
    name : str
    count : Expr
        How many vectors, in N.
    hermitian : bool
        Whether the Gram matrix is that of complex vectors, ⟨x_j, x_k⟩ = Σ conj(x_j) x_k.
    place, phase : mapping of {"item", "label", "query"} to Expr
        Which vector, counted from 0, the row of pair i (from 0) holds, and times what.
    """

    name: str
    count: sp.Expr
    hermitian: bool
    place: Mapping[str, sp.Expr]
    phase: Mapping[str, sp.Expr]


@dataclass(frozen=True)
class Table:
    """Data: ``name[r, s]`` = Re(unit · ⟨row r, row s⟩), a bilinear form of the rows in `space`."""

    name: str
    space: Space
    unit: sp.Expr


@dataclass(frozen=True)
class Dense:
    """Stages in order of computation, the data they read, and what is read off at the end.

    Attributes
    ----------
    coordinates : tuple of Symbol
        What the outputs are differentiated by.
    spaces : tuple of Space
        In the order in which their Gram matrices are given.
    tables : tuple of Table
    rows : Expr
        T, in N.
    layout : mapping of {"item", "label", "query"} to Expr
        The rows, counted from 0, of pair i (from 0) and of the query.
    marks : mapping of str to Expr
        Vectors that are 1 at one row, counted from 0, and 0 elsewhere.
    self_attention : bool
        Whether row r sees itself, besides all rows before it.
    stages : tuple of Stage
    outputs : mapping of str to Expr
        Expressions in coordinates and numbers; ``"loss"`` among them.
    """

    coordinates: tuple[sp.Symbol, ...]
    spaces: tuple[Space, ...]
    tables: tuple[Table, ...]
    rows: sp.Expr
    layout: Mapping[str, sp.Expr]
    marks: Mapping[str, sp.Expr]
    self_attention: bool
    stages: tuple[Stage, ...]
    outputs: Mapping[str, sp.Expr]

    @property
    def constants(self) -> frozenset[str]:
        """What does not depend on the coordinates."""
        return frozenset(t.name for t in self.tables) | self.marks.keys()

    @property
    def matrices(self) -> frozenset[str]:
        return frozenset(
            s.name for s in self.stages if s.domain == CAUSAL and isinstance(s, Each | Softmax)
        )

    @property
    def expressions(self) -> list[sp.Expr]:
        """All expressions of stages and outputs."""
        return [s.expr for s in self.stages] + [*self.outputs.values()]

    def used_coordinates(self) -> tuple[sp.Symbol, ...]:
        """The coordinates that appear in any stage or output; the others have no gradient."""
        free = set().union(*(e.free_symbols for e in self.expressions))
        return tuple(c for c in self.coordinates if c in free)


def prune(program: Dense) -> Dense:
    """The program without the stages and tables that no output needs."""
    needed = {cell(s)[0] for e in program.outputs.values() for s in e.free_symbols}
    alive = []
    for stage in reversed(program.stages):
        if stage.name in needed:
            alive.append(stage)
            needed |= {cell(s)[0] for s in stage.expr.free_symbols}
    return replace(
        program,
        stages=tuple(alive[::-1]),
        tables=tuple(t for t in program.tables if t.name in needed),
        marks={k: v for k, v in program.marks.items() if k in needed},
    )


def substitute(program: Dense, values: Mapping[sp.Symbol, sp.Expr]) -> Dense:
    """The program with some coordinates at fixed values; what becomes zero goes."""
    known = {k: sp.sympify(v) for k, v in values.items()}
    sources = {cell(s.expr)[0] for s in program.stages if isinstance(s, Softmax)}
    stages = []
    for stage in program.stages:
        stage = replace(stage, expr=sp.expand(stage.expr.xreplace(known)))
        if stage.expr == 0 and stage.name not in sources:
            cells = [sp.Symbol(stage.name, real=True), *(at(stage.name, k) for k in _INDICES)]
            known |= dict.fromkeys(cells, sp.S.Zero)
        else:
            stages.append(stage)
    return prune(
        replace(
            program,
            coordinates=tuple(c for c in program.coordinates if c not in values),
            stages=tuple(stages),
            outputs={k: e.xreplace(known) for k, e in program.outputs.items()},
        )
    )


# ---------------------------------------------------------------- derivatives

_INDICES = ("r", "s", "r, s")

#: How the adjoint of a cell is gathered from a domain in which it is read.
_GATHER = {
    (ROWS, ""): Total,
    (ROWS, "r"): Each,
    (PAIRS, ""): Total,
    (PAIRS, "r"): RowSum,
    (PAIRS, "s"): ColumnSum,
    (CAUSAL, ""): Total,
    (CAUSAL, "r"): RowSum,
    (CAUSAL, "s"): ColumnSum,
    (CAUSAL, "r, s"): Each,
}


def _cells(expr: sp.Expr) -> list[sp.Symbol]:
    return sorted(expr.free_symbols, key=str)


class _Adjoints:
    """Collects ∂output/∂(every value) while a program is walked backwards."""

    def __init__(self, program: Dense):
        self.constants = program.constants
        self.matrices = program.matrices
        self.stages: list[Stage] = []
        self.parts: dict[str, dict[tuple[type[Stage], str], sp.Expr]] = defaultdict(dict)

    def through(self, domain: str, expr: sp.Expr, adjoint: sp.Expr) -> None:
        """Pass `adjoint` of `expr`, at every element of the domain, on to what it reads."""
        for symbol in _cells(expr):
            name, index = cell(symbol)
            if name not in self.constants:
                self.add(name, _GATHER[domain, index], domain, adjoint * sp.diff(expr, symbol))

    def add(self, name: str, how: type[Stage], domain: str, term: sp.Expr) -> None:
        parts = self.parts[name]
        parts[how, domain] = parts.get((how, domain), sp.S.Zero) + term

    def take(self, name: str) -> str | None:
        """The finished adjoint of a vector or matrix, as a value of its own; None if it is 0."""
        index, domain = ("r, s", CAUSAL) if name in self.matrices else ("r", ROWS)
        total = sp.S.Zero
        parts = self.parts.pop(name, {})
        for k, ((how, over), expr) in enumerate(parts.items()):
            if how is Each:
                total += expr
                continue
            part = f"bar_{name}" if len(parts) == 1 else f"part{k}_{name}"
            self.stages.append(how(part, over, expr))
            total += at(part)
        if total == 0:
            return None
        if total != at(f"bar_{name}", index):
            self.stages.append(Each(f"bar_{name}", domain, total))
        return f"bar_{name}"

    def take_number(self, name: str) -> sp.Expr:
        """The finished adjoint of a number."""
        total = sp.S.Zero
        for k, ((_, over), expr) in enumerate(self.parts.pop(name, {}).items()):
            if over:
                part = f"bar{k}_{name}"
                self.stages.append(Total(part, over, expr))
                expr = sp.Symbol(part, real=True)
            total += expr
        return total


def gradient(program: Dense, output: str = "loss") -> Dense:
    """The program that also computes ∂output/∂coordinate, as outputs ``d_<coordinate>``."""
    adjoints = _Adjoints(program)
    for symbol in _cells(program.outputs[output]):
        adjoints.add(str(symbol), Total, "", sp.diff(program.outputs[output], symbol))
    for stage in reversed(program.stages):
        if isinstance(stage, Total):
            bar = adjoints.take_number(stage.name)
            if bar != 0:
                adjoints.through(stage.domain, stage.expr, bar)
            continue
        name = adjoints.take(stage.name)
        if name is None:
            continue
        match stage:
            case Softmax():
                _, index = cell(stage.expr)
                weight, bar = at(stage.name, index), at(name, index)
                mean = _mean(f"mean_{stage.name}", stage, weight * bar, adjoints.stages)
                domain = CAUSAL if stage.domain == CAUSAL else ROWS
                adjoints.through(domain, stage.expr, weight * (bar - mean))
            case Each():
                index = "r, s" if stage.domain == CAUSAL else "r"
                adjoints.through(stage.domain, stage.expr, at(name, index))
            case RowSum():
                adjoints.through(stage.domain, stage.expr, at(name, "r"))
            case ColumnSum():
                adjoints.through(stage.domain, stage.expr, at(name, "s"))
    slopes = {f"d_{c}": adjoints.take_number(str(c)) for c in program.coordinates}
    stages = program.stages + tuple(adjoints.stages)
    return prune(replace(program, stages=stages, outputs=program.outputs | slopes))


def _mean(name: str, softmax: Stage, expr: sp.Expr, stages: list[Stage]) -> sp.Expr:
    """Stages for the sum of `expr` over each of a softmax's classes, and the cell that reads it."""
    if softmax.domain == CAUSAL:
        stages.append(RowSum(name, CAUSAL, expr))
        return at(name)
    stages.append(Total(name, ROWS, expr))
    return sp.Symbol(name, real=True)


def tangent(
    program: Dense, directions: Mapping[sp.Symbol, sp.Expr], outputs: Mapping[str, str]
) -> Dense:
    """The program that also computes directional derivatives of outputs.

    Parameters
    ----------
    directions : mapping of Symbol to Expr
        The direction's component along each coordinate.
    outputs : mapping of str to str
        Which outputs to differentiate and what to call the derivatives.
    """
    moving = {str(c) for c in directions}
    stages: list[Stage] = []

    def d(expr: sp.Expr) -> sp.Expr:
        rates = []
        for symbol in _cells(expr):
            name, index = cell(symbol)
            if name in moving:
                dot = at(f"dot_{name}", index) if index else sp.Symbol(f"dot_{name}", real=True)
                rates.append(sp.diff(expr, symbol) * directions.get(symbol, dot))
        return sp.Add(*rates)

    for stage in program.stages:
        rate = d(stage.expr)
        if rate == 0:
            continue
        moving.add(stage.name)
        if isinstance(stage, Softmax):
            _, index = cell(stage.expr)
            weight = at(stage.name, index)
            mean = _mean(f"dotmean_{stage.name}", stage, weight * rate, stages)
            domain = CAUSAL if stage.domain == CAUSAL else ROWS
            stages.append(Each(f"dot_{stage.name}", domain, weight * (rate - mean)))
        else:
            stages.append(type(stage)(f"dot_{stage.name}", stage.domain, rate))
    derived = {new: d(program.outputs[old]) for old, new in outputs.items()}
    stages = program.stages + tuple(stages)
    return prune(replace(program, stages=stages, outputs=program.outputs | derived))
