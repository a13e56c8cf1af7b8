"""The figure of a `wang` trajectory: its losses and coordinates over the four shaded phases."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.plotting.style import (
    BRIGHT,
    INK,
    LABEL_SIZE,
    MIXED_TARGET,
    finish,
    grid,
    heading,
    label_ends,
    style,
    symbol,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The phases of the paper's Theorem 4.5, the event that ends each, and shades that also differ in
#: grey.
_PHASES = (
    ("partial\nlearning", "T_plateau_in", "#FFFFFF"),
    ("plateau", "T_plateau_out", "#E3E3E3"),
    ("emergent\nlearning", "T_converged", "#FBEBD0"),
    ("convergence", None, "#DCEBF5"),
)
_LOSSES = (
    ("loss", "$L$", "black", "-"),
    ("L_G4", r"$L_{\mathrm{G4}}$", BRIGHT[1], (0, (4, 1.5))),
    ("L_IH", r"$L_{\mathrm{IH}}$", BRIGHT[0], "-"),
)
#: Decades below the largest loss that are drawn.
_DECADES = 6.0
#: The narrowest phase, as part of the axis, whose name is written.
_NARROW = 0.12


def trajectory_figure(trajectory: Trajectory) -> Figure:
    """Losses (total and both components) and coordinates against logarithmic time, 4.5 inches wide.

    The trajectory is of `wang`, or of its full model with the same observables. The four phases are
    shaded and named where they are wide enough; the moments that divide them are the events
    T_plateau_in, T_plateau_out and T_converged.
    """
    with style():
        figure, axes = grid(2, 1, heading(trajectory, trajectory.system), right=0.55, above=0.3)
        top, bottom = axes[:, 0]
        t = _times(trajectory)
        _draw_losses(trajectory, top, t)
        _draw_coordinates(trajectory, bottom, t)
        for ax in (top, bottom):
            ax.set(xscale="log", xlim=(t[0], t[-1]))
            shade_phases(trajectory, ax, names=ax is top)
        top.tick_params(labelbottom=False)
        _mark_four_gram(trajectory, top)
        label_coordinates(trajectory, bottom, t)
        finish(figure, axes, "training time $t$")
    return figure


def shade_phases(trajectory: Trajectory, ax: Axes, names: bool = True) -> None:
    """Shade the phases between events that happened, and write their names above if wanted.

    The axis of time is logarithmic, and its limits must be final.
    """
    low, high = ax.get_xlim()
    events = trajectory.events
    if all(events.get(event) is None for _, event, _ in _PHASES):
        return
    ends = [events.get(event) if event else None for _, event, _ in _PHASES]
    edges = np.clip([low, *(high if end is None else end for end in ends)], low, high)
    for (name, _, shade), (start, end) in zip(_PHASES, pairwise(edges), strict=True):
        if end <= start:
            continue
        ax.axvspan(start, end, color=shade, linewidth=0, zorder=0)
        wide = np.log(end / start) > _NARROW * np.log(high / low)
        if names and (wide or end == high):
            place = np.sqrt(start * end) if wide else start
            ha = "center" if wide else "left"  # the last may go on beyond the axes
            look = {"fontsize": LABEL_SIZE - 0.5, "linespacing": 0.9, "color": INK}
            above = ax.get_xaxis_transform()
            ax.text(place, 1.02, name, transform=above, ha=ha, va="bottom", **look)


def _times(trajectory: Trajectory) -> np.ndarray:
    """Times evenly spaced on a logarithmic axis, from when something has moved."""
    end = trajectory.t_end
    if end == 0.0:
        return np.array([1e-3, 1.0])
    scale = trajectory.events.get("T_plateau_in") or trajectory.events.get("T_g4") or end
    return np.geomspace(min(scale / 300.0, end / 10.0), end, 600)


def _draw_losses(trajectory: Trajectory, ax: Axes, t: np.ndarray) -> None:
    curves, known = [], {"loss", *trajectory.observables}
    ax.set_yscale("log")
    largest = float(trajectory.loss.max())
    for name, label, colour, dash in _LOSSES:
        if name not in known:
            continue
        values = np.interp(t, trajectory.t, trajectory[name])
        values = np.where(values > 0, values, np.nan)
        thick = 1.9 if name == "loss" else 1.4
        (line,) = ax.plot(t, values, color=colour, linestyle=dash, linewidth=thick, label=label)
        curves.append(line)
    if largest > 0:
        smallest = np.nanmin([np.nanmin(c.get_ydata()) for c in curves])
        ax.set_ylim(max(smallest / 2, largest * 10**-_DECADES), largest * 2)
    ax.legend(handles=curves, loc="lower left", handlelength=2.2)
    ax.set_ylabel("loss")


def _draw_coordinates(trajectory: Trajectory, ax: Axes, t: np.ndarray) -> None:
    states = trajectory.at(np.clip(t, 0.0, trajectory.t_end))
    for name, column in zip(trajectory.coordinates, states.T, strict=True):
        colour, dash = MIXED_TARGET.get(name, (INK, "-"))
        above = 3 if name == "w_K" else 2
        ax.plot(t, column, color=colour, linestyle=dash, zorder=above)
    ax.set_ylabel("coordinates")


def label_coordinates(trajectory: Trajectory, ax: Axes, t: np.ndarray) -> None:
    """The coordinates' symbols where their lines end."""
    end = trajectory.at(t[-1])
    label_ends(
        ax,
        [
            (np.array([value]), symbol(name), MIXED_TARGET.get(name, (INK, "-"))[0])
            for name, value in zip(trajectory.coordinates, end, strict=True)
        ],
    )


def _mark_four_gram(trajectory: Trajectory, ax: Axes) -> None:
    """Where the 4-gram counts as learned, on its own curve."""
    when = trajectory.events.get("T_g4")
    if when is None or "L_G4" not in trajectory.observables:
        return
    level = np.interp(when, trajectory.t, trajectory["L_G4"])
    ax.plot([when], [level], "o", markersize=3.5, color=BRIGHT[1], zorder=4)
    look = {"fontsize": LABEL_SIZE, "color": BRIGHT[1]}
    ax.annotate(symbol("T_g4"), (when, level), (4, 3), textcoords="offset points", **look)
