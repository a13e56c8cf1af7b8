"""Programs over windows: scalars of a few coordinates, as sums over the states that lags may hold.

A model that reads a Markov chain through a window of recent states has a population loss that is a
contraction over those states: at the places c1, c2, … of a window (lag 1, lag 2, …), over the next
state k, and over a bank of sampled kernels b. A stage computes ``name[indices] = Σ_over expr`` for
all values of its indices, its expression in *cells* such as ``q1[c1, c2, b]``, an earlier result
read at some places. A result may be read at places named otherwise than where it was computed:
``U[c1, b]`` and ``U[c2, b]`` are values of one table.

The derivative of a stage with respect to a cell is SymPy's derivative of its expression, and the
adjoint of the cell is the sum of adjoint × derivative over all places that the cell does not
mention; so gradients (`gradient`) are programs again. `unroll` evaluates a program symbolically,
for proofs at small sizes.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import sympy as sp

#: The place of a bank's samples; every other place holds one of the S states.
BANK = "b"

#: ``same[x, y]``: 1 where two places hold the same state, else 0.
SAME = "same"


def at(name: str, *places: str) -> sp.Symbol:
    """A cell: the value of `name` at these places; one number if there are none."""
    return sp.Symbol(f"{name}[{', '.join(places)}]" if places else name, real=True)


def cell(symbol: sp.Symbol) -> tuple[str, tuple[str, ...]]:
    """Name and places of a cell."""
    name, _, places = str(symbol).partition("[")
    return name, tuple(places.rstrip("]").split(", ")) if places else ()


def cells(expr: sp.Expr) -> list[sp.Symbol]:
    return sorted(expr.free_symbols, key=str)


def rename(expr: sp.Expr, places: Mapping[str, str]) -> sp.Expr:
    """The expression read at other places."""
    changed = {}
    for symbol in cells(expr):
        name, old = cell(symbol)
        if any(p in places for p in old):
            changed[symbol] = at(name, *(places.get(p, p) for p in old))
    return expr.xreplace(changed)


def ordered(places: Iterable[str]) -> tuple[str, ...]:
    """Places in the order of loops and of storage: lags ascending, then others, the bank last."""
    return tuple(sorted(set(places), key=lambda p: (p == BANK, p[0] != "c", len(p), p)))


@dataclass(frozen=True)
class Stage:
    """``name[indices] = Σ_over expr``."""

    name: str
    indices: tuple[str, ...]
    expr: sp.Expr
    over: tuple[str, ...] = ()

    @property
    def domain(self) -> tuple[str, ...]:
        return ordered((*self.indices, *self.over))

    @property
    def cell(self) -> sp.Symbol:
        return at(self.name, *self.indices)

    def reads(self) -> set[str]:
        return {cell(s)[0] for s in cells(self.expr)}


@dataclass(frozen=True)
class Exponential(Stage):
    """``name[indices] = weight·exp(expr)``: its own derivative."""

    weight: sp.Expr = sp.S.One

    def reads(self) -> set[str]:
        return super().reads() | {cell(s)[0] for s in cells(self.weight)}


@dataclass(frozen=True)
class Constant(Stage):
    """A stage on which no output depends, such as the largest score, which shifts a softmax."""


@dataclass(frozen=True)
class Windows:
    """Stages in order of computation, the data they read, and what is read off at the end.

    Attributes
    ----------
    coordinates, parameters : tuple of Symbol
        Numbers; outputs are differentiated by the coordinates.
    data : mapping of str to tuple of str
        Tables of every sample: name and indices, the bank's last.
    states : int
        S, the number of values that every place but the bank's takes.
    stages : tuple of Stage
    outputs : mapping of str to Expr
        In coordinates and numbers; ``"loss"`` among them.
    """

    coordinates: tuple[sp.Symbol, ...]
    parameters: tuple[sp.Symbol, ...]
    data: Mapping[str, tuple[str, ...]]
    states: int
    stages: tuple[Stage, ...]
    outputs: Mapping[str, sp.Expr]


def prune(program: Windows) -> Windows:
    """The program without the stages that no output needs."""
    needed = {cell(s)[0] for e in program.outputs.values() for s in cells(e)}
    alive = []
    for stage in reversed(program.stages):
        if stage.name in needed:
            alive.append(stage)
            needed |= stage.reads()
    return replace(program, stages=tuple(alive[::-1]))


# ---------------------------------------------------------------- derivatives


class _Adjoints:
    """Collects ∂output/∂(every value) while a program is walked backwards."""

    def __init__(self, program: Windows):
        self.fixed = {*program.data, SAME, *map(str, program.parameters)}
        self.fixed |= {s.name for s in program.stages if isinstance(s, Constant)}
        self.parts: dict[str, list[tuple[tuple[str, ...], sp.Expr]]] = defaultdict(list)
        self.stages: list[Stage] = []
        self.counts: dict[str, int] = defaultdict(int)

    def through(self, domain: tuple[str, ...], expr: sp.Expr, adjoint: sp.Expr) -> None:
        """Pass `adjoint` of `expr`, at every place of the domain, on to what it reads."""
        for symbol in cells(expr):
            name, places = cell(symbol)
            if name not in self.fixed:
                self.gather(name, places, domain, adjoint * sp.diff(expr, symbol))

    def gather(self, name: str, places: tuple, domain: tuple, term: sp.Expr) -> None:
        """Add the sum of `term`, over what `places` leave of the domain, to the adjoint there."""
        over = tuple(p for p in domain if p not in places)
        if over:
            # Sums over a sample's windows first, then one over the bank.
            inner = tuple(p for p in over if p != BANK)
            if BANK in over and inner:
                term = self.summed(name, ordered((*places, BANK)), inner, term)
                over = (BANK,)
            term = self.summed(name, places, over, term)
        self.parts[name].append((places, term))

    def summed(self, name: str, places: tuple, over: tuple, term: sp.Expr) -> sp.Expr:
        stage = Stage(f"d{self.counts[name]}_{name}", places, term, over)
        self.counts[name] += 1
        self.stages.append(stage)
        return stage.cell

    def take(self, name: str, indices: tuple[str, ...]) -> sp.Expr:
        """The finished adjoint of a value, at its own indices."""
        parts = self.parts.pop(name, [])
        total = sp.Add(*(rename(e, dict(zip(places, indices, strict=True))) for places, e in parts))
        if len(parts) < 2 or not indices:
            return total
        stage = Stage(f"bar_{name}", indices, total)
        self.stages.append(stage)
        return stage.cell


def gradient(program: Windows, output: str = "loss") -> Windows:
    """The program that also computes ∂output/∂coordinate, as outputs ``d_<coordinate>``."""
    adjoints = _Adjoints(program)
    adjoints.through((), program.outputs[output], sp.S.One)
    for stage in reversed(program.stages):
        bar = adjoints.take(stage.name, stage.indices)
        if bar == 0 or isinstance(stage, Constant):
            continue
        if isinstance(stage, Exponential):
            bar *= stage.cell
        adjoints.through(stage.domain, stage.expr, bar)
    slopes = {f"d_{c}": adjoints.take(str(c), ()) for c in program.coordinates}
    stages = program.stages + tuple(adjoints.stages)
    return prune(replace(program, stages=stages, outputs={**program.outputs, **slopes}))


# ---------------------------------------------------------------- symbolic values


def unroll(
    program: Windows,
    data: Mapping[str, Mapping[tuple[int, ...], sp.Expr]],
    values: Mapping[sp.Symbol, sp.Expr],
    samples: int = 1,
) -> dict[str, sp.Expr]:
    """The outputs, with every stage written out for a bank of `samples`.

    Parameters
    ----------
    data : mapping
        Of every table, its entries by places (states from 0; the sample last).
    values : mapping of Symbol to Expr
        Coordinates and parameters that are replaced; the others stay symbols.
    """
    tables: dict[str, Mapping[tuple[int, ...], sp.Expr]] = dict(data)
    for symbol in (*program.coordinates, *program.parameters):
        tables[str(symbol)] = {(): sp.sympify(values.get(symbol, symbol))}

    def value(expr: sp.Expr, place: Mapping[str, int]) -> sp.Expr:
        known = {}
        for symbol in cells(expr):
            name, places = cell(symbol)
            where = tuple(place[p] for p in places)
            same = name == SAME
            known[symbol] = sp.Integer(where[0] == where[1]) if same else tables[name][where]
        return expr.xreplace(known)

    def span(places: tuple[str, ...]):
        sizes = [range(samples if p == BANK else program.states) for p in places]
        return (dict(zip(places, where, strict=True)) for where in itertools.product(*sizes))

    for stage in program.stages:
        table = {}
        for place in span(stage.indices):
            total = sp.Add(*(value(stage.expr, place | more) for more in span(stage.over)))
            if isinstance(stage, Exponential):
                total = value(stage.weight, place) * sp.exp(total)
            table[tuple(place[p] for p in stage.indices)] = total
        tables[stage.name] = table
    return {name: value(expr, {}) for name, expr in program.outputs.items()}
