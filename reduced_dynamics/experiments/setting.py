"""What an experiment can be told: rows of names, values at every size, meanings and ranges."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.system import Parameter
from reduced_dynamics.sweeping.axes import Quantity, axis

#: How fine an experiment is: as in the paper as far as it can be waited for; within two minutes of
#: two cores; and the least that fills every panel, for tests.
SIZES = ("full", "quick", "tiny")
_SAME = object()


@dataclass(frozen=True)
class Setting:
    """One thing that an experiment can be told.

    Attributes
    ----------
    name : str
    full : int, float, bool, str, tuple or None
        Its value at size "full".
    meaning : str
        One line, with its unit.
    quick, tiny
        Its values at the other sizes; those of the next larger size unless given.
    kind : {"int", "float", "bool", "choice", "text", "seeds"}
        Of the value, or of each where there are many. "seeds" are given by their number, counted
        from 0, or one by one; "text" is any text, such as the name of a file.
    many : bool
        Whether it takes several values: ``8,16,32`` or ``8:4096:log:10``.
    low, high : float
    choices : tuple of str
    """

    name: str
    full: Any
    meaning: str
    quick: Any = _SAME
    tiny: Any = _SAME
    kind: str = "float"
    many: bool = False
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def at(self, size: str) -> Any:
        """The value at a size."""
        quick = self.full if self.quick is _SAME else self.quick
        tiny = quick if self.tiny is _SAME else self.tiny
        return dict(zip(SIZES, (self.full, quick, tiny), strict=True))[size]

    @property
    def _parameter(self) -> Parameter:
        low, high, choices = self.low, self.high, self.choices
        return Parameter(self.name, self.full, self.meaning, self.kind, low, high, choices)

    @property
    def range(self) -> str:
        """The allowed values, for people."""
        if self.kind == "text":
            return "any text"
        if self.kind == "seeds":
            return "a number of seeds, or seeds separated by commas"
        return self._parameter.range + (", several of them" if self.many else "")

    def parse(self, value: Any) -> Any:
        """`value` (text, number or sequence) as this setting has it.

        Raises
        ------
        InputError
            If it is not of the kind or out of range.
        """
        if self.kind == "seeds":
            return seeds(self.name, value)
        if self.kind == "text":
            return value if value is None else str(value)
        if not self.many:
            return self._parameter.parse(value)
        if self.kind in ("int", "float") and isinstance(value, str):
            quantity = Quantity(self.name, self.kind, self.meaning, self._parameter)
            value = axis(quantity, value).values.tolist()
        elif isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        elif not isinstance(value, Sequence):
            value = [value]
        found = tuple(map(self._parameter.parse, value))
        if not found:
            raise InputError(f"{self.name} takes at least one value")
        return found


def of_parameters(parameters: Sequence[Parameter], **sizes: tuple) -> tuple[Setting, ...]:
    """Settings that are parameters of a system or of a full model.

    Parameters
    ----------
    parameters : sequence of Parameter
    **sizes : tuple of three
        Values at full, quick and tiny of those that do not have their default.
    """
    values = {p.name: sizes.get(p.name, (p.default,) * 3) for p in parameters}
    return tuple(
        Setting(
            p.name, values[p.name][0], p.meaning, *values[p.name][1:], kind=p.kind, low=p.low,
            high=p.high, choices=p.choices,
        )
        for p in parameters
    )  # fmt: skip


def seeds(name: str, value: Any) -> tuple[int, ...]:
    """``5`` is the seeds 0 to 4; ``"3,7"`` those two, and ``"3,"`` that one.

    Raises
    ------
    InputError
        If these are no seeds, or none.
    """
    one = Parameter(name, 1, "", "int", 0, 2**62)
    if isinstance(value, str) and "," in value:
        found = [one.parse(part) for part in value.split(",") if part.strip()]
    elif isinstance(value, str | int | float):
        found = list(range(one.parse(value)))
    else:
        found = [one.parse(part) for part in value]
    if not found:
        raise InputError(f"{name}: at least one seed is needed; give their number or a list")
    return tuple(dict.fromkeys(found))


class Settings(Mapping[str, Any]):
    """All settings of one performance, by name or as attributes; they do not change."""

    def __init__(self, values: Mapping[str, Any]):
        self.__dict__.update(values)

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __setattr__(self, name: str, value: Any):
        raise AttributeError("settings do not change; perform the experiment with others")

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in self.items())})"


def collect(known: Sequence[Setting], given: Mapping[str, Any], size: str, of: str) -> Settings:
    """All settings at a size, with those that are given.

    Raises
    ------
    InputError
        For an unknown size or name (with the nearest), or a value out of range.
    """
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    names = {s.name: s for s in known}
    for name in given:
        if name not in names:
            raise unknown(f"setting of {of}", name, names)
    return Settings(
        {
            name: s.parse(given[name]) if given.get(name) is not None else s.at(size)
            for name, s in names.items()
        }
    )
