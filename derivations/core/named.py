"""Functions that SymPy handles by name: their derivatives are known, their values come from code.

A closed form that is right for SymPy may be useless in floating point (0/0 at one point, overflow
at another). A `Named` function carries the forms that are sound, branch by branch, next to the
closed form they are proved equal to; its derivative is again a `Named` function or a product with
one. A `Tabulated` function has no closed form at all: its values are interpolated.
"""

from typing import ClassVar

import sympy as sp


class Named(sp.Function):
    """A function that generated modules define once and call by its class's name.

    Subclasses give, in terms of the symbols `arguments`: `form`, the closed form; `branches`,
    pairs (condition, expression) of which the first whose condition holds is computed (None holds
    always); and `fdiff`, the derivative by the first argument.
    """

    arguments: ClassVar[tuple[sp.Symbol, ...]]

    @classmethod
    def form(cls) -> sp.Expr:
        raise NotImplementedError

    @classmethod
    def branches(cls) -> tuple[tuple[sp.Expr | None, sp.Expr], ...]:
        return ((None, cls.form()),)

    def closed(self) -> sp.Expr:
        """This call with the closed form in place of the name."""
        given = dict(zip(self.arguments, self.args, strict=True))
        return self.form().subs(given, simultaneous=True)

    def _eval_is_real(self):
        return True


class Tabulated(sp.Function):
    """``Tabulated(k, order, x)``: the derivative of that order of the k-th table, at x."""

    nargs = 3

    def fdiff(self, argindex=3):
        k, order, x = self.args
        if argindex != 3:
            raise sp.ArgumentIndexError(self, argindex)
        return Tabulated(k, order + 1, x)

    def _eval_is_real(self):
        return True


def closed(expr: sp.Expr) -> sp.Expr:
    """The expression with the closed forms of all `Named` functions."""
    return expr.replace(lambda e: isinstance(e, Named), lambda e: e.closed())
