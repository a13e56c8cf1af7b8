"""wang.sequences: how far the flow of finitely many sequences is from the reduced flow."""

import math
from functools import partial

from reduced_dynamics.experiments.experiment import Experiment
from reduced_dynamics.experiments.finding import Finding, Measured, near
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.experiments.study import Curve, Quantity, Study, outcome
from reduced_dynamics.families.wang import comparisons

#: An exponent agrees if it is so near the one that is expected.
WITHIN = 0.15
STUDY = Study(
    "sequences",
    "number of sequences",
    "M",
    (
        Quantity("error", "error against the flow", "#0072B2", "o"),
        Quantity("half", r"shift of $T_{\mathrm{half}}$, relative", "#D55E00", "s"),
    ),
    (Curve("distance", "distance from the flow", log=True), Curve("loss", "loss", log=True)),
    "wang against the gradient flow of M sequences",
    pooled=True,
)
SETTINGS = (
    Setting("sequences", (1024, 2048, 4096, 8192, 16384), "M, drawn once",
            (256, 512, 1024, 2048), (64, 128), kind="int", many=True, low=1),
    Setting("seeds", (0, 1, 2, 3, 4), "of the sequences", (0, 1, 2), (0,), kind="seeds"),
    *comparisons.SETTINGS,
)  # fmt: skip


def parts(settings):
    return {
        key: comparisons.job(settings, seed, sequences=int(M), optimiser="flow")
        for key, (M, seed) in STUDY.parts(settings).items()
    }


def work(settings, job, context):
    found = job.run(context.progress)
    numbers = {"half": abs(found.lateness("T_half"))}
    kept = outcome(found, {"loss": found.full.loss}, **numbers)
    return kept | {"details": comparisons.details(found)}


def judge(numbers):
    return [
        _power(numbers, "error", "the error (root mean square over time of the distance)"),
        _power(numbers, "half", "the relative shift of T_half"),
        Finding("the largest error of any coordinate of any run is {largest_error:.3g}"),
    ]


def _power(numbers, name, said):
    law = numbers["laws"][name]
    verdict = near(
        law["exponent"], -0.5, WITHIN, math.inf if law["error"] is None else 2.0 * law["error"]
    )
    return Finding(
        said + f" goes as M^({{laws[{name}][exponent]:.2f}} ± {{laws[{name}][error]:.2f}}): means "
        f"{{means[{name}]:.2e}} at M = {{values:g}}",
        verdict,
        claim="independent sequences: M^−½",
        measured=Measured(law["exponent"], law["error"], n=len(numbers["values"])),
        why="{seeds} draws at each M do not tell the power better"
        if verdict == "not decided"
        else "errors of few draws scatter; more seeds tell",
    )


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.sequences",
    question="how far is training on finitely many sequences from the reduced flow?",
    title="the mixed target on finitely many sequences",
    caption="the gradient flow of M sequences by the two-layer, two-head network against the "
    "reduced flow (L = {L}, α* = {alpha_star:g}, w* = {w_star:g}, σ_init = {sigma_init:g}). Left: "
    "root mean square over time of the distance over all coordinates, and by which part T_half is "
    "early or late, of every run; lines, power laws through the root mean squares over the seeds. "
    "Middle: the distance over training; right: the loss; means over the seeds.",
    conclude=partial(comparisons.conclude, STUDY),
    cost={"full": 230, "quick": 46},
)
