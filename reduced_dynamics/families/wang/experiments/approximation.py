"""wang-approximation: the constructions of Theorems 3.1, 3.3 and 3.4 and their errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reduced_dynamics.experiments.caption import Finding
from reduced_dynamics.experiments.request import WANG, About, Drawn, Request
from reduced_dynamics.families.wang.approximation import theorem_3_1, theorem_3_3, theorem_3_4
from reduced_dynamics.families.wang.approximation.figures import SMALLEST, all_theorems
from reduced_dynamics.families.wang.approximation.settings import QUICK, Settings, Table

ABOUT = About(
    "two layers express induction heads: errors of the constructions",
    WANG,
    "a two-layer transformer approximates the induction head IH_2 with one head a layer, the "
    "error falling with the slope p of the positional encoding (Theorem 3.1); IH_n with H heads "
    "in layer 1, the error falling with H, and n − 1 of them necessary (3.3); the generalised "
    "GIH_n with a feed-forward layer, the error falling with rank and width (3.4).",
)
STUDIES = {"3.1": theorem_3_1, "3.3": theorem_3_3, "3.4": theorem_3_4}


def draw(request: Request) -> Drawn:
    settings = request.of(
        replace(Settings(), samples=400, rounds=40),
        QUICK,
        replace(QUICK, samples=20, rounds=1, p=(4.0, 8.0), lengths=(5, 9), n=(3,), H=(1, 2),
                bound=(1e2, 1e4), L=9, rank=(2, 4), width=(16, 32),
                similarity=("smooth",)),
    )  # fmt: skip
    settings = replace(settings, seed=request.seed)
    tables = {
        name: {table.name: table for table in module.study(settings, request.progress)}
        for name, module in STUDIES.items()
    }
    numbers = {
        "L": settings.L, "d": settings.d, "rounding": SMALLEST,
        "copy": _copy(tables["3.1"]["p"]),
        "heads": _heads(tables["3.3"]["H"]),
        "features": _features(tables["3.4"]["rank"], tables["3.4"]["width"]),
        "rates": {
            name: [{"name": rate.name, "measured": rate.measured, "expected": rate.expected}
                   for table in found.values() for rate in table.rates]
            for name, found in tables.items()
        },
        "within_bounds": all(
            bool((table.column("searched") <= table.column("bound") + SMALLEST).all())
            for table in (tables["3.1"]["p"], tables["3.3"]["total"])
        ),
    }  # fmt: skip
    heads = numbers["heads"]
    return Drawn(
        all_theorems({name: list(found.values()) for name, found in tables.items()}),
        numbers,
        "each construction as weights of a two-layer numpy transformer, its error the largest "
        "found over sampled and searched sequences with entries in [−1, 1] (marks), beside the "
        "proved bound (dashed). Rows: Theorems 3.1 (L = {L}), 3.3 and 3.4.",
        [
            Finding(
                "3.1: the error falls with p, exponential kernel {copy[exponential][errors]:.2g} "
                "at p = {copy[exponential][p]:g}, polynomial {copy[polynomial][errors]:.2g}",
                numbers["copy"]["falls"],
            ),
            Finding(
                "3.3: with fewer than n − 1 heads the error of the shifts is "
                "{heads[below]:.6f} or more, whatever the bound; with enough heads it falls to "
                "{heads[best]:.2g} (n = {heads[best_n]}, H = {heads[best_H]})",
                heads["necessary"] and heads["falls"],
            ),
            Finding(
                "3.3: it does not fall forever: with Σ|c| bounded by {heads[least_bound]:g}, "
                "n = {heads[largest_n]}, any number of heads leaves at least "
                "{heads[floor]:.2g}"
            ),
            Finding(
                "3.4: the error falls with the rank, from {features[first]:.2g} to "
                "{features[last]:.2g} (smooth similarity, ranks {features[ranks]:g}), and with the "
                "width",
                numbers["features"]["falls"],
            ),
            Finding(
                "no error found by the search exceeds its proved bound, but for rounding "
                "({rounding:g}): {within_bounds}",
                numbers["within_bounds"],
            ),
        ],
    )


def _copy(table: Table) -> dict:
    found: dict = {}
    for kind in table.values("kernel"):
        part = table.where(kernel=kind)
        found[kind] = {"p": part.column("p"), "errors": part.column("searched")}
    found["falls"] = all(bool((np.diff(one["errors"]) < 0).all()) for one in found.values())
    return found


def _heads(table: Table) -> dict:
    below, best, falls = [], None, True
    for n in table.values("n"):
        for bound in table.values("bound"):
            part = table.where(n=n, bound=bound)
            rows = [row for row in part.rows if np.isfinite(row[2])]
            below += [row[3] for row in rows if row[2] < n - 1]
            enough = [row for row in rows if row[2] >= n - 1]
            if n > 2 and len(enough) > 1:
                falls &= bool(enough[-1][3] < enough[0][3] * 1.001)
                least = min(enough, key=lambda row: row[3])
                if best is None or least[3] < best[3]:
                    best = least
    n, bound = max(table.values("n")), min(table.values("bound"))
    floor = [row[4] for row in table.where(n=n, bound=bound).rows if not np.isfinite(row[2])]
    return {
        "below": min(below, default=None),
        "necessary": bool(below) and min(below) > 0.99,
        "falls": falls,
        "best": best[3] if best else None,
        "best_n": best[0] if best else None,
        "best_H": best[2] if best else None,
        "largest_n": n,
        "least_bound": bound,
        "floor": floor[0] if floor else None,
    }


def _features(rank: Table, width: Table) -> dict:
    name = "smooth" if "smooth" in rank.values("similarity") else rank.values("similarity")[0]
    part = rank.where(similarity=name)
    errors, ranks = part.column("error"), part.column("rank")
    one = width.where(similarity=name)
    over_width = one.column("error")[one.column("n") == one.column("n")[0]]
    return {
        "first": float(errors[0]),
        "last": float(errors[-1]),
        "ranks": ranks,
        "width_first": float(over_width[0]),
        "width_last": float(over_width[-1]),
        "falls": bool(errors[-1] < errors[0] and over_width[-1] < over_width[0]),
    }
