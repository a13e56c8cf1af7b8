"""The two-layer, two-head network on the mixed target as a sweep trains it."""

from __future__ import annotations

from reduced_dynamics.core.system import Parameter
from reduced_dynamics.families.wang.validation import MixedJob, plan
from reduced_dynamics.sweeping.full import BATCH, LEARNING_RATE, SEED, Trained


def _job(system, parameters, clamp, seed=0, **options) -> MixedJob:
    return plan(system, parameters, clamp=clamp, seeds=[seed], **options)[0]


_OPTIMISERS = ("sgd", "momentum", "flow")
WANG = Trained(
    home=f"{__name__}:WANG",
    settings=(
        SEED,
        LEARNING_RATE,
        Parameter("sequences", None, "sequences drawn once", "int", 1, 10**9),
        BATCH,
        Parameter("optimiser", None, "how it descends", "choice", choices=_OPTIMISERS),
    ),
    job=_job,
)
