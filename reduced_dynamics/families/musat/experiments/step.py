"""musat.step: what the finite steps of gradient descent do, beside those of finite minibatches."""

from functools import partial

from reduced_dynamics.experiments.experiment import Experiment
from reduced_dynamics.experiments.finding import Finding, holds, near
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.experiments.study import Curve, Quantity, Study
from reduced_dynamics.families.musat.experiments import studies
from reduced_dynamics.families.musat.experiments.studies import OUTSIDE, SOURCE, law

#: Euler's steps err at first order.
FIRST, WITHIN = 1.0, 0.1

STUDY = Study(
    option="learning_rate",
    axis="learning rate",
    symbol=r"\eta",
    title="musat19 against the disentangled transformer: steps",
    quantities=(
        Quantity("outside", OUTSIDE, "#D55E00", "s"),
        Quantity("error", "error against the flow", "#0072B2", "o"),
        Quantity("discretisation", "of steps alone", "#009E73", "^", pooled=True),
    ),
    curves=(Curve("distance", "distance from the flow", log=True), Curve("outside", OUTSIDE)),
)
SETTINGS = studies.settings(
    "learning_rate",
    Setting("learning_rate", (0.5, 1.0, 2.0, 4.0), "of gradient descent", (0.5, 1.0, 2.0),
            (1.0, 2.0), many=True, low=1e-6, high=1e6),
)  # fmt: skip


def judge(numbers):
    steps, means = numbers["laws"]["discretisation"], numbers["means"]
    decided = steps["error"] is not None and None not in means["discretisation"]
    return [
        Finding(
            "the error of finite steps alone, reduced descent against the flow, grows as "
            f"learning rate^({law('discretisation')}), first order",
            near(steps["exponent"], FIRST, WITHIN, 2.0 * steps["error"])
            if decided
            else holds(None),
            why=""
            if decided
            else "an exponent with its error needs three learning rates at which "
            "descent does not diverge",
        ),
        Finding(
            "the full model's error against the flow, {means[error]:.2e} at learning rates "
            f"{{values:g}}, grows as learning rate^({law('error')}); of it steps are "
            "{means[discretisation]:.2e} and sampling {means[sampling]:.2e}; at the largest rate "
            "steps are the larger part",
            holds(means["discretisation"][-1] > means["sampling"][-1] if decided else None),
        ),
        Finding(
            f"the norm outside the subspace grows as learning rate^({law('outside')}): longer "
            "steps are fewer, and average less noise"
        ),
    ]


EXPERIMENT = Experiment.of(
    __name__,
    name="musat.step",
    question="how far do finite steps take the full model from the gradient flow?",
    title="learning rate and the flow",
    claim="gradient descent follows the gradient flow of the subspace as steps become small.",
    source=SOURCE,
    caption="all weights of the disentangled transformer (N = {parameters[N]}, batch "
    "{parameters[batch]}, up to t = {parameters[t_end]:g}) trained at learning rates {values:g}, "
    "{seeds} seeds each, the reduced equations descended with the same steps, and the reduced "
    "flow. Root mean squares over time, of a distance over all 19 coordinates. Left: every run and "
    "power laws; middle, right: over training, means over the seeds.",
    work=partial(studies.compared, "learning_rate"),
    cost={"full": 120, "quick": 10},
)
