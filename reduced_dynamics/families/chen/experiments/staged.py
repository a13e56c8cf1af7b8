"""chen.staged: trained in every order of its parts and jointly, what becomes of the order?"""

import itertools

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.chen import population
from reduced_dynamics.families.chen.selection_figure import copied, subset_text
from reduced_dynamics.families.chen.system import CHEN, PARTS
from reduced_dynamics.integration.one import integrate
from reduced_dynamics.plotting.style import BRIGHT, finish, grid, style

SETTINGS = (
    Setting("kernels", 2000, "kernels that stand for the population", 512, 64, kind="int", low=1),
    Setting("t_end", 3e4, "training time, a third of it for each stage", 3e4, 60.0, low=1.0),
    Setting("seed", 0, "seed of the kernels", kind="int", low=0),
)
_RTOL = 1e-4


def parts(settings):
    return {name: name for name in ("joint", *map("-".join, itertools.permutations(PARTS)))}


def work(settings, training, context):
    values = {"kernels": settings.kernels, "seed": settings.seed, "training": training}
    flow = integrate(CHEN, values, t_end=settings.t_end, rtol=_RTOL, progress=context.progress)
    won = population.winner(flow)
    heads, attention = population.copier_heads(won), copied(flow, -1)
    return {
        "training": training,
        "winner": won,
        "predicted": population.criterion(values).winner,
        "T_selected": flow.events["T_selected"],
        "a": float(flow["a"][-1]),
        "loss": float(flow.loss[-1]),
        # the least attention of the winner's heads on their first lags
        "copier": min((float(attention[h - 1, 0]) for h in heads), default=None),
        "p": float(flow["p_top"][-1]),
    }


def conclude(settings, outcomes):
    rows = list(outcomes.values())
    data = {"training": (("training",), [row["training"] for row in rows], "order of the stages")}
    for name, meaning in (
        ("T_selected", "training time at which a subset's weight passes .99"),
        ("a", "a at the end"),
        ("copier", "least attention of the winner's heads on their first lags at the end"),
        ("loss", "loss at the end"),
        ("p", "weight of the winner at the end"),
    ):
        column = np.array([row[name] for row in rows], dtype=float)
        data[name] = (("training",), column, meaning)
    return Conclusion({**settings, "rows": rows}, data)


def judge(numbers):
    rows = numbers["rows"]
    same = all(row["winner"] == row["predicted"] for row in rows)
    winners = ", ".join(f"{row['training']} {row['winner'] or 'none'}" for row in rows)
    late = [row["a"] for row in rows if row["training"].find("a") < row["training"].find("C")]
    early = [row["a"] for row in rows if 0 <= row["training"].find("C") < row["training"].find("a")]
    joint = next(row for row in rows if row["training"] == "joint")
    return [
        Finding(
            f"the subset that wins does not depend on the order: {winners}"
            if len({row["winner"] for row in rows}) == 1
            else f"the subset that wins depends on the order: {winners}",
            holds(same),
            "each stage has the same target whatever is trained before; the selected subset is the "
            "one with the most information",
        ),
        Finding(
            "a ends at "
            f"{min(early):.2f} … {max(early):.2f} where the selector C is trained before a, at "
            f"{min(late):.2f} … {max(late):.2f} where a comes first, jointly at {joint['a']:.2f}"
        ),
        Finding(
            "the winner's heads attend to their lags with "
            + ", ".join(
                f"{'–' if row['copier'] is None else format(row['copier'], '.4f')} "
                f"({row['training']})"
                for row in rows
            )
            + " at least"
        ),
    ]


def draw(result):
    """Every order's T_selected, a, attention on the first lag and loss at the end, line by line."""
    rows = result.numbers["rows"]
    shown = (
        ("T_selected", r"$T_\mathrm{selected}$"),
        ("a", "$a$ at the end"),
        ("copier", "least attention on first lags"),
        ("loss", "loss at the end"),
    )
    with style():
        title = "chen: joint training and every order of stages"
        figure, axes = grid(1, len(shown), title, gap=0.35, right=0.15)
        places = np.arange(len(rows))[::-1]
        for ax, (key, _) in zip(axes[0], shown, strict=True):
            values = np.array([row[key] for row in rows], dtype=float)
            ax.plot(values, places, marker="o", color=BRIGHT[0], markersize=4.5, linestyle="none")
            ax.set_ylim(-0.6, len(rows) - 0.4)
            ax.set_yticks(places, [])
            ax.grid(axis="y", linewidth=0.4)
            if key == "T_selected":
                ax.set_xscale("log")
        axes[0, 0].set_yticks(places, [_named(row) for row in rows])
        finish(figure, axes, "")
        for ax, (_, name) in zip(axes[0], shown, strict=True):
            ax.set_xlabel(name)
    return figure


def _named(row) -> str:
    return f"{row['training']}: {subset_text(row['winner']) if row['winner'] else 'none'}"


EXPERIMENT = Experiment.of(
    __name__,
    name="chen.staged",
    question="trained in every order of its parts and jointly, which order of learning survives?",
    title="joint training and every order of stages",
    claim="training in the stages C (selector), W (copier), a (classifier) ends in a generalised "
    "induction head with the subset of the most information.",
    source="Chen et al., arXiv 2409.10559, the theorem on staged training",
    caption="the population flow ({kernels} kernels) to t = {t_end:g}, each stage a third of it, "
    "in every order of C, W and a, and jointly. A row is an order with the subset that won; "
    "panels: when it was selected, a at the end, the least attention of the winner's heads on "
    "their first lags, the loss at the end.",
    cost={"full": 40, "quick": 15},
)
