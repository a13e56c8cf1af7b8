"""The flow as a vector field: rate, Jacobian, loss and observables at any state."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.integration.problem import Options, Problem


class VectorField:
    """dz/dt of a reduced system at given parameters.

    Parameters
    ----------
    system : ReducedSystem
    parameters : mapping, optional
    hold : mapping of str to float
        Coordinates fixed at these values: their rate is 0, and they are not `free`.

    Attributes
    ----------
    names : tuple of str, length d
    origin : ndarray, shape (d,)
        Where the system starts, with what is held in its place.
    free : ndarray of int
        Positions of the coordinates that are not held.

    Raises
    ------
    InputError
        For unknown names and values out of range.
    """

    def __init__(
        self,
        system: ReducedSystem,
        parameters: Mapping[str, Any] | None = None,
        hold: Mapping[str, float] | None = None,
    ):
        if system.stages(system.values(parameters)):
            raise InputError(
                "training in stages has a vector field for every stage; set training to one of them"
            )
        # The horizon does not matter to a vector field.
        self._problem = Problem(system, parameters or {}, Options(t_end=1.0, clamp=hold or {}))
        self.system, self.values = self._problem.system, self._problem.values
        self.names, self.origin = self.system.names, self._problem.z0
        self.free = np.flatnonzero(~self._problem.held)

    def rate(self, z: np.ndarray) -> np.ndarray:
        """dz/dt at `z`, shape (d,); 0 for what is held."""
        return self._problem.rate(0.0, np.ascontiguousarray(z, dtype=float))

    def jacobian(self, z: np.ndarray) -> np.ndarray:
        """∂(dz/dt)/∂z at `z`, shape (d, d); rows of what is held are 0."""
        return self._problem.jacobian(0.0, np.ascontiguousarray(z, dtype=float))

    def spectrum(self, z: np.ndarray) -> np.ndarray:
        """Eigenvalues of the Jacobian in the free coordinates, largest real part first.

        Real where the Jacobian is symmetric, which it is wherever the coordinates are orthonormal.
        """
        matrix = self.jacobian(z)[np.ix_(self.free, self.free)]
        if not np.isfinite(matrix).all():
            return np.full(len(matrix), np.nan)
        size = np.abs(matrix).max(initial=0.0)
        if np.abs(matrix - matrix.T).max(initial=0.0) <= 1e-12 * size:
            return np.linalg.eigvalsh(matrix)[::-1]
        found = np.linalg.eigvals(matrix)
        return found[np.argsort(-found.real, kind="stable")]

    def table(self, states: np.ndarray) -> np.ndarray:
        """Loss and observables at states of shape (n, d): shape (n, 1 + observables)."""
        states = np.ascontiguousarray(states, dtype=float)
        return self._problem.compiled.value_table(states, self._problem.par)

    def outside(self, z: np.ndarray) -> str:
        """Why the equations do not hold at `z`; empty where they do."""
        return self._problem.outside(z)

    def index(self, name: str) -> int:
        """Position of a coordinate; InputError with the nearest name if there is none."""
        return self.system.index(name)

    def state(self, given: Mapping[str, float] | None) -> np.ndarray:
        """A state from some coordinates by name; the others are where the system starts."""
        z = self.origin.copy()
        for name, value in (given or {}).items():
            z[self.index(name)] = self.system.place(name, value)
        return z
