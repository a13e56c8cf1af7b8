"""What a solver integrates: a problem's coordinates, or the chart that its derivation gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class Coordinates:
    """The state z itself."""

    #: What a trajectory's `stats` say of it.
    stats: Mapping[str, int] = {}

    def __init__(self, problem):
        self.start = problem.z0.copy()
        self.rate, self.jacobian = problem.rate, problem.jacobian

    def states(self, y: np.ndarray) -> np.ndarray:
        """z where the solver is at `y`: shape (n,), or (n, times) as scipy gives it."""
        return y


class Charted(Coordinates):
    """Coordinates y in which the flow does not cancel (`derivations.derivation.Chart`)."""

    stats: Mapping[str, int] = {"chart": 1}

    def __init__(self, problem):
        self.compiled, self.par = problem.compiled, problem.par
        self.start = self.compiled.to_chart(problem.z0[None].copy(), self.par)[0]

    def rate(self, t: float, y: np.ndarray) -> np.ndarray:
        return self.compiled.chart_flow(t, y, self.par)

    def jacobian(self, t: float, y: np.ndarray) -> np.ndarray:
        return self.compiled.chart_jacobian(t, y, self.par)

    def states(self, y: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(np.atleast_2d(y.T))
        return self.compiled.from_chart(rows, self.par).T.reshape(y.shape)


def chart_of(problem) -> Coordinates:
    """The chart where the system has one for these parameters and no coordinate is held."""
    usable = problem.system.chart
    if usable is None or problem.held.any() or not usable(problem.values):
        return Coordinates(problem)
    return Charted(problem)
