"""wang.step: what finite steps do, apart from finitely many sequences."""

from dataclasses import replace
from functools import partial

from reduced_dynamics.experiments.comparison import rms
from reduced_dynamics.experiments.experiment import Experiment
from reduced_dynamics.experiments.finding import Finding, Measured, near
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.experiments.study import Curve, Quantity, Study, outcome
from reduced_dynamics.families.wang import comparisons
from reduced_dynamics.families.wang.full.mixed_target_training import train_mixed_target

#: An exponent agrees if it is so near the one that is expected.
WITHIN = 0.1
STUDY = Study(
    "learning_rate",
    "learning rate",
    r"\eta",
    (
        Quantity("error", "error against the flow", "#0072B2", "o", fitted=False),
        Quantity("discretisation", "reduced descent against its flow", "#009E73", "^"),
        Quantity("stepping", "against the flow of the same data", "#E69F00", "D"),
    ),
    (Curve("distance", "distance from the flow", log=True), Curve("loss", "loss", log=True)),
    "wang against descent in finite steps",
    pooled=True,
)
SETTINGS = (
    Setting("learning_rate", (0.25, 0.5, 1.0, 2.0), "of gradient descent", tiny=(0.5, 1.0),
            many=True, low=0),
    Setting("seeds", (0, 1), "of the sequences", (0,), kind="seeds"),
    Setting("sequences", 1024, "M, drawn once", 1024, 64, kind="int", low=1),
    *comparisons.SETTINGS,
)  # fmt: skip


def parts(settings):
    return {
        key: comparisons.job(settings, seed, learning_rate=rate, sequences=settings.sequences)
        for key, (rate, seed) in STUDY.parts(settings).items()
    }


def work(settings, job, context):
    found = job.run(context.progress, context.checkpoint)
    own, _ = train_mixed_target(replace(job.config, optimiser="flow"), context.progress)
    stepping = rms(found.full.z - own.z[: len(found.t)])
    kept = outcome(found, {"loss": found.full.loss}, stepping=stepping)
    return kept | {"details": comparisons.details(found)}


def judge(numbers):
    return [
        _power(numbers, "stepping", "descent differs from the flow of its own sequences"),
        _power(numbers, "discretisation", "reduced descent from the reduced flow"),
        Finding(
            "descent on {sequences} sequences differs from the reduced flow by {means[error]:.2e}: "
            "that ends at the error of finitely many sequences; the largest error of any "
            "coordinate is {largest_error:.3g}"
        ),
    ]


def _power(numbers, name, said):
    law = numbers["laws"][name]
    return Finding(
        said + f" by {{means[{name}]:.2e}} at learning rates {{values:g}}, as the power "
        f"{{laws[{name}][exponent]:.3f}} ± {{laws[{name}][error]:.3f}} of the rate",
        near(law["exponent"], 1.0, WITHIN, 2.0 * (law["error"] or 0.0)),
        claim="Euler's method is of first order",
        measured=Measured(law["exponent"], law["error"], n=len(numbers["values"])),
        why="steps so long are beyond the leading order",
    )


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.step",
    question="how far do finite steps take descent from the flow of the same sequences?",
    title="the mixed target in finite steps",
    caption="gradient descent of the two-layer, two-head network on {sequences} sequences (L = "
    "{L}, α* = {alpha_star:g}, w* = {w_star:g}, σ_init = {sigma_init:g}) against the flow of the "
    "same sequences and against the reduced flow, and reduced descent with the same steps against "
    "the reduced flow. Left: root mean squares over time of the distance over all coordinates, of "
    "every run; lines, power laws through those over the seeds. Middle: the distance from the "
    "reduced flow over training; right: the loss; means over the seeds.",
    conclude=partial(comparisons.conclude, STUDY),
    cost={"full": 100, "quick": 49},
)
