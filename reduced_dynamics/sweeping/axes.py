"""What is swept: values on a grid, such as ``8:4096:log:40``, and ranges that are sampled."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.system import Parameter, ReducedSystem

#: What precedes the name of a coordinate whose start is swept.
START = "start."
SCALES = ("log", "lin")
#: Values of one axis; a slip of the pen beyond that.
MOST_VALUES = 10**8


@dataclass(frozen=True)
class Quantity:
    """Something that can be swept: a parameter, or where a coordinate starts.

    `kind` is "int", "float" or "text"; `parameter` is None for a start.
    """

    name: str
    kind: str
    meaning: str
    parameter: Parameter | None = None

    @property
    def coordinate(self) -> str:
        """The coordinate whose start this is; empty for a parameter."""
        return "" if self.parameter else self.name.removeprefix(START)


def quantities(
    system: ReducedSystem, coordinates: Mapping[str, str], further: Sequence[Parameter] = ()
) -> dict[str, Quantity]:
    """Everything that can be swept, by name.

    Parameters
    ----------
    system : ReducedSystem
    coordinates : mapping of str to str
        Those that may be started elsewhere, and their meanings.
    further : sequence of Parameter
        Settings of a full model's training, which take the place of parameters of their name.
    """
    found = {}
    for parameter in (*system.parameters, *further):
        kind = parameter.kind if parameter.kind in ("int", "float") else "text"
        found[parameter.name] = Quantity(parameter.name, kind, parameter.meaning, parameter)
    for name, meaning in coordinates.items():
        found[START + name] = Quantity(START + name, "float", f"start of {name}: {meaning}")
    return found


@dataclass(frozen=True, eq=False)
class Axis:
    """The values of one quantity on a grid.

    Attributes
    ----------
    quantity : Quantity
    values : ndarray, shape (k,)
        Integers, floats or text, each once.
    spec : str
        How it was asked for, in one form for all ways to say it.
    dropped : int
        Values that became equal to another one when they were rounded.
    """

    quantity: Quantity
    values: np.ndarray
    spec: str
    dropped: int = 0

    @property
    def name(self) -> str:
        return self.quantity.name


@dataclass(frozen=True)
class Range:
    """A quantity that is sampled between `low` and `high`, uniformly or in its logarithm."""

    quantity: Quantity
    low: float
    high: float
    scale: str

    @property
    def name(self) -> str:
        return self.quantity.name

    @property
    def spec(self) -> str:
        return f"{self.low:.17g}:{self.high:.17g}:{self.scale}"

    def place(self, unit: np.ndarray) -> np.ndarray:
        """The values at positions `unit` in 0 … 1, shape (m,); rounded for integers."""
        return _rounded(self.quantity, _between(self.low, self.high, self.scale, unit))


def axis(quantity: Quantity, spec: Any) -> Axis:
    """The axis that ``"8:4096:log:40"``, ``"8,16,32"``, ``"last,uniform"`` or a sequence means.

    Integer parameters are rounded between the ends of a range; values in a list are taken as they
    are. Values outside the parameter's range stay: such points are recorded, not computed.

    Raises
    ------
    InputError
        If it means nothing, or no values.
    """
    name = quantity.name
    if isinstance(spec, str) and ":" in spec:
        return _range_axis(quantity, spec)
    parts = [p.strip() for p in spec.split(",")] if isinstance(spec, str) else _listed(name, spec)
    if len(parts) > 1 and any(part == "" for part in parts):
        raise InputError(f"the grid of {name} has an empty value: '{name}={spec}'; drop a comma")
    if not parts or parts == [""]:
        raise InputError(
            f"the grid of {name} is empty; give values as in {name}=8,16,32 or {name}=1:9:lin:5"
        )
    values = [_value(quantity, part) for part in parts]
    kept = list(dict.fromkeys(values))
    if quantity.kind == "text":
        array, said = np.array(kept, dtype=object), ",".join(kept)
    else:
        array = np.array(kept, dtype=np.int64 if quantity.kind == "int" else float)
        said = ",".join(f"{v:.17g}" if quantity.kind == "float" else str(v) for v in kept)
    return Axis(quantity, array, said, len(values) - len(kept))


def sampled(quantity: Quantity, spec: Any) -> Range:
    """The range that ``"8:4096:log"``, or (8, 4096, "log"), means.

    Raises
    ------
    InputError
        If it means nothing.
    """
    name = quantity.name
    parts = spec.split(":") if isinstance(spec, str) else _listed(name, spec)
    if quantity.kind == "text":
        raise InputError(f"{name} takes words and cannot be sampled; use --grid {name}=...")
    if len(parts) == 4:
        raise InputError(
            f"'{name}={spec}' is a grid; a sample is {name}=LOW:HIGH:log, with --points for the "
            "count"
        )
    if len(parts) not in (2, 3):
        raise InputError(f"a sample is {name}=LOW:HIGH:log|lin, not '{name}={spec}'")
    scale = str(parts[2]).strip() if len(parts) == 3 else "lin"
    return Range(quantity, *_ends(name, parts[0], parts[1], scale), scale)


def _range_axis(quantity: Quantity, spec: str) -> Axis:
    name, parts = quantity.name, [p.strip() for p in spec.split(":")]
    if quantity.kind == "text":
        raise InputError(f"{name} takes words, not a range; use {name}=A,B,...")
    if len(parts) != 4:
        raise InputError(
            f"a range is {name}=LOW:HIGH:log|lin:COUNT, such as {name}=8:4096:log:40, not "
            f"'{name}={spec}'"
        )
    low, high = _ends(name, parts[0], parts[1], parts[2])
    count = _count(name, parts[3])
    values = _rounded(quantity, _between(low, high, parts[2], np.linspace(0.0, 1.0, count)))
    kept = values[np.r_[True, np.diff(values) > 0]]  # rounding leaves them in order
    said = f"{low:.17g}:{high:.17g}:{parts[2]}:{count}"
    return Axis(quantity, kept, said, count - len(kept))


def _ends(name: str, low: Any, high: Any, scale: str) -> tuple[float, float]:
    if scale not in SCALES:
        raise unknown(f"spacing of {name}", scale, SCALES)
    first, last = _number(name, low), _number(name, high)
    if not first < last:
        raise InputError(
            f"the range of {name} runs from {first:g} to {last:g}; its first end must be the "
            "smaller one"
        )
    if scale == "log" and first <= 0.0:
        raise InputError(
            f"{name} cannot be spaced logarithmically from {first:g}; start above 0, or use lin"
        )
    return first, last


def _between(low: float, high: float, scale: str, unit: np.ndarray) -> np.ndarray:
    """Positions 0 … 1 as values; 0 and 1 give the ends exactly."""
    if scale == "log":
        inside = np.exp(np.log(low) + unit * (np.log(high) - np.log(low)))
    else:
        # Not low + u (high - low), whose difference could overflow.
        inside = (1.0 - unit) * low + unit * high
    inside = np.where(unit == 0.0, low, np.where(unit == 1.0, high, inside))
    return np.clip(inside, low, high)


def _rounded(quantity: Quantity, values: np.ndarray) -> np.ndarray:
    if quantity.kind != "int":
        return values
    if np.abs(values).max(initial=0.0) >= 2.0**63:
        raise InputError(f"{quantity.name} is too large for a whole number; keep it below 9e18")
    return np.rint(values).astype(np.int64)


def _count(name: str, text: Any) -> int:
    number = _number(f"the count of {name}", text)
    if number != int(number) or not 2 <= number <= MOST_VALUES:
        raise InputError(
            f"a range of {name} needs a whole number of values from 2 to {MOST_VALUES:g}, not "
            f"{text}"
        )
    return int(number)


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool | np.bool_) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} takes finite numbers, not '{str(value)[:40]}'")
    return number


def _value(quantity: Quantity, value: Any) -> int | float | str:
    """One value of a list; its range is the points' own affair, but not its kind."""
    name = quantity.name
    if quantity.kind == "float":
        return _number(name, value)
    if quantity.kind == "int":
        number = _number(name, value)
        if number != int(number):
            raise InputError(f"{name} takes whole numbers, not {value}")
        try:
            whole = int(value)
        except ValueError:
            whole = int(number)
        if abs(whole) >= 2**63:
            raise InputError(f"{name} = {value} is too large; keep it below 9e18")
        return whole
    if quantity.parameter.kind == "query" and isinstance(value, Real):
        value = int(value) if float(value).is_integer() else value
    text = str(value).lower() if quantity.parameter.kind == "bool" else str(value)
    if not (quantity.parameter.kind == "query" and _whole(text)):
        quantity.parameter.parse(text)  # what is no choice at all is a slip of the pen
    return text


def _whole(text: str) -> bool:
    try:
        return float(text) == int(float(text))
    except (ValueError, OverflowError):
        return False


def _listed(name: str, spec: Any) -> list:
    if isinstance(spec, np.ndarray):
        spec = spec.tolist()
    if isinstance(spec, Mapping | str) or not hasattr(spec, "__iter__"):
        spec = [spec]
    return list(spec)
