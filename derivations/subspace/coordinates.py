"""The invariant subspace of all weights of an architecture: its coordinates, named and counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from sympy import Matrix, Symbol, eye, zeros

from derivations.subspace.commutant import InvariantMap, invariant_maps
from derivations.subspace.spaces import LETTERS, Architecture, FeatureSpace, Task, Weight


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

    @property
    def word(self) -> str:
        """The map by its name, "I" or "M"."""
        return self.map.name

    @property
    def symbol(self) -> Symbol:
        return Symbol(self.name, real=True)

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


def count(task: Task, architecture: Architecture, D: int | None = None) -> Count:
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


def embed(
    task: Task, architecture: Architecture, D: int, values: Mapping[str, Any]
) -> dict[str, Matrix]:
    """Full weights, by name, at the given coordinates (numbers or symbols; missing ones are 0).

    A weight of r × c blocks is rD × cD: for the paper W1 is 2D×2D, W2 4D×4D and W3 D×8D.
    """
    full = {w.name: zeros(len(w.rows) * D, len(w.columns) * D) for w in architecture.weights(task)}
    coordinates = {c.name: c for c in count(task, architecture).coordinates}
    for name, value in values.items():
        c = coordinates[name]
        block = slice(c.row * D, (c.row + 1) * D), slice(c.column * D, (c.column + 1) * D)
        full[c.weight][block] += value * c.matrix(D)
    return full
