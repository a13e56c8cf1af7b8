"""What a lowering hands on to assembly."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Lowered:
    """A derivation's own functions, and the bodies of the module's that call them.

    Attributes
    ----------
    functions : sequence of str
        Source of the functions that the bodies call.
    values, gradient, hessian : str
        Statements that fill ``out`` (loss and observables; the same and the gradient) and
        ``matrix`` (−1 times the Hessian); unless said otherwise, calls of such functions, of which
        `_hessian` adds to what is there.
    more_parameters : str
        What follows the named parameters in ``par``.
    imports : str
        Further import statements.
    """

    functions: Sequence[str]
    values: str = "_values(z, par, out)"
    gradient: str = "_gradient(z, par, out)"
    hessian: str = "matrix[:] = 0.0\n    _hessian(z, par, matrix)"
    more_parameters: str = ""
    imports: str = ""
