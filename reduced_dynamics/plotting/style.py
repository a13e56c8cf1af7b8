"""One style for every figure: colours, symbols, a grid of panels, labels that do not overlap.

The colours are Okabe and Ito's, which colour-blind readers can tell apart; α₃, β₂ and γ₃ have
the same ones in every figure. Nothing here touches pyplot's global state or needs a display.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.core.errors import unknown
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.io import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What `save_figure` can write, with the metadata that would make two equal figures differ.
_FORMATS = {".png": {}, ".pdf": {"CreationDate": None, "ModDate": None}, ".svg": {"Date": None}}

# STIX comes with matplotlib, so a figure looks the same on every machine.
_STYLE = {
    "font.family": "STIXGeneral", "mathtext.fontset": "stix", "font.size": 9.0,
    "axes.labelsize": 9.0, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "axes.formatter.use_mathtext": True,
    "axes.formatter.limits": (-3, 4), "xtick.labelsize": 8.0, "ytick.labelsize": 8.0,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4, "xtick.minor.size": 1.5, "ytick.minor.size": 1.5,
    "legend.fontsize": 8.0, "legend.frameon": False, "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round", "pdf.fonttype": 42, "svg.hashsalt": "reduced_dynamics",
    "hatch.linewidth": 0.4, "hatch.color": "#B0B0B0",
}  # fmt: skip

#: Size of labels and the room one of them takes across its text, in points.
LABEL_SIZE, LABEL_PITCH = 8.0, 9.0

#: The induction head: attention of layer 1 to the previous position, of layer 2 to the right
#: item, and the read-out of its label.
HEAD = {"alpha3": "#D55E00", "beta2": "#0072B2", "gamma3": "#009E73"}
BRIGHT = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MUTED = (
    "#882255", "#6699CC", "#999933", "#AA4499", "#332288", "#CC6677", "#A6761D", "#E69F00",
    "#555555",
)  # fmt: skip

#: The six scalars of the mixed target: colour and dash. w_Q and w_K often coincide, so one is
#: dashed.
MIXED_TARGET = {
    "p1": (BRIGHT[3], "-"),
    "p": (BRIGHT[1], "-"),
    "g": (BRIGHT[5], "-"),
    "w_Q": (BRIGHT[0], "-"),
    "w_K": ("#7A3500", (0, (1.5, 2.5))),
    "h": (BRIGHT[2], "-"),
}
REST, REST_INK, INK = "#B0B0B0", "#808080", "#404040"

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

    >>> symbol("alpha3"), symbol("w_Q"), symbol("T_gamma3"), symbol("t_icl"), symbol("w_star")
    ('$\\alpha_{3}$', '$w_{Q}$', '$T_{\\gamma_{3}}$', '$t_{\\mathrm{ICL}}$', '$w^{*}$')
    """
    found = re.fullmatch(r"([A-Za-z]+)(\d*)((?:_[A-Za-z0-9]+)*)", name)
    if not found or not _is_letter(found[1]):
        return name.replace("_", " ").replace("$", r"\$")
    parts = [p for p in (found[2], *found[3].split("_")) if p]
    if parts[-1:] == ["star"]:
        return f"{symbol(name.removesuffix('_star'))[:-1]}^{{*}}$"
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
        out and the coordinates beside them are thinner, dashed and muted; the mixed target has
        `MIXED_TARGET`; in other systems the first six stand out.
    """
    if {"w_Q", "w_K"} <= set(coordinates) <= set(MIXED_TARGET):
        looks = {name: MIXED_TARGET[name] for name in coordinates}
        return {
            name: {"color": colour, "linestyle": dash, "linewidth": 1.5}
            for name, (colour, dash) in looks.items()
        }
    leading = [name for name in coordinates if name in HEAD]
    colours = dict(HEAD) if leading else dict(zip(coordinates, BRIGHT, strict=False))
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


def subset_colours(labels: Sequence[str]) -> dict[str, str]:
    """The colour of every subset of heads (``"empty"``, ``"1"``, ``"12"``, …), in every figure.

    Parameters
    ----------
    labels : sequence of str
        All subsets, in the system's order.
    """
    return {label: BRIGHT[k] if k < len(BRIGHT) else "#555555" for k, label in enumerate(labels)}


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


def check_scale(scale: str) -> None:
    if scale not in ("linear", "log"):
        raise unknown("axis scale", scale, ("linear", "log"))


def heading(trajectory: Trajectory, who: str) -> str:
    """Who is shown and with which parameters."""
    values = [
        f"{key} = {value:g}" if isinstance(value, float) else f"{key} = {value}"
        for key, value in trajectory.parameters.items()
        if value is not None and key != "threshold"  # where events are drawn, not what was run
    ]
    # Spaces that do not break keep a name and its value on one line.
    values = [value.replace(" ", "\N{NO-BREAK SPACE}") for value in values]
    return f"{who}: {', '.join(values)}" if values else who


def grid(rows, columns, title, gap=0.62, between=0.2, above=0.0, right=0.4):
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
    figure.text(0.08 / width, 1 - 0.04 / height, text, ha="left", va="top", color=INK)
    return figure, axes


def finish(figure: Figure, axes, time_label: str) -> None:
    """The label of time, once for all; and ticks made now, while the project's style holds."""
    box = [axes[-1, 0].get_position().x0, axes[-1, -1].get_position().x1]
    figure.text(sum(box) / 2, 0.04 / figure.get_figheight(), time_label, ha="center", va="bottom")
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            log_ticks(axis)
            axis.get_ticklabels(which="both")


def log_ticks(axis) -> None:
    """Enough labelled ticks on a logarithmic axis that spans less than two powers of ten.

    matplotlib labels powers of ten, of which there may be one or none in view. Axes whose ticks
    were placed by hand stay as they are.

    Parameters
    ----------
    axis : matplotlib.axis.Axis
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    locator = axis.get_major_locator()
    if axis.get_scale() != "log" or not isinstance(locator, LogLocator):
        return
    low, high = sorted(axis.get_view_interval())
    if not 0.0 < low < high:
        return
    if np.count_nonzero((low <= locator()) & (locator() <= high)) >= 3:
        return
    for parts in ((1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        axis.set_major_locator(LogLocator(subs=parts, numticks=12))
        ticks = axis.get_major_locator()()
        if np.count_nonzero((low <= ticks) & (ticks <= high)) >= 3:
            break
    else:
        # Not even half a power of ten: even steps are as good as logarithmic ones.
        from matplotlib.ticker import MaxNLocator

        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(_plain_or_power))
    axis.set_minor_formatter(NullFormatter())


def _plain_or_power(value: float, _place=None) -> str:
    """200 as it is, and 2·10⁵ with its power of ten."""
    if value <= 0.0:
        return ""
    if 1e-2 <= value < 1e4:
        return f"{value:.6g}"
    exponent = int(np.floor(np.log10(value) + 1e-12))
    digits = f"{value / 10.0**exponent:.4g}"
    return f"$10^{{{exponent}}}$" if digits == "1" else rf"${digits}{{\cdot}}10^{{{exponent}}}$"


def label_ends(ax: Axes, curves: list[tuple[np.ndarray, str, str]]) -> None:
    """Write the texts of (values, text, colour) to the right, where the values end."""
    low, high = ax.get_ylim()
    shown = [(values[drawable(values)], text, colour) for values, text, colour in curves]
    ends = sorted((values[-1], text, colour) for values, text, colour in shown if values.size)
    if not ends:
        return
    _, height = axes_size(ax)
    wanted = height * (np.array([value for value, _, _ in ends]) - low) / (high - low)
    sizes = np.full(len(ends), LABEL_PITCH)
    places = spread(wanted, sizes, min(0.0, height - sizes.sum()), height)
    for (value, text, colour), want, place in zip(ends, wanted, places, strict=True):
        at, offset = ax.get_yaxis_transform(), (10.0, place - want)
        label(ax, text, (1.0, value), at, offset, colour, (0.0, 0.5), ha="left", va="center")


def key_above(ax: Axes, colours: Mapping[float, Any], title: str, left: float) -> None:
    """Values and the colours of their lines, above the axes, from `left` (1: the axes' width)."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour) for colour in colours.values()]
    spacing = {"borderaxespad": 0.3, "handlelength": 1.2, "columnspacing": 1.2}
    ax.legend(
        lines, [f"{value:g}" for value in colours], title=title, title_fontsize=8.0,
        loc="lower left", bbox_to_anchor=(left, 1.0), ncols=len(colours), alignment="left",
        **spacing,
    )  # fmt: skip


def label(ax: Axes, text: str, xy, coordinates, offset, colour: str, foot, **look) -> None:
    """A text `offset` points from `xy`, and a thin line there from its own point `foot`."""
    line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 1.0, "shrinkB": 0.0}
    ax.annotate(
        text, xy=xy, xycoords=coordinates, xytext=offset, textcoords="offset points",
        fontsize=LABEL_SIZE, color=colour, annotation_clip=False,
        arrowprops={**line, "relpos": foot}, **look,
    )  # fmt: skip


def spread(wanted: np.ndarray, sizes: np.ndarray, low: float, high: float) -> np.ndarray:
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


def axes_size(ax: Axes) -> tuple[float, float]:
    """Width and height of the axes, in points."""
    box = ax.get_window_extent()
    scale = 72.0 / ax.figure.dpi
    return box.width * scale, box.height * scale


def text_width(text: str) -> float:
    """Width of a label, in points, measured without a canvas."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text, size=LABEL_SIZE, prop=FontProperties()).get_extents().width


def drawable(values: np.ndarray) -> np.ndarray:
    """Where values are finite and of a size whose differences matplotlib can compute with."""
    return np.abs(values) < 1e100
