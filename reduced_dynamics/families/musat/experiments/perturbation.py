"""musat.perturbation: a start off the subspace, and whether training comes back to it."""

from functools import partial

from reduced_dynamics.experiments.experiment import Experiment
from reduced_dynamics.experiments.finding import Finding, holds, near
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.experiments.study import Curve, Quantity, Study
from reduced_dynamics.families.musat.experiments import studies
from reduced_dynamics.families.musat.experiments.studies import OUTSIDE, law

#: By symmetry a start off the subspace moves the coordinates at second order.
SECOND, WITHIN = 2.0, 0.6

STUDY = Study(
    option="perturbation",
    axis="perturbation",
    symbol=r"\varepsilon",
    title="musat19 against the disentangled transformer: a start off the subspace",
    quantities=(
        Quantity("outside_start", "norm outside, at the start", "#D55E00", "s"),
        # Never fitted: it ends at what minibatches alone bring about, for any perturbation.
        Quantity("outside_end", "norm outside, at the end", "#E69F00", "D", fitted=False),
        Quantity("shift", "shift of the coordinates", "#0072B2", "o"),
    ),
    curves=(
        Curve("distance", "distance from the flow", log=True),
        Curve("outside", OUTSIDE, log=True),
    ),
    height="norm, and shift (r.m.s. over time)",
)
SETTINGS = studies.settings(
    "perturbation",
    Setting("perturbation", (0.0, 0.003, 0.01, 0.03, 0.1),
            "standard deviation of the start off the subspace; 0 is what shifts are counted from",
            (0.0, 0.01, 0.03, 0.1), (0.0, 0.1), many=True, low=0.0, high=10.0),
)  # fmt: skip


def judge(numbers):
    means, shift = numbers["means"], numbers["laws"]["shift"]
    ends = dict(zip(numbers["values"], means["outside_end"], strict=True))
    noise = ends.get(0.0, 0.0)
    # Where the start lies below what minibatches bring about, nothing can come back.
    above = [
        end < start
        for start, end in zip(means["outside_start"], means["outside_end"], strict=True)
        if start > noise
    ]
    decided = shift["error"] is not None
    return [
        Finding(
            "from a start off the subspace training "
            + ("comes" if all(above) else "does not always come")
            + f" back towards it: the norm outside, {{means[outside_start]:.3f}} at the start for "
            "perturbations {values:g}, is {means[outside_end]:.3f} at the end; without one "
            f"minibatches alone make it {noise:.3f}",
            holds(all(above) if above else None),
            claim="the subspace attracts (beyond the paper, which starts on it)",
        ),
        Finding(
            "the coordinates are shifted, from the run on the same minibatches without a "
            f"perturbation, as perturbation^({law('shift')}): {{means[shift]:.2e}}; second order, "
            "as the subspace's symmetry has it",
            near(shift["exponent"], SECOND, WITHIN, 2.0 * shift["error"])
            if decided
            else holds(None),
            why="" if decided else "an exponent with its error needs three perturbations beside 0",
        ),
        Finding(
            "the largest norm outside on the way is {means[outside_largest]:.3f}; the error "
            "against the flow {means[error]:.2e}"
        ),
    ]


EXPERIMENT = Experiment.of(
    __name__,
    name="musat.perturbation",
    question="does training come back to the subspace from a start beside it?",
    title="a start off the subspace",
    caption="all weights of the disentangled transformer (N = {parameters[N]}, batch "
    "{parameters[batch]}, learning rate {parameters[learning_rate]:g}, up to t = "
    "{parameters[t_end]:g}) from random starts off the subspace of standard deviations "
    "{values:g}, {seeds} seeds each. Left: norms outside, and the shift of the coordinates from "
    "the run without a perturbation, root mean square over time; middle, right: over training, "
    "means over the seeds.",
    work=partial(studies.compared, "perturbation"),
    cost={"full": 160, "quick": 15},
)
