"""wang.theorem-3-4: a ReLU network writes the features of a similarity; error over rank, width."""

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments.experiment import Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.wang.approximation import shifts, tables
from reduced_dynamics.families.wang.approximation.constructions import score_bound, theorem_3_4
from reduced_dynamics.families.wang.approximation.relu import Network, fit
from reduced_dynamics.families.wang.approximation.similarities import (
    SIMILARITIES,
    Expansion,
    decompose,
    similarity,
)
from reduced_dynamics.families.wang.approximation.supremum import largest, sample
from reduced_dynamics.families.wang.approximation.tables import Table, logarithm, slope
from reduced_dynamics.families.wang.approximation.targets import generalised_induction_head
from reduced_dynamics.plotting.style import REST_INK

#: Errors below this are rounding.
ROUNDING = 1e-10
#: Tokens have one entry here: g is a function on [−1, 1]^{n−1} twice.
D_TOKEN = 1
_POINTS = 4000
#: A token has one entry, so the search needs fewer rounds than in the other theorems.
SEARCH = 4

SETTINGS = (
    Setting("similarity", tuple(SIMILARITIES), "g; the first also of two tokens (n = 3)",
            tuple(SIMILARITIES), ("smooth",), kind="choice", many=True,
            choices=tuple(SIMILARITIES)),
    Setting("rank", (1, 2, 3, 4, 6, 8, 12, 16), "terms of the expansion of g", (1, 2, 4, 8),
            (2, 4), kind="int", many=True, low=1, high=200),
    Setting("width", (8, 16, 32, 64, 128, 256), "hidden units M of the ReLU network",
            (16, 64, 256), (16, 32), kind="int", many=True, low=2, high=4096),
    *tables.SHARED,
)  # fmt: skip


def parts(settings):
    if settings.L < 5:
        raise InputError("L must be 5 or more")
    names = list(dict.fromkeys(settings.similarity))
    found = {f"{name}-n2": (name, 2) for name in names}
    return found | {f"{names[0]}-n3": (names[0], 3)}


def work(settings, part, context):
    """Of one similarity and one n: its expansion, the network, and GIH_n by the transformer."""
    name, n = part
    m, ranks, widths = n - 1, tables.ascending(settings.rank), tables.ascending(settings.width)
    context.progress(f"expanding the {name} g in {m} + {m} variables", 0.0)
    expansion = decompose(similarity(name, settings.strength), m)
    u, v = _points(settings, m)
    rows = {"rank": [], "width": [], "total": []}
    for rank in ranks if m == 1 else ():
        used = expansion.usable(rank)
        product = (expansion.left(u, used) * expansion.right(v, used)).sum(axis=-1)
        error = float(np.abs(product - expansion.g(u, v)).max())
        left_out = float(np.sqrt((expansion.sigma[used:] ** 2).sum()))
        rows["rank"].append([name, rank, error, left_out])
    used = expansion.usable(_middle(ranks))
    exact = (expansion.left(u, used) * expansion.right(v, used)).sum(axis=-1)
    for width in widths:
        context.progress(f"width {width}", 0.1)
        left, right = _networks(settings, expansion, m, used, width)
        error = float(np.abs((left(u) * right(v)).sum(axis=-1) - exact).max())
        rows["width"].append([name, n, used, width, error])
    copies = shifts.copy("exponential", shifts.STEEPEST)
    copies = copies if n == 2 else shifts.fit("exponential", n, 6, 1e4)
    pairs = {(expansion.usable(rank), widths[-1]) for rank in ranks}
    pairs |= {(used, width) for width in widths}
    for k, (rank, width) in enumerate(sorted(pairs)):
        context.progress(f"GIH_{n}, rank {rank}, width {width}", 0.2 + 0.8 * k / len(pairs))
        left, right = _networks(settings, expansion, m, rank, width)
        model, rng = theorem_3_4(copies, D_TOKEN, left, right), tables.rng(settings, 34, n)
        sampled, searched = largest(
            model,
            lambda X: generalised_induction_head(X, n, expansion.g),
            sample(settings.samples, settings.L, D_TOKEN, rng),
            settings.rounds // SEARCH,
            rng,
        )
        off = float(np.abs((left(u) * right(v)).sum(axis=-1) - expansion.g(u, v)).max())
        row = [name, n, rank, width, model.D, sampled, searched, off, score_bound(off)]
        rows["total"].append(row)
    return rows


def _networks(settings, found: Expansion, m, rank, width) -> tuple[Network, Network]:
    """Half of the hidden units for the query's features, half for the key's."""
    half, rng = width // 2, [tables.rng(settings, k, width) for k in (340, 341)]
    left = fit(lambda x: found.left(x, rank), m, half, rng[0])
    right = fit(lambda x: found.right(x, rank), m, width - half, rng[1])
    return left, right


def _points(settings, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (u, v): a grid with its edges for m = 1, random points and corners otherwise."""
    rng = tables.rng(settings, 3400, m)
    u, v = rng.uniform(-1.0, 1.0, (2, _POINTS, m))
    if m == 1:
        x = np.linspace(-1.0, 1.0, 61)
        grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
        corners_u, corners_v = grid[:, :1], grid[:, 1:]
    else:
        corners_u, corners_v = rng.choice([-1.0, 1.0], (2, _POINTS // 4, m))
        corners_v = np.where(rng.random((len(corners_v), 1)) < 0.5, corners_u, corners_v)
    return np.concatenate([u, corners_u]), np.concatenate([v, corners_v])


def _middle(values: list[int]) -> int:
    """The rank at which widths are compared: past the middle, where rank is not the limit."""
    return values[(2 * len(values)) // 3]


def conclude(settings, outcomes):
    rows = {kind: [row for one in outcomes.values() for row in one[kind]]
            for kind in ("rank", "width", "total")}  # fmt: skip
    rank = Table(
        "g(u, v) on [−1, 1]² by its first singular functions",
        ("similarity", "rank", "error", "L2"),
        rows["rank"], [],
        "error: largest over a grid and random points; L2: root of the sum of the σ² left out; "
        "of the smooth and the oscillating g no power describes the fall",
    )  # fmt: skip
    for name in rank.values("similarity"):
        chosen = [row for row in rank.where(similarity=name).rows if row[1] >= 4]
        error = logarithm([row[2] for row in chosen], ROUNDING)
        said = f"d ln(error) / d ln(rank), {name}, rank ≥ 4"
        expected = -1.0 if name == "kinked" else None
        rank.rates.extend(slope(said, np.log([row[1] for row in chosen]), error, expected))
    width = Table(
        "features of rank r by a ReLU network of M hidden units, against the exact ones",
        ("similarity", "n", "rank", "width", "error"), rows["width"], [],
        "expected −2 of piecewise linear functions of one variable (the Barron rate is −1/2); in "
        "two, random ridges",
    )  # fmt: skip
    for name, n in width.values("similarity", "n"):
        part = width.where(similarity=name, n=n)
        widths, errors = part.column("width"), part.column("error")
        # Narrow networks do not resolve the features; the power is that of the wide half.
        half = len(widths) // 2 if len(widths) > 3 else 0
        said = f"d ln(error) / d ln M, {name}, n = {n}, M ≥ {widths[half]:g}"
        error = logarithm(errors[half:])
        expected = -2.0 if n == 2 else None
        width.rates.extend(slope(said, np.log(widths[half:]), error, expected))
    total = Table(
        f"GIH_n by the transformer with a ReLU network, d = 1, L = {settings.L}",
        ("similarity", "n", "rank", "width", "D", "sampled", "searched", "score", "bound"),
        rows["total"],
        note="score: largest error of g through rank and network over a grid and random points; "
        "bound: 2 tanh(score/2)",
    )  # fmt: skip
    names = rank.values("similarity")
    name = "smooth" if "smooth" in names else names[0]
    part, one = rank.where(similarity=name), width.where(similarity=name, n=2)
    features = {
        "name": name,
        "ranks": part.column("rank"),
        "rank_errors": part.column("error"),
        "widths": one.column("width"),
        "width_errors": one.column("error"),
    }
    return tables.conclusion(settings, {"features": features}, rank=rank, width=width, total=total)


def judge(numbers):
    features = numbers["features"]
    ranks, widths = features["rank_errors"], features["width_errors"]
    several = len(ranks) > 1 and len(widths) > 1
    falls = ranks[-1] < ranks[0] and widths[-1] < widths[0]
    return [
        Finding(
            ("the error falls" if falls else "the error does not fall")
            + " with the rank, {features[rank_errors]:.2g} ({features[name]} similarity, ranks "
            "{features[ranks]:g}), and with the width, {features[width_errors]:.2g} (widths "
            "{features[widths]:g})",
            holds(falls if several else None),
            why="" if several else "one rank or one width only",
        ),
        *tables.rates(numbers, "rank", "width"),
        tables.bounds_hold(numbers, "total"),
    ]


def draw(result):
    rank, width, total = (tables.read(result, name) for name in ("rank", "width", "total"))

    def fill(axes):
        left, middle, right = axes
        names = rank.values("similarity")
        colours = {(name, 2): k for k, name in enumerate(names)}
        for case in width.values("similarity", "n"):
            colours.setdefault(case, len(colours))

        def label(name, n):
            return name if n == 2 else f"{name}, $n$ = {n}"

        for name in names:
            part = rank.where(similarity=name)
            x, y = part.column("rank"), part.column("error")
            tables.marks(left, x, y, colours[name, 2], name)
        left.set(xlabel="rank $r$", ylabel="error of $g$")
        for case in width.values("similarity", "n"):
            part = width.where(similarity=case[0], n=case[1])
            x, y = part.column("width"), part.column("error")
            tables.marks(middle, x, y, colours[case], label(*case))
        M = np.array(width.values("width"), float)
        middle.plot(M, 0.3 * width.column("error").min() * (M[-1] / M) ** 2, color=REST_INK,
                    label="$M^{-2}$", **tables.PROVED)  # fmt: skip
        middle.set_xscale("log", base=2)
        middle.set_xlabel("hidden units $M$")
        middle.set_ylabel(f"error of {int(width.column('rank').max())} features")
        widest = max(total.values("width"))
        for case in total.values("similarity", "n"):
            part = total.where(similarity=case[0], n=case[1], width=widest)
            x, y = part.column("rank"), part.column("searched")
            tables.marks(right, x, y, colours[case], label(*case))
        right.set(xlabel=f"rank $r$, at $M$ = {widest}", ylabel=r"error of GIH$_n$")
        for ax in axes:
            tables.key(ax)

    title = "Theorem 3.4: a ReLU network writes the features of g. Largest errors"
    return tables.panels(title, 3, fill)


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.theorem-3-4",
    question="does a feed-forward layer let two layers express GIH_n with a general similarity g?",
    title="a ReLU network writes the features of a general similarity",
    claim="with a feed-forward layer between them two layers approximate the generalised induction "
    "head GIH_n, which compares by any similarity g, the error falling with the rank of the "
    "expansion of g and with the width of the network.",
    source="Wang et al., arXiv 2410.11474, Theorem 3.4",
    caption="g(u, v) ≈ Σ_k σ_k φ_k(u) ψ_k(v) by its singular functions, written by a ReLU network "
    "of M hidden units; similarities {similarity}. Left: the error of g over the rank; middle: "
    "that of the network's features over M; right: that of GIH_n by the whole transformer, the "
    "largest found over {samples} sampled sequences and a search (L = {L}, d = 1, entries in "
    "[−1, 1]).",
    cost={"full": 32, "quick": 12},
)
