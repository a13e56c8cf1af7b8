"""Expressions and stages arranged for a reader; shared by LaTeX and plain text."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import sympy as sp

from derivations.core.staged import N, Program, Scalar, Softmax, Weight, defined, i

# ---------------------------------------------------------------- expressions, arranged for reading

_ADJOINT = ("bar_", "scan_", "sum_", "mean_", "pairmean_", "e_")


def _level(program: Program, symbol: sp.Symbol) -> int:
    """Sums are collected first by adjoints, then coordinates, attention of pairs, of the query."""
    if str(symbol).startswith(_ADJOINT):
        return 0
    if symbol in program.coordinates:
        return 1
    return 2 if symbol in program.pair_symbols or str(symbol).startswith("A_") else 3


def natural(symbol: sp.Symbol) -> tuple:
    """Sort key: beta9 before beta10."""
    return tuple(int(t) if t.isdigit() else t for t in re.split(r"(\d+)", str(symbol)))


def arranged(expr: sp.Expr, program: Program) -> sp.Expr:
    """The same expression for reading: sums collected level by level, equal coefficients together.

    Raises
    ------
    ArithmeticError
        If it is not the same expression.
    """
    shown = _collected(expr, program, 0)
    if sp.expand(sp.together(shown - expr)) != 0:
        raise ArithmeticError(f"{expr} became {shown}")
    return shown


def _collected(expr: sp.Expr, program: Program, level: int) -> sp.Expr:
    if expr.is_Mul and any(factor.is_Add for factor in expr.args):
        factors = [_collected(f, program, level) if f.is_Add else f for f in expr.args]
        return sp.Mul(*factors, evaluate=False)
    if level > 3 or not expr.is_Add:
        return sp.factor(expr)
    denominator = sp.S.One
    if level == 3:
        expr, denominator = sp.fraction(sp.together(expr))
    parameters = {i, *program.parameters}
    here = [s for s in expr.free_symbols - parameters if _level(program, s) == level]
    if not here:
        return _over(_collected(expr, program, level + 1), denominator)
    polynomial = sp.Poly(sp.expand(expr), *sorted(here, key=natural))
    groups: dict[sp.Expr, list[sp.Expr]] = {}
    for powers, coefficient in polynomial.terms():
        monomial = sp.Mul(*(s**k for s, k in zip(polynomial.gens, powers, strict=True)))
        known = coefficient if coefficient in groups or -coefficient not in groups else -coefficient
        groups.setdefault(known, []).append(monomial if known == coefficient else -monomial)
    terms: list[sp.Expr] = []
    for coefficient, monomials in groups.items():
        coefficient = _collected(coefficient, program, level + 1)
        if coefficient.could_extract_minus_sign() and not coefficient.is_Add:
            coefficient, monomials = -coefficient, [-m for m in monomials]
        group = sp.Add(*monomials)
        if coefficient == 1:
            terms += sp.Add.make_args(group)
        else:
            plain = not (group.is_Add or coefficient.is_Add)
            terms.append(sp.Mul(coefficient, group, evaluate=plain))
    return _over(terms[0] if len(terms) == 1 else sp.Add(*terms, evaluate=False), denominator)


def _over(numerator: sp.Expr, denominator: sp.Expr) -> sp.Expr:
    if denominator == 1:
        return numerator
    return sp.Mul(numerator, 1 / denominator, evaluate=False)


# ---------------------------------------------------------------- the regions of a stage


class Case(NamedTuple):
    """One form that a stage has, for ``first <= i <= last`` in any of the ranges."""

    ranges: tuple[tuple[sp.Expr, sp.Expr], ...]
    form: object

    @property
    def single(self) -> sp.Expr | None:
        """The one pair, if it is one."""
        (first, last), *others = self.ranges
        return first if first == last and not others else None


def cases(program: Program, by_region: Mapping[str, object]) -> list[Case]:
    """The different forms of a stage, by the first pair that has them."""
    found: list[Case] = []
    for region in program.regions:
        if region.name not in by_region:
            continue
        form, here = by_region[region.name], (region.first, region.last)
        same = next((k for k, case in enumerate(found) if case.form == form), None)
        if same is None:
            found.append(Case((here,), form))
            continue
        *ranges, (first, last) = found[same].ranges
        if last == region.first - 1:
            ranges += [(first, region.last)]
        else:
            ranges += [(first, last), here]
        found[same] = Case(tuple(ranges), form)
    return found


def condition(
    case: Case, index: str = "i", leq: str = r" \le ", neq: str = r" \ne ", comma: str = r",\ "
) -> str:
    """Where a case holds, in LaTeX or with other signs."""
    if case.single is not None:
        return f"{index} = {case.single}"
    gaps = list(zip(case.ranges, case.ranges[1:], strict=False))
    whole = f"{case.ranges[0][0]}{leq}{index}{leq}{case.ranges[-1][1]}"
    missing = [b[0] - 1 for a, b in gaps if a[1] + 1 == b[0] - 1]
    if len(missing) < len(gaps):
        raise ValueError(f"no short condition for {case.ranges}")
    return comma.join([whole, *(f"{index}{neq}{m}" for m in missing)])


# ---------------------------------------------------------------- printing

#: The index of what a scan adds up.
J = sp.Symbol("j", integer=True, positive=True)

#: A value that is one number on a whole region, by the pair that stands for the region; and what
#: the region is.
REGION_INDEX = {"first": "1", "before": "<q", "at": "q", "after": ">q"}
REGION_WORDS = {
    "first": "first pair",
    "before": "pairs before the query's",
    "at": "query's pair",
    "after": "pairs after the query's",
}


def _factors(product: sp.Expr) -> list[sp.Expr]:
    """Also those of unevaluated products within it."""
    if not product.is_Mul:
        return [product]
    return [f for factor in product.args for f in _factors(factor)]


class Order:
    """For printers: the symbols of a program at the pair `index`, its sums and products in order.

    A printer says how it writes the `symbol` of a name and an index, and a `share` of a softmax.
    """

    symbol: Callable[[str, str | None], str]
    share: str

    def __init__(self, program: Program, index: sp.Expr = i):
        super().__init__()
        self.program, self.index = program, index
        self.pairs = program.pair_symbols

    def _print_Symbol(self, expr):
        if expr == i:
            return str(self.index)
        return self.symbol(str(expr), str(self.index) if expr in self.pairs else None)

    def total(self, weights: Iterable[Weight]) -> str:
        """What a softmax divides by; the classes of one score together, those of score 0 last."""
        by_score: dict[sp.Expr, sp.Expr] = {}
        for w in weights:
            by_score[w.score] = by_score.get(w.score, sp.S.Zero) + w.multiplicity
        terms = sorted(by_score.items(), key=lambda item: item[0] == 0)
        return " + ".join(self.doprint(m * sp.exp(score)) for score, m in terms)

    def shares(self, weights: Iterable[Weight], total: str) -> list[str]:
        """The weights of a softmax, one formula each."""
        return [
            self.share % (self.doprint(w.name), self.doprint(sp.exp(w.score)), total)
            for w in weights
        ]

    def _as_ordered_terms(self, expr, order=None):
        """By the first coordinate in them; the others after, positive ones first."""
        rank = {c: k for k, c in enumerate(self.program.coordinates)}

        def key(term):
            found = [rank[s] for s in term.free_symbols if s in rank]
            return min(found, default=len(rank)), term.could_extract_minus_sign()

        return sorted(expr.as_ordered_terms() if expr.is_Add else [expr], key=key)

    def split(self, product: sp.Expr) -> tuple[bool, list[sp.Expr], list[sp.Expr]]:
        """Whether it is negative, and the factors above and below the line, in order."""
        number, above, below = sp.S.One, [], []
        for factor in _factors(product):
            power = factor.as_base_exp()[1]
            if factor.is_Rational:
                number *= factor
            elif power.is_Rational and power.is_negative:
                below.append(1 / factor)
            else:
                above.append(factor)
        coordinates, parameters = set(self.program.coordinates), {i, *self.program.parameters}

        def key(factor):
            free = factor.free_symbols
            if free <= parameters:
                kind = 0
            elif free <= coordinates:
                kind = 2 if factor.has(sp.exp) else 1
            else:
                kind = 4 if factor.is_Add else 3
            return kind, [natural(s) for s in sorted(free, key=natural)]

        above, below = sorted(above, key=key), sorted(below, key=key)
        if abs(number.p) != 1:
            above.insert(0, sp.Integer(abs(number.p)))
        if number.q != 1:
            below.insert(0, sp.Integer(number.q))
        return number < 0, above, below


# ---------------------------------------------------------------- programs without loops


def in_attention(program: Program, output: str = "loss") -> sp.Expr:
    """An output of a program without loops, its softmaxes' weights kept as symbols.

    Of a softmax over two classes the larger class goes: weights add up to 1.
    """
    values: dict[sp.Symbol, sp.Expr] = {}
    for stage in program.stages:
        match stage:
            case Scalar(name, expr):
                free = sorted(expr.free_symbols - set(program.parameters), key=natural)
                values[name] = sp.collect(sp.expand(expr), free, sp.factor).xreplace(values)
            case Softmax(classes, pairs) if not pairs and len(classes) <= 2:
                single = [w for w in classes if w.multiplicity == 1]
                for w in classes:
                    if w not in single:
                        rest = 1 - sp.Add(*(s.name for s in single))
                        values[w.name] = rest / sp.factor(w.multiplicity)
            case Softmax(_, pairs) if not pairs:
                pass
            case _:
                raise ValueError(f"{defined(stage)} runs over the pairs")
    expr = program.outputs[output].xreplace(values)
    return _positive(min((expr, sp.factor(expr)), key=sp.count_ops), program)


def _positive(expr: sp.Expr, program: Program) -> sp.Expr:
    """A product with 1 − A, not A − 1: factors positive where what is not a parameter is 0."""
    factors = []
    for factor in sp.Mul.make_args(expr):
        zero = dict.fromkeys(factor.free_symbols - set(program.parameters), 0)
        flip = factor.is_Add and factor.subs(zero).subs(N, 2).is_negative
        factors += [sp.S.NegativeOne, -factor] if flip else [factor]
    return sp.Mul(*factors)


def by_power(expr: sp.Expr, program: Program) -> sp.Expr:
    """A sum whose terms that differ by parameters only are one term."""
    terms: dict[sp.Expr, sp.Expr] = {}
    for term in sp.Add.make_args(expr):
        inside = term.free_symbols - set(program.parameters)
        parameters, rest = term.as_independent(*inside)
        terms[rest] = terms.get(rest, 0) + parameters
    return sp.Add(*(sp.factor(c) * rest for rest, c in terms.items()))
