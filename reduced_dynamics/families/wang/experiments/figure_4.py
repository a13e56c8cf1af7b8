"""wang-4: how many heads, and how wide a stream, it takes to learn the induction head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reduced_dynamics.experiments.caption import Finding
from reduced_dynamics.experiments.request import WANG, About, Drawn, Request
from reduced_dynamics.families.wang.full.induction_training import InductionConfig
from reduced_dynamics.families.wang.induction_figure import induction_figure
from reduced_dynamics.families.wang.induction_study import plan

ABOUT = About(
    "the number of heads H and the width D that the induction head needs",
    WANG,
    "training on IH_4 succeeds with H = D = 8 and fails with H = D = 2 (Figure 4), as the "
    "necessity of n − 1 heads in Theorem 3.3 says.",
)


def draw(request: Request) -> Drawn:
    steps = request.of(8000, 2200, 60)
    values = request.of((2, 4, 8), (2, 8), (1, 3))
    seeds = tuple(range(request.seed, request.seed + request.of(3, 2, 1)))
    base = InductionConfig(steps=steps, record=100)
    if request.size == "tiny":
        base = replace(base, n=3, L=8, batch=16, record=20)
    found = []
    for job in plan(base, seeds, "heads", values):
        found.append(job.run(request.training(job.label)))
    runs = {
        f"H{value:g}": {
            "error": [one.error for one in found if one.job.varied["heads"] == value],
            "learnt": sum(one.learnt for one in found if one.job.varied["heads"] == value),
            "compared": [one.compared for one in found if one.job.varied["heads"] == value],
            "probing": [
                float(one.full["probing_distance"][-1])
                for one in found
                if one.job.varied["heads"] == value
            ],
        }
        for value in values
    }
    most, least = f"H{max(values):g}", f"H{min(values):g}"
    numbers = {
        "n": base.n, "L": base.L, "steps": steps, "batch": base.batch, "seeds": list(seeds),
        "runs": len(seeds), "values": list(values), "heads": runs, "most": max(values),
        "least": min(values), "levels": list(found[0].levels),
        "gap": float(np.median(runs[least]["error"]) / np.median(runs[most]["error"])),
    }  # fmt: skip
    findings = [
        Finding(
            f"H = D = {{most}}: {{heads[{most}][learnt]}} of {{runs}} seeds learn the head, error "
            f"at the end {{heads[{most}][error]:.4f}}, probing distance "
            f"{{heads[{most}][probing]:.2g}}",
            runs[most]["learnt"] == len(seeds),
        ),
        Finding(
            f"H = D = {{least}}: {{heads[{least}][learnt]}} of {{runs}} seeds learn it, error "
            f"{{heads[{least}][error]:.4f}}, probing distance {{heads[{least}][probing]:.2g}}; "
            f"these compare {{heads[{least}][compared]}} tokens of {{n}} − 1",
            runs[least]["learnt"] == 0,
        ),
    ]
    for value in values[1:-1]:
        findings.append(
            Finding(
                f"in between, H = D = {value}: {{heads[H{value}][learnt]}} of {{runs}} seeds learn "
                f"it, error {{heads[H{value}][error]:.4f}}: as many heads as the construction "
                "needs (n − 1 = 3) are not enough for training to find it from every seed"
                if runs[f"H{value:g}"]["learnt"] < len(seeds)
                else f"in between, H = D = {value}: all {{runs}} seeds learn it, error "
                f"{{heads[H{value}][error]:.4f}}"
            )
        )
    return Drawn(
        induction_figure(found),
        numbers,
        "the two-layer transformer trained with Adam on IH_{n} (L = {L}, batch {batch}, {steps} "
        "steps), H = D = {values}, seeds {seeds}. Left: error over that of the answer 0, on "
        "held-out sequences; dotted, what predictors leave that compare only so many tokens. "
        "Middle: probing distance of the first layer. Right: the error at the end, of every run.",
        findings,
    )
