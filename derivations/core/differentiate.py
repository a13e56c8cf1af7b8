"""Derivatives of staged programs, stage by stage.

`gradient` walks a program backwards (every stage gives the adjoints of what it read), `tangent`
walks it forwards (every stage gives its directional derivative). Only single stages are ever
differentiated, by SymPy; the chain rule between stages, the transposition of sums and scans, and
the softmax's derivative written in its weights,

    dW_g = W_g (ds_g − Σ_h m_h W_h ds_h),

are what is implemented here. The last is derived in `softmax_rule`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

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
    i,
    prune,
)


def softmax_rule(classes: int = 3) -> sp.Expr:
    """The residual of the softmax rule above, derived from the definition; 0 if it holds."""
    s = sp.symbols(f"s1:{classes + 1}", real=True)
    m = sp.symbols(f"m1:{classes + 1}", positive=True)
    ds = sp.symbols(f"ds1:{classes + 1}", real=True)
    total = sp.Add(*(mk * sp.exp(sk) for mk, sk in zip(m, s, strict=True)))
    weights = [sp.exp(sk) / total for sk in s]
    mean = sp.Add(*(mk * w * d for mk, w, d in zip(m, weights, ds, strict=True)))
    residuals = [
        sp.Add(*(sp.diff(w, sk) * d for sk, d in zip(s, ds, strict=True))) - w * (dk - mean)
        for w, dk in zip(weights, ds, strict=True)
    ]
    return sp.Add(*(sp.Abs(sp.simplify(r)) for r in residuals))


def _symbol(prefix: str, name: sp.Symbol) -> sp.Symbol:
    return sp.Symbol(f"{prefix}_{name}", real=True)


class _Adjoints:
    """Collects ∂loss/∂(every value) while the program is walked backwards."""

    def __init__(self, program: Program):
        self.program = program
        self.pairs = program.pair_symbols
        self.stages: list[Stage] = []
        self.scalar: dict[sp.Symbol, sp.Expr] = defaultdict(lambda: sp.S.Zero)
        self.summed: dict[sp.Symbol, dict[str, sp.Expr]] = defaultdict(dict)
        self.pair: dict[sp.Symbol, dict[str, sp.Expr]] = defaultdict(dict)
        self.constant = frozenset(program.parameters) | {i}

    def add(self, region: str | None, symbol: sp.Symbol, term: sp.Expr) -> None:
        """Add `term`, computed at one pair of `region` (or once if None), to symbol's adjoint."""
        if term == 0:
            return
        if region is None:
            self.scalar[symbol] += term
        else:
            target = (self.pair if symbol in self.pairs else self.summed)[symbol]
            target[region] = target.get(region, sp.S.Zero) + term

    def through(self, region: str | None, expr: sp.Expr, adjoint: sp.Expr) -> None:
        """Pass `adjoint` of a value equal to `expr` on to what `expr` reads."""
        if adjoint == 0:
            return
        for symbol in sorted(expr.free_symbols - self.constant, key=str):
            self.add(region, symbol, adjoint * sp.diff(expr, symbol))

    def take_scalar(self, symbol: sp.Symbol) -> sp.Expr:
        """The finished adjoint of a scalar, as a symbol of its own."""
        total = self.scalar.pop(symbol, sp.S.Zero)
        by_region = self.summed.pop(symbol, {})
        if by_region:
            part = _symbol("sum", symbol)
            self.stages.append(Sum(part, by_region))
            total += part
        if total.is_Atom:
            return total
        name = _symbol("bar", symbol)
        self.stages.append(Scalar(name, total))
        return name

    def take_pair(self, symbol: sp.Symbol) -> dict[str, sp.Expr]:
        """The finished adjoint of a per-pair value, by region; named where it is not trivial."""
        by_region = self.pair.pop(symbol, {})
        name = _symbol("bar", symbol)
        stored = {r: e for r, e in by_region.items() if not e.is_Atom}
        if stored:
            self.stages.append(Pair(name, stored))
        return {r: (name if r in stored else e) for r, e in by_region.items()}


def _pull_back(weight: Weight, bar: Mapping[Weight, sp.Expr]) -> sp.Expr:
    """Adjoint of a class's score from the adjoints of all weights of its (small) softmax.

    Transposing the rule gives W_h (bar_h − m_h Σ_g W_g bar_g). As Σ_g m_g W_g = 1, that is
    Σ_g W_h W_g (m_g bar_h − m_h bar_g), which does not cancel when one weight is near 1.
    """
    return sp.Add(
        *(
            weight.name * w.name * (w.multiplicity * bar[weight] - weight.multiplicity * bar[w])
            for w in bar
            if w is not weight
        )
    )


def gradient(program: Program, output: str = "loss") -> Program:
    """The program that also computes ∂output/∂coordinate, as outputs ``d_<coordinate>``."""
    adjoints = _Adjoints(program)
    adjoints.through(None, program.outputs[output], sp.S.One)
    for stage in reversed(program.stages):
        match stage:
            case Scalar(name, expr):
                adjoints.through(None, expr, adjoints.take_scalar(name))
            case Sum(name, exprs):
                bar = adjoints.take_scalar(name)
                for region, expr in exprs.items():
                    adjoints.through(region, expr, bar)
            case Pair(name, exprs):
                bars = adjoints.take_pair(name)
                for region, expr in exprs.items():
                    adjoints.through(region, expr, bars.get(region, sp.S.Zero))
            case Scan(name, exprs, suffix):
                bars = adjoints.take_pair(name)
                if bars:
                    # Σ_{j>i} read backwards: the value at j was read by every i < j.
                    flow = _symbol("scan", name)
                    adjoints.stages.append(Scan(flow, bars, not suffix))
                    for region, expr in exprs.items():
                        adjoints.through(region, expr, flow)
            case RowSoftmax(rows):
                bars = {w.name: {} for ws in rows.values() for w in ws}
                for name in bars:
                    bars[name] = adjoints.take_pair(name)
                for region, weights in rows.items():
                    bar = {w: bars[w.name].get(region, sp.S.Zero) for w in weights}
                    for w in weights:
                        adjoints.through(region, w.score, _pull_back(w, bar))
            case Softmax(classes, pairs) if not pairs:
                bar = {w: adjoints.take_scalar(w.name) for w in classes}
                for w in classes:
                    adjoints.through(None, w.score, _pull_back(w, bar))
            case Softmax(classes, pairs):
                bar = {w.name: adjoints.take_scalar(w.name) for w in classes}
                names = dict.fromkeys(w.name for ws in pairs.values() for w in ws)
                bars = {name: adjoints.take_pair(name) for name in names}
                mean = sp.Add(*(w.name * bar[w.name] for w in classes))
                by_region = {
                    r: sp.Add(*(w.name * bars[w.name].get(r, sp.S.Zero) for w in ws))
                    for r, ws in pairs.items()
                }
                by_region = {r: e for r, e in by_region.items() if e != 0}
                label = (classes[0] if classes else next(iter(pairs.values()))[0]).name
                if by_region:
                    part = _symbol("pairmean", label)
                    adjoints.stages.append(Sum(part, by_region))
                    mean += part
                if not mean.is_Atom:
                    adjoints.stages.append(Scalar(_symbol("mean", label), mean))
                    mean = _symbol("mean", label)
                for w in classes:
                    seed = w.name * (bar[w.name] - w.multiplicity * mean)
                    adjoints.through(None, w.score, seed)
                for region, weights in pairs.items():
                    for w in weights:
                        bar_w = bars[w.name].get(region, sp.S.Zero)
                        seed = w.name * (bar_w - w.multiplicity * mean)
                        adjoints.through(region, w.score, seed)
    outputs = dict(program.outputs)
    for c in program.coordinates:
        outputs[f"d_{c}"] = adjoints.take_scalar(c)
    return prune(replace(program, stages=program.stages + tuple(adjoints.stages), outputs=outputs))


def tangent(
    program: Program,
    directions: Mapping[sp.Symbol, sp.Expr],
    outputs: Mapping[str, str],
    prefix: str = "dot",
) -> Program:
    """The program that also computes directional derivatives of outputs.

    Parameters
    ----------
    directions : mapping of Symbol to Expr
        The direction's component along each coordinate (symbols, or 0 and 1).
    outputs : mapping of str to str
        Which outputs to differentiate and what to call the derivatives.
    prefix : str
        Of the names of the new stages.
    """
    dot: dict[sp.Symbol, dict[str | None, sp.Expr]] = {
        c: {None: e} for c, e in directions.items() if e != 0
    }
    stages: list[Stage] = []

    def d(region: str | None, expr: sp.Expr) -> sp.Expr:
        """Directional derivative of a stage's expression at a pair of `region`."""
        terms = []
        for symbol in sorted(expr.free_symbols & dot.keys(), key=str):
            by_region = dot[symbol]
            rate = by_region.get(None, by_region.get(region, sp.S.Zero))
            if rate != 0:
                terms.append(sp.diff(expr, symbol) * rate)
        return sp.Add(*terms)

    def rates(exprs: Mapping[str, sp.Expr]) -> dict[str, sp.Expr]:
        found = {r: d(r, e) for r, e in exprs.items()}
        return {r: e for r, e in found.items() if e != 0}

    def define(name: sp.Symbol, by_region: dict[str, sp.Expr]) -> None:
        by_region = {r: e for r, e in by_region.items() if e != 0}
        if by_region:
            stages.append(Pair(_symbol(prefix, name), by_region))
            dot.setdefault(name, {}).update(dict.fromkeys(by_region, _symbol(prefix, name)))

    def define_scalar(name: sp.Symbol, expr: sp.Expr) -> None:
        if expr != 0:
            if not expr.is_Atom:
                stages.append(Scalar(_symbol(prefix, name), expr))
                expr = _symbol(prefix, name)
            dot[name] = {None: expr}

    for stage in program.stages:
        stages.append(stage)
        match stage:
            case Scalar(name, expr):
                define_scalar(name, d(None, expr))
            case Pair(name, exprs):
                define(name, rates(exprs))
            case Sum(name, exprs):
                if by_region := rates(exprs):
                    stages.append(Sum(_symbol(prefix, name), by_region))
                    dot[name] = {None: _symbol(prefix, name)}
            case Scan(name, exprs, suffix):
                if by_region := rates(exprs):
                    stages.append(Scan(_symbol(prefix, name), by_region, suffix))
                    # A scan is defined at every pair, also where it adds nothing up.
                    every = [r.name for r in program.regions]
                    dot[name] = dict.fromkeys(every, _symbol(prefix, name))
            case RowSoftmax(rows):
                found: dict[sp.Symbol, dict[str, sp.Expr]] = defaultdict(dict)
                for region, weights in rows.items():
                    ds = {w: d(region, w.score) for w in weights}
                    mean = _mean(ds)
                    for w in weights:
                        found[w.name][region] = w.name * (ds[w] - mean)
                for name, by_region in found.items():
                    define(name, by_region)
            case Softmax(classes, pairs):
                ds = {w: d(None, w.score) for w in classes}
                mean = _mean(ds)
                dp = {(r, w): d(r, w.score) for r, ws in pairs.items() for w in ws}
                by_region = {r: _mean({w: dp[r, w] for w in ws}) for r, ws in pairs.items()}
                by_region = {r: e for r, e in by_region.items() if e != 0}
                label = (classes[0] if classes else next(iter(pairs.values()))[0]).name
                if by_region:
                    part = _symbol(f"{prefix}pairmean", label)
                    stages.append(Sum(part, by_region))
                    mean += part
                if mean != 0 and not mean.is_Atom:
                    stages.append(Scalar(_symbol(f"{prefix}mean", label), mean))
                    mean = _symbol(f"{prefix}mean", label)
                for w in classes:
                    define_scalar(w.name, w.name * (ds[w] - mean))
                found = defaultdict(dict)
                for (region, w), e in dp.items():
                    found[w.name][region] = w.name * (e - mean)
                for name, by_region in found.items():
                    define(name, by_region)
    derived = {new: d(None, program.outputs[old]) for old, new in outputs.items()}
    return prune(replace(program, stages=tuple(stages), outputs=program.outputs | derived))


def _mean(ds: Mapping[Weight, sp.Expr]) -> sp.Expr:
    return sp.Add(*(w.multiplicity * w.name * e for w, e in ds.items()))


def hessian(program: Program, output: str = "loss") -> Program:
    """The program of all second derivatives, as outputs ``d_<coordinate>_<coordinate>``."""
    result = first = gradient(program, output)
    for k, c in enumerate(program.coordinates):
        names = {f"d_{b}": f"d_{c}_{b}" for b in program.coordinates}
        along = tangent(first, {c: sp.S.One}, names, prefix=f"dot{k}")
        new = [s for s in along.stages if s not in first.stages]
        second = {name: along.outputs[name] for name in names.values()}
        result = replace(result, stages=result.stages + tuple(new), outputs=result.outputs | second)
    return prune(result)
