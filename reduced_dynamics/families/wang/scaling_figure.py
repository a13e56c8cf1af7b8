"""The figure of emergence times over parameters: points, fitted laws, predicted slopes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.families.wang.emergence_scaling import Scaling
from reduced_dynamics.plotting.style import BRIGHT, INK, finish, grid, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = {
    "L": "$L$",
    "alpha_star": r"$1 + \alpha^*$",
    "w_star": "$w^*$",
    "sigma_init": r"$\log(1/\sigma_{\mathrm{init}})$",
}


def scaling_figure(found: Mapping[str, Scaling], values: Mapping[str, Any]) -> Figure:
    """A panel for every parameter: T_half, its fit (solid) and the predicted slope (dashed).

    Parameters
    ----------
    found : mapping of str to Scaling
    values : mapping
        The parameters that are not varied.
    """
    fixed = ", ".join(f"{k} = {v}" for k, v in values.items())
    with style():
        rows = -(-len(found) // 2)
        figure, axes = grid(
            rows, 2, f"T_half in wang: {fixed}", gap=0.7, between=0.75, right=0.1, above=0.22
        )
        for ax in axes.flat[len(found) :]:
            ax.remove()
        for ax, scaling in zip(axes.flat, found.values(), strict=False):
            _panel(ax, scaling)
        for ax in axes[:, 0]:
            ax.set_ylabel(r"$T_{\mathrm{half}}$ (training time)")
        finish(figure, axes, "")
    return figure


def _panel(ax, scaling: Scaling) -> None:
    law, fit, alone = scaling.law, scaling.fit, scaling.predicted
    x = np.array([law.abscissa(v) for v in scaling.values])
    if law.parameter == "sigma_init":
        fitted = fit.intercept + fit.slope * x
        predicted = scaling.times.mean() + alone.slope * (x - x.mean())
        text = f"slope {fit.slope:.1f}, predicted {alone.slope:.1f}"
    else:
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(x, [f"{v:g}" for v in x], minor=False)
        ax.minorticks_off()
        fitted = np.exp(fit.intercept) * x**fit.slope
        middle = np.exp(np.log(x).mean()), np.exp(np.log(scaling.times).mean())
        predicted = middle[1] * (x / middle[0]) ** alone.slope
        text = f"exponent {fit.slope:.2f}, predicted {alone.slope:.2f}"
    ax.plot(x, fitted, color=BRIGHT[0])
    ax.plot(x, predicted, color=BRIGHT[1], linestyle=(0, (4, 1.5)), linewidth=1.2)
    ax.plot(x, scaling.times, "o", color=INK, markersize=4, zorder=3)
    ax.set_title(text, fontsize=8.0, color=INK)
    ax.set_xlabel(_LABELS[law.parameter])
