"""A study: a full model over the values of one setting, several seeds each, and how errors scale.

An experiment that is a study says how one comparison is made (its `work`, ending in `outcome`) and
what follows from the numbers (its `judge`); parts, points, power laws and figure are the `Study`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.core.fits import power_law
from reduced_dynamics.experiments.comparison import Comparison, rms
from reduced_dynamics.experiments.experiment import Conclusion
from reduced_dynamics.experiments.setting import Settings
from reduced_dynamics.plotting.style import finish, grid, key_above, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reduced_dynamics.experiments.result import Result


@dataclass(frozen=True)
class Quantity:
    """A number of every run that is drawn against the setting.

    Attributes
    ----------
    name : str
    meaning : str
        As the figure's key has it.
    colour, marker : str
    fitted : bool
        Whether a power law is fitted to it.
    pooled : bool
        Whether it goes through the root mean squares over the seeds instead of every run: where
        all seeds are alike or belong together, as distances from their mean do.
    """

    name: str
    meaning: str
    colour: str
    marker: str
    fitted: bool = True
    pooled: bool = False


@dataclass(frozen=True)
class Curve:
    """A scalar over training that is drawn for every value; `log` says how."""

    name: str
    meaning: str
    log: bool = False


@dataclass(frozen=True)
class Study:
    """What a study varies, and what it draws.

    Attributes
    ----------
    option : str
        The setting with the values, beside the setting `seeds`.
    axis, symbol : str
        Its name on the axis, and its symbol in TeX without dollars.
    quantities : tuple of Quantity
    curves : tuple of two Curve
    title : str
        Of the figure.
    pooled : bool
        Whether all quantities are: an error of one draw is as often near 0 as at its typical size,
        and a fit to logarithms of such would follow the near misses.
    height : str
        What the quantities are, beside their axis.
    floor : tuple of str
        A quantity whose mean is drawn as a line, and its name; empty for none.
    """

    option: str
    axis: str
    symbol: str
    quantities: tuple[Quantity, ...]
    curves: tuple[Curve, Curve]
    title: str
    pooled: bool = False
    height: str = "root mean square over time"
    floor: tuple[str, str] | tuple[()] = ()

    def parts(self, settings: Settings) -> dict[str, list]:
        """Value and seed of every run."""
        return {
            f"{self.option}{value:g}-seed{seed}": [value, seed]
            for value in settings[self.option]
            for seed in settings.seeds
        }

    def conclude(self, settings: Settings, outcomes: Mapping[str, Any]) -> Conclusion:
        """Points, their means over the seeds, and power laws.

        Numbers: ``values`` and ``seeds`` (how many), ``means`` (quantity: one number a value),
        ``laws`` (quantity: exponent, error, interval, factor; None where nothing can be fitted),
        ``parameters``. Data: every quantity by run, every curve by value and time.
        """
        runs = list(zip(self.parts(settings).values(), outcomes.values(), strict=True))
        values = np.array(sorted(settings[self.option]), dtype=float)
        points = _points(runs)
        each_value = [points["value"] == value for value in values]

        def over_seeds(name, mean=np.mean) -> list[float]:
            return [float(mean(points[name][here])) for here in each_value]

        laws = {
            q.name: law(values, over_seeds(q.name, _root_mean_square))
            if self.pooled or q.pooled
            else law(points["value"], points[q.name])
            for q in self.quantities
            if q.fitted
        }
        numbers = {
            "values": values,
            "seeds": len(settings.seeds),
            "means": {k: over_seeds(k) for k in points if k not in ("value", "seed")},
            "laws": laws,
            "parameters": {k: v for k, v in settings.items() if k not in (self.option, "seeds")},
            "largest_error": float(points["largest"].max()),
        }
        meanings = {q.name: q.meaning for q in self.quantities}
        data = {name: (("run",), points[name], meanings.get(name, name)) for name in points}
        # Trainings of other steps have rows at other times.
        t = runs[0][1]["t"]
        t = t[t <= min(o["t"][-1] for _, o in runs)]
        data["t"] = (("t",), t, "training time")
        data[self.option] = ((self.option,), values, self.axis)
        for curve in self.curves:
            each = np.array([np.interp(t, o["t"], o["curves"][curve.name]) for _, o in runs])
            means = [each[here].mean(axis=0) for here in each_value]
            data[f"mean_{curve.name}"] = ((self.option, "t"), means, curve.meaning)
        return Conclusion(numbers, data)

    def draw(self, result: Result) -> Figure:
        """Left: every run, and the power laws fitted. Middle and right: the curves over training,
        means over the seeds."""
        data = result.data
        with style():
            figure, axes = grid(1, 3, self.title, gap=0.62, right=0.12, above=0.62)
            left, *others = axes[0]
            self._scaling(result, left)
            shades = _shades(data[self.option].values)
            for ax, curve in zip(others, self.curves, strict=True):
                for k, colour in enumerate(shades.values()):
                    mean = data[f"mean_{curve.name}"].values[k]
                    mean = np.where(mean > 0, mean, np.nan)
                    ax.plot(data["t"], mean, color=colour, linewidth=1.2)
                ax.set_xlim(0.0, float(data["t"][-1]))
                ax.set_ylabel(curve.meaning)
                if curve.log:
                    ax.set_yscale("log")
                else:
                    ax.set_ylim(bottom=0.0)
                ax.set_xlabel("training time $t$")
            key_above(others[0], shades, f"{self.axis} ${self.symbol}$", 0.2)
            finish(figure, axes, "")
        return figure

    def _scaling(self, result: Result, ax: Axes) -> None:
        """Every run as a point, on logarithmic axes, and the power laws fitted to them."""
        x = result.data["value"].values
        for q in self.quantities:
            y = result.data[q.name].values
            good = (x > 0) & (y > 0)
            found, label = result.numbers["laws"].get(q.name), q.meaning
            if found and found["exponent"] is not None:
                ends = np.array([x[good].min(), x[good].max()])
                ax.plot(ends, found["factor"] * ends ** found["exponent"], color=q.colour, lw=0.9)
                power = f"{found['exponent']:.2f}".replace("-", "{-}")
                label = rf"{label} $\propto {self.symbol}^{{{power}}}$"
            look = {"color": q.colour, "marker": q.marker, "ms": 3.2, "markeredgewidth": 0}
            ax.plot(x[good], y[good], linestyle="none", label=label, alpha=0.8, **look)
        if self.floor:
            name, said = self.floor
            height = float(result.data[name].mean())
            ax.axhline(height, color="#808080", linewidth=0.8, linestyle=(0, (1, 2)), zorder=0.5)
            ax.annotate(
                said, (0.02, height), (0.0, -2.0), color="#808080", fontsize=7.0, va="top",
                xycoords=ax.get_yaxis_transform(), textcoords="offset points",
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ticks = [v for v in result.data[self.option].values if v > 0]
        ax.set_xticks(ticks, [f"{v:g}" for v in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlabel(f"{self.axis} ${self.symbol}$")
        ax.set_ylabel(self.height)
        ax.legend(
            loc="lower left", bbox_to_anchor=(-0.2, 1.0), borderaxespad=0.3, handletextpad=0.2,
            labelspacing=0.25,
        )  # fmt: skip


def outcome(found: Comparison, curves: Mapping[str, np.ndarray], **numbers: float | None) -> dict:
    """What a study keeps of one comparison.

    Parameters
    ----------
    found : Comparison
    curves : mapping of str to ndarray of shape (n,)
        Scalars over training, beside `distance` from the flow.
    **numbers
        Quantities of this run beside `error`, `discretisation`, `sampling` (root mean squares over
        time, see `rms`) and `largest`, the largest error of any coordinate at any time.
    """
    return {
        "t": found.t,
        "states": np.column_stack([found.full[name] for name in found.names]),
        "curves": {"distance": np.linalg.norm(found.error, axis=1), **curves},
        "numbers": {
            "error": rms(found.error),
            "discretisation": rms(found.discretisation),
            "sampling": rms(found.sampling),
            "largest": found.worst[0],
            **numbers,
        },
    }


def law(x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    """The power law through positive points; None for everything without two different x.

    Returns
    -------
    dict
        exponent; error, its standard error (None where two points fix the line); interval, where it
        lies with 95 %; factor.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    good = (x > 0) & (y > 0)
    if len(set(x[good])) < 2:
        return dict.fromkeys(("exponent", "error", "interval", "factor"))
    found = power_law(x[good], y[good])
    return {
        "exponent": found.slope,
        "error": None if np.isnan(found.standard_error) else found.standard_error,
        "interval": None if np.isnan(found.standard_error) else found.interval,
        "factor": float(np.exp(found.intercept)),
    }


def _points(runs: Sequence[tuple[Sequence, Mapping[str, Any]]]) -> dict[str, np.ndarray]:
    """Every run's value, seed and quantities, shape (runs,) each.

    `scatter` is a run's distance from the mean over the seeds, as an unbiased estimate: the noise
    of minibatches without the drift that it causes; nan for one seed. `shift` is how far its
    coordinates, in root mean square, are from those of the run of the same seed at value 0; nan
    where there is none.
    """
    unmoved = {seed: o["states"] for (value, seed), o in runs if value == 0}
    rows = []
    for (value, seed), o in runs:
        states, origin = o["states"], unmoved.get(seed)
        apart = None if origin is None or len(origin) != len(states) else states - origin
        scatter = _scatter(states, [p["states"] for (v, _), p in runs if v == value])
        own = {"value": value, "seed": seed, **o["numbers"]}
        rows.append(own | {"scatter": scatter, "shift": rms(apart)})
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {k: np.array(v, dtype=None if k == "seed" else float) for k, v in columns.items()}


def _scatter(states: np.ndarray, alike: Sequence[np.ndarray]) -> float:
    count = len(alike)
    if count < 2:
        return np.nan
    return rms(states - np.mean(alike, axis=0)) * float(np.sqrt(count / (count - 1)))


def _root_mean_square(y: np.ndarray) -> float:
    return float(np.sqrt(np.mean(y**2)))


def _shades(values: Sequence[float]) -> dict[float, tuple]:
    """From light to dark with the value."""
    from matplotlib import colormaps

    places = np.linspace(0.82, 0.08, len(values))
    return dict(zip(map(float, values), colormaps["viridis"](places).tolist(), strict=True))
