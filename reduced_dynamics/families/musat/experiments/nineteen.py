"""musat.nineteen: the 19 coordinates while the full model trains on gaussian inputs."""

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.musat.experiments import studies
from reduced_dynamics.plotting.style import HEAD
from reduced_dynamics.plotting.trajectories import noticeable, overlay_figure

#: The subspace holds if the norm outside it is below this part of the norm inside.
CONFINED = 0.1

SETTINGS = (
    Setting("N", 4, "pairs", kind="int", low=1, high=64),
    Setting("D", 32, "width of tokens and positions", 16, 10, kind="int", low=2, high=4096),
    Setting("bank", 1024, "sampled Gram matrices that stand for the population", 256, 16,
            kind="int", low=1, high=10**6),
    Setting("batch", 512, "fresh sequences a step", 256, 32, kind="int", low=1, high=10**9),
    Setting("t_end", 160.0, "horizon, reduced training time", 100.0, 4.0, low=0.0),
    Setting("seed", 0, "of the training and of the bank", kind="int", low=0, high=2**62),
)  # fmt: skip


def parts(settings):
    return {"training": settings.seed}


def work(settings, seed, context):
    """The full model's trajectory, the reduced one, and what separates them."""
    parameters = {"inputs": "gaussian", "seed": seed}
    parameters |= {name: settings[name] for name in ("N", "D", "bank")}
    found, _, config = studies.beside_flow(settings, parameters, context)
    size, name, t = found.worst
    return {
        "full": found.full,
        "reduced": found.reduced,
        "reduced_loss_end": found.reduced_loss[-1],
        "largest": {"error": size, "coordinate": name, "t": t},
        "rms_error": float(np.sqrt(np.mean(found.error**2))),
        "learning_rate": config.learning_rate,
        "steps": config.steps,
    }


def conclude(settings, outcomes):
    found = outcomes["training"]
    full, reduced, worst = found["full"], found["reduced"], found["largest"]
    largest = float(np.abs(reduced.z).max())
    times = {
        name: {"full": full.events[f"T_{name}"], "reduced": reduced.events[f"T_{name}"]}
        for name in HEAD
    }
    reached = [name for name in HEAD if times[name]["reduced"] is not None]
    size = {name: float(np.abs(reduced[name]).max()) for name in reduced.coordinates}
    beside = max((name for name in size if name not in HEAD), key=size.get)
    ratio = full["outside_over_inside"]
    numbers = {
        **settings,
        "learning_rate": found["learning_rate"],
        "steps": found["steps"],
        "weights": 28 * settings.D**2,
        "moving": len(noticeable(full)),
        "coordinates_at_end": {
            name: {"full": float(full[name][-1]), "reduced": float(reduced[name][-1])}
            for name in reduced.coordinates
        },
        "largest_error": worst["error"],
        "worst_coordinate": worst["coordinate"],
        "relative_error": worst["error"] / largest,
        "rms_error": found["rms_error"],
        "largest_coordinate": largest,
        "outside_over_inside_end": float(ratio[-1]),
        "outside_over_inside_largest": float(ratio[len(ratio) // 10 :].max()),
        "emergence": times,
        "order": sorted(reached, key=lambda name: times[name]["reduced"]),
        "largest_other": beside,
        "largest_other_size": size[beside],
        "smallest_of_head": min(size[name] for name in HEAD),
        "loss_start": float(full.loss[0]),
        "loss_end": float(full.loss[-10:].mean()),
        "reduced_loss_end": found["reduced_loss_end"],
    }
    return Conclusion(numbers, trajectories={"full": full, "reduced": reduced})


def judge(numbers):
    confined = numbers["outside_over_inside_largest"] < CONFINED
    papers = numbers["order"] == ["gamma3", "beta2", "alpha3"]
    return [
        Finding(
            ("" if confined else "not ")
            + "confined: the norm outside over the norm inside is {outside_over_inside_end:.3f} "
            "at the end and at most {outside_over_inside_largest:.3f} after the first tenth of "
            "the run; it is not 0 because minibatches are finite",
            holds(confined),
            why="minibatches of {batch} are noise that leaves the subspace",
        ),
        Finding(
            "the reduced flow follows: largest error {largest_error:.3f} ({worst_coordinate}), "
            "{relative_error:.1%} of the largest coordinate {largest_coordinate:.2f}; root mean "
            "square {rms_error:.3f}"
        ),
        Finding(
            "{moving} of the 19 coordinates move by more than 1 % of the largest move: with "
            "gaussian inputs more of them than the head's three; the largest other one is "
            "{largest_other}, {largest_other_size:.2f}, the smallest of the three "
            "{smallest_of_head:.2f}"
        ),
        Finding(
            "½ is first reached in the order {order} (reduced flow): γ3 at "
            "{emergence[gamma3][reduced]:.1f}, β2 at {emergence[beta2][reduced]:.1f}, α3 at "
            "{emergence[alpha3][reduced]:.1f}; full model {emergence[gamma3][full]:.1f}, "
            "{emergence[beta2][full]:.1f}, {emergence[alpha3][full]:.1f}",
            holds(papers if len(numbers["order"]) == 3 else None),
            claim="the order is γ3, β2, α3 (proved for three coordinates)",
            why="the horizon ends before all three have reached ½"
            if len(numbers["order"]) < 3
            else "the 16 other coordinates move too",
        ),
        Finding(
            "loss {loss_start:.3f} → {loss_end:.3f} (last minibatches), reduced flow "
            "{reduced_loss_end:.3f}"
        ),
    ]


def draw(result):
    return overlay_figure(result.trajectories["reduced"], result.trajectories["full"])


EXPERIMENT = Experiment.of(
    __name__,
    name="musat.nineteen",
    question="does training of all weights on gaussian inputs stay in 19 dimensions?",
    title="19 coordinates while the disentangled transformer trains on gaussian inputs",
    claim="from zero initialisation and with isotropic (gaussian) inputs, training of all 28 D² "
    "weights stays in a 19-dimensional subspace, and of its coordinates α3, β2 and γ3 account for "
    "the emergence of the induction head.",
    source="Musat et al., arXiv 2511.01033, Theorem 1",
    caption="all {weights} weights (N = {N}, D = {D}) trained from zero for {steps} steps of SGD, "
    "learning rate {learning_rate:g}, batch {batch}, gaussian inputs, last item queried (points); "
    "the reduced flow of the 19 coordinates, the population being a bank of {bank} sampled Gram "
    "matrices (lines). The last panel is the norm of the weights outside the subspace over that "
    "inside.",
    cost={"full": 120, "quick": 15},
)
