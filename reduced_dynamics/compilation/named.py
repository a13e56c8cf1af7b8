"""Definitions, for generated modules, of the functions that derivations call by name.

A `Named` function becomes a compiled function of its own, one branch after another. A `Tabulated`
one becomes a call of `tabulated`, which reads Chebyshev coefficients behind the named parameters
in ``par``: their number n, the ends of the interval, and then for every table the n coefficients
of the function, of its first and of its second derivative.
"""

from collections.abc import Collection, Iterator

import sympy as sp

from derivations.core.named import Named
from reduced_dynamics.compilation.decorators import INLINE, LEAN
from reduced_dynamics.compilation.printing import computed, numbered, shown
from reduced_dynamics.compilation.statements import indent

_TABULATED = '''\
{head}
def tabulated(par, table, order, x):
    """Derivative `order` of a table at x by Clenshaw's recurrence; constant beyond its interval."""
    n = int(par[{start}])
    low, high = par[{start} + 1], par[{start} + 2]
    if order > 0 and not low <= x <= high:
        return 0.0
    y = min(max((2.0*x - low - high) / (high - low), -1.0), 1.0)
    first = {start} + 3 + (3*table + order)*n
    ahead, here = 0.0, 0.0
    for k in range(n - 1, 0, -1):
        here, ahead = par[first + k] + 2.0*y*here - ahead, here
    return par[first] + y*here - ahead
'''


def definitions(called: Collection[str], parameters: int) -> Iterator[str]:
    """Source of those functions of derivations that are `called`.

    Parameters
    ----------
    called : collection of str
        Names.
    parameters : int
        How many named parameters precede the tables in ``par``.
    """
    for function in sorted(_subclasses(Named), key=lambda f: f.__name__):
        if function.__name__ not in called:
            continue
        lines = [
            LEAN,
            f"def {function.__name__}({', '.join(map(str, function.arguments))}):",
            f'    """{function.__doc__.splitlines()[0]}"""',
        ]
        for condition, expr in function.branches():
            if condition is None:
                lines += _returned(expr)
            else:
                lines.append(f"    if {shown(condition)}:")
                lines += indent(_returned(expr))
        yield "\n".join(lines) + "\n"
    if "tabulated" in called:
        yield _TABULATED.format(head=INLINE, start=parameters)


def _returned(expr: sp.Expr) -> list[str]:
    """Lines that compute an expression and return it."""
    made = computed([("return", expr)], numbered())
    return indent(f"{target}{'' if target == 'return' else ' ='} {shown(e)}" for target, e in made)


def _subclasses(cls: type) -> set[type]:
    return {cls}.union(*map(_subclasses, cls.__subclasses__())) - {Named}
