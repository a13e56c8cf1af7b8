"""The edge: public functions take a system, or its name; what lies below takes systems only."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module

from reduced_dynamics import catalogue
from reduced_dynamics.core.trajectory import Trajectory

#: Functions with an argument `system`, and where they stand.
OF_SYSTEMS = {
    "integrate": "reduced_dynamics.integration.one",
    "report_at": "reduced_dynamics.integration.one",
    "integrate_many": "reduced_dynamics.integration.many",
    "sweep": "reduced_dynamics.sweeping.run",
    "fixed_points": "reduced_dynamics.analysis.fixed_points",
    "plane": "reduced_dynamics.analysis.plane",
    "spectrum": "reduced_dynamics.analysis.spectrum",
    "sensitivities": "reduced_dynamics.analysis.sensitivity",
}


def __getattr__(name: str):
    if name not in OF_SYSTEMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _at_the_edge(name)


@cache
def _at_the_edge(name: str) -> Callable:
    """That function, for names of systems too; of a trajectory, its own system unless given."""
    function = getattr(import_module(OF_SYSTEMS[name]), name)
    known = inspect.signature(function)
    own = next(iter(known.parameters)) == "trajectory"

    @wraps(function)
    def edge(*args, **options):
        given = known.bind_partial(*args, **options)
        system = given.arguments.get("system")
        if system is None and own and given.args:
            system = given.args[0].system
        if system is not None or "system" in given.arguments:
            given.arguments["system"] = catalogue.resolve(system)
        return function(*given.args, **given.kwargs)

    changed = {"annotation": "ReducedSystem | str"} | ({"default": None} if own else {})
    parameters = [
        p.replace(**changed) if p.name == "system" else p for p in known.parameters.values()
    ]
    edge.__signature__ = known.replace(parameters=parameters)
    edge.__doc__ = (function.__doc__ or "").replace(
        "system : ReducedSystem\n", "system : ReducedSystem or str\n"
    )
    return edge


def trajectory_figure(trajectory: Trajectory):
    """A trajectory as the family of its system draws it, or else as any trajectory is drawn.

    Parameters
    ----------
    trajectory : Trajectory

    Returns
    -------
    matplotlib.figure.Figure
    """
    from reduced_dynamics.plotting.trajectories import trajectory_figure as general

    return (catalogue.find("pictures", trajectory.system) or general)(trajectory)
