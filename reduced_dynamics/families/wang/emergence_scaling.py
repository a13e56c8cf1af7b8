"""How the induction head's emergence time T_half scales in `wang`, beside what theory predicts.

On the plateau w grows at the unstable rate λ of the saddle (derived in
`derivations.wang.derive.saddle`: λ = c² a*/N to leading order), from σ to the order of √a*, so
T_half ≈ log(√a*/σ)/λ. The logarithm makes the exponent in w* smaller than the 2 of 1/λ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.fits import Fit, line, power_law
from reduced_dynamics.families.wang.system import WANG, a_star
from reduced_dynamics.integration.one import integrate
from reduced_dynamics.integration.problem import Options, Problem


@dataclass(frozen=True)
class Law:
    """One parameter that is varied: what against what, and how it is called."""

    parameter: str
    label: str
    default: tuple[float, ...]
    abscissa: Callable[[float], float]
    fit: Callable[..., Fit]


LAWS = {
    "L": Law("L", "L", (40, 80, 160, 320, 640, 1280), float, power_law),
    "alpha_star": Law(
        "alpha_star", "1 + alpha*", (0.25, 0.5, 1, 2, 4, 8), lambda x: 1 + x, power_law
    ),
    "w_star": Law("w_star", "w*", (0.1, 0.15, 0.2, 0.3, 0.4, 0.5), float, power_law),
    "sigma_init": Law(
        "sigma_init", "log(1/sigma)", (1e-2, 1e-3, 1e-4, 1e-5, 1e-6), lambda x: -np.log(x), line
    ),
}


@dataclass(frozen=True, eq=False)
class Scaling:
    """T_half over one parameter.

    Attributes
    ----------
    law : Law
    values, times, rates : ndarray, shape (n,)
        Of the parameter, T_half at them, and the unstable rate λ of the saddle.
    fit, predicted : Fit
        Of T_half; and of log(√a*/σ)/λ at the same values.
    """

    law: Law
    values: np.ndarray
    times: np.ndarray
    rates: np.ndarray
    fit: Fit
    predicted: Fit


def unstable_rate(parameters: Mapping[str, Any]) -> float:
    """The rate λ at which w leaves the saddle w = 0 of a `wang` system in Stage II.

    The largest eigenvalue of the compiled flow's Jacobian at w = 0 and the h that is at rest there.
    """
    problem = Problem(WANG, parameters, Options())
    names = problem.system.names
    place = problem.z0.copy()
    place[[names.index("w_Q"), names.index("w_K")]] = 0.0
    h = names.index("h")
    # The flow of h is linear: one Newton step ends it.
    for _ in range(2):
        place[h] -= problem.rate(0.0, place)[h] / problem.jacobian(0.0, place)[h, h]
    at = [names.index("w_Q"), names.index("w_K")]
    return float(np.linalg.eigvals(problem.jacobian(0.0, place)[np.ix_(at, at)]).real.max())


def measure(
    parameters: Mapping[str, Any],
    over: str,
    values=None,
    level: float = 0.95,
    progress: Callable[[str], None] | None = None,
) -> Scaling:
    """T_half for several values of one parameter, and its law.

    Parameters
    ----------
    parameters : mapping
        Of the system `wang`; Stage II.
    over : {"L", "alpha_star", "w_star", "sigma_init"}
    values : sequence of float, optional
        Of the parameter that is varied; `LAWS` has the default.
    level : float
        Confidence of the interval.
    progress : callable, optional
        Called with a line before every run.

    Raises
    ------
    InputError
        If T_half is not reached at some value.
    """
    law = LAWS[over]
    values = np.asarray(law.default if values is None else values, dtype=float)
    times, rates, growths = [], [], []
    for value in values:
        given = {**parameters, over: int(value) if over == "L" else value}
        if progress is not None:
            progress(f"T_half at {over} = {value:g}")
        when = integrate(WANG, given).events["T_half"]
        if when is None:
            raise InputError(f"T_half is not reached at {over} = {value:g}; leave that value out")
        times.append(when)
        rates.append(unstable_rate(given))
        known = WANG.values(given)
        growths.append(0.5 * np.log(a_star(known)) - np.log(known["sigma_init"]))
    times, rates = np.array(times), np.array(rates)
    x = np.array([law.abscissa(v) for v in values])
    predicted = law.fit(x, np.array(growths) / rates, level)
    return Scaling(law, values, times, rates, law.fit(x, times, level), predicted)
