"""Functions over pairs for several values at once: an innermost loop that becomes vector code.

What differs from lane to lane (a *wide* value) is computed in a loop over the lanes that stands
inside the loop over pairs; what does not is computed once, before it. Lanes are the directions of
a derivative, which share all of the function itself (`pairs`), or trajectories,
which share the numbers of pairs only (`lanes`).

A wide value that outlives its stretch of code has a row in ``kept_``; one a pair stands in
``pairs_``, whose rows of one pair lie together. Compilers then see that rows do not overlap, which
vector code needs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sympy as sp

from derivations.core.staged import Program
from reduced_dynamics.compilation.loops import Loops, cells, rows
from reduced_dynamics.compilation.statements import (
    Assign,
    Block,
    Comment,
    Statement,
    indent,
    lines,
    name,
    names,
    text,
    used,
)

#: The lane's number, in the source of what differs from lane to lane.
LANE = name("lane_")


@dataclass
class _Stretch:
    """Assignments between the beginnings and ends of loops."""

    header: str = ""
    comments: list[Statement] = field(default_factory=list)
    assigned: list[Assign] = field(default_factory=list)


class Wide(Loops):
    """Lowers one program to a function of several lanes.

    Parameters
    ----------
    program, outputs
        As for a function of one.
    inputs : mapping of str to str
        Names that differ from lane to lane, and the source of their values in a lane (`LANE`).
    places : sequence of str
        Where a lane writes each of the outputs.
    width : str
        How many lanes, in source.
    together : bool
        Whether no score of a softmax over pairs differs from lane to lane.
    """

    def __init__(
        self,
        program: Program,
        outputs: Sequence[sp.Expr],
        inputs: Mapping[str, str],
        places: Sequence[str],
        width: str,
        together: bool = True,
    ):
        self.together = together
        super().__init__(program, outputs)
        self.inputs, self.width = dict(inputs), width
        self.places = dict(zip(cells(len(places)), places, strict=True))

    def lines(self, other: Mapping[str, str] = {}) -> tuple[list[str], set[str]]:
        made = self.statements()
        stretches = _stretches(made)
        wide = self._wide(stretches)
        pairs = sorted(self.stored & wide)
        kept = _outliving(stretches, wide - set(self.inputs) - set(pairs) - set(self.places))
        times = Counter(n for b in stretches for n in {s.target for s in b.assigned if not s.entry})
        outliving = {n for b in stretches for n in _read_first(b.assigned)}
        self.again = {n for n, k in times.items() if k > 1} - outliving
        room: list[Assign] = []
        if plain := sorted(self.stored - wide):
            room += rows(plain, self.count)
        if pairs:
            shape = f"({self.count}, {len(pairs)} * {self.width})"
            room.append(Assign("pairs_", f"np.empty({shape})"))
        if kept:
            room.append(Assign("kept_", f"np.empty({len(kept)} * {self.width})"))
        body = [*lines(room)]
        at_i = text(self.at_i) if self.stored else ""
        self.entries = {array: f"{array}[{at_i}]" for array in plain} | other
        self.entries |= {
            array: f"pairs_[{at_i}, {k} * {self.width} + {LANE}]" for k, array in enumerate(pairs)
        }
        row = {n: f"kept_[{k} * {self.width} + {LANE}]" for k, n in enumerate(kept)}
        for k, stretch in enumerate(stretches):
            body += lines(stretch.comments)
            inside = self._lower(stretch, wide, row, str(k))
            body += [text(stretch.header), *indent(inside)] if stretch.header else inside
        return body, used([*room, *made])

    def _wide(self, stretches: Sequence[_Stretch]) -> set[str]:
        """Every name whose value differs from lane to lane."""
        wide = {*self.inputs, *self.places}
        assigned = [s for b in stretches for s in b.assigned]
        while new := {s.target for s in assigned if s.reads & wide} - wide:
            wide |= new
        return wide

    def _lower(self, stretch: _Stretch, wide: set[str], row: Mapping[str, str], tag: str):
        """A stretch's lines: what is the same for all lanes, then the loop over lanes.

        Names that several stretches assign, each for itself, end in the stretch's number: numba's
        time grows with the square of how many names are assigned in several places.
        """
        several = [s for s in stretch.assigned if s.target in wide]
        single = [s for s in stretch.assigned if s.target not in wide]
        _check_order(stretch.assigned, wide)
        again = self.again | {"lane_"}
        if several:
            again |= row.keys() | set(self.inputs)

        def own(n: str) -> str:
            return f"{n}_{tag}" if n in again else n

        def standing(places: Mapping[str, str]) -> Callable[[str], str]:
            return lambda n: text(places[n], own) if n in places else own(n)

        made = [*lines(single, standing(self.entries))]
        if not several:
            return made
        # What comes from before is read where it stands; an input, where it is used once.
        here = {n: row[n] for n in _read_first(several) & row.keys()}
        reads = Counter(n for s in several for n in [s.target, *names(s.value)])
        once = {n: f"({value})" for n, value in self.inputs.items() if reads[n] == 1}
        first = [Assign(n, value) for n, value in self.inputs.items() if reads[n] > 1]
        computed = {s.target for s in several if not s.entry} - here.keys()
        last = [f"{text(row[n], own)} = {own(n)}" for n in row if n in computed]
        inner = lines([*first, *several], standing(self.entries | self.places | here | once))
        loop = [f"for {text(LANE, own)} in range({self.width}):", *indent([*inner, *last])]
        return [*made, *loop]


def _stretches(statements: Iterable[Statement]) -> list[_Stretch]:
    found = [_Stretch()]
    for statement in statements:
        match statement:
            case Comment():
                found.append(_Stretch(comments=[statement]))
            case Block(header, body):
                found.append(_Stretch(header, assigned=[*body]))
            case Assign():
                if found[-1].header:
                    found.append(_Stretch())
                found[-1].assigned.append(statement)
    return [b for b in found if b.assigned or b.comments]


def _read_first(assigned: Sequence[Assign]) -> set[str]:
    """Names that are read before they are assigned."""
    known: set[str] = set()
    result: set[str] = set()
    for s in assigned:
        result |= s.reads - known
        if not s.entry:
            known.add(s.target)
    return result


def _outliving(stretches: Sequence[_Stretch], among: set[str]) -> list[str]:
    """Those names that some stretch reads from before its beginning."""
    read = set().union(*(_read_first(b.assigned) for b in stretches))
    return sorted(read & among)


def _check_order(assigned: Sequence[Assign], wide: set[str]) -> None:
    """What is the same for all lanes may be computed first: nothing wide reads an older value.

    Raises
    ------
    ValueError
        If it does.
    """
    for k, s in enumerate(assigned):
        if s.target in wide:
            later = {t.target for t in assigned[k + 1 :] if t.target not in wide}
            if clash := later & s.reads:
                raise ValueError(f"{sorted(clash)} change after their use in '{s.text()}'")
