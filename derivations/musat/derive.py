"""`musat19` and `musat3`, derived: programs, what to read off them and what they conserve."""

import sympy as sp

from derivations.core.conserved import linear_invariants
from derivations.core.dense import substitute
from derivations.core.derivation import Derivation
from derivations.core.staged import N, q
from derivations.musat.chart import chart
from derivations.musat.gram import gram_program
from derivations.musat.head import (
    alpha,
    beta,
    first_integral,
    gamma,
    others,
    query_last,
    recall_programs,
    restrict,
)


def _difference_name(expr: sp.Expr) -> str:
    """``beta9-beta3``: a linear first integral with its positive terms first."""
    terms = sp.Add.make_args(expr)
    plus = [str(t) for t in terms if not t.could_extract_minus_sign()]
    minus = [str(-t) for t in terms if t.could_extract_minus_sign()]
    return "".join(["+".join(plus), *(f"-{t}" for t in minus)])


def derive_gaussian(name: str, self_attention: bool = False) -> Derivation:
    """`musat19` or `musat3` with gaussian inputs: the mean over a bank of sampled Gram matrices.

    No linear first integral is left: what `linear_invariants` finds is what is declared.
    """
    program = gram_program(self_attention)
    if name == "musat3":
        program = substitute(program, others(program))
    return Derivation(
        name=name,
        coordinates=program.coordinates,
        parameters=(N, q, sp.Symbol("bank", integer=True, positive=True)),
        variants=((None, program),),
        observables=("A", "w"),
        invariants={_difference_name(e): e for e in linear_invariants(program)},
        average=q,
        summary="Disentangled transformer on item-label recall, gaussian inputs by their Gram"
        f" matrices, query on pair q (0: the mean over q = 1..N), self_attention={self_attention}.",
    )


def derive_musat19(self_attention: bool = False, inputs: str = "orthonormal") -> Derivation:
    """`musat19`; inputs are "orthonormal" or "gaussian"."""
    if inputs == "gaussian":
        return derive_gaussian("musat19", self_attention)
    first, later = recall_programs(self_attention)
    conserved = linear_invariants(later)
    moving = [e for e in conserved if len(e.free_symbols) > 1]
    still = [e for e in conserved if len(e.free_symbols) == 1]
    return Derivation(
        name="musat19",
        coordinates=later.coordinates,
        parameters=(N, q),
        variants=(("{q} == 1.0", first), (None, later)),
        observables=("A", "w"),
        invariants={_difference_name(e): e for e in moving + still},
        average=q,
        summary="Disentangled transformer on item-label recall, orthonormal inputs, query on pair q"
        f" (0: the mean over q = 1..N), self_attention={self_attention}.",
    )


def derive_musat3(self_attention: bool = False, inputs: str = "orthonormal") -> Derivation:
    """`musat3`: alpha3, beta2, gamma3, the other 16 coordinates held at 0."""
    if inputs == "gaussian":
        return derive_gaussian("musat3", self_attention)
    first, later = (restrict(p) for p in recall_programs(self_attention))
    last = query_last(self_attention)
    return Derivation(
        name="musat3",
        coordinates=(alpha, beta, gamma),
        parameters=(N, q),
        variants=(("{q} == 1.0", first), ("{q} == {N}", last), (None, later)),
        observables=("A", "w"),
        invariants={} if self_attention else {"first_integral": first_integral()},
        average=q,
        chart=None if self_attention else chart(),
        summary="The induction head alone: alpha3, beta2, gamma3 of musat19, the other 16 held at"
        f" 0, query on pair q (0: the mean over q = 1..N), self_attention={self_attention}.",
    )
