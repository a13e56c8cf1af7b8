"""From a staged program to the statements of one function.

Loops over pairs are fused greedily: a stage joins the earliest loop in which everything it reads is
known. What a later loop reads of a pair is kept in an array.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sympy as sp

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
    by_region,
    defined,
    expressions,
    i,
)
from reduced_dynamics.compilation.printing import EXP, computed, integer, numbered, source
from reduced_dynamics.compilation.statements import (
    Assign,
    Block,
    Comment,
    Statement,
    lines,
    name,
    replaced,
    text,
    used,
)

#: The pair's number as a floating-point number.
X_I = sp.Symbol("x_i", real=True)


@dataclass(frozen=True)
class _Max:
    """Largest score of a softmax over pairs."""

    softmax: Softmax
    tag: str


@dataclass(frozen=True)
class _Exp:
    """exp(score − largest) of every pair, and their sum."""

    softmax: Softmax
    tag: str


@dataclass
class _Loop:
    """One pass over the pairs: its stages, and the direction that a scan in it needs."""

    stages: list[Stage | _Max | _Exp] = field(default_factory=list)
    backward: bool | None = None


class Loops:
    """Lowers one program to the statements of one function.

    Outputs go to `places`, by default ``out[0]``, ``out[1]``, …
    """

    #: Whether the exponentials of a softmax over pairs are taken of all pairs at once, in vector
    #: instructions (`exponential.exponentials`), or pair by pair.
    together = True

    def __init__(self, program: Program, outputs: Sequence[sp.Expr], places: Sequence[str] = ()):
        self.program = program
        self.pairs = program.pair_symbols
        self.outputs = [*zip(places or cells(len(outputs)), outputs, strict=True)]
        self.scalars: list[list[Stage]] = [[]]
        self.loops: list[_Loop] = [_Loop()]
        self.level: dict[sp.Symbol, int] = {}  # level from which a scalar is known
        self.home: dict[sp.Symbol, int] = {}  # loop that computes a per-pair value
        #: Weights of softmaxes over pairs, kept as their exponentials, and their softmax's tag.
        self.tags: dict[sp.Symbol, str] = {}
        self.fresh = numbered()
        if program.regions:
            # Arrays span from the first region with a loop to the last pair.
            looped = {r for stage in program.stages for r in by_region(stage)[1]}
            self.base = next((r.first for r in program.regions if r.name in looped), sp.S.One)
            self.last = program.regions[-1].last
        for stage in program.stages:
            self._schedule(stage)
        self.stored = self._stored()

    @property
    def at_i(self) -> str:
        """The place of pair i in an array."""
        return f"i - {self.base}" if self.base.is_Integer else f"i - ({integer(self.base)})"

    @property
    def count(self) -> str:
        """How many pairs an array holds."""
        return f"max({integer(self.last - self.base + 1)}, 0)"

    # ------------------------------------------------------------ scheduling

    def _ready(self, exprs: Iterable[sp.Expr]) -> int:
        """The first level at which everything that `exprs` read is known inside the loop."""
        return max([self.level.get(s, self.home.get(s, 0)) for s in _free(exprs)], default=0)

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
            case Scan(symbol, _, suffix):
                self.home[symbol] = self._in_loop(level, stage, suffix)
            case Softmax(classes, pairs):
                tag = str(names[0])
                level = self._in_loop(level, _Max(stage, tag))
                level = self._in_loop(level + 1, _Exp(stage, tag)) + 1
                self._grow(level)
                self.scalars[level].append(stage)
                self.level |= dict.fromkeys((w.name for w in classes), level)
                of_pairs = [w.name for ws in pairs.values() for w in ws]
                self.home |= dict.fromkeys(of_pairs, level)
                self.tags |= dict.fromkeys(of_pairs, tag)

    def _stored(self) -> set[str]:
        """Arrays for the per-pair values that a later loop reads."""
        stored = set()
        for level, loop in enumerate(self.loops):
            for stage in loop.stages:
                match stage:
                    case _Max():
                        continue
                    case _Exp(softmax, _):
                        weights = [w for ws in softmax.pairs.values() for w in ws]
                        stored |= {f"exp_{w.name}_" for w in weights}
                        exprs = [] if self.together else [w.score for w in weights]
                    case _:
                        exprs = expressions(stage)
                for s in _free(exprs) & self.home.keys() - self.tags.keys():
                    if self.home[s] < level:
                        stored.add(f"{s}_")
        return stored

    # ------------------------------------------------------------ emission

    def lines(self, other: Mapping[str, str] = {}) -> tuple[list[str], set[str]]:
        """The function's lines, with `other` text for some names, and the names that they read."""
        made, at_i = self.statements(), text(self.at_i) if self.stored else ""
        room = rows(sorted(self.stored), self.count) if self.stored else []
        entries = {array: f"{array}[{at_i}]" for array in self.stored}
        return [*lines(room), *lines(made, replaced(entries | other))], used([*room, *made])

    def statements(self) -> list[Statement]:
        """All but room for arrays; an array's name stands for its entry of pair i."""
        made: list[Statement] = []
        for level, (scalars, loop) in enumerate(zip(self.scalars, self.loops, strict=True)):
            made += self._of_scalars(scalars)
            if loop.stages:
                made += self._before(loop)
                order = -1 if loop.backward else 1
                for region in self.program.regions[::order]:
                    made += _Pass(self, level, loop, region).statements()
        outputs = {place for place, _ in self.outputs}
        return made + [
            replace(a, entry=a.target in outputs) for a in self.assignments(self.outputs)
        ]

    def assignments(self, targets: Sequence[tuple[str, sp.Expr]]) -> list[Assign]:
        return [Assign(target, source(e)) for target, e in computed(targets, self.fresh)]

    def _of_scalars(self, stages: Sequence[Stage]) -> list[Assign]:
        made: list[Assign] = []
        batch: list[tuple[str, sp.Expr]] = []
        for stage in stages:
            match stage:
                case Scalar(symbol, expr):
                    batch.append((str(symbol), expr))
                case Softmax(classes, pairs):
                    made += self.assignments(batch)
                    batch = []
                    if not pairs:
                        made += self.softmax(classes)
                        continue
                    tag = defined(stage)[0]
                    made.append(Assign(f"inv_{tag}", f"1.0 / {name(f'sum_{tag}')}"))
                    for w in classes:
                        value = f"{name(f'exp_{w.name}')} * {name(f'inv_{tag}')}"
                        made.append(Assign(str(w.name), value))
        return made + self.assignments(batch)

    def softmax(self, classes: Sequence[Weight]) -> list[Assign]:
        """A softmax over few classes; a class of multiplicity 0 must not set the shift."""
        made = self.assignments([(f"s_{w.name}", w.score) for w in classes])
        shift = [_guarded(f"s_{w.name}", w.multiplicity) for w in classes]
        if len(classes) == 2:
            # Two classes take one exponential.
            a, b = (str(w.name) for w in classes)
            gap, less = name("gap_"), name("less_")
            made += [
                Assign("gap_", f"{shift[0]} - {shift[1]}"),
                Assign("less_", f"{EXP}(-abs({gap}))"),
                Assign(a, f"1.0 if {gap} >= 0.0 else {less}"),
                Assign(b, f"{less} if {gap} >= 0.0 else 1.0"),
            ]
        else:
            highest = f"max({', '.join(shift)})" if len(shift) > 1 else shift[0]
            made.append(Assign("top", highest))
            for w, s in zip(classes, shift, strict=True):
                made.append(Assign(str(w.name), f"{EXP}({s} - {name('top')})"))
        total = " + ".join(_times(w.name, w.multiplicity) for w in classes)
        made.append(Assign("top", f"1.0 / ({total})"))
        return made + [Assign(str(w.name), name("top"), "*=") for w in classes]

    def _before(self, loop: _Loop) -> list[Assign]:
        """What a loop over pairs starts from."""
        made: list[Assign] = []
        for stage in loop.stages:
            match stage:
                case _Max(softmax, tag):
                    classes = softmax.classes
                    made += self.assignments([(f"score_{w.name}", w.score) for w in classes])
                    scores = [_guarded(f"score_{w.name}", w.multiplicity) for w in classes]
                    least = f"max({', '.join([*scores, '-math.inf'])})" if scores else "-math.inf"
                    made.append(Assign(f"top_{tag}", least))
                case _Exp(softmax, tag):
                    made.append(Assign(f"sum_{tag}", "0.0"))
                    for w in softmax.classes:
                        score = _guarded(f"score_{w.name}", w.multiplicity)
                        power = f"exp_{w.name}"
                        times = f"{name(power)} * ({source(w.multiplicity)})"
                        made += [
                            Assign(power, f"{EXP}({score} - {name(f'top_{tag}')})"),
                            Assign(f"sum_{tag}", times, "+="),
                        ]
                    if self.together:
                        made += self._exponentials(softmax, tag)
                case Sum(symbol, _):
                    made.append(Assign(str(symbol), "0.0"))
                case Scan(symbol, _, _):
                    made.append(Assign(f"acc_{symbol}", "0.0"))
        return made

    def _exponentials(self, softmax: Softmax, tag: str) -> list[Assign]:
        made = []
        for region in self.program.regions:
            first, last = integer(region.first - self.base), integer(region.last - self.base + 1)
            for w in softmax.pairs.get(region.name, ()):
                call = f"exponentials(exp_{w.name}_, {first}, {last}, {name(f'top_{tag}')})"
                made.append(Assign(f"sum_{tag}", call, "+="))
        return made


class _Pass:
    """One loop's way through the pairs of one region."""

    def __init__(self, loops: Loops, level: int, loop: _Loop, region):
        self.loops, self.level, self.loop, self.region = loops, level, loop, region
        self.varying = loops.pairs | {i}
        #: What is the same for all pairs, computed before the loop, and its name.
        self.hoisted: dict[sp.Expr, sp.Symbol] = {}
        self.before: list[Assign] = []
        self.inner: list[Assign] = []
        self.batch: list[tuple[str, sp.Expr]] = []
        self.loaded: set[sp.Symbol] = set()

    def statements(self) -> list[Statement]:
        for stage in self.loop.stages:
            self._add(stage)
        self._flush()
        if not self.inner:
            return []
        first, last = integer(self.region.first), integer(self.region.last)
        made = [Comment(f"pairs {self.region.name}: {self.region.first} .. {self.region.last}")]
        made += [Assign(str(symbol), source(expr)) for expr, symbol in self.hoisted.items()]
        if self.before:
            made.append(Block(f"if {last} >= {first}:", self.before))
        bounds = f"{last}, {first} - 1, -1" if self.loop.backward else f"{first}, {last} + 1"
        if str(X_I) in used(self.inner):
            self.inner.insert(0, Assign(str(X_I), "float(i)"))
        return [*made, Block(f"for i in range({bounds}):", self.inner)]

    def _add(self, stage: Stage | _Max | _Exp) -> None:
        """A stage's part in the loop, if it has one in this region."""
        region = self.region.name
        match stage:
            case Pair(symbol, exprs) if region in exprs:
                self.batch.append((str(symbol), self._hoist(exprs[region])))
            case Sum(symbol, exprs) if region in exprs:
                term = self.loops.fresh()
                self.batch.append((str(term), self._hoist(exprs[region])))
                self.batch.append((str(symbol), symbol + term))
            case Scan(symbol, exprs, _):
                self._flush()
                sum_ = f"acc_{symbol}"
                self.inner.append(Assign(str(symbol), name(sum_)))
                self.loaded.add(symbol)
                self._keep(symbol)
                if region in exprs:
                    self.batch.append((sum_, sp.Symbol(sum_) + self._hoist(exprs[region])))
                    self._flush()
            case RowSoftmax(rows) if region in rows:
                self._flush()
                self._row(rows[region])
                for w in rows[region]:
                    self._keep(w.name)
            case _Max(softmax, tag) if region in softmax.pairs:
                for w, score in self._scores(softmax):
                    if self.loops.together:
                        self.inner.append(Assign(f"exp_{w.name}_", source(score), entry=True))
                    highest = f"max({name(f'top_{tag}')}, {source(score)})"
                    same = not (score.free_symbols & self.loops.pairs)
                    (self.before if same else self.inner).append(Assign(f"top_{tag}", highest))
            case _Exp(softmax, tag) if region in softmax.pairs and not self.loops.together:
                for w, score in self._scores(softmax):
                    power = f"exp_{w.name}"
                    self.inner += [
                        Assign(power, f"{EXP}({source(score)} - {name(f'top_{tag}')})"),
                        Assign(f"sum_{tag}", name(power), "+="),
                        Assign(f"{power}_", name(power), entry=True),
                    ]

    def _flush(self) -> None:
        """Compute what is waiting."""
        self._load(e for _, e in self.batch)
        self.inner += self.loops.assignments(self.batch)
        for target, _ in self.batch:
            self._keep(target)
        self.batch = []

    def _load(self, exprs: Iterable[sp.Expr]) -> None:
        """Read from arrays what earlier loops computed."""
        home, tags = self.loops.home, self.loops.tags
        for s in sorted(_free(exprs) & home.keys() - self.loaded, key=str):
            if s in tags:
                value = f"{name(f'exp_{s}_')} * {name(f'inv_{tags[s]}')}"
            elif home[s] < self.level:
                value = name(f"{s}_")
            else:
                continue
            self.inner.append(Assign(str(s), value))
            self.loaded.add(s)

    def _keep(self, symbol) -> None:
        if f"{symbol}_" in self.loops.stored:
            self.inner.append(Assign(f"{symbol}_", name(symbol), entry=True))

    def _scores(self, softmax: Softmax) -> list[tuple[Weight, sp.Expr]]:
        self._flush()
        weights = softmax.pairs[self.region.name]
        self._load(w.score for w in weights)
        return [(w, self._hoist(w.score)) for w in weights]

    def _row(self, weights: Sequence[Weight]) -> None:
        """A pair's own softmax. Where no score depends on the pair, exponentials leave the loop."""
        if _free(w.score for w in weights) & self.loops.pairs:
            self.inner += self.loops.softmax(
                [Weight(w.name, self._hoist(w.score), _index(w.multiplicity)) for w in weights]
            )
            return
        fresh = self.loops.fresh
        highest = sp.Max(*(w.score for w in weights), evaluate=False)
        top = self.hoisted.setdefault(highest, fresh())
        powers = [sp.exp(w.score - top, evaluate=False) for w in weights]
        terms = [self.hoisted.setdefault(power, fresh()) for power in powers]
        factors = [_index(w.multiplicity) for w in weights]
        total = " + ".join(map(_times, terms, factors))
        inverse = fresh()
        self.inner.append(Assign(str(inverse), f"1.0 / ({total})"))
        for w, term in zip(weights, terms, strict=True):
            self.inner.append(Assign(str(w.name), f"{name(term)} * {name(inverse)}"))

    def _hoist(self, expr: sp.Expr) -> sp.Expr:
        """The expression with every maximal part that is the same for all pairs named outside."""

        def visit(e):
            if not (e.free_symbols & self.varying):
                if e.is_Atom or (e.is_Mul and len(e.args) == 2 and e.args[0] == -1):
                    return e
                if e not in self.hoisted:
                    self.hoisted[e] = self.loops.fresh()
                return self.hoisted[e]
            if e.is_Add or e.is_Mul:
                fixed = [a for a in e.args if not (a.free_symbols & self.varying)]
                moving = [visit(a) for a in e.args if a.free_symbols & self.varying]
                if len(fixed) > 1 or (fixed and not fixed[0].is_Atom):
                    fixed = [visit(e.func(*fixed))]
                return e.func(*fixed, *moving)
            return e.func(*map(visit, e.args)) if e.args else e

        return _index(visit(expr))


def cells(count: int) -> list[str]:
    """Where outputs go unless said otherwise."""
    return [f"out[{k}]" for k in range(count)]


def rows(arrays: Sequence[str], count: str) -> list[Assign]:
    """Room for arrays of one length, as rows of one."""
    made = [Assign("room_", f"np.empty(({len(arrays)}, {count}))")]
    return made + [Assign(array, f"room_[{k}]") for k, array in enumerate(arrays)]


def _free(exprs: Iterable[sp.Expr]) -> set[sp.Symbol]:
    return set().union(*(e.free_symbols for e in exprs))


def _guarded(score: str, multiplicity: sp.Expr) -> str:
    """A class's score where there is such a class."""
    if multiplicity.is_number or multiplicity.is_positive:
        return name(score)
    return f"({name(score)} if {source(multiplicity)} > 0.0 else -math.inf)"


def _times(symbol: sp.Symbol, multiplicity: sp.Expr) -> str:
    return name(symbol) if multiplicity == 1 else f"{name(symbol)} * ({source(multiplicity)})"


def _index(expr: sp.Expr) -> sp.Expr:
    return expr.xreplace({i: X_I})
