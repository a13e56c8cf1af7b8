"""Stochastic gradient descent, momentum and Adam, on tuples of arrays.

An optimiser is a frozen set of numbers; what it remembers is a tuple of arrays, so that it can be
written to a file and read back. No array is changed in place: whoever still holds the weights of
an earlier step holds them as they were. How long a step is, a schedule says.
"""

from dataclasses import dataclass

import numpy as np

Arrays = tuple[np.ndarray, ...]
#: New weights and new memory.
Step = tuple[Arrays, Arrays]


@dataclass(frozen=True)
class SGD:
    """w ← w − η g."""

    def start(self, weights: Arrays) -> Arrays:
        """What is remembered before the first step."""
        return ()

    def step(self, weights: Arrays, gradient: Arrays, memory: Arrays, rate: float) -> Step:
        """`rate` is η."""
        return tuple(w - rate * g for w, g in zip(weights, gradient, strict=True)), ()

    def stable_learning_rate(self, curvature: float) -> float:
        """Below this, a quadratic bowl of that curvature is descended and not climbed."""
        return 2.0 / curvature if curvature else np.inf


@dataclass(frozen=True)
class Momentum:
    """v ← μ v + g,  w ← w − η v  (Polyak's heavy ball): long steps are η / (1 − μ)."""

    momentum: float = 0.9

    def start(self, weights: Arrays) -> Arrays:
        """No velocity."""
        return tuple(np.zeros_like(w) for w in weights)

    def step(self, weights: Arrays, gradient: Arrays, memory: Arrays, rate: float) -> Step:
        """Remembered are the velocities v."""
        v = tuple(self.momentum * v + g for v, g in zip(memory, gradient, strict=True))
        return tuple(w - rate * u for w, u in zip(weights, v, strict=True)), v

    def stable_learning_rate(self, curvature: float) -> float:
        """Long steps η / (1 − μ) within plain descent's 2 / curvature.

        On a fixed quadratic bowl even 2 (1 + μ) / curvature is stable, but where curvature
        grows along the way the velocity carries the weights beyond it.
        """
        return 2.0 * (1.0 - self.momentum) / curvature if curvature else np.inf


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba, arXiv 1412.6980, Algorithm 1, with their bias correction."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def start(self, weights: Arrays) -> Arrays:
        """No steps, no moments."""
        return (np.zeros(()), *(np.zeros_like(w) for w in (*weights, *weights)))

    def step(self, weights: Arrays, gradient: Arrays, memory: Arrays, rate: float) -> Step:
        """Remembered are the number of steps, first and second moments."""

        def mean(old: Arrays, new: Arrays, beta: float) -> Arrays:
            return tuple(beta * m + (1.0 - beta) * g for m, g in zip(old, new, strict=True))

        count, moments, n = memory[0] + 1.0, memory[1:], len(weights)
        first = mean(moments[:n], gradient, self.beta1)
        second = mean(moments[n:], tuple(g * g for g in gradient), self.beta2)
        # Both corrections go into two scalars, which spares two passes over the weights.
        correction = float(np.sqrt(1.0 - self.beta2**count))
        rate = rate * correction / float(1.0 - self.beta1**count)
        floor = self.epsilon * correction
        new = tuple(
            w - rate * m / (np.sqrt(v) + floor)
            for w, m, v in zip(weights, first, second, strict=True)
        )
        return new, (count, *first, *second)

    def stable_learning_rate(self, curvature: float) -> None:
        """None: Adam's steps do not shrink with the gradient, so no curvature bounds them."""


Optimiser = SGD | Momentum | Adam
#: By name, with their usual constants.
OPTIMISERS = {"sgd": SGD(), "momentum": Momentum(), "adam": Adam()}
