"""Expressions as source: floating-point arithmetic, what they share computed once."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from derivations.core.named import Named
from reduced_dynamics.compilation.statements import name, text

#: Of the exponential function, which vector code replaces.
EXP = name("math.exp")


class _Printer(PythonCodePrinter):
    """Floating-point source: no integer arithmetic, small powers as products."""

    def __init__(self):
        super().__init__({"fully_qualified_modules": True, "precision": 17})

    def _print_Symbol(self, expr):
        return name(super()._print_Symbol(expr))

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

    def _print_exp(self, expr):
        return f"{EXP}({self._print(expr.args[0])})"

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


#: Source of an expression, names between marks.
source: Callable[[sp.Expr], str] = _Printer().doprint


def shown(expr: sp.Expr) -> str:
    """Text of an expression."""
    return text(source(expr))


def integer(expr: sp.Expr) -> str:
    """Source of a loop bound, in the integer names n_N, n_q."""
    renamed = {s: sp.Symbol(name(f"n_{s}"), integer=True) for s in expr.free_symbols}
    return str(expr.xreplace(renamed))


def computed(
    targets: Sequence[tuple[Any, sp.Expr]], fresh: Callable[[], sp.Symbol]
) -> Iterator[tuple[Any, sp.Expr]]:
    """What to assign, in order: common subexpressions get names just before their first use.

    Parameters
    ----------
    targets : sequence of (target, Expr)
    fresh : callable
        A new name at every call, numbered upwards behind one letter.
    """
    replacements, reduced = sp.cse([e for _, e in targets], symbols=iter(fresh, None), order="none")
    pending = dict(replacements)

    def needed(expr):
        for s in sorted(expr.free_symbols & pending.keys(), key=lambda s: int(str(s)[1:])):
            definition = pending.pop(s, None)
            if definition is not None:
                yield from needed(definition)
                yield str(s), definition

    for (target, _), expr in zip(targets, reduced, strict=True):
        yield from needed(expr)
        yield target, expr


def numbered(first: int = 1) -> Callable[[], sp.Symbol]:
    """New names x1, x2, …"""
    count = itertools.count(first)
    return lambda: sp.Symbol(f"x{next(count)}", real=True)
