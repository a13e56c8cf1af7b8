"""Lowering staged programs: variants for different parameters, means over queries, Hessians."""

from collections.abc import Sequence

import sympy as sp

from derivations.core.derivation import Derivation
from derivations.core.differentiate import gradient, hessian, tangent
from derivations.core.staged import N, Program
from reduced_dynamics.compilation.decorators import PLAIN, decorator
from reduced_dynamics.compilation.functions import (
    WHOLE_HESSIAN,
    function_of,
    function_source,
    square_cells,
)
from reduced_dynamics.compilation.lowered import Lowered
from reduced_dynamics.compilation.statements import indent
from reduced_dynamics.compilation.wide import LANE, Wide


def lower(derivation: Derivation) -> Lowered:
    """The functions of a derivation whose variants are staged programs."""
    coordinates, parameters = derivation.coordinates, derivation.parameters
    n, n_values = len(coordinates), 1 + len(derivation.observables)
    live = sorted(
        {c for _, p in derivation.variants for c in p.used_coordinates()}, key=coordinates.index
    )
    functions = []
    for k, (_, program) in enumerate(derivation.variants):
        value = [program.outputs[name] for name in ("loss", *derivation.observables)]
        functions.append(function_source(f"_values_{k}", program, value, parameters))
        with_gradient = gradient(program)
        slopes = [with_gradient.outputs[f"d_{c}"] for c in coordinates]
        functions.append(
            function_source(f"_gradient_{k}", with_gradient, value + slopes, parameters)
        )
        if n <= WHOLE_HESSIAN:
            second = hessian(program)
            entries = [-second.outputs[f"d_{a}_{b}"] for a in coordinates for b in coordinates]
            places = square_cells(n)
            functions.append(
                function_source(f"_hessian_{k}", second, entries, parameters, cells=places)
            )
        elif live:
            functions.append(_columns(f"_hessian_{k}", with_gradient, live, parameters))

    def dispatched(what: str, shape: Sequence[int], target: str = "out") -> list[str]:
        call = f"_{what}_{{k}}(z, {{par}}, {{out}})"
        choice, *mean = _dispatch(derivation, call, f"_mean_{what}", shape, target)
        functions.extend(mean)
        return choice

    if n <= WHOLE_HESSIAN:
        of_hessian = dispatched("hessian", (n, n), "matrix")
    elif not live:
        of_hessian = ["matrix[:] = 0.0  # no coordinate appears in the loss"]
    else:
        places = "".join(f"{coordinates.index(c)}, " for c in live).strip()
        count, width = len(live), _width(len(live))
        of_hessian = [
            "matrix[:] = 0.0",
            f"flat = np.empty({count * width})",
            *dispatched("hessian", (count * width,), "flat"),
            f"places = ({places})  # the other coordinates never appear",
            f"for j in range({count}):",
            f"    for k in range({count}):",
            f"        matrix[places[j], places[k]] = -flat[j * {width} + k]",
        ]
    of_values = dispatched("values", (n_values,))
    of_gradient = dispatched("gradient", (n_values + n,))
    return Lowered(functions, *map("\n    ".join, (of_values, of_gradient, of_hessian)))


def _width(columns: int) -> int:
    """Lanes for so many columns: whole vector registers of four numbers."""
    return -(-columns // 4) * 4


def _columns(
    name: str, with_gradient: Program, live: Sequence[sp.Symbol], parameters: Sequence[sp.Symbol]
) -> str:
    """The Hessian of the coordinates `live`, all columns in one pass: one column a lane."""
    width = _width(len(live))
    direction = {c: sp.Symbol(f"v_{c}", real=True) for c in live}
    along = tangent(with_gradient, direction, {f"d_{c}": f"h_{c}" for c in live})
    inputs = {f"v_{c}": f"1.0 * ({LANE} == {k})" for k, c in enumerate(live)}
    places = [f"out[{k * width} + {LANE}]" for k in range(len(live))]
    entries = [along.outputs[f"h_{c}"] for c in live]
    lowered = Wide(along, entries, inputs, places, str(width))
    head = decorator(allocates=True, fastmath="'contract'")
    return function_of(name, lowered, parameters, head=head)


def _dispatch(
    derivation: Derivation, call: str, mean: str, shape: Sequence[int], target: str
) -> tuple[list[str], ...]:
    """Statements that choose the variant, and a function of the mean over queries if needed.

    Parameters
    ----------
    call : str
        A statement with placeholders {k} (variant), {par} and {out}.
    mean : str
        Name of the function of (z, par, out) that averages where the query is given as 0.
    shape : sequence of int
        Of what is filled.
    target : str
        Its name where the statements stand.
    """
    names = list(map(str, derivation.parameters))

    def choose(par: str, out: str) -> list[str]:
        lines: list[str] = []
        for k, (condition, _) in enumerate(derivation.variants):
            statement = call.format(k=k, par=par, out=out)
            if condition is None:
                lines += ["else:", f"    {statement}"] if lines else [statement]
            else:
                places = {s: f"{par}[{j}]" for j, s in enumerate(names)}
                word = "elif" if lines else "if"
                lines += [f"{word} {condition.format(**places)}:", f"    {statement}"]
        return lines

    if derivation.average is None:
        return (choose("par", target),)
    k, over = names.index(str(derivation.average)), names.index(str(N))
    lines = [f"if par[{k}] > 0.0:", *indent(choose("par", target))]
    lines += ["else:", f"    {mean}(z, par, {target})"]
    indices = "jk"[: len(shape)]
    cell = ", ".join(indices)
    add = [f"out[{cell}] += part[{cell}] / par[{over}]"]
    for index, count in reversed([*zip(indices, shape, strict=True)]):
        add = [f"for {index} in range({count}):", *indent(add)]
    average = [
        PLAIN,
        f"def {mean}(z, par, out):",
        '    """The mean over all queries."""',
        "    single = par.copy()",
        f"    part = np.empty({tuple(shape)})",
        "    out[:] = 0.0",
        f"    for query in range(1, int(par[{over}]) + 1):",
        f"        single[{k}] = query",
        *indent([*choose("single", "part"), *add], 2),
    ]
    return lines, "\n".join(average) + "\n"
