"""Figures of trajectories: a trajectory and an Axes go in, lines in fixed colours come out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.plotting.style import (
    BRIGHT,
    HEAD,
    INK,
    LABEL_PITCH,
    REST,
    REST_INK,
    axes_size,
    check_scale,
    drawable,
    finish,
    grid,
    heading,
    label,
    label_ends,
    line_styles,
    spread,
    style,
    symbol,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


#: A coordinate that moves by less than this fraction of the largest move goes without a label.
NOTICEABLE = 0.01


def noticeable(trajectory: Trajectory, names: Sequence[str] | None = None) -> list[str]:
    """Those of `names` (the coordinates) that move by more than 1 % of the largest move, largest
    first."""
    names = trajectory.coordinates if names is None else names
    moves = _moves(np.column_stack([trajectory[name] for name in names])).max(axis=0)
    largest = moves.max(initial=0.0)
    order = np.argsort(-moves, kind="stable")
    return [names[k] for k in order if moves[k] > NOTICEABLE * largest]


def plot_coordinates(
    trajectory: Trajectory, ax: Axes, names: Iterable[str] | None = None, xscale: str = "linear"
) -> list[Line2D]:
    """Draw coordinates against training time.

    Parameters
    ----------
    trajectory : Trajectory
    ax : matplotlib.axes.Axes
    names : iterable of str, optional
        Coordinates or observables. By default all coordinates, those that hardly move in one
        muted group.
    xscale : {"linear", "log"}
        Of time. A logarithmic axis begins shortly before anything moves.

    Returns
    -------
    list of Line2D
        One for every name, labelled with its symbol, so that ``ax.legend()`` works; of the
        muted group only the first is labelled.

    Raises
    ------
    InputError
        If a name or the scale is unknown; the nearest is named.
    """
    shown = noticeable(trajectory) if names is None else list(names)
    rest = [] if names is not None else [c for c in trajectory.coordinates if c not in shown]
    styles = line_styles(trajectory.coordinates)
    _time_axis(trajectory, ax, xscale)
    t = _times(trajectory, xscale)
    lines = []
    for k, name in enumerate(rest):
        label = _rest_label(trajectory, rest) if k == 0 else "_"
        lines += _draw(ax, t, _values(trajectory, name, t), label, _rest_style())
    # The largest movers are drawn first, so that no small one is hidden.
    for name in shown:
        look = styles.get(name, {"color": INK, "linestyle": "-", "linewidth": 1.2})
        lines += _draw(ax, t, _values(trajectory, name, t), symbol(name), look)
    ax.set_ylabel("coordinates")
    return lines


def plot_loss(
    trajectory: Trajectory, ax: Axes, xscale: str = "linear", yscale: str = "linear", **look
) -> list[Line2D]:
    """Draw the loss against training time.

    Parameters
    ----------
    trajectory : Trajectory
    ax : matplotlib.axes.Axes
    xscale, yscale : {"linear", "log"}
        Where the loss is not positive, a logarithmic axis shows nothing.
    **look
        Passed on to matplotlib's ``plot``.

    Raises
    ------
    InputError
        If a scale is unknown.
    """
    check_scale(yscale)
    _time_axis(trajectory, ax, xscale)
    t = _times(trajectory, xscale)
    loss = np.interp(t, trajectory.t, trajectory.loss)
    if yscale == "log" and (trajectory.loss > 0).any():
        loss = np.where(loss > 0, loss, np.nan)
        ax.set_yscale("log")
    ax.set_ylabel("loss $L$")
    return _draw(ax, t, loss, "loss", {"color": "black", "linewidth": 1.4} | look)


def mark_events(trajectory: Trajectory, ax: Axes, labels: bool = True) -> None:
    """Mark when events first happened, after everything else is drawn.

    Parameters
    ----------
    trajectory : Trajectory
    ax : matplotlib.axes.Axes
        Its limits and its size must be final: the labels above it are placed by them so that
        none overlaps another.
    labels : bool
        Whether to write the events' symbols above the axes.
    """
    low, high = ax.get_xlim()
    styles = line_styles(trajectory.coordinates)
    events = sorted(
        (t, name) for name, t in trajectory.events.items() if t is not None and low <= t <= high
    )
    colours = [styles.get(name.removeprefix("T_"), {}).get("color", INK) for _, name in events]
    for (t, _), colour in zip(events, colours, strict=True):
        ax.axvline(t, color=colour, linewidth=0.7, linestyle=(0, (1, 2)), zorder=0.5)
    if not labels or not events:
        return
    width, _ = axes_size(ax)
    texts = [symbol(name) for _, name in events]
    sizes, upright = _event_sizes(texts, width)
    # More than fit even upright go without a label; the first to happen matter most.
    fitting = np.cumsum(sizes) <= max(width, sizes[0])
    pixels = ax.transData.transform([(t, ax.get_ylim()[0]) for t, _ in events])
    wanted = width * ax.transAxes.inverted().transform(pixels)[:, 0]
    places = spread(wanted[fitting], sizes[fitting], 0.0, width)
    look = {"ha": "center", "va": "bottom", "rotation": 90 if upright else 0}
    for k, place in enumerate(places):
        at, offset = ax.get_xaxis_transform(), (place - wanted[k], 7.0)
        label(ax, texts[k], (events[k][0], 1.0), at, offset, colours[k], (0.5, 0.0), **look)


def trajectory_figure(trajectory: Trajectory) -> Figure:
    """Coordinates and loss against linear and against logarithmic time, events marked.

    Parameters
    ----------
    trajectory : Trajectory

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide, the text width of a paper.
    """
    with style():
        happened = [symbol(name) for name, t in trajectory.events.items() if t is not None]
        above = 0.5 if _event_sizes(happened, width=170.0)[1] else 0.25
        title = heading(trajectory, trajectory.system)
        figure, axes = grid(2, 2, title, right=0.9, above=above if happened else 0.0)
        for (top, bottom), xscale in zip(axes.T, ("linear", "log"), strict=True):
            plot_coordinates(trajectory, top, xscale=xscale)
            plot_loss(trajectory, bottom, xscale=xscale, yscale=xscale)
            top.set_xlabel("")
            bottom.set_xlabel("")
            top.tick_params(labelbottom=False)
            top.xaxis.offsetText.set_visible(False)
            mark_events(trajectory, top)
            mark_events(trajectory, bottom, labels=False)
        axes[0, 1].set_ylim(axes[0, 0].get_ylim())
        axes[0, 1].tick_params(labelleft=False)
        axes[0, 1].set_ylabel("")
        axes[1, 1].set_ylabel("")
        _label_lines(trajectory, axes[0, 1])
        finish(figure, axes, _time_label(trajectory))
    return figure


def overlay_figure(
    reduced: Trajectory,
    full: Trajectory,
    xscale: str = "linear",
    names: Sequence[str] | None = None,
) -> Figure:
    """A reduced trajectory as lines under the full model's as points.

    Parameters
    ----------
    reduced, full : Trajectory
        In the same reduced time. Panels hold the coordinates of one family each (α, β, γ), as
        far as any of them moves noticeably; an observable of `full` with "outside" in its name
        gets a panel of its own.
    xscale : {"linear", "log"}
    names : sequence of str, optional
        Coordinates or observables of both to be shown; the coordinates that they share by default.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the two have no coordinate in common.
    """
    shared = list(names or (name for name in reduced.coordinates if name in full.coordinates))
    if not shared:
        raise InputError(
            f"'{reduced.system}' and '{full.system}' share no coordinate; "
            "compare a full model with the reduction of that model"
        )
    moving = {*noticeable(reduced, shared), *noticeable(full, shared)} or set(shared)
    families: dict[str, list[str]] = {}
    for name in shared:
        families.setdefault(re.match(r"[A-Za-z]*", name)[0], []).append(name)
    families = {head: names for head, names in families.items() if moving.intersection(names)}
    outside = [name for name in full.observables if "outside" in name]
    panels = len(families) + bool(outside)
    columns = panels if panels <= 3 else 2
    with style():
        title = heading(full, f"{reduced.system} (lines) and {full.system} (points)")
        figure, axes = grid(-(-panels // columns), columns, title, gap=0.95, between=0.38)
        for ax in axes.flat[panels:]:
            ax.remove()
        for ax, (head, names) in zip(axes.flat, families.items(), strict=False):
            _overlay(ax, reduced, full, names, moving, xscale)
            ax.set_ylabel(symbol(head) if head else "coordinates")
        if outside:
            _outside(axes.flat[panels - 1], full, outside, xscale)
        end = min(reduced.t_end, full.t_end)
        for ax in axes.flat[:panels]:
            ax.set_xlabel("")
            if end > ax.get_xlim()[0]:
                ax.set_xlim(right=end)
        finish(figure, axes, _time_label(full))
    return figure


# Data


def _moves(z: np.ndarray) -> np.ndarray:
    """Distance of every column from its start, shape (n, d); 0 where it is not finite."""
    z = np.where(drawable(z), z, z[0])
    moves = np.abs(z - np.where(drawable(z[0]), z[0], 0.0))
    return np.where(drawable(moves), moves, 0.0)


def _start(trajectory: Trajectory) -> float:
    """Where logarithmic time begins: the power of ten before anything moves or happens."""
    moves = _moves(trajectory.z)
    moving = (moves > NOTICEABLE * moves.max(axis=0)).any(axis=1) & (trajectory.t > 0)
    first = trajectory.t[moving][:1].tolist()
    first += [c.t for c in trajectory.crossings if c.t > 0]
    begin = 10.0 ** np.floor(np.log10(min(first, default=trajectory.t_end / 1e3)))
    return max(min(begin, trajectory.t_end / 10), trajectory.t[0])


def _has_duration(trajectory: Trajectory) -> bool:
    return trajectory.t_end > max(trajectory.t[0], 0.0)


def _times(trajectory: Trajectory, xscale: str) -> np.ndarray:
    """The trajectory's own times and, where it is known in between, enough for a smooth curve."""
    t = trajectory.t
    if trajectory.nodes is None or not _has_duration(trajectory):
        return t
    spaced = np.geomspace if xscale == "log" else np.linspace
    start = _start(trajectory) if xscale == "log" else t[0]
    return np.union1d(t, np.clip(spaced(start, t[-1], 500), t[0], t[-1]))


def _values(trajectory: Trajectory, name: str, t: np.ndarray) -> np.ndarray:
    if name in trajectory.coordinates and trajectory.nodes is not None and len(trajectory) > 1:
        return trajectory.at(t)[:, trajectory.coordinates.index(name)]
    return np.interp(t, trajectory.t, trajectory[name])


# Ink


def _draw(ax: Axes, t, values, label: str, look: dict) -> list[Line2D]:
    values = np.where(drawable(values), values, np.nan)
    # A line needs two points.
    marker = "." if len(t) == 1 else None
    return ax.plot(t, values, label=label, marker=marker, **look)


def _rest_style() -> dict:
    return {"color": REST, "linewidth": 1.0, "zorder": 1.5}


def _rest_label(trajectory: Trajectory, rest: list[str]) -> str:
    columns = np.array([trajectory[name] for name in rest])
    largest = np.abs(trajectory.z[drawable(trajectory.z)]).max(initial=0.0)
    zero = (np.abs(columns[drawable(columns)]) <= NOTICEABLE * largest).all()
    what = f"{len(rest)} others" if len(rest) > 1 else symbol(rest[0])
    return f"{what} ({'≈ 0' if zero else 'constant'})"


def _time_axis(trajectory: Trajectory, ax: Axes, xscale: str) -> None:
    check_scale(xscale)
    ax.set_xlabel(_time_label(trajectory))
    # A power of ten belongs beside the tick labels; below them it would run into the axis label.
    ax.xaxis.offsetText.set(x=1.03, horizontalalignment="left", verticalalignment="bottom")
    if not _has_duration(trajectory):
        return
    ax.set_xscale(xscale)
    ax.set_xlim(_start(trajectory) if xscale == "log" else trajectory.t[0], trajectory.t_end)


def _time_label(trajectory: Trajectory) -> str:
    if trajectory.time_scale != 1:
        return f"training time $t$ (step × learning rate / {trajectory.time_scale:g})"
    if not HEAD.keys().isdisjoint(trajectory.coordinates):
        return "training time $t$ (step × learning rate / $D$)"
    return "training time $t$"


def _overlay(ax, reduced, full, names, moving, xscale) -> None:
    """One family of coordinates: `reduced` as lines, `full` as some thirty points a line."""
    styles = line_styles(names) | line_styles(reduced.coordinates)
    _time_axis(full, ax, xscale)
    t = _times(reduced, xscale)
    spaced = np.geomspace if xscale == "log" and _has_duration(full) else np.linspace
    low = ax.get_xlim()[0] if xscale == "log" else full.t[0]
    sample = np.unique(np.searchsorted(full.t, spaced(low, full.t_end, 32)).clip(0, len(full) - 1))
    for name in sorted(names, key=lambda name: name in moving):
        look = styles[name] if name in moving else _rest_style()
        _draw(ax, t, _values(reduced, name, t), "_", look)
        points = {"color": look["color"], "linestyle": "none", "marker": "o", "markersize": 3.0}
        values = np.where(drawable(full[name]), full[name], np.nan)[sample]
        ax.plot(full.t[sample], values, label="_", markeredgewidth=0, clip_on=False, **points)
    named = [name for name in names if name in moving]
    label_ends(ax, [(full[name], symbol(name), styles[name]["color"]) for name in named])


def _outside(ax, full, names, xscale) -> None:
    """What of the full model lies outside the reduced coordinates."""
    _time_axis(full, ax, xscale)
    for k, name in enumerate(names):
        look = {"color": BRIGHT[k % len(BRIGHT)], "linewidth": 1.0}
        _draw(ax, full.t, full[name], name.replace("_", " "), look)
    positive = [values[values > 0] for values in map(full.__getitem__, names)]
    if all(values.size and values.max() > 30 * values.min() for values in positive):
        ax.set_yscale("log", nonpositive="mask")
    else:
        ax.set_ylim(bottom=0.0)
    ax.set_ylabel("norm outside / inside" if len(names) == 1 else "norm")
    if len(names) > 1:
        ax.legend()


def _label_lines(trajectory: Trajectory, ax: Axes) -> None:
    """Name the noticeable coordinates where their lines end, and the others as one group."""
    styles = line_styles(trajectory.coordinates)
    names = noticeable(trajectory)
    # Labels may reach down beside the panel below.
    room = int(2 * axes_size(ax)[1] / LABEL_PITCH) - 2
    ends = [(trajectory[name], symbol(name), styles[name]["color"]) for name in names[:room]]
    if names[room:]:
        ends.append((trajectory[names[room]], f"{len(names[room:])} more", REST_INK))
    rest = [name for name in trajectory.coordinates if name not in names]
    if rest:
        middle = sorted(rest, key=lambda name: trajectory[name][-1])[len(rest) // 2]
        ends.append((trajectory[middle], _rest_label(trajectory, rest), REST_INK))
    label_ends(ax, ends)


def _event_sizes(texts: list[str], width: float) -> tuple[np.ndarray, bool]:
    """The room that labels of events take along the axis, and whether they have to be upright."""
    sizes = np.array([text_width(text) + 4.0 for text in texts])
    upright = sizes.sum() > width
    return (np.full(len(texts), LABEL_PITCH + 1.0) if upright else sizes), upright
