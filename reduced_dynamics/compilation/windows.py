"""Lowering programs over windows: loops over states, samples innermost.

The modules offer the same functions as every other (`module`). ``par`` holds the
named parameters, the number of blocks, and then block after block the tables of `LANES` samples,
each with the sample as its last index. A block's samples go through every loop together, so that
they share vector instructions; what does not depend on a sample is computed once, before or after.

Stages over the same places share a loop where none needs another's finished sum. Sums are
reassociated (``fastmath``): results are reproducible to rounding on one machine, not bitwise
between machines. The Hessian is taken by central differences of the derived gradient: only the
Newton iteration of implicit methods uses it, whose result does not depend on it, and the products
with a direction would cost as much.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sympy as sp

from derivations.core.derivation import Derivation
from derivations.core.windows import (
    BANK,
    SAME,
    Exponential,
    Stage,
    Windows,
    at,
    cell,
    cells,
    gradient,
    prune,
)
from reduced_dynamics.compilation.decorators import PLAIN, decorator
from reduced_dynamics.compilation.exponential import LANES
from reduced_dynamics.compilation.lowered import Lowered
from reduced_dynamics.compilation.printing import EXP, computed, numbered, shown, source
from reduced_dynamics.compilation.statements import Assign, indent, lines, name, names, replaced

_DECORATOR = decorator(allocates=True, fastmath="'reassoc', 'contract'")

#: Of so many states at most, the innermost loop over states is written out within that over
#: samples: what it does not change is read once, and what it sums stays in a register.
UNROLLED = 4

#: When a stage is computed: before the samples, for a block of them, after all of them.
BEFORE, BLOCK, AFTER = range(3)


def block_size(program: Windows) -> int:
    """Numbers in ``par`` that a block of samples takes."""
    return sum(program.states ** (len(i) - 1) for i in program.data.values()) * LANES


def lower(derivation: Derivation) -> Lowered:
    """The functions of a derivation with one program over windows."""
    ((_, program),) = derivation.variants
    names = ["loss", *derivation.observables]
    slopes = [f"d_{c}" for c in program.coordinates]
    with_gradient = gradient(program)
    functions = [
        _Function("_values", prune(program), names).source(),
        _Function("_gradient", with_gradient, names + slopes).source(),
        _HESSIAN.format(
            head=PLAIN, n=len(slopes), n_values=len(names), total=len(names) + len(slopes)
        ),
    ]
    return Lowered(
        functions,
        more_parameters=", the number of blocks, then for every block of "
        f"{LANES} samples the tables {', '.join(program.data)}",
        imports="\nfrom reduced_dynamics.compilation.exponential import exponential\n",
    )


_HESSIAN = '''\
{head}
def _hessian(z, par, matrix):
    """Subtracts the Hessian, by central differences of the gradient."""
    ahead, behind, moved = np.empty({total}), np.empty({total}), z.copy()
    for k in range({n}):
        step = 1e-5 * max(1.0, abs(z[k]))
        moved[k] = z[k] + step
        _gradient(moved, par, ahead)
        moved[k] = z[k] - step
        _gradient(moved, par, behind)
        moved[k] = z[k]
        for j in range({n}):
            matrix[j, k] -= (ahead[{n_values} + j] - behind[{n_values} + j]) / (2.0 * step)
'''


@dataclass
class _Nest:
    """Stages that share their loops."""

    phase: int
    domain: tuple[str, ...]
    stages: list[Stage] = field(default_factory=list)


class _Function:
    """Lowers one program to one function."""

    def __init__(self, name: str, program: Windows, outputs: Sequence[str]):
        self.name, self.program = name, program
        self.outputs = [program.outputs[o] for o in outputs]
        self.made = {s.name: s for s in program.stages}
        self.home: dict[str, int] = {}
        self.phases: dict[str, int] = {}
        self.nests: list[_Nest] = []
        for stage in program.stages:
            self._place(stage)
        self.kept = self._kept()

    # ------------------------------------------------------------ scheduling

    def _phase(self, stage: Stage) -> int:
        if BANK in stage.domain:
            return BLOCK
        reads = [self.made[r] for r in stage.reads() if r in self.made]
        late = any(BANK in r.over or self.phases[r.name] == AFTER for r in reads)
        return AFTER if late else BEFORE

    def _place(self, stage: Stage) -> None:
        """Put a stage into the first nest with its loops in which all that it reads is known."""
        phase = self.phases[stage.name] = self._phase(stage)
        ready = 0
        for symbol in _reads(stage):
            name, places = cell(symbol)
            if name not in self.home:
                continue
            read = self.made[name]
            inside = not read.over and places == read.indices and read.domain == stage.domain
            ready = max(ready, self.home[name] + (not inside))
        for k, nest in enumerate(self.nests[ready:], start=ready):
            if nest.domain == stage.domain and nest.phase == phase:
                nest.stages.append(stage)
                self.home[stage.name] = k
                return
        self.nests.append(_Nest(phase, stage.domain, [stage]))
        self.home[stage.name] = len(self.nests) - 1

    def _kept(self) -> set[str]:
        """What needs room of its own: sums, and what is read outside the nest that computes it."""
        kept = {s.name for s in self.program.stages if s.over}
        for k, nest in enumerate(self.nests):
            for stage in nest.stages:
                kept |= {r for r in stage.reads() if self.home.get(r, k) != k}
        return kept | {cell(s)[0] for e in self.outputs for s in cells(e)}

    # ------------------------------------------------------------ source

    def source(self) -> str:
        program = self.program
        used = set().union(*(s.reads() for s in program.stages))
        used |= {cell(s)[0] for e in self.outputs for s in cells(e)}
        made = [f"{c} = z[{k}]" for k, c in enumerate(program.coordinates) if str(c) in used]
        made += [f"{p} = par[{k}]" for k, p in enumerate(program.parameters) if str(p) in used]
        made += self._room()
        for phase in (BEFORE, BLOCK, AFTER):
            body = [line for nest in self.nests if nest.phase == phase for line in self._emit(nest)]
            if phase == BLOCK:
                head = len(program.parameters)
                made.append(f"for block in range(int(par[{head}])):")
                body = [
                    f"start = {head + 1} + block * {block_size(program)}",
                    *self._tables(used),
                    *body,
                ]
                made += indent(body)
            else:
                made += body
        made += [f"out[{k}] = {shown(e)}" for k, e in enumerate(self.outputs)]
        return "\n".join([_DECORATOR, f"def {self.name}(z, par, out):", *indent(made)]) + "\n"

    def _shape(self, indices: Sequence[str]) -> str:
        sizes = [str(LANES if p == BANK else self.program.states) for p in indices]
        return f"({', '.join(sizes)},)"

    def _room(self) -> list[str]:
        """Arrays for what outlives its nest; sums over the bank start at 0."""
        made = []
        for stage in self.program.stages:
            if stage.name not in self.kept:
                continue
            if stage.indices:
                make = "zeros" if BANK in stage.over else "empty"
                made.append(f"{stage.name} = np.{make}({self._shape(stage.indices)})")
            elif BANK in stage.over:
                made.append(f"{stage.name} = 0.0")
        return made

    def _tables(self, used: set[str]) -> list[str]:
        made, offset = [], 0
        for table, indices in self.program.data.items():
            size = self.program.states ** (len(indices) - 1) * LANES
            if table in used:
                part = f"par[start + {offset} : start + {offset + size}]"
                shape = f".reshape({self._shape(indices)})" if len(indices) > 1 else ""
                made.append(f"{table} = {part}{shape}")
            offset += size
        return made

    def _emit(self, nest: _Nest) -> list[str]:
        """The loops of a nest. What is read more than once is read into a name first."""
        states = [p for p in nest.domain if p != BANK]
        lanes = BANK in nest.domain
        start = []
        for stage in nest.stages:
            if stage.over and not (BANK in stage.over and lanes):
                start.append(f"{stage.name}{'[:]' if stage.indices else ''} = 0.0")
        inside = {s.name for s in nest.stages if not s.over}
        local: dict[sp.Symbol, sp.Symbol] = {}
        outer, inner = [], []
        for symbol in sorted({c for s in nest.stages for c in _reads(s)}, key=str):
            read, places = cell(symbol)
            if not places or (read in inside and self.made[read].indices == places):
                if places:
                    local[symbol] = sp.Symbol(f"{read}_", real=True)
                continue
            local[symbol] = sp.Symbol("_".join([read, *places]), real=True)
            same = f"1.0 if {name(places[0])} == {name(places[-1])} else 0.0"
            value = same if read == SAME else name(symbol)
            (inner if BANK in places else outer).append(Assign(str(local[symbol]), value))
        made = self._statements(nest, local)
        words = replaced({"math.exp": "exponential"} if lanes else {})
        if lanes and states and self.program.states <= UNROLLED:
            body = self._unrolled(nest, states.pop(), outer + inner, made, words)
            body = _over_lanes(body)
        elif lanes:
            body = [*lines(outer, words), *_over_lanes(lines(inner + made, words))]
        else:
            body = [*lines(outer + inner + made, words)]
        for place in reversed(states):
            body = [f"for {place} in range({self.program.states}):", *indent(body)]
        return [*start, *body]

    def _unrolled(self, nest: _Nest, place: str, reads, made, words) -> list[str]:
        """The statements once for every state at `place`, sums in names of their own."""
        sums = {
            str(s.cell): f"{s.name}_sum" for s in nest.stages if s.over and place not in s.indices
        }
        once = [a for a in reads if not _stands(place, a)]
        once += [Assign(total, "0.0") for total in sums.values()]
        repeated = [a for a in reads if _stands(place, a)]
        repeated += [
            replace(a, target=sums.get(a.target, a.target)) if a.sign == "+=" else a for a in made
        ]
        body = [*lines(once, words)]
        for state in range(self.program.states):

            def here(n: str, state=str(state)) -> str:
                read, places = cell(n)
                if n == place:
                    return state
                return words(str(at(read, *(state if p == place else p for p in places))))

            body += lines(repeated, here)
        return body + [f"{target} += {total}" for target, total in sums.items()]

    def _statements(self, nest: _Nest, local: Mapping) -> list[Assign]:
        targets: list[tuple[Stage, sp.Expr]] = []
        for stage in nest.stages:
            targets.append((stage, stage.expr.xreplace(local)))
            if isinstance(stage, Exponential):
                targets.append((stage, stage.weight.xreplace(local)))
        made: list[Assign] = []
        power = ""
        for target, expr in computed(targets, numbered(0)):
            value = source(expr)
            if isinstance(target, str):
                made.append(Assign(target, value))
                continue
            if isinstance(target, Exponential):
                if not power:  # its weight comes next
                    power = f"{EXP}({value})"
                    continue
                value, power = power if expr == 1 else f"{value} * {power}", ""
            if target.over:
                made.append(Assign(str(target.cell), value, "+="))
            elif not target.indices:
                made.append(Assign(str(target.cell), value))
            else:
                made.append(Assign(f"{target.name}_", value))
                if target.name in self.kept:
                    made.append(Assign(str(target.cell), name(f"{target.name}_")))
        return made


def _over_lanes(body: Iterable[str]) -> list[str]:
    return [f"for {BANK} in range({LANES}):", *indent(body)]


def _stands(place: str, assign: Assign) -> bool:
    """Whether what a statement reads depends on a place."""
    return any(place == n or place in cell(n)[1] for n in names(assign.value))


def _reads(stage: Stage) -> list[sp.Symbol]:
    extra = cells(stage.weight) if isinstance(stage, Exponential) else []
    return [*cells(stage.expr), *extra]
