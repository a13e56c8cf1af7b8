"""What `chen` selects and copies: p of every subset, the heads' attention as maps, and a."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.chen.population import log10_p
from reduced_dynamics.plotting.style import (
    INK,
    finish,
    grid,
    label_ends,
    style,
    subset_colours,
)

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

    Parameters
    ----------
    trajectory : Trajectory
        Of `chen`, reduced or full, with observables ``p_…``.
    """
    with style():
        values = {k: trajectory.parameters[k] for k in _SHOWN if k in trajectory.parameters}
        title = f"{trajectory.system}: " + ", ".join(f"{k} = {v}" for k, v in values.items())
        figure, axes = grid(2, 2, title, gap=1.0, between=0.55, above=0.2, right=0.25)
        (ax_p, ax_start), (ax_a, ax_end) = axes
        keep = trajectory.t > 0
        t = trajectory.t[keep]
        _selector(trajectory, ax_p, t, keep)
        ax_a.plot(t, trajectory["a"][keep], color=INK)
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


def _selector(trajectory: Trajectory, ax: Axes, t: np.ndarray, keep: np.ndarray) -> None:
    names = [n for n in trajectory.observables if n.startswith("p_") and n != "p_top"]
    logs = log10_p(np.array([trajectory[n.replace("p_", "c_", 1)] for n in names]).T)
    order = np.argsort(-logs[-1])
    curves = []
    colours = subset_colours([name.removeprefix("p_") for name in names])
    for k, column in enumerate(order):
        name, shown = names[column], logs[keep, column]
        if k >= _NAMED:
            ax.plot(t, shown, color=_OTHERS, linewidth=0.6, zorder=1)
            continue
        subset = name.removeprefix("p_")
        colour = colours[subset]
        ax.plot(t, shown, color=colour)
        curves.append((np.maximum(shown, _LOWEST), subset_text(subset), colour))
    if (others := len(order) - _NAMED) > 0:
        curves.append((np.array([_LOWEST]), f"{others} others", _OTHERS))
    ax.set_ylim(_LOWEST, 3.0)
    ax.set_ylabel(r"$\log_{10} p$")
    label_ends(ax, curves)


def subset_text(label: str) -> str:
    """A subset of heads in a figure: ``"12"`` as {1,2}."""
    return r"$\emptyset$" if label == "empty" else "{" + ",".join(label) + "}"


def draw_scalar(ax: Axes, name: str, curves: Curves, points: Sequence[tuple[float, float]]) -> None:
    """A scalar along trajectories, from their second row on, and points beside them."""
    for trajectory, look in curves:
        ax.plot(trajectory.t[1:], trajectory[name][1:], **look)
    _draw_points(ax, points, "black")


def draw_subsets(
    ax: Axes,
    labels: Sequence[str],
    curves: Curves,
    points: Mapping[str, Sequence[tuple[float, float]]],
) -> None:
    """log10 p of every subset along trajectories, named where the first of these end."""
    ends = []
    for k, (label, colour) in enumerate(subset_colours(labels).items()):
        shown = [log10_p(one.z[:, : len(labels)])[1:, k] for one, _ in curves]
        for (one, look), values in zip(curves, shown, strict=True):
            ax.plot(one.t[1:], values, **{**look, "color": colour})
        _draw_points(ax, points[label], colour)
        ends.append((np.maximum(shown[0], _LOWEST), subset_text(label), colour))
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
