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

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import lcm
from typing import Any, NamedTuple

from sympy import QQ, Matrix, Mul, Rational, Symbol, eye, sqrt, zeros
from sympy.polys.matrices import DomainMatrix

from derivations.subspace.spaces import FeatureSpace


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


def dot(a: Matrix, b: Matrix) -> Rational:
    """The inner product of Frobenius."""
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
            overlap = dot(matrix, b) / dot(b, b)
            rest = rest - overlap * b
            for coefficient, earlier in known.terms:
                terms[earlier] = terms.get(earlier, 0) - overlap * coefficient
        if rest.is_zero_matrix:
            continue
        norm = dot(rest, rest) / D
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
    rests = (sum((-dot(x, b) / dot(b, b) * b for _, b in words), x) for x in solutions)
    if len(words) != len(solutions) or not all(rest.is_zero_matrix for rest in rests):
        raise ArithmeticError(f"words do not span the maps from {column.name} to {row.name}")
    return tuple(word for word, _ in words)


def residual(row: FeatureSpace, column: FeatureSpace, x: Matrix) -> Rational:
    """Largest entry of g X − X g over a basis of span(G): exactly 0 for an invariant X (D×D)."""
    return max(abs(v) for a, b in actions(row, column, x.rows) for v in a * x - x * b)
