"""`chen`: parameters, meanings and events (Chen, Sheen, Wang, Yang, arXiv 2409.10559)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from derivations.chen.selector import label, subsets
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.system import (
    Coordinate,
    Event,
    Hints,
    Horizon,
    Invariant,
    Observable,
    Parameter,
    ReducedSystem,
)

#: The parts that may be trained: selector, copier, classifier.
PARTS = ("C", "W", "a")
#: Everything at once, one part alone, or parts one after the other.
TRAINING = (
    "joint",
    *("-".join(order) for k in (1, 2, 3) for order in itertools.permutations(PARTS, k)),
)
#: log c² falls by hundreds of thousands; a stage may start where the last one left it.
DEEPEST = -1e12
#: A subset has won when its p reaches this.
SELECTED = 0.99
#: Squares below e^-600 are lifted where they cancel (derivations/chen/derive.py); one must be more.
LOWEST_START = -550.0

_PARAMETERS = (
    Parameter("S", 3, "number of states of the chain", "int", 2, 100),
    Parameter("n", 3, "order of the grams: a state depends on the n-1 before it", "int", 2, 9),
    Parameter("H", 3, "heads of the copier; head h sees the lags h..h+H-1", "int", 1, 9),
    Parameter("degree", 2, "the selector's largest subset of heads", "int", 0, 9),
    Parameter("L", 100, "length of a sequence (limit=finite)", "int", 2, 10**6),
    Parameter(
        "dirichlet", 0.1, "kernels are drawn from Dirichlet with this parameter", allowed="> 0"
    ),
    Parameter(
        "loss",
        "ce",
        "ce: cross-entropy of the output taken as logits (the published simulation); log: "
        "-log(output + eps) (the paper)",
        "choice",
        choices=("ce", "log"),
    ),
    Parameter("eps", 1e-8, "loss=log: what is added to the output", "float", 0.0, 1.0),
    Parameter(
        "limit",
        "infinite",
        "windows attended to: infinite, their stationary law; finite, those of one sequence of "
        "length L for every kernel, at the L-2H+1 positions that have 2H-1 states before them",
        "choice",
        choices=("infinite", "finite"),
    ),
    Parameter(
        "kernels",
        2000,
        "size of the bank, kernels with one query each; the time grows with it, the sampling error "
        "(reported for the loss) falls as kernels^(-1/2)",
        "int",
        1,
        10**7,
    ),
    Parameter("seed", 0, "seed of the bank", "int", 0, 2**62),
    Parameter("w_plus", 3.0, "start of every head's logit for its first lag", "float", -350, 350),
    Parameter("w_minus", 0.1, "start of the other logits", "float", -350, 350),
    Parameter("c_init", 0.01, "start of every c", "float", 1e-8, 1e100),
    Parameter("a_init", 0.01, "start of a", "float", -350, 350),
    Parameter(
        "training",
        "joint",
        "what moves: everything (joint), the selector C, the copier W or the classifier a alone; "
        "or one after the other, each for an equal part of the horizon",
        "choice",
        choices=TRAINING,
    ),
)


def _braces(subset: Sequence[int]) -> str:
    return "{" + ",".join(map(str, subset)) + "}" if subset else "the empty subset"


def check_sizes(values: Mapping[str, Any]) -> None:
    """Refuse sizes, priors and lengths that contradict each other.

    Raises
    ------
    InputError
    """
    n, H, degree = values["n"], values["H"], values["degree"]
    if n - 1 > H:
        raise InputError(
            f"H = {H} heads cannot copy the {n - 1} parents of n = {n}; set H to at least {n - 1}"
        )
    if degree > H:
        raise InputError(
            f"degree = {degree} asks for subsets of more heads than there are; set it to at most "
            f"H = {H}"
        )
    if not values["dirichlet"] > 0.0:
        raise InputError(
            f"dirichlet = {values['dirichlet']:g} is no Dirichlet parameter; it must be positive"
        )
    if values["L"] < 2 * H:
        raise InputError(
            f"L = {values['L']} is shorter than the query's window of {2 * H - 1} lags and one "
            f"state; set L to at least {2 * H}"
        )


def _check(values: Mapping[str, Any]) -> None:
    check_sizes(values)
    from reduced_dynamics.families.chen.bank import check_memory

    check_memory(values)


def _outside(values: Mapping[str, Any], state: Mapping[str, float]) -> str:
    largest = max(value for name, value in state.items() if name.startswith("c_"))
    if largest > LOWEST_START:
        return ""
    return (
        f"the largest log c^2 is {largest:g}, and below -600 the squares can no longer be told "
        f"apart; let at least one of them start above {LOWEST_START:g}"
    )


def _pack(values: Mapping[str, Any]) -> Sequence[float]:
    from reduced_dynamics.families.chen.bank import parameter_vector

    return parameter_vector(values)


def _stages(values: Mapping[str, Any]) -> list[dict[str, str]]:
    parts = values["training"].split("-")
    return [{"training": part} for part in parts] if len(parts) > 1 else []


def _bank_errors(values: Mapping[str, Any], compiled, par, z) -> dict[str, float]:
    from reduced_dynamics.families.chen.bank import loss_error

    return (
        {"bank_error_loss": loss_error(values, compiled, par, z)} if values["kernels"] > 1 else {}
    )


def _derive(values: Mapping[str, Any]):
    from derivations.chen.derive import derive_chen

    return derive_chen(values)


def _coordinates(H: int, degree: int) -> tuple[Coordinate, ...]:
    return (
        *(
            Coordinate(
                f"c_{label(s)}",
                f"selector: log c^2 of {_braces(s)}",
                start="log(c_init**2)",
                least=DEEPEST,
            )
            for s in subsets(H, degree)
        ),
        *(
            Coordinate(
                f"W_{h}_{j}",
                f"copier: logit of head {h} for lag {h + j}",
                start="w_minus" if j else "w_plus",
            )
            for h in range(1, H + 1)
            for j in range(H)
        ),
        Coordinate("a", "classifier: attention is softmax of a times the match", start="a_init"),
    )


def _observables(H: int, degree: int) -> tuple[Observable, ...]:
    return (
        *(
            Observable(f"p_{label(s)}", f"c^2 over the sum of all c^2, {_braces(s)}")
            for s in subsets(H, degree)
        ),
        Observable("p_top", "the largest of these"),
    )


def _adapt(values: Mapping[str, Any]) -> ReducedSystem:
    H, degree = values["H"], values["degree"]
    return replace(CHEN, coordinates=_coordinates(H, degree), observables=_observables(H, degree))


CHEN = ReducedSystem(
    name="chen",
    home=f"{__name__}:CHEN",
    title="copier, selector and classifier on n-gram Markov chains",
    source="Chen, Sheen, Wang, Yang, arXiv 2409.10559; derived in derivations/chen/derive.py",
    coordinates=_coordinates(3, 2),
    parameters=_PARAMETERS,
    observables=_observables(3, 2),
    events=(Event("T_selected", "some subset's p first reaches .99", "p_top", SELECTED),),
    invariants=(Invariant("log_sum_c2", "log of the sum of all c^2"),),
    derive=_derive,
    structure=("S", "n", "H", "degree", "limit", "loss"),
    pack=_pack,
    sampling=_bank_errors,
    check=_check,
    outside=_outside,
    adapt=_adapt,
    stages=_stages,
    horizon=Horizon("50000", formed=("T_selected",), plateaus=True),
    # local: errors below rtol, from 1e-4 to 1e-9, joint and in stages; 0.02 gave up to 1.7
    hints=Hints(local=0.01, costly=True, tempo=1.0),
)
