"""One look for every figure: a trajectory and an Axes go in, lines in fixed colours come out.

The colours are Okabe and Ito's, which colour-blind readers can tell apart; α₃, β₂ and γ₃ have
the same ones in every figure. Nothing here touches pyplot's global state or needs a display.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

from reduced_dynamics import files
from reduced_dynamics.errors import InputError, unknown
from reduced_dynamics.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

#: What `save_figure` can write, with the metadata that would make two equal figures differ.
_FORMATS = {
    ".png": {},
    ".pdf": {"CreationDate": None, "ModDate": None},
    ".svg": {"Date": None},
}

# STIX comes with matplotlib, so a figure looks the same on every machine.
_STYLE = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": True,
    "axes.formatter.limits": (-3, 4),
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,
    "svg.hashsalt": "reduced_dynamics",
}
#: Size of labels and the room one of them takes across its text, in points.
_LABEL_SIZE = 8.0
_LABEL_PITCH = 9.0

#: The induction head: attention of layer 1 to the previous position, of layer 2 to the right
#: item, and the read-out of its label.
_HEAD = {"alpha3": "#D55E00", "beta2": "#0072B2", "gamma3": "#009E73"}
_BRIGHT = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MUTED = (
    "#882255", "#6699CC", "#999933", "#AA4499", "#332288", "#CC6677", "#A6761D", "#E69F00",
    "#555555",
)  # fmt: skip
_REST = "#B0B0B0"
_REST_INK = "#808080"
_INK = "#404040"

#: A coordinate that moves by less than this fraction of the largest move goes without a label.
NOTICEABLE = 0.01

_GREEK = re.compile(
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|"
    "upsilon|phi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega"
)


def style() -> AbstractContextManager:
    """The project's matplotlib settings, for the duration of a ``with``."""
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def symbol(name: str) -> str:
    r"""The papers' symbol for a coordinate or an event, as text for matplotlib.

    >>> symbol("alpha3"), symbol("w_Q"), symbol("T_gamma3"), symbol("t_icl")
    ('$\\alpha_{3}$', '$w_{Q}$', '$T_{\\gamma_{3}}$', '$t_{\\mathrm{ICL}}$')
    """
    found = re.fullmatch(r"([A-Za-z]+)(\d*)((?:_[A-Za-z0-9]+)*)", name)
    if not found or not _is_letter(found[1]):
        return name.replace("_", " ").replace("$", r"\$")
    parts = [p for p in (found[2], *found[3].split("_")) if p]
    words = any(p.isalpha() and not _is_letter(p) for p in parts)
    subscript = (r"\ " if words else ",").join(map(_subscript, parts))
    return f"${_letter(found[1])}{f'_{{{subscript}}}' if subscript else ''}$"


def _is_letter(text: str) -> bool:
    return len(text) == 1 or _GREEK.fullmatch(text) is not None


def _letter(head: str) -> str:
    return head if len(head) == 1 else f"\\{head}"


def _subscript(part: str) -> str:
    special = {"empty": r"\emptyset", "icl": r"\mathrm{ICL}"}
    indexed = re.fullmatch(r"([A-Za-z]+)(\d+)", part)
    if part in special:
        return special[part]
    if indexed and _is_letter(indexed[1]):
        return f"{_letter(indexed[1])}_{{{indexed[2]}}}"
    if part.isdigit() or _is_letter(part):
        return _letter(part) if part.isalpha() else part
    return f"\\mathrm{{{part}}}"


def line_styles(coordinates: Sequence[str]) -> dict[str, dict]:
    """How each of a system's coordinates is drawn, in every figure.

    Returns
    -------
    dict of str to dict
        ``color``, ``linestyle`` and ``linewidth`` by name. The induction head's α₃, β₂, γ₃ stand
        out and the coordinates beside them are thinner, dashed and muted; in other systems the
        first six stand out.
    """
    leading = [name for name in coordinates if name in _HEAD]
    colours = dict(_HEAD) if leading else dict(zip(coordinates, _BRIGHT, strict=False))
    others = [name for name in coordinates if name not in colours]
    dashes = ((0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
    return {
        name: {"color": colours[name], "linestyle": "-", "linewidth": 1.5}
        if name in colours
        else {
            "color": _MUTED[others.index(name) % len(_MUTED)],
            "linestyle": dashes[others.index(name) // len(_MUTED) % len(dashes)],
            "linewidth": 1.2,
        }
        for name in coordinates
    }


def noticeable(trajectory: Trajectory) -> list[str]:
    """The coordinates that move by more than 1 % of the largest move, largest first."""
    moves = _moves(trajectory).max(axis=0)
    largest = moves.max(initial=0.0)
    order = np.argsort(-moves, kind="stable")
    return [trajectory.coordinates[k] for k in order if moves[k] > NOTICEABLE * largest]


def plot_coordinates(
    trajectory: Trajectory,
    ax: Axes,
    names: Iterable[str] | None = None,
    xscale: str = "linear",
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
        look = styles.get(name, {"color": _INK, "linestyle": "-", "linewidth": 1.2})
        lines += _draw(ax, t, _values(trajectory, name, t), symbol(name), look)
    ax.set_ylabel("coordinates")
    return lines


def plot_loss(
    trajectory: Trajectory,
    ax: Axes,
    xscale: str = "linear",
    yscale: str = "linear",
    **look,
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
    _check_scale(yscale)
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
    colours = [styles.get(name.removeprefix("T_"), {}).get("color", _INK) for _, name in events]
    for (t, _), colour in zip(events, colours, strict=True):
        ax.axvline(t, color=colour, linewidth=0.7, linestyle=(0, (1, 2)), zorder=0.5)
    if not labels or not events:
        return
    width, _ = _size(ax)
    texts = [symbol(name) for _, name in events]
    sizes, upright = _event_sizes(texts, width)
    # More than fit even upright go without a label; the first to happen matter most.
    fitting = np.cumsum(sizes) <= max(width, sizes[0])
    pixels = ax.transData.transform([(t, ax.get_ylim()[0]) for t, _ in events])
    wanted = width * ax.transAxes.inverted().transform(pixels)[:, 0]
    places = _spread(wanted[fitting], sizes[fitting], 0.0, width)
    for k, place in enumerate(places):
        ax.annotate(
            texts[k],
            xy=(events[k][0], 1.0),
            xycoords=ax.get_xaxis_transform(),
            xytext=(place - wanted[k], 7.0),
            textcoords="offset points",
            ha="center",
            va="bottom",
            rotation=90 if upright else 0,
            fontsize=_LABEL_SIZE,
            color=colours[k],
            annotation_clip=False,
            arrowprops=_leader(colours[k], (0.5, 0.0)),
        )


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
        title = _title(trajectory, trajectory.system)
        figure, axes = _grid(2, 2, title, right=0.9, above=above if happened else 0.0)
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
        _finish(figure, axes, _time_label(trajectory))
    return figure


def overlay_figure(reduced: Trajectory, full: Trajectory, xscale: str = "linear") -> Figure:
    """A reduced trajectory as lines under the full model's as points.

    Parameters
    ----------
    reduced, full : Trajectory
        In the same reduced time. Panels hold the coordinates of one family each (α, β, γ), as
        far as any of them moves noticeably; an observable of `full` with "outside" in its name
        gets a panel of its own.
    xscale : {"linear", "log"}

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the two have no coordinate in common.
    """
    shared = [name for name in reduced.coordinates if name in full.coordinates]
    if not shared:
        raise InputError(
            f"'{reduced.system}' and '{full.system}' share no coordinate; "
            "compare a full model with the reduction of that model"
        )
    moving = {*noticeable(reduced), *noticeable(full)}.intersection(shared) or set(shared)
    families: dict[str, list[str]] = {}
    for name in shared:
        families.setdefault(re.match(r"[A-Za-z]*", name)[0], []).append(name)
    families = {head: names for head, names in families.items() if moving.intersection(names)}
    outside = [name for name in full.observables if "outside" in name]
    panels = len(families) + bool(outside)
    columns = panels if panels <= 3 else 2
    with style():
        title = _title(full, f"{reduced.system} (lines) and {full.system} (points)")
        figure, axes = _grid(-(-panels // columns), columns, title, gap=0.95, between=0.38)
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
        _finish(figure, axes, _time_label(full))
    return figure


def save_figure(figure: Figure, path) -> None:
    """Write a figure to a file, whole or not at all; the same figure gives the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or os.PathLike
        Its ending decides the format: ``.png`` (300 dots per inch), ``.pdf`` or ``.svg``.

    Raises
    ------
    InputError
        If the ending is unknown or the file cannot be written.
    """
    found = files.ending(path, _FORMATS)
    buffer = io.BytesIO()
    with style():
        figure.savefig(
            buffer,
            format=found[1:],
            dpi=300,
            metadata=_FORMATS[found],
            bbox_inches="tight",
            pad_inches=0.04,
        )
    files.write(path, buffer.getvalue())


def check_target(path) -> None:
    """Make sure that a figure can be saved to `path`, before it is computed.

    Raises
    ------
    InputError
        If the ending is unknown, the directory is missing or cannot be written to, or `path` is
        a directory or write-protected.
    """
    files.check_target(path, _FORMATS)


# Data


def _moves(trajectory: Trajectory) -> np.ndarray:
    """Distance of every coordinate from its start, shape (n, d); 0 where it is not finite."""
    z = np.where(_drawable(trajectory.z), trajectory.z, trajectory.z[0])
    moves = np.abs(z - np.where(_drawable(z[0]), z[0], 0.0))
    return np.where(_drawable(moves), moves, 0.0)


def _drawable(values: np.ndarray) -> np.ndarray:
    """Where values are finite and of a size whose differences matplotlib can compute with."""
    return np.abs(values) < 1e100


def _start(trajectory: Trajectory) -> float:
    """Where logarithmic time begins: the power of ten before anything moves or happens."""
    moves = _moves(trajectory)
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
    values = np.where(_drawable(values), values, np.nan)
    # A line needs two points.
    marker = "." if len(t) == 1 else None
    return ax.plot(t, values, label=label, marker=marker, **look)


def _rest_style() -> dict:
    return {"color": _REST, "linewidth": 1.0, "zorder": 1.5}


def _rest_label(trajectory: Trajectory, rest: list[str]) -> str:
    columns = np.array([trajectory[name] for name in rest])
    largest = np.abs(trajectory.z[_drawable(trajectory.z)]).max(initial=0.0)
    zero = (np.abs(columns[_drawable(columns)]) <= NOTICEABLE * largest).all()
    what = f"{len(rest)} others" if len(rest) > 1 else symbol(rest[0])
    return f"{what} ({'≈ 0' if zero else 'constant'})"


def _check_scale(scale: str) -> None:
    if scale not in ("linear", "log"):
        raise unknown("axis scale", scale, ("linear", "log"))


def _time_axis(trajectory: Trajectory, ax: Axes, xscale: str) -> None:
    _check_scale(xscale)
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
    if not _HEAD.keys().isdisjoint(trajectory.coordinates):
        return "training time $t$ (step × learning rate / $D$)"
    return "training time $t$"


def _title(trajectory: Trajectory, who: str) -> str:
    """Who is shown and with which parameters."""
    values = [
        f"{key} = {value:g}" if isinstance(value, float) else f"{key} = {value}"
        for key, value in trajectory.parameters.items()
        if value is not None and key != "threshold"  # where events are drawn, not what was run
    ]
    # Spaces that do not break keep a name and its value on one line.
    values = [value.replace(" ", "\N{NO-BREAK SPACE}") for value in values]
    return f"{who}: {', '.join(values)}" if values else who


def _grid(rows, columns, title, gap=0.62, between=0.2, above=0.0, right=0.4):
    """A figure as wide as a paper's text, and its axes, shape (rows, columns).

    All in inches: `gap` between columns, `between` rows, `above` and `right` of the axes for
    labels.
    """
    from matplotlib.figure import Figure

    width, left, bottom, panel_height = (7.0 if columns > 1 else 4.5), 0.55, 0.42, 1.75
    lines = textwrap.wrap(title, width=int(17 * width), max_lines=2, placeholder=" …")
    top = 0.16 + 0.15 * len(lines) + above
    height = bottom + rows * panel_height + (rows - 1) * between + top
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": left / width,
            "right": 1 - right / width,
            "bottom": bottom / height,
            "top": 1 - top / height,
            "wspace": gap / ((width - left - right - (columns - 1) * gap) / columns),
            "hspace": between / panel_height,
        },
    )
    text = "\n".join(lines).replace("$", r"\$")
    figure.text(0.08 / width, 1 - 0.04 / height, text, ha="left", va="top", color=_INK)
    return figure, axes


def _finish(figure: Figure, axes, time_label: str) -> None:
    """The label of time, once for all; and ticks made now, while the project's style holds."""
    box = [axes[-1, 0].get_position().x0, axes[-1, -1].get_position().x1]
    figure.text(sum(box) / 2, 0.04 / figure.get_figheight(), time_label, ha="center", va="bottom")
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_ticklabels(which="both")


def _overlay(ax, reduced, full, names, moving, xscale) -> None:
    """One family of coordinates: `reduced` as lines, `full` as some thirty points a line."""
    styles = line_styles(reduced.coordinates)
    _time_axis(full, ax, xscale)
    t = _times(reduced, xscale)
    spaced = np.geomspace if xscale == "log" and _has_duration(full) else np.linspace
    low = ax.get_xlim()[0] if xscale == "log" else full.t[0]
    sample = np.unique(np.searchsorted(full.t, spaced(low, full.t_end, 32)).clip(0, len(full) - 1))
    for name in sorted(names, key=lambda name: name in moving):
        look = styles[name] if name in moving else _rest_style()
        _draw(ax, t, _values(reduced, name, t), "_", look)
        points = {"color": look["color"], "linestyle": "none", "marker": "o", "markersize": 3.0}
        values = np.where(_drawable(full[name]), full[name], np.nan)[sample]
        ax.plot(full.t[sample], values, label="_", markeredgewidth=0, clip_on=False, **points)
    named = [name for name in names if name in moving]
    _label_ends(ax, [(full[name], symbol(name), styles[name]["color"]) for name in named])


def _outside(ax, full, names, xscale) -> None:
    """What of the full model lies outside the reduced coordinates."""
    _time_axis(full, ax, xscale)
    for k, name in enumerate(names):
        look = {"color": _BRIGHT[k % len(_BRIGHT)], "linewidth": 1.0}
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
    room = int(2 * _size(ax)[1] / _LABEL_PITCH) - 2
    ends = [(trajectory[name], symbol(name), styles[name]["color"]) for name in names[:room]]
    if names[room:]:
        ends.append((trajectory[names[room]], f"{len(names[room:])} more", _REST_INK))
    rest = [name for name in trajectory.coordinates if name not in names]
    if rest:
        middle = sorted(rest, key=lambda name: trajectory[name][-1])[len(rest) // 2]
        ends.append((trajectory[middle], _rest_label(trajectory, rest), _REST_INK))
    _label_ends(ax, ends)


def _label_ends(ax: Axes, curves: list[tuple[np.ndarray, str, str]]) -> None:
    """Write the texts of (values, text, colour) to the right, where the values end."""
    low, high = ax.get_ylim()
    drawable = [(values[_drawable(values)], text, colour) for values, text, colour in curves]
    ends = sorted((values[-1], text, colour) for values, text, colour in drawable if values.size)
    if not ends:
        return
    _, height = _size(ax)
    wanted = height * (np.array([value for value, _, _ in ends]) - low) / (high - low)
    sizes = np.full(len(ends), _LABEL_PITCH)
    places = _spread(wanted, sizes, min(0.0, height - sizes.sum()), height)
    for (value, text, colour), want, place in zip(ends, wanted, places, strict=True):
        ax.annotate(
            text,
            xy=(1.0, value),
            xycoords=ax.get_yaxis_transform(),
            xytext=(10.0, place - want),
            textcoords="offset points",
            ha="left",
            va="center",
            fontsize=_LABEL_SIZE,
            color=colour,
            annotation_clip=False,
            arrowprops=_leader(colour, (0.0, 0.5)),
        )


def _leader(colour: str, foot: tuple[float, float]) -> dict:
    """A thin line from a label, beginning at its point `foot`, to what it names."""
    return {
        "arrowstyle": "-",
        "color": colour,
        "linewidth": 0.5,
        "shrinkA": 1.0,
        "shrinkB": 0.0,
        "relpos": foot,
    }


def _spread(wanted: np.ndarray, sizes: np.ndarray, low: float, high: float) -> np.ndarray:
    """Centres nearest to `wanted` (ascending) of labels of `sizes` that do not overlap.

    Touching labels form a block whose centre is the mean of what its members want (the pool
    adjacent violators of isotonic regression); blocks stay within [low, high] if they fit.
    """
    offsets = np.cumsum(sizes) - sizes / 2
    blocks: list[list[float]] = []  # [shift, number of members]
    for target in wanted - offsets:
        blocks.append([float(target), 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            shift, count = blocks.pop()
            below = blocks[-1]
            below[0] = (below[0] * below[1] + shift * count) / (below[1] + count)
            below[1] += count
    shifts = np.repeat([b[0] for b in blocks], [int(b[1]) for b in blocks])
    return np.clip(shifts, low, max(high - sizes.sum(), low)) + offsets


def _size(ax: Axes) -> tuple[float, float]:
    """Width and height of the axes, in points."""
    box = ax.get_window_extent()
    scale = 72.0 / ax.figure.dpi
    return box.width * scale, box.height * scale


def _event_sizes(texts: list[str], width: float) -> tuple[np.ndarray, bool]:
    """The room that labels of events take along the axis, and whether they have to be upright."""
    sizes = np.array([_text_width(text) + 4.0 for text in texts])
    upright = sizes.sum() > width
    return (np.full(len(texts), _LABEL_PITCH + 1.0) if upright else sizes), upright


def _text_width(text: str) -> float:
    """Width of a label, in points, measured without a canvas."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text, size=_LABEL_SIZE, prop=FontProperties()).get_extents().width
