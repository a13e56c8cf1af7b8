"""A reduced system: what it is called, what it depends on, and where its equations come from.

A `ReducedSystem` is a declaration. Its equations are derived with SymPy when they are first
needed (`derive`), printed as a module and compiled (`compilation`), and integrated with
parameters as plain numbers (`integration`). Declaring and running a system that is already
compiled never imports SymPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.expressions import evaluate
from reduced_dynamics.core.family import load

if TYPE_CHECKING:
    from derivations.core.derivation import Derivation

#: Coordinates may be started or clamped within ± this; beyond, exponentials overflow.
COORDINATE_LIMIT = 700.0
_INFINITE = ("inf", "+inf", "infinity", "+infinity")


@dataclass(frozen=True)
class Parameter:
    """A parameter: its default, its range and what it means.

    `kind` is "int", "float", "bool", "choice" (one of `choices`) or "query" ("last", "uniform" or
    a pair's number). A default of None means that the system chooses (see `meaning`). `allowed`
    says the range where `low` and `high` do not: a system's `check` refuses the rest.
    """

    name: str
    default: Any
    meaning: str
    kind: str = "float"
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    allowed: str = ""

    @property
    def range(self) -> str:
        """The allowed values, for people."""
        if self.allowed:
            return self.allowed
        match self.kind:
            case "bool":
                return "true | false"
            case "choice":
                return " | ".join(self.choices)
            case "query":
                return "last | uniform | 1..N"
        if math.isinf(self.low) and math.isinf(self.high):
            return "any integer" if self.kind == "int" else "any number"
        return f"{_number(self.low)} .. {_number(self.high)}"

    def parse(self, value: Any) -> Any:
        """`value` (text or number) as this parameter's type, within its range.

        Raises
        ------
        InputError
            If it is not of the kind, not finite or out of range.
        """
        match self.kind:
            case "bool":
                known = {"true": True, "false": False, "1": True, "0": False}
                if str(value).lower() not in known:
                    raise InputError(f"{self.name} is true or false, not '{value}'")
                return known[str(value).lower()]
            case "choice":
                if value not in self.choices:
                    raise unknown(f"value of {self.name}", str(value), self.choices)
                return str(value)
            case "query":
                if value in ("last", "uniform"):
                    return str(value)
                try:
                    return self._integer(value, 1, math.inf)
                except InputError:
                    raise InputError(
                        f"{self.name} is 'last', 'uniform' or the number of a pair from 1 to N, "
                        f"not '{value}'"
                    ) from None
            case "int":
                return self._integer(value, self.low, self.high)
        return self._within(_finite(self.name, value), self.low, self.high)

    def _integer(self, value: Any, low: float, high: float) -> int:
        number = _finite(self.name, value)
        if number != int(number) or isinstance(value, bool):
            raise InputError(f"{self.name} must be a whole number, not {value}")
        try:
            exact = int(value)
        except ValueError:
            exact = int(number)
        return int(self._within(exact, low, high))

    def _within(self, number: float, low: float, high: float) -> float:
        if not low <= number <= high:
            raise InputError(
                f"{self.name} = {_number(number)} is out of range; it must lie in "
                f"{_number(low)} .. {_number(high)}"
            )
        return number


def _number(x: float) -> str:
    return str(x) if isinstance(x, int) else f"{x:.15g}"


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool):
        raise InputError(f"{name} must be a number, not {value}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        what = "a number that fits" if isinstance(value, int) else "a number"
        raise InputError(f"{name} must be {what}, not '{str(value)[:40]}'") from None
    if not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, not {value}")
    return number


@dataclass(frozen=True)
class Coordinate:
    """A coordinate of the state, where it starts, and what it means in the transformer.

    A `start` that is text is arithmetic over the parameters, such as ``"log(c_init**2)"``.
    `at_infinity` says, where an infinite value means something, how to ask for it instead; `least`
    is the least value that may be set.
    """

    name: str
    meaning: str
    start: float | str = 0.0
    at_infinity: str = ""
    least: float = -COORDINATE_LIMIT


@dataclass(frozen=True)
class Observable:
    """A scalar computed with the loss at every recorded time."""

    name: str
    meaning: str


@dataclass(frozen=True)
class Event:
    """A level crossing to be located.

    `watch` names a coordinate, an observable or ``"loss"``. `level` is a number; None means the
    run's threshold. With `of_start` the level is that fraction of the value at the start. Every
    crossing is recorded if `direction` is 0, otherwise only rising (+1) or falling (−1) ones.
    With `from_start`, what is at or above its level at the start has reached it at time 0.
    """

    name: str
    meaning: str
    watch: str
    level: float | None = None
    of_start: bool = False
    direction: int = 0
    from_start: bool = True


# What is the case where nothing is declared: functions with names, so that they can be pickled.


def _always(values: Mapping[str, Any]) -> bool:
    return True


def _nothing(*_: Any) -> tuple:
    return ()


@dataclass(frozen=True)
class Invariant:
    """A first integral of the derivation; `holds` says for which parameters it is one."""

    name: str
    meaning: str
    holds: Callable[[Mapping[str, Any]], bool] = _always


def numeric(values: Mapping[str, Any]) -> dict[str, float]:
    """Those parameter values that are numbers: what expressions over the parameters may use."""
    return {
        k: float(v)
        for k, v in values.items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    }


@dataclass(frozen=True)
class Horizon:
    """How long a run lasts that is not told: until the head has formed and the loss has settled.

    Attributes
    ----------
    bound : str
        When it ends at the latest, as an expression over the parameters; empty if the horizon must
        be given.
    missing : str
        Where there is none, the sentence that says why and what to give.
    formed : tuple of str
        Events without which it does not end before its bound.
    plateaus : bool
        Whether the loss may rest long before it falls on, so that a run is not over when it has
        settled: it then lasts until the bound, unless the loss converges.
    """

    bound: str = ""
    missing: str = ""
    formed: tuple[str, ...] = ()
    plateaus: bool = False

    def of(self, name: str) -> str:
        """The bound of the system `name`.

        Raises
        ------
        InputError
            If there is none.
        """
        if not self.bound:
            raise InputError(
                self.missing or f"{name} declares no automatic horizon; give t_end (--t-end)"
            )
        return self.bound


@dataclass(frozen=True)
class Hints:
    """What integrators may know of a flow, to be quick and as precise as they are asked to be.

    Attributes
    ----------
    precise : bool
        Whether the right-hand side keeps its relative precision after emergence too (closed form,
        few terms); integrators then need not stay above its rounding errors.
    local : float, optional
        The part of the tolerances that a multistep method's step gets, as measured for this
        system; None for that of `reduced_dynamics.integration.flow`.
    costly : bool
        Whether the loss and the observables take about as long as a step; they are then computed
        within a step only where an event may lie there.
    tempo : float, optional
        For a state that comes to move as log t: the time from which on it may. scipy's methods are
        then given log(1 + t/tempo) for time.
    chart : callable, optional
        From parameter values to whether solvers are given the derivation's chart for a state
        (`derivations.core.derivation.Chart`), with no coordinate held.
    """

    precise: bool = False
    local: float | None = None
    costly: bool = False
    tempo: float | None = None
    chart: Callable[[Mapping[str, Any]], bool] | None = None


@dataclass(frozen=True)
class ReducedSystem:
    """A gradient flow in a few named coordinates: dz/dt = −∂loss/∂z, times a derived mobility
    where a coordinate is a function of the weight that descends.

    Attributes
    ----------
    name, title, source : str
        Short name, one line, and where it comes from (paper and theorem).
    coordinates, parameters, observables, events, invariants : tuples
    derive : callable
        From parameter values to the `Derivation` (imports SymPy).
    structure : tuple of str
        The parameters that change the equations themselves; all others are only numbers to the
        compiled functions.
    pack : callable
        From parameter values to the numbers the compiled functions take, in their order.
    sampling : callable
        ``sampling(values, compiled, par, z)``: sampling errors at the state `z`, by name, where
        the equations are a mean over sampled data.
    outside : callable
        ``outside(values, state)``: why the equations do not hold at a state given by name, and the
        remedy, in one sentence; empty where they do.
    check : callable
        Raises InputError where parameter values contradict each other.
    choose : callable
        From parameter values to those that the system chooses, for parameters that are None.
    adapt : callable
        From parameter values to the system's form for them, where coordinates, observables, events
        or invariants depend on them; see `adapted`. The system itself describes the defaults.
    stages : callable
        From parameter values to the changes of parameters for successive runs, each for an equal
        part of the horizon, where training is in stages; empty where it is one run.
    horizon : Horizon
        How long a run lasts that is not told.
    hints : Hints
        What integrators may know of the flow.
    key : str
        Identifies the equations where they do not follow from this package's sources.
    home : str
        Where a system that belongs to a module stands, ``"module:OBJECT"``: it is pickled as this
        reference. Others are pickled by their parts.
    """

    name: str
    title: str
    source: str
    coordinates: tuple[Coordinate, ...]
    derive: Callable[[Mapping[str, Any]], Derivation]
    parameters: tuple[Parameter, ...] = ()
    observables: tuple[Observable, ...] = ()
    events: tuple[Event, ...] = ()
    invariants: tuple[Invariant, ...] = ()
    structure: tuple[str, ...] = ()
    pack: Callable[[Mapping[str, Any]], Sequence[float]] = _nothing
    sampling: Callable[..., Mapping[str, float]] = _nothing
    outside: Callable[[Mapping[str, Any], Mapping[str, float]], str] | None = None
    check: Callable[[Mapping[str, Any]], None] = _nothing
    choose: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _nothing
    adapt: Callable[[Mapping[str, Any]], ReducedSystem] | None = field(default=None, repr=False)
    stages: Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]] = _nothing
    horizon: Horizon = Horizon()
    hints: Hints = Hints()
    key: str = field(default="", repr=False)
    home: str = field(default="", repr=False)

    @property
    def at_home(self) -> bool:
        """Whether this is the very system that stands in its `home`, no changed copy of it."""
        return bool(self.home) and load(self.home) is self

    def __reduce_ex__(self, protocol):
        return (load, (self.home,)) if self.at_home else super().__reduce_ex__(protocol)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the coordinates, in order."""
        return tuple(c.name for c in self.coordinates)

    def index(self, name: str) -> int:
        """Position of a coordinate.

        Raises
        ------
        InputError
            If there is none of that name.
        """
        if name not in self.names:
            raise unknown(f"coordinate of {self.name}", name, self.names)
        return self.names.index(name)

    def values(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """All parameters: `given` ones checked, defaults for the rest.

        Raises
        ------
        InputError
            For an unknown name (with the nearest known one), or a value out of range.
        """
        try:
            given = dict(given or {})
        except (TypeError, ValueError):
            raise InputError(
                f"parameters come as a mapping from names to values, not as {given!r}"
            ) from None
        known = {p.name: p for p in self.parameters}
        for name in given:
            if name not in known:
                raise unknown(f"parameter of {self.name}", name, known)
        values = {
            name: p.parse(given[name]) if given.get(name) is not None else p.default
            for name, p in known.items()
        }
        values |= self.choose(values)
        self.check(values)
        return values

    def adapted(self, values: Mapping[str, Any]) -> ReducedSystem:
        """The system's form for these (checked) parameter values; mostly the system itself."""
        return self if self.adapt is None else replace(self.adapt(values), adapt=None)

    def origin(self, values: Mapping[str, Any]) -> list[float]:
        """Where the coordinates start at these parameter values."""
        numbers = numeric(values)
        return [
            evaluate(c.start, numbers) if isinstance(c.start, str) else c.start
            for c in self.coordinates
        ]

    def place(self, name: str, value: Any) -> float:
        """A coordinate's value given by a user, checked.

        Raises
        ------
        InputError
            If the coordinate is unknown, or the value is not finite or out of its range.
        """
        coordinate = self.coordinates[self.index(name)]
        try:
            number = _finite(name, value)
        except InputError:
            if coordinate.at_infinity and str(value).strip().lower() in _INFINITE:
                raise InputError(
                    f"{name} must be a finite number, not {value}; {coordinate.at_infinity}"
                ) from None
            raise
        if not coordinate.least <= number <= COORDINATE_LIMIT:
            usual = coordinate.least == -COORDINATE_LIMIT
            limit = _number(COORDINATE_LIMIT)
            span = f"±{limit}" if usual else f"{_number(coordinate.least)} .. {limit}"
            raise InputError(
                f"{name} = {_number(number)} is out of range; "
                f"{'coordinates' if usual else 'it'} may be set within {span}"
            )
        return number
