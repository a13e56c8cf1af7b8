"""Definitions, for generated modules, of the functions that derivations call by name.

A `Named` function becomes a compiled function of its own, one branch after another. A `Tabulated`
one becomes a call of `tabulated`, which reads Chebyshev coefficients behind the named parameters
in ``par``: their number n, the ends of the interval, and then for every table the n coefficients
of the function, of its first and of its second derivative.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import sympy as sp

from derivations.core.named import Named
from reduced_dynamics.compilation.decorators import INLINE, LEAN

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


def definitions(
    functions: Sequence[str], parameters: int, body: Callable[[sp.Expr], list[str]], show: Callable
) -> Iterator[str]:
    """Source of what `functions` call by name and do not define.

    Parameters
    ----------
    functions : sequence of str
        Generated source.
    parameters : int
        How many named parameters precede the tables in ``par``.
    body : callable
        From an expression to the lines that compute and return it.
    show : callable
        From a condition to source.
    """
    called = set(re.findall(r"\b([A-Za-z_]\w*)\(", "\n".join(functions)))
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
                lines += body(expr)
            else:
                lines.append(f"    if {show(condition)}:")
                lines += ["    " + line for line in body(expr)]
        yield "\n".join(lines) + "\n"
    if "tabulated" in called:
        yield _TABULATED.format(head=INLINE, start=parameters)


def _subclasses(cls: type) -> set[type]:
    return {cls}.union(*map(_subclasses, cls.__subclasses__())) - {Named}
