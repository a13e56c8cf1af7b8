"""The spectrum of the Jacobian along a trajectory, and how stiff the flow is there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reduced_dynamics.analysis.vector_field import VectorField
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.core.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of the Jacobian along a trajectory.

    Attributes
    ----------
    t : ndarray, shape (n,)
        Reduced training time.
    eigenvalues : ndarray, shape (n, free coordinates)
        Largest real part first; real where the Jacobian is symmetric. Growth rates in
        1/(reduced training time).
    speed : ndarray, shape (n,)
        Norm of dz/dt over that of z − z(0): how fast the trajectory itself moves (infinite at the
        start).
    """

    t: np.ndarray
    eigenvalues: np.ndarray
    speed: np.ndarray

    @property
    def growth(self) -> np.ndarray:
        """The largest real part, shape (n,): positive while something grows exponentially."""
        return self.eigenvalues.real.max(axis=1)

    @property
    def stiffness(self) -> np.ndarray:
        """Fastest decay over the speed of the trajectory, shape (n,).

        The number of its own fastest time constants in which the trajectory moves once: an
        explicit method needs about as many steps. 0 where nothing decays.
        """
        fastest = np.maximum(-self.eigenvalues.real.min(axis=1), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.speed > 0, fastest / self.speed, np.inf)


def spectrum(
    trajectory: Trajectory,
    system: ReducedSystem,
    *,
    at: Sequence[float] | None = None,
    points: int = 200,
) -> Spectrum:
    """Eigenvalues of the Jacobian along a trajectory of a reduced flow.

    Parameters
    ----------
    trajectory : Trajectory
        Of a reduced system. What was clamped does not count.
    system : ReducedSystem
        That of the trajectory.
    at : sequence of float
        Reduced training times; by default about `points` of the solver's own steps, which are
        dense where the flow moves.

    Raises
    ------
    InputError
        If the trajectory is a full model's, or a time lies outside it.
    """
    if trajectory.solver.get("dynamics") not in ("flow", "gd"):
        raise InputError(
            "a spectrum belongs to a reduced flow, and this trajectory is a full model's; give "
            "that of the reduced system"
        )
    name = system if isinstance(system, str) else getattr(system, "name", trajectory.system)
    if name != trajectory.system:
        raise InputError(f"this trajectory is one of {trajectory.system} and not of {name}")
    held = {
        name.removeprefix("clamp."): value
        for name, value in trajectory.solver.items()
        if name.startswith("clamp.")
    }
    field = VectorField(system, trajectory.parameters, held)
    if points < 1 or (at is not None and not len(at)):
        raise InputError("a spectrum needs at least one time")
    if at is None:
        chosen = np.unique(np.linspace(0, len(trajectory) - 1, points).astype(int))
        times, states = trajectory.t[chosen], trajectory.z[chosen]
    else:
        times = np.array(at, dtype=float)
        states = trajectory.at(times)
    rates = np.array([field.rate(z) for z in states])
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = np.linalg.norm(rates, axis=1) / np.linalg.norm(states - trajectory.z[0], axis=1)
    return Spectrum(times, np.array([field.spectrum(z) for z in states]), speed)
