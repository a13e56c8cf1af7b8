"""chen.stages: subset weights, attention of the heads and a(t), and in which order they come."""

import numpy as np

from reduced_dynamics.core.crossings import first_reach
from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting, Settings
from reduced_dynamics.families.chen.population import copier_heads, criterion, log10_p, winner
from reduced_dynamics.families.chen.recorded import points
from reduced_dynamics.families.chen.selection_figure import (
    copied,
    draw_heads,
    draw_scalar,
    draw_subsets,
)
from reduced_dynamics.families.chen.validation import plan, population
from reduced_dynamics.plotting.style import BRIGHT, finish, grid, style

SETTINGS = (
    Setting("t_end", 50_000.0, "horizon, training time", 1000.0, 12.0, low=1.0),
    Setting("kernels", 2048, "kernels that stand for the population", 512, 64, kind="int", low=1),
    Setting("sequences", 9000, "sequences of the training set", 9000, 200, kind="int", low=1),
    Setting("seed", 0, "seed of the sequences", kind="int", low=0),
)
#: How the training and the population flow are drawn.
_FINITE = {"color": BRIGHT[5], "linewidth": 1.0}
_FLOW = {"color": BRIGHT[0], "linewidth": 1.1, "linestyle": (0, (4, 1.5))}
#: What is said of the setting.
_SHOWN = ("S", "n", "H", "degree", "L", "dirichlet", "loss")


def _job(settings):
    parameters = {"kernels": settings.kernels, "sequences": settings.sequences}
    return plan(parameters, seeds=[settings.seed], t_end=settings.t_end)[0]


def parts(settings):
    return {"flow": "flow", "finite": "finite"}


def work(settings, which, context):
    job = _job(settings)
    if which == "finite":
        return job.trained(context.progress, context.checkpoint)
    return population(job, settings.t_end, progress=context.progress)


def conclude(settings, outcomes):
    job = _job(settings)
    config, labels = job.config, job.config.labels
    flow, run = outcomes["flow"], outcomes["finite"]
    heads = copier_heads(winner(run)) or [1]
    attention = np.array([copied(flow, row) for row in range(len(flow.t))])
    missing = 1.0 - np.array([attention[:, h - 1, 0] for h in heads])

    def both(of):
        return {name: of(one) for name, one in (("finite", run), ("flow", flow))}

    def logs(one):
        return log10_p(one.z[:, : len(labels)])

    def returned(one):
        """Subsets that had died, to below 10⁻⁸⁰, and are back above 10⁻¹⁰ at the end."""
        back = (logs(one).min(axis=0) < -80.0) & (logs(one)[-1] > -10.0)
        return np.array(labels)[back].tolist() or ["none"]

    numbers = {
        **settings,
        **{name: getattr(config, name) for name in _SHOWN},
        "subsets": labels,
        "winner": winner(run),
        "flow_winner": winner(flow),
        "predicted": criterion(job.parameters).winner,
        "T_selected": both(lambda one: one.events["T_selected"]),
        "log10_p_end": dict(zip(labels, logs(run)[-1], strict=True)),
        "returned": both(returned),
        "p_end": both(lambda one: float(10.0 ** logs(one)[-1].max())),
        "a_end": both(lambda one: float(one["a"][-1])),
        "loss_end": both(lambda one: float(one.loss[-1])),
        "attention_start": [float(1.0 - one[0]) for one in missing],
        "attention_end": [float(1.0 - one[-1]) for one in missing],
        "finite_attention_end": [float(copied(run, -1)[h - 1, 0]) for h in heads],
        "copier_half": [first_reach(flow.t, -one, -0.5 * one[0]) for one in missing],
        "a_half": first_reach(flow.t, flow["a"], 0.5 * flow["a"][-1]),
        "late_slope": _late_slope(flow),
    }
    return Conclusion(numbers, {}, {"flow": flow, "finite": run})


def judge(numbers):
    selected, copier = numbers["T_selected"]["flow"], numbers["copier_half"]
    reached = [selected, *copier, numbers["a_half"]]
    staged = None not in reached and selected < min(copier) and max(copier) < numbers["a_half"]
    won = numbers["winner"]
    return [
        Finding(
            "order in joint training (the flow; the theory trains one part after the other): "
            "selected at {T_selected[flow]:.2f}; the winner's heads "
            "missing half as much of their lag as at the start at {copier_half:.1f}; a at half "
            "of its end at {a_half:.1f}",
            holds(staged),
            "selector, then copier, then classifier",
        ),
        Finding(
            "the subset {winner} wins, and the information criterion predicts {predicted}; "
            "its weight passes .99 at t = {T_selected[finite]:.0f} for descent and "
            "{T_selected[flow]:.2f} for the flow, whose first stage is faster because |c| "
            "does not have to grow",
            holds(won is not None and won == numbers["predicted"]),
            "the subset with the most information wins",
        ),
        Finding(
            "the winner's heads attend to their lag with {attention_start:.3f} at the start "
            "and {attention_end:.4f} at the end of the flow, {finite_attention_end:.4f} on finite "
            "data"
        ),
        Finding(
            "subsets whose weight fell below 10^−80 and is above 10^−10 again at the end: "
            "{returned[finite]} on finite data, {returned[flow]} in the flow; the largest "
            "weight at the end is {p_end[finite]:.4f} and {p_end[flow]:.4f}"
        ),
        Finding(
            "a still grows at the end, by {late_slope:.3f} for each factor e of time in the "
            "flow (late law a ≈ ln t + const: 1); loss {loss_end[finite]:.5f}"
        ),
    ]


def _late_slope(flow) -> float:
    """da/d ln t over the last factor 3 of time."""
    late = flow.t >= flow.t_end / 3.0
    return float(np.polyfit(np.log(flow.t[late]), flow["a"][late], 1)[0])


def draw(result):
    flow, run = result.trajectories["flow"], result.trajectories["finite"]
    config = _job(Settings(result.settings)).config
    curves = ((run, _FINITE), (flow, _FLOW))
    with style():
        title = (
            f"chen: S = {config.S}, {config.n - 1} parents, H = {config.H}, L = {config.L}, "
            f"δ = {config.dirichlet:g}, loss = {config.loss}; lines: finite data, "
            "dashed: population flow, points: recorded run"
        )
        figure, axes = grid(2, 3, title, gap=0.78, between=0.85, right=0.12)
        said = {label: points(f"log10_p_{label}", run.t_end) for label in config.labels}
        draw_subsets(axes[0, 0], config.labels, curves, said)
        for ax, name, label in ((axes[0, 1], "a", "$a$"), (axes[0, 2], "loss", "training loss")):
            draw_scalar(ax, name, curves, points(name, run.t_end))
            ax.set_ylabel(label)
        for ax in axes[0]:
            ax.set_xscale("log")
            ax.set_xlim(1.0, run.t_end)
            ax.set_xlabel("training time $t$")
        chosen = run.events["T_selected"] or run.t_end
        rows = [0, int(np.abs(run.t - chosen).argmin()), len(run.t) - 1]
        for ax, row in zip(axes[1], rows, strict=True):
            draw_heads(ax, copied(run, row), f"attention at $t$ = {run.t[row]:g}")
            ax.set_xlabel("lag")
        finish(figure, axes, "")
    return figure


EXPERIMENT = Experiment.of(
    __name__,
    name="chen.stages",
    question="trained jointly, do selector, copier and classifier form one after the other?",
    title="stages of learning a Markov chain in context: selector, copier, classifier",
    claim="training goes through stages (analysed one after the other): the feed-forward selector "
    "picks the subset of heads with the most information, then the heads of the first layer each "
    "come to copy one parent, then the second layer's a grows without bound: a generalised "
    "induction head. The authors' recorded run (joint gradient descent, step 1, S = 3, two "
    "parents) selects {1,2}.",
    source="Chen et al., arXiv 2409.10559",
    caption="the copier, selector and classifier on {sequences} sequences (S = {S}, {n} − 1 "
    "parents, {H} heads, L = {L}, δ = {dirichlet:g}), full-batch descent with step 1, seed {seed} "
    "(lines); the population flow over {kernels} kernels (dashed); the authors' recorded run "
    "(points). Above: log10 of every subset's weight, a, training loss. Below: attention of every "
    "head on its lags on finite data, at three times.",
    cost={"full": 130, "quick": 12},
)
