"""wang-2: losses and parameters of the mixed target over training, with its four phases."""

from __future__ import annotations

import numpy as np

from reduced_dynamics.experiments.caption import Finding
from reduced_dynamics.experiments.request import WANG, About, Drawn, Request
from reduced_dynamics.families.wang.full_model import plan
from reduced_dynamics.families.wang.phase_figures import trajectory_figure
from reduced_dynamics.families.wang.system import WANG as SYSTEM
from reduced_dynamics.integration.one import report_at
from reduced_dynamics.plotting.style import BRIGHT, MIXED_TARGET

ABOUT = About(
    "losses and parameters of the mixed target: four phases",
    WANG,
    "training on a 4-gram and an in-context 2-gram passes four phases (Theorem 4.5): partial "
    "learning of the 4-gram, while the loss of the induction head stays where it is; a plateau; "
    "emergent learning of the induction head; convergence (Figure 2: α* = 1, w* = 0.49, "
    "σ_init = 0.01, L = 40). w_Q² − w_K² is conserved (Lemma 4.4).",
)
EVENTS = ("T_g4", "T_plateau_in", "T_plateau_out", "T_half", "T_converged")
#: "The induction loss stays" means above this part of its start.
STAYS = 0.99
LOSSES = {"loss": "black", "L_G4": BRIGHT[1], "L_IH": BRIGHT[0]}


def draw(request: Request) -> Drawn:
    sequences = request.of(4096, 512, 64)
    L = request.of(40, 40, 10)
    system = SYSTEM
    (job,) = plan(system, {"L": L}, sequences=sequences, learning_rate=0.5, seeds=[request.seed])
    full = job.train(request.training("training"))
    request.progress("integrating the reduced flow")
    found = job.compare(full)
    reduced = found.reduced
    events = {name: reduced.events[name] for name in EVENTS}
    start, at_plateau = reduced["L_IH"][0], None
    if events["T_plateau_in"] is not None:
        table = report_at(job.system, reduced, [events["T_plateau_in"]])
        at_plateau = table["L_IH"][0] / start
    late = report_at(job.system, reduced, [reduced.t_end])
    happened = [events[name] for name in ("T_plateau_in", "T_plateau_out", "T_half", "T_converged")]
    ordered = None not in happened and happened == sorted(happened)
    numbers = {
        "L": L,
        "alpha_star": job.parameters["alpha_star"],
        "w_star": job.parameters["w_star"],
        "sigma_init": job.parameters["sigma_init"],
        "sequences": sequences,
        "learning_rate": job.config.learning_rate,
        "t_end": reduced.t_end,
        "events": events,
        "events_full": {name: found.events[name][0] for name in EVENTS},
        "lateness": {name: found.lateness(name) for name in EVENTS},
        "L_IH_start": float(start),
        "L_IH_part_at_plateau": at_plateau,
        "plateau_over_before": (
            events["T_plateau_out"] / events["T_plateau_in"]
            if None not in (events["T_plateau_in"], events["T_plateau_out"])
            else None
        ),
        "balance_drift": float(np.abs(reduced["w_Q"] ** 2 - reduced["w_K"] ** 2).max()),
        "four_t_L_G4": 4.0 * reduced.t_end * late["L_G4"][0],
        "largest_error": found.worst[0],
        "worst_coordinate": found.worst[1],
        "final": reduced.final,
        "final_loss": float(reduced.loss[-1]),
    }
    return Drawn(
        _figure(found),
        numbers,
        "the reduced flow of Stage II (lines; α* = {alpha_star:g}, w* = {w_star:g}, σ_init = "
        "{sigma_init:g}, L = {L}, exact overlaps) and the two-layer, two-head network trained on "
        "{sequences} sequences with learning rate {learning_rate:g} (points). Above the losses, "
        "below the parameters, against training time. Phases end where L_IH comes within 1 % of "
        "its saddle, leaves it by 1 %, and falls to 1 % of it.",
        [
            Finding(
                "four phases in this order: partial learning to t = {events[T_plateau_in]:.1f}, "
                "plateau to {events[T_plateau_out]:.1f}, emergent learning to "
                "{events[T_converged]:.1f}; the 4-gram is learned at {events[T_g4]:.1f}, half of "
                "the induction loss at {events[T_half]:.1f}",
                ordered,
            ),
            Finding(
                "in the first phase the induction loss does not stay where it is: it falls to "
                "{L_IH_part_at_plateau:.1%} of its start, since h moves at w = 0; the plateau is "
                "that of the saddle",
                at_plateau is not None and at_plateau > STAYS,
            ),
            Finding(
                "w_Q² − w_K² is conserved: it drifts by {balance_drift:.1e} at most",
                numbers["balance_drift"] < 1e-8,
            ),
            Finding(
                "the full network follows: T_half {events_full[T_half]:.1f} "
                "({lateness[T_half]:+.1%}), T_converged {events_full[T_converged]:.1f} "
                "({lateness[T_converged]:+.1%}); largest error of a parameter "
                "{largest_error:.3f} ({worst_coordinate})"
            ),
            Finding("late, L_G4 · 4t = {four_t_L_G4:.3f} at t = {t_end:.0f}, which tends to 1"),
        ],
    )


def _figure(found):
    reduced, full = found.reduced, found.full
    figure = trajectory_figure(reduced)
    top, bottom = figure.axes[:2]
    low, high = top.get_xlim()
    wanted = np.geomspace(max(low, full.t[1]), min(high, full.t_end), 28)
    rows = np.unique(np.searchsorted(full.t, wanted).clip(0, len(full.t) - 1))
    look = {"linestyle": "none", "marker": "o", "markersize": 2.6, "markeredgewidth": 0}
    for ax, colours in (
        (top, LOSSES),
        (bottom, {name: colour for name, (colour, _) in MIXED_TARGET.items()}),
    ):
        for name, colour in colours.items():
            if name in ("loss", *full.observables, *full.coordinates):
                ax.plot(full.t[rows], full[name][rows], color=colour, **look)
    return figure
