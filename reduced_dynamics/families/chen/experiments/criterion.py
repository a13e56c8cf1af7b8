"""chen.criterion: does the information criterion, known before training, predict the winner?"""

import itertools
from dataclasses import replace

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, Measured, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.chen import population
from reduced_dynamics.families.chen.selection_figure import subset_text
from reduced_dynamics.families.chen.system import CHEN
from reduced_dynamics.integration.one import integrate
from reduced_dynamics.plotting.style import BRIGHT, INK, finish, style

SETTINGS = (
    Setting("kernels", 1024, "kernels that stand for the population", 256, 64, kind="int",
            low=1, high=10**6),
    Setting("priors", (0.03, 0.1, 0.3, 1.0, 3.0), "Dirichlet parameters δ", (0.1, 0.3, 1.0),
            (0.1,), many=True, low=1e-3, high=1e3),
    Setting("starts", (3.0, 1.0), "starts of every head's first lag, w_plus", (3.0, 1.0), (3.0,),
            many=True),
    Setting("losses", ("ce", "log"), "losses", ("ce", "log"), ("log",), kind="choice", many=True,
            choices=("ce", "log")),
    Setting("t_end", 1e5, "training time at which a flow that selects nothing is given up",
            low=1.0),
    Setting("seed", 0, "seed of the kernels", kind="int", low=0),
)  # fmt: skip
_RTOL = 1e-4
#: Marks of the subset that is predicted and of the one that won.
_DOT = {"linestyle": "none", "marker": "o", "color": BRIGHT[1], "markersize": 3.2}
_RING = {"linestyle": "none", "marker": "o", "markerfacecolor": "none",
         "markeredgecolor": BRIGHT[0], "markersize": 7.5, "markeredgewidth": 1.3}  # fmt: skip


def parts(settings):
    chosen = itertools.product(settings.priors, settings.starts, settings.losses)
    return {
        f"delta{delta:g}-w{w:g}-{loss}": {"dirichlet": delta, "w_plus": w, "loss": loss}
        for delta, w, loss in chosen
    }


def work(settings, setting, context):
    """The criterion's argmax against the winner of the joint flow, at one setting.

    `gap` is the first subset's lead over the second, as a part of the first; `saturated` is by the
    modified χ² information, the rest by J with the copier's actual weights.
    """
    values = {"kernels": settings.kernels, "seed": settings.seed, **setting}
    found = population.criterion(values)
    flow = _until_selected(values, settings.t_end, context.progress)
    won = population.winner(flow)
    saturated = replace(found, growth=found.saturated)
    return setting | {
        "winner": won,
        "T_selected": flow.events["T_selected"],
        "predicted": found.winner,
        "gap": found.gap,
        "saturated": saturated.winner,
        "saturated_gap": saturated.gap,
        "subsets": list(found.subsets),
        "scores": np.asarray(found.actual),
        "saturated_scores": np.asarray(found.saturated),
    }


def _until_selected(values, t_end: float, progress):
    """A flow long enough for a subset to win: horizons ten times as long until one does."""
    horizon = min(30.0, t_end)
    while True:
        flow = integrate(CHEN, values, t_end=horizon, rtol=_RTOL, progress=progress)
        if flow.events["T_selected"] is not None or horizon >= t_end:
            return flow
        horizon = min(10.0 * horizon, t_end)


def conclude(settings, outcomes):
    rows = [
        {k: v for k, v in one.items() if "scores" not in k and k != "subsets"}
        for one in outcomes.values()
    ]
    subsets = next(iter(outcomes.values()))["subsets"]
    numbers = {**settings, "subsets": subsets, "rows": rows}
    data = {"subset": (("subset",), subsets, "heads of a subset")}
    for name, meaning in (
        ("scores", "criterion J with the copier's actual weights, run's own loss"),
        ("saturated_scores", "modified χ² information of heads that copy one lag, nats"),
    ):
        values = np.array([one[name] for one in outcomes.values()])
        data[name] = (("setting", "subset"), values, meaning)
    return Conclusion(numbers, data)


def judge(numbers):
    rows = numbers["rows"]
    count = len(rows)

    def missed(predicted, gap):
        return [
            f"δ = {row['dirichlet']:g}, W = {row['w_plus']:g}, {row['loss']}: "
            f"{row['winner'] or 'none'} won, not {row[predicted]}, which led by {row[gap]:.2%}"
            for row in rows
            if row["winner"] != row[predicted]
        ]

    actual, saturated = missed("predicted", "gap"), missed("saturated", "saturated_gap")
    gaps = [row["gap"] for row in rows]
    winners = ", ".join(dict.fromkeys(row["winner"] or "none" for row in rows))
    right = count - len(actual)
    return [
        Finding(
            f"with the copier's actual weights the criterion predicts {right} of {count} winners; "
            f"its first leads its second by {min(gaps):.1%} to {max(gaps):.1%}",
            holds(not actual),
            "the selector converges to the subset with the most information",
            Measured(right / count, n=count),
            "; ".join(actual),
        ),
        Finding(
            f"with saturated heads, the paper's form, it predicts {count - len(saturated)} of "
            f"{count}",
            holds(not saturated),
            "the subset that maximises the modified χ² mutual information wins",
            Measured((count - len(saturated)) / count, n=count),
            "; ".join(saturated),
        ),
        Finding(f"subsets that win somewhere: {winners}"),
    ]


def draw(result):
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows, subsets = result.numbers["rows"], result.numbers["subsets"]
    total = max(1.5, 0.19 * len(rows)) + 1.1
    with style():
        figure = Figure(figsize=(7.0, total))
        axes = figure.subplots(
            1, 2, squeeze=False,
            gridspec_kw={"left": 0.21, "right": 0.9, "bottom": 0.45 / total,
                         "top": 1.0 - 0.5 / total, "wspace": 0.08},
        )  # fmt: skip
        left, right = axes[0]
        said = "information criterion of every subset / the row's largest"
        figure.text(0.01, 1.0 - 0.05 / total, said, va="top", color=INK)
        for ax, scores, title in (
            (left, "scores", "with the actual weights"),
            (right, "saturated_scores", "heads that copy one lag"),
        ):
            image = _panel(ax, result.data[scores].values, [row["winner"] for row in rows], subsets)
            ax.set_title(title, fontsize=9.0)
            ax.set_xlabel("subset of heads")
        names = [f"δ = {r['dirichlet']:g}, W = {r['w_plus']:g}, {r['loss']}" for r in rows]
        left.set_yticks(range(len(rows)), names)
        right.set_yticks(range(len(rows)), [""] * len(rows))
        box = right.get_position()
        figure.colorbar(image, cax=figure.add_axes((0.92, box.y0, 0.014, box.height)))
        figure.legend(
            [Line2D([], [], **_RING), Line2D([], [], **_DOT)], ["won in the flow", "predicted"],
            loc="upper right", bbox_to_anchor=(0.91, 1.0), ncols=2, handletextpad=0.1,
        )  # fmt: skip
        finish(figure, axes, "")
    return figure


def _panel(ax, scores, winners, subsets):
    from matplotlib.colors import LinearSegmentedColormap

    shares = scores / scores.max(axis=1, keepdims=True)
    # No darker than this: the marks on the largest must stand out.
    greys = LinearSegmentedColormap.from_list("greys", ("#FFFFFF", "#808080"))
    image = ax.imshow(shares, cmap=greys, vmin=0.0, vmax=1.0, aspect="auto")
    for r, row in enumerate(shares):
        ax.plot(int(np.argmax(row)), r, **_DOT)
        if winners[r] in subsets:
            ax.plot(subsets.index(winners[r]), r, **_RING)
    ax.set_xticks(range(len(subsets)), map(subset_text, subsets))
    ax.tick_params(length=0.0)
    return image


EXPERIMENT = Experiment.of(
    __name__,
    name="chen.criterion",
    question="does the information criterion, known before training, predict the subset that wins?",
    title="the information criterion against the subset that wins",
    claim="the selector converges to the subset of heads that maximises the modified χ² mutual "
    "information between its states and the next one, which trades information against the size "
    "of the subset.",
    source="Chen et al., arXiv 2409.10559",
    caption="the joint population flow ({kernels} kernels, three heads, subsets of at most two) "
    "for Dirichlet parameters δ = {priors:g}, starts W = {starts:g} of every head's first lag, "
    "loss {losses}. A row is a setting; shades are the criterion of a subset over the row's "
    "largest, left with the copier's actual weights and the run's own loss, right for heads that "
    "copy one lag each (modified χ² information). A ring is the subset that won in the flow, a dot "
    "the one that is predicted.",
    cost={"full": 60, "quick": 15},
)
