"""Figures of the copier–selector–classifier on finite data: overlay and transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.chen.full.training import MarkovConfig
from reduced_dynamics.families.chen.population import log10_p
from reduced_dynamics.families.chen.recorded import TIMES, recorded
from reduced_dynamics.families.chen.validation import Plan, Run
from reduced_dynamics.plotting.style import BRIGHT, INK, finish, grid, label_ends, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES = {"flow": (0, (4, 1.5)), "gd": (0, (1, 1))}
_NAMES = {"flow": "population, flow", "gd": "population, descent"}
_FULL, _POPULATION = "#56B4E9", "#D55E00"
_SHOWN = ("S", "n", "H", "degree", "L", "dirichlet", "loss")
_POINTS = {"marker": "o", "markersize": 3, "linestyle": "none"}
#: The lowest log10 p that is drawn.
_LOWEST = -100.0
#: Predictors: colour and marker.
_PREDICTORS = {
    "oracle": ("oracle", "#808080", "D"),
    "bayes": ("Bayes", "#009E73", "^"),
    "induction_head": ("induction head", "#D55E00", "s"),
    "model": ("trained model", "#0072B2", "o"),
}


def validation_figure(
    plan: Plan, runs: Sequence[Run], population: Mapping[str, Trajectory]
) -> Figure:
    """Every seed as a thin line, the population over it, the recorded run as points.

    Parameters
    ----------
    plan : Plan
    runs : sequence of Run
    population : mapping of {"flow", "gd"} to Trajectory

    Returns
    -------
    matplotlib.figure.Figure
        Left: a. Middle: the training loss. Right: log10 p of every subset.
    """
    with style():
        figure, axes = grid(1, 3, _title(plan, runs), gap=0.6, right=0.5, above=0.2)
        left, middle, right = axes[0]
        for ax, quantity, name in ((left, "a", "$a$"), (middle, "loss", "training loss")):
            handles = _quantity(plan, runs, population, quantity, ax)
            ax.set_ylabel(name)
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="upper left",
            bbox_to_anchor=(0.06, 1 - 0.19 / figure.get_figheight()),
            ncols=4,
            handlelength=1.8,
        )
        _selector(plan, runs, population, right)
        for ax in axes[0]:
            ax.set_xscale("log")
            ax.set_xlim(plan.config.learning_rate, max(run.full.t_end for run in runs))
        finish(figure, axes, r"training time $t$ (step × learning rate)")
    return figure


def _title(plan: Plan, runs: Sequence[Run]) -> str:
    config = plan.config
    sizes = ", ".join(
        f"{k}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{getattr(config, k)}" for k in _SHOWN
    )
    seeds = f"{len(runs)} seeds" if len(runs) > 1 else f"seed {runs[0].config.seed}"
    return f"chen: {sizes}, {config.sequences} sequences, {seeds}"


def _quantity(plan, runs, population, quantity: str, ax: Axes) -> dict[str, Any]:
    handles = {}
    for run in runs:
        (handles["finite data"],) = ax.plot(
            run.full.t[1:], run.full[quantity][1:], color=_FULL, linewidth=0.8, alpha=0.8
        )
    for dynamics, trajectory in population.items():
        (handles[_NAMES[dynamics]],) = ax.plot(
            trajectory.t[1:],
            trajectory[quantity][1:],
            color=_POPULATION,
            linewidth=1.1,
            linestyle=_LINES[dynamics],
        )
    points = _recorded(plan, quantity)
    if points:
        (handles["recorded run"],) = ax.plot(
            *zip(*points, strict=True), color="black", clip_on=False, **_POINTS
        )
    return handles


def _selector(plan, runs, population, ax: Axes) -> None:
    labels = plan.config.labels
    count, ends = len(labels), []
    for k, label in enumerate(labels):
        colour = BRIGHT[k % len(BRIGHT)] if k < len(BRIGHT) else "#555555"
        for run in runs:
            values = log10_p(run.full.z[:, :count])[1:, k]
            ax.plot(run.full.t[1:], values, color=colour, linewidth=0.7, alpha=0.7)
            seen = values[values >= _LOWEST]
        for dynamics, trajectory in population.items():
            values = log10_p(trajectory.z[:, :count])[1:, k]
            ax.plot(
                trajectory.t[1:], values, color=colour, linewidth=0.9, linestyle=_LINES[dynamics]
            )
        points = _recorded(plan, f"log10_p_{label}")
        if points:
            ax.plot(*zip(*points, strict=True), color=colour, clip_on=False, **_POINTS)
        ends.append((seen, _name(label), colour))
    ax.set_ylim(_LOWEST, 3.0)
    ax.set_ylabel(r"$\log_{10} p_{\mathcal{S}}$")
    label_ends(ax, ends)


def _recorded(plan: Plan, quantity: str) -> list[tuple[float, float]]:
    if not plan.as_recorded:
        return []
    last = plan.config.steps * plan.config.learning_rate
    found = [(t, recorded(quantity, t)) for t in TIMES if 0 < t <= last]
    return [(t, said[0]) for t, said in found if said is not None]


def _name(label: str) -> str:
    heads = ",".join(label.split("_") if "_" in label else label)
    return r"$\emptyset$" if label == "empty" else rf"$\{{{heads}\}}$"


def transfer_figure(config: MarkovConfig, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and accuracy at other lengths and other priors than in training.

    Parameters
    ----------
    config : MarkovConfig
        Of the training.
    rows : sequence of mapping
        Of `validate_markov.transfer`, perhaps of several seeds.

    Returns
    -------
    matplotlib.figure.Figure
        Above: the mean loss, the one trained on. Below: accuracy. Left against L, right against
        δ; a line marks the training's.
    """
    with style():
        title = (
            f"trained at L = {config.L}, dirichlet = {config.dirichlet:g} (loss {config.loss}), "
            "tested elsewhere"
        )
        figure, axes = grid(2, 2, title, gap=0.62, between=0.25, above=0.25, right=0.12)
        for column, (key, fixed, label) in enumerate(
            (("L", "dirichlet", "length $L$"), ("dirichlet", "L", r"Dirichlet parameter $\delta$"))
        ):
            chosen = [r for r in rows if r[fixed] == getattr(config, fixed)]
            for row, suffix in enumerate(("", "_accuracy")):
                ax = axes[row, column]
                _transfer(ax, [r for r in chosen if r["loss"] == config.loss], key, suffix)
                ax.axvline(getattr(config, key), color=INK, linewidth=0.5, linestyle=(0, (1, 2)))
                ax.set_xscale("log")
            axes[1, column].set_xlabel(label)
        axes[0, 0].set_ylabel(f"loss ({config.loss})")
        axes[1, 0].set_ylabel("accuracy")
        axes[0, 0].legend(loc="lower left", bbox_to_anchor=(-0.05, 0.98), ncols=4, handlelength=1.4)
        finish(figure, axes, "")
    return figure


def _transfer(ax: Axes, rows, key: str, suffix: str) -> None:
    places = sorted({r[key] for r in rows})
    for name, (label, colour, marker) in _PREDICTORS.items():
        means = [np.mean([r[name + suffix] for r in rows if r[key] == x]) for x in places]
        look = {"color": colour, "marker": marker, "markersize": 3.0, "linewidth": 1.0}
        if name == "model":  # often on top of another: a ring around its point
            look |= {"markersize": 5.5, "markerfacecolor": "none", "linestyle": (0, (1, 2))}
        ax.plot(places, means, label=label, **look)
