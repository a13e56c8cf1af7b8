"""The phases of a run: where the loss stands still, and where it falls."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import Trajectory

#: Below this |d log(loss − final loss)/d log t| the loss stands still.
STILL = 0.1
#: A plateau lasts at least this factor of time; a drop may be as short as it likes.
SHORTEST = 1.2
#: Times looked at per factor e of time, beside the recorded ones.
DENSITY = 100


@dataclass(frozen=True)
class Phase:
    """A stretch of a run.

    Attributes
    ----------
    kind : {"plateau", "drop", "end"}
        The watched quantity stands still, falls, or has arrived.
    start, end : float
        Reduced training time.
    before, after : float
        The watched quantity at both ends.
    moves : dict of str to float
        Each coordinate's share of the distance (sum of absolute changes) covered in this phase,
        largest first; those below 1 % are left out.
    """

    kind: str
    start: float
    end: float
    before: float
    after: float
    moves: dict[str, float]


def phases(trajectory: Trajectory, of: str = "loss", still: float = STILL) -> list[Phase]:
    """Plateaus and drops of the loss, or of another positive quantity, over logarithmic time.

    A plateau is where d log x/d log t is less than `still` in size, for at least a factor of 1.2
    in time; x is the quantity above its last value. The ``"end"`` is where less than a thousandth
    of the drop is left.

    Parameters
    ----------
    trajectory : Trajectory
        Reduced or full.
    of : str
        ``"loss"`` or an observable.
    still : float

    Raises
    ------
    InputError
        If the quantity is unknown or never falls, or `still` is not positive.
    """
    if not still > 0.0:
        raise InputError(f"still = {still} must be a positive number")
    t, values = trajectory.t, np.asarray(trajectory[of], dtype=float)
    drop = values[0] - values.min()
    moving = np.flatnonzero(values < values[0] - 1e-3 * drop)
    if not (drop > 0.0 and len(moving) and np.isfinite(values).all()):
        raise InputError(
            f"{of} never falls in this run, so it has no phases; choose what falls, the loss say, "
            "or a longer horizon"
        )
    # The first phase begins while 99.9 % of the drop is still ahead.
    first = max(t[max(moving[0] - 1, 0)], t[1]) * 1e-1
    regular = np.geomspace(first, t[-1], int(DENSITY * np.log(t[-1] / first)) + 2)
    grid = np.unique(np.concatenate([regular, t[t > first]]))
    # Neighbours that nearly coincide would make a noisy derivative.
    grid = grid[np.concatenate([[True], np.diff(grid) > 1e-7 * grid[1:]])]
    count = len(grid)
    left = np.interp(grid, t, values) - values[-1]
    arrived = left <= 1e-3 * drop
    rate = np.zeros(count)
    ahead = ~arrived
    with np.errstate(divide="ignore", invalid="ignore"):
        rate[ahead] = -np.gradient(np.log(np.maximum(left, 1e-300)), np.log(grid))[ahead]
    kinds = np.where(arrived, 2, np.where(np.abs(rate) < still, 0, 1))
    kinds = _without_short_plateaus(kinds, grid)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(kinds)) + 1, [count]])
    found = []
    for a, b in pairwise(edges):
        start = 0.0 if a == 0 else float(grid[a])
        end = float(grid[min(b, count - 1)])
        before, after = np.interp([start, end], t, values)
        kind = ("plateau", "drop", "end")[kinds[a]]
        moves = _moves(trajectory, start, end)
        found.append(Phase(kind, start, end, float(before), float(after), moves))
    return found


def _without_short_plateaus(kinds: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Plateaus shorter than `SHORTEST` are slower stretches of the drop around them."""
    kinds = kinds.copy()
    edges = np.concatenate([[0], np.flatnonzero(np.diff(kinds)) + 1, [len(kinds)]])
    for a, b in pairwise(edges):
        if kinds[a] == 0 and t[min(b, len(t) - 1)] < SHORTEST * t[a]:
            kinds[a:b] = 1
    return kinds


def _moves(trajectory: Trajectory, start: float, end: float) -> dict[str, float]:
    inside = (trajectory.t > start) & (trajectory.t < end)
    ends = trajectory.at([start, end])
    states = np.concatenate([ends[:1], trajectory.z[inside], ends[1:]])
    lengths = np.abs(np.diff(states, axis=0)).sum(axis=0)
    total = lengths.sum()
    if not total > 0.0:
        return {}
    shares = dict(zip(trajectory.coordinates, (lengths / total).tolist(), strict=True))
    largest = sorted(shares.items(), key=lambda item: -item[1])
    return {name: share for name, share in largest if share >= 0.01}
