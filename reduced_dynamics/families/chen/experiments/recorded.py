"""chen.recorded: the authors' recorded run beside trainings on other data, and the population."""

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, Measured, holds
from reduced_dynamics.experiments.setting import Setting, Settings
from reduced_dynamics.families.chen.recorded import points
from reduced_dynamics.families.chen.selection_figure import draw_scalar, draw_subsets
from reduced_dynamics.families.chen.validation import (
    as_recorded,
    limit,
    plan,
    population,
    population_at,
    summary,
)
from reduced_dynamics.plotting.style import finish, grid, style

SETTINGS = (
    Setting("t_end", 50_000.0, "horizon, training time", 1000.0, 12.0, low=1.0),
    Setting("kernels", 8192, "kernels that stand for the population", 2048, 64, kind="int", low=1),
    Setting("sequences", 9000, "sequences of the training set", 9000, 200, kind="int", low=1),
    Setting("validation", 1000, "sequences never trained on", 1000, 50, kind="int", low=1),
    Setting("seeds", (0, 1, 2, 3, 4), "seeds of the sequences", (0, 1, 2, 3, 4), (0, 1),
            kind="seeds"),
)  # fmt: skip
#: Standard deviations within which the recorded run is expected to lie; and the part of normal
#: numbers that lie within as many.
WITHIN, EXPECTED = 2.0, 0.954
_NAMES = {"flow": "population, flow", "gd": "population, descent"}
_SHOWN = ("S", "n", "H", "degree", "L", "dirichlet", "loss")
#: How the trainings and the populations are drawn.
_FULL = {"label": "finite data", "color": "#56B4E9", "linewidth": 0.8, "alpha": 0.8}
_DASHES = {"flow": (0, (4, 1.5)), "gd": (0, (1, 1))}


def _jobs(settings):
    parameters = {name: settings[name] for name in ("kernels", "sequences", "validation")}
    return plan(parameters, seeds=list(settings.seeds), t_end=settings.t_end)


def parts(settings):
    return {f"seed{seed}": seed for seed in settings.seeds} | {"flow": "flow", "gd": "gd"}


def work(settings, which, context):
    first, *_ = jobs = _jobs(settings)
    if which in _NAMES:
        flow = population(first, settings.t_end, which, progress=context.progress)
        return {"trajectory": flow}
    job = next(job for job in jobs if job.config.seed == which)
    full = job.trained(context.progress, context.checkpoint)
    return {"trajectory": full, "limit": limit(full, job.config)}


def conclude(settings, outcomes):
    job = _jobs(settings)[0]
    config = job.config
    runs = {f"seed{seed}": outcomes[f"seed{seed}"]["trajectory"] for seed in settings.seeds}
    rows = summary(job, list(runs.values()))
    found = {name: outcomes[name]["trajectory"] for name in _NAMES}
    found = {name: one for name, one in found.items() if one is not None}
    beside = {name: population_at(one, job) for name, one in found.items()}
    ends = [
        row | {"seed": seed} for seed in settings.seeds for row in outcomes[f"seed{seed}"]["limit"]
    ]
    heads = [row for row in ends if row["set"] == "training" and row["loss"] == config.loss]
    numbers = {
        **settings,
        **{name: getattr(config, name) for name in _SHOWN},
        "as_recorded": as_recorded(config),
        "summary": rows,
        "population": {k: {q: list(v) for q, v in one.items()} for k, one in beside.items()},
        "a": [row for row in rows if row["quantity"] == "a"],
        "limit": ends,
        "model_minus_head": [row["model"] - row["induction_head"] for row in heads],
        "validation_loss": [float(run["validation_loss"][-1]) for run in runs.values()],
        "accuracy": [float(run["accuracy"][-1]) for run in runs.values()],
        "steps_per_s": [run.stats["steps_per_s"] for run in runs.values()],
    }
    data = {"t": (("t",), [row["t"] for row in numbers["a"]], "reported training times")}
    for quantity in dict.fromkeys(row["quantity"] for row in rows):
        mine = [row for row in rows if row["quantity"] == quantity]
        for column in ("mean", "sd", "recorded", "z"):
            values = np.array([row[column] for row in mine], dtype=float)
            meaning = f"{column} of {quantity} over the seeds"
            data[f"{quantity}_{column}"] = (("t",), values, meaning)
    return Conclusion(numbers, data, runs | found)


def judge(numbers):
    scores = [row for row in numbers["summary"] if row["z"] is not None]
    findings = []
    if scores:
        within = sum(abs(row["z"]) <= WITHIN for row in scores)
        worst = max(scores, key=lambda row: abs(row["z"]))
        # Numbers of one run depend on one another, so a share below the expected one decides
        # nothing alone: the farthest number does.
        far = abs(worst["z"])
        verdict = holds(True if far <= WITHIN + 1.0 else None if far <= 2 * WITHIN + 1.0 else False)
        findings.append(
            Finding(
                f"the recorded run lies within {WITHIN:g} sd of the seeds' mean in {within} of "
                f"{len(scores)} numbers (normal numbers: {EXPECTED:.1%}); farthest: "
                f"{worst['quantity']} at t = {worst['t']:g}, z = {worst['z']:+.2f}",
                verdict,
                "the recorded run is one of these",
                Measured(within / len(scores), n=len(scores)),
            )
        )
    else:
        findings.append(
            Finding(
                "z-scores of the recorded run need its own setting, two seeds at least, and one of "
                "its times"
            )
        )
    for row in numbers["a"]:
        if row["recorded"] is not None and row["t"] > 0:
            spread = "" if row["sd"] is None else f" ± {row['sd']:.4f}"
            findings.append(
                Finding(
                    f"a at t = {row['t']:g}: {row['mean']:.4f}{spread} over {row['count']} seeds, "
                    f"recorded {row['recorded']:.4f}"
                    + _beside(numbers["population"], row["t"], row["recorded"])
                )
            )
    findings.append(
        Finding(
            "at the end the model's training loss minus that of the generalised induction head "
            "(W_h0 and a infinite, p = 1 on the parents): {model_minus_head:+.5f}"
        )
    )
    return findings


def _beside(population, t, said):
    shown = []
    for name, columns in population.items():
        for at, a in zip(columns["t"], columns["a"], strict=True):
            if abs(at - t) <= 1e-6 * t:
                shown.append(f"{_NAMES[name]} {a / said - 1.0:+.1%}")
    return f" ({', '.join(shown)} of it)" if shown else ""


def draw(result):
    """Every seed as a thin line, the population over it, the recorded run as points: a, the
    training loss, log10 p of every subset."""
    settings = Settings(result.settings)
    config = _jobs(settings)[0].config
    runs = [result.trajectories[f"seed{seed}"] for seed in settings.seeds]
    curves = [(run, _FULL) for run in runs]
    for name, dash in _DASHES.items():
        if name in result.trajectories:
            look = {"color": "#D55E00", "linewidth": 1.0, "linestyle": dash, "label": _NAMES[name]}
            curves.append((result.trajectories[name], look))
    last = config.steps * config.learning_rate if as_recorded(config) else 0.0
    with style():
        figure, axes = grid(1, 3, _title(config, settings.seeds), gap=0.6, right=0.5, above=0.2)
        left, middle, right = axes[0]
        for ax, quantity, name in ((left, "a", "$a$"), (middle, "loss", "training loss")):
            draw_scalar(ax, quantity, curves, points(quantity, last))
            ax.set_ylabel(name)
        handles, names = middle.get_legend_handles_labels()
        known = dict(zip(names, handles, strict=True))
        figure.legend(
            known.values(), known, loc="upper left", ncols=4, handlelength=1.8,
            bbox_to_anchor=(0.06, 1 - 0.19 / figure.get_figheight()),
        )  # fmt: skip
        said = {label: points(f"log10_p_{label}", last) for label in config.labels}
        draw_subsets(right, config.labels, curves, said)
        for ax in axes[0]:
            ax.set_xscale("log")
            ax.set_xlim(config.learning_rate, max(run.t_end for run in runs))
        finish(figure, axes, r"training time $t$ (step × learning rate)")
    return figure


def _title(config, seeds):
    shown = ", ".join(
        f"{k} = {getattr(config, k)}".replace(" ", "\N{NO-BREAK SPACE}") for k in _SHOWN
    )
    runs = f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"chen: {shown}, {config.sequences} sequences, {runs}"


EXPERIMENT = Experiment.of(
    __name__,
    name="chen.recorded",
    question="does the recorded run lie among trainings on other data?",
    title="the recorded run among others, and infinitely many sequences",
    claim="one recorded run of joint gradient descent with step 1 (the published simulation).",
    source="the simulation published with Chen et al., arXiv 2409.10559",
    caption="trainings of the copier, selector and classifier on {sequences} sequences (S = {S}, "
    "{n} − 1 parents, H = {H}, L = {L}, δ = {dirichlet:g}, loss {loss}, step 1), seeds {seeds} "
    "(thin lines); the population over {kernels} kernels by flow and by descent (dashed, dotted); "
    "the recorded run (points). Left a, middle the training loss, right log10 of every subset's "
    "weight. z = (recorded − mean) / √(sd² + rounding²).",
    cost={"full": 450, "quick": 45},
)
