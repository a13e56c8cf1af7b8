"""Trainings of full models as points of a sweep: what ``validate`` does, number by number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.progress import Progress
from reduced_dynamics.core.system import Parameter, ReducedSystem
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.sweeping.variables import Variable

#: What nearly every training has.
SEED = Parameter("seed", 0, "seed of the training and its data", "int", 0, 2**62)
LEARNING_RATE = Parameter("learning_rate", None, "of the full model", "float", 0.0)
BATCH = Parameter("batch", None, "fresh sequences a step", "int", 1, 10**9)
#: What a comparison keeps besides coordinates, losses and events.
_ERRORS = {
    "largest_error": "largest difference of the full model from the reduced flow, of any "
    "coordinate at any time",
    "largest_error_t": "training time of that",
    "final_error": "largest difference at the end",
    "stepping_error": "largest difference of the reduced equations descended with the same steps",
    "sampling_error": "largest difference of the full model from these",
}

_COMPILING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Trained:
    """How a full model is trained at the points of a sweep.

    A sweep knows no more of a full model than this: any record with `home`, `settings`, `results`
    and `numbers` does. It travels to other processes, so its functions stand in modules.

    Attributes
    ----------
    home : str
        Where it stands, ``"module:OBJECT"``; what this module imports, its numbers follow from.
    settings : tuple of Parameter
        What can be set and swept of its training, beside the parameters of the reduced system.
    job : callable
        (system, parameters, clamp, **settings and perhaps t_end) → a training to be made: its
        ``run(progress)`` gives a result whose `full` is a `Trajectory`.
    further : mapping of str to str
        Observables of the full model that are kept at the end, and what they mean.
    compared : bool
        Whether the reduced flow is laid over it. The job then has `system` and `parameters`, and
        its result is a comparison: reduced, reduced_loss, error, worst, discretisation, sampling.
    """

    home: str
    settings: tuple[Parameter, ...]
    job: Callable[..., Any]
    further: Mapping[str, str] = field(default_factory=dict)
    compared: bool = True

    def results(self, forms: Iterable[ReducedSystem]) -> Iterator[Variable]:
        """What is kept of a training, for all forms that the reduced system has."""
        yield Variable("t_reached", "outcome", "training time at which it ends")
        yield Variable("n_steps", "stats", "number of training steps", "i8")
        for error, meaning in (_ERRORS if self.compared else {}).items():
            yield Variable(error, "error", meaning)
        for quantity, meaning in self.further.items():
            yield Variable(quantity, "final", meaning)
        for model in ("full", "reduced") if self.compared else ("full",):
            yield Variable(f"{model}_loss", "loss", f"{model} model: loss at the end")
            for form in forms:
                for event in form.events:
                    meaning = f"{model} model: training time at which {event.meaning}"
                    yield Variable(f"{model}_{event.name}", "events", meaning)
                for coordinate in form.coordinates:
                    meaning = f"{model} model at the end: {coordinate.meaning}"
                    yield Variable(f"{model}_{coordinate.name}", "final", meaning)

    def numbers(
        self,
        system: ReducedSystem,
        parameters: Mapping[str, Any],
        training: Mapping[str, Any],
        t_end: float | str,
        clamp: Mapping[str, Any],
        progress: Progress,
    ) -> dict[str, float | int | None]:
        """Train at one point and lay the reduced flow over it; the `results` by name.

        Parameters
        ----------
        system : ReducedSystem
        parameters, training : mapping
            Of the reduced system, and of `settings`, as far as they are given.
        t_end : float or str
            Horizon in reduced training time; "auto" leaves it to the training.
        clamp : mapping
            Coordinates that both hold.

        Raises
        ------
        InputError
            For what is impossible there.
        IntegrationError
            If the training diverges.
        """
        horizon = {} if t_end == "auto" else {"t_end": t_end}
        job = self.job(system, parameters, clamp, **training, **horizon)
        if self.compared:
            with _COMPILING:
                job.system.pack(job.parameters)
                compile_system(job.system, job.parameters)
        found = job.run(progress)
        full: Trajectory = found.full
        numbers = {"t_reached": full.t_end, "n_steps": full.stats["steps"]}
        numbers |= {k: float(full[k][-1]) for k in self.further if k in full.observables}
        numbers |= {"full_loss": float(full.loss[-1])} | _end("full", full)
        if not self.compared:
            return numbers
        largest, _, t = found.worst
        return numbers | {
            "largest_error": largest,
            "largest_error_t": t,
            "final_error": _largest(found.error[-1]),
            "stepping_error": _largest(found.discretisation),
            "sampling_error": _largest(found.sampling),
            "reduced_loss": float(found.reduced_loss[-1]),
            **_end("reduced", found.reduced),
        }


def _end(model: str, run: Trajectory) -> dict[str, float | None]:
    """Events and the last state of a trajectory, under the names of `Trained.results`."""
    return {f"{model}_{name}": value for name, value in (run.events | run.final).items()}


def _largest(error: np.ndarray | None) -> float | None:
    return None if error is None else float(np.abs(error).max())
