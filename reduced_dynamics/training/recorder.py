"""What is recorded on the way, by name, and the trajectory that comes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reduced_dynamics.core.crossings import crossings
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.io.versions import versions
from reduced_dynamics.training.model import Model
from reduced_dynamics.training.optimisers import Arrays
from reduced_dynamics.training.settings import Settings

#: One recorded row: "step", "loss" (of that step's data), and what was measured.
Row = Mapping[str, float]
#: The same of all rows, arrays of shape (n,).
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Event:
    """A crossing to be located between recorded steps.

    `height` makes of the columns an array that is 0 at the event. Direction 0 is every crossing, 1
    and −1 the first time that the height has risen, or fallen, so far.
    """

    name: str
    height: Callable[[Columns], np.ndarray]
    direction: int = 0


@dataclass(frozen=True)
class Recorder:
    """What is measured of the weights before the recorded steps.

    Attributes
    ----------
    measure : callable
        Numbers of the weights, by name; the order is the same every time.
    coordinates : tuple of str
        Which of them are the trajectory's coordinates; the others are its observables.
    events : sequence of Event
    time_scale : float
        See `Trajectory`.
    """

    measure: Callable[[Arrays], Mapping[str, float]]
    coordinates: tuple[str, ...]
    events: Sequence[Event] = ()
    time_scale: float = 1.0

    def row(self, step: int, loss: float, weights: Arrays) -> Row:
        """What is recorded before a step."""
        return {"step": step, "loss": loss, **self.measure(weights)}

    def trajectory(
        self,
        model: Model,
        settings: Settings,
        rows: Sequence[Row],
        stats: Mapping[str, Any],
        message: str,
    ) -> Trajectory:
        """Rows, one at least, as a trajectory over step × `settings.time_step`."""
        columns = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}
        t, loss = columns["step"] * settings.time_step, columns["loss"]
        z = np.column_stack([columns[name] for name in self.coordinates])
        found = [
            crossing
            for event in self.events
            for crossing in crossings(event.name, t, z, event.height(columns), event.direction)
        ]
        return Trajectory(
            system=model.name,
            coordinates=self.coordinates,
            t=t,
            z=z,
            loss=loss,
            parameters=settings.parameters,
            observables={
                name: column
                for name, column in columns.items()
                if name not in ("step", "loss", *self.coordinates)
            },
            crossings=tuple(sorted(found, key=lambda crossing: crossing.t)),
            event_names=tuple(event.name for event in self.events),
            solver=settings.solver,
            loss_rise=float(np.max(loss - np.minimum.accumulate(loss))),
            stats=stats,
            versions=versions(),
            time_scale=self.time_scale,
            source=model.code,
            message=message,
        )
