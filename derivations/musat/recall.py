"""The disentangled transformer on item–label recall, executed on a formal orthonormal frame.

The task's 2N tokens a_1..a_N, b_1..b_N and its positions p_1..p_{N+1}, M p_1..M p_{N+1} are
orthonormal, so every vector the transformer ever forms is a combination of them, and every score
is a combination of their inner products. Positions are written over the complex numbers: M is
multiplication by the imaginary unit. Nothing depends on the frame, so running the model on formal
combinations, with symbolic N and query position q, gives its loss as a staged program.

Source of the model: Musat et al., arXiv 2511.01033. No equation of the result is typed in here:
attention, the residual stream by concatenation and the squared loss are, and the sums over rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import sympy as sp

from derivations.core.staged import (
    N,
    Pair,
    Program,
    Region,
    RowSoftmax,
    Scalar,
    Scan,
    Softmax,
    Stage,
    Sum,
    Weight,
    i,
    merge,
    q,
)
from derivations.subspace.coordinates import Coordinate, count
from derivations.subspace.frame import Vector, combine, inner
from derivations.subspace.spaces import Architecture, Task, complex_structure, orthogonal

#: Theorem 1's own case: nothing is fixed on tokens, the rotation M on positions; two layers.
TASK = Task((orthogonal("t"), complex_structure("p", "M")))
ARCHITECTURE = Architecture(2)

#: How the label's row is tied to its item's: by the rotation M, by the same position, not at all;
#: and what the task fixes then.
CUES = {"rotated": sp.I, "same": sp.S.One, "none": sp.S.Zero}
_NO_CUE = Task((orthogonal("t"), orthogonal("p")))
TASKS = {"rotated": TASK, "same": _NO_CUE, "none": _NO_CUE}

#: The maps on positions, as complex numbers.
UNIT = {"I": sp.S.One, "M": sp.I}


# ---------------------------------------------------------------- vectors on the frame

#: Which members of a family of frame vectors a term runs over, seen from the row of pair i: its
#: own, all earlier ones, the query's, all but the query's, all; or the query row's single one.
OWN, EARLIER, QUERY, OTHERS, ALL, SINGLE = "i", "<i", "q", "≠q", "1..N", "T"


def _one(family: str, support: str, coefficient=sp.S.One) -> Vector:
    return {(family, support): sp.sympify(coefficient)}


def _over_all(vector: Vector) -> Vector:
    """The same vector with "all but the query's" written as all minus the query's."""
    others = [(family, c) for (family, support), c in vector.items() if support == OTHERS]
    kept = {key: c for key, c in vector.items() if key[1] != OTHERS}
    terms = [(c, {(f, ALL): sp.S.One, (f, QUERY): sp.S.NegativeOne}) for f, c in others]
    return combine([(sp.S.One, kept), *terms])


@dataclass(frozen=True)
class Place:
    """Where pair i stands: before, at or after the query's pair, and whether it is the first."""

    name: str
    relation: str
    first: bool

    def overlap(self, x: str, y: str) -> sp.Expr:
        """How many frame vectors two supports share."""
        at, after = int(self.relation == "at"), int(self.relation == "after")
        earlier = sp.S.Zero if self.first else i - 1
        table = {
            (OWN, OWN): 1,
            (OWN, EARLIER): 0,
            (OWN, QUERY): at,
            (OWN, ALL): 1,
            (EARLIER, EARLIER): earlier,
            (EARLIER, QUERY): after,
            (EARLIER, ALL): earlier,
            (QUERY, QUERY): 1,
            (QUERY, ALL): 1,
            (ALL, ALL): N,
            (SINGLE, SINGLE): 1,
        }
        return sp.sympify(table.get((x, y), table.get((y, x), 0)))


def _same_member(x: str, y: str) -> sp.Expr:
    """Overlap of one row's own vector with one key's: they are the same vector or orthogonal."""
    return sp.Integer(x == y and x in (OWN, QUERY, SINGLE))


# ---------------------------------------------------------------- the model


@dataclass(frozen=True)
class Key:
    """Equal rows that a row may attend to: their stream, and how many there are."""

    weight: str
    stream: tuple[Vector, Vector]
    count: sp.Expr


@dataclass(frozen=True)
class Recall:
    """The task and the model's options.

    Parameters
    ----------
    self_attention : bool
        Whether a row may attend to itself.
    cue : {"rotated", "same", "none"}
        The label's position: M p_i (the paper), p_i, or 0.
    """

    self_attention: bool = False
    cue: str = "rotated"

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """The coordinates of the weights that the symmetry of the task leaves for the cue."""
        return count(TASKS[self.cue], ARCHITECTURE).coordinates

    def symbol(self, name: str) -> sp.Symbol:
        return sp.Symbol(name, real=True)

    def score(self, weight: str, x: tuple[Vector, ...], y: tuple[Vector, ...], overlap) -> sp.Expr:
        """x's stream times the weight matrix times y's stream."""
        return sp.Add(
            *(
                e.symbol * inner(x[e.row], y[e.column], UNIT[e.word], overlap)
                for e in self.coordinates
                if e.weight == weight
            )
        )

    def item(self, support: str) -> tuple[Vector, Vector]:
        return _one("a", support), _one("p", support)

    def label(self, support: str) -> tuple[Vector, Vector]:
        position = _one("p", support, CUES[self.cue])
        return _one("b", support), position if CUES[self.cue] != 0 else {}

    def query(self) -> tuple[Vector, Vector]:
        return _one("a", QUERY), _one("pT", SINGLE)

    def layer1(
        self, row: tuple[Vector, Vector], keys: Iterable[Key]
    ) -> tuple[tuple[Weight, ...], tuple[Vector, Vector]]:
        """Softmax classes of a row's attention, and the token and position it collects."""
        keys = [k for k in keys if k.count != 0]
        classes, names = merge(
            Weight(self.symbol(k.weight), self.score("W1", row, k.stream, _same_member), k.count)
            for k in keys
        )
        if len(classes) == 1:
            names = dict.fromkeys(names, 1 / classes[0].multiplicity)
            classes = ()
        attended = tuple(
            _over_all(combine((names[self.symbol(k.weight)], k.stream[space]) for k in keys))
            for space in (0, 1)
        )
        return classes, attended

    def program(self, query_first: bool = False) -> Program:
        """The loss with orthonormal inputs for a query on pair q, as a staged program.

        Parameters
        ----------
        query_first : bool
            The program for q = 1, whose pair has nothing before it; otherwise for 2 <= q <= N.

        Returns
        -------
        Program
            Outputs: ``loss``, ``A`` (the query's attention on the right label), ``w`` (layer 1:
            that label's attention on its own item).
        """
        one = sp.S.One
        two = sp.Integer(2)
        if query_first:
            ranges = {"at": (one, one), "after": (two, N)}
        else:
            ranges = {
                "first": (one, one),
                "before": (two, q - 1),
                "at": (q, q),
                "after": (q + 1, N),
            }
        regions = tuple(Region(name, *ends) for name, ends in ranges.items())
        relations = {"first": "before"}
        places = tuple(
            Place(name, relations.get(name, name), ends == (one, one))
            for name, ends in ranges.items()
        )
        stages: list[Stage] = []

        # Layer 1, the query's row: it sees every pair.
        keys = [
            Key("u", self.item(QUERY), one),
            Key("v", self.item(OTHERS), N - 1),
            Key("u_b", self.label(QUERY), one),
            Key("v_b", self.label(OTHERS), N - 1),
        ]
        if self.self_attention:
            keys.append(Key("s_T", self.query(), one))
        classes, attended = self.layer1(self.query(), keys)
        stages.append(Softmax(classes))
        query = self.query() + attended

        # Layer 1, the rows of pair i.
        streams: dict[str, dict[str, tuple[Vector, ...]]] = {"a": {}, "b": {}}
        rows: dict[str, dict[str, tuple[Weight, ...]]] = {"a": {}, "b": {}}
        for place in places:
            earlier = sp.S.Zero if place.first else i - 1
            for kind, row in (("a", self.item(OWN)), ("b", self.label(OWN))):
                names = {"a": ("c", "c_b", "s_a"), "b": ("r", "r_b", "s_b")}[kind]
                keys = [
                    Key(names[0], self.item(EARLIER), earlier),
                    Key(names[1], self.label(EARLIER), earlier),
                ]
                if kind == "b":
                    keys.insert(0, Key("w", self.item(OWN), one))
                if self.self_attention:
                    keys.append(Key(names[2], row, one))
                classes, attended = self.layer1(row, keys) if keys else ((), ({}, {}))
                streams[kind][place.name] = row + attended
                if classes:
                    rows[kind][place.name] = classes
        stages += [RowSoftmax(r) for r in rows.values() if r]

        # Layer 2: only the query's row is read.
        scores = {kind: self.symbol(f"S_{kind}") for kind in "ab"}
        attention = {kind: self.symbol(f"A_{kind}") for kind in "ab"}
        for kind in "ab":
            by_place = {
                p.name: self.score("W2", query, streams[kind][p.name], p.overlap) for p in places
            }
            stages.append(Pair(scores[kind], by_place))
        own: tuple[Weight, ...] = ()
        if self.self_attention:
            anywhere = Place("", "", False)
            stages.append(
                Scalar(self.symbol("S_T"), self.score("W2", query, query, anywhere.overlap))
            )
            own = (Weight(self.symbol("A_T"), self.symbol("S_T")),)
        pair_classes = tuple(Weight(attention[k], scores[k]) for k in "ab")
        stages.append(Softmax(own, {p.name: pair_classes for p in places}))

        # The read-out, one coefficient for every token of the frame.
        collected = [
            self._collect(block, places, streams, attention, query if own else None, stages)
            for block in (0, 2)
        ]
        blocks = {0: query[0], 2: query[2], 4: collected[0], 6: collected[1]}
        residuals = {}
        for family in "ab":
            by_place = {}
            for place in places:
                value = -sp.Integer(family == "b" and place.relation == "at")
                for e in self.coordinates:
                    if e.weight == "W3":
                        block = blocks[e.column]
                        part = (
                            block[family][place.name]
                            if e.column >= 4
                            else self._coefficient(block, family, place)
                        )
                        value += e.symbol * part
                by_place[place.name] = value
            residuals[family] = self.symbol(f"e_{family}")
            stages.append(Pair(residuals[family], by_place))
        half = sp.Rational(1, 2) * sp.Add(*(e**2 for e in residuals.values()))
        stages.append(Sum(self.symbol("loss"), {p.name: half for p in places}))

        # What the head does, for events and for reading.
        own_item = streams["b"]["at"][2].get(("a", OWN), sp.S.Zero)
        stages.append(Sum(self.symbol("A"), {"at": attention["b"]}))
        stages.append(Sum(self.symbol("w_q"), {"at": own_item}))
        return Program(
            coordinates=tuple(e.symbol for e in self.coordinates),
            parameters=(N, q),
            regions=regions,
            stages=tuple(s for s in stages if s != Softmax()),
            outputs={"loss": self.symbol("loss"), "A": self.symbol("A"), "w": self.symbol("w_q")},
        )

    @staticmethod
    def _coefficient(vector: Vector, family: str, place: Place) -> sp.Expr:
        """The coefficient of the query row's vector on pair i's frame vector."""
        at_query = vector.get((family, QUERY), sp.S.Zero) if place.relation == "at" else 0
        return vector.get((family, ALL), sp.S.Zero) + at_query

    def _collect(self, block, places, streams, attention, query, stages):
        """Layer 2's attended `block` on every token: {family: {place: coefficient}}.

        A row's own vector gives its weight to pair i itself; a vector over all earlier pairs
        gives it to each of them, which read from the pair is a sum over all later rows.
        """
        result = {}
        for family in "ab":
            terms = {
                place.name: sp.Add(
                    *(
                        attention[kind]
                        * streams[kind][place.name][block].get((family, EARLIER), sp.S.Zero)
                        for kind in "ab"
                    )
                )
                for place in places
            }
            terms = {k: e for k, e in terms.items() if e != 0}
            scan = sp.S.Zero
            if terms:
                same = [s for s in stages if isinstance(s, Scan) and s.exprs == terms]
                scan = same[0].name if same else self.symbol(f"P_{family}")
                if not same:
                    stages.append(Scan(scan, terms, suffix=True))
            result[family] = {}
            for place in places:
                value = scan
                for kind in "ab":
                    own = streams[kind][place.name][block].get((family, OWN), sp.S.Zero)
                    value += attention[kind] * own
                if query is not None:
                    own = self._coefficient(query[block], family, place)
                    value += self.symbol("A_T") * own
                result[family][place.name] = value
        return result
