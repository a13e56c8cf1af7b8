"""Many trajectories of one system at once, to given times or to where each ends by itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from reduced_dynamics.core.progress import Progress
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.integration.ensemble import Ensemble, Preparation
from reduced_dynamics.integration.horizons import Horizons
from reduced_dynamics.integration.problem import ATOL, RTOL, THRESHOLD


def integrate_many(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    t_end: float | str | Sequence[float],
    starts: Mapping[str, Any] | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
    threshold: float = THRESHOLD,
    clamp: Mapping[str, float] | None = None,
    at: Sequence[float | str] = (),
    threads: int | None = None,
    lanes: bool | None = None,
    progress: Progress | None = None,
) -> Ensemble:
    """Integrate many trajectories of a reduced system with Rodas5P.

    Parameters
    ----------
    system : ReducedSystem
    parameters : mapping of str to value or array, or sequence of mappings
        Arrays of equal length, one entry a point (single values hold for all points); or one
        mapping a point.
    t_end : float, str, or sequence of float
        Horizon of all points, an expression over their parameters such as ``"20*N**2"``, or one
        number a point; or ``"auto"``, each point's end as `integrate` finds it: that is looked for
        first, and takes a few times as long.
    starts : mapping of str to float or array, optional
        Coordinates that start elsewhere than the system says.
    rtol, atol : float
        Tolerances of the trajectory, as for `integrate`.
    threshold : float
        Level at which a coordinate counts as emerged.
    clamp : mapping of str to float, optional
        Coordinates held fixed at these values.
    at : sequence of float or str
        Times whose states are kept, or expressions over the parameters.
    threads : int, optional
        As many trajectories, or groups of lanes, at a time; all processors by default.
    lanes : bool, optional
        Whether to share vector registers between trajectories: where there is a closed form
        (default), always (an error where it is not possible), or never. For systems with loops
        over pairs, such as `musat19`, always pays if sixteen points or more have the same N and
        query.
    progress : callable, optional
        A `core.progress.Progress`, called when points are done.

    Returns
    -------
    Ensemble
        A point that fails, or whose parameters are out of range, is recorded with its reason.

    Raises
    ------
    InputError
        For unknown names, arrays of unequal length, and options out of range.
    """
    options = {"rtol": rtol, "atol": atol, "threshold": threshold, "clamp": clamp}
    if isinstance(t_end, str) and t_end == "auto":
        t_end = Horizons(system, parameters, starts, at, threads, lanes, **options).ends
    prepared = Preparation(system, parameters, t_end=t_end, starts=starts, at=at, **options)
    return prepared.run(threads, lanes, progress)
