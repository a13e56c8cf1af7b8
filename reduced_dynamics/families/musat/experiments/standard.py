"""musat.standard: the order of emergence in a standard transformer, with SGD and with Adam."""

from collections import Counter
from dataclasses import replace

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting, of_parameters
from reduced_dynamics.families.musat.emergence import MEASURES, Emergence
from reduced_dynamics.families.musat.full.standard_training import (
    ADAM,
    SGD,
    StandardConfig,
    train_standard,
)
from reduced_dynamics.plotting.style import INK, finish, grid, line_styles, style

ORDER = ("gamma3", "beta2", "alpha3")
METHODS = {"sgd": SGD, "adam": ADAM}
NAMES = {"sgd": "SGD", "adam": "Adam"}
#: Rows to record: measures that emerge a few steps apart are to be told apart.
INTERVALS = 2000
#: Parts of its largest value at which a measure counts as emerged, first the one that is judged.
LEVELS = (0.5, 0.1)
#: Measures that emerge within this part of the time of the last emerge together.
TOGETHER = 0.05

#: What both trainings have alike.
SHARED = ("N", "vocabulary", "positions", "width", "batch", "query", "scaled", "precision")

SETTINGS = (
    Setting("methods", tuple(METHODS), "optimisers", kind="choice", many=True,
            choices=tuple(METHODS)),
    *of_parameters(
        StandardConfig.settable(*SHARED),
        N=(15, 6, 6), vocabulary=(32, 16, 16), positions=(32, 13, 13), width=(64, 64, 16),
    ),
    Setting("sgd_rate", SGD.learning_rate, "learning rate", 0.3, low=0.0),
    Setting("adam_rate", ADAM.learning_rate, "learning rate", low=0.0),
    Setting("sgd_start", SGD.init_scale, "standard deviation of all weights at first", low=0.0),
    Setting("adam_start", ADAM.init_scale, "standard deviation of all weights at first", low=0.0),
    Setting("sgd_steps", SGD.steps, "steps", 900, 30, kind="int", low=1, high=10**9),
    Setting("adam_steps", ADAM.steps, "steps", 900, 30, kind="int", low=1, high=10**9),
    Setting("seeds", (0, 1, 2, 3, 4), "of the training", (0, 1, 2), (0, 1), kind="seeds"),
)  # fmt: skip


def parts(settings):
    return {
        f"{method}-seed{seed}": [method, seed]
        for method in settings.methods
        for seed in settings.seeds
    }


def work(settings, run, context):
    """One training's trajectory."""
    method, seed = run
    steps = settings[f"{method}_steps"]
    config = replace(
        METHODS[method],
        **{name: settings[name] for name in SHARED},
        learning_rate=settings[f"{method}_rate"],
        init_scale=settings[f"{method}_start"],
        steps=steps,
        record=min(steps, INTERVALS),
        seed=seed,
    )
    return train_standard(config, context.progress, context.checkpoint)[0]


def conclude(settings, outcomes):
    found = {
        method: [Emergence(outcomes[f"{method}-seed{seed}"]) for seed in settings.seeds]
        for method in settings.methods
    }
    numbers = {method: _measured(runs) for method, runs in found.items()}
    numbers |= {
        "setting": dict(settings),
        "trained": [
            f"{NAMES[method]} (learning rate {settings[f'{method}_rate']:g}, start "
            f"{settings[f'{method}_start']:g}, {settings[f'{method}_steps']} steps)"
            for method in settings.methods
        ],
    }
    return Conclusion(numbers, trajectories=outcomes)


def _measured(runs: list[Emergence]) -> dict:
    times = [one.times() for one in runs]
    complete = [None not in t.values() for t in times]
    return {
        "count": len(runs),
        "half_step": {name: [t[name] for t in times] for name in MEASURES},
        "papers_order": sum(one.order() == ORDER for one in runs),
        "common_order": runs[0].order() if len({one.order() for one in runs}) == 1 else None,
        "complete": sum(complete),
        "orders": {
            f"{level:g}": [
                f"{', '.join(order) or 'none'}: {count}"
                for order, count in Counter(one.order(level) for one in runs).most_common()
            ]
            for level in LEVELS
        },
        "accuracy": [one.accuracy for one in runs],
        "learnt_step": [one.learnt for one in runs],
        "held_out_loss": [float(one.trajectory["held_out_loss"][-1]) for one in runs],
        "gamma_over_learnt": [
            t["gamma3"] / one.learnt if one.learnt and t["gamma3"] else None
            for t, one in zip(times, runs, strict=True)
        ],
        "spread": [
            (max(t.values()) - min(t.values())) / max(t.values()) if whole else None
            for t, whole in zip(times, complete, strict=True)
        ],
        "largest": {
            name: [float(one.trajectory[f"progress_{name}"].max()) for one in runs]
            for name in MEASURES
        },
        "wall_s": [one.trajectory.stats["wall_s"] for one in runs],
    }


def judge(numbers):
    return [
        finding
        for method in METHODS
        if method in numbers
        for finding in _findings(method, numbers[method])
    ]


def _findings(key, measured):
    name = NAMES[key]
    decided = measured["complete"] == measured["count"]
    agrees = measured["papers_order"] == measured["count"]
    together = decided and all(x < TOGETHER for x in measured["spread"])
    return [
        Finding(
            f"{name}: γ̃3, β̃2, α̃3 reach half of their largest values in the paper's order in "
            f"{{{key}[papers_order]}} of {{{key}[count]}} seeds; at the steps γ̃3 "
            f"{{{key}[half_step][gamma3]:.0f}}, β̃2 {{{key}[half_step][beta2]:.0f}}, α̃3 "
            f"{{{key}[half_step][alpha3]:.0f}}; the last comes later than the first by "
            f"{{{key}[spread]:.1%}}",
            holds(agrees if decided else None),
            why="some measure never emerged"
            if not decided
            else "the three rise together"
            if together
            else f"every seed has the order {{{key}[common_order]}}"
            if measured["common_order"]
            else "seeds decide which is first",
        ),
        Finding(
            f"{name}: orders at half of the largest values: {{{key}[orders][0.5]}}; at a tenth: "
            f"{{{key}[orders][0.1]}} (of {{{key}[count]}})"
        ),
        Finding(
            f"{name}: accuracy at the end {{{key}[accuracy]:.3f}}, held-out cross-entropy "
            f"{{{key}[held_out_loss]:.2g}}; accuracy .9 at step {{{key}[learnt_step]:.0f}}, γ̃3 at "
            f"half after {{{key}[gamma_over_learnt]:.0%}} of these steps"
        ),
    ]


def draw(result):
    methods, seeds = result.settings["methods"], result.settings["seeds"]
    with style():
        title = "standard transformer, item–label recall: progress measures, loss, accuracy"
        figure, axes = grid(len(methods), 3, title, gap=0.58, between=0.85, right=0.15, above=0.22)
        for row, method in zip(axes, methods, strict=True):
            runs = [Emergence(result.trajectories[f"{method}-seed{seed}"]) for seed in seeds]
            _draw_emergence(runs, row)
            row[1].set_title(NAMES[method], color=INK, fontsize=9)
        finish(figure, axes, "")
    return figure


def _draw_emergence(found: list[Emergence], axes) -> None:
    """Measures, loss and accuracy of one configuration's seeds, into three axes.

    Of every seed a thin line, and of three or more a thick one for the median.
    """
    left, middle, right = axes
    last = max(one.steps[-1] for one in found)
    learnt = [one.learnt for one in found]
    # From the first row on, there is nothing to be aligned.
    aligned = None not in learnt and min(learnt) > 0
    # Seeds learn at different moments; only from those on can their orders be compared.
    unaligned = [0.0] * len(found)

    def panel(ax, name, colour, origins=unaligned, scaled=False):
        shared = np.linspace(0.0, last, 1500) - np.mean(origins)
        curves = []
        for one, origin in zip(found, origins, strict=True):
            values, steps = one.trajectory[name], one.steps - origin
            values = values / values.max() if scaled and values.max() > 0 else values
            # Of two seeds a median would be a curve that neither of them followed.
            look = {"linewidth": 1.1} if len(found) < 3 else {"linewidth": 0.5, "alpha": 0.45}
            (line,) = ax.plot(steps, values, color=colour, **look)
            curves.append(np.interp(shared, steps, values, left=np.nan, right=np.nan))
        if len(found) < 3:
            return line
        median = np.median(curves, axis=0)
        return ax.plot(shared, median, color=colour, linewidth=1.6)[0]

    colours = line_styles(MEASURES)
    names = [name for name in ("gamma3", "beta2", "alpha3") if name in MEASURES]
    lines = [
        panel(left, f"progress_{n}", colours[n]["color"], learnt if aligned else unaligned, True)
        for n in names
    ]
    left.axhline(0.5, color="#808080", linewidth=0.6, linestyle=(0, (1, 2)))
    left.set_ylabel("measure / its largest value")
    symbols = [rf"$\tilde{{\{n[:-1]}}}_{{{n[-1]}}}$" for n in names]
    place = {"loc": "lower left", "bbox_to_anchor": (-0.03, 0.98)}
    left.legend(lines, symbols, ncols=3, handlelength=1.2, columnspacing=1.4, **place)
    panel(middle, "held_out_loss", "black")
    middle.set(ylabel="cross-entropy, held out (nats)", ylim=(0.0, None))
    panel(right, "accuracy", "black")
    right.set(ylabel="accuracy, held out", ylim=(0.0, 1.02))
    for ax in axes:
        ax.set_xlim(0, last)
        ax.ticklabel_format(axis="x", style="plain")
        ax.set_xlabel("training step")
    if aligned:
        left.set(xlim=(-0.25 * min(learnt), 0.06 * min(learnt)), xlabel="steps from accuracy 0.9")


EXPERIMENT = Experiment.of(
    __name__,
    name="musat.standard",
    question="do the progress measures of a standard transformer emerge in the paper's order?",
    title="progress measures in a standard transformer",
    claim="a standard two-layer transformer (additive stream, separate W_Q, W_K, W_V, W_O, "
    "cross-entropy, random start) shows the same order of emergence in its progress measures γ̃3, "
    "β̃2, α̃3; the cross-entropy inflates γ and β and delays the fall of the loss.",
    source="Musat et al., arXiv 2511.01033, Eqs. 20–22",
    caption="a standard transformer trained on item–label recall with fresh sequences, "
    "{setting[query]} query (N = {setting[N]} pairs, vocabulary {setting[vocabulary]}, width "
    "{setting[width]}, batch {setting[batch]}), by {trained}; seeds {setting[seeds]}. Left: every "
    "measure over its largest value, in steps from the moment of accuracy .9; middle and right: "
    "loss and accuracy on held-out sequences. Thin lines are seeds, thick ones their medians.",
    cost={"full": 480, "quick": 45},
)
