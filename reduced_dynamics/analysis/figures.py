"""Figures of the analysis: phase portraits, spectra, phases, sensitivities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reduced_dynamics.analysis.fixed_points import FixedPoint
from reduced_dynamics.analysis.phases import Phase
from reduced_dynamics.analysis.plane import Plane
from reduced_dynamics.analysis.sensitivity import Sensitivities
from reduced_dynamics.analysis.spectrum import Spectrum
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.plotting.style import (
    BRIGHT,
    INK,
    REST,
    finish,
    grid,
    line_styles,
    style,
    symbol,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TIME = "reduced training time $t$"


def draw_plane(
    plane: Plane, ax: Axes, points: Sequence[FixedPoint] = (), trajectory: Trajectory | None = None
) -> None:
    """A phase portrait: streamlines over the loss, nullclines, fixed points, a run.

    Parameters
    ----------
    plane : Plane
    ax : matplotlib.axes.Axes
    points : sequence of FixedPoint
        Drawn where they fall: filled if stable, open if not. They need not lie in this slice.
    trajectory : Trajectory, optional
        A run of the same system, projected on the slice.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    x_name, y_name = plane.names
    finite = np.isfinite(plane.loss)
    if not finite.any():
        raise InputError("the equations hold nowhere on this plane; choose other ranges")
    levels = MaxNLocator(12).tick_values(plane.loss[finite].min(), plane.loss[finite].max())
    light = LinearSegmentedColormap.from_list("light", ["white", "#A8A8A8"])
    filled = ax.contourf(plane.x, plane.y, plane.loss, levels=levels, cmap=light)
    filled.set_edgecolor("face")  # no hairlines between the bands of vector output
    if not plane.at_rest:
        speed = np.hypot(plane.u, plane.v)
        width = 0.4 + 0.8 * np.nan_to_num(speed / np.nanmax(speed)) ** 0.25
        u, v = np.ma.masked_invalid(plane.u), np.ma.masked_invalid(plane.v)
        look = {"color": INK, "density": 0.9, "arrowsize": 0.7, "linewidth": width}
        ax.streamplot(plane.x, plane.y, u, v, **look)
    if not finite.all():
        # Where the equations do not hold.
        outside = np.where(finite, 0.0, 1.0)
        ax.contourf(plane.x, plane.y, outside, levels=[0.5, 1.5], colors="none", hatches=["////"])
    for values, name, colour in ((plane.u, x_name, BRIGHT[0]), (plane.v, y_name, BRIGHT[1])):
        label = f"d{symbol(name)}/d$t$ = 0"
        if np.nanmin(values) < 0.0 < np.nanmax(values):
            ax.contour(plane.x, plane.y, values, levels=[0.0], colors=[colour], linewidths=1.6)
            ax.plot([], [], color=colour, linewidth=1.6, label=label)
    if trajectory is not None:
        ax.plot(
            trajectory[x_name], trajectory[y_name], color=BRIGHT[3], linewidth=2.0, label="the run"
        )
    seen = set()
    for point in points:
        stable = point.kind.startswith("stable")
        label = point.kind.partition(",")[0]
        look = {"color": BRIGHT[2], "markerfacecolor": BRIGHT[2] if stable else "white"}
        look |= {"markersize": 5, "zorder": 5, "label": label if label not in seen else None}
        ax.plot(point.state[x_name], point.state[y_name], "o", **look)
        seen.add(label)
    ax.set_xlim(plane.x[0], plane.x[-1])
    ax.set_ylim(plane.y[0], plane.y[-1])
    ax.set_xlabel(symbol(x_name))
    ax.set_ylabel(symbol(y_name))


def plane_figure(
    plane: Plane, points: Sequence[FixedPoint] = (), trajectory: Trajectory | None = None
) -> Figure:
    """A phase portrait with its legend; see `draw_plane`."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(4.5, 3.9), layout="constrained")
        ax = figure.subplots()
        draw_plane(plane, ax, points, trajectory)
        at = ", ".join(f"{symbol(k)} = {v:.4g}" for k, v in [*plane.others.items()][:6])
        more = ", …" if len(plane.others) > 6 else ""
        ax.set_title(f"{plane.system}; grey: loss\n{at}{more}", fontsize=9, loc="left", color=INK)
        handles, labels = ax.get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    return figure


def spectrum_figure(found: Spectrum, title: str) -> Figure:
    """Growth rates, decay rates and the stiffness ratio against time."""
    with style():
        figure, axes = grid(1, 2, title, gap=0.75)
        rates = found.eigenvalues.real
        positive = found.t > 0.0
        t = found.t[positive]
        ax = axes[0, 0]
        for k in range(rates.shape[1]):
            values = rates[positive, k]
            for sign, colour in ((1.0, BRIGHT[0]), (-1.0, BRIGHT[1])):
                shown = np.where(sign * values > 0.0, sign * values, np.nan)
                ax.plot(t, shown, color=colour, linewidth=0.9)
        ax.plot([], [], color=BRIGHT[0], label="growing")
        ax.plot([], [], color=BRIGHT[1], label="decaying")
        top = np.abs(rates).max()
        ax.set_ylim(max(1e-16 * top, np.abs(rates[rates != 0.0]).min(initial=top)) / 2, 2 * top)
        ax.set_ylabel("|eigenvalue| (1/time)")
        ax.legend()
        axes[0, 1].plot(t, found.stiffness[positive], color=INK)
        axes[0, 1].set_ylabel("stiffness: fastest decay / speed")
        for ax in axes.flat:
            ax.set_xscale("log")
            ax.set_yscale("log")
        finish(figure, axes, TIME)
    return figure


def phases_figure(trajectory: Trajectory, found: Sequence[Phase], of: str = "loss") -> Figure:
    """The watched quantity and the coordinates over logarithmic time, phases shaded."""
    with style():
        figure, axes = grid(2, 1, f"phases of {of} in {trajectory.system}", right=0.9)
        later = trajectory.t > 0.0
        t = trajectory.t[later]
        axes[0, 0].plot(t, trajectory[of][later], color=INK)
        axes[0, 0].set_ylabel(symbol(of))
        looks = line_styles(trajectory.coordinates)
        for name in trajectory.coordinates:
            axes[1, 0].plot(t, trajectory[name][later], label=symbol(name), **looks[name])
        axes[1, 0].set_ylabel("coordinates")
        columns = 1 if len(trajectory.coordinates) < 9 else 2
        axes[1, 0].legend(
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            ncols=columns,
            fontsize=7,
            handlelength=1.2,
        )
        first = max(t[0], found[0].end / 30.0)
        for ax in axes.flat:
            ax.set_xscale("log")
            ax.set_xlim(first, t[-1])
            for phase in found:
                if phase.kind != "drop":
                    ax.axvspan(max(phase.start, first), phase.end, color=REST, alpha=0.3, lw=0)
        axes[0, 0].set_xticklabels([])
        finish(figure, axes, f"{TIME} (grey: {of} stands still)")
    return figure


def sensitivity_figure(found: Sensitivities, title: str) -> Figure:
    """Elasticities of every event's time, one bar a parameter."""
    with style():
        events = [e for e in sorted(found.times, key=found.times.get) if found.parameter[e]]
        names = list(found.parameter[events[0]]) if events else []
        figure, axes = grid(1, 1, title, right=1.2)
        ax = axes[0, 0]
        width = 0.8 / max(len(names), 1)
        for k, name in enumerate(names):
            places = np.arange(len(events)) + (k - (len(names) - 1) / 2) * width
            heights = [found.parameter[e][name] for e in events]
            colour = BRIGHT[k % len(BRIGHT)]
            ax.bar(places, heights, width * 0.9, color=colour, label=symbol(name))
        ax.axhline(0.0, color=INK, linewidth=0.6)
        ax.set_xticks(range(len(events)), [symbol(e) for e in events])
        ax.set_ylabel("d log $T$ / d log parameter")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        finish(figure, axes, "")
    return figure
