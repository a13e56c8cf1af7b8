"""wang-3: probing the first layer for the recent tokens while the induction head is learned."""

from __future__ import annotations

import numpy as np

from reduced_dynamics.experiments.caption import Finding
from reduced_dynamics.experiments.request import WANG, About, Drawn, Request
from reduced_dynamics.families.wang.full.induction_training import InductionConfig
from reduced_dynamics.families.wang.induction_study import Job
from reduced_dynamics.plotting.style import BRIGHT, INK, finish, grid, label_ends, style

ABOUT = About(
    "linear probing of the first layer during training",
    WANG,
    "during training on IH_n the first layer learns to hold the last n − 1 tokens in its output: "
    "the probing distance to X_{s−n+2:s} falls (Figure 3: H = D = 8, n = 4).",
)
#: The tokens can be read off if a linear map misses less than this part of their mean square.
READ = 0.05
#: Smaller errors would only stretch the axes.
_FLOOR = 1e-8


def draw(request: Request) -> Drawn:
    steps = request.of(8000, 2500, 60)
    seeds = range(request.seed, request.seed + request.of(3, 2, 1))
    n, width = request.of((4, 8), (4, 8), (3, 3))
    base = InductionConfig(n=n, H=width, D=width, L=request.of(16, 16, 8), steps=steps,
                           batch=request.of(128, 128, 16), record=min(steps, 200))  # fmt: skip
    found = []
    for seed in seeds:
        job = Job(InductionConfig(**{**vars(base), "seed": seed}))
        found.append(job.run(request.training(f"seed {seed}")))
    distance = np.array([one.full["probing_distance"] for one in found])
    tokens = np.array([one.full.z for one in found])
    error = np.array([one.full["error"] for one in found])
    t = found[0].full.t
    falls = [_first_below(t, row, np.sqrt(row[0] * row[-1])) for row in distance]
    numbers = {
        "n": n, "H": width, "D": width, "L": base.L, "steps": steps, "batch": base.batch,
        "learning_rate": base.learning_rate, "seeds": list(seeds), "runs": len(found),
        "probing_start": distance[:, 0], "probing_end": distance[:, -1],
        "probing_median": {"start": float(np.median(distance[:, 0])),
                           "end": float(np.median(distance[:, -1]))},
        "tokens_end": {f"x_s-{k}": tokens[:, -1, k] for k in range(n)},
        "halfway_step": falls,
        "error_end": error[:, -1],
        "learnt": sum(one.learnt for one in found),
        "levels": list(found[0].levels),
        "oldest": float(np.median(tokens[:, -1, -1])),
        "least_fall": float((distance[:, 0] / distance[:, -1]).min()),
    }  # fmt: skip
    return Drawn(
        _figure(t, error, tokens, distance, found[0]),
        numbers,
        "a two-layer transformer with H = D = {H} trained with Adam on IH_{n} (L = {L}, batch "
        "{batch}, {steps} steps), seeds {seeds}. Left: error over that of the answer 0, on "
        "held-out sequences; dotted, what predictors leave that compare only so many tokens. "
        "Right: the part of each recent token that no linear map reads off row s of the first "
        "layer's output, and their mean over the last n − 1 = the probing distance (black); "
        "below 10⁻⁸ nothing is drawn. Thin lines are seeds, thick ones medians.",
        [
            Finding(
                "the probing distance falls in every run, from {probing_start:.3f} to "
                "{probing_end:.2g} (by a factor of {least_fall:.0f} at least)",
                bool((distance[:, -1] < READ).all()),
            ),
            Finding(
                "the head is learned in {learnt} of {runs} runs; error at the end "
                "{error_end:.4f} (a predictor that compares all but one token leaves "
                "{levels[" + str(n - 2) + "]:.3f})",
                numbers["learnt"] == len(found),
            ),
            Finding(
                "the token that keys need beside the query's, x_{{s−n+1}}, is missed by "
                "{oldest:.2g} at the end (median)"
            ),
        ],
    )


def _first_below(t, values, level):
    below = np.flatnonzero(values <= level)
    return float(t[below[0]]) if below.size else None


def _figure(t, error, tokens, distance, first):
    with style():
        config = first.job.config
        title = f"two-layer transformer on IH: n = {config.n}, H = D = {config.H}, L = {config.L}"
        figure, axes = grid(1, 2, title, gap=0.75, right=0.75)
        left, right = axes[0]
        _curves(left, t, error, INK)
        for m, level in enumerate(first.levels[:-1]):
            left.axhline(level, color="#808080", linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5)
            left.annotate(f"{m}", (0.99, level), (0.0, 1.0), xycoords=left.get_yaxis_transform(),
                          textcoords="offset points", ha="right", fontsize=6.5,
                          color="#808080")  # fmt: skip
        ends = []
        for k in range(tokens.shape[2]):
            colour = BRIGHT[k % len(BRIGHT)]
            median = _curves(right, t, tokens[:, :, k], colour, 1.2)
            ends.append((median, f"$x_{{s-{k}}}$" if k else "$x_s$", colour))
        ends.append((_curves(right, t, distance, "black", 1.8), "mean", "black"))
        left.set_ylabel("error / that of the answer 0")
        right.set_ylabel("missed by a linear probe of layer 1")
        for ax in (left, right):
            ax.set_yscale("log")
            ax.set_xlim(0.0, t[-1])
            ax.set_xlabel("training step")
        left.set_ylim(top=2.0)
        right.set_ylim(top=1.6)
        _label_log(right, ends)
        finish(figure, axes, "")
    return figure


def _curves(ax, t, rows, colour, width=1.5):
    """Thin lines for the runs, a thick one for their median, which is returned."""
    rows = np.maximum(rows, _FLOOR)
    for row in rows:
        ax.plot(t, row, color=colour, linewidth=0.5, alpha=0.4)
    median = np.median(rows, axis=0)
    ax.plot(t, median, color=colour, linewidth=width)
    return median


def _label_log(ax, curves):
    """The labels of `label_ends` on a logarithmic axis: placed on a linear twin."""
    twin = ax.twinx()
    low, high = ax.get_ylim()
    twin.set_ylim(np.log10(low), np.log10(high))
    twin.set_xlim(ax.get_xlim())
    twin.set_axis_off()
    label_ends(twin, [(np.log10(values), text, colour) for values, text, colour in curves])
