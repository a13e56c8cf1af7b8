"""What all points of a sweep share: the system, how it is integrated, and what is kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.integration.problem import ATOL, RTOL, THRESHOLD, Options
from reduced_dynamics.io.jsonable import plain
from reduced_dynamics.sweeping.full import Trained

#: What can be kept of every point, and what is unless said otherwise.
KEPT = {
    "events": "the time of the first crossing of every event",
    "final": "coordinates and observables at the end",
    "loss": "the loss at the end",
    "stats": "how many steps, rejected steps, right-hand sides and Jacobians it took",
    "at": "loss, coordinates and observables at the times of `at`",
    "trajectory": "every recorded state, with the dense output",
}
KEEP = ("events", "final", "loss", "stats")
#: The method of a sweep unless said otherwise: compiled throughout.
METHOD = "Rodas5P"
#: Why a full model has no start of its own.
FULL_START = "a full model starts as its training says; drop {}, or --full"


@dataclass(frozen=True, eq=False)
class Settings:
    """What a block of points needs besides the points; it travels to other processes.

    Attributes
    ----------
    system : ReducedSystem
    parameters, start, clamp : mapping
        Those that all points share.
    t_end, method, rtol, atol, threshold, dynamics, step, max_step
        Those of `integrate`.
    at : tuple of float or str
        Times, or expressions over the parameters.
    keep : tuple of str
        Names of `KEPT`.
    full : Trained, optional
        The full model that is trained at every point, instead of the reduced system alone.
    derivation : str
        Hash of the sources that the results follow from.
    """

    system: ReducedSystem
    parameters: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)
    clamp: Mapping[str, Any] = field(default_factory=dict)
    t_end: float | str = "auto"
    method: str = METHOD
    rtol: float = RTOL
    atol: float = ATOL
    threshold: float = THRESHOLD
    dynamics: str = "flow"
    step: float | None = None
    max_step: float | None = None
    at: tuple[float | str, ...] = ()
    keep: tuple[str, ...] = KEEP
    full: Trained | None = None
    derivation: str = ""

    def __post_init__(self):
        for name in self.keep:
            if name not in KEPT:
                raise unknown("thing to keep", name, KEPT)
        if self.at and "at" not in self.keep:
            object.__setattr__(self, "keep", (*self.keep, "at"))
        if "at" in self.keep and not self.at:
            raise InputError("to keep states at times, give the times: --at 10,100,N**2")
        if self.full and {"trajectory", "at"} & set(self.keep):
            raise InputError(
                "a sweep of trainings keeps their numbers, neither trajectories nor states; drop "
                "them, or train one point with: simulate.py validate ... --out FILE"
            )
        if self.full:
            self._check_full()
        if self.dynamics == "gd":
            self._check_descent()
        Options(**self.options, clamp=self.clamp, start=self.start, at=self.fixed_times)

        if not isinstance(self.t_end, str) and not 0.0 < self.t_end < math.inf:
            raise InputError(f"t_end must be a positive finite number, not {self.t_end}")

    def _check_descent(self) -> None:
        """Refuse what belongs to flows alone, and would be passed over."""
        for name in ("method", "rtol", "atol", "max_step"):
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise InputError(
                    f"{name} is of gradient flows, and gradient descent takes its own steps; drop "
                    f"--{name.replace('_', '-')}, or --dynamics gd"
                )

    def _check_full(self) -> None:
        """Refuse what belongs to the reduced system alone."""
        for name in ("method", "rtol", "atol", "threshold", "dynamics", "step", "max_step"):
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise InputError(
                    f"{name} is of the reduced system's integration, and --full trains the full "
                    "model; drop one of them"
                )
        if self.start:
            raise InputError(FULL_START.format("--start"))

    @property
    def options(self) -> dict[str, Any]:
        """How one point is integrated, for `integrate`, without its start, clamps and times."""
        found = {"t_end": self.t_end, "method": self.method, "rtol": self.rtol, "atol": self.atol}
        found |= {"threshold": self.threshold, "dynamics": self.dynamics, "step": self.step}
        return found | ({} if self.max_step is None else {"max_step": self.max_step})

    @property
    def fixed_times(self) -> list[float]:
        """Those of `at` that are numbers."""
        return [t for t in self.at if not isinstance(t, str)]

    @property
    def engine(self) -> str:
        """How points are computed: "ensemble" (compiled, many at once), "single" or "full"."""
        if self.full:
            return "full"
        together = (
            self.method == "Rodas5P"
            and self.dynamics == "flow"
            and self.max_step is None
            and "trajectory" not in self.keep
            and not self.system.hints.costly
        )
        return "ensemble" if together else "single"

    @property
    def homes(self) -> tuple[str, ...]:
        """Modules that the results follow from, besides those that integrate."""
        homes = (self.system.home, self.full.home if self.full else "")
        return tuple(home.partition(":")[0] for home in homes if home)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything of this that results depend on, as JSON has it."""
        system = self.system
        solver = {k: v for k, v in self.options.items() if k != "t_end"}
        if self.dynamics == "gd":
            solver = {k: solver[k] for k in ("dynamics", "step", "threshold")}
        elif self.step is None:
            del solver["step"]
        return {
            "system": system.name,
            "key": system.key,
            "parameters": plain(self.parameters),
            "start": plain(self.start),
            "clamp": plain(self.clamp),
            "t_end": self.t_end,
            "solver": {} if self.full else solver,
            "at": list(self.at),
            "keep": sorted(self.keep),
            "full": self.full is not None,
            "derivation": self.derivation,
        }
