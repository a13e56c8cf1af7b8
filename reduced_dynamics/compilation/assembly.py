"""From a lowered derivation to the text of its module."""

import re
import textwrap

import sympy as sp

from derivations.core.derivation import Derivation, slope, step
from derivations.core.staged import Program
from reduced_dynamics.compilation.chart import chart_source
from reduced_dynamics.compilation.decorators import INLINE, LEAN, PLAIN, allocates
from reduced_dynamics.compilation.functions import WHOLE_HESSIAN, function_source
from reduced_dynamics.compilation.lowered import Lowered
from reduced_dynamics.compilation.named import definitions

_WRAPPERS = '''
{thin}
def values(z, par, out):
    """Loss and observables into `out`; returns the loss."""
    {values}
    return out[0]


{thin}
def gradient(z, par, out):
    """Loss, observables and ∂loss/∂z into `out`; returns the loss."""
    {gradient}
    return out[0]


{thin}
def rate_into(z, par, out, rate):
    """dz/dt{of_loss} into `rate`; into `out` what `gradient` gives."""
    gradient(z, par, out)
    {rate}


{of_jacobian}
def jacobian_into(z, par, matrix):
    """∂(dz/dt)/∂z{of_hessian} into `matrix`."""
    {hessian}{mobile_jacobian}


{plain}
def flow(t, z, par):
    """dz/dt{of_loss}."""
    out, rate = np.empty({n_gradient}), np.empty({n})
    rate_into(z, par, out, rate)
    return rate


{plain}
def jacobian(t, z, par):
    """∂(dz/dt)/∂z{of_hessian}."""
    matrix = np.empty(({n}, {n}))
    jacobian_into(z, par, matrix)
    return matrix


{plain}
def value_table(zs, par):
    """`values` at every row of `zs`."""
    table = np.empty((zs.shape[0], {n_values}))
    for k in range(zs.shape[0]):
        values(zs[k], par, table[k])
    return table


{plain}
def invariants(zs, par):
    """The first integrals at every row of `zs`."""
    table = np.empty((zs.shape[0], {n_invariants}))
    for k in range(zs.shape[0]):
        _invariants(zs[k], par, table[k])
    return table


{plain}
def descend(z, par, step, n, held):
    """`n` steps of gradient descent of the coordinates not `held`: the n + 1 states."""
    path = np.empty((n + 1, {n}))
    path[0] = z
    out = np.empty({n_gradient})
    for k in range(n):
        gradient(path[k], par, out)
        {descent}
    return path
'''

_PLAIN_DESCENT = """\
for j in range({n}):
            path[k + 1, j] = path[k, j] - (0.0 if held[j] else step * out[{n_values} + j])"""

_PLAIN_RATE = """\
for k in range({n}):
        rate[k] = -out[{n_values} + k]"""

_MOBILE_RATE = """\
_mobility(z, par, rate)
    for k in range({n}):
        rate[k] *= -out[{n_values} + k]"""

_MOBILE_JACOBIAN = """
    rates, factor, slopes = np.empty({n_gradient}), np.empty({n}), np.empty({n} * {n})
    gradient(z, par, rates)
    _mobility(z, par, factor)
    _mobility_slopes(z, par, slopes)
    for j in range({n}):
        for k in range({n}):
            matrix[j, k] = factor[j] * matrix[j, k] - slopes[{n} * j + k] * rates[{n_values} + j]"""

_WEIGHT_DESCENT = """\
_update(path[k], np.append(out[{n_values}:], step), par, path[k + 1])
        for j in range({n}):
            if held[j]:
                path[k + 1, j] = path[k, j]"""


def _of_weights(derivation: Derivation) -> list[str]:
    """Functions for coordinates that are functions of the weight that descends, if there are any:
    mobilities, their derivatives, and one step of descent."""
    coordinates, parameters = derivation.coordinates, derivation.parameters
    program = Program(coordinates, parameters, (), (), {})
    functions = []
    if derivation.mobility:
        factors = [sp.sympify(derivation.mobility.get(c, 1)) for c in coordinates]
        slopes = [sp.diff(f, c) for f in factors for c in coordinates]
        functions += [
            function_source("_mobility", program, factors, parameters),
            function_source("_mobility_slopes", program, slopes, parameters),
        ]
    if derivation.update:
        given = [*map(slope, coordinates), step]
        updated = [derivation.update.get(c, c - step * slope(c)) for c in coordinates]
        functions.append(function_source("_update", program, updated, parameters, given))
    return functions


def assemble(derivation: Derivation, lowered: Lowered) -> str:
    """The text of a derivation's module."""
    coordinates, parameters = derivation.coordinates, derivation.parameters
    observables, mobile = derivation.observables, bool(derivation.mobility)
    n, n_values = len(coordinates), 1 + len(observables)
    conserved = list(derivation.invariants.values())
    program = Program(coordinates, parameters, (), (), dict(derivation.invariants))
    functions = [*lowered.functions, function_source("_invariants", program, conserved, parameters)]
    functions += _of_weights(derivation)
    called = {*re.findall(r"\b([A-Za-z_]\w*)\(", "\n".join(functions))}
    named = [*definitions(called, len(parameters))]
    doc = textwrap.dedent(
        f'''\
        """Compiled system {derivation.name}: generated from its derivation; do not edit.

        State z:      {", ".join(map(str, coordinates))}
        Parameters:   {", ".join(map(str, parameters)) or "none"}{lowered.more_parameters}
        Values:       loss{"".join(", " + o for o in observables)}
        Invariants:   {", ".join(derivation.invariants) or "none"}
        Time:         reduced training time, dz/dt = {"mobility * " if mobile else ""}-d loss/d z

        {derivation.summary}
        """
        '''
    )
    sizes = {"n": n, "n_values": n_values, "n_gradient": n_values + n}
    # Calls cost small systems much; copies of large ones cost their compilation more.
    thin = INLINE if n <= WHOLE_HESSIAN else LEAN
    mobile_jacobian = _MOBILE_JACOBIAN.format(**sizes) if mobile else ""
    wrappers = _WRAPPERS.format(
        plain=PLAIN,
        thin=thin,
        of_jacobian=PLAIN if allocates(lowered.hessian + mobile_jacobian) else thin,
        values=lowered.values,
        gradient=lowered.gradient,
        hessian=lowered.hessian,
        of_loss=" = −mobility·∂loss/∂z" if mobile else " = −∂loss/∂z",
        of_hessian=", −∂²loss/∂z² and what the mobility adds" if mobile else " = −∂²loss/∂z²",
        rate=(_MOBILE_RATE if mobile else _PLAIN_RATE).format(**sizes),
        mobile_jacobian=mobile_jacobian,
        descent=(_WEIGHT_DESCENT if derivation.update else _PLAIN_DESCENT).format(**sizes),
        n_invariants=len(derivation.invariants),
        **sizes,
    )
    involved = tuple(
        tuple(str(c) for c in coordinates if c in e.free_symbols)
        for e in derivation.invariants.values()
    )
    names = [
        f"COORDINATES = {tuple(map(str, coordinates))!r}",
        f"PARAMETERS = {tuple(map(str, parameters))!r}",
        f"OBSERVABLES = {tuple(observables)!r}",
        f"INVARIANTS = {tuple(derivation.invariants)!r}",
        "#: The coordinates that each invariant involves.",
        f"INVARIANT_COORDINATES = {involved!r}",
    ]
    imports = lowered.imports
    if "exponentials" in called:
        imports += "\nfrom reduced_dynamics.compilation.exponential import exponentials\n"
    head = f"import math\n\nimport numpy as np\nfrom numba import njit\n{imports}"
    text = "\n".join([doc + head, *names, "", "", "\n\n".join([*named, *functions]), wrappers])
    return text if derivation.chart is None else text + chart_source(derivation)
