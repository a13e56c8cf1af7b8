"""Figures of many full models: studies of what separates them from the reduced flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reduced_dynamics.families.musat.emergence import MEASURES, Emergence
from reduced_dynamics.families.musat.validation import Study
from reduced_dynamics.plotting.style import finish, grid, heading, line_styles, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What each study draws against its value: quantity, label, colour, marker.
_SCALING = {
    "batch": (
        ("outside", "norm outside the subspace", "#D55E00", "s"),
        ("sampling", "error of sampling", "#0072B2", "o"),
        ("scatter", "scatter of seeds", "#009E73", "^"),
    ),
    "step": (
        ("outside", "norm outside the subspace", "#D55E00", "s"),
        ("error", "error against the flow", "#0072B2", "o"),
        ("discretisation", "of steps alone", "#009E73", "^"),
        ("stepping", "against the flow of the same data", "#E69F00", "D"),
    ),
    "sequences": (
        ("error", "error against the flow", "#0072B2", "o"),
        ("half", r"shift of $T_{\mathrm{half}}$, relative", "#D55E00", "s"),
    ),
    "perturbation": (
        ("outside_start", "norm outside, at the start", "#D55E00", "s"),
        ("outside_end", "norm outside, at the end", "#E69F00", "D"),
        ("shift", "shift of the coordinates", "#0072B2", "o"),
    ),
}
#: Never fitted: it ends at what minibatches alone bring about, for any perturbation.
_UNFITTED = ("outside_end",)
_VALUE = {
    "batch": "batch size $B$",
    "step": r"learning rate $\eta$",
    "perturbation": r"perturbation $\varepsilon$",
    "sequences": "number of sequences $M$",
}
_SYMBOL = {"batch": "B", "step": r"\eta", "perturbation": r"\varepsilon", "sequences": "M"}


def study_figure(study: Study) -> Figure:
    """How errors scale with what a study varies, and how they go over training.

    Parameters
    ----------
    study : Study
        Over two values at least.

    Returns
    -------
    matplotlib.figure.Figure
        Left: every run, and the power laws fitted. Middle: the distance between full model and
        flow over all coordinates. Right: the norm outside the subspace; for a perturbation over
        its start; the loss where there is no outside. Means over the seeds.
    """
    job, first = study.runs[0]
    with style():
        title = heading(first.full, f"{job.system.name} against the {first.full.system} model")
        figure, axes = grid(1, 3, title, gap=0.62, right=0.12, above=0.62)
        left, middle, right = axes[0]
        _scaling(study, left)
        _over_time(study, middle, lambda found: np.linalg.norm(found.error, axis=1))
        middle.set_ylabel("distance from the flow")
        middle.set_yscale("log")
        inside_only = "outside_norm" not in first.full.observables
        if inside_only:
            _over_time(study, right, lambda found: found.full.loss)
        else:
            _over_time(study, right, lambda found: found.full["outside_norm"])
        right.set_ylabel("loss" if inside_only else "norm outside the subspace")
        if inside_only or study.over == "perturbation":
            right.set_yscale("log")
        else:
            right.set_ylim(bottom=0.0)
        _value_legend(study, middle)
        for ax in (middle, right):
            ax.set_xlabel("training time $t$")
        finish(figure, axes, "")
    return figure


def emergence_figure(found: list[Emergence]) -> Figure:
    """The standard transformer's progress measures, loss and accuracy over training steps.

    Parameters
    ----------
    found : list of Emergence
        One for every seed, of one configuration.

    Returns
    -------
    matplotlib.figure.Figure
        Left: each measure over its largest value, in steps from the moment when the seed's
        accuracy reaches 0.9 (if all do). Middle: the cross-entropy. Right: the accuracy. Of every
        seed a thin line, and of three or more a thick one for the median.
    """
    first = found[0].trajectory
    method = {"sgd": "SGD", "adam": "Adam"}.get(first.solver["method"], first.solver["method"])
    with style():
        title = heading(first, f"standard transformer, {method}, {len(found)} seeds")
        figure, axes = grid(1, 3, title, gap=0.58, right=0.15, above=0.22)
        draw_emergence(found, axes[0])
        finish(figure, axes, "")
    return figure


def draw_emergence(found: list[Emergence], axes: Sequence[Axes]) -> None:
    """The three panels of `emergence_figure`, into axes that exist.

    Parameters
    ----------
    found : list of Emergence
    axes : sequence of three Axes
    """
    left, middle, right = axes
    last = max(one.steps[-1] for one in found)
    learnt = [one.learnt for one in found]
    # From the first row on, there is nothing to be aligned.
    aligned = None not in learnt and min(learnt) > 0
    # Seeds learn at different moments; only from those on can their orders be compared.
    unaligned = [0.0] * len(found)

    def panel(ax, name, colour, origins=unaligned, scaled=False):
        shared = np.linspace(0.0, last, 1500) - np.mean(origins)
        curves = []
        for one, origin in zip(found, origins, strict=True):
            values, steps = one.trajectory[name], one.steps - origin
            values = values / values.max() if scaled and values.max() > 0 else values
            # Of two seeds a median would be a curve that neither of them followed.
            look = {"linewidth": 1.1} if len(found) < 3 else {"linewidth": 0.5, "alpha": 0.45}
            (line,) = ax.plot(steps, values, color=colour, **look)
            curves.append(np.interp(shared, steps, values, left=np.nan, right=np.nan))
        if len(found) < 3:
            return line
        median = np.median(curves, axis=0)
        return ax.plot(shared, median, color=colour, linewidth=1.6)[0]

    colours = line_styles(MEASURES)
    names = [name for name in ("gamma3", "beta2", "alpha3") if name in MEASURES]
    lines = [
        panel(left, f"progress_{n}", colours[n]["color"], learnt if aligned else unaligned, True)
        for n in names
    ]
    left.axhline(0.5, color="#808080", linewidth=0.6, linestyle=(0, (1, 2)))
    left.set_ylabel("measure / its largest value")
    left.legend(
        lines,
        [rf"$\tilde{{\{n[:-1]}}}_{{{n[-1]}}}$" for n in names],
        loc="lower left",
        bbox_to_anchor=(-0.03, 0.98),
        ncols=3,
        handlelength=1.2,
        columnspacing=1.4,
    )
    panel(middle, "held_out_loss", "black")
    middle.set_ylabel("cross-entropy, held out (nats)")
    middle.set_ylim(bottom=0.0)
    panel(right, "accuracy", "black")
    right.set_ylabel("accuracy, held out")
    right.set_ylim(0.0, 1.02)
    for ax in axes:
        ax.set_xlim(0, last)
        ax.ticklabel_format(axis="x", style="plain")
        ax.set_xlabel("training step")
    if aligned:
        left.set_xlim(-0.25 * min(learnt), 0.06 * min(learnt))
        left.set_xlabel("steps from accuracy 0.9")


def _scaling(study: Study, ax: Axes) -> None:
    """Every run as a point, on logarithmic axes, and the power laws fitted to them."""
    x = study.points["value"]
    for name, label, colour, marker in _SCALING[study.over]:
        if name not in study.points:
            continue
        y = study.points[name]
        good = (x > 0) & (y > 0)
        slope = None if name in _UNFITTED else study.slope(name)
        if slope is not None:
            ends = np.array([x[good].min(), x[good].max()])
            ax.plot(ends, slope(ends), color=colour, linewidth=0.9)
            power = f"{slope.exponent:.2f}".replace("-", "{-}")
            power = rf"$\propto {_SYMBOL[study.over]}^{{{power}}}$"
            label = f"{label} {power}"
        look = {"color": colour, "marker": marker, "markersize": 3.2, "markeredgewidth": 0}
        ax.plot(x[good], y[good], linestyle="none", label=label, alpha=0.8, **look)
    if study.over == "batch":
        floor = study.points["discretisation"].mean()
        ax.axhline(floor, color="#808080", linewidth=0.8, linestyle=(0, (1, 2)), zorder=0.5)
        ax.annotate(
            "error of steps",
            (0.02, floor),
            (0.0, -2.0),
            color="#808080",
            fontsize=7.0,
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            va="top",
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    values = [value for value in study.values if value > 0]
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.set_xticks([], minor=True)
    ax.set_xlabel(_VALUE[study.over])
    what = "norm, and shift (r.m.s. over time)"
    ax.set_ylabel(what if study.over == "perturbation" else "root mean square over time")
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(-0.2, 1.0),
        borderaxespad=0.3,
        handletextpad=0.2,
        labelspacing=0.25,
    )


def _over_time(study: Study, ax: Axes, curve) -> None:
    """A scalar of every comparison over training, one line a value."""
    for value, colour in _shades(study).items():
        found = study.at_value(value)
        rows = min(len(c.t) for c in found)
        t = found[0].t[:rows]
        mean = np.mean([curve(c)[:rows] for c in found], axis=0)
        mean = np.where(mean > 0, mean, np.nan)
        ax.plot(t, mean, color=colour, linewidth=1.2)
    ax.set_xlim(0.0, max(c.t[-1] for _, c in study.runs))


def _value_legend(study: Study, ax: Axes) -> None:
    """The values and their shades, above the two panels over time."""
    from matplotlib.lines import Line2D

    shades = _shades(study)
    handles = [Line2D([], [], color=colour) for colour in shades.values()]
    ax.legend(
        handles,
        [f"{value:g}" for value in shades],
        title=_VALUE[study.over],
        title_fontsize=8.0,
        loc="lower left",
        bbox_to_anchor=(0.2, 1.0),
        borderaxespad=0.3,
        ncols=len(shades),
        handlelength=1.2,
        columnspacing=1.2,
        alignment="left",
    )


def _shades(study: Study) -> dict[float, tuple]:
    """From light to dark with the value."""
    from matplotlib import colormaps

    places = np.linspace(0.82, 0.08, len(study.values))
    return dict(zip(study.values, colormaps["viridis"](places).tolist(), strict=True))
