"""Lowering dense programs: the mean over a bank of data, draw by draw.

The modules offer the same functions as every other (`module`). ``par`` holds N, q
(0: the mean over all queries), the number of draws, and then draw after draw the Gram matrices of
the program's spaces: count × count numbers, and for complex ones as many imaginary parts.

Every stage becomes a loop over rows or pairs of rows; neighbouring stages share a loop where none
needs another's finished sum. Sums are reassociated (``fastmath``) so that they use vector
instructions: results are reproducible to rounding on one machine, not bitwise between machines.
"""

from collections.abc import Sequence
from dataclasses import replace

import sympy as sp

from derivations.core.dense import (
    CAUSAL,
    ROWS,
    ColumnSum,
    Dense,
    Each,
    RowSum,
    Softmax,
    Space,
    Stage,
    Table,
    Total,
    at,
    cell,
    gradient,
    prune,
    tangent,
)
from derivations.core.derivation import Derivation
from derivations.core.staged import i
from reduced_dynamics.compilation.decorators import decorator
from reduced_dynamics.compilation.lowered import Lowered
from reduced_dynamics.compilation.printing import shown
from reduced_dynamics.compilation.statements import indent

_DECORATOR = decorator(allocates=True, fastmath="'reassoc', 'contract'")


def lower(derivation: Derivation) -> Lowered:
    """The functions of a derivation with one dense program."""
    ((_, program),) = derivation.variants
    program = prune(program)
    coordinates = program.coordinates
    names = ["loss", *derivation.observables]
    slopes = [f"d_{c}" for c in coordinates]
    with_gradient = gradient(program)
    live = program.used_coordinates()
    directions = {c: sp.Symbol(f"v_{c}", real=True) for c in live}
    along = tangent(with_gradient, directions, {d: f"h{d}" for d in slopes})
    functions = [
        _tables(program),
        _bank("_values", "out", program, _accumulate(program, names)),
        _bank("_gradient", "out", with_gradient, _accumulate(with_gradient, names + slopes)),
        _bank("_hessian", "matrix", along, _hessian(along, with_gradient, directions)),
    ]
    return Lowered(
        functions,
        more_parameters=", then for every draw the Gram matrices of "
        + ", ".join(space.name for space in program.spaces),
    )


def _integer(expr: sp.Expr) -> str:
    return str(sp.expand(expr))


# ---------------------------------------------------------------- data


def _tables(program: Dense) -> str:
    """The function that lays out one draw's inner products over the rows of a sequence."""
    names = ", ".join(t.name for t in program.tables)
    lines = [f"rows = {_integer(program.rows)}", "place = np.empty(rows, np.int64)"]
    lines += ["phase = np.empty(rows, np.complex128)"]
    for space in program.spaces:
        lines += _space(space, [t for t in program.tables if t.space.name == space.name], program)
    doc = '"""The rows\' inner products, query on pair q, from the Gram matrices at `start`."""'
    head = [_DECORATOR, f"def _tables(par, start, N, q, {names}):"]
    return "\n".join([*head, *indent([doc, *lines])]) + "\n"


def _space(space: Space, tables: Sequence[Table], program: Dense) -> list[str]:
    """Statements that fill the tables of one space, and move `start` past its data."""
    lines = [f"# {space.name}: the Gram matrix of {space.count} vectors"]
    lines += [f"size = {_integer(space.count)}"]
    for kind, row in program.layout.items():
        fill = [f"place[{_integer(row)}] = {_integer(space.place[kind])}"]
        if space.hermitian:
            fill.append(f"phase[{_integer(row)}] = {complex(space.phase[kind])}")
        per_pair = i in row.free_symbols
        lines += ["for i in range(N):", *indent(fill)] if per_pair else fill
    x, y = sp.symbols("x y", real=True)
    if space.hermitian:
        read = [
            "at = start + place[r] * size + place[s]",
            "turned = phase[r].conjugate() * phase[s] * complex(par[at], par[at + size * size])",
            "x, y = turned.real, turned.imag",
        ]
        value = x + sp.I * y
    else:
        read, value = ["x = par[start + place[r] * size + place[s]]"], x
    read += [f"{t.name}[r, s] = {shown(sp.re(sp.expand(t.unit * value)))}" for t in tables]
    lines += ["for r in range(rows):", "    for s in range(rows):", *indent(read, 2)]
    return [*lines, f"start += {'2 * ' if space.hermitian else ''}size * size"]


def _bank(name: str, target: str, program: Dense, body: Sequence[str]) -> str:
    """A function that runs `body` for every draw and query; it adds to `target`, times `share`."""
    tables = [t.name for t in program.tables]
    size = sp.Add(*((1 + space.hermitian) * space.count**2 for space in program.spaces))
    vectors = [*program.marks] + [s.name for s in program.stages if _shape(s) == 1]
    matrices = [s.name for s in program.stages if _shape(s) == 2]
    marks = [
        line
        for m, row in program.marks.items()
        for line in (f"at_{m} = {_integer(row)}", f"{m}[:] = 0.0", f"{m}[at_{m}] = 1.0")
    ]
    used = program.used_coordinates()
    lines = [f"{c} = z[{k}]" for k, c in enumerate(program.coordinates) if c in used]
    lines += [
        "N, bank = int(par[0]), int(par[2])",
        f"rows = {_integer(program.rows)}",
        f"seen = rows{'' if program.self_attention else ' - 1'}",
        *(f"{m} = np.zeros((rows, rows))" for m in [*tables, *matrices]),
        *(f"{v} = np.zeros(rows)" for v in vectors),
        "first, last = (int(par[1]), int(par[1])) if par[1] > 0.0 else (1, N)",
        "share = 1.0 / (bank * (last - first + 1))",
        f"{target}[:] = 0.0",
        "for draw in range(bank):",
        f"    start = 3 + draw * ({_integer(size)})",
        "    for q in range(first, last + 1):",
        f"        _tables(par, start, N, q, {', '.join(tables)})",
        *indent([*marks, *body], 2),
    ]
    return "\n".join([_DECORATOR, f"def {name}(z, par, {target}):", *indent(lines)]) + "\n"


def _accumulate(program: Dense, names: Sequence[str]) -> list[str]:
    outputs = [program.outputs[n] for n in names]
    lines = _lower(program.stages, program)
    lines += [f"out[{k}] += share * {_factor(e)}" for k, e in enumerate(outputs) if e != 0]
    return lines


def _hessian(along: Dense, with_gradient: Dense, directions) -> list[str]:
    """What does not depend on the direction once, then every direction's second derivatives."""
    fixed = [s for s in along.stages if s in with_gradient.stages]
    moving = [s for s in along.stages if s not in with_gradient.stages]
    coordinates = along.coordinates
    indices = "".join(f"{coordinates.index(c)}, " for c in directions).strip()
    inner = [f"{v} = 1.0 if k == {coordinates.index(c)} else 0.0" for c, v in directions.items()]
    inner += _lower(moving, along)
    for k, c in enumerate(coordinates):
        second = along.outputs[f"hd_{c}"]
        if second != 0:
            inner.append(f"matrix[k, {k}] -= share * {_factor(second)}")
    comment = "  # the other coordinates never appear" if len(directions) < len(coordinates) else ""
    return [*_lower(fixed, along), f"for k in ({indices}):{comment}", *indent(inner)]


def _factor(expr: sp.Expr) -> str:
    return f"({shown(expr)})" if expr.is_Add else shown(expr)


# ---------------------------------------------------------------- stages


def _shape(stage: Stage) -> int:
    """0 for a number, 1 for a vector, 2 for a matrix."""
    match stage:
        case Total():
            return 0
        case Each() | Softmax() if stage.domain == CAUSAL:
            return 2
    return 1


def _lower(stages: Sequence[Stage], program: Dense) -> list[str]:
    """Loops that compute the stages, in order."""
    lines: list[str] = []
    group: list[Stage] = []
    key = None
    for stage in stages:
        if isinstance(stage, Softmax):
            lines += _loop(key, group) + _softmax(stage, program)
            group, key = [], None
            continue
        stage, found = _ranges(stage, program)
        if found != key or not _fits(stage, group):
            lines += _loop(key, group)
            group, key = [], found
        group.append(stage)
    return lines + _loop(key, group)


def _fits(stage: Stage, group: Sequence[Stage]) -> bool:
    """Whether a stage can be computed in one loop with the group before it: only cells that the
    loop has just written may be read, not sums nor a vector at another row."""
    read = {cell(s) for s in stage.expr.free_symbols}
    done = {(s.name, "r, s" if _shape(s) == 2 else "r") for s in group if isinstance(s, Each)}
    return not any(name == s.name for name, index in read - done for s in group)


def _ranges(stage: Stage, program: Dense) -> tuple[Stage, tuple]:
    """A marked row or column needs no loop: the stage without the mark, and its loops' ranges."""
    marked = dict.fromkeys("rs")
    if not isinstance(stage, Each | RowSum) and stage.domain != ROWS:
        for factor in sp.Mul.make_args(stage.expr):
            name, index = cell(factor)
            if name in program.marks and marked[index] is None:
                marked[index] = name
                stage = replace(stage, expr=stage.expr / factor)
    seen = {CAUSAL: "r + 1" if program.self_attention else "r"}.get(stage.domain, "rows")
    ranges = [
        f"range(at_{mark}, at_{mark} + 1)" if mark else f"range({end})"
        for mark, end in ((marked["r"], "rows"), (marked["s"], seen))
    ]
    return stage, (stage.domain, *ranges)


def _loop(key: tuple | None, group: Sequence[Stage]) -> list[str]:
    """One loop over rows, or nest of loops over pairs, for a group of stages."""
    if not group:
        return []
    domain, over_rows, over_columns = key
    before = [f"{s.name} = 0.0" for s in group if isinstance(s, Total)]
    before += [f"{s.name}[:] = 0.0" for s in group if isinstance(s, ColumnSum)]
    if domain == ROWS:
        return [*before, f"for r in {over_rows}:", *indent([_statement(s, s.expr) for s in group])]
    # What is the same all along a row is read once.
    cells = sorted({s for stage in group for s in stage.expr.free_symbols}, key=str)
    fixed = {s: sp.Symbol(f"{cell(s)[0]}_r", real=True) for s in cells if cell(s)[1] == "r"}
    start = [f"{local} = {s}" for s, local in fixed.items()]
    start += [f"sum_{s.name} = 0.0" for s in group if isinstance(s, RowSum)]
    end = [f"{s.name}[r] = sum_{s.name}" for s in group if isinstance(s, RowSum)]
    inner = [_statement(s, s.expr.xreplace(fixed)) for s in group]
    nest = [*start, f"for s in {over_columns}:", *indent(inner), *end]
    return [*before, f"for r in {over_rows}:", *indent(nest)]


def _statement(stage: Stage, expr: sp.Expr) -> str:
    match stage:
        case Total():
            return f"{stage.name} += {shown(expr)}"
        case RowSum():
            return f"sum_{stage.name} += {shown(expr)}"
        case ColumnSum():
            return f"{at(stage.name, 's')} += {shown(expr)}"
    index = "r, s" if stage.domain == CAUSAL else "r"
    return f"{at(stage.name, index)} = {shown(expr)}"


def _softmax(stage: Stage, program: Dense) -> list[str]:
    """A softmax shifted by its largest score, so that no exponential overflows."""
    causal = stage.domain == CAUSAL
    end = ("r + 1" if program.self_attention else "r") if causal else "seen"
    over, target = ("s", at(stage.name, "r, s")) if causal else ("r", at(stage.name))
    lines = [
        "top = -math.inf",
        f"for {over} in range({end}):",
        f"    top = max(top, {stage.expr})",
        "total = 0.0",
        f"for {over} in range({end}):",
        f"    {target} = math.exp({stage.expr} - top)",
        f"    total += {target}",
        "total = 1.0 / total",
        f"for {over} in range({end}):",
        f"    {target} *= total",
    ]
    if not causal:
        return lines
    # Without self-attention the first row sees nothing.
    return [f"for r in range({0 if program.self_attention else 1}, rows):", *indent(lines)]
