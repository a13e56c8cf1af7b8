"""From staged programs to a readable Python module compiled by numba.

The module holds, for a derivation, the functions

    values(z, par, out)         loss and observables
    gradient(z, par, out)       the same, then ∂loss/∂z; returns the loss
    flow(t, z, par)             −∂loss/∂z
    jacobian(t, z, par)         −∂²loss/∂z²
    value_table(zs, par)        `values` at many states
    invariants(zs, par)         the first integrals at many states
    descend(z, par, step, n, held)  n steps of gradient descent

Parameters are an argument (``par``, float64), so a new value never recompiles. Loops over pairs are
fused greedily: a stage joins the earliest loop in which everything it reads is known.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from derivations.core.dense import Dense
from derivations.core.derivation import Derivation, slope, step
from derivations.core.differentiate import gradient, hessian, tangent
from derivations.core.named import Named
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
    defined,
    expressions,
    i,
)
from derivations.core.windows import Windows
from reduced_dynamics.compilation.decorators import INLINE, LEAN, PLAIN, allocates, decorator
from reduced_dynamics.compilation.named import definitions

#: With at most this many coordinates the Hessian is one function; beyond, one that takes a
#: direction, called for every coordinate, keeps the module (and its compilation) small.
WHOLE_HESSIAN = 8


class _Printer(PythonCodePrinter):
    """Floating-point source: no integer arithmetic, small powers as products."""

    def __init__(self):
        super().__init__({"fully_qualified_modules": True, "precision": 17})

    def _print_Integer(self, expr):
        return f"{int(expr)}.0"

    def _print_Rational(self, expr):
        return f"({expr.p}.0 / {expr.q}.0)"

    def _print_Heaviside(self, expr):
        x = self._print(expr.args[0])
        return f"(1.0 if {x} > 0.0 else 0.5 if {x} == 0.0 else 0.0)"

    def _print_DiracDelta(self, expr):
        # A kink's second derivative, which the flow meets at single points only.
        return "0.0"

    def _print_Function(self, expr):
        # SymPy's printers do not ask for methods named by a function's base classes.
        if not isinstance(expr, Named):
            return super()._print_Function(expr)
        return f"{type(expr).__name__}({', '.join(map(self._print, expr.args))})"

    def _print_Tabulated(self, expr):
        table, order, x = expr.args
        return f"tabulated(par, {table}, {order}, {self._print(x)})"

    def _print_Pow(self, expr, rational=False):
        base, power = expr.args
        if power.is_Integer and abs(int(power)) <= 4 and base.is_Atom:
            product = "*".join([self._print(base)] * abs(int(power)))
            return f"(1.0/({product}))" if power < 0 else f"({product})"
        if power == -1:
            return f"(1.0/({self._print(base)}))"
        return super()._print_Pow(expr, rational=rational)


#: Floating-point source of an expression.
print_expression = _print = _Printer().doprint


def _integer(expr: sp.Expr) -> str:
    """A loop bound in the integer names n_N, n_q."""
    renamed = {s: sp.Symbol(f"n_{s}", integer=True) for s in expr.free_symbols}
    return str(expr.xreplace(renamed))


@dataclass
class _Lines:
    lines: list[str] = field(default_factory=list)
    depth: int = 1

    def add(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)


@dataclass
class _Loop:
    """One pass over the pairs: its stages, and the direction that a scan in it needs."""

    stages: list[Stage | _Max | _Exp] = field(default_factory=list)
    backward: bool | None = None


@dataclass(frozen=True)
class _Max:
    """Largest score of a softmax over pairs."""

    softmax: Softmax
    name: str


@dataclass(frozen=True)
class _Exp:
    """exp(score − largest) of every pair, and their sum."""

    softmax: Softmax
    name: str


class _Function:
    """Lowers one program to the body of one function.

    Outputs go to `places`, by default ``out[0]``, ``out[1]``, …
    """

    #: Whether the exponentials of a softmax over pairs are taken of all pairs at once, in vector
    #: instructions (`codegen_exponential.exponentials`), or pair by pair.
    together = True

    def __init__(self, program: Program, outputs: Sequence[sp.Expr], places: Sequence[str] = ()):
        self.program = program
        self.pairs = program.pair_symbols
        self.outputs = dict(
            zip(places or [f"out[{k}]" for k in range(len(outputs))], outputs, strict=True)
        )
        self.regions = {r.name: r for r in program.regions}
        self.scalars: list[list[Stage]] = [[]]
        self.loops: list[_Loop] = [_Loop()]
        self.level: dict[sp.Symbol, int] = {}  # level from which a scalar is known
        self.home: dict[sp.Symbol, int] = {}  # loop that computes a per-pair value
        self.counter = 0
        if program.regions:
            used = self._looped_regions()
            self.base = min(used, key=program.regions.index).first if used else sp.S.One
            self.last = program.regions[-1].last
        for stage in program.stages:
            self._schedule(stage)

    def _looped_regions(self):
        """Regions with a loop: arrays span from the first of them to the last pair."""
        names = set()
        for stage in self.program.stages:
            match stage:
                case Softmax(_, pairs):
                    names |= pairs.keys()
                case RowSoftmax(rows):
                    names |= rows.keys()
                case Pair() | Sum() | Scan():
                    names |= stage.exprs.keys()
        return [r for r in self.program.regions if r.name in names]

    @property
    def at_i(self) -> str:
        """The place of pair i in an array."""
        return f"i - {self.base}" if self.base.is_Integer else f"i - ({_integer(self.base)})"

    # ------------------------------------------------------------ scheduling

    def _ready(self, exprs: Iterable[sp.Expr]) -> int:
        """The first level at which everything that `exprs` read is known inside the loop."""
        free = set().union(set(), *(e.free_symbols for e in exprs))
        return max([self.level.get(s, self.home.get(s, 0)) for s in free], default=0)

    def _grow(self, level: int) -> None:
        while len(self.loops) <= level:
            self.loops.append(_Loop())
            self.scalars.append([])

    def _in_loop(self, level: int, stage, backward: bool | None = None) -> int:
        """Put a stage into the loop at `level` or the next one that runs the right way."""
        self._grow(level)
        while backward is not None and self.loops[level].backward not in (None, backward):
            level += 1
            self._grow(level)
        if backward is not None:
            self.loops[level].backward = backward
        self.loops[level].stages.append(stage)
        return level

    def _schedule(self, stage: Stage) -> None:
        level = self._ready(expressions(stage))
        names = defined(stage)
        match stage:
            case Scalar() | Softmax() if not getattr(stage, "pairs", None):
                self._grow(level)
                self.scalars[level].append(stage)
                self.level |= dict.fromkeys(names, level)
            case Pair() | RowSoftmax():
                level = self._in_loop(level, stage)
                self.home |= dict.fromkeys(names, level)
            case Sum():
                level = self._in_loop(level, stage)
                self.level |= dict.fromkeys(names, level + 1)
                self._grow(level + 1)
            case Scan(name, _, suffix):
                self.home[name] = self._in_loop(level, stage, suffix)
            case Softmax(classes, pairs):
                tag = str(names[0])
                level = self._in_loop(level, _Max(stage, tag))
                level = self._in_loop(level + 1, _Exp(stage, tag))
                level += 1
                self._grow(level)
                self.scalars[level].append(stage)
                self.level |= dict.fromkeys((w.name for w in classes), level)
                pair_names = [w.name for ws in pairs.values() for w in ws]
                self.home |= dict.fromkeys(pair_names, level)

    # ------------------------------------------------------------ emission

    def fresh(self) -> sp.Symbol:
        self.counter += 1
        return sp.Symbol(f"x{self.counter}", real=True)

    def body(self) -> list[str]:
        self.out = _Lines()
        self.stored = self._stored()
        self._room()
        for level, (scalars, loop) in enumerate(zip(self.scalars, self.loops, strict=True)):
            self._emit_scalars(scalars)
            if loop.stages:
                self._emit_loop(level, loop)
        self._assign(self.out, [*self.outputs.items()])
        return self.out.lines

    def _room(self) -> None:
        """Arrays over the pairs, as rows of one: memory is asked for once."""
        if self.stored:
            count = f"max({_integer(self.last - self.base + 1)}, 0)"
            self.out.add(f"room_ = np.empty(({len(self.stored)}, {count}))")
        for k, name in enumerate(sorted(self.stored)):
            self.out.add(f"{name} = room_[{k}]")

    def _stored(self) -> set[str]:
        """Arrays for the per-pair values that a later loop reads."""
        stored = set()
        for level, loop in enumerate(self.loops):
            for stage in loop.stages:
                if isinstance(stage, _Max):
                    continue
                if isinstance(stage, _Exp):
                    weights = [w for ws in stage.softmax.pairs.values() for w in ws]
                    stored |= {f"exp_{w.name}_" for w in weights}
                    exprs = [] if self.together else [w.score for w in weights]
                else:
                    exprs = expressions(stage)
                for s in set().union(set(), *(e.free_symbols for e in exprs)):
                    if s in self.home and self.home[s] < level and not self._is_weight(s):
                        stored.add(f"{s}_")
        return stored

    def _is_weight(self, symbol: sp.Symbol) -> bool:
        """Whether it is a weight of a softmax over pairs (kept as its exponential)."""
        return any(
            isinstance(s, Softmax) and any(w.name == symbol for ws in s.pairs.values() for w in ws)
            for s in self.program.stages
        )

    def _assign(
        self, out: _Lines, targets: Sequence[tuple[str, sp.Expr]], known: Mapping = {}
    ) -> None:
        """Assignments in order, common subexpressions named just before their first use."""
        replacements, reduced = sp.cse(
            [e for _, e in targets], symbols=iter(self.fresh, None), order="none"
        )
        pending = dict(replacements)

        def emit(expr):
            for s in sorted(expr.free_symbols & pending.keys(), key=lambda s: int(str(s)[1:])):
                definition = pending.pop(s, None)
                if definition is not None:
                    emit(definition)
                    out.add(f"{s} = {_print(definition)}")

        for (target, _), expr in zip(targets, reduced, strict=True):
            emit(expr)
            out.add(f"{target} = {_print(expr)}")

    def _emit_scalars(self, stages: Sequence[Stage]) -> None:
        batch: list[tuple[str, sp.Expr]] = []
        for stage in stages:
            match stage:
                case Scalar(name, expr):
                    batch.append((str(name), expr))
                case Softmax(classes, pairs):
                    self._assign(self.out, batch)
                    batch = []
                    if pairs:
                        tag = defined(stage)[0]
                        self.out.add(f"inv_{tag} = 1.0 / sum_{tag}")
                        for w in classes:
                            self.out.add(f"{w.name} = exp_{w.name} * inv_{tag}")
                    else:
                        self._emit_softmax(self.out, classes)
        self._assign(self.out, batch)

    def _emit_softmax(self, out: _Lines, classes) -> None:
        """A softmax over few classes; a class of multiplicity 0 must not set the shift."""
        shift, total = [], []
        scores = [(f"s_{w.name}", w.score) for w in classes]
        self._assign(out, scores)
        if len(classes) == 2:
            self._emit_pair(out, *classes)
            return
        for w in classes:
            shift.append(self._guarded(f"s_{w.name}", w.multiplicity))
        out.add(f"top = max({', '.join(shift)})" if len(shift) > 1 else f"top = {shift[0]}")
        for w, s in zip(classes, shift, strict=True):
            out.add(f"{w.name} = math.exp({s} - top)")
            total.append(
                f"{w.name}" if w.multiplicity == 1 else f"{w.name} * ({_print(w.multiplicity)})"
            )
        out.add(f"top = 1.0 / ({' + '.join(total)})")
        for w in classes:
            out.add(f"{w.name} *= top")

    def _emit_pair(self, out: _Lines, a, b) -> None:
        """A softmax over two classes takes one exponential, not two."""
        left, right = (self._guarded(f"s_{w.name}", w.multiplicity) for w in (a, b))
        out.add(f"gap_ = {left} - {right}")
        out.add("less_ = math.exp(-abs(gap_))")
        out.add(f"{a.name} = 1.0 if gap_ >= 0.0 else less_")
        out.add(f"{b.name} = less_ if gap_ >= 0.0 else 1.0")
        terms = [
            str(w.name) if w.multiplicity == 1 else f"{w.name} * ({_print(w.multiplicity)})"
            for w in (a, b)
        ]
        out.add(f"top = 1.0 / ({' + '.join(terms)})")
        out.add(f"{a.name} *= top")
        out.add(f"{b.name} *= top")

    @staticmethod
    def _guarded(score: str, multiplicity: sp.Expr) -> str:
        if multiplicity.is_number or multiplicity.is_positive:
            return score
        return f"({score} if {_print(multiplicity)} > 0.0 else -math.inf)"

    # ------------------------------------------------------------ loops

    def _emit_loop(self, level: int, loop: _Loop) -> None:
        out = self.out
        backward = bool(loop.backward)
        for stage in loop.stages:
            match stage:
                case _Max(softmax, tag):
                    self._assign(out, [(f"score_{w.name}", w.score) for w in softmax.classes])
                    start = [f"score_{w.name}" for w in softmax.classes]
                    guard = [
                        self._guarded(s, w.multiplicity)
                        for s, w in zip(start, softmax.classes, strict=True)
                    ]
                    out.add(
                        f"top_{tag} = max({', '.join([*guard, '-math.inf'])})"
                        if guard
                        else f"top_{tag} = -math.inf"
                    )
                case _Exp(softmax, tag):
                    out.add(f"sum_{tag} = 0.0")
                    for w in softmax.classes:
                        score = self._guarded(f"score_{w.name}", w.multiplicity)
                        out.add(f"exp_{w.name} = math.exp({score} - top_{tag})")
                        out.add(f"sum_{tag} += exp_{w.name} * ({_print(w.multiplicity)})")
                    if self.together:
                        self._emit_exponentials(softmax, tag)
                case Sum(name, _) | Scan(name, _, _):
                    out.add(f"{self._accumulator(stage)} = 0.0")
        names = list(self.regions)
        for name in reversed(names) if backward else names:
            self._emit_region(level, loop, name, backward)

    def _emit_exponentials(self, softmax: Softmax, tag: str) -> None:
        for name, region in self.regions.items():
            first, last = _integer(region.first - self.base), _integer(region.last - self.base + 1)
            for w in softmax.pairs.get(name, ()):
                call = f"exponentials(exp_{w.name}_, {first}, {last}, top_{tag})"
                self.out.add(f"sum_{tag} += {call}")

    @staticmethod
    def _accumulator(stage) -> str:
        return f"acc_{stage.name}" if isinstance(stage, Scan) else str(stage.name)

    def _emit_region(self, level: int, loop: _Loop, name: str, backward: bool) -> None:
        region = self.regions[name]
        hoisted: dict[sp.Expr, sp.Symbol] = {}
        inner = _Lines(depth=self.out.depth + 1)
        before = _Lines(depth=self.out.depth)
        batch: list[tuple[str, sp.Expr]] = []
        loaded: set[sp.Symbol] = set()

        def load(exprs):
            """Read from arrays what earlier loops computed."""
            for s in sorted(set().union(set(), *(e.free_symbols for e in exprs)), key=str):
                if s in loaded or s not in self.home:
                    continue
                if self._is_weight(s):
                    tag = self._tag(s)
                    inner.add(f"{s} = exp_{s}_[{self.at_i}] * inv_{tag}")
                    loaded.add(s)
                elif self.home[s] < level:
                    inner.add(f"{s} = {s}_[{self.at_i}]")
                    loaded.add(s)

        def flush():
            load([e for _, e in batch])
            self._assign(inner, batch)
            for target, _ in batch:
                if f"{target}_" in self.stored:
                    inner.add(f"{target}_[{self.at_i}] = {target}")
            batch.clear()

        def pair_exprs(weights):
            load([w.score for w in weights])
            return [self._hoist(w.score, hoisted) for w in weights]

        for stage in loop.stages:
            match stage:
                case Pair(symbol, exprs) if name in exprs:
                    batch.append((str(symbol), self._hoist(exprs[name], hoisted)))
                case Sum(symbol, exprs) if name in exprs:
                    term = self.fresh()
                    batch.append((str(term), self._hoist(exprs[name], hoisted)))
                    batch.append((str(symbol), symbol + term))
                case Scan(symbol, exprs, _):
                    flush()
                    inner.add(f"{symbol} = acc_{symbol}")
                    loaded.add(symbol)
                    if f"{symbol}_" in self.stored:
                        inner.add(f"{symbol}_[{self.at_i}] = {symbol}")
                    if name in exprs:
                        flush()
                        batch.append(
                            (
                                f"acc_{symbol}",
                                sp.Symbol(f"acc_{symbol}") + self._hoist(exprs[name], hoisted),
                            )
                        )
                        flush()
                case RowSoftmax(rows) if name in rows:
                    flush()
                    self._emit_row(inner, before, rows[name], hoisted)
                    for w in rows[name]:
                        if f"{w.name}_" in self.stored:
                            inner.add(f"{w.name}_[{self.at_i}] = {w.name}")
                case _Max(softmax, tag) if name in softmax.pairs:
                    flush()
                    weights = softmax.pairs[name]
                    for w, e in zip(weights, pair_exprs(weights), strict=True):
                        if self.together:
                            inner.add(f"exp_{w.name}_[{self.at_i}] = {_print(e)}")
                        if not (e.free_symbols & self.pairs):
                            before.add(f"top_{tag} = max(top_{tag}, {_print(e)})")
                        else:
                            inner.add(f"top_{tag} = max(top_{tag}, {_print(e)})")
                case _Exp(softmax, tag) if name in softmax.pairs and not self.together:
                    flush()
                    weights = softmax.pairs[name]
                    for w, e in zip(weights, pair_exprs(weights), strict=True):
                        inner.add(f"exp_{w.name} = math.exp({_print(e)} - top_{tag})")
                        inner.add(f"sum_{tag} += exp_{w.name}")
                        inner.add(f"exp_{w.name}_[{self.at_i}] = exp_{w.name}")
        flush()
        if not inner.lines:
            return
        self.out.add(f"# pairs {name}: {region.first} .. {region.last}")
        for expr, symbol in hoisted.items():
            self.out.add(f"{symbol} = {_print(expr)}")
        first, last = _integer(region.first), _integer(region.last)
        bounds = f"{last}, {first} - 1, -1" if backward else f"{first}, {last} + 1"
        reads_index = any("x_i" in line for line in inner.lines)
        if before.lines:
            self.out.add(f"if {last} >= {first}:")
            self.out.lines += ["    " + line for line in before.lines]
        self.out.add(f"for i in range({bounds}):")
        if reads_index:
            self.out.add("    x_i = float(i)")
        self.out.lines += inner.lines

    def _emit_row(self, inner: _Lines, before: _Lines, weights, hoisted) -> None:
        """A pair's own softmax. Where no score depends on the pair, exponentials leave the loop."""
        if any(w.score.free_symbols & self.pairs for w in weights):
            renamed = [
                type(w)(w.name, self._hoist(w.score, hoisted), self._index(w.multiplicity))
                for w in weights
            ]
            self._emit_softmax(inner, renamed)
            return
        highest = sp.Max(*(w.score for w in weights), evaluate=False)
        top = hoisted.setdefault(highest, self.fresh())
        terms, total = [], []
        for w in weights:
            term = hoisted.setdefault(sp.exp(w.score - top, evaluate=False), self.fresh())
            terms.append(term)
            factor = self._index(w.multiplicity)
            total.append(str(term) if factor == 1 else f"{term} * ({_print(factor)})")
        inverse = self.fresh()
        inner.add(f"{inverse} = 1.0 / ({' + '.join(total)})")
        for w, term in zip(weights, terms, strict=True):
            inner.add(f"{w.name} = {term} * {inverse}")

    def _tag(self, symbol: sp.Symbol) -> sp.Symbol:
        return next(
            defined(s)[0]
            for s in self.program.stages
            if isinstance(s, Softmax) and symbol in defined(s)
        )

    @staticmethod
    def _index(expr: sp.Expr) -> sp.Expr:
        return expr.xreplace({i: sp.Symbol("x_i", real=True)})

    def _hoist(self, expr: sp.Expr, hoisted: dict[sp.Expr, sp.Symbol]) -> sp.Expr:
        """The expression with every maximal part that is the same for all pairs named outside."""
        varying = self.pairs | {i}

        def visit(e):
            if not (e.free_symbols & varying):
                if e.is_Atom or (e.is_Mul and len(e.args) == 2 and e.args[0] == -1):
                    return e
                return hoisted.setdefault(e, None) or name(e)
            if e.is_Add or e.is_Mul:
                fixed = [a for a in e.args if not (a.free_symbols & varying)]
                moving = [visit(a) for a in e.args if a.free_symbols & varying]
                if len(fixed) > 1 or (fixed and not fixed[0].is_Atom):
                    fixed = [visit(e.func(*fixed))]
                return e.func(*fixed, *moving)
            if e.args:
                return e.func(*(visit(a) for a in e.args))
            return e

        def name(e):
            hoisted[e] = self.fresh()
            return hoisted[e]

        return self._index(visit(expr))


# ---------------------------------------------------------------- modules


def function_source(
    name: str,
    program: Program,
    outputs: Sequence[sp.Expr],
    parameters: Sequence[sp.Symbol],
    direction: Sequence[sp.Symbol] = (),
    cells: Sequence[str] = (),
) -> str:
    """A function of (z, par, out) that computes a program's outputs, into `cells` of ``out``.

    With a `direction`, these symbols are read from a further argument, ``v``.
    """
    return _named(name, _Function(program, outputs, cells), parameters, direction)


def square_cells(n: int) -> list[str]:
    """Where the entries of a matrix go, row by row."""
    return [f"out[{j}, {k}]" for j in range(n) for k in range(n)]


def _named(
    name: str,
    lowered: _Function,
    parameters: Sequence[sp.Symbol],
    direction: Sequence[sp.Symbol] = (),
    head: str = "",
) -> str:
    """A function of that name from its lowered body, reading what the body uses."""
    body = "\n".join(lowered.body())
    head = head or (PLAIN if allocates(body) else LEAN)
    arguments = "z, v, par, out" if direction else "z, par, out"
    lines = [f"{head}\ndef {name}({arguments}):"]
    for k, symbol in enumerate(lowered.program.coordinates):
        lines.append(f"    {symbol} = z[{k}]")
    for k, symbol in enumerate(direction):
        lines.append(f"    {symbol} = v[{k}]")
    for k, symbol in enumerate(parameters):
        lines.append(f"    {symbol} = par[{k}]")
        if symbol.is_integer:
            lines.append(f"    n_{symbol} = int(par[{k}])")
    text = "\n".join(lines)
    used = set(re.findall(r"[A-Za-z_]\w*", body))
    text = "\n".join(
        line for line in text.split("\n") if not line.startswith("    ") or line.split()[0] in used
    )
    return f"{text}\n{body}\n"


def _width(columns: int) -> int:
    """Lanes for so many columns: whole vector registers of four numbers."""
    return -(-columns // 4) * 4


def _columns(
    name: str,
    with_gradient: Program,
    live: Sequence[sp.Symbol],
    parameters: Sequence[sp.Symbol],
) -> str:
    """The Hessian of the coordinates `live`, all columns in one pass: one column a lane."""
    from reduced_dynamics.compilation.wide import Wide

    width = _width(len(live))
    direction = {c: sp.Symbol(f"v_{c}", real=True) for c in live}
    along = tangent(with_gradient, direction, {f"d_{c}": f"h_{c}" for c in live})
    inputs = {f"v_{c}": f"1.0 * (lane_ == {k})" for k, c in enumerate(live)}
    places = [f"out[{k * width} + lane_]" for k in range(len(live))]
    entries = [along.outputs[f"h_{c}"] for c in live]
    lowered = Wide(along, entries, inputs, places, str(width))
    head = decorator(allocates=True, fastmath="'contract'")
    return _named(name, lowered, parameters, head=head)


def _returned(expr: sp.Expr) -> list[str]:
    """Lines that compute an expression and return it."""
    *lines, last = _Function(Program((), (), (), (), {}), [expr]).body()
    return [*lines, last.replace("out[0] =", "return")]


_WRAPPERS = '''
{thin}
def values(z, par, out):
    """Loss and observables into `out`; returns the loss."""
    {values}
    return out[0]


{thin}
def gradient(z, par, out):
    """Loss, observables and ∂loss/∂z into `out`; returns the loss."""
    {gradient}
    return out[0]


{thin}
def rate_into(z, par, out, rate):
    """dz/dt{of_loss} into `rate`; into `out` what `gradient` gives."""
    gradient(z, par, out)
    {rate}


{of_jacobian}
def jacobian_into(z, par, matrix):
    """∂(dz/dt)/∂z{of_hessian} into `matrix`."""
    {hessian}{mobile_jacobian}


{plain}
def flow(t, z, par):
    """dz/dt{of_loss}."""
    out, rate = np.empty({n_gradient}), np.empty({n})
    rate_into(z, par, out, rate)
    return rate


{plain}
def jacobian(t, z, par):
    """∂(dz/dt)/∂z{of_hessian}."""
    matrix = np.empty(({n}, {n}))
    jacobian_into(z, par, matrix)
    return matrix


{plain}
def value_table(zs, par):
    """`values` at every row of `zs`."""
    table = np.empty((zs.shape[0], {n_values}))
    for k in range(zs.shape[0]):
        values(zs[k], par, table[k])
    return table


{plain}
def invariants(zs, par):
    """The first integrals at every row of `zs`."""
    table = np.empty((zs.shape[0], {n_invariants}))
    for k in range(zs.shape[0]):
        _invariants(zs[k], par, table[k])
    return table


{plain}
def descend(z, par, step, n, held):
    """`n` steps of gradient descent of the coordinates not `held`: the n + 1 states."""
    path = np.empty((n + 1, {n}))
    path[0] = z
    out = np.empty({n_gradient})
    for k in range(n):
        gradient(path[k], par, out)
        {descent}
    return path
'''

_PLAIN_DESCENT = """\
for j in range({n}):
            path[k + 1, j] = path[k, j] - (0.0 if held[j] else step * out[{n_values} + j])"""

_PLAIN_RATE = """\
for k in range({n}):
        rate[k] = -out[{n_values} + k]"""

_MOBILE_RATE = """\
_mobility(z, par, rate)
    for k in range({n}):
        rate[k] *= -out[{n_values} + k]"""

_MOBILE_JACOBIAN = """
    rates, factor, slopes = np.empty({n_gradient}), np.empty({n}), np.empty({n} * {n})
    gradient(z, par, rates)
    _mobility(z, par, factor)
    _mobility_slopes(z, par, slopes)
    for j in range({n}):
        for k in range({n}):
            matrix[j, k] = factor[j] * matrix[j, k] - slopes[{n} * j + k] * rates[{n_values} + j]"""

_WEIGHT_DESCENT = """\
_update(path[k], np.append(out[{n_values}:], step), par, path[k + 1])
        for j in range({n}):
            if held[j]:
                path[k + 1, j] = path[k, j]"""


def _dispatch(
    derivation: Derivation, call: str, mean: str, shape: Sequence[int], target: str = "out"
) -> list[str]:
    """Statements that choose the variant, and a function of the mean over queries if needed.

    Parameters
    ----------
    call : str
        A statement with placeholders {k} (variant), {par} and {out}.
    mean : str
        Name of the function of (z, par, out) that averages where the query is given as 0.
    shape : sequence of int
        Of what is filled.
    target : str
        Its name where the statements stand.
    """
    names = list(map(str, derivation.parameters))

    def choose(par: str, out: str) -> list[str]:
        lines: list[str] = []
        for k, (condition, _) in enumerate(derivation.variants):
            statement = call.format(k=k, par=par, out=out)
            if condition is None:
                lines += ["else:", f"    {statement}"] if lines else [statement]
            else:
                places = {s: f"{par}[{j}]" for j, s in enumerate(names)}
                word = "elif" if lines else "if"
                lines += [f"{word} {condition.format(**places)}:", f"    {statement}"]
        return lines

    if derivation.average is None:
        return ["\n    ".join(choose("par", target))]
    k, over = names.index(str(derivation.average)), names.index(str(N))
    lines = [
        f"if par[{k}] > 0.0:",
        *("    " + line for line in choose("par", target)),
        "else:",
        f"    {mean}(z, par, {target})",
    ]
    indices = "jk"[: len(shape)]
    cell = ", ".join(indices)
    loops = [
        "    " * depth + f"for {index} in range({count}):"
        for depth, (index, count) in enumerate(zip(indices, shape, strict=True))
    ]
    average = [
        PLAIN,
        f"def {mean}(z, par, out):",
        '    """The mean over all queries."""',
        "    single = par.copy()",
        f"    part = np.empty({tuple(shape)})",
        "    out[:] = 0.0",
        f"    for query in range(1, int(par[{over}]) + 1):",
        f"        single[{k}] = query",
        *("        " + line for line in choose("single", "part")),
        *("        " + line for line in loops),
        "        " + "    " * len(shape) + f"out[{cell}] += part[{cell}] / par[{over}]",
    ]
    return ["\n    ".join(lines), "\n".join(average) + "\n"]


def module_source(derivation: Derivation) -> str:
    """The source text of the compiled module of a derivation."""
    if any(isinstance(program, Dense) for _, program in derivation.variants):
        from reduced_dynamics.compilation.dense import dense_source

        return dense_source(derivation)
    if any(isinstance(program, Windows) for _, program in derivation.variants):
        from reduced_dynamics.compilation.windows import windows_source

        return windows_source(derivation)
    parameters = derivation.parameters
    coordinates = derivation.coordinates
    n = len(coordinates)
    observables = derivation.observables
    n_values = 1 + len(observables)
    functions = []
    live = sorted(
        {c for _, p in derivation.variants for c in p.used_coordinates()}, key=coordinates.index
    )
    for k, (_, program) in enumerate(derivation.variants):
        value = [program.outputs["loss"], *(program.outputs[o] for o in observables)]
        functions.append(function_source(f"_values_{k}", program, value, parameters))
        with_gradient = gradient(program)
        slopes = [with_gradient.outputs[f"d_{c}"] for c in coordinates]
        functions.append(
            function_source(f"_gradient_{k}", with_gradient, value + slopes, parameters)
        )
        if n <= WHOLE_HESSIAN:
            second = hessian(program)
            entries = [-second.outputs[f"d_{a}_{b}"] for a in coordinates for b in coordinates]
            cells = square_cells(n)
            functions.append(
                function_source(f"_hessian_{k}", second, entries, parameters, cells=cells)
            )
        elif live:
            functions.append(_columns(f"_hessian_{k}", with_gradient, live, parameters))
    if n <= WHOLE_HESSIAN:
        square = "_hessian_{k}(z, {par}, {out})", "_mean_hessian", (n, n)
        of_hessian, *mean = _dispatch(derivation, *square, target="matrix")
    elif not live:
        of_hessian, mean = "matrix[:] = 0.0  # no coordinate appears in the loss", []
    else:
        places = "".join(f"{coordinates.index(c)}, " for c in live).strip()
        count = len(live)
        flat = "_hessian_{k}(z, {par}, {out})", "_mean_hessian", (count * _width(count),)
        choice, *mean = _dispatch(derivation, *flat, target="flat")
        of_hessian = "\n    ".join(
            [
                "matrix[:] = 0.0",
                f"flat = np.empty({count * _width(count)})",
                *choice.split("\n    "),
                f"places = ({places})  # the other coordinates never appear",
                f"for j in range({count}):",
                f"    for k in range({count}):",
                f"        matrix[places[j], places[k]] = -flat[j * {_width(count)} + k]",
            ]
        )
    functions += mean
    for_values = "_values_{k}(z, {par}, {out})", "_mean_values", (n_values,)
    for_gradient = "_gradient_{k}(z, {par}, {out})", "_mean_gradient", (n_values + n,)
    of_values, *mean = _dispatch(derivation, *for_values)
    functions += mean
    of_gradient, *mean = _dispatch(derivation, *for_gradient)
    functions += mean
    return assemble(derivation, functions, of_values, of_gradient, of_hessian)


def _chart(derivation: Derivation) -> list[str]:
    """Functions for coordinates that are functions of the weight that descends, if there are any:
    mobilities, their derivatives, and one step of descent."""
    coordinates, parameters = derivation.coordinates, derivation.parameters
    program = Program(coordinates, parameters, (), (), {})
    functions = []
    if derivation.mobility:
        factors = [sp.sympify(derivation.mobility.get(c, 1)) for c in coordinates]
        slopes = [sp.diff(f, c) for f in factors for c in coordinates]
        functions += [
            function_source("_mobility", program, factors, parameters),
            function_source("_mobility_slopes", program, slopes, parameters),
        ]
    if derivation.update:
        given = [*map(slope, coordinates), step]
        updated = [derivation.update.get(c, c - step * slope(c)) for c in coordinates]
        functions.append(function_source("_update", program, updated, parameters, given))
    return functions


def assemble(
    derivation: Derivation,
    functions: Sequence[str],
    values: str,
    gradient: str,
    hessian: str,
    more_parameters: str = "",
    imports: str = "",
) -> str:
    """A module from its private functions and the bodies of those that call them.

    Parameters
    ----------
    functions : sequence of str
        Source of the functions that the bodies call.
    values, gradient, hessian : str
        Statements that fill ``out`` (loss and observables; the same and the gradient) and
        ``matrix`` (−1 times the Hessian).
    more_parameters : str
        What follows the named parameters in ``par``.
    imports : str
        Further import statements.
    """
    coordinates, parameters = derivation.coordinates, derivation.parameters
    observables, mobile = derivation.observables, bool(derivation.mobility)
    n, n_values = len(coordinates), 1 + len(observables)
    conserved = list(derivation.invariants.values())
    program = Program(coordinates, parameters, (), (), dict(derivation.invariants))
    functions = [*functions, function_source("_invariants", program, conserved, parameters)]
    if not conserved:
        functions[-1] += "    pass\n"
    functions += _chart(derivation)
    named = [*definitions(functions, len(parameters), _returned, _print)]
    doc = textwrap.dedent(
        f'''\
        """Compiled system {derivation.name}: generated from its derivation; do not edit.

        State z:      {", ".join(map(str, coordinates))}
        Parameters:   {", ".join(map(str, parameters)) or "none"}{more_parameters}
        Values:       loss{"".join(", " + o for o in observables)}
        Invariants:   {", ".join(derivation.invariants) or "none"}
        Time:         reduced training time, dz/dt = {"mobility * " if mobile else ""}-d loss/d z

        {derivation.summary}
        """
        '''
    )
    sizes = {"n": n, "n_values": n_values, "n_gradient": n_values + n}
    # Calls cost small systems much; copies of large ones cost their compilation more.
    thin = INLINE if n <= WHOLE_HESSIAN else LEAN
    mobile_jacobian = _MOBILE_JACOBIAN.format(**sizes) if mobile else ""
    wrappers = _WRAPPERS.format(
        plain=PLAIN,
        thin=thin,
        of_jacobian=PLAIN if allocates(hessian + mobile_jacobian) else thin,
        values=values,
        gradient=gradient,
        hessian=hessian,
        of_loss=" = −mobility·∂loss/∂z" if mobile else " = −∂loss/∂z",
        of_hessian=", −∂²loss/∂z² and what the mobility adds" if mobile else " = −∂²loss/∂z²",
        rate=(_MOBILE_RATE if mobile else _PLAIN_RATE).format(**sizes),
        mobile_jacobian=mobile_jacobian,
        descent=(_WEIGHT_DESCENT if derivation.update else _PLAIN_DESCENT).format(**sizes),
        n_invariants=len(derivation.invariants),
        **sizes,
    )
    involved = tuple(
        tuple(str(c) for c in coordinates if c in e.free_symbols)
        for e in derivation.invariants.values()
    )
    names = [
        f"COORDINATES = {tuple(map(str, coordinates))!r}",
        f"PARAMETERS = {tuple(map(str, parameters))!r}",
        f"OBSERVABLES = {tuple(observables)!r}",
        f"INVARIANTS = {tuple(derivation.invariants)!r}",
        "#: The coordinates that each invariant involves.",
        f"INVARIANT_COORDINATES = {involved!r}",
    ]
    if any("exponentials(" in function for function in functions):
        imports += "\nfrom reduced_dynamics.compilation.exponential import exponentials\n"
    head = f"import math\n\nimport numpy as np\nfrom numba import njit\n{imports}"
    text = "\n".join([doc + head, *names, "", "", "\n\n".join([*named, *functions]), wrappers])
    if derivation.chart is None:
        return text
    from reduced_dynamics.compilation.chart import chart_source

    return text + chart_source(derivation)
