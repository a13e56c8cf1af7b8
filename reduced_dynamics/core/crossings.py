"""When recorded values cross a level: linear between the times at which they were recorded."""

import numpy as np

from reduced_dynamics.core.trajectory import Crossing


def sign_changes(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where values change sign, 0 being counted as positive.

    Parameters
    ----------
    height : ndarray, shape (n,)

    Returns
    -------
    before : ndarray of int, shape (changes,)
        The change lies between this index and the next one,
    share : ndarray, shape (changes,)
        at this part of the way.
    """
    above = height >= 0.0
    before = np.flatnonzero(above[1:] != above[:-1])
    low, high = height[before], height[before + 1]
    return before, low / (low - high)


def crossings(
    name: str, t: np.ndarray, z: np.ndarray, height: np.ndarray, direction: int = 0
) -> list[Crossing]:
    """The crossings of 0 by what was recorded with a state.

    Parameters
    ----------
    name : str
        Of the event.
    t, z, height : ndarray, shapes (n,), (n, d), (n,)
        Times, states, and what is 0 at the event.
    direction : {0, 1, -1}
        All crossings; or only the first time that `height` has risen (1) or fallen (−1) so far,
        which has never happened where it is there at the start.
    """
    before, share = sign_changes(height)
    if direction:
        start = 1 if height[0] >= 0.0 else -1
        before, share = (x[: int(start != direction)] for x in (before, share))
    return [
        Crossing(
            name,
            float(t[i] + s * (t[i + 1] - t[i])),
            1 if height[i + 1] >= 0.0 else -1,
            tuple(map(float, z[i] + s * (z[i + 1] - z[i]))),
        )
        for i, s in zip(before, share, strict=True)
    ]


def first_reach(t: np.ndarray, values: np.ndarray, level: float) -> float | None:
    """When `values` first reach `level`; the first time if they start there, None if they never do.

    Parameters
    ----------
    t, values : ndarray, shape (n,)
    level : float
    """
    height = values - level
    if height[0] >= 0.0:
        return float(t[0])
    found = crossings("", t, np.empty((len(t), 0)), height, 1)
    return found[0].t if found else None
