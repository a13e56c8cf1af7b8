"""What the studies of the disentangled transformer share: batch size, learning rate, start."""

from dataclasses import replace

import numpy as np

from reduced_dynamics.experiments.comparison import Comparison
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.experiments.study import outcome
from reduced_dynamics.families.musat.full.disentangled import Weights
from reduced_dynamics.families.musat.full.disentangled_training import TrainingConfig
from reduced_dynamics.families.musat.full_model import plan
from reduced_dynamics.families.musat.system import MUSAT19

OUTSIDE = "norm outside the subspace"
SOURCE = "Musat et al., arXiv 2511.01033, Theorem 1"


def settings(option: str, values: Setting) -> tuple[Setting, ...]:
    """Those of a study over `option`, whose values are `values`."""
    rest = (
        Setting("N", 4, "pairs", 2, 1, kind="int", low=1, high=64),
        Setting("t_end", 160.0, "horizon, reduced training time", 40.0, 3.0, low=0.0),
        Setting("batch", 256, "fresh sequences a step", kind="int", low=1, high=10**9),
        Setting("learning_rate", 1.0, "of gradient descent", low=0.0),
        Setting("seeds", (0, 1, 2), "of the training", tiny=(0, 1), kind="seeds"),
    )
    return (values, *(s for s in rest if s.name != option))


def compared(option: str, settings, run: tuple[float, int], context) -> dict:
    """A study's outcome of one training, at a value of `option` and from a seed."""
    value, seed = run
    training = {"batch": settings.batch, "learning_rate": settings.learning_rate, option: value}
    (job,) = plan(MUSAT19, {"N": settings.N}, seeds=[seed], t_end=settings.t_end, **training)
    found = job.run(context.progress, context.checkpoint)
    outside = found.full["outside_norm"]
    return outcome(
        found,
        {"outside": outside},
        outside=float(np.sqrt(np.mean(outside**2))),
        outside_start=float(outside[0]),
        outside_end=float(outside[-1]),
        outside_largest=float(outside.max()),
    )


def beside_flow(settings, parameters: dict, context) -> tuple[Comparison, Weights, TrainingConfig]:
    """One training and the reduced flow, without descent; its weights, and how it was trained."""
    options = {"t_end": settings.t_end, "batch": settings.batch, "seeds": [settings.seed]}
    (job,) = plan(MUSAT19, parameters, **options)
    job.prepare()
    full, weights = job.train(job.config, context.progress, context.checkpoint)
    context.progress("integrating the reduced flow", 1.0)
    return replace(job, most_descended=0).compare(full), weights, job.config


def law(name: str) -> str:
    """The text of a power law's exponent."""
    return f"{{laws[{name}][exponent]:.3f}} ± {{laws[{name}][error]:.3f}}"
