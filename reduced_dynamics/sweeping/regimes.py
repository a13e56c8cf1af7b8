"""Regime maps from a sweep: where in two parameters what happens when, and in which order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.sweeping.variables import COMPLETE, FAILED, MISSING, REFUSED, STATUS

if TYPE_CHECKING:
    import xarray

    from reduced_dynamics.sweeping.plan import Plan

#: What `order` maps instead of a number.
ORDER = "order"
#: What points are that did not come to their end, in words.
INCOMPLETE = {FAILED: "failed", REFUSED: "refused", MISSING: "missing"}


@dataclass(frozen=True, eq=False)
class Regimes:
    """A map over two parameters.

    Attributes
    ----------
    of : str
        The result, or "order".
    names : (str, str)
        The parameters along x and y.
    x, y : ndarrays, shapes (nx,) and (ny,); or (n,) both, where points were sampled
    values : ndarray, shape (ny, nx) or (n,)
        The result (nan where it was not reached), or the place of the order in `orders` (−1 where
        `failed`: of such a point nobody knows what would have come).
    orders : tuple of str
        The orders that occur, the most frequent one first; empty for a number.
    counts : tuple of int
        How many points have each of them.
    failed : ndarray of bool, shape of `values`
        Where a point has no such result because it did not come to its end. An event that was
        reached before is mapped like any other.
    incomplete : dict of str to int
        How many of these "failed", were "refused" or are "missing" (not computed yet).
    at : dict
        Dimensions of one value, and the fixed parameters.
    scales : (str, str)
        "log" or "linear" for both axes.
    """

    of: str
    names: tuple[str, str]
    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    orders: tuple[str, ...]
    counts: tuple[int, ...]
    failed: np.ndarray
    incomplete: dict[str, int]
    at: dict[str, Any]
    scales: tuple[str, str]

    @property
    def sampled(self) -> bool:
        return self.values.ndim == 1


def regimes(
    dataset: xarray.Dataset,
    of: str,
    names: tuple[str, str] | None = None,
    events: Sequence[str] | None = None,
) -> Regimes:
    """A map of an event's time, or of any other number, or of the order of events.

    Parameters
    ----------
    dataset : xarray.Dataset
        As `open_sweep` gives it, with two parameters swept, on a grid or by samples.
    of : str
        A result's name, or ``"order"``: which of the events come in which order;
        ``"order:A,B"`` of these events only.
    names : (str, str), optional
        The parameters along x and y, by default the first two that were swept.
    events : sequence of str, optional
        For ``"order"``: of these events; of all by default.

    Raises
    ------
    InputError
        If a name is unknown, or not exactly two parameters have more than one value.
    """
    ordered = dataset.attrs.get("coordinates", "").split() or [str(n) for n in dataset.coords]
    swept = [n for n in ordered if n in dataset.coords and len(np.unique(dataset[n].values)) > 1]
    names = tuple(names or swept)
    for name in names:
        if name not in dataset.coords:
            raise unknown("dimension of this sweep", name, [str(c) for c in dataset.coords])
    numeric = {str(n) for n, v in dataset.variables.items() if v.dtype.kind in "fi"}
    _check_axes(names, swept, numeric)
    found = [str(n) for n, v in dataset.data_vars.items() if v.attrs.get("kind") == "events"]
    known = {str(n): "at" in v.dims and v.sizes["at"] > 1 for n, v in dataset.data_vars.items()
             if n in numeric}  # fmt: skip
    of, events = _wanted(of, events, known, found)
    named = json.loads(dataset.attrs.get("scales", "{}"))
    scales = tuple("log" if named.get(n) == "log" else "linear" for n in names)
    orders: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    if of == ORDER:
        mapped, orders, counts = _orders(dataset, events)
        nothing = mapped < 0
    else:
        mapped = dataset[of].astype(float)
        nothing = ~np.isfinite(mapped)
    status = dataset[STATUS].where(nothing, COMPLETE)
    x, y = (dataset[name] for name in names)
    single = {str(d): 0 for d in mapped.dims if mapped.sizes[d] == 1}
    at = {d: dataset[d].values[:1].tolist()[0] for d in single if d in dataset.coords}
    mapped, status = (v.isel(single, drop=True) for v in (mapped, status))
    if x.dims != y.dims:
        mapped, status = (v.transpose(*y.dims, *x.dims) for v in (mapped, status))
    status = status.values.astype(int)
    incomplete = {text: int((status == k).sum()) for k, text in INCOMPLETE.items()}
    fixed = json.loads(dataset.attrs.get("parameters", "{}"))
    return Regimes(
        of=of,
        names=names,
        x=x.values.astype(float),
        y=y.values.astype(float),
        values=np.asarray(mapped.values),
        orders=orders,
        counts=counts,
        failed=status != COMPLETE,
        incomplete={text: count for text, count in incomplete.items() if count},
        at=fixed | at,
        scales=scales,
    )


def check(plan: Plan, of: str) -> None:
    """Refuse what `regimes` will refuse of the results of a plan, before they are computed.

    Raises
    ------
    InputError
    """
    swept = {a.name: a.values for a in plan.axes} | plan.sampled
    several = [name for name, values in swept.items() if len(np.unique(values)) > 1]
    numeric = {s.name for s in plan.swept.values() if s.quantity.kind != "text"}
    _check_axes(tuple(several), several, numeric)
    timed = len(plan.settings.at) > 1
    known = {v.name: v.timed and timed for v in plan.variables if v.dtype != "str"}
    _wanted(of, None, known, [v.name for v in plan.variables if v.kind == "events"])


def _check_axes(names: tuple[str, ...], swept: list[str], numeric: set[str]) -> None:
    if len(names) != 2 or set(swept) != set(names):
        has = ", ".join(swept) or "none"
        raise InputError(f"a map needs exactly two parameters with several values; here: {has}")
    if not set(names) <= numeric:
        raise InputError("a map needs two numbers for its axes; sweep the others one at a time")


def _wanted(
    of: str, events: Sequence[str] | None, known: dict[str, bool], found: list[str]
) -> tuple[str, list[str]]:
    """What is to be mapped, and the events whose order is; `known` says what has several times."""
    name, colon, listed = str(of).partition(":")
    if name == ORDER:
        if events is None and colon:
            events = [part.strip() for part in listed.split(",") if part.strip()]
        for event in events or ():
            if event not in found:
                raise unknown("event of this sweep", event, found)
        if not found:
            raise InputError("this sweep kept no events, which an order is of; keep them")
        return ORDER, list(events or found)
    if of not in known:
        raise unknown("result of this sweep", of, [*known, ORDER])
    if known[of]:
        raise InputError(f"{of} is kept at several times, and a map needs one; keep a single --at")
    return of, []


def _orders(dataset, events: list[str]):
    """The order of events at every point, as places in the list of orders that occur."""
    stacked = np.stack([dataset[name].values.astype(float) for name in events], axis=-1)
    flat = stacked.reshape(-1, len(events))
    # What a failed point has not reached by then it might have reached later.
    failed = dataset[STATUS].values.ravel() != COMPLETE
    texts = np.array([_text(times, events) for times in flat], dtype=object)
    counted = Counter(texts[~failed].tolist()).most_common()
    places = {text: k for k, (text, _) in enumerate(counted)}
    numbers = np.array(
        [-1 if bad else places[text] for text, bad in zip(texts, failed, strict=True)]
    )
    mapped = dataset[STATUS].astype(int).copy(data=numbers.reshape(stacked.shape[:-1]))
    return mapped, tuple(places), tuple(count for _, count in counted)


def _text(times: np.ndarray, events: list[str]) -> str:
    reached = np.flatnonzero(np.isfinite(times))
    order = reached[np.argsort(times[reached], kind="stable")]
    parts = []
    for k, index in enumerate(order):
        same = k > 0 and times[index] == times[order[k - 1]]
        parts.append((" = " if same else " < ") * (k > 0) + events[index])
    never = [events[k] for k in range(len(events)) if k not in reached]
    text = "".join(parts) or "nothing"
    return text + (f"; not {', '.join(never)}" if never and len(order) else "")
