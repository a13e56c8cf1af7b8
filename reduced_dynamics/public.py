"""The edge: public functions take a system, or its name; what lies below takes systems only."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from importlib import import_module
from typing import Any

from reduced_dynamics import catalogue
from reduced_dynamics.core.progress import Progress, silent
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
    """That function, also for names: of a system, or in a trajectory; `full` is a bool."""
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
            given.arguments["system"] = system = catalogue.resolve(system)
        if isinstance(full := given.arguments.get("full"), bool):
            given.arguments["full"] = catalogue.full_model(system) if full else None
        return function(*given.args, **given.kwargs)

    told = {"system": {"annotation": "ReducedSystem | str"} | ({"default": None} if own else {})}
    told["full"] = {"annotation": "bool", "default": False}
    edge.__signature__ = known.replace(
        parameters=[p.replace(**told.get(p.name, {})) for p in known.parameters.values()]
    )
    text = function.__doc__ or ""
    text = text.replace("system : ReducedSystem\n", "system : ReducedSystem or str\n")
    edge.__doc__ = text.replace("full : Trained, optional\n", "full : bool\n")
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


def experiment(
    name: str,
    *,
    size: str = "full",
    workers: int = 1,
    progress: Progress = silent,
    keep=None,
    **settings: Any,
):
    """Perform an experiment: what it measured, what that says about a claim, and its figure.

        result = rd.experiment("musat.order", size="quick")
        result.findings, result.data, result.plot(), result.save("order.nc")

    Parameters
    ----------
    name : str
        Its family and its own name, as ``simulate.py experiment`` lists them.
    size : {"full", "quick", "tiny"}
        How fine.
    workers : int
        Processes that share its parts.
    progress : callable, optional
        See `core.progress.Progress`.
    keep : path, optional
        Folder in which parts are kept when it is interrupted; in the cache by default.
    **settings
        Those of the experiment.

    Returns
    -------
    experiments.result.Result

    Raises
    ------
    InputError
        For an unknown name, size or setting, or a value that is impossible.
    ExperimentInterrupted
        At Ctrl-C: what was done is kept for the same call.
    """
    from reduced_dynamics.experiments.experiment import Context
    from reduced_dynamics.experiments.perform import perform

    return perform(catalogue.experiment(name), settings, Context(size, workers, progress, keep))


def load_result(path):
    """A result that was saved; it is drawn again by its ``plot()``.

    Raises
    ------
    InputError
        If there is no such file, or it is no result of an experiment that is known.
    """
    from reduced_dynamics.experiments.result import Result

    found = Result.load(path)
    return replace(found, declared=catalogue.experiment(found.experiment))
