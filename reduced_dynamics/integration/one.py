"""One trajectory: a system, its parameters, a method, a horizon.

The flow is stiff once the head has formed, so the methods are implicit ones with strict defaults;
loose tolerances would move emergence times without any warning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.errors import IntegrationError, check_interrupt, unknown
from reduced_dynamics.core.progress import Progress, watched
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.integration.descent import run_descent
from reduced_dynamics.integration.flow import run_flow
from reduced_dynamics.integration.problem import Options, Problem
from reduced_dynamics.integration.recorder import Recorder
from reduced_dynamics.integration.rosenbrock.single import run_rodas
from reduced_dynamics.integration.stages import join


class Interrupted(KeyboardInterrupt):
    """The user interrupted; `trajectory` holds what was done so far."""

    def __init__(self, trajectory: Trajectory):
        super().__init__("interrupted")
        self.trajectory = trajectory


def integrate(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Trajectory:
    """Integrate one trajectory of a reduced system.

    Parameters
    ----------
    system : ReducedSystem
    parameters : mapping, optional
        Parameter values by name; defaults for the rest.
    t_end : float or str
        Horizon in reduced training time; an expression over the parameters such as ``"8*N**2"``;
        or ``"auto"``: until the head has formed (the system's `formed` events happened) and the
        loss has converged (5 % longer than it takes to reach 10⁻⁶ of its start) or settled at
        another value (see `CONVERGED`), at the latest at the system's own bound, `horizon`.
    method : {"LSODA", "Radau", "BDF", "Rodas5P"}
        scipy's stiff integrators with the derived Jacobian, or this package's own, compiled
        together with the system (`rosenbrock`).
    rtol, atol : float
        Tolerances of the trajectory; the multistep methods are given stricter ones a step.
    threshold : float
        Level at which a coordinate counts as emerged.
    clamp : mapping of str to float
        Coordinates held fixed at these values.
    start : mapping of str to float
        Coordinates that start elsewhere than the system says.
    dynamics : {"flow", "gd"}
        Gradient flow, or gradient descent with `step`: a step advances the time by `step`, and
        the run ends with the last whole step within the horizon.
    step : float
        Learning rate in reduced time, for ``dynamics="gd"``.
    max_step : float
        Longest step of the solver in reduced time (none by default). Events are looked for at nine
        points a step, so what watches a quantity with narrow features needs one.
    at : sequence of float
        Times the run must reach: an automatic horizon does not end before them.
    progress : callable, optional
        A `core.progress.Progress`, called after every step (or chunk of discrete steps).

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
    known = [f.name for f in fields(Options)]
    for name in options:
        if name not in known:
            raise unknown("option of integrate", name, [*known, "progress"])
    progress = watched(progress)
    stages = system.stages(system.values(parameters))
    if stages:
        return in_stages(system, parameters or {}, stages, progress=progress, **options)
    problem = Problem(system, parameters or {}, Options(**options))
    recorder = Recorder(problem)
    run = run_rodas if problem.options.method == "Rodas5P" else run_flow
    run = run if problem.options.dynamics == "flow" else run_descent
    try:
        with np.errstate(all="ignore"):
            message = run(problem, recorder, progress)
    except (KeyboardInterrupt, SystemError) as stopped:
        check_interrupt(stopped)
        raise Interrupted(
            recorder.trajectory(f"interrupted by the user at t = {recorder.t[-1]:g}")
        ) from None
    return recorder.trajectory(message)


def in_stages(
    system: ReducedSystem,
    parameters: Mapping[str, Any],
    stages: Sequence[Mapping[str, Any]],
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Trajectory:
    """Successive runs, each with its change of parameters, as one trajectory; see `integrate`.

    Every stage lasts an equal part of the horizon; with an automatic one, until it has settled.
    """
    horizon = options.pop("t_end", "auto")
    share = horizon if horizon == "auto" else f"({horizon}) / {len(stages)}"
    start, done = dict(options.pop("start", {})), []
    options.pop("at", None)
    for stage in stages:
        changed = {**parameters, **stage}
        try:
            done.append(
                integrate(system, changed, t_end=share, start=start, progress=progress, **options)
            )
        except (IntegrationError, Interrupted) as stopped:
            if stopped.trajectory is not None:
                whole = join([*done, stopped.trajectory])
                stopped.trajectory = replace(whole, parameters=system.values(parameters))
            raise
        start = done[-1].final
    return replace(join(done), parameters=system.values(parameters))


def report_at(
    system: ReducedSystem, trajectory: Trajectory, times: Sequence[float]
) -> dict[str, list[float]]:
    """Loss, observables and coordinates at `times`, by name; empty without times.

    Parameters
    ----------
    system : ReducedSystem
    trajectory : Trajectory
        One of that system.
    times : sequence of float
        Reduced training times.

    Raises
    ------
    InputError
        If a time lies outside the trajectory.
    """
    if len(times) == 0:
        return {}
    system = system.adapted(trajectory.parameters)
    compiled = compile_system(system, trajectory.parameters)
    par = np.array(system.pack(trajectory.parameters), dtype=float)
    states = np.ascontiguousarray(trajectory.at(np.asarray(times, dtype=float)))
    table = compiled.value_table(states, par)
    columns = {"t": np.asarray(times, dtype=float), "loss": table[:, 0]}
    columns |= {name: table[:, 1 + k] for k, name in enumerate(compiled.observables)}
    columns |= {name: states[:, k] for k, name in enumerate(trajectory.coordinates)}
    return {name: column.tolist() for name, column in columns.items()}
