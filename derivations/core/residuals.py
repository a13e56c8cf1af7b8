"""How a residual is known to be 0: exactly, in a normal form, or to many digits."""

import random
from collections.abc import Callable, Iterable, Mapping

import sympy as sp
from sympy.core.function import AppliedUndef

from derivations.core.differentiate import gradient
from derivations.core.staged import Program, substitute, unroll

#: Digits to which a derived gradient must equal differences of the loss at random points.
DIGITS = 40
#: Digits that are computed: a difference errs by step² from curvature, by 10^-WORKING/step from
#: rounding.
WORKING = 3 * DIGITS
_STEP = sp.Float(10, WORKING) ** -(DIGITS // 2 + 5)


def normal(expr: sp.Expr) -> sp.Expr:
    """A rational function of exponentials of such functions, in one form: 0 exactly if it is 0.

    Exponents that are rational multiples of each other become powers of one symbol, innermost
    ones first; what is left is a reduced ratio of polynomials.
    """
    multiples: dict[sp.Expr, list[tuple[sp.Expr, sp.Rational]]] = {}
    for e in expr.atoms(sp.exp):
        exponent = normal(e.exp)
        symbols = sorted(exponent.free_symbols, key=str)
        above, below = (sp.Poly(x, *symbols).LC() for x in sp.fraction(exponent))
        ratio = above / below
        multiples.setdefault(sp.cancel(exponent / ratio), []).append((e, ratio))
    powers = {}
    for exponent, found in multiples.items():
        step = sp.ilcm(1, *(ratio.q for _, ratio in found))
        base = sp.Symbol(f"exp({exponent / step})", positive=True)
        powers |= {e: base ** (ratio * step) for e, ratio in found}
    expr = expr.xreplace(powers)
    symbols = sorted(expr.free_symbols | expr.atoms(AppliedUndef), key=str)
    return sp.QQ.frac_field(*symbols).from_sympy(expr).as_expr() if symbols else expr


def worst(values: Iterable[sp.Expr]) -> sp.Expr:
    """The first that is not 0, or 0."""
    return next((v for v in values if v != 0), sp.S.Zero)


def to_digits(residual: sp.Expr) -> sp.Expr:
    """0 if a residual is 0 to `DIGITS` digits, else a few of its digits."""
    residual = sp.N(residual, WORKING)
    return sp.S.Zero if abs(residual) < sp.Float(10) ** -DIGITS else sp.N(residual, 5)


def numbers(symbols: Iterable[sp.Symbol], draw: random.Random) -> dict[sp.Symbol, sp.Expr]:
    """Numbers of order 1 whose digits do not end, so that nothing cancels by accident."""
    return {s: sp.sqrt(draw.randint(1, 99)).evalf(WORKING) / 7 for s in symbols}


def slope_residual(
    loss: Callable[[Mapping], sp.Expr],
    slopes: Mapping[sp.Symbol, sp.Expr],
    point: Mapping[sp.Symbol, sp.Expr],
    draw: random.Random,
) -> sp.Expr:
    """d loss/dt on a random line through a point, from values of the loss, minus its slopes' there.

    0 if they agree to `DIGITS` digits. A random direction sees every component of the gradient.
    """
    direction = numbers(point, draw)
    ahead, behind = (loss({c: point[c] + t * direction[c] for c in point}) for t in (_STEP, -_STEP))
    along = sp.Add(*(slopes[c] * direction[c] for c in point))
    return to_digits((ahead - behind) / (2 * _STEP) - along)


def along_a_line(program: Program, n: int, query: int, seed: int = 0) -> sp.Expr:
    """`slope_residual` of a staged program's loss and gradient for N = `n`, q = `query`."""

    def values(program, at):
        return unroll(substitute(program, at), n, query)

    draw = random.Random(seed)
    point = numbers(program.coordinates, draw)
    found = values(gradient(program), point)
    slopes = {c: found[sp.Symbol(f"d_{c}")] for c in point}
    return slope_residual(lambda at: values(program, at)[sp.Symbol("loss")], slopes, point, draw)
