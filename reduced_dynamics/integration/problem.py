"""What is to be integrated, with its numbers: options checked, parameters packed, events placed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from reduced_dynamics.compilation.compiled import CompiledSystem, compile_system
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.expressions import evaluate
from reduced_dynamics.core.memory import require
from reduced_dynamics.core.system import Event, ReducedSystem, numeric
from reduced_dynamics.core.trajectory import NODES

METHODS = ("LSODA", "Radau", "BDF", "Rodas5P")
DYNAMICS = ("flow", "gd")
RTOL, ATOL, THRESHOLD = 1e-9, 1e-12, 0.5
#: Horizons beyond these are slips of the pen, or further than floating point can step.
SHORTEST, LONGEST = 1e-30, 1e40
#: A step count that no healthy run comes near; beyond it a run is stuck.
MAX_STEPS = 200_000
#: An automatic horizon ends some time after the loss reaches this part of its start.
CONVERGED = 1e-6
CONVERGENCE = Event("", "the loss has converged", "loss", CONVERGED, of_start=True, direction=-1)


@dataclass(frozen=True)
class Options:
    """How to integrate; see `integrate` for the meaning of every field."""

    t_end: str | float = "auto"
    method: str = "LSODA"
    rtol: float = RTOL
    atol: float = ATOL
    threshold: float = THRESHOLD
    clamp: Mapping[str, float] = field(default_factory=dict)
    start: Mapping[str, float] = field(default_factory=dict)
    dynamics: str = "flow"
    step: float | None = None
    at: Sequence[float] = ()
    max_step: float = math.inf

    def __post_init__(self):
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        if self.dynamics not in DYNAMICS:
            raise unknown("dynamics", self.dynamics, DYNAMICS)
        for name in ("clamp", "start"):
            if not isinstance(getattr(self, name), Mapping):
                raise InputError(
                    f"{name} takes a mapping from names to numbers, such as {{'a': 1}}"
                )
        for name, low, high in (("rtol", 1e-13, 0.1), ("atol", 1e-30, 0.1)):
            value = self._number(name)
            if not low <= value <= high:
                raise InputError(f"{name} = {value} must be a number in {low:g} .. {high:g}")
        if not math.isfinite(self._number("threshold")):
            raise InputError(f"threshold must be a finite number, not {self.threshold}")
        if self._number("max_step") <= 0.0:
            raise InputError(f"max_step must be a positive number, not {self.max_step}")
        if not isinstance(self.t_end, str):
            self._number("t_end")
        if self.step is not None:
            self._number("step")
        if self.dynamics == "gd" and not (self.step and 0 < self.step < math.inf):
            raise InputError("dynamics=gd needs a step size: give --step with a positive number")
        if self.dynamics == "flow" and self.step is not None:
            raise InputError("a step size belongs to dynamics=gd; add --dynamics gd or drop --step")
        at = (self.at,) if _is_number(self.at) else self.at
        if isinstance(at, str) or not isinstance(at, Iterable):
            raise InputError(f"at takes a list of times, not {at!r}")
        object.__setattr__(self, "at", tuple(at))
        for t in self.at:
            if not (_is_number(t) and 0 <= t < math.inf):
                raise InputError(f"the state can be reported at times >= 0, not at {t}")

    def _number(self, name: str) -> float:
        """An option as Python's own number, which takes the place of what was given."""
        value = getattr(self, name)
        if not _is_number(value):
            raise InputError(f"{name} must be a number, not {value!r}")
        object.__setattr__(self, name, float(value))
        return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


class Problem:
    """A system with its numbers: compiled functions, packed parameters, start, events."""

    def __init__(self, system: ReducedSystem, parameters: Mapping[str, Any], options: Options):
        self.options = options
        self.values = system.values(parameters)
        self.system = system = system.adapted(self.values)
        clamp = {k: system.place(k, v) for k, v in options.clamp.items()}
        start = {k: system.place(k, v) for k, v in options.start.items()}
        both = sorted(clamp.keys() & start.keys())
        if both:
            raise InputError(f"{both[0]} is both clamped and started; give one of the two")
        origin = dict(zip(system.names, system.origin(self.values), strict=True))
        self.z0 = np.array([*(origin | start | clamp).values()])
        self.held = np.array([name in clamp for name in system.names])
        self.clamped = frozenset(clamp)
        self.t_end, self.automatic = self._horizon()
        self.compiled: CompiledSystem = compile_system(system, self.values)
        self.par = np.array(system.pack(self.values), dtype=float)
        self.most_steps = self._most_steps()
        if reason := self.outside(self.z0):
            raise InputError(reason)
        self.columns = {"loss": 0} | {
            name: 1 + k for k, name in enumerate(self.compiled.observables)
        }
        first = self.compiled.value_table(self.z0[None], self.par)
        if not np.isfinite(first).all():
            raise InputError("the loss is not finite at the start; start nearer to the origin")
        if not np.isfinite(self.rate(0.0, self.z0)).all():
            raise InputError("the gradient is not finite at the start; start elsewhere (--start)")
        self.first = first[0]
        # The last event is for the horizon only.
        self.events = (*system.events, CONVERGENCE)
        self.levels = np.array([self._level(e) for e in self.events])
        watches = [e.watch for e in self.events]
        self.by_value = np.array([k for k, w in enumerate(watches) if w in self.columns])
        self.by_state = np.array([k for k, w in enumerate(watches) if w not in self.columns], int)
        self.value_columns = np.array([self.columns[watches[k]] for k in self.by_value])
        self.state_columns = np.array([system.index(watches[k]) for k in self.by_state], int)

    def _horizon(self) -> tuple[float, bool]:
        t_end = self.options.t_end
        if t_end == "auto":
            horizon, automatic = self.system.horizon.of(self.system.name), True
        else:
            horizon, automatic = t_end, False
        number = (
            evaluate(horizon, numeric(self.values)) if isinstance(horizon, str) else float(horizon)
        )
        if not (SHORTEST <= number <= LONGEST):
            raise InputError(
                f"the horizon must be a positive time in {SHORTEST:g} .. {LONGEST:g}, not "
                f"{number:g}; mend --t-end"
            )
        late = [t for t in self.options.at if t > number]
        if late:
            raise InputError(f"time {late[0]:g} lies beyond the horizon {number:g}; raise --t-end")
        return number, automatic

    def _most_steps(self) -> int:
        """How many steps a run may take: more where they are kept short."""
        longest = self.options.max_step
        if longest >= self.t_end:
            return MAX_STEPS
        short = self.t_end / longest
        if not self.automatic:
            require(
                8.0 * short * (NODES + 1) * (len(self.z0) + 1),
                f"{short:.3g} steps of at most {longest:g}",
                "raise --max-step or lower --t-end",
            )
        return MAX_STEPS + math.ceil(min(short, 1e15))

    def _level(self, event: Event) -> float:
        level = self.options.threshold if event.level is None else event.level
        if event.of_start:
            if event.watch in self.columns:
                return level * self.first[self.columns[event.watch]]
            return level * self.z0[self.system.index(event.watch)]
        return level

    def outside(self, z: np.ndarray) -> str:
        """Why the equations do not hold at `z`; empty where they do."""
        if self.system.outside is None:
            return ""
        return self.system.outside(self.values, dict(zip(self.system.names, z, strict=True)))

    def rate(self, t: float, z: np.ndarray) -> np.ndarray:
        f = self.compiled.flow(t, z, self.par)
        f[self.held] = 0.0
        return f

    def jacobian(self, t: float, z: np.ndarray) -> np.ndarray:
        matrix = self.compiled.jacobian(t, z, self.par)
        matrix[self.held] = 0.0
        return matrix

    def watched(self, states: np.ndarray, table: np.ndarray) -> np.ndarray:
        """What the events watch, minus its level, shape (times, events)."""
        result = np.empty((len(states), len(self.events)))
        result[:, self.by_state] = self.watched_states(states)
        result[:, self.by_value] = self.watched_values(table)
        return result

    def watched_states(self, states: np.ndarray) -> np.ndarray:
        """The columns of `watched` that watch a coordinate."""
        return states[:, self.state_columns] - self.levels[self.by_state]

    def watched_values(self, table: np.ndarray) -> np.ndarray:
        """The columns of `watched` that watch the loss or an observable."""
        return table[:, self.value_columns] - self.levels[self.by_value]

    def invariant_names(self) -> list[str]:
        """The first integrals that these parameters and clamps leave valid."""
        holds = {i.name: i.holds(self.values) for i in self.system.invariants}
        return [
            name
            for name, involved in self.compiled.invariant_coordinates.items()
            if holds.get(name, True) and not self.clamped & set(involved)
        ]
