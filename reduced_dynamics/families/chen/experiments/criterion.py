"""chen-criterion: does the information criterion, known before training, predict the winner?"""

from __future__ import annotations

import numpy as np

from reduced_dynamics.experiments.caption import Finding
from reduced_dynamics.experiments.request import CHEN, About, Drawn, Request
from reduced_dynamics.families.chen import population as markov
from reduced_dynamics.families.chen.studies import PRIORS, criterion_study
from reduced_dynamics.plotting.style import BRIGHT, INK, finish, style

ABOUT = About(
    "the information criterion against the subset that wins",
    CHEN,
    "the selector converges to the subset of heads that maximises the modified χ² mutual "
    "information between its states and the next one, which trades information against the "
    "size of the subset.",
)


def draw(request: Request) -> Drawn:
    kernels = request.of(1024, 256, 64)
    priors = request.of(PRIORS, (0.1, 0.3, 1.0), (0.1,))
    starts = request.of((3.0, 1.0), (3.0, 1.0), (3.0,))
    losses = request.of(("ce", "log"), ("ce", "log"), ("log",))
    parameters = {"kernels": kernels, "seed": request.seed}
    rows, scores, saturated, subsets = [], [], [], ()
    for row in criterion_study(
        parameters, priors=priors, starts=starts, losses=losses,
        progress=request.integrating("flow"),
    ):  # fmt: skip
        values = parameters | {name: row[name] for name in ("dirichlet", "w_plus", "loss")}
        found = markov.criterion(values)
        subsets = found.subsets
        scores.append(found.actual)
        saturated.append(found.saturated)
        rows.append(row)
    missed = [
        f"δ = {row['dirichlet']:g}, W = {row['w_plus']:g}, {row['loss']}: {row['winner']} won, "
        f"not {row['saturated']}"
        for row in rows
        if not row["saturated_right"]
    ]
    numbers = {
        "kernels": kernels, "settings": len(rows), "subsets": list(subsets),
        "right": sum(bool(row["right"]) for row in rows),
        "saturated_right": sum(bool(row["saturated_right"]) for row in rows),
        "rows": rows, "scores": scores, "saturated": saturated,
        "priors": list(priors), "starts": list(starts), "losses": list(losses),
        "winners": list(dict.fromkeys(row["winner"] or "none" for row in rows)),
        "missed": missed or ["none"],
        "gap": {"least": min(row["gap"] for row in rows), "largest": max(r["gap"] for r in rows)},
        "T_selected": [row["T_selected"] for row in rows],
    }  # fmt: skip
    return Drawn(
        _figure(rows, np.array(scores), np.array(saturated), subsets),
        numbers,
        "the joint population flow ({kernels} kernels, three heads, subsets of at most two) in "
        "{settings} settings: Dirichlet parameter δ = {priors:g}, start W = {starts:g} of every "
        "head's first lag, loss {losses}. A row is a setting; shades are the criterion of a "
        "subset over the row's largest, left with the copier's actual weights and the run's own "
        "loss, right for heads that copy one lag each (modified χ² information). A ring is the "
        "subset that won in the flow, a dot the one that is predicted.",
        [
            Finding(
                "with the copier's actual weights the criterion predicts {right} of {settings} "
                "winners; its first leads its second by {gap[least]:.1%} to {gap[largest]:.1%}",
                numbers["right"] == len(rows),
            ),
            Finding(
                "with saturated heads, the paper's form, it predicts {saturated_right} of "
                "{settings}; missed: {missed}",
                not missed,
            ),
            Finding("subsets that win somewhere: {winners}"),
        ],
    )


def _figure(rows, actual, saturated, subsets):
    from matplotlib.figure import Figure

    winners = [row["winner"] for row in rows]
    height = max(1.5, 0.19 * len(rows))
    with style():
        figure = Figure(figsize=(7.0, height + 1.1))
        total = height + 1.1
        axes = figure.subplots(
            1, 2, squeeze=False,
            gridspec_kw={"left": 0.21, "right": 0.9, "bottom": 0.45 / total,
                         "top": 1.0 - 0.5 / total, "wspace": 0.08},
        )  # fmt: skip
        figure.text(
            0.01, 1.0 - 0.05 / total, "information criterion of every subset / the row's largest",
            va="top", color=INK,
        )  # fmt: skip
        image = None
        for ax, scores, title in (
            (axes[0, 0], actual, "with the actual weights"),
            (axes[0, 1], saturated, "heads that copy one lag"),
        ):
            image = _panel(ax, scores, winners, subsets)
            ax.set_title(title, fontsize=9.0)
            ax.set_xlabel("subset of heads")
        axes[0, 0].set_yticks(
            range(len(rows)),
            [f"δ = {r['dirichlet']:g}, W = {r['w_plus']:g}, {r['loss']}" for r in rows],
        )
        axes[0, 1].set_yticks(range(len(rows)), [""] * len(rows))
        box = axes[0, 1].get_position()
        bar = figure.add_axes((0.92, box.y0, 0.014, box.height))
        figure.colorbar(image, cax=bar)
        _key(figure, total)
        finish(figure, axes, "")
    return figure


def _panel(ax, scores, winners, subsets):
    from matplotlib.colors import LinearSegmentedColormap

    shares = scores / scores.max(axis=1, keepdims=True)
    # No darker than this: the marks on the largest must stand out.
    greys = LinearSegmentedColormap.from_list("greys", ("#FFFFFF", "#808080"))
    image = ax.imshow(shares, cmap=greys, vmin=0.0, vmax=1.0, aspect="auto")
    for r, row in enumerate(shares):
        ax.plot(int(np.argmax(row)), r, "o", color=BRIGHT[1], markersize=3.2)
        if winners[r] in subsets:
            k = subsets.index(winners[r])
            ax.plot(k, r, "o", markerfacecolor="none", markeredgecolor=BRIGHT[0],
                    markersize=7.5, markeredgewidth=1.3)  # fmt: skip
    names = [r"$\emptyset$" if s == "empty" else "{" + ",".join(s) + "}" for s in subsets]
    ax.set_xticks(range(len(subsets)), names)
    ax.tick_params(length=0.0)
    return image


def _key(figure, total):
    from matplotlib.lines import Line2D

    ring = Line2D([], [], linestyle="none", marker="o", markerfacecolor="none",
                  markeredgecolor=BRIGHT[0], markersize=7.5, markeredgewidth=1.3)  # fmt: skip
    dot = Line2D([], [], linestyle="none", marker="o", color=BRIGHT[1], markersize=3.2)
    figure.legend(
        [ring, dot], ["won in the flow", "predicted"], loc="upper right",
        bbox_to_anchor=(0.91, 1.0), ncols=2, handletextpad=0.1,
    )  # fmt: skip
