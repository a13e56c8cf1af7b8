"""Figures of a sweep: scaling laws with their residuals, and maps of regimes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reduced_dynamics.plotting.style import BRIGHT, HEAD, INK, REST, finish, grid, style, symbol
from reduced_dynamics.sweeping.laws import Law
from reduced_dynamics.sweeping.regimes import ORDER, Regimes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def laws_figure(found: Sequence[Law], title: str) -> Figure:
    """Points and fitted laws; what the fits leave; local exponents; y over its simple power.

    Parameters
    ----------
    found : sequence of Law
        Over the same parameter.
    title : str
    """
    with style():
        figure, axes = grid(2, 2, title, gap=0.8, between=0.28, right=1.35)
        colours = _colours(found)
        for law, colour in zip(found, colours, strict=True):
            fitted = np.exp(law.fit.intercept) * law.x**law.fit.slope
            axes[0, 0].plot(law.x, fitted, color=colour, linewidth=0.8)
            axes[0, 0].plot(law.x, law.y, "o", color=colour, markersize=3, label=_label(law))
            axes[0, 1].plot(law.middle, law.fit.local, "o-", color=colour, markersize=3)
            if law.exponent.known:
                axes[0, 1].axhline(law.exponent.value, color=colour, linewidth=0.7, ls=(0, (4, 3)))
            axes[1, 0].plot(law.x, law.residual, "o-", color=colour, markersize=3, linewidth=0.8)
            if law.ratio is not None:
                part = law.ratio / (law.prefactor.value if law.prefactor.known else law.ratio[-1])
                axes[1, 1].plot(law.x, part, "o-", color=colour, markersize=3)
        for ax in axes.flat:
            ax.set_xscale("log")
            ax.set_xlim(min(law.x[0] for law in found) / 1.2, max(law.x[-1] for law in found) * 1.2)
        axes[0, 0].set_yscale("log")
        axes[0, 0].set_ylabel("result, and power laws")
        axes[0, 1].set_ylabel("local exponent")
        axes[1, 0].axhline(0.0, color=INK, linewidth=0.6)
        axes[1, 0].set_ylabel("log of result / law")
        axes[1, 1].axhline(1.0, color=INK, linewidth=0.6)
        axes[1, 1].set_ylabel("prefactor / its limit")
        if not axes[1, 1].lines[1:]:
            axes[1, 1].text(0.5, 0.5, "no simple exponent", ha="center", color=REST,
                            transform=axes[1, 1].transAxes)  # fmt: skip
        for ax in axes[0]:
            ax.tick_params(labelbottom=False)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        axes[0, 1].legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1.0))
        finish(figure, axes, symbol(found[0].over))
    return figure


def _colours(found: Sequence[Law]) -> list[str]:
    """The induction head's own colours where the laws are of its coordinates."""
    named = [HEAD.get(re.sub("^T_", "", law.of)) for law in found]
    if len({law.of for law in found}) < len(found):
        return [BRIGHT[k % len(BRIGHT)] for k in range(len(found))]
    spare = iter([c for c in (*BRIGHT, INK, REST) if c not in named] * len(found))
    return [own or next(spare) for own in named]


def _label(law: Law) -> str:
    at = ", ".join(f"{symbol(k)} = {_short(v)}" for k, v in law.at.items())
    return f"{symbol(law.of)}{': ' if at else ''}{at}"


def _short(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def regimes_figure(found: Regimes) -> Figure:
    """A heat map with contours of a number, or coloured regions of equal order."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(4.8, 3.6), layout="constrained")
        ax = figure.subplots()
        for which, scale in zip("xy", found.scales, strict=True):
            getattr(ax, f"set_{which}scale")(scale)
        ordered = found.of == ORDER
        (_draw_orders if ordered else _draw_number)(found, figure, ax)
        ax.set_xlabel(symbol(found.names[0]))
        ax.set_ylabel(symbol(found.names[1]))
        at = ", ".join(f"{symbol(k)} = {_short(v)}" for k, v in found.at.items())
        what = "order of events" if ordered else symbol(found.of)
        ax.set_title(f"{what}{': ' if at else ''}{at}", loc="left", fontsize=9, color=INK)
        ax.spines[["top", "right"]].set_visible(True)
    return figure


def _draw_number(found: Regimes, figure, ax) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.ticker import LogLocator, MaxNLocator

    known = found.values[np.isfinite(found.values)]
    spread = len(known) and known.min() > 0 and known.max() > 30 * known.min()
    norm = LogNorm() if spread else None
    ax.set_facecolor("#DDDDDD")  # where it was not reached
    if found.sampled:
        image = ax.scatter(found.x, found.y, c=found.values, s=6, norm=norm, cmap="cividis", lw=0)
    else:
        image = ax.pcolormesh(*_edges(found), found.values, norm=norm, cmap="cividis")
        image.set_edgecolor("face")
        shape = found.values.shape
        if len(known) > 1 and min(shape) > 1 and known.min() < known.max():
            locator = LogLocator(subs=(1.0, 2.0, 5.0), numticks=12) if norm else MaxNLocator(8)
            levels = [v for v in locator.tick_values(known.min(), known.max())
                      if known.min() < v < known.max()]  # fmt: skip
            lines = ax.contour(
                found.x, found.y, found.values, levels=levels, colors="white", linewidths=0.8
            )
            labels = ax.clabel(lines, fmt=_plain, fontsize=7)
            for drawn in (lines, *labels):  # white is not seen on the brightest cells
                drawn.set_path_effects([Stroke(linewidth=2.0, foreground=INK), Normal()])
    _draw_failed(found, ax)
    said = ["grey: not reached"] if len(known) + found.failed.sum() < found.values.size else []
    if found.failed.any():
        said.append(f"{'crosses' if found.sampled else 'white'}: {_failed(found)}")
    bar = figure.colorbar(image, ax=ax)
    bar.set_label(symbol(found.of) + (f" ({'; '.join(said)})" if said else ""))


def _edges(found: Regimes) -> tuple[np.ndarray, np.ndarray]:
    """Where cells meet: half-way between points, as the axis measures."""
    return tuple(
        _between(points, scale)
        for points, scale in zip((found.x, found.y), found.scales, strict=True)
    )


def _between(points: np.ndarray, scale: str) -> np.ndarray:
    points = np.asarray(points, dtype=float)
    if scale == "log":
        return np.exp(_between(np.log(points), "linear"))
    if len(points) == 1:
        half = 0.5 * (abs(points[0]) or 1.0)
        return np.array([points[0] - half, points[0] + half])
    half = 0.5 * np.diff(points)
    first, last = points[0] - half[0], points[-1] + half[-1]
    return np.concatenate([[first], points[:-1] + half, [last]])


def _plain(value: float) -> str:
    """A contour's number, without the e of 1e+03."""
    if 1.0 <= abs(value) < 1e5 and value == round(value):
        return f"{value:.0f}"
    digits, _, power = f"{value:.3g}".partition("e")
    return rf"${digits}\cdot 10^{{{int(power)}}}$" if power else digits


def _draw_failed(found: Regimes, ax) -> None:
    """White cells, or crosses, where points have no result because they failed."""
    from matplotlib.colors import ListedColormap

    if not found.failed.any():
        return
    if found.sampled:
        x, y = found.x[found.failed], found.y[found.failed]
        ax.scatter(x, y, s=12, marker="x", color=INK, lw=0.7)
        return
    failed = np.ma.masked_where(~found.failed, np.zeros(found.failed.shape))
    cells = ax.pcolormesh(*_edges(found), failed, cmap=ListedColormap(["white"]))
    cells.set_edgecolor("face")


def _failed(found: Regimes) -> str:
    return " or ".join(found.incomplete)


def _draw_orders(found: Regimes, figure, ax) -> None:
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    # The rarest orders share one colour: nobody tells more than eight apart.
    most = len(BRIGHT)
    shown = np.minimum(found.values, most)
    colours = ["white", *(BRIGHT[k] for k in range(most)), REST]
    norm = BoundaryNorm(np.arange(-1.5, most + 1.5), len(colours))
    cmap = ListedColormap(colours)
    if found.sampled:
        ax.scatter(found.x, found.y, c=shown, s=6, norm=norm, cmap=cmap, lw=0)
    else:
        image = ax.pcolormesh(*_edges(found), shown, norm=norm, cmap=cmap)
        image.set_edgecolor("face")
    total = found.values.size
    handles: list = [
        Patch(color=BRIGHT[k], label=f"{_pretty(text)} ({count / total:.0%})")
        for k, (text, count) in enumerate(zip(found.orders, found.counts, strict=True))
        if k < most
    ]
    if len(found.orders) > most:
        handles.append(Patch(color=REST, label=f"{len(found.orders) - most} rarer orders"))
    _draw_failed(found, ax)
    if found.failed.any():
        label = f"{_failed(found)} ({found.failed.sum() / total:.0%})"
        cross = Line2D([], [], color=INK, marker="x", markersize=4, linestyle="", label=label)
        cell = Patch(facecolor="white", edgecolor=INK, label=label)
        handles.append(cross if found.sampled else cell)
    figure.legend(handles=handles, loc="outside lower left", fontsize=7)


def _pretty(text: str) -> str:
    return re.sub(r"\b[Tt]_\w+", lambda match: symbol(match[0]), text)
