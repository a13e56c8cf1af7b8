"""Scaling laws from a sweep: exponents with intervals, local exponents, prefactors and limits."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.fits import Fit, power_law

if TYPE_CHECKING:
    import xarray

    from reduced_dynamics.sweeping.plan import Plan

#: An extrapolated exponent this near to a multiple of ½ is taken to be it.
SIMPLE = 0.02
#: The size of noise in a time, in units of the relative tolerance of its integration: steps keep to
#: the tolerance each for itself, and times of musat3 and wang (tolerances 1e-5 to 1e-9, compared
#: with 1e-12) were seen to be off by 0.01 to 6 of it.
NOISE = 10.0
#: The least noise there is, relative: rounding.
ROUNDING = 1e-13
#: Values from which a limit is extrapolated: three, and those one and two places before.
NEEDED = 5
#: With a last local exponent so far from the one asked for, the prefactor has no limit.
ELSEWHERE = 0.25
#: The slowest correction that is looked for where noise may hide it, as a power of the parameter.
SLOWEST = 0.5
_SPEC = re.compile(r"\s*(\w+)\s*~\s*([\w.]+?)\s*(?:(?:\*\*|\^)\s*([-+]?[\d.]+(?:/\d+)?))?\s*$")


@dataclass(frozen=True)
class Limit:
    """Where a sequence over a growing parameter tends to, as its last points say.

    Attributes
    ----------
    value : float
        From the last three points, for a correction that is a power of the parameter; the last
        one where they differ by no more than noise; nan if they do not settle, or are too few.
    error : float
        How far that is to be trusted: the largest change of the limit when it is taken one and two
        points earlier, and no less than a tenth of the way that is left, nor than the noise in the
        last values. It knows of no correction that has yet to show, nor of logarithms.
    """

    value: float
    error: float

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.value) and np.isfinite(self.error))


@dataclass(frozen=True, eq=False)
class Law:
    """How one result of a sweep depends on one of its parameters.

    Attributes
    ----------
    of, over : str
        The result, and the parameter.
    at : dict
        Where the other dimensions of the sweep are.
    x, y : ndarrays, shape (n,)
        Ascending; points that were not reached are left out.
    left_out : int
        How many those are.
    fit : Fit
        The power law of least squares through all points.
    residual : ndarray, shape (n,)
        log y minus that of the fit.
    middle : ndarray, shape (n - 1,)
        Between which points the local exponents `fit.local` are (geometric means).
    exponent : Limit
        Of the local exponents.
    simple : float or None
        The exponent for which `prefactor` is given: the one asked for, or else the multiple of ½
        next to the limit of the local exponents, if it lies that near.
    ratio : ndarray, shape (n,), or None
        y/x^simple.
    prefactor : Limit or None
        The limit of `ratio`.
    noise : float
        The size of what the integration leaves uncertain in y, relative.
    """

    of: str
    over: str
    at: dict[str, Any]
    x: np.ndarray
    y: np.ndarray
    left_out: int
    fit: Fit
    residual: np.ndarray
    middle: np.ndarray
    exponent: Limit
    simple: float | None
    ratio: np.ndarray | None
    prefactor: Limit | None
    noise: float = ROUNDING


def laws(dataset: xarray.Dataset, spec: str, level: float = 0.95) -> list[Law]:
    """The scaling laws of a sweep's result, one for every point of its other dimensions.

    Parameters
    ----------
    dataset : xarray.Dataset
        As `open_sweep` gives it.
    spec : str
        ``"t_icl~N"``; with an exponent, ``"t_icl~N**2"``, the prefactor is that of this exponent.
    level : float
        Confidence of the interval of the exponent.

    Raises
    ------
    InputError
        If the text is malformed, a name is unknown, or fewer than two points were reached.
    """
    of, over, exponent = parse(spec)
    known = {str(n): "at" in v.dims for n, v in dataset.data_vars.items() if v.dtype.kind in "fi"}
    _check(of, over, known, {str(n): v.dtype.kind in "fi" for n, v in dataset.coords.items()})
    found = [law for law in _each(dataset, of, over, exponent, level) if law is not None]
    if not found:
        raise InputError(
            f"{of} was reached at fewer than two values of {over}; sweep more of them, or give a "
            "longer horizon"
        )
    return found


def check(plan: Plan, spec: str) -> None:
    """Refuse what `laws` will refuse of the results of a plan, before they are computed.

    Raises
    ------
    InputError
    """
    of, over, _ = parse(spec)
    dimensions = {s.name: s.quantity.kind != "text" for s in plan.swept.values()}
    if plan.settings.at:
        dimensions["at"] = not any(isinstance(t, str) for t in plan.settings.at)
    _check(of, over, {v.name: v.timed for v in plan.variables if v.dtype != "str"}, dimensions)
    if over != "at":
        values = next((a.values for a in plan.axes if a.name == over), plan.sampled.get(over))
        if len(np.unique(values)) < 2:
            raise InputError(f"a law in {over} needs at least two values of it; sweep more of them")


def _check(of: str, over: str, results: dict[str, bool], dimensions: dict[str, bool]) -> None:
    """`results` says what is kept at times, `dimensions` what is a number."""
    known = [name for name in results if name != "status"]
    if of not in known:
        raise unknown("result of this sweep", of, known)
    if over not in dimensions:
        raise unknown("dimension of this sweep", over, dimensions)
    if not dimensions[over]:
        raise InputError(f"{over} is not a number, so nothing scales with it")
    if over == "at" and not results[of]:
        raise InputError(f"{of} is not kept at times; ask for at_{of} or another that is")


def parse(spec: str) -> tuple[str, str, float | None]:
    """``"t_icl~N**2"`` as the result, the parameter and the exponent, which may be missing."""
    match = _SPEC.match(spec)
    if not match:
        raise InputError(f"a law is written as RESULT~PARAMETER, such as t_icl~N, not '{spec}'")
    of, over, power = match.groups()
    if power is None:
        return of, over, None
    top, _, bottom = power.partition("/")
    try:
        return of, over, float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"the exponent of a law is a number, not '{power}'") from None


def _each(dataset, of, over, exponent, level) -> Iterator[Law | None]:
    values = dataset[of]
    along = dataset[over].dims[0]
    others = [d for d in values.dims if d != along]
    for indices in itertools.product(*(range(values.sizes[d]) for d in others)):
        chosen = dict(zip(others, indices, strict=True))
        at = {
            d: dataset[d].values[k : k + 1].tolist()[0]
            for d, k in chosen.items()
            if d in dataset.coords
        }
        yield law(
            dataset[over].values.astype(float),
            values.isel(chosen).values.astype(float),
            of=of, over=over, at=at, exponent=exponent, level=level, noise=noise_of(dataset),
        )  # fmt: skip


def noise_of(dataset: xarray.Dataset) -> float:
    """The size of noise in the results of a sweep, relative: `NOISE` times its tolerance.

    Descents have steps of their own, and no tolerance; there it is rounding.
    """
    solver = json.loads(dataset.attrs.get("solver", "{}"))
    return max(NOISE * solver.get("rtol", 0.0), ROUNDING)


def law(
    x, y, *, of="y", over="x", at=None, exponent=None, level=0.95, noise=ROUNDING
) -> Law | None:
    """The power law of `y` in `x`, two arrays of shape (n,); None for fewer than two points.

    `noise` is the size of what is uncertain in `y`, relative.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    good = np.isfinite(y) & (y > 0.0) & (x > 0.0)
    order = np.argsort(x[good], kind="stable")
    a, b = x[good][order], y[good][order]
    if len(np.unique(a)) < 2:
        return None
    fit = power_law(a, b, level)
    middle = np.sqrt(a[1:] * a[:-1])
    with np.errstate(divide="ignore"):
        uncertain = 2.0 * noise / np.diff(np.log(a))
    limit = extrapolate(middle, fit.local, uncertain)
    simple = exponent
    if simple is None and limit.known:
        nearest = round(2.0 * limit.value) / 2.0
        simple = nearest if abs(limit.value - nearest) <= SIMPLE else None
    ratio = None if simple is None else b / a**simple
    prefactor = None if ratio is None else Limit(np.nan, np.nan)
    if ratio is not None and abs(fit.local[-1] - simple) < ELSEWHERE:
        prefactor = extrapolate(a, ratio, noise * np.abs(ratio))
    return Law(
        of=of,
        over=over,
        at=dict(at or {}),
        x=a,
        y=b,
        left_out=int(len(x) - good.sum()),
        fit=fit,
        residual=np.log(b) - fit.intercept - fit.slope * np.log(a),
        middle=middle,
        exponent=limit,
        simple=simple,
        ratio=ratio,
        prefactor=prefactor,
        noise=noise,
    )


def extrapolate(x: np.ndarray, values: np.ndarray, noise: np.ndarray | None = None) -> Limit:
    """The limit of values at growing x, if they approach it as a power of x.

    Through the last three points goes exactly one v + b x^−q; q > 0 is a limit. The same through
    the three points one and two places before says how far that is to be trusted. Where the last
    three differ by no more than their `noise` (shape of `values`) allows, the last one is it.
    """
    if len(x) < 3 or not np.isfinite(values).all():
        return Limit(np.nan, np.nan)
    noise = ROUNDING * np.abs(values) if noise is None else noise
    uncertain = float(np.max(noise[-3:]))
    if (np.abs(np.diff(values[-3:])) <= noise[-3:-1] + noise[-2:]).all():
        # Points close to each other hide a slow correction: what it changes between them is less
        # than what it still has before it.
        hidden = 1.0 / ((x[-1] / x[-3]) ** SLOWEST - 1.0) if x[-1] > x[-3] else np.inf
        return Limit(float(values[-1]), uncertain * max(1.0, hidden))
    if len(x) < NEEDED:
        return Limit(np.nan, np.nan)
    ends = len(x), len(x) - 1, len(x) - 2
    last, before, earlier = (_through(x[k - 3 : k], values[k - 3 : k]) for k in ends)
    changes = abs(last - before), abs(before - earlier), 0.1 * abs(values[-1] - last), uncertain
    return Limit(last, float(np.max(changes)))


def _through(x: np.ndarray, v: np.ndarray) -> float:
    """The limit v₀ of v₀ + b x^−q through three points; nan where they grow apart."""
    from scipy.optimize import brentq

    first, second = v[1] - v[0], v[2] - v[1]
    if max(abs(first), abs(second)) <= ROUNDING * abs(v[2]):
        return float(v[2])
    target = second / first if first else np.inf
    u = np.log(x / x[0])

    def mismatch(q: float) -> float:
        powers = np.exp(-q * u)
        return (powers[1] - powers[2]) / (powers[0] - powers[1]) - target

    low, high = 1e-3, 50.0
    if not (target > 0.0 and mismatch(low) > 0.0 > mismatch(high)):
        return float("nan")
    q = brentq(mismatch, low, high, xtol=1e-14)
    powers = np.exp(-q * u)
    return float(v[2] + second * powers[2] / (powers[1] - powers[2]))
