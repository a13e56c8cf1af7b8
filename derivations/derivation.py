"""What a derivation hands on: programs, what to read off them, and what they conserve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sympy as sp

from derivations.dense import Dense
from derivations.staged import Program


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
        Or one `Dense` program, averaged over a bank of data that follows the parameters.
    observables : tuple of str
        Outputs of the programs, besides the loss.
    invariants : mapping of str to Expr
        First integrals, in coordinates and parameters.
    average : Symbol or None
        A parameter over whose values 1..N everything is averaged when it is given as 0.
    summary : str
        One paragraph for the head of the generated module.
    """

    name: str
    coordinates: tuple[sp.Symbol, ...]
    parameters: tuple[sp.Symbol, ...]
    variants: tuple[tuple[str | None, Program | Dense], ...]
    observables: tuple[str, ...] = ()
    invariants: Mapping[str, sp.Expr] = field(default_factory=dict)
    average: sp.Symbol | None = None
    summary: str = ""
