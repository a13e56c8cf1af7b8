"""What a derivation hands on: programs, what to read off them, and what they conserve."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import sympy as sp

from derivations.core.dense import Dense
from derivations.core.staged import Program, Stage
from derivations.core.windows import Windows

#: The learning rate in `Derivation.update`.
step = sp.Symbol("step", positive=True)


def slope(coordinate: sp.Symbol) -> sp.Symbol:
    """The symbol of ∂loss/∂coordinate in `Derivation.update`."""
    return sp.Symbol(f"d_{coordinate}", real=True)


@dataclass(frozen=True)
class Chart:
    """Coordinates y for a solver, in which the flow does not cancel; see `Derivation`.

    Attributes
    ----------
    coordinates : tuple of Symbol
        y. Those that z has too are the same; everything else is computed from these by `stages`.
    stages : tuple of stages
        Without loops over pairs; what the expressions below read.
    rate : tuple of Expr, length n
        dy/dt in y.
    jacobian : tuple of Expr, length n²
        Its derivatives, row by row.
    inward, outward : tuple of Expr, length n
        y in z; z in y.
    """

    coordinates: tuple[sp.Symbol, ...]
    stages: tuple[Stage, ...]
    rate: tuple[sp.Expr, ...]
    jacobian: tuple[sp.Expr, ...]
    inward: tuple[sp.Expr, ...]
    outward: tuple[sp.Expr, ...]


@dataclass(frozen=True)
class Derivation:
    """A reduced system, derived.

    Attributes
    ----------
    name : str
    coordinates, parameters : tuple of Symbol
        In the order in which compiled functions take them.
    variants : tuple of (str or None, Program)
        Programs of one loss for different parameters: the first whose condition holds is used.
        A condition is Python text with parameters in braces, e.g. ``"{q} == 1"``; None holds.
        Or one `Dense` or `Windows` program, averaged over a bank of data that follows the
        parameters.
    observables : tuple of str
        Outputs of the programs, besides the loss.
    invariants : mapping of str to Expr
        First integrals, in coordinates and parameters.
    mobility : mapping of Symbol to Expr
        dz/dt = −mobility·∂loss/∂z for coordinates that are functions of the weight that descends:
        (∂z/∂weight)², in coordinates and parameters. 1 where absent.
    update : mapping of Symbol to Expr
        For the same coordinates, z after one step of gradient descent of the weight, in the
        coordinates, the parameters, ``d_<z>`` for ∂loss/∂z, and `step`; z − step·d_<z> where
        absent.
    average : Symbol or None
        A parameter over whose values 1..N everything is averaged when it is given as 0.
    chart : Chart or None
        Further coordinates for solvers, of the same flow where the system says it may be used
        (`ReducedSystem.chart`).
    summary : str
        One paragraph for the head of the generated module.
    """

    name: str
    coordinates: tuple[sp.Symbol, ...]
    parameters: tuple[sp.Symbol, ...]
    variants: tuple[tuple[str | None, Program | Dense | Windows], ...]
    observables: tuple[str, ...] = ()
    invariants: Mapping[str, sp.Expr] = field(default_factory=dict)
    mobility: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)
    update: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)
    average: sp.Symbol | None = None
    chart: Chart | None = None
    summary: str = ""
