"""A result that a sweep keeps of every point: its name, kind and meaning, and how a point ended."""

from dataclasses import dataclass
from typing import Any

import numpy as np

#: What `status` says of a point.
MISSING, COMPLETE, FAILED, REFUSED = 0, 1, 2, 3
STATUS, REASON = "status", "reason"


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
