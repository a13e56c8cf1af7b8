"""How emergence times depend on parameters and on the start.

With respect to the start the derivative comes from the variational equation S' = J S along the
trajectory, solved by collocation on the solver's own steps; with respect to a parameter from runs
beside it, since a parameter may enter through tables, sampled data or integers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reduced_dynamics.analysis.vector_field import VectorField
from reduced_dynamics.core.errors import InputError, IntegrationError, unknown
from reduced_dynamics.core.progress import Progress, watched
from reduced_dynamics.core.system import Event, Parameter, ReducedSystem
from reduced_dynamics.core.trajectory import NODES, Trajectory, interpolate, lobatto
from reduced_dynamics.integration.one import integrate
from reduced_dynamics.integration.problem import THRESHOLD

#: Runs beside a real parameter lie at these relative distances; their two central differences
#: make one of fourth order, and what they differ by is its error estimate.
NEAR, FAR = 1e-3, 2e-3
#: Those beside a whole number at this relative distance, but at least 1.
WHOLE = 0.01


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """Derivatives of event times.

    Attributes
    ----------
    times : dict of str to float
        The events that happened, and when (reduced training time).
    start : dict of str to dict of str to float
        ``start[event][coordinate]``: dT/d(start of the coordinate).
    parameter : dict of str to dict of str to float
        ``parameter[event][name]``: the elasticity d log T/d log(parameter); for a power law of
        the parameter, its exponent. NaN where a run beside it failed or lost the event.
    error : dict of str to dict of str to float
        Estimated error of each elasticity.
    """

    times: dict[str, float]
    start: dict[str, dict[str, float]]
    parameter: dict[str, dict[str, float]]
    error: dict[str, dict[str, float]]


def sensitivities(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    events: Iterable[str] | None = None,
    of: Iterable[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Sensitivities:
    """Derivatives of emergence times with respect to starts and parameters.

    Parameters
    ----------
    system : ReducedSystem
    events : iterable of str, optional
        The events; all that happen, if not said.
    of : iterable of str, optional
        The parameters; by default all numbers except seeds, sizes of samples, and those that
        change the equations themselves (their derivation would be repeated for every neighbour).
    progress : callable, optional
        A `core.progress.Progress`, called with each parameter before its runs.
    **options
        Passed on to `integrate` (of a flow).

    Raises
    ------
    InputError
        For unknown names, or dynamics that are not a flow.
    IntegrationError
        If the run itself fails.
    """
    if options.get("dynamics", "flow") != "flow":
        raise InputError("sensitivities are those of the flow; drop dynamics")
    progress = watched(progress)
    values = system.values(parameters)
    base = integrate(system, values, **options)
    times = {name: t for name, t in base.events.items() if t is not None and t > 0.0}
    if events is not None:
        chosen = list(events)
        for name in chosen:
            if name not in base.events:
                raise unknown("event", name, base.events)
        times = {name: t for name, t in times.items() if name in chosen}
    known = {p.name: p for p in system.parameters}
    names = (
        list(of)
        if of is not None
        else [p.name for p in known.values() if _varies(system, p, values)]
    )
    for name in names:
        if name not in known:
            raise unknown(f"parameter of {system.name}", name, known)
        if not isinstance(values[name], int | float) or isinstance(values[name], bool):
            raise InputError(f"{name} = {values[name]} is not a number; it has no derivative")
    elasticity: dict[str, dict[str, float]] = {event: {} for event in times}
    error: dict[str, dict[str, float]] = {event: {} for event in times}
    for done, name in enumerate(names):
        progress(f"runs beside {name}", done / len(names))
        for event, found in _elasticities(system, values, known[name], times, options).items():
            elasticity[event][name], error[event][name] = found
    return Sensitivities(times, start_derivatives(base, system, times), elasticity, error)


#: Parameters that name a sample rather than a quantity.
_SAMPLES = ("seed", "bank", "kernels")


def _varies(system: ReducedSystem, parameter: Parameter, values: Mapping[str, Any]) -> bool:
    value = values[parameter.name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Whole numbers of a few values are choices, such as an order.
    choice = parameter.kind == "int" and parameter.high - parameter.low < 4
    return (
        number
        and value != 0
        and not choice
        and parameter.name not in (*_SAMPLES, *system.structure)
    )


def _elasticities(system, values, parameter, times, options) -> dict[str, tuple[float, float]]:
    centre, whole = values[parameter.name], parameter.kind == "int"
    if whole:
        distances = [max(1, round(WHOLE * centre)), max(2, round(2 * WHOLE * centre))]
    else:
        distances = [NEAR * abs(centre), FAR * abs(centre)]
    quotients = []
    for distance in distances:
        low, high = (
            _times(system, values, parameter.name, centre + sign * distance, options)
            for sign in (-1, 1)
        )
        # In logarithms, so that a power law has no error at all.
        width = np.log((centre + distance) / (centre - distance)) if centre != distance else np.inf
        quotients.append({e: np.log(_known(high, e) / _known(low, e)) / width for e in times})
    found = {}
    for event in times:
        near, far = (q[event] for q in quotients)
        ratio = (distances[1] / distances[0]) ** 2
        better = near + (near - far) / (ratio - 1.0)
        found[event] = (float(better), float(abs(better - near)))
    return found


def _known(times: Mapping[str, float | None], event: str) -> float:
    time = times.get(event)
    return time if time else np.nan  # also where it is there from the start


def _times(system, values, name, value, options) -> Mapping[str, float | None]:
    try:
        return integrate(system, {**values, name: value}, **options).events
    except (InputError, IntegrationError):
        return {}


def start_derivatives(
    trajectory: Trajectory, system: ReducedSystem, times: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """dT/d(start) of events at `times` along a trajectory with dense output.

    With g the watched quantity minus its level, dT = −∇g·S(T) / (∇g·dz/dt), S(0) = 1.

    Returns
    -------
    dict of str to dict of str to float
        By event and coordinate; clamped coordinates are left out.
    """
    held = {
        name.removeprefix("clamp."): value
        for name, value in trajectory.solver.items()
        if name.startswith("clamp.")
    }
    field = VectorField(system, trajectory.parameters, held)
    if trajectory.nodes is None or not times:
        return {}
    declared = {event.name: event for event in field.system.events}
    threshold = float(trajectory.solver.get("threshold", THRESHOLD))
    results: dict[str, dict[str, float]] = {}
    pending = sorted((t, name) for name, t in times.items())
    for step, nodes_of_s in enumerate(_variation(trajectory, field)):
        begin, end = trajectory.t[step], trajectory.t[step + 1]
        while pending and pending[0][0] <= end:
            t, name = pending.pop(0)
            at = np.array([(t - begin) / (end - begin)])
            flat = nodes_of_s.reshape(1, NODES, -1)
            s = interpolate(at, flat)[0].reshape(len(field.names), -1)
            z = trajectory.at(t)
            results[name] = _derivative(field, declared[name], threshold, trajectory.z[0], z, s)
        if not pending:
            break
    return results


def _variation(trajectory: Trajectory, field: VectorField):
    """S at the nodes of every step, shape (NODES, d, d): S' = J S, S(0) = 1, by collocation."""
    size = len(field.names)
    s = np.eye(size)
    derivative = _differentiation(lobatto(NODES))
    for step in range(len(trajectory) - 1):
        length = trajectory.t[step + 1] - trajectory.t[step]
        jacobians = np.array([field.jacobian(z) for z in trajectory.nodes[step]])
        system = np.kron(derivative[1:, 1:], np.eye(size))
        for k in range(NODES - 1):
            part = slice(k * size, (k + 1) * size)
            system[part, part] -= length * jacobians[k + 1]
        right = -np.kron(derivative[1:, :1], np.eye(size)) @ s
        solved = np.linalg.solve(system, right).reshape(NODES - 1, size, size)
        yield np.concatenate([s[None], solved])
        s = solved[-1]


def _differentiation(x: np.ndarray) -> np.ndarray:
    """The matrix that differentiates polynomials given at the points `x`."""
    difference = x[:, None] - x[None, :] + np.eye(len(x))
    weight = 1.0 / difference.prod(axis=1)
    matrix = (weight[None, :] / weight[:, None]) / difference
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    return matrix


def _derivative(field, event: Event, threshold, z0, z, s) -> dict[str, float]:
    gradient = _watched_gradient(field, event.watch, z)
    change = gradient @ s
    if event.of_start:
        share = threshold if event.level is None else event.level
        change = change - share * _watched_gradient(field, event.watch, z0)
    derivative = -change / (gradient @ field.rate(z))
    return {field.names[k]: float(derivative[k]) for k in field.free}


def _watched_gradient(field: VectorField, watch: str, z: np.ndarray) -> np.ndarray:
    """Gradient of a coordinate, the loss or an observable at `z`, shape (d,)."""
    if watch in field.names:
        return np.eye(len(z))[field.index(watch)]
    names = ("loss", *(o.name for o in field.system.observables))
    column = names.index(watch)
    # Central differences of fourth order.
    size = 1e-3 * np.maximum(np.abs(z), 1e-2)
    shifts = np.concatenate([k * np.diag(size) for k in (-2.0, -1.0, 1.0, 2.0)])
    table = field.table(z + shifts)[:, column].reshape(4, len(z))
    return (np.array([1.0, -8.0, 8.0, -1.0]) @ table) / (12.0 * size)
