"""What a solver integrates: a problem's coordinates, or the chart that its derivation gives."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from reduced_dynamics.core.system import ReducedSystem


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
    """Coordinates y in which the flow does not cancel (`derivations.core.derivation.Chart`)."""

    stats: Mapping[str, int] = {"chart": 1}

    def __init__(self, problem):
        self.compiled, self.par = problem.compiled, problem.par
        self.start = self.compiled.to_chart(problem.z0[None].copy(), self.par)[0]

    def rate(self, t: float, y: np.ndarray) -> np.ndarray:
        return self.compiled.chart_flow(t, y, self.par)

    def jacobian(self, t: float, y: np.ndarray) -> np.ndarray:
        return self.compiled.chart_jacobian(t, y, self.par)

    def states(self, y: np.ndarray) -> np.ndarray:
        return self.rows(y.T).T

    def rows(self, y: np.ndarray) -> np.ndarray:
        """z where the solver is at `y`, shape (…, n)."""
        rows = np.ascontiguousarray(y).reshape(-1, y.shape[-1])
        return self.compiled.from_chart(rows, self.par).reshape(y.shape)


def chart_of(problem) -> Coordinates:
    """The chart where the system has one for these parameters and no coordinate is held."""
    if applies(problem.system, problem.values, problem.held.any()):
        return Charted(problem)
    return Coordinates(problem)


def applies(system: ReducedSystem, values: Mapping[str, Any], held: bool) -> bool:
    """Whether the chart serves these parameters; never where some coordinate is `held`."""
    chart = system.hints.chart
    return chart is not None and not held and chart(values)
