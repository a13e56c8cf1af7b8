"""Which linear maps a task's symmetry allows in every block of every weight, and how many.

Source: Musat et al., arXiv 2511.01033, Theorem 1. The data are distributed alike before and after
any symmetry of the task, so the population gradient commutes with the symmetry group G, and a
block that starts at zero stays in Hom_G, the maps X with g X = X g. For the paper's task (tokens:
nothing fixed, group O(D); positions: the rotation M fixed, group U(D/2)) and two layers, these
maps are the 19 coordinates.

How the group is made finite. A feature space fixes structure maps S, and its group is
G = {g orthogonal : g S = S g}. Transposed, g commutes with every Sᵀ too, so G lies in
C = {X : X S = S X, X Sᵀ = Sᵀ X}, which is closed under transposition and splits into

- antisymmetric elements A: the Lie algebra of G, which knows its identity component only;
- symmetric elements H: their spectral projectors P are polynomials in H, hence lie in C, so the
  reflections 1 − 2P lie in G and H is a combination of such P: G's discrete elements.

Hence span(G) = C, and X is invariant exactly if it commutes with both halves, in every dimension.
The first alone would not do: SO(2) commutes with a rotation by 90°, which O(2) does not, and SO(1)
with everything; it suffices from three copies of an irreducible module on, the default here.
Between different spaces, exp(A) ⊕ 1 and (1 − 2P) ⊕ 1 act on one of them alone, and leave X as it
is exactly if A X = 0 and P X = 0: on the other space both halves act as 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import lcm
from typing import Any, NamedTuple

from sympy import QQ, ImmutableMatrix, Matrix, Mul, Rational, Symbol, diag, eye, sqrt, zeros
from sympy.polys.matrices import DomainMatrix

#: One letter a weight.
LETTERS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")


@dataclass(frozen=True)
class FeatureSpace:
    """A feature space and the maps that the task fixes on it.

    Attributes
    ----------
    name : str
        Spaces of different names are transformed independently of each other.
    structure_maps : tuple of (str, Matrix)
        Rational k×k matrices; at dimension D each acts as D/k copies of itself.
    """

    name: str
    structure_maps: tuple[tuple[str, ImmutableMatrix], ...] = ()

    def __post_init__(self):
        maps = tuple((name, ImmutableMatrix(m)) for name, m in self.structure_maps)
        names = [name for name, _ in maps]
        if len({size for _, m in maps for size in m.shape}) > 1:
            raise ValueError(f"structure maps of '{self.name}' must be square and of one size")
        if not all(entry.is_Rational for _, m in maps for entry in m):
            raise ValueError(f"structure maps of '{self.name}' must have rational entries")
        if len({*names, "I"}) <= len(names) or not all(map(str.isidentifier, names)):
            raise ValueError(f"structure maps of '{self.name}' need distinct names other than I")
        object.__setattr__(self, "structure_maps", maps)

    @property
    def period(self) -> int:
        """k: the dimension is a multiple of it."""
        return self.structure_maps[0][1].rows if self.structure_maps else 1

    def maps(self, D: int) -> dict[str, ImmutableMatrix]:
        """The structure maps at dimension D, by name, each D×D."""
        if D < 1 or D % self.period:
            raise ValueError(f"D must be a multiple of {self.period} for '{self.name}', not {D}")
        copies = D // self.period
        return {name: ImmutableMatrix(diag(*[m] * copies)) for name, m in self.structure_maps}


def orthogonal(name: str = "t") -> FeatureSpace:
    """A space on which the task fixes nothing: group O(D)."""
    return FeatureSpace(name)


def complex_structure(name: str = "p", map_name: str = "M") -> FeatureSpace:
    """A space on which multiplication by i on C^{D/2} is fixed: M² = −I, group U(D/2)."""
    return FeatureSpace(name, ((map_name, ImmutableMatrix([[0, -1], [1, 0]])),))


@dataclass(frozen=True)
class Task:
    """The feature spaces side by side in every input row; the answer lies in the first."""

    spaces: tuple[FeatureSpace, ...]

    def __post_init__(self):
        if not self.spaces or len({s.name for s in self.spaces}) < len(self.spaces):
            raise ValueError("a task needs feature spaces, each with a name of its own")

    @property
    def dimension(self) -> int:
        """Where to compute: three copies of the smallest space that has all structure maps."""
        return 3 * lcm(*(space.period for space in self.spaces))


class Weight(NamedTuple):
    """A weight matrix of len(rows) × len(columns) blocks, each D×D."""

    name: str
    rows: tuple[FeatureSpace, ...]
    columns: tuple[FeatureSpace, ...]


@dataclass(frozen=True)
class Architecture:
    """The disentangled transformer: every attention layer doubles the concatenated stream."""

    layers: int

    def __post_init__(self):
        if not 1 <= self.layers < len(LETTERS):
            raise ValueError(f"layers must lie in 1..{len(LETTERS) - 1}, not {self.layers}")

    def weights(self, task: Task) -> tuple[Weight, ...]:
        """Key–query matrices W1, W2, ... on the streams of their layers, then the readout."""
        streams = [task.spaces * 2**depth for depth in range(self.layers + 1)]
        shapes = zip([*streams[:-1], task.spaces[:1]], streams, strict=True)
        return tuple(Weight(f"W{k}", *shape) for k, shape in enumerate(shapes, 1))


#: Theorem 1's own case.
TASK = Task((orthogonal("t"), complex_structure("p", "M")))
ARCHITECTURE = Architecture(2)


@dataclass(frozen=True)
class InvariantMap:
    """A map that commutes with the group, as a combination of words in the structure maps.

    Attributes
    ----------
    name : str
        For example "I" or "M".
    terms : tuple of (Rational, tuple of str)
        Coefficient and letters of every word; the empty word is I, the letter "M^T" is Mᵀ.
    norm : Rational
        Squared Frobenius norm over D: 1 wherever a rational factor makes it so.
    """

    name: str
    terms: tuple[tuple[Rational, tuple[str, ...]], ...]
    norm: Rational

    def build(self, identity, maps: Mapping[str, Any]):
        """The D×D matrix, from the caller's I and structure maps (sympy, numpy, ...)."""
        total = 0 * identity
        for coefficient, word in self.terms:
            matrix = identity
            for letter in word:
                factor = maps[letter.removesuffix("^T")]
                matrix = matrix @ (factor.T if letter.endswith("^T") else factor)
            # Two integers rather than a sympy number, which would turn numpy's floats to objects.
            total = total + int(coefficient.p) * matrix / int(coefficient.q)
        return total


def intertwiners(pairs, D: int, transpose: int = 0) -> tuple[Matrix, ...]:
    """Basis of the D×D matrices X with a X = X b for all pairs (a, b): one exact nullspace.

    With `transpose` ±1, only those with Xᵀ = ±X.
    """
    equations = set()

    def vanishes(terms):
        row = defaultdict(int)
        for (i, j), value in terms:
            row[i * D + j] += value
        equations.add(frozenset((n, QQ.from_sympy(value)) for n, value in row.items() if value))

    for a, b in pairs:
        left, right = a.todok(), b.todok()
        for i, k in product(range(D), repeat=2):
            ax = [((j, k), left[i, j]) for j in range(D) if (i, j) in left]
            vanishes(ax + [((i, j), -right[j, k]) for j in range(D) if (j, k) in right])
    if transpose:
        for i, j in product(range(D), repeat=2):
            vanishes([((i, j), Rational(1)), ((j, i), Rational(-transpose))])
    rows = dict(enumerate(map(dict, equations - {frozenset()})))
    system = DomainMatrix.from_dod(rows, (len(rows), D * D), QQ)
    return tuple(Matrix(D, D, row) for row in system.to_sparse().nullspace().to_Matrix().tolist())


class Symmetry(NamedTuple):
    """Bases of the two halves of span(G), D×D each; see the module's docstring."""

    lie: tuple[Matrix, ...]
    reflections: tuple[Matrix, ...]


@cache
def symmetry(space: FeatureSpace, D: int) -> Symmetry:
    """Lie algebra and reflections of the orthogonal maps that commute with the structure maps."""
    # Commuting with Sᵀ needs no equation: it is the transpose of commuting with S.
    maps = [(s, s) for s in space.maps(D).values()]
    return Symmetry(intertwiners(maps, D, transpose=-1), intertwiners(maps, D, transpose=1))


def actions(row: FeatureSpace, column: FeatureSpace, D: int) -> list[tuple[Matrix, Matrix]]:
    """Pairs (ρ_row(a), ρ_column(a)), D×D each, for a basis of span(G)."""
    null = zeros(D, D)
    pairs = [(a, a if row == column else null) for half in symmetry(row, D) for a in half]
    if row != column:
        pairs += [(null, b) for half in symmetry(column, D) for b in half]
    return pairs


def _dot(a: Matrix, b: Matrix) -> Rational:
    return (a.T * b).trace()


@cache
def _words(space: FeatureSpace, D: int) -> tuple[tuple[InvariantMap, Matrix], ...]:
    """Orthogonal basis of the algebra that the structure maps and their transposes generate.

    By Gram and Schmidt, shortest words first. A dependent word needs no continuation: whatever
    follows it is spanned by what follows the words it depends on. So the search ends.
    """
    letters = [p for n, s in space.maps(D).items() for p in ((n, s), (f"{n}^T", s.T))]
    queue = [((), eye(D))]
    basis: list[tuple[InvariantMap, Matrix]] = []
    for word, matrix in queue:
        terms, rest = {word: Rational(1)}, matrix
        for known, b in basis:
            overlap = _dot(matrix, b) / _dot(b, b)
            rest = rest - overlap * b
            for coefficient, earlier in known.terms:
                terms[earlier] = terms.get(earlier, 0) - overlap * coefficient
        if rest.is_zero_matrix:
            continue
        norm = _dot(rest, rest) / D
        # Squared norm D where a rational factor gives it; √3/2 and its like stay as they are.
        scale = root if (root := sqrt(norm)).is_Rational else Rational(1)
        kept = tuple((c / scale, w) for w, c in terms.items() if c)
        basis.append((InvariantMap(_name(kept), kept, norm / scale**2), rest / scale))
        queue += [((*word, name), matrix * letter) for name, letter in letters]
    return tuple(basis)


def _name(terms) -> str:
    return str(
        sum(
            c * Mul(*(Symbol(letter, commutative=False) for letter in word or ("I",)))
            for c, word in terms
        )
    )


@cache
def invariant_maps(
    row: FeatureSpace, column: FeatureSpace, D: int | None = None
) -> tuple[InvariantMap, ...]:
    """Orthogonal basis of the invariant maps from the column to the row space, named by words.

    The nullspace comes from the group, the words from the structure maps; that they span the same
    (von Neumann's double commutant theorem) is checked for every solution, exactly.
    """
    D = D or 3 * lcm(row.period, column.period)
    solutions = intertwiners(actions(row, column, D), D)
    words = _words(row, D) if row == column else ()
    rests = (sum((-_dot(x, b) / _dot(b, b) * b for _, b in words), x) for x in solutions)
    if len(words) != len(solutions) or not all(rest.is_zero_matrix for rest in rests):
        raise ArithmeticError(f"words do not span the maps from {column.name} to {row.name}")
    return tuple(word for word, _ in words)


@dataclass(frozen=True)
class Coordinate:
    """One invariant map in the block (row, column) of a weight, without any matrix.

    A numpy consumer builds the block for any D with ``coordinate.map.build(np.eye(D), {"M": M})``.
    """

    name: str
    weight: str
    row: int
    column: int
    space: FeatureSpace
    map: InvariantMap

    def matrix(self, D: int) -> Matrix:
        """The block itself, D×D and exact."""
        return Matrix(self.map.build(eye(D), self.space.maps(D)))


@dataclass(frozen=True)
class Count:
    """The invariant subspace of all weights.

    Attributes
    ----------
    weights : tuple of Weight
    dimensions : dict of str to tuple of tuples of int
        Number of invariant maps of every block [row][column] of every weight.
    coordinates : tuple of Coordinate
        In the paper's order: weight by weight, first all token–token blocks row by row, then all
        position–position blocks row by row, I before M.
    """

    weights: tuple[Weight, ...]
    dimensions: dict[str, tuple[tuple[int, ...], ...]]
    coordinates: tuple[Coordinate, ...]

    @property
    def totals(self) -> dict[str, int]:
        return {weight: sum(map(sum, table)) for weight, table in self.dimensions.items()}

    @property
    def total(self) -> int:
        return sum(self.totals.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.coordinates)


def count(
    task: Task = TASK, architecture: Architecture = ARCHITECTURE, D: int | None = None
) -> Count:
    """The invariant maps of every block of every weight, computed at dimension D and named."""
    D = D or task.dimension
    weights = architecture.weights(task)
    dimensions = {
        w.name: tuple(tuple(len(invariant_maps(r, c, D)) for c in w.columns) for r in w.rows)
        for w in weights
    }
    coordinates = []
    for letter, (weight, rows, columns) in zip(LETTERS, weights, strict=False):
        blocks = [
            (i, j, row, word)
            for row, column in product(task.spaces, repeat=2)
            for (i, r), (j, c) in product(enumerate(rows), enumerate(columns))
            if (r, c) == (row, column)
            for word in invariant_maps(row, column, D)
        ]
        coordinates += [Coordinate(f"{letter}{n}", weight, *b) for n, b in enumerate(blocks, 1)]
    return Count(weights, dimensions, tuple(coordinates))


class Block(NamedTuple):
    """A coordinate's basis matrix: `matrix` (D×D) in block (row, column) of `weight`, else 0."""

    weight: str
    row: int
    column: int
    word: str
    matrix: Matrix


def basis(task: Task, architecture: Architecture, D: int) -> dict[str, Block]:
    """The basis of the invariant subspace at dimension D, by the names of the coordinates."""
    return {
        c.name: Block(c.weight, c.row, c.column, c.map.name, c.matrix(D))
        for c in count(task, architecture).coordinates
    }


def embed(
    task: Task, architecture: Architecture, D: int, values: Mapping[str, Any]
) -> dict[str, Matrix]:
    """Full weights, by name, at the given coordinates (numbers or symbols; missing ones are 0).

    A weight of r × c blocks is rD × cD: for the paper W1 is 2D×2D, W2 4D×4D and W3 D×8D.
    """
    full = {w.name: zeros(len(w.rows) * D, len(w.columns) * D) for w in architecture.weights(task)}
    blocks = basis(task, architecture, D)
    for name, value in values.items():
        weight, row, column, _, matrix = blocks[name]
        full[weight][row * D : (row + 1) * D, column * D : (column + 1) * D] += value * matrix
    return full


def residual(row: FeatureSpace, column: FeatureSpace, x: Matrix) -> Rational:
    """Largest entry of g X − X g over a basis of span(G): exactly 0 for an invariant X (D×D)."""
    return max(abs(v) for a, b in actions(row, column, x.rows) for v in a * x - x * b)


def labels(spaces: tuple[FeatureSpace, ...]) -> list[str]:
    """t, p, t', p', ...: a prime for every earlier copy."""
    names = [space.name for space in spaces]
    return [name + "'" * names[:i].count(name) for i, name in enumerate(names)]


def steps(
    task: Task = TASK, architecture: Architecture = ARCHITECTURE, D: int | None = None
) -> Iterator[str]:
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
    overlap = max((abs(_dot(x, y)) for x, y in pairs if x != y), default=0)
    yield f"  largest overlap of two different maps: {overlap}"
    norms = ", ".join(str(n) for n in sorted({_dot(x, x) / D for _, x in found}))
    yield f"  squared Frobenius norm over D: {norms}"
