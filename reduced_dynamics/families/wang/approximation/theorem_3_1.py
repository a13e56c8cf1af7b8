"""Theorem 3.1: one head a layer copies and compares; its error over p and over L."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reduced_dynamics.families.wang.approximation.constructions import (
    score_bound,
    shift_bound,
    theorem_3_1,
)
from reduced_dynamics.families.wang.approximation.settings import (
    Progress,
    Settings,
    Table,
    logarithm,
    slope,
)
from reduced_dynamics.families.wang.approximation.shifts import copy
from reduced_dynamics.families.wang.approximation.supremum import largest, sample
from reduced_dynamics.families.wang.approximation.targets import induction_head

_COLUMNS = ("kernel", "p", "L", "sampled", "searched", "bound", "rate")
#: How the theorem's bound falls with p.
RATES = {"exponential": -1.0, "polynomial": -float(np.log(2.0))}


def study(settings: Settings, progress: Progress) -> Iterator[Table]:
    """The errors over p at one L, and over L at one p."""
    rows = []
    for kind in settings.kernel:
        for p in settings.p:
            progress(f"Theorem 3.1: {kind} kernel, p = {p:g}")
            rows.append(_row(settings, kind, p, settings.L))
    # The rate is that of large p; below, the error is near its largest.
    rates = []
    for kind in settings.kernel:
        chosen = [row for row in rows if row[0] == kind and row[1] >= 4]
        error = logarithm([row[4] for row in chosen], 1e-13)
        name = f"d ln(error) / dp, {kind}, p ≥ 4"
        rates += slope(name, [row[1] for row in chosen], error, RATES[kind])
    yield Table(
        "p", f"IH_2 by one head a layer, D = 2d, at L = {settings.L}: error over p", _COLUMNS,
        rows, rates,
        "sampled: largest over the sample; searched: after the search; bound: 2 tanh(η/2), every "
        "sequence; rate: e^-p or 2^-p",
    )  # fmt: skip

    p = settings.p[len(settings.p) // 2]
    rows, rates = [], []
    for kind in settings.kernel:
        for L in settings.lengths:
            progress(f"Theorem 3.1: {kind} kernel, L = {L}")
            rows.append(_row(settings, kind, p, L))
        chosen = [row for row in rows if row[0] == kind and row[2] >= 16]
        error = logarithm([row[4] for row in chosen])
        lengths = np.log([row[2] for row in chosen])
        rates += slope(f"d ln(error) / d ln L, {kind}, L ≥ 16", lengths, error, 0.0)
    yield Table(
        "L", f"the same at p = {p:g}: error over L", _COLUMNS, rows, rates,
        "the bound does not grow with L for the exponential kernel, nor for the polynomial one "
        "with p > 1; the search finds less of the supremum in longer sequences",
    )  # fmt: skip


def _row(settings: Settings, kind: str, p: float, L: int) -> tuple:
    W = settings.strength * np.eye(settings.d)
    rng = settings.rng(31, L)
    sampled, searched = largest(
        theorem_3_1(W, kind, p),
        lambda X: induction_head(X, W),
        sample(settings.samples, L, settings.d, rng),
        settings.rounds,
        rng,
    )
    # Layer 2 reads the copies made at positions up to L − 1, over at most L − 2 tokens.
    shift = copy(kind, p, L - 2).error
    # The query is the last token itself, whose d entries need no shift.
    bound = score_bound(shift_bound(W, shift, settings.d))
    return kind, p, L, sampled, searched, bound, float(np.exp(RATES[kind] * p))
