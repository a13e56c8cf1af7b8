"""What figures of this family share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reduced_dynamics.families.musat.emergence import MEASURES, Emergence
from reduced_dynamics.plotting.style import finish, grid, heading, line_styles, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
