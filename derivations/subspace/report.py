"""What is said of an invariant subspace: how it was computed, and its weights block by block."""

import re
from collections.abc import Iterator
from itertools import product
from math import lcm

from derivations.core.latex import symbol_tex
from derivations.core.report import Equation
from derivations.subspace.commutant import dot, invariant_maps, residual, symmetry
from derivations.subspace.coordinates import count
from derivations.subspace.spaces import Architecture, Task, labels


def steps(task: Task, architecture: Architecture, D: int | None = None) -> Iterator[str]:
    """The computation, line by line."""
    D = D or task.dimension
    larger = D + lcm(*(space.period for space in task.spaces))
    yield f"Symmetry: the orthogonal maps that commute with the structure maps, exactly at D = {D}"
    for space in task.spaces:
        fixed = ", ".join(name for name, _ in space.structure_maps) or "none"
        lie, reflections = map(len, symmetry(space, D))
        yield (
            f"  {space.name}: structure maps {fixed}; dimension of the Lie algebra {lie}, "
            f"of the span of the reflections {reflections}"
        )
    yield "Invariant maps X, g X = X g for every symmetry g"
    for r, c in product(task.spaces, repeat=2):
        maps = invariant_maps(r, c, D)
        span = f", spanned by {', '.join(m.name for m in maps)}" if maps else ""
        yield f"  from {c.name} to {r.name}: dimension {len(maps)}{span}"
    result = count(task, architecture, D)
    for weight, rows, columns in result.weights:
        left, top = labels(rows), labels(columns)
        width = max(map(len, left + top)) + 1
        yield f"{weight}: dimension of every block"
        for line in zip(["", *left], [top, *result.dimensions[weight]], strict=True):
            yield "  " + "".join(f"{cell:>{width}}" for cell in [line[0], *line[1]])
        for k in result.coordinates:
            if k.weight == weight:
                yield f"  {k.name}: block ({left[k.row]}, {top[k.column]}), {k.map.name}"
    yield f"Count: {' + '.join(map(str, result.totals.values()))} = {result.total}"
    again = "same" if count(task, architecture, larger) == result else "different"
    yield f"  at D = {larger}: {again}"
    found = {(k.space, k.map): (k.space, k.matrix(D)) for k in result.coordinates}.values()
    pairs = [(x, y) for (s, x), (r, y) in product(found, repeat=2) if s == r]
    yield f"  largest entry of g X − X g: {max(residual(s, s, x) for s, x in found)}"
    overlap = max((abs(dot(x, y)) for x, y in pairs if x != y), default=0)
    yield f"  largest overlap of two different maps: {overlap}"
    norms = ", ".join(str(n) for n in sorted({dot(x, x) / D for _, x in found}))
    yield f"  squared Frobenius norm over D: {norms}"


def weight_equations(task: Task, architecture: Architecture) -> list[Equation]:
    """The weight matrices on the invariant subspace, block by block."""
    result = count(task, architecture)
    equations = []
    for weight, rows, columns in result.weights:
        blocks = [["0"] * len(columns) for _ in rows]
        for c in result.coordinates:
            if c.weight == weight:
                text = f"{symbol_tex(c.name)} {c.map.name}"
                known = blocks[c.row][c.column]
                blocks[c.row][c.column] = text if known == "0" else f"{known} + {text}"
        body = " \\\\\n".join(" & ".join(row) for row in blocks)
        name = re.sub(r"(\d)", r"_\1", weight)
        tex = rf"{name} = \begin{{pmatrix}} {body} \end{{pmatrix}}"
        of = " and ".join(
            f"{side} (${', '.join(labels(spaces))}$)"
            for side, spaces in (("rows", rows), ("columns", columns))
        )
        equations.append(Equation(weight, f"blocks of {name[0]}{name[2:]}, {of}", tex))
    return equations
