"""From a derivation to the text of a readable Python module compiled by numba.

The module holds the functions

    values(z, par, out)         loss and observables
    gradient(z, par, out)       the same, then ∂loss/∂z; returns the loss
    flow(t, z, par)             −∂loss/∂z
    jacobian(t, z, par)         −∂²loss/∂z²
    value_table(zs, par)        `values` at many states
    invariants(zs, par)         the first integrals at many states
    descend(z, par, step, n, held)  n steps of gradient descent

Parameters are an argument (``par``, float64), so a new value never recompiles. A derivation is
differentiated and lowered to functions by what is registered for its kind of program; `assembly`
puts the module's own around them.
"""

from collections.abc import Callable

from derivations.core.dense import Dense
from derivations.core.derivation import Derivation
from derivations.core.staged import Program
from derivations.core.windows import Windows
from reduced_dynamics.compilation import dense, pairs, windows
from reduced_dynamics.compilation.assembly import assemble
from reduced_dynamics.compilation.lowered import Lowered

#: How each kind of program is lowered; a further kind adds a file and a line here.
LOWERINGS: dict[type, Callable[[Derivation], Lowered]] = {
    Program: pairs.lower,
    Dense: dense.lower,
    Windows: windows.lower,
}


def module_source(derivation: Derivation) -> str:
    """The source text of the compiled module of a derivation.

    Raises
    ------
    TypeError
        If its variants are not programs of one kind for which a lowering is registered.
    """
    kinds = {type(program) for _, program in derivation.variants}
    if len(kinds) != 1 or not kinds <= LOWERINGS.keys():
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"no lowering for the programs of {derivation.name}: {names}")
    return assemble(derivation, LOWERINGS[kinds.pop()](derivation))
