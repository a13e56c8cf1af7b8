"""The disentangled transformer as a sweep trains it."""

from __future__ import annotations

from reduced_dynamics.core.system import Parameter
from reduced_dynamics.families.musat.validation import Job, plan
from reduced_dynamics.sweeping.full import BATCH, LEARNING_RATE, SEED, Trained


def _job(system, parameters, clamp, seed=0, **options) -> Job:
    return plan(system, parameters, clamp=clamp, seeds=[seed], **options)[0]


MUSAT = Trained(
    home=f"{__name__}:MUSAT",
    settings=(
        SEED,
        LEARNING_RATE,
        BATCH,
        Parameter("optimiser", None, "how it descends", "choice", choices=("sgd", "momentum")),
        Parameter("init_scale", None, "standard deviation of a random start", "float", 0.0),
        Parameter("perturbation", None, "the same, off the subspace only", "float", 0.0),
    ),
    job=_job,
    further={"outside_over_inside": "norm outside the subspace over that inside it, at the end"},
)
