"""Trainings of full transformers as points of a sweep: what ``validate`` does, number by number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.system import Parameter, ReducedSystem
from reduced_dynamics.sweeping.settings import Settings

if TYPE_CHECKING:
    from reduced_dynamics.sweeping.plan import Plan
    from reduced_dynamics.sweeping.variables import Variable

_SEED = Parameter("seed", 0, "seed of the training and its data", "int", 0, 2**62)
_RATE = Parameter("learning_rate", None, "of the full model", "float", 0.0)
_MUSAT = (
    _SEED,
    _RATE,
    Parameter("batch", None, "fresh sequences a step", "int", 1, 10**9),
    Parameter("optimiser", None, "how it descends", "choice", choices=("sgd", "momentum")),
    Parameter("init_scale", None, "standard deviation of a random start", "float", 0.0),
    Parameter("perturbation", None, "the same, off the subspace only", "float", 0.0),
)
_WANG = (
    _SEED,
    _RATE,
    Parameter("sequences", None, "sequences drawn once", "int", 1, 10**9),
    Parameter("batch", None, "fresh sequences a step", "int", 1, 10**9),
    Parameter("optimiser", None, "how it descends", "choice", choices=("sgd", "momentum", "flow")),
)
_CHEN = (
    _SEED,
    _RATE,
    Parameter("sequences", None, "sequences of the training set", "int", 1, 10**8),
    Parameter("validation", None, "sequences never trained on", "int", 1, 10**8),
)
#: What can be set and swept of every full model, beside the parameters of its reduced system.
TRAINING = {"musat3": _MUSAT, "musat19": _MUSAT, "wang": _WANG, "chen": _CHEN}
#: What a comparison keeps besides coordinates, losses and events.
_ERRORS = {
    "largest_error": "largest difference of the full model from the reduced flow, of any "
    "coordinate at any time",
    "largest_error_t": "training time of that",
    "final_error": "largest difference at the end",
    "stepping_error": "largest difference of the reduced equations descended with the same steps",
    "sampling_error": "largest difference of the full model from these",
}
_OUTSIDE = {"outside_over_inside": "norm outside the subspace over that inside it, at the end"}
_FINITE = {"validation_loss": "loss on sequences never trained on", "accuracy": "on these"}

_COMPILING = threading.Lock()


def training_parameters(system: ReducedSystem) -> tuple[Parameter, ...]:
    """The settings of the full model's training.

    Raises
    ------
    InputError
        If there is no full model of this system.
    """
    if system.name not in TRAINING:
        raise InputError(
            f"there is no full model of {system.name}; --full is for {', '.join(TRAINING)}"
        )
    return TRAINING[system.name]


def results(plan: Plan) -> Iterator[Variable]:
    """What is kept of a training."""
    from reduced_dynamics.sweeping.variables import Variable

    name, forms = plan.settings.resolved.name, plan.forms
    yield Variable("t_reached", "outcome", "training time at which it ends")
    yield Variable("n_steps", "stats", "number of training steps", "i8")
    compared = name != "chen"
    for error, meaning in (_ERRORS if compared else {}).items():
        yield Variable(error, "error", meaning)
    further = {"wang": {}, "chen": _FINITE}.get(name, _OUTSIDE)
    for quantity, meaning in further.items():
        yield Variable(quantity, "final", meaning)
    for model in ("full", "reduced") if compared else ("full",):
        yield Variable(f"{model}_loss", "loss", f"{model} model: loss at the end")
        for form in forms:
            for event in form.events:
                meaning = f"{model} model: training time at which {event.meaning}"
                yield Variable(f"{model}_{event.name}", "events", meaning)
            for coordinate in form.coordinates:
                meaning = f"{model} model at the end: {coordinate.meaning}"
                yield Variable(f"{model}_{coordinate.name}", "final", meaning)


def train(
    settings: Settings, point: Mapping[str, Any], watch: Callable[..., None]
) -> dict[str, float | int | None]:
    """Train the full model at one point and lay the reduced flow over it; numbers by name.

    Raises
    ------
    InputError
        For what is impossible there.
    IntegrationError
        If the training diverges.
    """
    system = settings.resolved
    own = {p.name: p for p in training_parameters(system)}
    given = {**settings.parameters, **point}
    training = {k: own[k].parse(given.pop(k)) for k in own if k in given}
    seed = training.pop("seed", 0)
    options: dict[str, Any] = {"seeds": [seed], **training}
    if settings.t_end != "auto":
        options["t_end"] = settings.t_end
    if system.name == "chen":
        return _finite_chain(system, given, options, watch)
    if system.name == "wang":
        from reduced_dynamics.families.wang.full_model import plan
    else:
        from reduced_dynamics.families.musat.full_model import plan
    job = plan(system, given, clamp=settings.clamp, **options)[0]
    with _COMPILING:
        job.system.pack(job.parameters)
        compile_system(job.system, job.parameters)
    found = job.run(watch)
    largest, _, t = found.worst
    numbers = {
        "t_reached": found.full.t_end,
        "n_steps": found.full.stats["steps"],
        "largest_error": largest,
        "largest_error_t": t,
        "final_error": float(np.abs(found.error[-1]).max()),
        "stepping_error": _largest(found.discretisation),
        "sampling_error": _largest(found.sampling),
        "full_loss": float(found.full.loss[-1]),
        "reduced_loss": float(found.reduced_loss[-1]),
    }
    if "outside_over_inside" in found.full.observables:
        numbers["outside_over_inside"] = float(found.full["outside_over_inside"][-1])
    for model, run in (("full", found.full), ("reduced", found.reduced)):
        numbers |= {f"{model}_{name}": t for name, t in run.events.items()}
        numbers |= {f"{model}_{name}": value for name, value in run.final.items()}
    return numbers


def _finite_chain(catalogue_system, given, options, watch) -> dict[str, float | int | None]:
    """The copier, selector and classifier on finite data; see `validate_markov`."""
    from reduced_dynamics.families.chen.full_model import plan

    job = plan(catalogue_system, given, **options)[0]
    full = job.trained(watch)
    return {
        "t_reached": full.t_end,
        "n_steps": full.stats["steps"],
        "full_loss": float(full.loss[-1]),
        "validation_loss": float(full["validation_loss"][-1]),
        "accuracy": float(full["accuracy"][-1]),
        **{f"full_{name}": t for name, t in full.events.items()},
        **{f"full_{name}": value for name, value in full.final.items()},
    }


def _largest(error: np.ndarray | None) -> float | None:
    return None if error is None else float(np.abs(error).max())
