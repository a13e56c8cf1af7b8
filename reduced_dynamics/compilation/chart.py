"""From a derivation's chart to the functions by which a solver uses it.

chart_flow(t, y, par)       dy/dt
chart_jacobian(t, y, par)   ∂(dy/dt)/∂y
to_chart(zs, par)           y for many states z
from_chart(ys, par)         z for many y
"""

from derivations.core.derivation import Derivation
from derivations.core.staged import Program
from reduced_dynamics.compilation.decorators import PLAIN
from reduced_dynamics.compilation.functions import function_source, square_cells

_CHART = '''

{plain}
def chart_flow(t, y, par):
    """dy/dt of y = ({names})."""
    rate = np.empty({n})
    _chart_rate(y, par, rate)
    return rate


{plain}
def chart_jacobian(t, y, par):
    """∂(dy/dt)/∂y."""
    matrix = np.empty(({n}, {n}))
    _chart_slopes(y, par, matrix)
    return matrix


{plain}
def to_chart(zs, par):
    """y for every row of `zs`."""
    ys = np.empty_like(zs)
    for k in range(zs.shape[0]):
        _inward(zs[k], par, ys[k])
    return ys


{plain}
def from_chart(ys, par):
    """z for every row of `ys`."""
    zs = np.empty_like(ys)
    for k in range(ys.shape[0]):
        _outward(ys[k], par, zs[k])
    return zs
'''


def chart_source(derivation: Derivation) -> str:
    """What a module has in addition where its derivation has a chart."""
    chart, parameters, n = derivation.chart, derivation.parameters, len(derivation.coordinates)
    parts = []
    for name, coordinates, outputs, cells in (
        ("_chart_rate", chart.coordinates, chart.rate, ()),
        ("_chart_slopes", chart.coordinates, chart.jacobian, square_cells(n)),
        ("_inward", derivation.coordinates, chart.inward, ()),
        ("_outward", chart.coordinates, chart.outward, ()),
    ):
        program = Program(coordinates, parameters, (), chart.stages, {})
        parts.append(function_source(name, program, outputs, parameters, cells=cells))
    names = ", ".join(map(str, chart.coordinates))
    return "\n\n" + "\n\n".join(parts) + _CHART.format(plain=PLAIN, names=names, n=n)
