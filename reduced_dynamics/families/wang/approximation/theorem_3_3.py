"""Theorem 3.3: H heads make n − 1 shifts; error over H, over the bound, over L, near the start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from reduced_dynamics.families.wang.approximation import shifts
from reduced_dynamics.families.wang.approximation.constructions import (
    score_bound,
    shift_bound,
    theorem_3_3,
)
from reduced_dynamics.families.wang.approximation.settings import (
    Progress,
    Settings,
    Table,
    logarithm,
    slope,
)
from reduced_dynamics.families.wang.approximation.shifts import ROUNDING, Shifts
from reduced_dynamics.families.wang.approximation.supremum import largest, sample
from reduced_dynamics.families.wang.approximation.targets import induction_head

#: Errors below this part of the bound are no longer told apart by the linear program.
ROUNDED = 1e-10
#: Bounds over which the power in B is fitted.
BOUNDS = (1e2, 3e2, 1e3, 1e4, 1e5)


def study(settings: Settings, progress: Progress) -> Iterator[Table]:
    """The shifts by themselves, the whole transformer, lengths, and the start of a sequence."""
    fits: dict[tuple[int, float, int], Shifts] = {}

    def fit(n: int, bound: float, H: int) -> Shifts:
        if (n, bound, H) not in fits:
            progress(f"Theorem 3.3: fitting n = {n}, H = {H}, bound {bound:g}")
            fewer = [key[2] for key in fits if key[:2] == (n, bound) and key[2] < H]
            start = fits[n, bound, max(fewer)].slopes if fewer else None
            fits[n, bound, H] = shifts.fit("exponential", n, H, bound, start=start)
        return fits[n, bound, H]

    yield _heads(settings, fit, progress)
    yield _bounds(settings, fit)
    yield _total(settings, fit, progress)
    yield _lengths(settings, fit, progress)
    yield _start(settings, fit, progress)


def _heads(settings, fit, progress) -> Table:
    rows, rates = [], []
    for n in settings.n:
        for bound in settings.bound:
            found = [fit(n, bound, H) for H in settings.H]
            for H, one in zip(settings.H, found, strict=True):
                rows.append((n, bound, H, one.error, float(one.lower.max()), one.size))
            progress(f"Theorem 3.3: many heads, n = {n}, bound {bound:g}")
            rows.append((n, bound, math.inf, math.nan, shifts.floor(n, bound), bound))
            enough = [
                (H, one.error) for H, one in zip(settings.H, found, strict=True) if n - 1 <= H
            ]
            name = f"d ln(error) / d ln H, n = {n}, bound {bound:g}, H ≥ n − 1"
            H, errors = np.array(enough).T if enough else (np.array([]), np.array([]))
            rates += slope(
                name, np.log(H), logarithm(errors, max(10 * ROUNDING, ROUNDED * bound)), None
            )
    return Table(
        "H", "largest error of the shifts by 1..n−1 over H, ℓ₁ over all lags, exponential kernel",
        ("n", "bound", "H", "error", "lower", "sum|c|"), rows, rates,
        "lower: what no coefficients within the bound beat with these slopes (H = inf: with 151 "
        "slopes at once); below H = n − 1 it is 1",
    )  # fmt: skip


def _bounds(settings, fit) -> Table:
    rows, rates = [], []
    for n in [n for n in settings.n if n > 2]:
        for H in (n - 1, n, n + 1):
            errors = [fit(n, bound, H).error for bound in BOUNDS]
            rows += [(n, H, bound, error) for bound, error in zip(BOUNDS, errors, strict=True)]
            # The power is that of small errors.
            small = [
                e if ROUNDED * b < e < 0.1 else 0.0 for e, b in zip(errors, BOUNDS, strict=True)
            ]
            expected = -(H - n + 2) / (n - 2)
            name = f"d ln(error) / d ln(bound), n = {n}, H = {H}"
            rates += slope(name, np.log(BOUNDS), logarithm(small, 10 * ROUNDING), expected)
    return Table(
        "bound", "the same over the bound of Σ|c|", ("n", "H", "bound", "error"), rows, rates,
        "expected −(H − i + 1)/(i − 1) for i = n − 1, from finite differences at decay 0; so "
        "without a bound n − 1 heads reach any accuracy",
    )  # fmt: skip


def _total(settings, fit, progress) -> Table:
    rows = []
    for n in settings.n:
        for H in settings.H:
            one = fit(n, settings.bound[-1], H)
            progress(f"Theorem 3.3: IH_{n} with H = {H}")
            rows.append((n, H, n * settings.d, *_errors(settings, one, settings.L)))
    return Table(
        "total",
        f"IH_n by the transformer with H heads, D = nd, at L = {settings.L}, "
        f"bound {settings.bound[-1]:g}",
        ("n", "H", "D", "sampled", "searched", "bound"), rows,
        note="bound: 2 tanh(η/2) from the error of the shifts, every sequence; 2 is trivial",
    )  # fmt: skip


def _lengths(settings, fit, progress) -> Table:
    n, H = settings.n[-1], settings.H[-1]
    one = fit(n, settings.bound[-1], H)
    rows = []
    for L in sorted({n + 1, n + 2, *(L for L in settings.lengths if n < L)}):
        progress(f"Theorem 3.3: IH_{n} at L = {L}")
        rows.append((n, H, L, *_errors(settings, one, L)))
    error = logarithm([row[4] for row in rows if row[2] >= 16], 1e-13)
    lengths = np.log([row[2] for row in rows if row[2] >= 16])
    return Table(
        "L", f"IH_{n} with H = {H} over L, from the shortest sequence there is",
        ("n", "H", "L", "sampled", "searched", "bound"), rows,
        slope("d ln(error) / d ln L, L ≥ 16", lengths, error, 0.0),
    )  # fmt: skip


def _start(settings, fit, progress) -> Table:
    """Shifts over the few tokens before a position near the start."""
    n, bound = settings.n[-1], settings.bound[-1]
    H = next((H for H in settings.H if n < H), settings.H[-1])
    all_lags = fit(n, bound, H)
    unnormalised = replace(
        all_lags, coefficients=all_lags.coefficients * -np.expm1(-all_lags.slopes)
    )
    longest = max(settings.L, n)
    progress(f"Theorem 3.3: polynomial kernel, n = {n}, H = {H}")
    one_length = shifts.fit("polynomial", n, H, bound, (longest,))
    served = tuple(sorted({min(n - 1 + k, longest) for k in (0, 1, 2, 4, 8, 16)} | {longest}))
    progress(f"Theorem 3.3: polynomial kernel at every length, n = {n}, H = {H}")
    every = shifts.fit("polynomial", n, H, bound, served)
    lengths = sorted(
        {*range(n - 1, min(n + 5, longest)), *np.geomspace(n + 5, longest, 8).astype(int)}
    )
    rows = [
        (int(S), *(one.error_over(int(S)) for one in (all_lags, unnormalised, one_length, every)))
        for S in lengths
    ]
    return Table(
        "start",
        f"largest error of the shifts by 1..{n - 1} over the S tokens before a position, H = {H}, "
        f"bound {bound:g}",
        ("S", "exponential", "unnormalised", "polynomial", "polynomial, every S"), rows,
        note=f"exponential: fitted on all lags ({all_lags.error:.3e}), never worse at any "
        "S ≥ i; unnormalised: with α instead of c = α/(1 − e^-β); polynomial: fitted at "
        f"S = {longest}, and at several S together",
    )  # fmt: skip


def _errors(settings, one: Shifts, L: int) -> tuple[float, float, float]:
    m = (one.n - 1) * settings.d
    W = settings.strength * np.eye(m)
    rng = settings.rng(33, one.n, L)
    sampled, searched = largest(
        theorem_3_3(W, one, settings.d),
        lambda X: induction_head(X, W, one.n),
        sample(settings.samples, L, settings.d, rng),
        settings.rounds,
        rng,
    )
    return sampled, searched, score_bound(shift_bound(W, one.error, settings.d))


def _size(one: Shifts) -> float:
    return float(np.abs(one.coefficients).sum(axis=1).max())
