"""Closed forms for many trajectories at once: one loop over lanes that becomes vector instructions.

For a system with a variant that needs no loop over pairs, `lane_source` gives the functions

    lane_values(z, par, out)        loss and observables
    lane_rate(z, par, out, rate)    the same, and dz/dt
    lane_jacobian(z, par, matrix)   ∂(dz/dt)/∂z
    lane_applies(par)               whether a point's parameters choose that variant

in which every argument of the first three holds, for each number, one entry a lane: number k of
lane l stands at [k·LANES + l]. They call `exponential` (see `rosenbrock.lanes`) where
`reduced_dynamics.codegen` calls math.exp, and branch nowhere. Names of their own end or begin with
an underscore, as no coordinate's or parameter's does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import sympy as sp

from derivations.derivation import Derivation
from derivations.differentiate import gradient, hessian
from derivations.staged import Program, Scalar, Softmax
from reduced_dynamics.codegen import _Function

#: With more coordinates, registers and the first-level cache no longer hold what a step needs.
MOST = 4
#: What a lane's code may call.
_CALLS = {"_exp", "max", "min", "abs", "math.sqrt"}

_HEAD = '@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})'


def lane_source(derivation: Derivation) -> str:
    """The lane functions of a derivation; empty where it has no closed form that allows them."""
    if len(derivation.coordinates) > MOST:
        return ""
    for k, (_, program) in enumerate(derivation.variants):
        if isinstance(program, Program) and _straight(program):
            text = _functions(derivation, program)
            if set(re.findall(r"(?<![\w.])([A-Za-z_][\w.]*)\(", _bodies(text))) <= _CALLS | {
                "range"
            }:
                return text + _applies(derivation, k)
    return ""


def _bodies(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if line.startswith("    "))


def _straight(program: Program) -> bool:
    return all(
        isinstance(s, Scalar) or (isinstance(s, Softmax) and not s.pairs) for s in program.stages
    )


def _functions(derivation: Derivation, program: Program) -> str:
    coordinates = derivation.coordinates
    values = [program.outputs[name] for name in ("loss", *derivation.observables)]
    places = [f"out[{k}]" for k in range(len(values))]
    first, second = gradient(program), hessian(program)
    factor = {c: sp.sympify(derivation.mobility.get(c, 1)) for c in coordinates}
    rates = [-factor[c] * first.outputs[f"d_{c}"] for c in coordinates]
    entries = [
        -factor[a] * second.outputs[f"d_{a}_{b}"]
        - sp.diff(factor[a], b) * second.outputs.get(f"d_{a}", 0)
        for a in coordinates
        for b in coordinates
    ]
    moving = [c for c in coordinates if factor[c].free_symbols & set(coordinates)]
    if any(f"d_{c}" not in second.outputs for c in moving):
        return "    unsupported()\n"
    return "\n\n".join(
        [
            _function(derivation, "lane_values", "z, par, out", program, places, values),
            _function(
                derivation,
                "lane_rate",
                "z, par, out, rate_",
                first,
                [*places, *(f"rate_[{k}]" for k in range(len(rates)))],
                [*values, *rates],
            ),
            _function(
                derivation,
                "lane_jacobian",
                "z, par, matrix_",
                second,
                [f"matrix_[{k}]" for k in range(len(entries))],
                entries,
            ),
        ]
    )


def _function(
    derivation: Derivation,
    name: str,
    arguments: str,
    program: Program,
    places: Sequence[str],
    outputs: Sequence[sp.Expr],
) -> str:
    def lane(array: str, k: int) -> str:
        return f"{array}[{k} * _LANES + lane_]"

    body = [line.strip() for line in _Function(program, outputs).body()]
    targets = {f"out[{k}]": lane(*_split(place)) for k, place in enumerate(places)}
    renamed = []
    for line in body:
        target, equals, value = line.partition(" = ")
        line = targets.get(target, target) + equals + value if equals else line
        renamed.append(line.replace("math.exp(", "_exp("))
    used = set(re.findall(r"[A-Za-z_]\w*", "\n".join(renamed)))
    reads = [
        f"{symbol} = {lane(array, k)}"
        for array, symbols in (("z", program.coordinates), ("par", derivation.parameters))
        for k, symbol in enumerate(symbols)
        if str(symbol) in used
    ]
    lines = [_HEAD, f"def {name}({arguments}):", "    for lane_ in range(_LANES):"]
    return "\n".join([*lines, *("        " + line for line in [*reads, *renamed])]) + "\n"


def _split(place: str) -> tuple[str, int]:
    array, _, index = place.partition("[")
    return array, int(index[:-1])


def _applies(derivation: Derivation, k: int) -> str:
    """Whether variant k is the first whose condition holds, and no mean is asked for."""
    names = list(map(str, derivation.parameters))
    places = {name: f"par[{j}]" for j, name in enumerate(names)}
    tests = [f"not ({c.format(**places)})" for c, _ in derivation.variants[:k]]
    own = derivation.variants[k][0]
    tests += [f"({own.format(**places)})"] if own is not None else []
    if derivation.average is not None:
        tests.insert(0, f"par[{names.index(str(derivation.average))}] > 0.0")
    return f"\n\ndef lane_applies(par):\n    return bool({' and '.join(tests) or 'True'})\n"
