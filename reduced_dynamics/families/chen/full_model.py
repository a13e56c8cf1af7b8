"""The copier, selector and classifier on finite data as a sweep trains it."""

from __future__ import annotations

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.chen.validation import OWN, Job, plan
from reduced_dynamics.sweeping.full import LEARNING_RATE, SEED, Trained


def _job(system, parameters, clamp, seed=0, learning_rate=1.0, t_end=None, **own) -> Job:
    if clamp:
        raise InputError(f"the full model of {system.name} holds no coordinate fixed; drop --clamp")
    given = {**parameters, **own}
    return plan(given, seeds=[seed], learning_rate=learning_rate, t_end=t_end).jobs[0]


CHEN = Trained(
    home=f"{__name__}:CHEN",
    settings=(SEED, LEARNING_RATE, *OWN),
    job=_job,
    further={
        "validation_loss": "loss on sequences never trained on",
        "accuracy": "on these",
    },
    compared=False,
)
