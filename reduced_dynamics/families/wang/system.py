"""`wang`: parameters, meanings, events and range of validity (Wang et al., arXiv 2410.11474)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

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

_MEANINGS = {
    "p1": "layer 1: decay of its relative positional encoding; infinite copies the token before",
    "p": "layer 2, 4-gram head: decay of its relative positional encoding",
    "g": "layer 2, 4-gram head: output",
    "w_Q": "layer 2, induction head: query weight",
    "w_K": "layer 2, induction head: key weight; attention scores are w_Q w_K x_L y_s",
    "h": "layer 2, induction head: output",
}

_ENDLESS = (
    "training=stage1 has no end of its own (p1 grows like log t, and hardly at all from a small "
    "sigma_init); say how long to train, e.g. --t-end 1e6"
)
#: Longest sequence with finite p1, where an evaluation takes a time in proportion to L.
LARGEST_FINITE_L = 10**4
_AT_INFINITY = {"p1": "p1 infinite, which copies the token before, is training=stage2"}

#: The exact engine's tables are verified up to the first for L up to LONG, to the second beyond:
#: Q(a, a*) then spans too many decades for its series to be precise at both ends.
LARGEST_A_STAR, LARGEST_A_STAR_LONG, LONG = 2.0, 0.9, 1000

_PARAMETERS = (
    Parameter("L", 40, "length of a sequence; the induction head sees L-3 pairs", "int", 5, 10**6),
    Parameter(
        "alpha_star",
        1.0,
        "weight of the 4-gram over the in-context 2-gram in the target",
        "float",
        0.0,
        1e6,
    ),
    Parameter(
        "w_star",
        0.49,
        "the target's attention weight; its scores are a* = w_star**teacher_exponent times"
        f" x_L x_(s-1), with a* at most {LARGEST_A_STAR:g}, {LARGEST_A_STAR_LONG:g} for L > {LONG}",
        "float",
        0.01,
        LARGEST_A_STAR,
    ),
    Parameter("sigma_init", 0.01, "where every coordinate starts", "float", 0.0, 2.0),
    Parameter("teacher_exponent", 2, "a* = w_star to this power: 1 or 2", "int", 1, 2),
    Parameter(
        "engine",
        None,
        "overlaps of the induction head: exact, tabulated by quadrature; or asymptotic, leading"
        " order in 1/L, for a* < 0.707. By default exact for stage2, asymptotic with finite p1",
        "choice",
        choices=("asymptotic", "exact"),
    ),
    Parameter(
        "training",
        "stage2",
        "what is trained: stage1 p1 alone; stage2 the other five, with p1 infinite; joint all six",
        "choice",
        choices=("stage1", "stage2", "joint"),
    ),
)

_OBSERVABLES = (
    Observable("L_G4", "loss of the 4-gram component"),
    Observable("L_IH", "loss of the induction component"),
    Observable("L_IH_over_L_sad", "the same over its value L_sad at the saddle w = 0, h = c"),
)

_PLATEAU = "the induction loss"
EVENTS = (
    Event("T_g4", "the 4-gram loss falls to 1 % of its start", "L_G4", 0.01, True, -1),
    Event("T_plateau_in", f"{_PLATEAU} falls to 1.01 L_sad", "L_IH_over_L_sad", 1.01, False, -1),
    Event("T_plateau_out", f"{_PLATEAU} falls to .99 L_sad", "L_IH_over_L_sad", 0.99, False, -1),
    Event("T_half", f"{_PLATEAU} falls to L_sad/2", "L_IH_over_L_sad", 0.5, False, -1),
    Event("T_converged", f"{_PLATEAU} falls to L_sad/100", "L_IH_over_L_sad", 0.01, False, -1),
)


def a_star(values: Mapping[str, Any]) -> float:
    """The target's a* = (w*)^teacher_exponent."""
    return values["w_star"] ** values["teacher_exponent"]


def _check(values: Mapping[str, Any]) -> None:
    a, engine, training = a_star(values), values["engine"], values["training"]
    if training != "stage2" and values["L"] > LARGEST_FINITE_L:
        raise InputError(
            f"training={training} has a finite p1, for which every evaluation is a sum over the "
            f"sequence; lower L to at most {LARGEST_FINITE_L}, or set training=stage2"
        )
    if values["sigma_init"] == 0.0:
        raise InputError(
            "sigma_init = 0 puts w_Q and w_K at a fixed point: neither would ever move, and the "
            "induction loss would stay on its plateau; start above 0, e.g. sigma_init=1e-6"
        )
    if engine == "exact" and training != "stage2":
        raise InputError(
            f"training={training} has a finite p1, for which there is no exact engine; set "
            "engine=asymptotic, or training=stage2"
        )
    largest = LARGEST_A_STAR if values["L"] <= LONG else LARGEST_A_STAR_LONG
    if engine == "exact" and a > largest:
        raise InputError(
            f"w_star**teacher_exponent = {a:g} is beyond the range of the exact engine "
            f"at L = {values['L']}; lower w_star until that is at most {largest:g}"
        )
    if engine == "asymptotic" and 2.0 * a * a >= 1.0:
        remedy = (
            "set engine=exact"
            if training == "stage2"
            else "lower w_star, or set training=stage2 and engine=exact"
        )
        raise InputError(
            f"the asymptotic engine needs 2 a*^2 < 1, and a* = w_star**teacher_exponent = {a:g} is "
            f"beyond; {remedy}"
        )


def _choose(values: Mapping[str, Any]) -> dict[str, Any]:
    if values["engine"] is not None:
        return {}
    return {"engine": "exact" if values["training"] == "stage2" else "asymptotic"}


def _pack(values: Mapping[str, Any]) -> Sequence[float]:
    numbers = [float(values["L"] - 3), values["alpha_star"], values["w_star"]]
    numbers.append(float(values["teacher_exponent"]))
    if values["engine"] == "exact":
        from reduced_dynamics.families.wang.overlap import table

        return [*numbers, *table(values["L"] - 3, a_star(values)).packed]
    return numbers


def _outside(values: Mapping[str, Any], state: Mapping[str, float]) -> str:
    a = state["w_Q"] * state["w_K"]
    if values["engine"] == "exact":
        from reduced_dynamics.families.wang.overlap import BACK, table

        reach = table(values["L"] - 3, a_star(values)).reach
        if -BACK <= a <= reach:
            return ""
        return (
            f"w_Q w_K = {a:g} lies outside the exact engine's table, {-BACK:g} .. {reach:g}; start "
            "nearer to the origin"
        )
    finite, fits = values["training"] != "stage2", 2.0 * a * a_star(values) < 1.0
    # Keys vary by 0..1 on average over the pairs; that mean matters near the edge only.
    if fits and 2.0 * a * a * (2.0 if finite else 1.0) < 1.0:
        return ""
    spread = 2.0 - _mean_variance(values["L"] - 3, state["p1"]) if finite else 1.0
    if fits and 2.0 * a * a * spread < 1.0:
        return ""
    remedy = "set engine=exact" if values["training"] == "stage2" else "start nearer to the origin"
    return f"w_Q w_K = {a:g} is beyond the range of the asymptotic engine, 2 a^2 < 1; {remedy}"


def _mean_variance(n: int, p1: float) -> float:
    """Mean over the keys of the variance of a key of layer 1, as in derivations/wang/derive.py."""
    import numpy as np

    count = np.arange(1, n + 1)
    with np.errstate(over="ignore"):
        each = np.tanh(p1 / 2) / np.tanh(count * p1 / 2) if p1 else 1.0 / count
    return float(each.mean())


def _derive(values: Mapping[str, Any]):
    from derivations.wang.derive import derive_wang

    return derive_wang(values["engine"], values["training"])


def _coordinates(names: Sequence[str]) -> tuple[Coordinate, ...]:
    return tuple(
        Coordinate(name, _MEANINGS[name], "sigma_init", _AT_INFINITY.get(name, ""))
        for name in names
    )


def _adapt(values: Mapping[str, Any]) -> ReducedSystem:
    exact = values["engine"] == "exact"
    if values["training"] == "stage2":
        return replace(WANG, hints=Hints(precise=exact))
    first = values["training"] == "stage1"
    return replace(
        WANG,
        coordinates=_coordinates(tuple(_MEANINGS)),
        events=() if first else EVENTS,
        horizon=Horizon(missing=_ENDLESS) if first else WANG.horizon,
        hints=Hints(),
    )


WANG = ReducedSystem(
    name="wang",
    home=f"{__name__}:WANG",
    title="a 4-gram and an in-context 2-gram learned together: six scalars, four phases",
    source="Wang et al., arXiv 2410.11474; derived in derivations/wang/derive.py",
    coordinates=_coordinates(tuple(_MEANINGS)[1:]),
    parameters=_PARAMETERS,
    observables=_OBSERVABLES,
    events=EVENTS,
    invariants=(Invariant("balance", "w_Q^2 - w_K^2"),),
    derive=_derive,
    structure=("engine", "training"),
    pack=_pack,
    outside=_outside,
    check=_check,
    choose=_choose,
    adapt=_adapt,
    horizon=Horizon(
        "200 * L * (1 + alpha_star)**2 / w_star**teacher_exponent * (1 - log(sigma_init))",
        formed=("T_converged",),
    ),
    hints=Hints(precise=True),
)
