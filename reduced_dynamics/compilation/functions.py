"""Functions of generated modules, from staged programs: their heads, and what they read."""

from collections.abc import Sequence

import sympy as sp

from derivations.core.staged import Program
from reduced_dynamics.compilation.decorators import LEAN, PLAIN, allocates
from reduced_dynamics.compilation.loops import Loops
from reduced_dynamics.compilation.statements import indent

#: With at most this many coordinates the Hessian is one function; beyond, one that takes a
#: direction, called for every coordinate, keeps the module (and its compilation) small.
WHOLE_HESSIAN = 8


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
    return function_of(name, Loops(program, outputs, cells), parameters, direction)


def function_of(
    name: str,
    lowered: Loops,
    parameters: Sequence[sp.Symbol],
    direction: Sequence[sp.Symbol] = (),
    head: str = "",
) -> str:
    """A function of that name from its lowered program, reading what that uses."""
    body, used = lowered.lines()
    head = head or (PLAIN if allocates("\n".join(body)) else LEAN)
    given = [("z", lowered.program.coordinates), ("v", direction), ("par", parameters)]
    reads = []
    for array, symbols in given:
        for k, symbol in enumerate(symbols):
            if str(symbol) in used:
                reads.append(f"{symbol} = {array}[{k}]")
            if symbol.is_integer and f"n_{symbol}" in used:
                reads.append(f"n_{symbol} = int({array}[{k}])")
    arguments = "z, v, par, out" if direction else "z, par, out"
    lines = [head, f"def {name}({arguments}):", *indent([*reads, *body] or ["pass"])]
    return "\n".join(lines) + "\n"


def square_cells(n: int) -> list[str]:
    """Where the entries of a matrix go, row by row."""
    return [f"out[{j}, {k}]" for j in range(n) for k in range(n)]
