"""wang.phases: losses and parameters of the mixed target over training, with its four phases."""

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.wang import comparisons
from reduced_dynamics.families.wang.phase_figures import trajectory_figure
from reduced_dynamics.integration.one import report_at
from reduced_dynamics.plotting.style import BRIGHT, MIXED_TARGET

EVENTS = ("T_g4", "T_plateau_in", "T_plateau_out", "T_half", "T_converged")
#: "The induction loss stays" means above this part of its start.
STAYS = 0.99
#: w_Q² − w_K² counts as conserved below this.
CONSERVED = 1e-8
LOSSES = {"loss": "black", "L_G4": BRIGHT[1], "L_IH": BRIGHT[0]}

SETTINGS = (
    *comparisons.SETTINGS,
    Setting("sequences", 4096, "M, drawn once and trained on", 512, 64, kind="int", low=1),
    Setting("learning_rate", 0.5, "of the full model; time = step × rate", low=0),
    Setting("seed", 0, "of the sequences", kind="int", low=0),
)


def parts(settings):
    """What is to be trained; impossible settings are refused here."""
    training = {name: settings[name] for name in ("sequences", "learning_rate")}
    return {"run": comparisons.job(settings, settings.seed, **training)}


def work(settings, job, context):
    found = job.run(context.progress, context.checkpoint)
    full, reduced = found.full, found.reduced
    entered = reduced.events["T_plateau_in"]
    at_plateau = None
    if entered is not None:
        at_plateau = report_at(job.system, reduced, [entered])["L_IH"][0] / reduced["L_IH"][0]
    late = report_at(job.system, reduced, [reduced.t_end])["L_G4"][0]
    return comparisons.details(found) | {
        "full": full,
        "reduced": reduced,
        "events_full": {name: found.events[name][0] for name in EVENTS},
        "lateness": {name: found.lateness(name) for name in EVENTS},
        "L_IH_part_at_plateau": at_plateau,
        "four_t_L_G4": 4.0 * reduced.t_end * late,
    }


def conclude(settings, outcomes):
    done = outcomes["run"]
    full, reduced = done.pop("full"), done.pop("reduced")
    events = {name: reduced.events[name] for name in EVENTS}
    ends = events["T_plateau_in"], events["T_plateau_out"]
    numbers = dict(settings) | done | {
        "t_end": reduced.t_end,
        "events": events,
        "L_IH_start": reduced["L_IH"][0],
        "plateau_over_before": ends[1] / ends[0] if None not in ends else None,
        "balance_drift": np.abs(reduced["w_Q"] ** 2 - reduced["w_K"] ** 2).max(),
        "final_loss": reduced.loss[-1],
    }  # fmt: skip
    return Conclusion(numbers, {}, {"reduced": reduced, "full": full})


def judge(numbers):
    happened = [numbers["events"][name] for name in EVENTS[1:]]
    ordered = None not in happened and happened == sorted(happened)
    left = numbers["L_IH_part_at_plateau"]
    stays = None if left is None else left > STAYS
    return [
        Finding(
            "four phases in this order: partial learning to t = {events[T_plateau_in]:.1f}, "
            "plateau to {events[T_plateau_out]:.1f}, emergent learning to "
            "{events[T_converged]:.1f}; the 4-gram is learned at {events[T_g4]:.1f}, half of "
            "the induction loss at {events[T_half]:.1f}",
            holds(ordered),
        ),
        Finding(
            "in the first phase the induction loss "
            + ("stays where it is: at " if stays else "does not stay where it is: it falls to ")
            + "{L_IH_part_at_plateau:.1%} of its start",
            holds(stays),
            why="h moves at w = 0; the plateau is that of the saddle; see wang.early-drop",
        ),
        Finding(
            "w_Q² − w_K² is conserved: it drifts by {balance_drift:.1e} at most",
            holds(numbers["balance_drift"] < CONSERVED),
        ),
        Finding(
            "the full network follows: T_half {events_full[T_half]:.1f} "
            "({lateness[T_half]:+.1%}), T_converged {events_full[T_converged]:.1f} "
            "({lateness[T_converged]:+.1%}); largest error of a parameter "
            "{largest_error[value]:.3f} ({largest_error[coordinate]})"
        ),
        Finding("late, L_G4 · 4t = {four_t_L_G4:.3f} at t = {t_end:.0f}, which tends to 1"),
    ]


def draw(result):
    reduced, full = result.trajectories["reduced"], result.trajectories["full"]
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


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.phases",
    question="does training on the mixed target pass the four phases of the paper?",
    title="losses and parameters of the mixed target: four phases",
    claim="training on a 4-gram and an in-context 2-gram passes four phases (Theorem 4.5): partial "
    "learning of the 4-gram, while the loss of the induction head stays where it is; a plateau; "
    "emergent learning of the induction head; convergence (Figure 2: α* = 1, w* = 0.49, "
    "σ_init = 0.01, L = 40). w_Q² − w_K² is conserved (Lemma 4.4).",
    source="Wang et al., arXiv 2410.11474, Theorem 4.5, Figure 2, Lemma 4.4",
    caption="the reduced flow of Stage II (lines; α* = {alpha_star:g}, w* = {w_star:g}, σ_init = "
    "{sigma_init:g}, L = {L}) and the two-layer, two-head network trained on {sequences} sequences "
    "with learning rate {learning_rate:g} (points). Above the losses, below the parameters, "
    "against training time. Phases end where L_IH comes within 1 % of its saddle, leaves it by "
    "1 %, and falls to 1 % of it.",
    cost={"full": 50, "quick": 10},
)
