"""One trajectory: a system, its parameters, a method, a horizon.

The flow is stiff once the head has formed, so the methods are implicit ones with strict defaults;
loose tolerances would move emergence times without any warning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from reduced_dynamics.compiled import compile_system
from reduced_dynamics.descent import run_descent
from reduced_dynamics.flow import run_flow
from reduced_dynamics.problem import ATOL, DYNAMICS, METHODS, RTOL, THRESHOLD, Options, Problem
from reduced_dynamics.recorder import Progress, Recorder, versions
from reduced_dynamics.system import ReducedSystem
from reduced_dynamics.systems import get
from reduced_dynamics.trajectory import Trajectory

__all__ = [
    "ATOL",
    "DYNAMICS",
    "METHODS",
    "RTOL",
    "THRESHOLD",
    "Interrupted",
    "Options",
    "Progress",
    "integrate",
    "report_at",
    "versions",
]


class Interrupted(KeyboardInterrupt):
    """The user interrupted; `trajectory` holds what was done so far."""

    def __init__(self, trajectory: Trajectory):
        super().__init__("interrupted")
        self.trajectory = trajectory


def integrate(
    system: ReducedSystem | str,
    parameters: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Trajectory:
    """Integrate one trajectory of a reduced system.

    Parameters
    ----------
    system : ReducedSystem or str
        A system, or the name of a built-in one.
    parameters : mapping, optional
        Parameter values by name; defaults for the rest.
    t_end : float or str
        Horizon in reduced training time; an expression over the parameters such as ``"8*N**2"``;
        or ``"auto"``: until the head has formed (the system's `formed` events happened) and the
        loss has converged (5 % longer than it takes to reach 10⁻⁶ of its start) or settled at
        another value (see `CONVERGED`), at the latest at the system's own bound, `horizon`.
    method : {"LSODA", "Radau", "BDF"}
        scipy's stiff integrators, with the derived Jacobian.
    rtol, atol : float
        Tolerances of the trajectory; the multistep methods are given stricter ones a step.
    threshold : float
        Level at which a coordinate counts as emerged.
    clamp : mapping of str to float
        Coordinates held fixed at these values.
    start : mapping of str to float
        Coordinates that start elsewhere than the system says.
    dynamics : {"flow", "gd"}
        Gradient flow, or gradient descent with `step`; a step advances the time by `step`.
    step : float
        Learning rate in reduced time, for ``dynamics="gd"``.
    at : sequence of float
        Times the run must reach: an automatic horizon does not end before them.
    progress : callable, optional
        Called with a `Progress` after every step (or chunk of discrete steps).

    Returns
    -------
    Trajectory
        With every crossing of every event in order of time, the drift of the first integrals and
        the largest rise of the loss.

    Raises
    ------
    InputError
        For unknown names and values out of range.
    IntegrationError
        If the integration fails or is stuck, with the reason and a remedy; what was computed is
        in its `trajectory`.
    Interrupted
        On Ctrl-C, with what was computed.
    """
    system = get(system) if isinstance(system, str) else system
    problem = Problem(system, parameters or {}, Options(**options))
    recorder = Recorder(problem)
    run = run_flow if problem.options.dynamics == "flow" else run_descent
    try:
        with np.errstate(all="ignore"):
            message = run(problem, recorder, progress)
    except KeyboardInterrupt:
        raise Interrupted(
            recorder.trajectory(f"interrupted by the user at t = {recorder.t[-1]:g}")
        ) from None
    return recorder.trajectory(message)


def report_at(
    system: ReducedSystem, trajectory: Trajectory, times: Sequence[float]
) -> dict[str, list[float]]:
    """Loss, observables and coordinates at `times`, by name; empty without times.

    Raises
    ------
    InputError
        If a time lies outside the trajectory.
    """
    if len(times) == 0:
        return {}
    compiled = compile_system(system, trajectory.parameters)
    par = np.array(system.pack(trajectory.parameters), dtype=float)
    states = np.ascontiguousarray(trajectory.at(np.asarray(times, dtype=float)))
    table = compiled.value_table(states, par)
    columns = {"t": np.asarray(times, dtype=float), "loss": table[:, 0]}
    columns |= {name: table[:, 1 + k] for k, name in enumerate(compiled.observables)}
    columns |= {name: states[:, k] for k, name in enumerate(trajectory.coordinates)}
    return {name: column.tolist() for name, column in columns.items()}
