"""The text of the module that holds a system and the integrator compiled together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reduced_dynamics.compilation.decorators import INLINE, LEAN, decorator
from reduced_dynamics.integration.rosenbrock import tableau

#: The modules whose text becomes part of generated ones: for one trajectory, and for lanes.
SCALAR = (
    "reduced_dynamics.integration.rosenbrock.step",
    "reduced_dynamics.integration.rosenbrock.crossings",
    "reduced_dynamics.integration.rosenbrock.kernel",
)
LANES = "reduced_dynamics.integration.rosenbrock.lanes"
#: From that line on they do.
_MARK = "# ---- what follows becomes part of the generated module\n"

_LANE_IMPORTS = "from reduced_dynamics.compilation.exponential import bits, exponential\n"


def _combination(weights: np.ndarray, form: str) -> str:
    """``w₀ stages[0, k] + …`` without the zeros."""
    terms = [
        form.format(j=j) if w == 1.0 else f"{w!r} * {form.format(j=j)}"
        for j, w in enumerate(map(float, weights))
        if w != 0.0
    ]
    return " + ".join(terms).replace("+ -", "- ")


def _stages(
    head: str, prefix: str, arguments: str, over: str, stored: str, cell: str, inverse: str
) -> list[str]:
    """What a stage looks at, and the dense output, with the tableau's numbers in place."""
    k = over.split()[1]
    lines = [head, f"def {prefix}stage({arguments}, stages, base, right):"]
    for s in range(1, tableau.STAGES):
        lines += [
            f"    {'if' if s == 1 else 'elif'} s == {s}:",
            f"        {over}:",
            f"            base[{k}] = z[{k}] + {_combination(tableau.A[s], stored)}",
            f"            right[{k}] = {inverse} * ({_combination(tableau.C[s], stored)})",
        ]
    lines += ["", "", head, f"def {prefix}dense(stages, coefficients):", f"    {over}:"]
    for m in range(3):
        lines.append(
            f"        coefficients[{cell.format(m)}] = {_combination(tableau.H[m], stored)}"
        )
    return lines


def stage_source() -> str:
    """`interface.stage` and `interface.dense`."""
    over, stored = "for k in range(SIZE)", "stages[{j}, k]"
    lines = _stages(INLINE, "", "s, z, h", over, stored, "{}, k", "inverse")
    lines.insert(2, "    inverse = 1.0 / h")
    return "\n".join(lines) + "\n"


def lane_stage_source(size: int) -> str:
    """The linear algebra of a step for all lanes."""
    head = decorator(allocates=False, fastmath="'contract'")
    over, stored = "for i in range(WIDE)", "stages[{j} * WIDE + i]"
    arguments, cell = "s, z, inverse", "{} * WIDE + i"
    lines = [*_stages(head, "lane_", arguments, over, stored, cell, "inverse[i]"), "", ""]
    if size > WRITTEN_OUT:
        head = decorator(allocates=True, fastmath="'contract'")
        return "\n".join([*lines, _LOOPS.format(head=head, inverse=1.0 / tableau.GAMMA)])
    return "\n".join([*lines, *_elimination(size, head)]) + "\n"


#: Up to so many coordinates the linear algebra of lanes is written out.
WRITTEN_OUT = 4

_LOOPS = '''\
{head}
def lane_factor(jacobian, inverse, matrix):
    """LU decomposition for every lane, of the coordinates that move; without pivoting."""
    rows, scale = matrix.reshape((SIZE * SIZE, LANES)), np.empty(LANES)
    for i in range(SIZE * WIDE):
        matrix[i] = -jacobian[i]
    for k in range(SIZE):
        for l in range(LANES):
            rows[k * SIZE + k, l] += inverse[l] * {inverse!r}
    for a in range(len(ACTIVE)):
        k = ACTIVE[a]
        for l in range(LANES):
            rows[k * SIZE + k, l] = 1.0 / rows[k * SIZE + k, l]
        for b in range(a + 1, len(ACTIVE)):
            j = ACTIVE[b]
            for l in range(LANES):
                scale[l] = rows[j * SIZE + k, l] * rows[k * SIZE + k, l]
                rows[j * SIZE + k, l] = scale[l]
            for c in range(a + 1, len(ACTIVE)):
                m = ACTIVE[c]
                for l in range(LANES):
                    rows[j * SIZE + m, l] -= scale[l] * rows[k * SIZE + m, l]


{head}
def lane_solve(matrix, x):
    """What does not move is 0, and stays so."""
    rows, now = matrix.reshape((SIZE * SIZE, LANES)), x.reshape((SIZE, LANES))
    for a in range(len(ACTIVE)):
        for b in range(a):
            for l in range(LANES):
                now[ACTIVE[a], l] -= rows[ACTIVE[a] * SIZE + ACTIVE[b], l] * now[ACTIVE[b], l]
    for a in range(len(ACTIVE) - 1, -1, -1):
        k = ACTIVE[a]
        for b in range(a + 1, len(ACTIVE)):
            for l in range(LANES):
                now[k, l] -= rows[k * SIZE + ACTIVE[b], l] * now[ACTIVE[b], l]
        for l in range(LANES):
            now[k, l] *= rows[k * SIZE + k, l]
'''


def _elimination(n: int, head: str) -> list[str]:
    """LU decomposition and solution for every lane, written out; no pivoting, reciprocal pivots.

    A step short enough for its error is short enough for 1/(hγ) − J to be diagonally safe: an
    attempt that is not gives an error that is large or not a number, and is rejected.
    """
    inside = "        "
    load = [
        f"{inside}m{i}{j} = -jacobian[{i * n + j} * LANES + l]" for i in range(n) for j in range(n)
    ]
    factor = [
        head,
        "def lane_factor(jacobian, inverse, matrix):",
        "    for l in range(LANES):",
        *load,
    ]
    factor += [f"{inside}m{i}{i} += inverse[l] * {1.0 / tableau.GAMMA!r}" for i in range(n)]
    for k in range(n):
        factor.append(f"{inside}m{k}{k} = 1.0 / m{k}{k}")
        for i in range(k + 1, n):
            factor.append(f"{inside}m{i}{k} *= m{k}{k}")
            factor += [f"{inside}m{i}{j} -= m{i}{k} * m{k}{j}" for j in range(k + 1, n)]
    factor += [
        f"{inside}matrix[{i * n + j} * LANES + l] = m{i}{j}" for i in range(n) for j in range(n)
    ]
    entry = "matrix[{} * LANES + l]"
    solve = [head, "def lane_solve(matrix, x):", "    for l in range(LANES):"]
    solve += [f"{inside}x{k} = x[{k} * LANES + l]" for k in range(n)]
    for k in range(n):
        solve += [f"{inside}x{k} -= {entry.format(k * n + j)} * x{j}" for j in range(k)]
    for k in reversed(range(n)):
        solve += [f"{inside}x{k} -= {entry.format(k * n + j)} * x{j}" for j in range(k + 1, n)]
        solve.append(f"{inside}x{k} *= {entry.format(k * n + k)}")
    solve += [f"{inside}x[{k} * LANES + l] = x{k}" for k in range(n)]
    return [*factor, "", "", *solve]


_IN_CHART = '''\
_values_of_z = values


{lean}
def values(y, par, out):
    """Loss and observables of the state that y stands for, and behind them that state."""
    _outward(y, par, out[{n_values}:])
    _values_of_z(out[{n_values}:], par, out[:{n_values}])


{inline}
def rate_into(y, par, out, rate):
    """dy/dt into `rate`; into `out` what `values` gives."""
    values(y, par, out)
    _chart_rate(y, par, rate)


{inline}
def jacobian_into(y, par, matrix):
    """∂(dy/dt)/∂y into `matrix`."""
    _chart_slopes(y, par, matrix)
'''


def in_chart(n_values: int) -> str:
    """`interface`'s functions of a chart's y, in the place of those of z."""
    return _IN_CHART.format(lean=LEAN, inline=INLINE, n_values=n_values)


def _template(name: str) -> str:
    """The part of a module that goes into generated ones."""
    file = Path(__file__).with_name(name.rpartition(".")[2] + ".py")
    _, mark, text = file.read_text().partition(_MARK)
    assert mark
    return text


def module_source(
    system: str, size: int, n_values: int, lanes: str = "", parameters: int = 0, chart: str = ""
) -> str:
    """The integrator's module from the source of a system's module.

    Parameters
    ----------
    system : str
        Source of the system's generated module.
    size, n_values, parameters : int
        How many coordinates, values (the loss and the observables) and named parameters.
    lanes : str
        Source of its lane functions, if there are any.
    chart : str
        What takes the place of its functions, if the integrator works in a chart.
    """
    head = [
        "import math",
        "from numpy.polynomial import chebyshev",
        f"SIZE, VALUES, PARAMETERS, GAMMA = {size}, {n_values}, {parameters}, {tableau.GAMMA!r}",
        f"LANES = {32 if size <= WRITTEN_OUT else 16}",
    ]
    parts = [system, chart, *head, "", stage_source(), *map(_template, SCALAR)]
    if lanes:
        parts += [_LANE_IMPORTS, _template(LANES), lanes, lane_stage_source(size)]
    return "\n".join(parts)
