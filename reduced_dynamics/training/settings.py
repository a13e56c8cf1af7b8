"""What every configuration of a training shares, and its checks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from reduced_dynamics.core.errors import InputError, unknown, whole_numbers
from reduced_dynamics.core.system import Parameter
from reduced_dynamics.training.optimisers import OPTIMISERS, Optimiser
from reduced_dynamics.training.schedule import Constant, Schedule

PRECISIONS = {"single": np.float32, "double": np.float64}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long, with which steps and from which seed to train; a model's own add what it needs.

    A subclass checks its own fields first, with `whole_numbers` and `one_of` where they do,
    and then calls this class's ``__post_init__``, which checks choices that are `told`.

    Attributes
    ----------
    batch : int or None
        Fresh sequences a step; None for the whole of a fixed set.
    learning_rate : float
        The largest of all steps.
    steps : int, optional
        Number of steps; or else
    t_end : float, optional
        the training time at which to stop.
    optimiser : {"sgd", "momentum", "adam"}
    seed : int
    record : int or tuple of float
        At how many equal intervals, or at which training times, rows are recorded; the first and
        the last step always are. A time is rounded to the nearest step.
    """

    batch: int | None = None
    learning_rate: float = 1.0
    steps: int | None = None
    t_end: float | None = None
    optimiser: str = "sgd"
    seed: int = 0
    record: int | tuple[float, ...] = 200

    #: Fields that describe model and task; the others describe the training.
    PARAMETERS: ClassVar[tuple[str, ...]] = ()
    METHODS: ClassVar[Iterable[str]] = OPTIMISERS

    def __post_init__(self):
        for one in fields(self):
            if choices := one.metadata.get("choices"):
                one_of(one.name, getattr(self, one.name), choices)
        one_of("optimiser", self.optimiser, self.METHODS)
        if not 0.0 < self.learning_rate < np.inf:
            raise InputError(
                f"the learning rate must be a positive number, not {self.learning_rate!r}"
            )
        whole_numbers(0, seed=self.seed)
        if self.batch is not None:
            whole_numbers(batch=self.batch)
        if (self.steps is None) == (self.t_end is None):
            raise InputError("say either steps or t_end, one of the two, to say when to stop")
        if self.steps is not None:
            whole_numbers(steps=self.steps)
        elif not 0.5 * self.time_step < self.t_end < np.inf:
            raise InputError(
                f"t_end = {self.t_end!r} must be finite and no less than {self.time_step:g}, the "
                "time of one step"
            )
        if isinstance(self.record, int):
            if self.record < 1:
                raise InputError(f"record at least one interval, not {self.record}")
        elif not np.all((self._chosen >= 0) & (self._chosen < self.total_steps + 0.5)):
            end = self.total_steps * self.time_step
            raise InputError(f"recorded times must lie between 0 and {end:g}, the end of training")

    @property
    def time_step(self) -> float:
        """Training time of one step."""
        return self.learning_rate

    @property
    def total_steps(self) -> int:
        """Number of steps."""
        return self.steps if self.steps is not None else round(self.t_end / self.time_step)

    @property
    def recorded(self) -> frozenset[int]:
        """Steps before which rows are recorded."""
        return frozenset({0, self.total_steps, *np.rint(self._chosen).astype(int).tolist()})

    @property
    def _chosen(self) -> np.ndarray:
        """What `record` asks for, in steps but not yet rounded."""
        if isinstance(self.record, int):
            return np.linspace(0, self.total_steps, self.record + 1)
        return np.asarray(self.record, dtype=float) / self.time_step

    @property
    def method(self) -> Optimiser:
        """The optimiser of that name, with its usual constants (momentum .9; Adam .9, .999)."""
        return OPTIMISERS[self.optimiser]

    @property
    def rates(self) -> Schedule:
        """The learning rate of every step."""
        return Constant(self.learning_rate)

    @property
    def parameters(self) -> dict[str, Any]:
        """What a trajectory says of model and task: scalars and strings."""
        return {name: getattr(self, name) for name in self.PARAMETERS}

    @property
    def solver(self) -> dict[str, Any]:
        """What a trajectory says of how it was trained: scalars and strings."""
        shared = {field.name for field in fields(Settings)}
        own = [f.name for f in fields(self) if f.name not in {*shared, *self.PARAMETERS}]
        return {
            "method": self.optimiser,
            "learning_rate": self.learning_rate,
            "batch": self.batch or "full",
            "steps": self.total_steps,
            "seed": self.seed,
            **{name: _plain(getattr(self, name)) for name in own},
        }

    @classmethod
    def settable(cls, *names: str) -> tuple[Parameter, ...]:
        """Fields that say what they mean (`told`), as parameters."""
        given = {f.name: f for f in fields(cls)}
        return tuple(Parameter(name, given[name].default, **given[name].metadata) for name in names)

    def streams(self, count: int) -> list[np.random.SeedSequence]:
        """Seeds of so many independent streams of random numbers."""
        return np.random.SeedSequence(self.seed).spawn(count)


def told(default: Any, meaning: str, **more: Any) -> Any:
    """A field of a configuration that says what it means, once for readers and for users.

    Parameters
    ----------
    default : bool, int, float, str or None
    meaning, **more
        Of the `Parameter` that it makes: see `Settings.settable`.
    """
    kinds = {bool: "bool", int: "int", float: "float", str: "choice"}
    said = {"meaning": meaning, "kind": kinds.get(type(default)), **more}
    return field(default=default, metadata=said)


def one_of(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise `InputError`, with the nearest known name, unless the name is known."""
    if name not in known:
        raise unknown(kind, name, known)


def listed(values: Mapping[str, float]) -> str:
    """Numbers by name as a text; empty for none."""
    return ", ".join(f"{name}={number:g}" for name, number in values.items())


def _plain(value: Any) -> Any:
    return (listed(value) or "nothing") if isinstance(value, Mapping) else value
