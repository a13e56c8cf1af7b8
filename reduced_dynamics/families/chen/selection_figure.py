"""What `chen` selects and copies: p of every subset, the heads' attention as maps, and a."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.chen.population import log10_p
from reduced_dynamics.plotting.style import INK, finish, grid, label_ends, style, subset_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Trajectories, reduced or full, each with how its lines are drawn.
Curves = Sequence[tuple[Trajectory, Mapping[str, Any]]]
#: The lowest log10 p that is drawn; curves leave through it.
_LOWEST = -95.0
#: So many subsets are named, those with the largest p at the end.
_NAMED = 8
_OTHERS = "#909090"
#: Parameters that a figure's title names.
_SHOWN = ("S", "n", "H", "degree", "dirichlet", "loss", "limit", "kernels", "training")


def copied(trajectory: Trajectory, row: int) -> np.ndarray:
    """Every head's attention on its lags at the recorded time `row`, shape (H, H)."""
    H = trajectory.parameters["H"]
    logits = [[trajectory[f"W_{h}_{j}"][row] for j in range(H)] for h in range(1, H + 1)]
    weights = np.exp(np.array(logits) - np.max(logits, axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def selection_figure(trajectory: Trajectory) -> Figure:
    """p of every subset and a against logarithmic time, the heads' attention at start and end.

    Of a trajectory of `chen`, reduced or full, with observables ``p_…``.
    """
    with style():
        values = {k: trajectory.parameters[k] for k in _SHOWN if k in trajectory.parameters}
        title = f"{trajectory.system}: " + ", ".join(f"{k} = {v}" for k, v in values.items())
        figure, axes = grid(2, 2, title, gap=1.0, between=0.55, above=0.2, right=0.25)
        (ax_p, ax_start), (ax_a, ax_end) = axes
        t = trajectory.t[1:]
        names = [n for n in trajectory.observables if n.startswith("p_") and n != "p_top"]
        draw_subsets(ax_p, [n.removeprefix("p_") for n in names], [(trajectory, {})])
        draw_scalar(ax_a, "a", [(trajectory, {"color": INK})])
        ax_a.set_ylabel("$a$")
        for ax in (ax_p, ax_a):
            ax.set_xscale("log")
            if len(t):
                ax.set_xlim(_begin(trajectory, t), t[-1])
            selected = trajectory.events.get("T_selected")
            if selected:
                ax.axvline(selected, color=INK, linewidth=0.7, linestyle=(0, (1, 2)))
        draw_heads(ax_start, copied(trajectory, 0), "heads at the start")
        draw_heads(ax_end, copied(trajectory, -1), f"heads at $t$ = {trajectory.t_end:g}")
        ax_end.set_xlabel("lag")
        finish(figure, axes[:, :1], "training time $t$ = step × learning rate")
    return figure


def _begin(trajectory: Trajectory, t: np.ndarray) -> float:
    """Shortly before anything is selected."""
    selected = trajectory.events.get("T_selected") or t[-1]
    return float(max(t[0], selected / 100, t[-1] * 1e-9)) if t[0] < t[-1] else t[0] / 2


def subset_text(label: str) -> str:
    """A subset of heads in a figure: ``"12"`` as {1,2}."""
    return r"$\emptyset$" if label == "empty" else "{" + ",".join(label) + "}"


def draw_scalar(
    ax: Axes, name: str, curves: Curves, points: Sequence[tuple[float, float]] = ()
) -> None:
    """A scalar along trajectories, from their second row on, and points beside them."""
    for trajectory, look in curves:
        ax.plot(trajectory.t[1:], trajectory[name][1:], **look)
    _draw_points(ax, points, "black")


def draw_subsets(
    ax: Axes,
    labels: Sequence[str],
    curves: Curves,
    points: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> None:
    """log10 p of every subset along trajectories; the largest are named where the first ends."""
    logs = [log10_p(one.z[:, : len(labels)]) for one, _ in curves]
    colours, ends = subset_colours(labels), []
    for k, column in enumerate(np.argsort(-logs[0][-1])):
        label = labels[column]
        colour, faint = colours[label], {}
        if k >= _NAMED:
            colour, faint = _OTHERS, {"linewidth": 0.6, "zorder": 1}
        else:
            values = np.maximum(logs[0][1:, column], _LOWEST)
            ends.append((values, subset_text(label), colour))
        for (one, look), each in zip(curves, logs, strict=True):
            ax.plot(one.t[1:], each[1:, column], **{**look, "color": colour, **faint})
        _draw_points(ax, points[label] if points else (), colour)
    if (others := len(labels) - _NAMED) > 0:
        ends.append((np.array([_LOWEST]), f"{others} others", _OTHERS))
    ax.set_ylim(_LOWEST, 4.0)
    ax.set_ylabel(r"$\log_{10} p$ of a subset")
    label_ends(ax, ends)


def _draw_points(ax: Axes, points: Sequence[tuple[float, float]], colour: str) -> None:
    if points:
        look = {"marker": "o", "markersize": 3.2, "linestyle": "none", "label": "recorded run"}
        ax.plot(*zip(*points, strict=True), color=colour, clip_on=False, zorder=4, **look)


def draw_heads(ax: Axes, weights: np.ndarray, title: str) -> None:
    """Attention of every head (row) over its lags (columns), each square with its number."""
    H = len(weights)
    lags = np.full((H, 2 * H - 1), np.nan)
    for h in range(H):
        lags[h, h : h + H] = weights[h]
    ax.imshow(lags, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for h in range(H):
        for j in range(H):
            colour = "white" if weights[h, j] > 0.6 else INK
            ax.text(
                h + j, h, f"{weights[h, j]:.2f}", ha="center", va="center", fontsize=7, color=colour
            )
    ax.set_xticks(range(2 * H - 1), [str(k) for k in range(1, 2 * H)])
    ax.set_yticks(range(H), [str(h) for h in range(1, H + 1)])
    ax.set_ylabel("head")
    ax.set_title(title, fontsize=9)
