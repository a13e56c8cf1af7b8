"""In which order the standard transformer's progress measures emerge, over many seeds.

The reduced flow of the disentangled model says γ₃, then β₂, then α₃ (arXiv 2511.01033); this looks
for the same in a model that is not reduced: additive stream, cross-entropy, random start.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reduced_dynamics.core.crossings import first_reach
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.musat.full.standard_training import COORDINATES

#: Short names of the progress measures α̃3, β̃2, γ̃3.
MEASURES = tuple(name.removeprefix("progress_") for name in COORDINATES)
#: Accuracy at which recall counts as learnt.
LEARNT = 0.9


@dataclass(frozen=True, eq=False)
class Emergence:
    """When and in which order the progress measures of one `train_standard` emerge."""

    trajectory: Trajectory

    @cached_property
    def steps(self) -> np.ndarray:
        """Steps at which rows were recorded, shape (n,)."""
        return np.rint(self.trajectory.t / self.trajectory.solver["learning_rate"])

    def times(self, level: float = 0.5) -> dict[str, float | None]:
        """Steps at which each measure first reaches `level` of its largest value."""
        return {
            name: first_reach(self.steps, column, level * column.max())
            if column.max() > 0
            else None
            for name, column in zip(MEASURES, self.trajectory.z.T, strict=True)
        }

    def order(self, level: float = 0.5) -> tuple[str, ...]:
        """The measures in the order in which they reach `level` of their largest values."""
        reached = {name: step for name, step in self.times(level).items() if step is not None}
        return tuple(sorted(reached, key=reached.get))

    @property
    def learnt(self) -> float | None:
        """Step at which the accuracy on held-out sequences first reaches 0.9."""
        return first_reach(self.steps, self.trajectory["accuracy"], LEARNT)

    @property
    def accuracy(self) -> float:
        """On held-out sequences, at the end."""
        return float(self.trajectory["accuracy"][-1])
