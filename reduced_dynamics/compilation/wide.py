"""Functions over pairs for several values at once: an innermost loop that becomes vector code.

What differs from lane to lane (a *wide* value) is computed in a loop over the lanes that stands
inside the loop over pairs; what does not is computed once, before it. Lanes are the directions of
a derivative, which share all of the function itself (`codegen`), or trajectories,
which share the numbers of pairs only (`reduced_dynamics.compilation.lanes`).

A wide value that outlives its stretch of code has a row in ``kept_``; one a pair stands in
``pairs_``, whose rows of one pair lie together. Compilers then see that rows do not overlap, which
vector code needs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sympy as sp

from derivations.core.staged import Program
from reduced_dynamics.compilation.codegen import _Function, _integer

_NAME = re.compile(r"[A-Za-z_]\w*")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\[.*\])? ([-+*/]?=) (.*)")


@dataclass
class _Statement:
    text: str
    target: str  # name of what is assigned, of the array where it is an entry
    index: str  # "" unless an entry
    reads: set[str]

    @classmethod
    def of(cls, text: str) -> _Statement:
        name, index, sign, value = _ASSIGNMENT.fullmatch(text).groups()
        reads = set(_NAME.findall(value)) | set(_NAME.findall(index or ""))
        return cls(text, name, index or "", reads | ({name} if sign != "=" else set()))


@dataclass
class _Block:
    """A stretch of code between the beginnings and ends of loops."""

    header: str = ""
    comments: list[str] = field(default_factory=list)
    statements: list[_Statement] = field(default_factory=list)


class Wide(_Function):
    """Lowers one program to a function of several lanes.

    Parameters
    ----------
    program, outputs
        As for a function of one.
    inputs : mapping of str to str
        Names that differ from lane to lane, and where a lane (``lane_``) reads them.
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
        super().__init__(program, outputs)
        self.together = together
        self.inputs, self.width = dict(inputs), width
        self.places = {f"out[{k}]": place for k, place in enumerate(places)}

    def _room(self) -> None:
        """Room is made when it is known what is wide."""

    def body(self) -> list[str]:
        blocks = _blocks(super().body())
        wide = self._wide(blocks)
        pairs = sorted(self.stored & wide)
        kept = _outliving(blocks, wide - set(self.inputs) - set(pairs) - {"out"})
        times = Counter(n for b in blocks for n in {s.target for s in b.statements if not s.index})
        outliving = {n for b in blocks for n in _read_first(b.statements)}
        self.again = {n for n, k in times.items() if k > 1} - outliving
        lines = []
        count = f"max({_integer(self.last - self.base + 1)}, 0)" if self.stored else ""
        if plain := sorted(self.stored - wide):
            lines.append(f"room_ = np.empty(({len(plain)}, {count}))")
            lines += [f"{name} = room_[{k}]" for k, name in enumerate(plain)]
        if pairs:
            lines.append(f"pairs_ = np.empty(({count}, {len(pairs)} * {self.width}))")
        if kept:
            lines.append(f"kept_ = np.empty({len(kept)} * {self.width})")
        for k, block in enumerate(blocks):
            lines += block.comments
            inside = self._lower(block, wide, pairs, kept, str(k))
            lines += [block.header, *_indent(inside)] if block.header else inside
        return _indent(lines)

    def _wide(self, blocks: Sequence[_Block]) -> set[str]:
        """Every name whose value differs from lane to lane."""
        wide = set(self.inputs) | {"out"}
        statements = [s for b in blocks for s in b.statements]
        while new := {s.target for s in statements if s.reads & wide} - wide:
            wide |= new
        return wide

    def _lower(self, block: _Block, wide, pairs, kept, tag: str) -> list[str]:
        """A block's lines: what is the same for all lanes, then the loop over lanes.

        Names that several blocks assign, each for itself, end in the block's number: numba's time
        grows with the square of how many names are assigned in several places.
        """
        several = [s for s in block.statements if s.target in wide]
        single = [s for s in block.statements if s.target not in wide]
        _check_order(block.statements, wide)
        again = self.again | {"lane_"}
        if several:
            again |= set(kept) | set(self.inputs)

        def own(line: str) -> str:
            return _NAME.sub(lambda m: m[0] + f"_{tag}" * (m[0] in again), line)

        lines = [own(s.text) for s in single]
        if not several:
            return lines
        assigned = {s.target for s in several if not s.index}
        row = {name: f"kept_[{k} * {self.width} + lane_]" for k, name in enumerate(kept)}
        # What comes from before is read where it stands; an input, where it is used once.
        here = {name: row[name] for name in _read_first(several) & row.keys()}
        inner, words = [], Counter(_NAME.findall(" ".join(s.text for s in several)))
        for name, source in self.inputs.items():
            if words[name] == 1:
                here[name] = f"({source})"
            elif words[name]:
                inner.append(f"{name} = {source}")
        for s in several:
            text = s.text
            for k, name in enumerate(pairs):
                place = rf"pairs_[\1, {k} * {self.width} + lane_]"
                text = re.sub(rf"\b{name}\[([^\]]*)\]", place, text)
            text = _NAME.sub(lambda m: here.get(m[0], m[0]), text)
            target, equals, value = text.partition(" = ")
            inner.append(self.places.get(target, target) + equals + value)
        inner += [f"{row[name]} = {name}" for name in kept if name in assigned - here.keys()]
        loop = [f"for lane_ in range({self.width}):", *_indent(inner)]
        return [*lines, *map(own, loop)]


def _indent(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]


def _blocks(lines: Sequence[str]) -> list[_Block]:
    blocks = [_Block()]
    for line in lines:
        text = line.strip()
        inside = line.startswith(" " * 8)
        if text.startswith("#"):
            blocks.append(_Block(comments=[text]))
        elif text.endswith(":"):
            blocks.append(_Block(header=text))
        else:
            if not inside and blocks[-1].header:
                blocks.append(_Block())
            blocks[-1].statements.append(_Statement.of(text))
    return [b for b in blocks if b.statements or b.comments]


def _read_first(statements: Sequence[_Statement]) -> set[str]:
    """Names that are read before they are assigned."""
    known: set[str] = set()
    result: set[str] = set()
    for s in statements:
        result |= s.reads - known
        if not s.index:
            known.add(s.target)
    return result


def _outliving(blocks: Sequence[_Block], names: set[str]) -> list[str]:
    """Those of `names` that some block reads from before its beginning."""
    read = set().union(*(_read_first(b.statements) for b in blocks))
    return sorted(read & names)


def _check_order(statements: Sequence[_Statement], wide: set[str]) -> None:
    """What is the same for all lanes may be computed first: nothing wide reads an older value.

    Raises
    ------
    ValueError
        If it does.
    """
    for k, s in enumerate(statements):
        if s.target in wide:
            later = {t.target for t in statements[k + 1 :] if t.target not in wide}
            if clash := later & s.reads:
                raise ValueError(f"{sorted(clash)} change after their use in '{s.text}'")
