"""Staged programs: a scalar function of a few coordinates, computed in stages over pairs i = 1..N.

The loss of a transformer on N pairs is a sum of O(N) terms, each a small expression, tied
together by softmaxes and by sums over earlier or later pairs. A `Program` writes it as such: a
list of stages, each one SymPy expression for every *region* of the pair index on which that
expression has one form (before the query's pair, at it, after it). N and the query position q
stay symbolic, one evaluation costs O(N), and every transformation of a program (its gradient,
its Hessian-vector product, its restriction to fewer coordinates) is again a program.

Inside a stage the symbol of a per-pair value means its value at the pair ``i``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import sympy as sp

#: The pair index, the number of pairs, the query's pair.
i = sp.Symbol("i", integer=True, positive=True)
N = sp.Symbol("N", integer=True, positive=True)
q = sp.Symbol("q", integer=True, positive=True)


@dataclass(frozen=True)
class Region:
    """Pairs ``first <= i <= last`` (SymPy expressions in N and q); empty if last < first."""

    name: str
    first: sp.Expr
    last: sp.Expr

    @property
    def count(self) -> sp.Expr:
        return sp.expand(self.last - self.first + 1)

    @property
    def single(self) -> bool:
        return self.count == 1


ByRegion = Mapping[str, sp.Expr]


@dataclass(frozen=True)
class Scalar:
    """``name = expr``."""

    name: sp.Symbol
    expr: sp.Expr


@dataclass(frozen=True)
class Pair:
    """``name[i] = exprs[region of i]``; 0 in a region that is not listed."""

    name: sp.Symbol
    exprs: ByRegion


@dataclass(frozen=True)
class Sum:
    """``name = Σ_i exprs[region of i]``."""

    name: sp.Symbol
    exprs: ByRegion


@dataclass(frozen=True)
class Scan:
    """``name[i] = Σ_{j<i} exprs(j)``, or ``Σ_{j>i}`` if `suffix`."""

    name: sp.Symbol
    exprs: ByRegion
    suffix: bool = False


@dataclass(frozen=True)
class Weight:
    """A softmax class: `multiplicity` equal keys of one score, each receiving weight `name`."""

    name: sp.Symbol
    score: sp.Expr
    multiplicity: sp.Expr = sp.S.One


@dataclass(frozen=True)
class Softmax:
    """One softmax over `classes` and, for every pair, the classes in `pairs[region]`.

    weight = e^score / (Σ multiplicity·e^score over all of them). Kept as a primitive so that its
    derivative is written in the weights (no exponential ever overflows).
    """

    classes: tuple[Weight, ...] = ()
    pairs: Mapping[str, tuple[Weight, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class RowSoftmax:
    """For every pair a softmax of its own over ``rows[region]``."""

    rows: Mapping[str, tuple[Weight, ...]]


Stage = Scalar | Pair | Sum | Scan | Softmax | RowSoftmax


@dataclass(frozen=True)
class Program:
    """Stages in order of computation, and what is read off at the end.

    Attributes
    ----------
    coordinates : tuple of Symbol
        What the outputs are differentiated by.
    parameters : tuple of Symbol
        Symbols given from outside, N and q among them where there are pairs.
    regions : tuple of Region
        In ascending order; together they cover i = 1..N.
    stages : tuple of stages
    outputs : mapping of str to Expr
        Expressions in coordinates, parameters and scalar stages; ``"loss"`` among them.
    """

    coordinates: tuple[sp.Symbol, ...]
    parameters: tuple[sp.Symbol, ...]
    regions: tuple[Region, ...]
    stages: tuple[Stage, ...]
    outputs: Mapping[str, sp.Expr]

    @property
    def pair_symbols(self) -> frozenset[sp.Symbol]:
        """The symbols whose value depends on the pair."""
        return frozenset(
            s for stage in self.stages for s in defined(stage) if not is_scalar_name(stage, s)
        )

    def region(self, name: str) -> Region:
        return next(r for r in self.regions if r.name == name)

    @property
    def expressions(self) -> list[sp.Expr]:
        """All expressions of stages and outputs."""
        return [e for s in self.stages for e in expressions(s)] + [*self.outputs.values()]

    def used_coordinates(self) -> tuple[sp.Symbol, ...]:
        """The coordinates that appear in any stage or output; the others have no gradient."""
        free = set().union(*(e.free_symbols for e in self.expressions))
        return tuple(c for c in self.coordinates if c in free)


def scalar_program(loss: sp.Expr, coordinates: Iterable[sp.Symbol], **outputs: sp.Expr) -> Program:
    """The program of a plain scalar expression: no pairs, no stages."""
    coordinates = tuple(coordinates)
    outputs = {"loss": sp.sympify(loss), **outputs}
    free = set().union(*(e.free_symbols for e in outputs.values())) - set(coordinates)
    parameters = tuple(sorted(free, key=str))
    return Program(coordinates, parameters, (), (), outputs)


# ---------------------------------------------------------------- looking into stages


def defined(stage: Stage) -> tuple[sp.Symbol, ...]:
    """The symbols a stage defines."""
    match stage:
        case Softmax(classes, pairs):
            names = [w.name for w in classes] + [w.name for ws in pairs.values() for w in ws]
        case RowSoftmax(rows):
            names = [w.name for ws in rows.values() for w in ws]
        case _:
            names = [stage.name]
    return tuple(dict.fromkeys(names))


def by_region(stage: Stage) -> tuple[str, Mapping]:
    """The attribute that says what a stage does region by region, and what it holds."""
    name = {Softmax: "pairs", RowSoftmax: "rows", Scalar: ""}.get(type(stage), "exprs")
    return name, getattr(stage, name) if name else {}


def is_scalar_name(stage: Stage, name: sp.Symbol) -> bool:
    """Whether `name`, defined by `stage`, is one number rather than one a pair."""
    match stage:
        case Scalar() | Sum():
            return True
        case Softmax(classes, _):
            return any(w.name == name for w in classes)
        case _:
            return False


def expressions(stage: Stage) -> list[sp.Expr]:
    """All expressions of a stage."""
    match stage:
        case Scalar(_, expr):
            return [expr]
        case Softmax(classes, pairs):
            weights = [*classes, *(w for ws in pairs.values() for w in ws)]
        case RowSoftmax(rows):
            weights = [w for ws in rows.values() for w in ws]
        case _:
            return list(stage.exprs.values())
    return [e for w in weights for e in (w.score, w.multiplicity)]


def map_expressions(stage: Stage, f: Callable[[str | None, sp.Expr], sp.Expr]) -> Stage:
    """The stage with ``f(region or None, expr)`` in place of every expression."""

    def weights(region, ws):
        return tuple(Weight(w.name, f(region, w.score), f(region, w.multiplicity)) for w in ws)

    match stage:
        case Scalar(name, expr):
            return Scalar(name, f(None, expr))
        case Softmax(classes, pairs):
            return Softmax(weights(None, classes), {r: weights(r, w) for r, w in pairs.items()})
        case RowSoftmax(rows):
            return RowSoftmax({r: weights(r, w) for r, w in rows.items()})
        case _:
            return replace(stage, exprs={r: f(r, e) for r, e in stage.exprs.items()})


# ---------------------------------------------------------------- restriction


def substitute(program: Program, values: Mapping[sp.Symbol, sp.Expr]) -> Program:
    """The program with coordinates or parameters replaced; regions that become empty go."""
    values = {k: sp.sympify(v) for k, v in values.items()}
    regions = tuple(
        Region(r.name, r.first.subs(values), r.last.subs(values)) for r in program.regions
    )
    regions = tuple(r for r in regions if not r.count.is_nonpositive)
    kept = {r.name for r in regions}

    def prune(stage):
        name, parts = by_region(stage)
        return replace(
            stage, **{name: {r: p for r, p in parts.items() if r in kept}} if name else {}
        )

    return replace(
        program,
        coordinates=tuple(c for c in program.coordinates if c not in values),
        parameters=tuple(p for p in program.parameters if p not in values),
        regions=regions,
        stages=tuple(
            map_expressions(prune(s), lambda _, e: sp.expand(e.xreplace(values)))
            for s in program.stages
        ),
        outputs={k: e.xreplace(values) for k, e in program.outputs.items()},
    )


def collapse(program: Program) -> Program:
    """The same function with every pair loop that became trivial turned into scalars.

    A region of one pair, or one on which a value does not depend on the pair, needs no loop: sums
    over it are its count times one expression, and its softmax classes are one class with that
    count as multiplicity. This is how a restricted program reaches its closed form.
    """
    env: dict[str, dict[sp.Symbol, sp.Expr]] = {r.name: {} for r in program.regions}
    scalars: dict[sp.Symbol, sp.Expr] = {}
    out: list[Stage] = []
    looped = program.pair_symbols

    def resolve(region, expr):
        if region is not None:
            expr = expr.xreplace(env[region])
            if program.region(region).single:
                expr = expr.xreplace({i: program.region(region).first})
        return sp.expand(expr.xreplace(scalars))

    def is_constant(expr):
        return i not in expr.free_symbols and not (expr.free_symbols & looped)

    def keep(region, name, expr):
        """Name a collapsed value, unless it is too simple to need a name."""
        if not expr.is_Atom:
            same = [s.name for s in out if isinstance(s, Scalar) and s.expr == expr]
            symbol = same[0] if same else _suffixed(name, region)
            if not same:
                out.append(Scalar(symbol, expr))
            expr = symbol
        env[region][name] = expr

    for stage in program.stages:
        stage = map_expressions(stage, resolve)
        match stage:
            case Scalar(name, expr):
                if expr.is_Atom:
                    scalars[name] = expr
                else:
                    out.append(stage)
            case Pair(name, exprs):
                rest = {}
                for region in env:
                    expr = exprs.get(region, sp.S.Zero)
                    if is_constant(expr):
                        keep(region, name, expr)
                    else:
                        rest[region] = expr
                if rest:
                    out.append(Pair(name, rest))
            case Sum(name, exprs):
                total, rest = sp.S.Zero, {}
                for region, expr in exprs.items():
                    if is_constant(expr):
                        total += program.region(region).count * expr
                    else:
                        rest[region] = expr
                if rest:
                    part = sp.Symbol(f"{name}_loop", real=True) if total else name
                    out.append(Sum(part, rest))
                    total += part
                if total.is_Atom and total != name:
                    scalars[name] = total
                elif total != name:
                    out.append(Scalar(name, total))
            case Scan(name, exprs, suffix):
                exprs = {r: e for r, e in exprs.items() if e != 0}
                if exprs:
                    out.append(Scan(name, exprs, suffix))
                else:
                    for region in env:
                        env[region][name] = sp.S.Zero
            case RowSoftmax(rows):
                rest = {}
                for region, weights in rows.items():
                    if all(is_constant(w.score) and is_constant(w.multiplicity) for w in weights):
                        named, names = merge(
                            [replace(w, name=_suffixed(w.name, region)) for w in weights]
                        )
                        env[region] |= {w.name: names[_suffixed(w.name, region)] for w in weights}
                        if len(named) == 1:
                            uniform = 1 / named[0].multiplicity
                            env[region] |= {w.name: uniform for w in weights}
                        else:
                            out.append(Softmax(named))
                    else:
                        rest[region] = weights
                if rest:
                    out.append(RowSoftmax(rest))
            case Softmax(classes, pairs):
                classes, rest = list(classes), {}
                moved = []
                for region, weights in pairs.items():
                    stay = tuple(w for w in weights if not is_constant(w.score))
                    for w in weights:
                        if w not in stay:
                            count = program.region(region).count * w.multiplicity
                            classes.append(Weight(_suffixed(w.name, region), w.score, count))
                            moved.append((region, w.name))
                    if stay:
                        rest[region] = stay
                named, names = merge(classes)
                for region, name in moved:
                    env[region][name] = names[_suffixed(name, region)]
                scalars |= {k: v for k, v in names.items() if k != v}
                out.append(Softmax(named, rest))

    outputs = {k: sp.expand(e.xreplace(scalars)) for k, e in program.outputs.items()}
    return prune(replace(program, stages=tuple(out), outputs=outputs))


def _suffixed(name: sp.Symbol, region: str) -> sp.Symbol:
    return sp.Symbol(f"{name}_{region}", real=True)


def merge(classes: Iterable[Weight]) -> tuple[tuple[Weight, ...], dict[sp.Symbol, sp.Expr]]:
    """Softmax classes of equal score made one, and what each name became."""
    by_score: dict[sp.Expr, Weight] = {}
    names: dict[sp.Symbol, sp.Expr] = {}
    for w in classes:
        if w.multiplicity == 0:
            names[w.name] = sp.S.Zero
            continue
        known = by_score.get(w.score, replace(w, multiplicity=sp.S.Zero))
        total = sp.expand(known.multiplicity + w.multiplicity)
        by_score[w.score] = replace(known, multiplicity=total)
        names[w.name] = known.name
    return tuple(by_score.values()), names


def _alive(
    stages: list[Stage], outputs: Mapping[str, sp.Expr], pairs: frozenset[sp.Symbol]
) -> list[Stage]:
    """Only the stages, and only in the regions, that an output needs."""
    # A scalar is needed as (symbol, None), a per-pair value as (symbol, region).
    needed: set[tuple[sp.Symbol, str | None]] = set()

    def need(region, *exprs):
        for e in exprs:
            needed.update((s, region if s in pairs else None) for s in e.free_symbols)

    def wanted(names, by_region):
        return {r: v for r, v in by_region.items() if any((s, r) in needed for s in names)}

    need(None, *outputs.values())
    alive = []
    for stage in reversed(stages):
        names = defined(stage)
        match stage:
            case Pair() | RowSoftmax():
                name, parts = by_region(stage)
                keep = wanted(names, parts)
                stage = replace(stage, **{name: keep})
            case _:
                keep = any(s in names for s, _ in needed)
        if keep:
            alive.append(stage)
            map_expressions(stage, lambda region, e: need(region, e) or e)
    return alive[::-1]


def prune(program: Program) -> Program:
    """The program without the stages that no output needs."""
    stages = _alive(list(program.stages), program.outputs, program.pair_symbols)
    return replace(program, stages=tuple(stages))


# ---------------------------------------------------------------- expansion


def closed_form(program: Program, name: str = "loss") -> sp.Expr:
    """An output as one expression.

    Raises
    ------
    ValueError
        If a loop over pairs remains.
    """
    values: dict[sp.Symbol, sp.Expr] = {}
    for stage in program.stages:
        match stage:
            case Scalar(symbol, expr):
                values[symbol] = expr.xreplace(values)
            case Softmax(classes, pairs) if not pairs:
                terms = [sp.exp(w.score.xreplace(values)) for w in classes]
                total = sp.Add(*(w.multiplicity * t for w, t in zip(classes, terms, strict=True)))
                values |= {w.name: t / total for w, t in zip(classes, terms, strict=True)}
            case _:
                raise ValueError(f"{defined(stage)} still runs over the pairs: no closed form")
    return program.outputs[name].xreplace(values)


def unroll(program: Program, n: int, query: int) -> dict[sp.Symbol, sp.Expr | dict[int, sp.Expr]]:
    """Every stage at explicit N = `n` and q = `query`, as exact expressions in the coordinates.

    Returns a mapping from a scalar's symbol to its expression and from a per-pair symbol to
    ``{pair: expression}``. For proofs at small sizes; the cost grows quickly with `n`.
    """
    size = {N: sp.Integer(n), q: sp.Integer(query)}
    ranges = {
        r.name: range(int(r.first.subs(size)), int(r.last.subs(size)) + 1) for r in program.regions
    }
    values: dict[sp.Symbol, sp.Expr | dict[int, sp.Expr]] = {}

    def at(expr, pair=None):
        known = {
            s: (v if not isinstance(v, dict) else v.get(pair, sp.S.Zero))
            for s, v in values.items()
            if s in expr.free_symbols
        }
        if pair is not None:
            known[i] = sp.Integer(pair)
        return expr.xreplace(size | known)

    def by_pair(exprs):
        found = {p: at(e, p) for r, e in exprs.items() for p in ranges[r]}
        return {p: found.get(p, sp.S.Zero) for p in range(1, n + 1)}

    def normalise(weights):
        terms = [(name, p, sp.exp(score), m) for name, p, score, m in weights]
        total = sp.Add(*(m * t for _, _, t, m in terms))
        for name, p, term, _ in terms:
            if p is None:
                values[name] = term / total
            else:
                values.setdefault(name, {})[p] = term / total

    for stage in program.stages:
        match stage:
            case Scalar(name, expr):
                values[name] = at(expr)
            case Pair(name, exprs):
                values[name] = by_pair(exprs)
            case Sum(name, exprs):
                values[name] = sp.Add(*by_pair(exprs).values())
            case Scan(name, exprs, suffix):
                terms = by_pair(exprs)
                values[name] = {
                    p: sp.Add(*(t for j, t in terms.items() if (j > p if suffix else j < p)))
                    for p in terms
                }
            case Softmax(classes, pairs):
                normalise(
                    [(w.name, None, at(w.score), at(w.multiplicity)) for w in classes]
                    + [
                        (w.name, p, at(w.score, p), at(w.multiplicity, p))
                        for r, ws in pairs.items()
                        for p in ranges[r]
                        for w in ws
                    ]
                )
            case RowSoftmax(rows):
                for r, ws in rows.items():
                    for p in ranges[r]:
                        normalise([(w.name, p, at(w.score, p), at(w.multiplicity, p)) for w in ws])
    for name, expr in program.outputs.items():
        values[sp.Symbol(name)] = at(expr)
    return values
