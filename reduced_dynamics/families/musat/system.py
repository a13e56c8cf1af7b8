"""`musat19` and `musat3`: parameters, meanings and events (Musat et al., arXiv 2511.01033)."""

from collections.abc import Mapping, Sequence
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
    "alpha1": "layer 1: the query attends to its item's token",
    "alpha2": "layer 1: attention to a row's own position",
    "alpha3": "layer 1: a label attends to its own item (M ties their positions)",
    "beta1": "layer 2: query's token against key's token",
    "beta2": "layer 2: query's token against the token a row has attended to (induction)",
    "beta3": "layer 2: token the query has attended to against key's token",
    "beta4": "layer 2: attended token against attended token",
    "beta5": "layer 2: position against position, I",
    "beta6": "layer 2: position against position, M",
    "beta7": "layer 2: position against attended position, I",
    "beta8": "layer 2: position against attended position, M",
    "beta9": "layer 2: attended position against position, I",
    "beta10": "layer 2: attended position against position, M",
    "beta11": "layer 2: attended position against attended position, I",
    "beta12": "layer 2: attended position against attended position, M",
    "gamma1": "output: the query's own token",
    "gamma2": "output: the token the query attended to in layer 1",
    "gamma3": "output: the token attended to in layer 2 (the answer)",
    "gamma4": "output: the token that layer 2's rows had attended to",
}

_PARAMETERS = (
    Parameter("N", 64, "number of item-label pairs in a sequence", "int", 1, 10**6),
    Parameter(
        "query",
        "last",
        "which pair is asked for: the last, one drawn uniformly (loss averaged over it), or a fixed"
        " one by its number",
        "query",
    ),
    Parameter("self_attention", False, "whether a row may attend to itself", "bool"),
    Parameter(
        "inputs",
        "orthonormal",
        "tokens and positions: random frames, for which the loss is exact; or gaussian, entries iid"
        " N(0, 1/D), for which it is the mean over a bank of sampled Gram matrices",
        "choice",
        choices=("orthonormal", "gaussian"),
    ),
    Parameter(
        "D",
        None,
        "width of the embeddings, even; a full model's training time is t*D. Orthonormal inputs"
        " need 2N+2 (the default) and their reduced flow does not depend on it; with gaussian"
        " inputs (default 4N) it does, and an evaluation costs the same for every D",
        "int",
        2,
        2**62,
    ),
    Parameter(
        "bank",
        None,
        "gaussian inputs: how many draws stand for the population (default 256); the time grows as"
        " bank, the sampling error (reported for the loss) falls as bank^(-1/2)",
        "int",
        1,
        10**5,
    ),
    Parameter("seed", None, "gaussian inputs: seed of the bank (default 0)", "int", 0, 2**62),
)

#: A mean over all N queries costs O(N²) an evaluation.
_UNIFORM_LIMIT = 20_000
#: With a fixed query, `musat3` still loops over the pairs after it.
_LOOP_LIMIT = 10**7
#: With gaussian inputs, an evaluation visits all pairs of rows for every draw (and query); so many
#: take about a second.
_PAIRS_LIMIT = 5 * 10**7


def _check(values: Mapping[str, Any]) -> None:
    n, query, width = values["N"], values["query"], values["D"]
    if isinstance(query, int) and query > n:
        raise InputError(
            f"query = {query} asks for a pair beyond the last; it must lie in 1 .. {n}"
        )
    if query == "uniform" and n > _UNIFORM_LIMIT:
        raise InputError(
            f"query=uniform averages over all N queries, too slow at N = {n}; it needs "
            f"N <= {_UNIFORM_LIMIT}, or query=last"
        )
    if isinstance(query, int) and n - query > _LOOP_LIMIT:
        raise InputError(
            f"query = {query} leaves {n - query} pairs to loop over; at most {_LOOP_LIMIT} are "
            "possible, or query=last"
        )
    if width is not None and width % 2:
        raise InputError(f"D = {width} is odd; positions are complex, so D must be even")
    if values["inputs"] == "gaussian":
        each = (2 * n + 1) ** 2 * (n if query == "uniform" else 1)
        most = _PAIRS_LIMIT // each
        if values["bank"] > most:
            remedy = f"set bank to at most {most}" if most else "it needs a smaller N"
            raise InputError(
                f"inputs=gaussian with N = {n}, query={query} and a bank of {values['bank']} draws"
                f" is too large to evaluate in about a second; {remedy}"
            )
        return
    for name in ("bank", "seed"):
        if values[name] is not None:
            raise InputError(
                f"{name} = {values[name]} has no meaning with orthonormal inputs, whose loss is "
                f"exact; drop it, or set inputs=gaussian"
            )
    if width is not None and width < 2 * n + 2:
        raise InputError(
            f"D = {width} is too small for 2N = {2 * n} orthonormal tokens and {n + 1} positions; "
            f"the smallest that does is {2 * n + 2}"
        )


def _pack(values: Mapping[str, Any]) -> Sequence[float]:
    n, query = values["N"], values["query"]
    q = {"last": n, "uniform": 0}.get(query, query)
    if values["inputs"] == "gaussian":
        from reduced_dynamics.families.musat.bank import parameter_vector

        return parameter_vector(n, q, values["D"], values["bank"], values["seed"])
    return float(n), float(q)


def _choose(values: Mapping[str, Any]) -> dict[str, Any]:
    """What gaussian inputs need; orthonormal ones need none of it, and their flow no D."""
    if values["inputs"] != "gaussian":
        return {}
    chosen = {"D": 4 * values["N"], "bank": 256, "seed": 0}
    return {name: value for name, value in chosen.items() if values[name] is None}


def _bank_errors(values: Mapping[str, Any], compiled, par, z) -> dict[str, float]:
    if values["inputs"] != "gaussian" or values["bank"] < 2:
        return {}
    from reduced_dynamics.families.musat.bank import standard_errors

    return {"bank_error_loss": float(standard_errors(compiled, par, z)[0])}


_OBSERVABLES = (
    Observable("A", "layer 2: the query's attention on the right label"),
    Observable("w", "layer 1: the right label's attention on its own item"),
)

_EVENTS = (
    Event("T_gamma3", "gamma3 first reaches the threshold", "gamma3"),
    Event("T_beta2", "beta2 first reaches the threshold", "beta2"),
    Event("T_alpha3", "alpha3 first reaches the threshold", "alpha3"),
    Event("t_icl", "the attention on the right label, A, first reaches 1/2", "A", 0.5),
    Event("t_half_loss", "the loss first falls to half of its start", "loss", 0.5, of_start=True),
)


def _derive19(values: Mapping[str, Any]):
    from derivations.musat.derive import derive_musat19

    return derive_musat19(values["self_attention"], values["inputs"])


def _derive3(values: Mapping[str, Any]):
    from derivations.musat.derive import derive_musat3

    return derive_musat3(values["self_attention"], values["inputs"])


def _strictly_causal(values: Mapping[str, Any]) -> bool:
    return not values["self_attention"] and values["inputs"] == "orthonormal"


_CONSERVED = tuple(
    Invariant(
        f"{b}-{a}", f"{a} and {b} have the same gradient (orthonormal inputs)", _strictly_causal
    )
    for a, b in (("beta3", "beta9"), ("beta4", "beta11"))
)


def _one_moving_alpha(values: Mapping[str, Any]) -> bool:
    return values["N"] >= 2 and values["query"] in ("last", values["N"])


def _integrable(values: Mapping[str, Any]) -> bool:
    return _strictly_causal(values) and _one_moving_alpha(values)


#: From here on the rounding of 1 − γA shortens the steps. Measured, steps without and with chart:
#: Radau 1587 and 2294 at N = 10³, 4153 and 2839 at 10⁵, 135 811 and 3593 at 10⁸; Rodas5P 1301 and
#: 3016, 3348 and 1602, 27 549 and 1774.
_CHART_FROM = 10**5


def _cancels(values: Mapping[str, Any]) -> bool:
    return values["N"] >= _CHART_FROM and _integrable(values)


def _system(**own) -> ReducedSystem:
    """What both systems share, and what is a system's own."""
    return ReducedSystem(
        observables=_OBSERVABLES,
        events=_EVENTS,
        structure=("self_attention", "inputs"),
        pack=_pack,
        sampling=_bank_errors,
        check=_check,
        choose=_choose,
        horizon=Horizon("1000 * N**2 + 1000 * N", formed=("t_half_loss",)),
        **own,
    )


MUSAT19 = _system(
    name="musat19",
    home=f"{__name__}:MUSAT19",
    title="the 19 coordinates of the disentangled two-layer transformer on item-label recall",
    source="Musat et al., arXiv 2511.01033, Theorem 1; derived in derivations/musat/derive.py",
    coordinates=tuple(Coordinate(name, meaning) for name, meaning in _MEANINGS.items()),
    parameters=_PARAMETERS,
    invariants=_CONSERVED,
    derive=_derive19,
)

MUSAT3 = _system(
    name="musat3",
    home=f"{__name__}:MUSAT3",
    title="the induction head alone: alpha3, beta2, gamma3, the other 16 held at 0",
    source="Musat et al., arXiv 2511.01033, Theorem 2; derived in derivations/musat/derive.py",
    coordinates=tuple(Coordinate(k, _MEANINGS[k]) for k in ("alpha3", "beta2", "gamma3")),
    parameters=(
        Parameter("N", 64, "number of item-label pairs in a sequence", "int", 1, 10**12),
        *_PARAMETERS[1:],
    ),
    invariants=(
        Invariant(
            "first_integral",
            "alpha3 + (exp(alpha3) - 1)/(2N - 2) - beta2^2/2, for query=last, orthonormal inputs",
            _integrable,
        ),
    ),
    derive=_derive3,
    hints=Hints(precise=True, chart=_cancels),
)
