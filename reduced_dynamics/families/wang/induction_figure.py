"""The figure of trainings on IH_n: Figures 3 and 4 of arXiv 2410.11474."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reduced_dynamics.families.wang.induction_study import Job, Result
from reduced_dynamics.plotting.style import INK, finish, grid, heading, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#000000")
#: Smaller errors and distances would only stretch the axes.
_FLOOR = 1e-12


def induction_figure(found: list[Result]) -> Figure:
    """Error and probing distance of all runs during training, and how the error ends.

    Parameters
    ----------
    found : list of Result
        Of one study, or the seeds of one configuration.

    Returns
    -------
    matplotlib.figure.Figure
        Left: the error, a line for every run; dotted, what the best predictors leave that compare
        only so many of the tokens. Middle: the probing distance of layer 1. Right: the error at
        the end, of every run.
    """
    job, full = found[0].job, found[0].full
    names = [*job.varied] or ["seed"]
    places = [one.job.varied if job.varied else {"seed": one.job.seed} for one in found]
    values = list(dict.fromkeys(place[names[0]] for place in places))
    hidden = {*names, *(("H", "D") if names[0] == "heads" else ())}
    kept = {k: v for k, v in full.parameters.items() if k not in hidden}
    with style():
        title = heading(full.with_(parameters=kept), "two-layer transformer on IH")
        figure, axes = grid(1, 3, title, gap=0.62, right=0.12, above=0.3 if job.varied else 0.0)
        left, middle, right = axes[0]
        for one, place in zip(found, places, strict=True):
            colour = _colour(values.index(place[names[0]]), len(values)) if job.varied else INK
            for ax, name in ((left, "error"), (middle, "probing_distance")):
                shown = np.maximum(one.full[name], _FLOOR)
                ax.plot(one.full.t, shown, color=colour, linewidth=0.9)
            right.plot(place[names[-1]], max(one.error, _FLOOR), "o", color=colour, markersize=3.5)
        for ax in (left, right):
            if len({one.levels for one in found}) == 1:
                _draw_levels(ax, found[0].levels[:-1], named=ax is left)
        left.set_ylabel("error / that of the answer 0")
        middle.set_ylabel("probing distance of layer 1")
        for ax in axes[0]:
            ax.set_yscale("log")
        # Two decades at least: on less, a logarithmic axis has no round numbers to show.
        left.set_ylim(min(0.02, left.get_ylim()[0]), 2.0)
        middle.set_ylim(min(0.009, middle.get_ylim()[0]), 1.2)
        for ax in (left, middle):
            ax.set_xlabel("training step")
            ax.set_xlim(left=0.0)
        right.set_xlabel(_label(names[-1], job))
        right.set_xticks(sorted({place[names[-1]] for place in places}))
        right.set_ylim(left.get_ylim())
        if job.varied:
            _legend(left, _label(names[0], job), values)
        finish(figure, axes, "")
    return figure


def _draw_levels(ax: Axes, levels, named: bool) -> None:
    for m, level in enumerate(levels):
        ax.axhline(level, color="#808080", linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5)
        if named:
            ax.annotate(
                f"{m}",
                (0.99, level),
                (0.0, 1.0),
                xycoords=ax.get_yaxis_transform(),
                textcoords="offset points",
                ha="right",
                fontsize=6.0,
                color="#808080",
            )


def _legend(ax: Axes, title: str, values) -> None:
    from matplotlib.lines import Line2D

    ax.legend(
        [Line2D([], [], color=_colour(k, len(values))) for k in range(len(values))],
        [f"{value:g}" for value in values],
        title=title,
        title_fontsize=8.0,
        loc="lower left",
        bbox_to_anchor=(-0.05, 1.0),
        borderaxespad=0.3,
        ncols=len(values),
        handlelength=1.2,
        columnspacing=1.2,
        alignment="left",
    )


def _label(name: str, job: Job) -> str:
    if name == "heads":
        return "$H = D$" if job.config.H == job.config.D else "$H$"
    return f"${name}$" if len(name) == 1 else name.replace("_", " ")


def _colour(k: int, count: int):
    if count <= len(_COLOURS):
        return _COLOURS[k]
    from matplotlib import colormaps

    return colormaps["viridis"](0.95 * k / (count - 1))
