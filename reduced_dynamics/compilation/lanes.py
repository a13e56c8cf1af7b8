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
`loops` has math.exp, and branch nowhere. Names of their own end or begin with
an underscore, as no coordinate's or parameter's does.
"""

from collections.abc import Iterable

import sympy as sp

from derivations.core.derivation import Derivation
from derivations.core.differentiate import gradient, hessian
from derivations.core.staged import Program, Scalar, Softmax
from reduced_dynamics.compilation.decorators import decorator
from reduced_dynamics.compilation.loops import Loops
from reduced_dynamics.compilation.statements import indent, text
from reduced_dynamics.compilation.wide import LANE, Wide

#: With more coordinates, a closed form's registers and first-level cache no longer do.
MOST = 4
#: The functions of expressions that lanes can compute: no call, or `exponential`.
_COMPUTED = (sp.exp, sp.Abs, sp.Heaviside, sp.DiracDelta, sp.Piecewise)
#: What `exponential` is called in lane functions.
_EXP = {"math.exp": "_exp"}

#: Decorators: of what allocates nothing, and of what does.
_LEAN, _PLAIN = (decorator(allocates=x, fastmath="'contract'") for x in (False, True))


def lane_source(derivation: Derivation) -> str:
    """The lane functions of a derivation; empty where it has no form that allows them."""
    if not all(type(program) is Program for _, program in derivation.variants):
        return ""
    if len(derivation.coordinates) > MOST:
        return _looped(derivation)
    for k, (_, program) in enumerate(derivation.variants):
        if _straight(program) and (made := _closed(derivation, program)):
            return made + _applies(derivation, k)
    return ""


def _computable(exprs: Iterable[sp.Expr]) -> bool:
    """Whether lanes can compute the expressions."""
    return all(isinstance(f, _COMPUTED) for e in exprs for f in e.atoms(sp.Function))


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
    if derivation.mobility or not program.regions:
        return ""
    values = [program.outputs[name] for name in ("loss", *derivation.observables)]
    slopes = gradient(program)
    rates = [-slopes.outputs[f"d_{c}"] for c in derivation.coordinates]
    if not _computable(slopes.expressions):
        return ""
    outputs, into = [*values, *rates], [*_lane("out", len(values)), *_lane("rate_", len(rates))]
    made = [
        _wide(derivation, "lane_values(z, par, out)", program, into[: len(values)], values),
        _wide(derivation, "lane_rate(z, par, out, rate_)", slopes, into, outputs),
    ]
    parameters = derivation.parameters
    moving = {c for _, p in derivation.variants for c in p.used_coordinates()}
    gathered = _GATHERED.format(
        head=_PLAIN,
        active=[k for k, c in enumerate(derivation.coordinates) if c in moving],
        shared="".join(f"par[{k}], " for k, p in enumerate(parameters) if p.is_integer).strip(),
    )
    return "\n\n".join([*made, gathered]) + _applies(derivation, k)


def _lane(array: str, count: int) -> list[str]:
    """The places of a lane's numbers in an array."""
    return [f"{array}[{k} * _LANES + {LANE}]" for k in range(count)]


def _wide(derivation, signature: str, program: Program, places, outputs) -> str:
    """A function of all lanes; integer parameters, which bound loops, are the first lane's."""
    parameters = derivation.parameters
    own = dict(zip(map(str, parameters), _lane("par", len(parameters)), strict=True))
    shared = []
    for k, parameter in enumerate(parameters):
        if parameter.is_integer:
            del own[str(parameter)]
            shared += [f"{parameter} = par[{k} * _LANES]", f"n_{parameter} = int({parameter})"]
    coordinates = [*map(str, program.coordinates)]
    inputs = dict(zip(coordinates, _lane("z", len(coordinates)), strict=True)) | own
    wide = Wide(program, outputs, inputs, places, "_LANES", together=False)
    body, _ = wide.lines(_EXP)
    return "\n".join([_PLAIN, f"def {signature}:", *indent([*shared, *body])]) + "\n"


def _straight(program: Program) -> bool:
    return all(
        isinstance(s, Scalar) or (isinstance(s, Softmax) and not s.pairs) for s in program.stages
    )


def _closed(derivation: Derivation, program: Program) -> str:
    """The lane functions of a program without loops; empty where a lane cannot compute them."""
    coordinates = derivation.coordinates
    values = [program.outputs[name] for name in ("loss", *derivation.observables)]
    first, second = gradient(program), hessian(program)
    factor = {c: sp.sympify(derivation.mobility.get(c, 1)) for c in coordinates}
    moving = [c for c in coordinates if factor[c].free_symbols & set(coordinates)]
    if any(f"d_{c}" not in second.outputs for c in moving):
        return ""
    rates = [-factor[c] * first.outputs[f"d_{c}"] for c in coordinates]
    entries = [
        -factor[a] * second.outputs[f"d_{a}_{b}"]
        - sp.diff(factor[a], b) * second.outputs.get(f"d_{a}", 0)
        for a in coordinates
        for b in coordinates
    ]
    if not _computable([*second.expressions, *rates, *entries]):
        return ""
    out, rate = _lane("out", len(values)), _lane("rate_", len(rates))
    into = _lane("matrix_", len(entries))
    return "\n\n".join(
        [
            _function(derivation, "lane_values(z, par, out)", program, out, values),
            _function(
                derivation, "lane_rate(z, par, out, rate_)", first, [*out, *rate], [*values, *rates]
            ),
            _function(derivation, "lane_jacobian(z, par, matrix_)", second, into, entries),
        ]
    )


def _function(derivation, signature: str, program: Program, places, outputs) -> str:
    """A function whose body is one loop over lanes."""
    body, used = Loops(program, outputs, [*map(text, places)]).lines(_EXP)
    reads = []
    for array, symbols in (("z", program.coordinates), ("par", derivation.parameters)):
        for symbol, place in zip(symbols, _lane(array, len(symbols)), strict=True):
            if str(symbol) in used:
                reads.append(f"{symbol} = {text(place)}")
    loop = ["for lane_ in range(_LANES):", *indent([*reads, *body])]
    return "\n".join([_LEAN, f"def {signature}:", *indent(loop)]) + "\n"


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
