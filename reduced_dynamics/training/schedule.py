"""The learning rate of every step."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Constant:
    """The same at every step."""

    learning_rate: float

    def __call__(self, step: int) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class Cosine:
    """From `learning_rate` at step 0 down to 0 at step `steps`, half a period of a cosine."""

    learning_rate: float
    steps: int

    def __call__(self, step: int) -> float:
        return 0.5 * (1.0 + np.cos(np.pi * step / self.steps)) * self.learning_rate


#: Called with the number of steps made so far; `learning_rate` is the largest of all.
Schedule = Constant | Cosine
