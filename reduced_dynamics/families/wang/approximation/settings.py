"""What a study of the theorems varies, and the tables that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.families.wang.approximation.kernels import KERNELS
from reduced_dynamics.families.wang.approximation.similarities import SIMILARITIES

#: Called with a sentence about what is being computed.
Progress = Callable[[str], None]

_MEANING = {
    "L": "tokens of a sequence",
    "lengths": "those of the tables over L",
    "d": "dimension of a token",
    "strength": "W* is this times the identity; g is this times its shape",
    "kernel": "positional encodings of Theorem 3.1",
    "p": "slopes of Theorem 3.1",
    "n": "IH_n compares n - 1 tokens",
    "H": "heads of layer 1",
    "bound": "of the sum of |c_h|, for each shift",
    "similarity": "g of Theorem 3.4",
    "rank": "terms of the expansion of g",
    "width": "hidden units M of the ReLU network",
    "samples": "random sequences of each supremum",
    "rounds": "of the search for worse sequences",
    "seed": "of the random sequences and ridges",
}
#: Smallest and largest value of each number.
_RANGE = {
    "L": (5, 4096), "lengths": (3, 4096), "d": (1, 16), "strength": (0, 100), "p": (0, 40),
    "n": (2, 8), "H": (1, 40), "bound": (1e-3, 1e8), "rank": (1, 200), "width": (2, 4096),
    "samples": (1, 10**6), "rounds": (0, 10**5), "seed": (0, 2**63 - 1),
}  # fmt: skip
_NAMES = {"kernel": KERNELS, "similarity": tuple(SIMILARITIES)}


@dataclass(frozen=True)
class Settings:
    """What the studies vary; tuples are the values of tables. Ranges: `explain`."""

    L: int = 64
    lengths: tuple[int, ...] = (5, 6, 8, 16, 32, 64, 128)
    d: int = 2
    strength: float = 1.0
    kernel: tuple[str, ...] = KERNELS
    p: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 12.0)
    n: tuple[int, ...] = (2, 3, 4)
    H: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)
    bound: tuple[float, ...] = (1e2, 1e3, 1e4)
    similarity: tuple[str, ...] = tuple(SIMILARITIES)
    rank: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16)
    width: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    samples: int = 1000
    rounds: int = 60
    seed: int = 0

    def __post_init__(self):
        for name in _RANGE:
            value = getattr(self, name)
            for one in value if isinstance(value, tuple) else (value,):
                low, high = _RANGE[name]
                if not low <= one <= high:
                    raise InputError(f"{name} must be from {low:g} to {high:g}, not {one:g}")
        for name, known in _NAMES.items():
            for one in getattr(self, name):
                if one not in known:
                    raise unknown(name, one, known)

    def rng(self, *key: int) -> np.random.Generator:
        """The generator of one table's entry."""
        return np.random.default_rng([self.seed, *key])


#: What `--quick` starts from: every table, but smaller.
QUICK = Settings(
    lengths=(5, 8, 32, 64), p=(1.0, 4.0, 8.0), n=(2, 3), H=(1, 2, 3, 6), bound=(1e2, 1e4),
    rank=(1, 2, 4, 8), width=(16, 64, 256), samples=300, rounds=40,
)  # fmt: skip


def explain() -> list[str]:
    """One line for each setting: its default and what it means."""
    lines = []
    for one in fields(Settings):
        value = one.default
        shown = ",".join(_plain(v) for v in value) if isinstance(value, tuple) else _plain(value)
        lines.append(f"  {one.name:11}{shown:32} {_MEANING[one.name]}")
    return lines


def changed(settings: Settings, texts: Mapping[str, str]) -> Settings:
    """`settings` with values from text; those of tables are separated by commas.

    Raises
    ------
    InputError
        For unknown names, answered with the nearest, and values of another kind or out of range.
    """
    known = {one.name: one.default for one in fields(Settings)}
    changes: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in known:
            raise unknown("setting", name, known)
        default = known[name]
        if isinstance(default, tuple):
            parts = [part.strip() for part in text.split(",") if part.strip()]
            if not parts:
                raise InputError(f"{name} takes values separated by commas, not '{text}'")
            found = [_value(name, type(default[0]), part) for part in parts]
            changes[name] = tuple(dict.fromkeys(found if name in _NAMES else sorted(found)))
        else:
            changes[name] = _value(name, type(default), text)
    return replace(settings, **changes)


def _value(name: str, kind: type, text: str) -> Any:
    if kind is str:
        return text
    try:
        number = float(text)
        if not np.isfinite(number) or (kind is int and number != int(number)):
            raise ValueError
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} takes {wanted}, not '{text}'") from None
    return kind(number)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Rate:
    """A fitted exponent beside the one that a theorem or a derivation gives.

    `expected` is None where nothing is predicted; `points` says how many entries were fitted.
    """

    name: str
    measured: float
    expected: float | None
    points: int


@dataclass(frozen=True)
class Table:
    """Errors over what a theorem varies.

    Attributes
    ----------
    name, title : str
    columns : tuple of str
    rows : list of tuple
    rates : list of Rate
    note : str
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple]
    rates: list[Rate] = field(default_factory=list)
    note: str = ""

    def where(self, **values: Any) -> Table:
        """The rows with these values in these columns."""
        at = {self.columns.index(name): value for name, value in values.items()}
        rows = [row for row in self.rows if all(row[k] == v for k, v in at.items())]
        return replace(self, rows=rows)

    def column(self, name: str) -> np.ndarray:
        """A column as numbers."""
        return np.array([row[self.columns.index(name)] for row in self.rows], float)

    def values(self, name: str) -> list:
        """What a column holds, each once, in order."""
        return list(dict.fromkeys(row[self.columns.index(name)] for row in self.rows))


def slope(name: str, x: Sequence[float], y: Sequence[float], expected: float | None) -> list[Rate]:
    """The slope of a straight line through finite points; nothing where there are fewer than 2."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    good = np.isfinite(x) & np.isfinite(y)
    if good.sum() < 2 or np.ptp(x[good]) == 0:
        return []
    return [Rate(name, float(np.polyfit(x[good], y[good], 1)[0]), expected, int(good.sum()))]


def logarithm(values: Sequence[float], least: float = 0.0) -> np.ndarray:
    """log of values above `least`, which may be where rounding begins; nan of the others."""
    values = np.asarray(values, float)
    return np.log(values, out=np.full(values.shape, np.nan), where=values > max(least, 0.0))
