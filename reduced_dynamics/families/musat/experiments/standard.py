"""musat-standard: progress measures in a standard transformer, with SGD and with Adam."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reduced_dynamics.experiments.caption import Finding
from reduced_dynamics.experiments.request import MUSAT, About, Drawn, Request
from reduced_dynamics.families.musat.emergence import MEASURES, Emergence
from reduced_dynamics.families.musat.figures import draw_emergence
from reduced_dynamics.families.musat.full.standard_training import ADAM, SGD, train_standard
from reduced_dynamics.plotting.style import INK, finish, grid, style

ABOUT = About(
    "progress measures in a standard transformer",
    MUSAT,
    "a standard two-layer transformer (additive stream, separate W_Q, W_K, W_V, W_O, "
    "cross-entropy, random start) shows the same order of emergence in its progress measures "
    "γ̃3, β̃2, α̃3 (Eqs. 20–22); the cross-entropy inflates γ and β and delays the fall of the loss.",
)
ORDER = ("gamma3", "beta2", "alpha3")
#: Rows to record: measures that emerge a few steps apart are to be told apart.
INTERVALS = 1000


def draw(request: Request) -> Drawn:
    count = request.of(2, 3, 1)
    small = {"N": 6, "vocabulary": 16, "positions": 13}
    bases = {
        "sgd": request.of(
            SGD,
            replace(SGD, **small, learning_rate=0.3, steps=900),
            replace(SGD, **small, steps=30),
        ),
        "adam": request.of(
            ADAM,
            replace(ADAM, **small, steps=900),
            replace(ADAM, **small, steps=30),
        ),
    }
    found = {}
    for method, base in bases.items():
        base = replace(base, record=min(base.steps, INTERVALS))
        found[method] = [
            Emergence(
                train_standard(
                    replace(base, seed=seed), request.training(f"{method}, seed {seed}")
                )[0]
            )
            for seed in range(request.seed, request.seed + count)
        ]
    numbers = {method: _measured(runs) for method, runs in found.items()}
    numbers["N"], numbers["vocabulary"] = bases["sgd"].N, bases["sgd"].vocabulary
    for method, base in bases.items():
        numbers[method] |= {
            "learning_rate": base.learning_rate, "steps": base.steps, "batch": base.batch,
            "init_scale": base.init_scale,
        }  # fmt: skip
    return Drawn(
        _figure(found),
        numbers,
        "additive stream, trained on item–label recall with fresh sequences, uniform query "
        "(N = {N} pairs, vocabulary {vocabulary}); above SGD (learning rate "
        "{sgd[learning_rate]:g}, start {sgd[init_scale]:g}, {sgd[steps]} steps), below Adam "
        "({adam[learning_rate]:g}, start {adam[init_scale]:g}, {adam[steps]} steps), batch "
        "{sgd[batch]}; seeds {sgd[seeds]}. Left: every measure over its largest value, in steps "
        "from the moment of accuracy .9; middle and right: loss and accuracy on held-out "
        "sequences. Lines are seeds" + (", thick ones their medians." if count > 2 else "."),
        [*_findings("sgd", "SGD", numbers), *_findings("adam", "Adam", numbers)],
    )


def _measured(runs: list[Emergence]) -> dict:
    times = [one.times() for one in runs]
    orders = [list(one.order()) for one in runs]
    late = [
        one.times()["gamma3"] / one.learnt if one.learnt and one.times()["gamma3"] else np.nan
        for one in runs
    ]
    spread = [
        (max(t.values()) - min(t.values())) / max(t.values())
        if None not in t.values() and max(t.values()) > 0
        else np.nan
        for t in times
    ]
    return {
        "seeds": [one.trajectory.solver["seed"] for one in runs],
        "half_step": {name: [t[name] for t in times] for name in MEASURES},
        "orders": [", ".join(order) for order in orders],
        "papers_order": sum(order == list(ORDER) for order in orders),
        "count": len(runs),
        "accuracy": [one.accuracy for one in runs],
        "learnt_step": [one.learnt for one in runs],
        "held_out_loss": [float(one.trajectory["held_out_loss"][-1]) for one in runs],
        "gamma_over_learnt": late,
        "spread": spread,
        "largest": {
            name: [float(one.trajectory[f"progress_{name}"].max()) for one in runs]
            for name in MEASURES
        },
    }


def _findings(key: str, name: str, numbers: dict) -> list[Finding]:
    agrees = numbers[key]["papers_order"] == numbers[key]["count"]
    return [
        Finding(
            f"{name}: γ̃3, β̃2, α̃3 reach half of their largest values in the paper's order in "
            f"{{{key}[papers_order]}} of {{{key}[count]}} seeds; at the steps γ̃3 "
            f"{{{key}[half_step][gamma3]:.0f}}, β̃2 {{{key}[half_step][beta2]:.0f}}, α̃3 "
            f"{{{key}[half_step][alpha3]:.0f}}; the last comes later than the first by "
            f"{{{key}[spread]:.1%}}",
            agrees,
        ),
        Finding(
            f"{name}: accuracy at the end {{{key}[accuracy]:.3f}}, held-out cross-entropy "
            f"{{{key}[held_out_loss]:.2g}}; accuracy .9 at step {{{key}[learnt_step]:.0f}}, "
            f"γ̃3 at half after "
            f"{{{key}[gamma_over_learnt]:.0%}} of these steps"
        ),
    ]


def _figure(found):
    with style():
        title = "standard transformer, item–label recall: progress measures, loss, accuracy"
        figure, axes = grid(2, 3, title, gap=0.58, between=0.85, right=0.15, above=0.22)
        for row, (method, runs) in zip(axes, found.items(), strict=True):
            draw_emergence(runs, row)
            row[1].set_title(method.upper() if method == "sgd" else "Adam", color=INK, fontsize=9)
        finish(figure, axes, "")
    return figure
