"""wang.probing: what the first layer knows of recent tokens while the induction head is learned."""

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.wang import induction_runs as runs
from reduced_dynamics.plotting.style import BRIGHT, INK, finish, grid, label_ends, style

#: The tokens can be read off if a linear map misses less than this part of their mean square.
READ = 0.05
#: Intervals of the table among the numbers.
ROWS = 10
#: Smaller errors would only stretch the axes.
_FLOOR = 1e-8

SETTINGS = (
    Setting("seeds", (0, 1, 2), "of weights and sequences", (0, 1), (0,), kind="seeds"),
    *runs.settings(n=(4, 4, 3), H=(8, 8, 3), D=(8, 8, 3), L=(16, 16, 8), batch=(128, 128, 16),
                   steps=(8000, 2500, 60), record=(200, 200, 60)),
)  # fmt: skip


def parts(settings):
    return {f"seed{seed}": runs.config(settings, seed=seed) for seed in settings.seeds}


def conclude(settings, outcomes):
    rows = [runs.row(key, one) for key, one in outcomes.items()]
    full = [one["full"] for one in outcomes.values()]
    t, n = full[0].t, settings.n
    error = np.array([one["error"] for one in full])
    distance = np.array([one["probing_distance"] for one in full])
    tokens = np.array([one.z for one in full])
    chosen = np.unique(np.linspace(0, len(t) - 1, ROWS + 1).astype(int))
    falls = [_first_below(t, row, np.sqrt(row[0] * row[-1])) for row in distance]
    numbers = runs.shared(settings) | {
        "runs": rows,
        "of": len(rows),
        "learnt": sum(one["learnt"] for one in rows),
        "levels": rows[0]["levels"],
        "last_level": rows[0]["levels"][-2],
        "error_end": error[:, -1],
        "probing_start": distance[:, 0],
        "probing_end": distance[:, -1],
        "probing_largest_end": distance[:, -1].max(),
        "probing_median": {"start": np.median(distance[:, 0]), "end": np.median(distance[:, -1])},
        "read": READ,
        "tokens_end": {f"x_s-{k}": tokens[:, -1, k] for k in range(n)},
        "halfway_step": falls,
        "oldest": np.median(tokens[:, -1, -1]),
        "least_fall": (distance[:, 0] / distance[:, -1]).min(),
        "table": [
            {
                "step": t[k],
                "error": {"median": np.median(error[:, k]), "least": error[:, k].min(),
                          "largest": error[:, k].max()},
                "probing": np.median(distance[:, k]),
                "tokens": np.median(tokens[:, k], axis=0),
            }
            for k in chosen
        ],
    }  # fmt: skip
    data = {
        "step": (("step",), t, "training steps"),
        "lag": (("lag",), np.arange(n), "of the token x_(s-lag)"),
        "seed": (("seed",), list(settings.seeds), ""),
        "error": (("seed", "step"), error, "on held-out sequences, over that of the answer 0"),
        "probing": (("seed", "step"), distance, "probing distance to the last n − 1 tokens"),
        "tokens": (("seed", "step", "lag"), tokens,
                   "part of a token that no linear map reads off layer 1's output"),
    }  # fmt: skip
    return Conclusion(numbers, data, {key: one["full"] for key, one in outcomes.items()})


def judge(numbers):
    learnt, of = numbers["learnt"], numbers["of"]
    return [
        Finding(
            "the probing distance falls in every run, from {probing_start:.3f} to "
            "{probing_end:.2g} (by a factor of {least_fall:.0f} at least)",
            holds(numbers["probing_largest_end"] < numbers["read"]),
            why="a run still misses {probing_largest_end:.2g} of the tokens at the end; read off "
            "means less than {read:g}",
        ),
        Finding(
            "the head is learned in {learnt} of {of} runs; error at the end {error_end:.4f} (a "
            "predictor that compares all but one token leaves {last_level:.3f})",
            holds(learnt == of),
            why="within {steps} steps",
        ),
        Finding(
            "the token that keys need beside the query's, x_{{s−n+1}}, is missed by {oldest:.2g} "
            "at the end (median)"
        ),
    ]


def _first_below(t, values, level):
    below = np.flatnonzero(values <= level)
    return float(t[below[0]]) if below.size else None


def draw(result):
    numbers, data = result.numbers, result.data
    t = data["step"].values
    with style():
        title = "two-layer transformer on IH: n = {n}, H = {H}, D = {D}, L = {L}"
        figure, axes = grid(1, 2, title.format(**numbers), gap=0.75, right=0.75)
        left, right = axes[0]
        _curves(left, t, data["error"].values, INK)
        runs.draw_levels(left, numbers["levels"][:-1])
        ends = []
        for k, tokens in enumerate(np.moveaxis(data["tokens"].values, 2, 0)):
            colour = BRIGHT[k % len(BRIGHT)]
            median = _curves(right, t, tokens, colour, 1.2)
            ends.append((median, f"$x_{{s-{k}}}$" if k else "$x_s$", colour))
        ends.append((_curves(right, t, data["probing"].values, "black", 1.8), "mean", "black"))
        left.set_ylabel("error / that of the answer 0")
        right.set_ylabel("missed by a linear probe of layer 1")
        for ax in (left, right):
            ax.set(yscale="log", xlim=(0.0, t[-1]), xlabel="training step")
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
    twin.set(ylim=(np.log10(low), np.log10(high)), xlim=ax.get_xlim())
    twin.set_axis_off()
    label_ends(twin, [(np.log10(values), text, colour) for values, text, colour in curves])


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.probing",
    question="does the first layer learn to hold the last n − 1 tokens, as the head is learned?",
    title="linear probing of the first layer during training",
    claim="during training on IH_n the first layer learns to hold the last n − 1 tokens in its "
    "output: the probing distance to X_{s−n+2:s} falls (H = D = 8, n = 4).",
    source="Wang et al., arXiv 2410.11474, Figure 3",
    caption="a two-layer transformer with {H} heads and width {D} trained with {optimiser} on "
    "IH_{n} (L = {L}, batch {batch}, {steps} steps), seeds {seeds}. Left: error over that of the "
    "answer 0, on held-out sequences; dotted, what predictors leave that compare only so many "
    "tokens. Right: the part of each recent token that no linear map reads off row s of the first "
    "layer's output, and their mean over the last n − 1 = the probing distance (black); below 10⁻⁸ "
    "nothing is drawn. Thin lines are seeds, thick ones medians.",
    work=runs.train,
    cost={"full": 175, "quick": 36},
)
