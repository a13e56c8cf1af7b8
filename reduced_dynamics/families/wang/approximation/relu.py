"""ReLU networks of one hidden layer, fitted to given functions on the cube [−1, 1]^m.

x ↦ weights · relu(directions x + offsets) + constant. On an interval the hinges sit at equal
distances, so that the network is the piecewise linear interpolation of least squares; in more
dimensions hinges are ridges in directions and at distances drawn from a seed, and only the outer
layer is fitted (random features, which the theorem's Barron functions can do no better than by
choosing them).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reduced_dynamics.core.errors import InputError


@dataclass(frozen=True)
class Network:
    """Weights of a network from R^m to R^r with `width` hidden units.

    Shapes (width, m), (width,), (r, width), (r,).
    """

    directions: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    constant: np.ndarray

    @property
    def width(self) -> int:
        return len(self.offsets)

    @property
    def outputs(self) -> int:
        return len(self.constant)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Shape (…, r) for x of shape (…, m)."""
        hidden = np.maximum(x @ self.directions.T + self.offsets, 0.0)
        return hidden @ self.weights.T + self.constant


def fit(
    function: Callable[[np.ndarray], np.ndarray], m: int, width: int, rng: np.random.Generator
) -> Network:
    """The network whose outer layer fits `function`, R^m → R^r, best over many points.

    Raises
    ------
    InputError
        If there is no hidden unit.
    """
    if width < 1:
        raise InputError(f"a ReLU network needs at least one hidden unit, not {width}")
    directions, offsets = _hinges(m, width, rng)
    if m == 1:
        points = np.linspace(-1.0, 1.0, max(2001, 16 * width + 1))[:, None]
    else:
        points = rng.uniform(-1.0, 1.0, (max(2000, 8 * width), m))
        faces = rng.choice([-1.0, 1.0], (len(points) // 2, m))
        points = np.concatenate([points, np.where(rng.random(faces.shape) < 0.5, faces,
                                                  points[: len(faces)])])  # fmt: skip
    hidden = np.maximum(points @ directions.T + offsets, 0.0)
    columns = np.concatenate([hidden, np.ones((len(points), 1))], axis=1)
    solution, *_ = np.linalg.lstsq(columns, function(points), rcond=1e-10)
    return Network(directions, offsets, solution[:-1].T, solution[-1])


def _hinges(m, width, rng) -> tuple[np.ndarray, np.ndarray]:
    if m == 1:
        return np.ones((width, 1)), 1.0 - 2.0 * np.arange(width) / width
    directions = rng.standard_normal((width, m))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # Every hinge crosses the cube: its distance is less than the direction's reach.
    reach = np.abs(directions).sum(axis=1)
    return directions, reach * rng.uniform(-1.0, 1.0, width)
