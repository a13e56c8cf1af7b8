"""What a sweep keeps of every point: names, kinds and meanings, known before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.sweeping.plan import Plan

#: What `status` says of a point.
MISSING, COMPLETE, FAILED, REFUSED = 0, 1, 2, 3
STATUS, REASON = "status", "reason"
#: Counters of an integration that are kept.
STATISTICS = {
    "steps": "accepted steps",
    "rejected": "rejected steps",
    "rhs": "right-hand sides",
    "jac": "Jacobians",
}
_TIME = "training time"


@dataclass(frozen=True)
class Variable:
    """One array of the store, over the points and perhaps over the times `at`.

    `kind` is one of events, final, loss, stats, at, outcome, error; `dtype` is that of the array,
    "str" for text.
    """

    name: str
    kind: str
    meaning: str
    dtype: str = "f8"
    timed: bool = False

    @property
    def fill(self) -> Any:
        """What stands where nothing has been computed."""
        return {"f": np.nan, "i": 0, "s": ""}[self.dtype[0]]

    def empty(self, points: int, times: int) -> np.ndarray:
        shape = (points, times) if self.timed else (points,)
        dtype = object if self.dtype == "str" else self.dtype
        return np.full(shape, self.fill, dtype=dtype)


def variables(plan: Plan) -> tuple[Variable, ...]:
    """The arrays of a sweep; what only some of its points have is in it too.

    Raises
    ------
    InputError
        If a result bears the name of something swept.
    """
    source = _trained(plan) if plan.settings.full else _integrated(plan)
    found = tuple({v.name: v for v in (*_OUTCOME, *source)}.values())
    swept = {*(a.name for a in plan.axes), *(r.name for r in plan.ranges)}
    for variable in found:
        if variable.name in (swept | {"point", "at"}):
            raise InputError(
                f"'{variable.name}' is a result as well as something swept; rename one of them"
            )
    return found


_OUTCOME = (
    Variable(STATUS, "outcome", "0 not computed, 1 complete, 2 failed, 3 refused", "i1"),
    Variable(REASON, "outcome", "why the point is not complete; empty if it is", "str"),
)


def _integrated(plan: Plan) -> Iterator[Variable]:
    keep, forms = plan.settings.keep, plan.forms
    coordinates = {c.name: c.meaning for form in forms for c in form.coordinates}
    coordinates |= {o.name: o.meaning for form in forms for o in form.observables}
    yield Variable("t_reached", "outcome", f"{_TIME} at which the trajectory ends")
    if "events" in keep:
        for form in forms:
            for event in form.events:
                yield Variable(event.name, "events", f"{_TIME} at which {event.meaning}")
    if "final" in keep:
        for name, meaning in coordinates.items():
            yield Variable(f"final_{name}", "final", f"at the end: {meaning}")
    if "loss" in keep:
        yield Variable("final_loss", "loss", "loss at the end")
    if "stats" in keep:
        for name, meaning in STATISTICS.items():
            yield Variable(f"n_{name}", "stats", f"number of {meaning}", "i8")
    if "at" in keep:
        yield Variable("at_t", "at", f"{_TIME} of the states at times", timed=True)
        yield Variable("at_loss", "at", "loss at these times", timed=True)
        for name, meaning in coordinates.items():
            yield Variable(f"at_{name}", "at", f"at these times: {meaning}", timed=True)


def _trained(plan: Plan) -> Iterator[Variable]:
    from reduced_dynamics.sweeping.full import results

    yield from results(plan)
