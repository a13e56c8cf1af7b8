"""Plateaus of a loss: where it falls slowly on a logarithmic axis of time, between faster falls."""

from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

#: Points of the logarithmic axis for a factor e of time, and the width that is averaged over.
_POINTS, _WIDTH = 12, 0.45
#: A plateau's rate is below this part of the fastest rates before and after it; what is slower
#: than they are, but not by so much, is a shoulder.
SLOW, SHOULDER = 0.5, 0.85


@dataclass(frozen=True)
class Plateau:
    """A stretch in which the loss falls slowly.

    Attributes
    ----------
    start, step, end : float
        Where the rate −d loss / d ln step is slowest, and the stretch around it in which the rate
        is nearer to that than to the smaller of `before` and `after`.
    loss : float
        Where it is slowest.
    rate, before, after : float
        There, and the fastest before and after it (up to the next plateau).
    """

    start: float
    step: float
    end: float
    loss: float
    rate: float
    before: float
    after: float

    @property
    def slowing(self) -> float:
        """The rate over the smaller of the two fastest: 0 for a loss that stands still."""
        return max(self.rate, 0.0) / min(self.before, self.after)

    def as_dict(self) -> dict[str, float]:
        return asdict(self) | {"slowing": self.slowing}


def plateaus(steps: np.ndarray, loss: np.ndarray, slow: float = SLOW) -> list[Plateau]:
    """The plateaus of a loss, in order of time; none for one that falls ever faster or slower.

    Of n ascending steps and losses; those at 0 are left out. A stretch counts whose rate is below
    `slow` of the fastest ones around it.
    """
    steps, loss = np.asarray(steps, float), np.asarray(loss, float)
    steps, loss = steps[steps > 0], loss[steps > 0]
    if len(steps) < 5:
        return []
    x = np.log(steps)
    u = np.linspace(x[0], x[-1], max(5, int(_POINTS * (x[-1] - x[0]))))
    rate = -np.array([_slope(x, loss, place) for place in u])
    level = np.interp(u, x, loss)
    found: list[Plateau] = []
    slowest = [k for k in range(1, len(u) - 1) if rate[k] <= rate[k - 1] and rate[k] < rate[k + 1]]
    peaks = _peaks(rate, slow)
    for one, other in pairwise(peaks):
        between = [k for k in slowest if one < k < other]
        if not between:
            continue
        k = min(between, key=lambda k: rate[k])
        before, after = rate[one], rate[other]
        middle = 0.5 * (rate[k] + min(before, after))
        start = one + int(np.flatnonzero(rate[one : k + 1] >= middle)[-1])
        end = k + int(np.flatnonzero(rate[k : other + 1] >= middle)[0])
        times = np.exp(u[[start, k, end]]).tolist()
        found.append(Plateau(*times, float(level[k]), *map(float, (rate[k], before, after))))
    return found


def _slope(x: np.ndarray, y: np.ndarray, place: float) -> float:
    """Slope at `place` of the straight line through the points near it, weighted by nearness."""
    weight = np.exp(-0.5 * ((x - place) / (0.5 * _WIDTH)) ** 2) * np.gradient(x)
    weight = weight / weight.sum()
    centred = x - weight @ x
    return float((weight * centred) @ y / ((weight * centred) @ centred))


def _peaks(rate: np.ndarray, slow: float) -> list[int]:
    """Maxima of the rate between any two of which it falls below `slow` of the lower one."""
    kept: list[int] = []
    for k in range(len(rate)):
        left = rate[k - 1] if k else -np.inf
        right = rate[k + 1] if k + 1 < len(rate) else -np.inf
        if not (rate[k] > left and rate[k] >= right and rate[k] > 0.0):
            continue
        while kept:
            lowest = rate[kept[-1] : k + 1].min()
            if lowest <= slow * min(rate[kept[-1]], rate[k]):
                kept.append(k)
                break
            if rate[kept[-1]] >= rate[k]:
                break
            kept.pop()
        else:
            kept.append(k)
    return kept
