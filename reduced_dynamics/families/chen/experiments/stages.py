"""chen.stages: subset weights, attention of the heads and a(t), and in which order they come."""

import numpy as np

from reduced_dynamics.core.crossings import first_reach
from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting, Settings
from reduced_dynamics.families.chen import population
from reduced_dynamics.families.chen.recorded import TIMES, recorded
from reduced_dynamics.families.chen.selection_figure import copied, draw_heads
from reduced_dynamics.families.chen.validation import log10_p, plan
from reduced_dynamics.families.chen.validation import population as population_flow
from reduced_dynamics.plotting.style import (
    BRIGHT,
    finish,
    grid,
    label_ends,
    style,
    subset_colours,
)

SETTINGS = (
    Setting("t_end", 50_000.0, "horizon, training time", 1000.0, 12.0, low=1.0),
    Setting("kernels", 2048, "kernels that stand for the population", 512, 64, kind="int", low=1),
    Setting("sequences", 9000, "sequences of the training set", 9000, 200, kind="int", low=1),
    Setting("seed", 0, "seed of the sequences", kind="int", low=0),
)
#: The lowest log10 p that is drawn.
_LOWEST = -95.0
_FULL, _FLOW = BRIGHT[5], BRIGHT[0]
_DASH = (0, (4, 1.5))


def _plan(settings):
    parameters = {"kernels": settings.kernels, "sequences": settings.sequences}
    return plan(parameters, seeds=[settings.seed], t_end=settings.t_end)


def parts(settings):
    return {"flow": "flow", "finite": "finite"}


def work(settings, which, context):
    planned = _plan(settings)
    if which == "finite":
        return planned.jobs[0].trained(context.progress, context.checkpoint)
    return population_flow(planned, settings.t_end, progress=context.progress)


def conclude(settings, outcomes):
    planned = _plan(settings)
    flow, run = outcomes["flow"], outcomes["finite"]
    config, labels = planned.config, planned.config.labels
    won = _winner(run, labels)
    heads = [int(h) for h in won] if won and won != "empty" else []
    attention = np.array([copied(flow, row) for row in range(len(flow.t))])
    missing = 1.0 - np.array([attention[:, h - 1, 0] for h in heads or [1]])
    numbers = {
        **settings,
        **{name: getattr(config, name) for name in ("S", "n", "H", "degree", "L", "dirichlet",
                                                    "loss")},
        "subsets": labels,
        "winner": won, "flow_winner": _winner(flow, labels),
        "predicted": population.criterion(planned.values).winner,
        "T_selected": {"finite": run.events.get("T_selected") or _selected(run, labels),
                       "flow": flow.events["T_selected"]},
        "log10_p_end": dict(zip(labels, log10_p(run.z[-1:, : len(labels)])[0], strict=True)),
        "returned": {"finite": _returned(run, labels), "flow": _returned(flow, labels)},
        "p_end": {"finite": float(10.0 ** log10_p(run.z[-1, : len(labels)]).max()),
                  "flow": float(10.0 ** log10_p(flow.z[-1, : len(labels)]).max())},
        "a_end": {"finite": float(run["a"][-1]), "flow": float(flow["a"][-1])},
        "loss_end": {"finite": float(run.loss[-1]), "flow": float(flow.loss[-1])},
        "attention_start": [float(1.0 - one[0]) for one in missing],
        "attention_end": [float(1.0 - one[-1]) for one in missing],
        "finite_attention_end": [float(copied(run, -1)[h - 1, 0]) for h in heads or [1]],
        "copier_half": [first_reach(flow.t, -one, -0.5 * one[0]) for one in missing],
        "a_half": first_reach(flow.t, flow["a"], 0.5 * flow["a"][-1]),
        "late_slope": _late_slope(flow),
    }  # fmt: skip
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


def _winner(trajectory, labels) -> str | None:
    """The subset with p above .99 at the end."""
    p = 10.0 ** log10_p(trajectory.z[-1, : len(labels)])
    return labels[int(p.argmax())] if p.max() > 0.99 else None


def _selected(trajectory, labels) -> float | None:
    """When some p first passes .99."""
    largest = 10.0 ** log10_p(trajectory.z[:, : len(labels)]).max(axis=1)
    return first_reach(trajectory.t, largest, 0.99)


def _returned(trajectory, labels) -> list[str]:
    """Subsets that had died, to below 10⁻⁸⁰, and are back above 10⁻¹⁰ at the end."""
    logs = log10_p(trajectory.z[:, : len(labels)])
    back = (logs.min(axis=0) < -80.0) & (logs[-1] > -10.0)
    return [label for label, found in zip(labels, back, strict=True) if found] or ["none"]


def _late_slope(flow) -> float:
    """da/d ln t over the last factor 3 of time."""
    late = flow.t >= flow.t_end / 3.0
    return float(np.polyfit(np.log(flow.t[late]), flow["a"][late], 1)[0])


def draw(result):
    flow, run = result.trajectories["flow"], result.trajectories["finite"]
    config = _plan(Settings(result.settings)).config
    labels = config.labels
    with style():
        title = (
            f"chen: S = {config.S}, {config.n - 1} parents, H = {config.H}, L = {config.L}, "
            f"δ = {config.dirichlet:g}, loss = {config.loss}; lines: finite data, "
            "dashed: population flow, points: recorded run"
        )
        figure, axes = grid(2, 3, title, gap=0.78, between=0.85, right=0.12)
        _selector(axes[0, 0], run, flow, labels)
        for ax, name, label in ((axes[0, 1], "a", "$a$"), (axes[0, 2], "loss", "training loss")):
            ax.plot(run.t[1:], run[name][1:], color=_FULL, linewidth=1.0)
            ax.plot(flow.t[1:], flow[name][1:], color=_FLOW, linewidth=1.2, linestyle=_DASH)
            _points(ax, name, "black", run.t_end)
            ax.set_ylabel(label)
        for ax in axes[0]:
            ax.set_xscale("log")
            ax.set_xlim(1.0, run.t_end)
            ax.set_xlabel("training time $t$")
        chosen = _selected(run, labels) or run.t_end
        rows = [0, int(np.abs(run.t - chosen).argmin()), len(run.t) - 1]
        for ax, row in zip(axes[1], rows, strict=True):
            draw_heads(ax, copied(run, row), f"attention at $t$ = {run.t[row]:g}")
            ax.set_xlabel("lag")
        finish(figure, axes, "")
    return figure


def _selector(ax, run, flow, labels):
    colours, ends = subset_colours(labels), []
    for k, label in enumerate(labels):
        values = log10_p(run.z[:, : len(labels)])[1:, k]
        ax.plot(run.t[1:], values, color=colours[label], linewidth=0.9)
        ends.append((np.maximum(values, _LOWEST), _name(label), colours[label]))
        values = log10_p(flow.z[:, : len(labels)])[1:, k]
        ax.plot(flow.t[1:], values, color=colours[label], linewidth=0.9, linestyle=_DASH)
        _points(ax, f"log10_p_{label}", colours[label], run.t_end)
    ax.set_ylim(_LOWEST, 4.0)
    ax.set_ylabel(r"$\log_{10} p$ of a subset")
    label_ends(ax, ends)


def _points(ax, quantity, colour, t_end):
    found = [(t, recorded(quantity, t)) for t in TIMES if 0 < t <= t_end]
    places = [(t, said[0]) for t, said in found if said is not None]
    if places:
        look = {"marker": "o", "markersize": 3.2, "linestyle": "none", "color": colour}
        ax.plot(*zip(*places, strict=True), clip_on=False, zorder=4, **look)


def _name(label: str) -> str:
    return r"$\emptyset$" if label == "empty" else "{" + ",".join(label) + "}"


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
