"""wang.theorem-3-1: one head a layer copies and compares; its error over p and over L."""

import numpy as np

from reduced_dynamics.experiments.experiment import Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.wang.approximation import tables
from reduced_dynamics.families.wang.approximation.constructions import theorem_3_1
from reduced_dynamics.families.wang.approximation.kernels import KERNELS
from reduced_dynamics.families.wang.approximation.shifts import copy
from reduced_dynamics.families.wang.approximation.tables import Table, logarithm, slope
from reduced_dynamics.plotting.style import BRIGHT

_COLUMNS = ("kernel", "p", "L", "sampled", "searched", "bound", "rate")
#: How the theorem's bound falls with p.
RATES = {"exponential": -1.0, "polynomial": -float(np.log(2.0))}

SETTINGS = (
    Setting("kernel", tuple(KERNELS), "positional encodings", kind="choice", many=True,
            choices=tuple(KERNELS)),
    Setting("p", (1.0, 2.0, 4.0, 8.0, 12.0), "slopes; the middle one for the table over L",
            (1.0, 4.0, 8.0), (4.0, 8.0), many=True, low=0, high=40),
    *tables.SHARED,
    *tables.TOKENS,
)  # fmt: skip


def parts(settings):
    slopes, kinds = tables.ascending(settings.p), dict.fromkeys(settings.kernel)
    middle = slopes[len(slopes) // 2]
    found = {f"p-{kind}-{p:g}": (kind, p, settings.L) for kind in kinds for p in slopes}
    return found | {
        f"L-{kind}-{L}": (kind, middle, L)
        for kind in kinds
        for L in tables.ascending(settings.lengths)
    }


def work(settings, part, context):
    kind, p, L = part
    W = settings.strength * np.eye(settings.d)
    # Layer 2 reads the copies made at positions up to L − 1, over at most L − 2 tokens.
    shift = copy(kind, p, L - 2).error
    errors = tables.induction_errors(settings, theorem_3_1(W, kind, p), W, L, shift, 31, L)
    return [kind, p, L, *errors, float(np.exp(RATES[kind] * p))]


def conclude(settings, outcomes):
    over_p, over_L = (
        [row for key, row in outcomes.items() if key.startswith(f"{table}-")] for table in "pL"
    )
    found = {"p": [], "L": []}
    for kind in dict.fromkeys(settings.kernel):
        # The rate is that of large p; below, the error is near its largest.
        steep = [row for row in over_p if row[0] == kind and row[1] >= 4]
        error = logarithm([row[4] for row in steep], tables.SMALLEST)
        name = f"d ln(error) / dp, {kind}, p ≥ 4"
        found["p"] += slope(name, [row[1] for row in steep], error, RATES[kind])
        long = [row for row in over_L if row[0] == kind and row[2] >= 16]
        error = logarithm([row[4] for row in long])
        name = f"d ln(error) / d ln L, {kind}, L ≥ 16"
        found["L"] += slope(name, np.log([row[2] for row in long]), error, 0.0)
    of_p = Table(
        f"IH_2 by one head a layer, D = 2d, at L = {settings.L}: error over p", _COLUMNS, over_p,
        found["p"],
        "sampled: largest over the sample; searched: after the search; bound: 2 tanh(η/2), every "
        "sequence; rate: e^-p or 2^-p",
    )  # fmt: skip
    of_L = Table(
        f"the same at p = {over_L[0][1]:g}: error over L", _COLUMNS, over_L, found["L"],
        "the bound does not grow with L for the exponential kernel, nor for the polynomial one "
        "with p > 1; the search finds less of the supremum in longer sequences",
    )  # fmt: skip
    copies = {}
    for kind in of_p.values("kernel"):
        part = of_p.where(kernel=kind)
        copies[kind] = {"p": part.column("p"), "errors": part.column("searched")}
    return tables.conclusion(settings, {"copy": copies}, p=of_p, L=of_L)


def judge(numbers):
    falls = all(b < a for one in numbers["copy"].values()
                for a, b in zip(one["errors"], one["errors"][1:], strict=False))  # fmt: skip
    several = any(len(one["errors"]) > 1 for one in numbers["copy"].values())
    shown = "; ".join(
        f"{kind} kernel {{copy[{kind}][errors]:.2g}} at p = {{copy[{kind}][p]:g}}"
        for kind in numbers["copy"]
    )
    return [
        Finding(
            ("the error falls with p: " if falls else "the error does not always fall with p: ")
            + shown,
            holds(falls if several else None),
            why="" if several else "one slope only",
        ),
        *tables.rates(numbers, "p", "L"),
        tables.bounds_hold(numbers, "p", "L"),
    ]


def draw(result):
    over_p, over_L = (tables.read(result, name) for name in ("p", "L"))

    def fill(axes):
        for ax, table, name in zip(axes, (over_p, over_L), ("p", "L"), strict=True):
            for k, kind in enumerate(table.values("kernel")):
                part = table.where(kernel=kind)
                x = part.column(name)
                tables.marks(ax, x, part.column("searched"), k, f"{kind} kernel")
                ax.plot(x, part.column("bound"), color=BRIGHT[k], **tables.PROVED)
                if name == "p":
                    look = {"color": BRIGHT[k], "linewidth": 0.8, "linestyle": ":"}
                    ax.plot(x, part.column("rate"), **look)
            ax.set_ylabel(r"error of IH$_2$")
        axes[0].set_xlabel("slope $p$ (dotted: $e^{-p}$, $2^{-p}$)")
        axes[1].set_xlabel(f"length $L$, at $p$ = {over_L.column('p')[0]:g}")
        axes[1].set_xscale("log", base=2)
        axes[0].legend(loc="lower left")
        axes[1].set_ylim(bottom=over_L.column("searched").min() / 3)

    title = "Theorem 3.1: one head a layer. Largest error found (marks) and proved (dashed)"
    return tables.panels(title, 2, fill, above=0.1)


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.theorem-3-1",
    question="do two layers of one head each express IH_2, and how does the error fall with p?",
    title="one head a layer expresses the induction head IH_2",
    claim="a two-layer transformer with one head a layer and no feed-forward layer, D = 2d, "
    "approximates the induction head IH_2, the error falling with the slope p of the positional "
    "encoding, at any length.",
    source="Wang et al., arXiv 2410.11474, Theorem 3.1",
    caption="the construction as weights of a two-layer numpy transformer: layer 1 copies the "
    "token before by its positional encoding alone, layer 2 compares with W* = {strength:g} · "
    "identity. Its error is the largest found over {samples} sampled sequences and {rounds} rounds "
    "of search, entries in [−1, 1], d = {d} (marks); dashed, the proved bound. Left over p at "
    "L = {L}, right over L.",
    cost={"full": 4, "quick": 2},
)
