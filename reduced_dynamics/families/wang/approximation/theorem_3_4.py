"""Theorem 3.4: a ReLU network writes the features of a similarity; error over rank and width."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reduced_dynamics.families.wang.approximation import shifts
from reduced_dynamics.families.wang.approximation.constructions import score_bound, theorem_3_4
from reduced_dynamics.families.wang.approximation.relu import Network, fit
from reduced_dynamics.families.wang.approximation.settings import (
    Progress,
    Settings,
    Table,
    logarithm,
    slope,
)
from reduced_dynamics.families.wang.approximation.similarities import (
    Expansion,
    decompose,
    similarity,
)
from reduced_dynamics.families.wang.approximation.supremum import largest, sample
from reduced_dynamics.families.wang.approximation.targets import generalised_induction_head

#: Errors below this are rounding.
ROUNDING = 1e-10
#: Tokens have one entry here: g is a function on [−1, 1]^{n−1} twice.
D_TOKEN = 1
_POINTS = 4000
#: A token has one entry, so the search needs fewer rounds than in the other theorems.
SEARCH = 4


def study(settings: Settings, progress: Progress) -> Iterator[Table]:
    """The expansion, the network, and GIH_2 and GIH_3 by the whole transformer."""
    expansions: dict[tuple[str, int], Expansion] = {}

    def expansion(name: str, m: int) -> Expansion:
        if (name, m) not in expansions:
            progress(f"Theorem 3.4: expanding the {name} g in {m} + {m} variables")
            expansions[name, m] = decompose(similarity(name, settings.strength), m)
        return expansions[name, m]

    yield _ranks(settings, expansion)
    yield _widths(settings, expansion, progress)
    yield _total(settings, expansion, progress)


def _ranks(settings, expansion) -> Table:
    rows, rates = [], []
    for name in settings.similarity:
        found = expansion(name, 1)
        u, v = _points(settings, 1)
        for rank in settings.rank:
            used = found.usable(rank)
            product = (found.left(u, used) * found.right(v, used)).sum(axis=-1)
            error = float(np.abs(product - found.g(u, v)).max())
            left = found.sigma[used:]
            rows.append((name, rank, error, float(np.sqrt((left**2).sum()))))
        chosen = [row for row in rows if row[0] == name and row[1] >= 4]
        error = logarithm([row[2] for row in chosen], ROUNDING)
        expected = -1.0 if name == "kinked" else None
        ranks = np.log([row[1] for row in chosen])
        rates += slope(f"d ln(error) / d ln(rank), {name}, rank ≥ 4", ranks, error, expected)
    return Table(
        "rank", "g(u, v) on [−1, 1]² by its first singular functions",
        ("similarity", "rank", "error", "L2"), rows, rates,
        "error: largest over a grid and random points; L2: root of the sum of the σ² left out; "
        "of the smooth and the oscillating g no power describes the fall",
    )  # fmt: skip


def _widths(settings, expansion, progress) -> Table:
    rows, rates = [], []
    rank = _middle(settings.rank)
    for m in (1, 2):
        u, v = _points(settings, m)
        for name in settings.similarity if m == 1 else settings.similarity[:1]:
            found = expansion(name, m)
            used = found.usable(rank)
            exact = (found.left(u, used) * found.right(v, used)).sum(axis=-1)
            errors = []
            for width in settings.width:
                progress(f"Theorem 3.4: {name} g, {m} + {m} variables, width {width}")
                left, right = _networks(settings, found, m, used, width)
                errors.append(float(np.abs((left(u) * right(v)).sum(axis=-1) - exact).max()))
                rows.append((name, m + 1, used, width, errors[-1]))
            widths = np.log(settings.width)
            # Narrow networks do not resolve the features; the power is that of the wide half.
            half = len(widths) // 2 if len(widths) > 3 else 0
            label = f"d ln(error) / d ln M, {name}, n = {m + 1}, M ≥ {settings.width[half]}"
            expected = -2.0 if m == 1 else None
            rates += slope(label, widths[half:], logarithm(errors[half:]), expected)
    return Table(
        "width", "features of rank r by a ReLU network of M hidden units, against the exact ones",
        ("similarity", "n", "rank", "width", "error"), rows, rates,
        "expected −2 of piecewise linear functions of one variable (the Barron rate is −1/2); in "
        "two, random ridges",
    )  # fmt: skip


def _total(settings, expansion, progress) -> Table:
    rows = []
    cases = [(name, 2) for name in settings.similarity]
    cases += [(name, 3) for name in settings.similarity[:1]]
    width = settings.width[-1]
    pairs = [(rank, width) for rank in settings.rank]
    pairs += [(_middle(settings.rank), w) for w in settings.width[:-1]]
    for name, n in cases:
        found = expansion(name, n - 1)
        copies = shifts.copy("exponential", shifts.STEEPEST)
        copies = copies if n == 2 else shifts.fit("exponential", n, 6, 1e4)
        u, v = _points(settings, n - 1)
        for rank, M in sorted({(found.usable(rank), M) for rank, M in pairs}):
            progress(f"Theorem 3.4: GIH_{n}, {name} g, rank {rank}, width {M}")
            left, right = _networks(settings, found, n - 1, rank, M)
            model = theorem_3_4(copies, D_TOKEN, left, right)
            rng = settings.rng(34, n)
            sampled, searched = largest(
                model,
                lambda X, n=n, g=found.g: generalised_induction_head(X, n, g),
                sample(settings.samples, settings.L, D_TOKEN, rng),
                settings.rounds // SEARCH,
                rng,
            )
            off = float(np.abs((left(u) * right(v)).sum(axis=-1) - found.g(u, v)).max())
            rows.append((name, n, rank, M, model.D, sampled, searched, off, score_bound(off)))
    return Table(
        "total", f"GIH_n by the transformer with a ReLU network, d = 1, L = {settings.L}",
        ("similarity", "n", "rank", "width", "D", "sampled", "searched", "score", "bound"), rows,
        note="score: largest error of g through rank and network over a grid and random points; "
        "bound: 2 tanh(score/2)",
    )  # fmt: skip


def _networks(settings, found: Expansion, m, rank, width) -> tuple[Network, Network]:
    """Half of the hidden units for the query's features, half for the key's."""
    half = width // 2
    left = fit(lambda x: found.left(x, rank), m, half, settings.rng(340, width))
    right = fit(lambda x: found.right(x, rank), m, width - half, settings.rng(341, width))
    return left, right


def _points(settings, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (u, v): a grid with its edges for m = 1, random points and corners otherwise."""
    rng = settings.rng(3400, m)
    u, v = rng.uniform(-1.0, 1.0, (2, _POINTS, m))
    if m == 1:
        x = np.linspace(-1.0, 1.0, 61)
        grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
        corners_u, corners_v = grid[:, :1], grid[:, 1:]
    else:
        corners_u, corners_v = rng.choice([-1.0, 1.0], (2, _POINTS // 4, m))
        corners_v = np.where(rng.random((len(corners_v), 1)) < 0.5, corners_u, corners_v)
    return np.concatenate([u, corners_u]), np.concatenate([v, corners_v])


def _middle(values: tuple[int, ...]) -> int:
    """The rank at which widths are compared: past the middle, where rank is not the limit."""
    return values[(2 * len(values)) // 3]
