"""Closed forms for many trajectories at once: one loop over lanes that becomes vector instructions.

For a system with a variant that needs no loop over pairs, and for one whose loops are the same for
all lanes (`lane_shared`), `lane_source` gives the functions

    lane_values(z, par, out)        loss and observables
    lane_rate(z, par, out, rate)    the same, and dz/dt
    lane_jacobian(z, par, matrix)   ∂(dz/dt)/∂z
    lane_applies(par)               whether a point's parameters choose that variant
    lane_shared(par)                of loops only: what the lanes must have in common

in which every argument of the first three holds, for each number, one entry a lane: number k of
lane l stands at [k·LANES + l]. They call `exponential` (see `rosenbrock.lanes`) where
`codegen` calls math.exp, and branch nowhere. Names of their own end or begin with
an underscore, as no coordinate's or parameter's does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import sympy as sp

from derivations.core.derivation import Derivation
from derivations.core.differentiate import gradient, hessian
from derivations.core.staged import Program, Scalar, Softmax
from reduced_dynamics.compilation.codegen import _Function
from reduced_dynamics.compilation.decorators import decorator
from reduced_dynamics.compilation.wide import Wide

#: With more coordinates, a closed form's registers and first-level cache no longer do.
MOST = 4
#: What a lane's code may call.
_CALLS = {"_exp", "max", "min", "abs", "math.sqrt"}

#: Decorators: of what allocates nothing, and of what does.
_LEAN, _PLAIN = (decorator(allocates=x, fastmath="'contract'") for x in (False, True))


def lane_source(derivation: Derivation) -> str:
    """The lane functions of a derivation; empty where it has no form that allows them."""
    if len(derivation.coordinates) > MOST:
        return _looped(derivation)
    for k, (_, program) in enumerate(derivation.variants):
        if isinstance(program, Program) and _straight(program):
            text = _functions(derivation, program)
            if _callable(text):
                return text + _applies(derivation, k)
    return ""


def _callable(text: str) -> bool:
    called = set(re.findall(r"(?<![\w.])([A-Za-z_][\w.]*)\(", _bodies(text)))
    return called <= _CALLS | {"range", "np.empty", "float", "int"}


_GATHERED = '''\
{head}
def lane_jacobian(z, par, matrix_):
    """Lane by lane: its columns share vector instructions already."""
    one_, own_, square_ = np.empty(SIZE), np.empty(PARAMETERS), np.empty((SIZE, SIZE))
    for lane_ in range(_LANES):
        for k in range(SIZE):
            one_[k] = z[k * _LANES + lane_]
        for k in range(PARAMETERS):
            own_[k] = par[k * _LANES + lane_]
        jacobian_into(one_, own_, square_)
        for j in range(SIZE):
            for k in range(SIZE):
                matrix_[(j * SIZE + k) * _LANES + lane_] = square_[j, k]


#: The coordinates that move.
ACTIVE = np.array({active})


def lane_shared(par):
    return ({shared})
'''


def _looped(derivation: Derivation) -> str:
    """Lane functions of the last variant, with loops over pairs, for lanes of equal N and q."""
    k = len(derivation.variants) - 1
    program = derivation.variants[k][1]
    if derivation.mobility or not isinstance(program, Program) or not program.regions:
        return ""
    values = [program.outputs[name] for name in ("loss", *derivation.observables)]
    places = [f"out[{k} * _LANES + lane_]" for k in range(len(values))]
    slopes = gradient(program)
    rates = [-slopes.outputs[f"d_{c}"] for c in derivation.coordinates]
    more = [f"rate_[{k} * _LANES + lane_]" for k in range(len(rates))]
    text = "\n\n".join(
        [
            _wide(derivation, "lane_values(z, par, out)", program, places, values),
            _wide(
                derivation,
                "lane_rate(z, par, out, rate_)",
                slopes,
                [*places, *more],
                [*values, *rates],
            ),
        ]
    )
    if not _callable(text):
        return ""
    parameters = derivation.parameters
    used = {c for _, p in derivation.variants for c in p.used_coordinates()}
    gathered = _GATHERED.format(
        head=_PLAIN,
        active=[k for k, c in enumerate(derivation.coordinates) if c in used],
        shared="".join(f"par[{k}], " for k, p in enumerate(parameters) if p.is_integer).strip(),
    )
    return "\n\n".join([text, gathered]) + _applies(derivation, k)


def _wide(derivation, signature: str, program: Program, places, outputs) -> str:
    """A function of all lanes; integer parameters, which bound loops, are the first lane's."""
    lane = {str(c): f"z[{k} * _LANES + lane_]" for k, c in enumerate(program.coordinates)}
    lines = []
    for k, parameter in enumerate(derivation.parameters):
        if parameter.is_integer:
            lines += [f"{parameter} = par[{k} * _LANES]", f"n_{parameter} = int({parameter})"]
        else:
            lane[str(parameter)] = f"par[{k} * _LANES + lane_]"
    body = Wide(program, outputs, lane, places, "_LANES", together=False).body()
    lines = ["    " + line for line in lines] + body
    text = "\n".join([_PLAIN, f"def {signature}:", *lines]) + "\n"
    return text.replace("math.exp(", "_exp(")


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
    lines = [_LEAN, f"def {name}({arguments}):", "    for lane_ in range(_LANES):"]
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
