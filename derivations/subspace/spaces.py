"""Feature spaces, the maps a task fixes on them, and the weights of an architecture over them."""

from dataclasses import dataclass
from math import lcm
from typing import NamedTuple

from sympy import ImmutableMatrix, diag

from derivations.core.letters import GREEK

#: One letter a weight.
LETTERS = tuple(GREEK)


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


def labels(spaces: tuple[FeatureSpace, ...]) -> list[str]:
    """t, p, t', p', ...: a prime for every earlier copy."""
    names = [space.name for space in spaces]
    return [name + "'" * names[:i].count(name) for i, name in enumerate(names)]
