"""musat-19: the 19 coordinates while the disentangled transformer trains on gaussian inputs."""

from __future__ import annotations

import numpy as np

from reduced_dynamics.experiments.caption import Finding
from reduced_dynamics.experiments.request import MUSAT, About, Drawn, Request
from reduced_dynamics.families.musat.full_model import plan
from reduced_dynamics.families.musat.system import MUSAT19
from reduced_dynamics.plotting.style import HEAD
from reduced_dynamics.plotting.trajectories import noticeable, overlay_figure

ABOUT = About(
    "the 19 coordinates while the disentangled transformer trains on gaussian inputs",
    MUSAT,
    "from zero initialisation and with isotropic (gaussian) inputs, training of all 28 D² weights "
    "stays in a 19-dimensional subspace (Theorem 1), and of its coordinates α3, β2 and γ3 account "
    "for the emergence of the induction head.",
)
#: The subspace holds if the norm outside it is below this part of the norm inside.
CONFINED = 0.1


def draw(request: Request) -> Drawn:
    N, D = 4, request.of(32, 16, 10)
    bank, batch, t_end = request.of((1024, 512, 160.0), (256, 256, 100.0), (16, 32, 4.0))
    parameters = {
        "N": N, "D": D, "inputs": "gaussian", "bank": bank, "seed": request.seed,
    }  # fmt: skip
    (job,) = plan(MUSAT19, parameters, seeds=[request.seed], t_end=t_end, batch=batch)
    full = job.train(request.training("training"))
    request.progress("integrating the reduced flow")
    found = job.compare(full)
    reduced = found.reduced
    error = np.abs(found.error)
    largest = float(np.abs(reduced.z).max())
    moved = noticeable(found.full)
    movers = sorted(HEAD, key=lambda name: -abs(reduced[name][-1]))
    reached = {
        name: {"full": found.full.events[f"T_{name}"], "reduced": reduced.events[f"T_{name}"]}
        for name in HEAD
    }
    order = sorted(
        (name for name in HEAD if reached[name]["reduced"] is not None),
        key=lambda name: reached[name]["reduced"],
    )
    ratio = found.full["outside_over_inside"]
    numbers = {
        "N": N, "D": D, "batch": batch, "bank": bank, "t_end": t_end,
        "learning_rate": job.config.learning_rate, "steps": job.config.total_steps,
        "weights": 28 * D**2,
        "moving": len(moved),
        "coordinates_at_end": {
            name: {"full": float(found.full[name][-1]), "reduced": float(reduced[name][-1])}
            for name in reduced.coordinates
        },
        "largest_error": found.worst[0],
        "worst_coordinate": found.worst[1],
        "relative_error": float(error.max() / largest),
        "rms_error": float(np.sqrt(np.mean(found.error**2))),
        "largest_coordinate": largest,
        "outside_over_inside_end": float(ratio[-1]),
        "outside_over_inside_largest": float(ratio[len(ratio) // 10 :].max()),
        "emergence": reached,
        "order": order,
        "head_by_size": movers,
        "loss_start": float(full.loss[0]),
        "loss_end": float(full.loss[-10:].mean()),
        "reduced_loss_end": float(found.reduced_loss[-1]),
    }  # fmt: skip
    others = [name for name in reduced.coordinates if name not in HEAD]
    beside = max(others, key=lambda name: np.abs(reduced[name]).max())
    numbers["largest_other"] = beside
    numbers["largest_other_size"] = float(np.abs(reduced[beside]).max())
    numbers["smallest_of_head"] = float(min(np.abs(reduced[name]).max() for name in HEAD))
    return Drawn(
        overlay_figure(reduced, found.full),
        numbers,
        "all {weights} weights (N = {N}, D = {D}) trained from zero for {steps} steps of SGD, "
        "learning rate {learning_rate:g}, batch {batch}, gaussian inputs, last item queried "
        "(points); the reduced flow of the 19 coordinates, the population being a bank of {bank} "
        "sampled Gram matrices (lines). The last panel is the norm of the weights outside the "
        "subspace over that inside.",
        [
            Finding(
                "confined: the norm outside over the norm inside is {outside_over_inside_end:.3f} "
                "at the end and at most {outside_over_inside_largest:.3f} after the first tenth "
                "of the run; it is not 0 because minibatches are finite",
                numbers["outside_over_inside_largest"] < CONFINED,
            ),
            Finding(
                "the reduced flow follows: largest error {largest_error:.3f} ({worst_coordinate}), "
                "{relative_error:.1%} of the largest coordinate {largest_coordinate:.2f}; root "
                "mean square {rms_error:.3f}"
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
                "{emergence[beta2][full]:.1f}, {emergence[alpha3][full]:.1f}; the paper's order "
                "for three coordinates is γ3, β2, α3",
                order == ["gamma3", "beta2", "alpha3"],
            ),
            Finding(
                "loss {loss_start:.3f} → {loss_end:.3f} (last minibatches), reduced flow "
                "{reduced_loss_end:.3f}"
            ),
        ],
    )
