"""musat.batch: what finite minibatches do to the full model, inside the subspace and outside."""

from functools import partial

from reduced_dynamics.experiments.experiment import Experiment
from reduced_dynamics.experiments.finding import Finding, holds, near
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.experiments.study import Curve, Quantity, Study
from reduced_dynamics.families.musat.experiments import studies
from reduced_dynamics.families.musat.experiments.studies import OUTSIDE, SOURCE, law

#: Exponents of the batch size: noise enters the norm outside at first order, the coordinates
#: through its square.
FIRST, SECOND = -0.5, -1.0
#: An exponent agrees within these; seeds scatter at second order by a third.
WITHIN_FIRST, WITHIN_SECOND = 0.1, 0.35

STUDY = Study(
    option="batch",
    axis="batch size",
    symbol="B",
    title="musat19 against the disentangled transformer: minibatches",
    quantities=(
        Quantity("outside", OUTSIDE, "#D55E00", "s"),
        Quantity("sampling", "error of sampling", "#0072B2", "o"),
        Quantity("scatter", "scatter of seeds", "#009E73", "^", pooled=True),
    ),
    curves=(Curve("distance", "distance from the flow", log=True), Curve("outside", OUTSIDE)),
    floor=("discretisation", "error of steps"),
)
SETTINGS = studies.settings(
    "batch",
    Setting("batch", (16, 64, 256, 1024), "fresh sequences a step", (16, 64, 256), (16, 32),
            kind="int", many=True, low=1, high=10**9),
)  # fmt: skip


def judge(numbers):
    laws = numbers["laws"]
    error = {name: 2.0 * (found["error"] or 0.0) for name, found in laws.items()}
    outside, sampling = laws["outside"]["exponent"], laws["sampling"]["exponent"]
    decided = None not in (outside, sampling, laws["outside"]["error"])
    return [
        Finding(
            f"the norm outside the subspace falls as batch^({law('outside')}), claimed −1/2: all "
            "of it is noise of minibatches",
            near(outside, FIRST, WITHIN_FIRST, error["outside"]) if decided else "not decided",
            why="" if decided else "an exponent with its error needs three values of the batch",
        ),
        Finding(
            f"the error of sampling, full model against reduced descent with the same steps, falls "
            f"as batch^({law('sampling')}): with orthonormal inputs and a fixed query every "
            "sequence has the same gradient inside the subspace, and noise enters the coordinates "
            "at second order only, through the norm outside (1/batch)",
            near(sampling, SECOND, WITHIN_SECOND, error["sampling"]) if decided else "not decided",
        ),
        Finding(
            "the error against the flow, {means[error]:.2e}, ends at that of finite steps, "
            "{means[discretisation]:.2e}, as the batch grows ({values:.0f}): at the largest batch "
            "sampling is the smaller part",
            holds(numbers["means"]["sampling"][-1] < numbers["means"]["discretisation"][-1]),
        ),
        Finding(
            f"the seeds scatter about their mean as batch^({law('scatter')}); "
            "{means[scatter]:.2e} at these batches"
        ),
    ]


EXPERIMENT = Experiment.of(
    __name__,
    name="musat.batch",
    question="how does what separates the full model from the flow fall as minibatches grow?",
    title="batch size and the subspace",
    claim="training stays in the subspace in expectation: what leaves it is the noise of "
    "minibatches.",
    source=SOURCE,
    caption="all weights of the disentangled transformer (N = {parameters[N]}, learning rate "
    "{parameters[learning_rate]:g}, up to t = {parameters[t_end]:g}) trained at batch sizes "
    "{values:.0f}, {seeds} seeds each, and the reduced flow. Errors and norms are root mean "
    "squares over time, of a distance over all 19 coordinates; scatter is that of the seeds about"
    " their mean. Left: every run and power laws; middle, right: over training, means over the "
    "seeds.",
    work=partial(studies.compared, "batch"),
    cost={"full": 160, "quick": 10},
)
