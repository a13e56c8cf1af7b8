"""A figure for each theorem, from its tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from reduced_dynamics.families.wang.approximation.settings import Table
from reduced_dynamics.families.wang.approximation.shifts import ROUNDING
from reduced_dynamics.plotting.style import BRIGHT, REST_INK, finish, grid, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vPX<>"
#: Below this, errors are rounding and are not drawn.
SMALLEST = 1e-13
_REFERENCE = {"color": REST_INK, "linewidth": 0.8, "linestyle": (0, (4, 2))}


def figure(theorem: str, tables: list[Table]) -> Figure:
    """The figure of Theorem 3.1, 3.3 or 3.4.

    Parameters
    ----------
    theorem : {"3.1", "3.3", "3.4"}
    tables : list of Table
        All that its study returns.
    """
    named = {table.name: table for table in tables}
    draw, panels, above, title = _DRAWN[theorem]
    with style():
        found, axes = grid(1, panels, title, gap=0.7, right=0.12, above=above)
        _prepare(axes)
        draw(named, axes)
        finish(found, axes, "")
    return found


def all_theorems(tables: dict[str, list[Table]]) -> Figure:
    """The figures of all three theorems below each other.

    Parameters
    ----------
    tables : dict of {"3.1", "3.3", "3.4"} to list of Table
    """
    with style():
        title = "Theorems 3.1, 3.3 and 3.4: largest errors found (marks) and proved (dashed)"
        found, axes = grid(3, 3, title, gap=0.7, between=1.0, right=0.12, above=0.25)
        axes[0, 2].remove()
        _prepare(axes)
        for row, (theorem, (draw, panels, _, _)) in zip(axes, _DRAWN.items(), strict=True):
            draw({table.name: table for table in tables[theorem]}, row[None, :panels])
        finish(found, axes, "")
    return found


def _copying(tables: dict[str, Table], axes) -> None:
    over_p, over_L = tables["p"], tables["L"]
    for ax, table, name in ((axes[0, 0], over_p, "p"), (axes[0, 1], over_L, "L")):
        for k, kind in enumerate(table.values("kernel")):
            part = table.where(kernel=kind)
            x = part.column(name)
            _marks(ax, x, part.column("searched"), k, f"{kind} kernel")
            ax.plot(x, part.column("bound"), color=BRIGHT[k], linewidth=0.8, linestyle=(0, (4, 2)))
            if name == "p":
                ax.plot(x, part.column("rate"), color=BRIGHT[k], linewidth=0.8, linestyle=":")
    axes[0, 0].set_xlabel("slope $p$ (dotted: $e^{-p}$, $2^{-p}$)")
    axes[0, 1].set_xlabel(f"length $L$, at $p$ = {over_L.column('p')[0]:g}")
    axes[0, 1].set_xscale("log", base=2)
    axes[0, 0].set_ylabel(r"error of IH$_2$")
    axes[0, 0].legend(loc="lower left")
    axes[0, 1].set_ylim(bottom=over_L.column("searched").min() / 3)


def _heads(tables: dict[str, Table], axes) -> None:
    over_H, total, start = tables["H"], tables["total"], tables["start"]
    left, middle, right = axes[0]
    k = 0
    for n in [n for n in over_H.values("n") if n > 2]:
        bounds = over_H.values("bound")
        for bound in dict.fromkeys((bounds[0], bounds[-1])):
            part = over_H.where(n=n, bound=bound)
            H, errors = part.column("H"), part.column("error")
            label = f"$n$ = {n}, $B$ = {_power(bound)}"
            _marks(left, H[:-1], np.maximum(errors[:-1], ROUNDING), k, label)
            k += 1
    left.set_xlabel("heads $H$")
    left.xaxis.get_major_locator().set_params(integer=True)
    middle.xaxis.get_major_locator().set_params(integer=True)
    left.set_ylabel(r"error of the shifts, $\ell_1$")
    # One head copies one token exactly: n = 2 has no curve.
    for k, n in enumerate([n for n in total.values("n") if n > 2]):
        part = total.where(n=n)
        H = part.column("H")
        _marks(middle, H, part.column("searched"), k, f"$n$ = {n}")
        middle.plot(H, part.column("bound"), color=BRIGHT[k], linewidth=0.8, linestyle=(0, (4, 2)))
    middle.set_xlabel("heads $H$ (dashed: proved)")
    middle.set_ylabel(r"error of IH$_n$")
    S = start.column("S")
    for k, name in enumerate(start.columns[1:]):
        _marks(right, S, start.column(name), k, name)
    right.set_xscale("log", base=2)
    right.set_xlabel("tokens seen $S$")
    right.set_ylabel(r"error of the shifts over $S$")
    for ax in axes[0]:
        _key(ax)


def _features(tables: dict[str, Table], axes) -> None:
    rank, width, total = tables["rank"], tables["width"], tables["total"]
    left, middle, right = axes[0]
    names = rank.values("similarity")
    for k, name in enumerate(names):
        part = rank.where(similarity=name)
        _marks(left, part.column("rank"), part.column("error"), k, name)
    left.set_xlabel("rank $r$")
    left.set_ylabel("error of $g$")
    for k, (name, n) in enumerate(dict.fromkeys((row[0], row[1]) for row in width.rows)):
        part = width.where(similarity=name, n=n)
        label = name if n == 2 else f"{name}, $n$ = {n}"
        _marks(middle, part.column("width"), part.column("error"), k, label)
    M = np.array(width.values("width"), float)
    middle.plot(M, 0.3 * width.column("error").min() * (M[-1] / M) ** 2, **_REFERENCE,
                label="$M^{-2}$")  # fmt: skip
    middle.set_xscale("log", base=2)
    middle.set_xlabel("hidden units $M$")
    middle.set_ylabel(f"error of {int(width.column('rank').max())} features")
    widest = max(total.values("width"))
    for k, (name, n) in enumerate(dict.fromkeys((row[0], row[1]) for row in total.rows)):
        part = total.where(similarity=name, n=n, width=widest)
        label = name if n == 2 else f"{name}, $n$ = {n}"
        _marks(right, part.column("rank"), part.column("searched"), k, label)
    right.set_xlabel(f"rank $r$, at $M$ = {widest}")
    right.set_ylabel(r"error of GIH$_n$")
    for ax in axes[0]:
        _key(ax)


#: How each theorem is drawn: into how many panels, with how much room above, under which title.
_DRAWN = {
    "3.1": (
        _copying, 2, 0.1,
        "Theorem 3.1: one head a layer. Largest error found (marks) and proved (dashed)",
    ),
    "3.3": (_heads, 3, 0.42, "Theorem 3.3: H heads copy n − 1 tokens. Largest errors"),
    "3.4": (
        _features, 3, 0.42, "Theorem 3.4: a ReLU network writes the features of g. Largest errors"
    ),
}  # fmt: skip


def _prepare(axes) -> None:
    """Errors on logarithmic axes."""
    for ax in axes.flat:
        ax.set_yscale("log")
        ax.margins(x=0.04)


def _key(ax: Axes) -> None:
    """The legend above its panel, in two columns."""
    spacing = {"handlelength": 1.2, "labelspacing": 0.25, "columnspacing": 0.8}
    place = {"loc": "lower left", "bbox_to_anchor": (-0.12, 1.0), "borderaxespad": 0.2}
    ax.legend(ncols=2, fontsize=6.5, **spacing, **place)


def _marks(ax: Axes, x, y, k: int, label: str) -> None:
    y = np.where(np.asarray(y) > SMALLEST, y, np.nan)
    ax.plot(x, y, color=BRIGHT[k % len(BRIGHT)], marker=_MARKERS[k % len(_MARKERS)],
            markersize=3.0, linewidth=1.0, label=label)  # fmt: skip


def _power(value: float) -> str:
    exponent = math.log10(value)
    whole = exponent == round(exponent)
    return f"$10^{{{exponent:.0f}}}$" if whole else f"{value:g}"
