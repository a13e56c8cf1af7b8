"""What the experiments on the three theorems share: settings, tables of errors, rates, marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion
from reduced_dynamics.experiments.finding import Finding, holds, near
from reduced_dynamics.experiments.setting import Setting, Settings
from reduced_dynamics.families.wang.approximation.constructions import score_bound, shift_bound
from reduced_dynamics.families.wang.approximation.supremum import largest, sample
from reduced_dynamics.families.wang.approximation.targets import induction_head
from reduced_dynamics.families.wang.approximation.transformer import Transformer
from reduced_dynamics.plotting.style import BRIGHT, finish, grid, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reduced_dynamics.experiments.result import Result

#: Below this, errors are rounding: they are not drawn, and exceed no bound.
SMALLEST = 1e-13
#: A fitted rate agrees with the expected one within this part of it (of 1, where that is less).
WITHIN = 0.15
#: Dashes of what is proved rather than found.
PROVED = {"linewidth": 0.8, "linestyle": (0, (4, 2))}
_MARKERS = "osD^vPX<>"

#: Settings that all three have.
SHARED = (
    Setting("L", 64, "tokens of a sequence", 64, 9, kind="int", low=5, high=4096),
    Setting("strength", 1.0, "W* is this times the identity; g is this times its shape", low=0,
            high=100),
    Setting("samples", 1000, "random sequences of each supremum", 300, 20, kind="int", low=1,
            high=10**6),
    Setting("rounds", 60, "of the search for worse sequences", 40, 1, kind="int", low=0,
            high=10**5),
    Setting("seed", 0, "of the random sequences and ridges", kind="int", low=0, high=2**63 - 1),
)  # fmt: skip
#: Dimension of a token and lengths, for the theorems without a network.
TOKENS = (
    Setting("d", 2, "dimension of a token", kind="int", low=1, high=16),
    Setting("lengths", (5, 6, 8, 16, 32, 64, 128), "those of the table over L", (5, 8, 32, 64),
            (5, 9), kind="int", many=True, low=3, high=4096),
)  # fmt: skip


def rng(settings: Settings, *key: int) -> np.random.Generator:
    """The generator of one entry of a table."""
    return np.random.default_rng([settings.seed, *key])


def ascending(values: Sequence) -> list:
    """Each once."""
    return sorted(set(values))


def induction_errors(
    settings: Settings, model: Transformer, W: np.ndarray, L: int, shift: float, *key: int
) -> list[float]:
    """The largest error of IH_n by a model: over a sample, after a search, and what is proved.

    W, shape ((n − 1) d, (n − 1) d), is that of IH_n, `shift` the largest error of the model's
    shifts, and `key` that of the random numbers.
    """
    d, generator = settings.d, rng(settings, *key)
    found = largest(
        model,
        lambda X: induction_head(X, W, 1 + len(W) // d),
        sample(settings.samples, L, d, generator),
        settings.rounds,
        generator,
    )
    # The query is the last token itself, whose d entries need no shift.
    return [*found, score_bound(shift_bound(W, shift, d))]


@dataclass(frozen=True)
class Rate:
    """A fitted exponent beside the one that a theorem or a derivation gives.

    `expected` is None where nothing is predicted; `points` says how many entries were fitted.
    """

    name: str
    measured: float
    expected: float | None
    points: int


@dataclass(frozen=True)
class Table:
    """Errors over what a theorem varies, and the rates fitted to them."""

    title: str
    columns: tuple[str, ...]
    rows: list
    rates: list[Rate] = field(default_factory=list)
    note: str = ""

    def where(self, **values: Any) -> Table:
        """The rows with these values in these columns."""
        at = {self.columns.index(name): value for name, value in values.items()}
        rows = [row for row in self.rows if all(row[k] == v for k, v in at.items())]
        return replace(self, rows=rows)

    def column(self, name: str) -> np.ndarray:
        """A column as numbers; nan where there is none."""
        return np.array([row[self.columns.index(name)] for row in self.rows], float)

    def values(self, *names: str) -> list:
        """What a column holds, or several together, each once, in order."""
        at = [self.columns.index(name) for name in names]
        found = dict.fromkeys(tuple(row[k] for k in at) for row in self.rows)
        return list(found) if len(names) > 1 else [value for (value,) in found]


def conclusion(settings: Settings, numbers: Mapping[str, Any], **tables: Table) -> Conclusion:
    """A conclusion with tables among its numbers, ``{tables[NAME][rates]}``, and as arrays."""
    data = {
        f"{name}_{column}": (
            (name,),
            [row[k] for row in table.rows]
            if isinstance(table.rows[0][k], str)
            else table.column(column),
            table.title,
        )
        for name, table in tables.items()
        for k, column in enumerate(table.columns)
    }
    plain = {name: asdict(table) for name, table in tables.items()}
    return Conclusion(dict(settings) | {"tables": plain, "rounding": SMALLEST} | numbers, data)


def read(result: Result, name: str) -> Table:
    """A table of a result."""
    return Table(**result.numbers["tables"][name])


def slope(name: str, x: Sequence[float], y: Sequence[float], expected: float | None) -> list[Rate]:
    """The slope of a straight line through finite points; nothing where there are fewer than 2."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    good = np.isfinite(x) & np.isfinite(y)
    if good.sum() < 2 or np.ptp(x[good]) == 0:
        return []
    return [Rate(name, float(np.polyfit(x[good], y[good], 1)[0]), expected, int(good.sum()))]


def logarithm(values: Sequence[float], least: float = 0.0) -> np.ndarray:
    """log of values above `least`, which may be where rounding begins; nan of the others."""
    values = np.asarray(values, float)
    return np.log(values, out=np.full(values.shape, np.nan), where=values > max(least, 0.0))


# ---------------------------------------------------------------- findings


def rates(numbers: Mapping[str, Any], *tables: str) -> Iterator[Finding]:
    """A finding for the fitted rates of every table: as expected, where something is."""
    for table in tables:
        found = numbers["tables"][table]["rates"]
        if not found:
            continue
        said, agree = [], []
        for k, rate in enumerate(found):
            at = f"tables[{table}][rates][{k}]"
            text = f"{{{at}[name]}} = {{{at}[measured]:.3f}}"
            if rate["expected"] is not None:
                text += f" (expected {{{at}[expected]:.3g}})"
                size = max(1.0, abs(rate["expected"]))
                agree.append(near(rate["measured"], rate["expected"], WITHIN * size) == "agrees")
            said.append(text)
        yield Finding(
            "; ".join(said),
            holds(all(agree)) if agree else "",
            why=f"{sum(not one for one in agree)} of {len(agree)} rates are off by more than "
            f"{WITHIN:.0%}: so few or so large errors have not reached their power",
        )


def bounds_hold(numbers: Mapping[str, Any], *tables: str) -> Finding:
    """Whether no error that was found exceeds what is proved."""
    largest = 0.0
    for name in tables:
        table = Table(**numbers["tables"][name])
        over = table.column("searched") - table.column("bound")
        largest = max(largest, float(np.nanmax(over)))
    within = largest <= numbers["rounding"]
    return Finding(
        "no error found by the search exceeds its proved bound, but for rounding ({rounding:g})"
        if within
        else f"an error exceeds its proved bound by {largest:.3g}",
        holds(within),
        claim="derived: 2 tanh(η/2) bounds the error if every score is off by η at most",
    )


# ---------------------------------------------------------------- drawing


def panels(title: str, count: int, draw, above: float = 0.42) -> Figure:
    """`count` panels with errors on logarithmic axes, filled by ``draw(axes)``."""
    with style():
        figure, axes = grid(1, count, title, gap=0.7, right=0.12, above=above)
        for ax in axes[0]:
            ax.set_yscale("log")
            ax.margins(x=0.04)
        draw(axes[0])
        finish(figure, axes, "")
    return figure


def marks(ax: Axes, x, y, k: int, label: str) -> None:
    """Errors that were found: the k-th colour and marker."""
    y = np.where(np.asarray(y) > SMALLEST, y, np.nan)
    ax.plot(x, y, color=BRIGHT[k % len(BRIGHT)], marker=_MARKERS[k % len(_MARKERS)],
            markersize=3.0, linewidth=1.0, label=label)  # fmt: skip


def key(ax: Axes) -> None:
    """The legend above its panel, in two columns."""
    spacing = {"handlelength": 1.2, "labelspacing": 0.25, "columnspacing": 0.8}
    place = {"loc": "lower left", "bbox_to_anchor": (-0.12, 1.0), "borderaxespad": 0.2}
    ax.legend(ncols=2, fontsize=6.5, **spacing, **place)
