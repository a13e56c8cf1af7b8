"""What a family says of a full model: the record that ``validate`` and ``sweep --full`` go by."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.system import Parameter, ReducedSystem
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.experiments.comparison import Comparison, Job, largest
from reduced_dynamics.sweeping.variables import Variable

#: What every training has.
SEED = Parameter("seed", 0, "seed of the training and its data", "int", 0, 2**62)
#: What a comparison keeps besides coordinates, losses and events.
_ERRORS = {
    "largest_error": "largest difference of the full model from the reduced flow, of any "
    "coordinate at any time",
    "largest_error_t": "training time of that",
    "final_error": "largest difference at the end",
    "stepping_error": "largest difference of the reduced equations descended with the same steps",
    "sampling_error": "largest difference of the full model from these",
}


@dataclass(frozen=True, eq=False)
class FullModel:
    """How a full model is trained and laid over a reduced system.

    Attributes
    ----------
    home : str
        Where it stands, ``"module:OBJECT"``; what this module imports, its numbers follow from.
    title : str
        What it is, after "against": ``"the two-layer, two-head network"``.
    settings : tuple of Parameter
        What can be set of its training, beside the parameters of the reduced system; `SEED` first.
    horizon : str
        In reduced training time unless said otherwise, an expression over the parameters.
    plan : callable
        ``plan(system, parameters, *, seeds, t_end, steps, at, clamp, **settings)``: a `Job` for
        every seed, all checked before the first of them begins. All options have defaults. The
        parameters are the system's; `seeds`, `t_end`, `steps` and `at` those of
        `experiments.comparison.schedule`; `clamp` says which coordinates both models hold at a
        value. What is impossible or contradicts itself raises `InputError`.
    seeds : int
        How many are trained unless said otherwise.
    xscale : {"linear", "log"}
        Of time, where the two are drawn.
    further : mapping of str to str
        Observables of the full model that a sweep keeps at the end, and what they mean.
    swept_beside : bool
        Whether a sweep, too, lays the reduced flow over every training.
    remarks : callable
        From the (Job, Comparison) pairs to further lines of the report.
    """

    home: str
    title: str
    settings: tuple[Parameter, ...]
    horizon: str
    plan: Callable[..., Sequence[Job]]
    seeds: int = 1
    xscale: str = "linear"
    further: Mapping[str, str] = field(default_factory=dict)
    swept_beside: bool = True
    remarks: Callable[[Sequence[tuple[Job, Comparison]]], Sequence[str]] = lambda done: ()

    def split(
        self, system: ReducedSystem, given: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters of the reduced system and settings of the training, from both in one.

        Raises
        ------
        InputError
            For a name that is neither (with the nearest), or a setting out of range.
        """
        own = {s.name: s for s in self.settings}
        names = [p.name for p in system.parameters]
        parameters, training = {}, {}
        for name, value in given.items():
            if name in names:
                parameters[name] = value
            elif name == SEED.name:
                raise InputError("the seed of the training is no setting of it; give --seed")
            elif name in own:
                training[name] = own[name].parse(value)
            else:
                raise unknown(f"parameter of {system.name}", name, dict.fromkeys([*names, *own]))
        return parameters, training

    def compare(
        self,
        system: ReducedSystem,
        parameters: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        progress: Progress = silent,
        checkpoint=None,
        **options: Any,
    ) -> Comparison:
        """Train once and lay the reduced flow over the trajectory.

        `options` are those of `plan`; errors are those of `Job.trained` and `Job.compare`.
        """
        (job,) = self.plan(system, parameters, seeds=[seed], **options)
        return job.run(progress, checkpoint)

    def results(self, forms: Iterable[ReducedSystem]) -> Iterator[Variable]:
        """What a sweep keeps of a training; see `sweeping.full.Trained`."""
        yield Variable("t_reached", "outcome", "training time at which it ends")
        yield Variable("n_steps", "stats", "number of training steps", "i8")
        for error, meaning in (_ERRORS if self.swept_beside else {}).items():
            yield Variable(error, "error", meaning)
        for quantity, meaning in self.further.items():
            yield Variable(quantity, "final", meaning)
        for model in ("full", "reduced") if self.swept_beside else ("full",):
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
        """Train at one point of a sweep; see `sweeping.full.Trained`."""
        horizon = {} if t_end == "auto" else {"t_end": t_end}
        options = {"clamp": clamp, "seeds": [training.get("seed", 0)], **training, **horizon}
        options.pop("seed", None)
        (job,) = self.plan(system, parameters, **options)
        found = job.run(progress) if self.swept_beside else None
        full = job.trained(progress) if found is None else found.full
        numbers = {"t_reached": full.t_end, "n_steps": full.stats["steps"]}
        numbers |= {k: float(full[k][-1]) for k in self.further if k in full.observables}
        numbers |= {"full_loss": float(full.loss[-1])} | _end("full", full)
        if found is None:
            return numbers
        worst, _, t = found.worst
        return numbers | {
            "largest_error": worst,
            "largest_error_t": t,
            "final_error": largest(found.error[-1]),
            "stepping_error": largest(found.discretisation),
            "sampling_error": largest(found.sampling),
            "reduced_loss": float(found.reduced_loss[-1]),
            **_end("reduced", found.reduced),
        }


def _end(model: str, run: Trajectory) -> dict[str, float | None]:
    """Events and the last state of a trajectory, under the names of `FullModel.results`."""
    return {f"{model}_{name}": value for name, value in (run.events | run.final).items()}
