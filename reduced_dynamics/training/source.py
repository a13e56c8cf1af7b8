"""What data a step sees."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

#: A part of a step's data, after its share of the whole.
Part = tuple[float, Any]


@dataclass(frozen=True, eq=False)
class Fresh:
    """Sequences that are drawn anew for every step, from their law or as windows of a text.

    Attributes
    ----------
    sample : callable
        ``sample(count, rng)``: so many sequences, in whatever form the model takes.
    batch : int
        Sequences a step.
    seed : numpy.random.SeedSequence or int
        Of all of them.
    parts : int
        They are drawn and worked through in so many parts, nearly equal in size, of which only
        one is in memory at a time.
    """

    sample: Callable[[int, np.random.Generator], Any]
    batch: int
    seed: np.random.SeedSequence | int
    parts: int = 1

    def draw(self, rng: np.random.Generator) -> Iterator[Part]:
        for part in np.array_split(np.arange(self.batch), self.parts):
            if part.size:
                yield part.size / self.batch, self.sample(part.size, rng)


@dataclass(frozen=True, eq=False)
class Fixed:
    """The same data at every step: full-batch descent. `rng` is not asked."""

    data: Any
    seed: int = 0

    def draw(self, rng: np.random.Generator) -> Iterator[Part]:
        yield 1.0, self.data


Source = Fresh | Fixed
