"""Figures of the studies of `chen`: criterion, orders of stages, step of descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.plotting.style import BRIGHT, INK, finish, grid, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

#: Loss: colour; start of W: marker, by its place among the starts.
_COLOURS = {"ce": BRIGHT[0], "log": BRIGHT[1]}
_MARKERS = "osD^v"


def criterion_figure(rows: Rows) -> Figure:
    """The criterion's lead over the second subset in every setting; a cross where it was wrong.

    Left with the copier's actual weights, right with saturated ones.
    """
    with style():
        title = "chen: does the criterion predict the subset that wins?"
        figure, axes = grid(1, 2, title, gap=0.75, above=0.25, right=0.15)
        starts = sorted({row["w_plus"] for row in rows}, reverse=True)
        for ax, prefix, name in (
            (axes[0, 0], "", "with the copier's weights"),
            (axes[0, 1], "saturated_", "with saturated heads"),
        ):
            for row in rows:
                right = row[f"{prefix}right"]
                place = starts.index(row["w_plus"])
                colour = _COLOURS[row["loss"]]
                # Losses and starts side by side.
                x = row["dirichlet"] * 1.12 ** (2 * place + (row["loss"] == "log") - 1.5)
                ax.plot(
                    x,
                    row[f"{prefix}gap"],
                    marker=_MARKERS[place % len(_MARKERS)] if right else "x",
                    color=colour,
                    markersize=4.0 if right else 6.0,
                    linestyle="none",
                )
            wrong = sum(not row[f"{prefix}right"] for row in rows)
            ax.set_title(f"{name}: {len(rows) - wrong} of {len(rows)} right", fontsize=9)
            ax.set_xscale("log")
            ax.set_ylim(0.0, 1.15 * max(row[g] for row in rows for g in ("gap", "saturated_gap")))
        axes[0, 0].set_ylabel("lead of the predicted subset")
        _key(axes[0, 0], starts)
        finish(figure, axes, "")
        for ax in axes[0]:
            ax.set_xlabel(r"Dirichlet parameter $\delta$")
    return figure


def _key(ax: Axes, starts: Sequence[float]) -> None:
    look = {"linestyle": "none", "markersize": 4.0}
    for loss, colour in _COLOURS.items():
        ax.plot([], [], marker="o", color=colour, label=f"loss {loss}", **look)
    for k, start in enumerate(starts):
        marker = _MARKERS[k % len(_MARKERS)]
        ax.plot([], [], marker=marker, color=INK, label=f"$w_+$ = {start:g}", **look)
    ax.plot([], [], marker="x", color=INK, label="wrong", **look)
    ax.legend(loc="lower right", fontsize=7, handletextpad=0.2)


def stages_figure(rows: Rows) -> Figure:
    """Every order's T_selected, a, attention on the first lag and loss at the end, line by line."""
    shown = (
        ("T_selected", r"$T_\mathrm{selected}$"),
        ("a", "$a$ at the end"),
        ("copier", "least attention on first lags"),
        ("loss", "loss at the end"),
    )
    with style():
        title = "chen: joint training and every order of stages"
        figure, axes = grid(1, len(shown), title, gap=0.35, right=0.15)
        places = np.arange(len(rows))[::-1]
        for ax, (key, _) in zip(axes[0], shown, strict=True):
            values = [np.nan if row[key] is None else row[key] for row in rows]
            ax.plot(values, places, marker="o", color=BRIGHT[0], markersize=4.5, linestyle="none")
            ax.set_ylim(-0.6, len(rows) - 0.4)
            ax.set_yticks(places, [])
            ax.grid(axis="y", linewidth=0.4)
            if key == "T_selected":
                ax.set_xscale("log")
        axes[0, 0].set_yticks(places, [_named(row) for row in rows])
        finish(figure, axes, "")
        for ax, (_, name) in zip(axes[0], shown, strict=True):
            ax.set_xlabel(name)
    return figure


def _named(row: Mapping[str, Any]) -> str:
    won = row["winner"]
    return f"{row['training']}: {'none' if won is None else '{' + ','.join(won) + '}'}"


def step_figure(rows: Rows) -> Figure:
    """How far descent is from the flow against its step, beside first order."""
    with style():
        title = "chen: gradient descent against the flow at the same time"
        figure, axes = grid(1, 1, title, right=1.2)
        ax, ends = axes[0, 0], []
        steps = np.array([row["step"] for row in rows])
        for key, label, colour in (
            ("selector_error", r"$\log c^2$", BRIGHT[0]),
            ("error", "$a$ and $W$", BRIGHT[1]),
            ("growth", r"growth of $\log \Sigma c^2$", BRIGHT[2]),
        ):
            values = np.array([row[key] for row in rows])
            ax.plot(steps, values, marker="o", markersize=3.5, color=colour)
            ends.append((float(values[steps.argmax()]), label, colour))
        first = rows[0]["selector_error"] * steps / steps[0]
        ax.plot(steps, first, color=INK, linewidth=0.6, linestyle=(0, (4, 2)))
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(steps, [f"{step:.3g}" for step in steps])
        ax.set_xticks([], minor=True)
        ax.set_ylabel("largest difference")
        for value, label, colour in ends:
            ax.annotate(
                label,
                (steps.max(), value),
                (8.0, 0.0),
                textcoords="offset points",
                va="center",
                color=colour,
                fontsize=8,
            )
        finish(figure, axes, "step (dashed: first order)")
    return figure


FIGURES = {"criterion": criterion_figure, "stages": stages_figure, "step": step_figure}
