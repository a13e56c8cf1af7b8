"""What a training needs to know of a model."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from reduced_dynamics.training.optimisers import Arrays
from reduced_dynamics.training.source import Part


@dataclass(frozen=True, eq=False)
class Model:
    """A loss, its gradient by hand, and where the weights start.

    Attributes
    ----------
    name : str
        Under which trajectories and checkpoints know it.
    start : tuple of ndarray
        The first weights. If it is a NamedTuple, so are all weights that the model, the hold and
        the recorder are given.
    loss_and_gradient : callable
        ``loss_and_gradient(weights, data)``: the loss averaged over the data, and its gradient,
        arrays of the shapes of `start`.
    code : str
        Name of the module that it comes from.
    """

    name: str
    start: Arrays
    loss_and_gradient: Callable[[Arrays, Any], tuple[float, Arrays]]
    code: str = ""

    def shaped(self, arrays: Iterable[np.ndarray]) -> Arrays:
        """Arrays as weights, of the type of `start`."""
        return getattr(type(self.start), "_make", tuple)(arrays)

    def average(self, weights: Arrays, parts: Iterable[Part]) -> tuple[float, Arrays]:
        """Loss and gradient averaged over the parts of a step's data, by their shares."""
        loss, gradient = 0.0, None
        for share, data in parts:
            value, slope = self.loss_and_gradient(weights, data)
            loss += share * value
            slope = tuple(share * g for g in slope)
            gradient = (
                slope
                if gradient is None
                else tuple(g + s for g, s in zip(gradient, slope, strict=True))
            )
        return loss, self.shaped(gradient)
