"""Stochastic gradient descent, momentum and Adam, on tuples of arrays.

An optimiser is a frozen set of numbers; what it remembers is a tuple of arrays, so that it can be
written to a file and read back. No array is changed in place: whoever still holds the weights of
an earlier step holds them as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reduced_dynamics.core.errors import InputError, unknown

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class SGD:
    """w ← w − η g."""

    learning_rate: float

    def start(self, weights: Arrays) -> Arrays:
        return ()

    def step(self, weights: Arrays, gradient: Arrays, memory: Arrays) -> tuple[Arrays, Arrays]:
        """New weights and new memory."""
        return tuple(w - self.learning_rate * g for w, g in zip(weights, gradient, strict=True)), ()

    def stable_learning_rate(self, curvature: float) -> float:
        """Below this, a quadratic bowl of that curvature is descended and not climbed."""
        return 2.0 / curvature if curvature else np.inf


@dataclass(frozen=True)
class Momentum:
    """v ← μ v + g,  w ← w − η v  (Polyak's heavy ball): long steps are η / (1 − μ)."""

    learning_rate: float
    momentum: float = 0.9

    def start(self, weights: Arrays) -> Arrays:
        return tuple(np.zeros_like(w) for w in weights)

    def step(self, weights: Arrays, gradient: Arrays, memory: Arrays) -> tuple[Arrays, Arrays]:
        """New weights and new memory, the velocities v."""
        v = tuple(self.momentum * v + g for v, g in zip(memory, gradient, strict=True))
        return tuple(w - self.learning_rate * u for w, u in zip(weights, v, strict=True)), v

    def stable_learning_rate(self, curvature: float) -> float:
        """Long steps η / (1 − μ) within plain descent's 2 / curvature.

        On a fixed quadratic bowl even 2 (1 + μ) / curvature is stable, but where curvature
        grows along the way the velocity carries the weights beyond it.
        """
        return 2.0 * (1.0 - self.momentum) / curvature if curvature else np.inf


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba, arXiv 1412.6980, Algorithm 1, with their bias correction."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def start(self, weights: Arrays) -> Arrays:
        return (np.zeros(()), *(np.zeros_like(w) for w in (*weights, *weights)))

    def step(self, weights: Arrays, gradient: Arrays, memory: Arrays) -> tuple[Arrays, Arrays]:
        """New weights and new memory: the number of steps, first and second moments."""
        count = memory[0] + 1.0
        moments = memory[1:]
        n = len(weights)
        first = tuple(
            self.beta1 * m + (1.0 - self.beta1) * g
            for m, g in zip(moments[:n], gradient, strict=True)
        )
        second = tuple(
            self.beta2 * v + (1.0 - self.beta2) * (g * g)
            for v, g in zip(moments[n:], gradient, strict=True)
        )
        # Both corrections go into two scalars, which spares two passes over the weights.
        correction = float(np.sqrt(1.0 - self.beta2**count))
        rate = self.learning_rate * correction / float(1.0 - self.beta1**count)
        floor = self.epsilon * correction
        new = tuple(
            w - rate * m / (np.sqrt(v) + floor)
            for w, m, v in zip(weights, first, second, strict=True)
        )
        return new, (count, *first, *second)

    def stable_learning_rate(self, curvature: float) -> None:
        """None: Adam's steps do not shrink with the gradient, so no curvature bounds them."""


Optimiser = SGD | Momentum | Adam
OPTIMISERS = {"sgd": SGD, "momentum": Momentum, "adam": Adam}


def optimiser(name: str, learning_rate: float) -> Optimiser:
    """The optimiser of that name with its usual constants (momentum .9; Adam .9, .999, 1e-8).

    Raises
    ------
    InputError
        If the name is unknown or the learning rate is not a positive number.
    """
    if name not in OPTIMISERS:
        raise unknown("optimiser", name, OPTIMISERS)
    if not 0.0 < learning_rate < np.inf:
        raise InputError(f"the learning rate must be a positive number, not {learning_rate!r}")
    return OPTIMISERS[name](learning_rate)
