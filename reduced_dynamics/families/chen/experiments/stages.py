"""chen-stages: subset weights, attention of the heads and a(t), beside the recorded run."""

from __future__ import annotations

import numpy as np

from reduced_dynamics.core.crossings import first_reach
from reduced_dynamics.experiments.caption import Finding
from reduced_dynamics.experiments.request import CHEN, About, Drawn, Request
from reduced_dynamics.families.chen import population as markov
from reduced_dynamics.families.chen.recorded import TIMES, recorded
from reduced_dynamics.families.chen.selection_figure import copied, draw_heads
from reduced_dynamics.families.chen.validation import log10_p, plan, population
from reduced_dynamics.plotting.style import (
    BRIGHT,
    finish,
    grid,
    label_ends,
    style,
    subset_colours,
)

ABOUT = About(
    "stages of learning a Markov chain in context: selector, copier, classifier",
    CHEN,
    "training goes through stages (analysed one after the other): the feed-forward selector picks "
    "the subset of heads with the most information, then the heads of the first layer each come "
    "to copy one parent, then the second layer's a grows without bound: a generalised induction "
    "head. The authors' recorded run "
    "(joint gradient descent, step 1, S = 3, two parents) selects {1,2}; its numbers are the "
    "points.",
)
#: The recorded run lies near ours if a is within this of it, at every recorded time after t = 0.
NEAR = 0.05
#: The lowest log10 p that is drawn; below 10^-88 the reduced flow freezes p.
_LOWEST = -95.0
_FULL, _FLOW = BRIGHT[5], BRIGHT[0]
_DASH = (0, (4, 1.5))


def draw(request: Request) -> Drawn:
    t_end, kernels = request.of((50_000.0, 2048), (1000.0, 512), (12.0, 64))
    count = request.of(3, 2, 1)
    parameters = {"kernels": kernels}
    if request.size == "tiny":
        parameters |= {"sequences": 200, "validation": 50}
    seeds = list(range(request.seed, request.seed + count))
    # The first seed goes all the way; the others show the scatter as far as that takes seconds.
    first = plan(parameters, seeds=seeds[:1], t_end=t_end)
    jobs = list(first.jobs)
    if count > 1:
        jobs += plan(parameters, seeds=seeds[1:], t_end=min(t_end, 10_000.0)).jobs
    runs = [job.run(request.training(f"finite data, {job.label}")) for job in jobs]
    flow = population(first, t_end, progress=request.integrating("population"))
    if flow is None:
        from reduced_dynamics.core.errors import IntegrationError

        raise IntegrationError("the population flow of chen diverged; take more kernels")
    run = runs[0].full
    labels = first.config.labels
    won = _winner(run, labels)
    table = _beside(runs, flow)
    heads = [int(h) for h in won] if won and won != "empty" else []
    attention = np.array([copied(flow, row) for row in range(len(flow.t))])
    missing = 1.0 - np.array([attention[:, h - 1, 0] for h in heads or [1]])
    copier = [first_reach(flow.t, -one, -0.5 * one[0]) for one in missing]
    a_half = first_reach(flow.t, flow["a"], 0.5 * flow["a"][-1])
    numbers = {
        **{name: getattr(first.config, name) for name in ("S", "n", "H", "degree", "L",
                                                          "dirichlet", "loss", "sequences")},
        "kernels": kernels, "t_end": t_end, "seeds": seeds, "subsets": list(labels),
        "winner": won, "flow_winner": _winner(flow, labels),
        "predicted": markov.criterion(first.values).winner,
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
        "copier_half": copier, "a_half": a_half,
        "late_slope": _late_slope(flow),
        "table": table, "compared": [row["t"] for row in table],
        "a_here": [row["a"] for row in table],
        "a_recorded": [row["recorded"] for row in table],
        "a_flow": [row["flow"] for row in table],
        "largest_off": max((abs(row["off"]) for row in table), default=None),
        "largest_off_flow": max((abs(row["flow_off"]) for row in table if row["t"] >= 100),
                                default=None),
    }  # fmt: skip
    selected = numbers["T_selected"]["flow"]
    reached = [selected, *copier, a_half]
    staged = None not in reached and selected < min(copier) and max(copier) < a_half
    return Drawn(
        _figure(runs, flow, labels, first),
        numbers,
        "the copier, selector and classifier on {sequences} sequences (S = {S}, {n} − 1 parents, "
        "{H} heads, L = {L}, δ = {dirichlet:g}), full-batch descent with step 1, data seeds "
        "{seeds} (thin lines); the population flow over {kernels} kernels (dashed); the authors' "
        "recorded run (points). Above: log10 of every subset's weight, a, training loss. Below: "
        "attention of every head on its lags in the first run, at three times.",
        [
            Finding(
                "the subset {winner} wins, as the information criterion predicts ({predicted}); "
                "its weight passes .99 at t = {T_selected[finite]:.0f} for descent and "
                "{T_selected[flow]:.2f} for the flow, whose first stage is faster because |c| "
                "does not have to grow",
                won is not None and won == numbers["predicted"],
            ),
            Finding(
                "beside the recorded run: a at t = {compared:g} is {a_here:.3f}, recorded "
                "{a_recorded:.3f}: within {largest_off:.1%}",
                None if not table else numbers["largest_off"] < NEAR,
            ),
            Finding(
                "order in joint training (the flow; the theory trains one part after the other): "
                "selected at {T_selected[flow]:.2f}; the winner's heads "
                "missing half as much of their lag as at the start at {copier_half:.1f}; a at half "
                "of its end at {a_half:.1f}",
                staged,
            ),
            Finding(
                "the winner's heads attend to their lag with {attention_start:.3f} at the start "
                "and {attention_end:.4f} at the end of the flow, {finite_attention_end:.4f} in the "
                "first run"
            ),
            Finding(
                "subsets whose weight fell below 10^−80 and is above 10^−10 again at the end: "
                "{returned[finite]} in the first run, {returned[flow]} in the flow; the largest "
                "weight at the end is {p_end[finite]:.4f} and {p_end[flow]:.4f}"
            ),
            Finding(
                "a still grows at the end, by {late_slope:.3f} for each factor e of time in the "
                "flow (late law a ≈ ln t + const: 1); loss {loss_end[finite]:.5f}"
            ),
        ],
    )


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


def _beside(runs, flow) -> list[dict]:
    """a at the recorded times that were reached: mean over the runs, recorded, flow."""
    found = []
    for t in TIMES[1:]:
        said = recorded("a", t)
        values = [run.at([t])["a"] for run in runs]
        values = [one[0] for one in values if len(one)]
        if said is None or not values:
            continue
        mean, of_flow = float(np.mean(values)), float(np.interp(t, flow.t, flow["a"]))
        found.append(
            {
                "t": t, "a": mean, "count": len(values), "recorded": said[0], "flow": of_flow,
                "off": mean / said[0] - 1.0, "flow_off": of_flow / said[0] - 1.0,
            }
        )  # fmt: skip
    return found


def _figure(runs, flow, labels, first):
    run = runs[0].full
    with style():
        config = first.config
        title = (
            f"chen: S = {config.S}, {config.n - 1} parents, H = {config.H}, L = {config.L}, "
            f"δ = {config.dirichlet:g}, loss = {config.loss}; lines: finite data, "
            "dashed: population flow, points: recorded run"
        )
        figure, axes = grid(2, 3, title, gap=0.78, between=0.85, right=0.12)
        _selector(axes[0, 0], runs, flow, labels)
        for ax, name, label in ((axes[0, 1], "a", "$a$"), (axes[0, 2], "loss", "training loss")):
            for one in runs:
                ax.plot(one.full.t[1:], one.full[name][1:], color=_FULL, linewidth=1.0)
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


def _selector(ax, runs, flow, labels):
    colours, ends = subset_colours(labels), []
    for k, label in enumerate(labels):
        for one in runs:
            values = log10_p(one.full.z[:, : len(labels)])[1:, k]
            ax.plot(one.full.t[1:], values, color=colours[label], linewidth=0.9)
            if one is runs[0]:
                ends.append((np.maximum(values, _LOWEST), _name(label), colours[label]))
        values = log10_p(flow.z[:, : len(labels)])[1:, k]
        ax.plot(flow.t[1:], values, color=colours[label], linewidth=0.9, linestyle=_DASH)
        _points(ax, f"log10_p_{label}", colours[label], runs[0].full.t_end)
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
