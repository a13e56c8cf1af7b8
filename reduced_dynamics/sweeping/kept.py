"""What a sweep keeps of every point, known before it begins."""

from collections.abc import Iterator, Sequence

from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.sweeping.settings import Settings
from reduced_dynamics.sweeping.variables import REASON, STATUS, Variable

#: Counters of an integration that are kept.
STATISTICS = {
    "steps": "accepted steps",
    "rejected": "rejected steps",
    "rhs": "right-hand sides",
    "jac": "Jacobians",
}
_TIME = "training time"


def kept(settings: Settings, forms: Sequence[ReducedSystem]) -> tuple[Variable, ...]:
    """The arrays of a sweep; what only some of its points have is in it too.

    Parameters
    ----------
    settings : Settings
    forms : sequence of ReducedSystem
        What the system looks like at the points (see `ReducedSystem.adapted`).
    """
    source = settings.full.results(forms) if settings.full else _integrated(settings.keep, forms)
    outcome = (
        Variable(STATUS, "outcome", "0 not computed, 1 complete, 2 failed, 3 refused", "i1"),
        Variable(REASON, "outcome", "why the point is not complete; empty if it is", "str"),
    )
    return tuple({v.name: v for v in (*outcome, *source)}.values())


def _integrated(keep: Sequence[str], forms: Sequence[ReducedSystem]) -> Iterator[Variable]:
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
