"""What does not move during a training: single weights, coordinates, one part after another.

A hold is called as ``hold(step, before, after)``, with the weights before step `step` and those
that the optimiser makes of them, and says what they are to be; at the very start with the first
weights as both. It belongs to the flow, not to the optimiser: none of these need know of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reduced_dynamics.training.optimisers import Arrays

Hold = Callable[[int, Arrays, Arrays], Arrays]


def nothing(step: int, before: Arrays, after: Arrays) -> Arrays:
    """Everything moves."""
    return after


@dataclass(frozen=True, eq=False)
class Weights:
    """Whole arrays (True) or single entries of them (an array of bool) stay as they are."""

    held: tuple[bool | np.ndarray, ...]

    def __call__(self, step: int, before: Arrays, after: Arrays) -> Arrays:
        return tuple(
            (b if h else a) if isinstance(h, bool) else np.where(h, b, a)
            for h, b, a in zip(self.held, before, after, strict=True)
        )


@dataclass(frozen=True)
class Coordinates:
    """Linear coordinates of the weights have given values; what lies beside them is free.

    `project` takes weights to their coordinates, shape (d,), and `embed` coordinates to the weights
    that have these and nothing else; `values` are by the number of the coordinate.
    """

    project: Callable[[Arrays], np.ndarray]
    embed: Callable[[np.ndarray], Arrays]
    values: Mapping[int, float]

    def __call__(self, step: int, before: Arrays, after: Arrays) -> Arrays:
        z = self.project(after)
        change = np.zeros(len(z))
        for index, value in self.values.items():
            change[index] = value - z[index]
        return tuple(W + V for W, V in zip(after, self.embed(change), strict=True))


@dataclass(frozen=True)
class Stages:
    """One hold after another; they share `steps` steps equally."""

    holds: Sequence[Hold]
    steps: int

    def __call__(self, step: int, before: Arrays, after: Arrays) -> Arrays:
        count = len(self.holds)
        stage = min(step * count // self.steps, count - 1)
        return self.holds[stage](step, before, after)
