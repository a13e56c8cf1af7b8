"""chen.recorded: the authors' recorded run beside trainings on other data, and the population."""

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, Measured, holds
from reduced_dynamics.experiments.setting import Setting, Settings
from reduced_dynamics.families.chen.population import log10_p
from reduced_dynamics.families.chen.recorded import TIMES, recorded
from reduced_dynamics.families.chen.validation import Run, plan, population, population_at, summary
from reduced_dynamics.plotting.style import BRIGHT, finish, grid, label_ends, style

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
_LINES = {"flow": (0, (4, 1.5)), "gd": (0, (1, 1))}
_NAMES = {"flow": "population, flow", "gd": "population, descent"}
_FULL, _POPULATION = "#56B4E9", "#D55E00"
_SHOWN = ("S", "n", "H", "degree", "L", "dirichlet", "loss")
_POINTS = {"marker": "o", "markersize": 3, "linestyle": "none"}
#: The lowest log10 p that is drawn.
_LOWEST = -100.0


def _plan(settings):
    parameters = {name: settings[name] for name in ("kernels", "sequences", "validation")}
    return plan(parameters, seeds=list(settings.seeds), t_end=settings.t_end)


def parts(settings):
    return {f"seed{seed}": seed for seed in settings.seeds} | {"flow": "flow", "gd": "gd"}


def work(settings, which, context):
    planned = _plan(settings)
    if which in _NAMES:
        flow = population(planned, settings.t_end, which, progress=context.progress)
        return {"trajectory": flow}
    job = next(job for job in planned.jobs if job.config.seed == which)
    run = Run(job.config, job.trained(context.progress, context.checkpoint))
    return {"trajectory": run.full, "limit": run.limit}


def conclude(settings, outcomes):
    planned = _plan(settings)
    runs = [
        Run(job.config, outcomes[f"seed{job.config.seed}"]["trajectory"]) for job in planned.jobs
    ]
    rows = summary(planned, runs)
    found = {name: outcomes[name]["trajectory"] for name in _NAMES}
    found = {name: one for name, one in found.items() if one is not None}
    beside = {name: population_at(planned, one, planned.at) for name, one in found.items()}
    limit = [
        row | {"seed": seed} for seed in settings.seeds for row in outcomes[f"seed{seed}"]["limit"]
    ]
    heads = [
        row for row in limit if row["set"] == "training" and row["loss"] == runs[0].config.loss
    ]
    numbers = {
        **settings,
        **{name: getattr(planned.config, name) for name in _SHOWN},
        "as_recorded": planned.as_recorded,
        "summary": rows,
        "population": {
            k: {q: list(v) for q, v in columns.items()} for k, columns in beside.items()
        },
        "a": [row for row in rows if row["quantity"] == "a"],
        "limit": limit,
        "model_minus_head": [row["model"] - row["induction_head"] for row in heads],
        "validation_loss": [float(run.full["validation_loss"][-1]) for run in runs],
        "accuracy": [float(run.full["accuracy"][-1]) for run in runs],
        "steps_per_s": [run.full.stats["steps_per_s"] for run in runs],
    }
    times = [row["t"] for row in numbers["a"]]
    data = {"t": (("t",), times, "reported training times")}
    for quantity in dict.fromkeys(row["quantity"] for row in rows):
        mine = [row for row in rows if row["quantity"] == quantity]
        for column in ("mean", "sd", "recorded", "z"):
            values = [np.nan if row[column] is None else row[column] for row in mine]
            data[f"{quantity}_{column}"] = (
                ("t",),
                values,
                f"{column} of {quantity} over the seeds",
            )
    trajectories = {f"seed{run.config.seed}": run.full for run in runs} | found
    return Conclusion(numbers, data, trajectories)


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
    settings = Settings(result.settings)
    planned = _plan(settings)
    runs = [Run(job.config, result.trajectories[f"seed{job.config.seed}"]) for job in planned.jobs]
    found = {name: result.trajectories[name] for name in _NAMES if name in result.trajectories}
    return validation_figure(planned, runs, found)


def validation_figure(plan, runs, population):
    """Every seed as a thin line, the population over it, the recorded run as points: a, the
    training loss, log10 p of every subset."""
    with style():
        figure, axes = grid(1, 3, _title(plan, runs), gap=0.6, right=0.5, above=0.2)
        left, middle, right = axes[0]
        for ax, quantity, name in ((left, "a", "$a$"), (middle, "loss", "training loss")):
            handles = _quantity(plan, runs, population, quantity, ax)
            ax.set_ylabel(name)
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="upper left",
            bbox_to_anchor=(0.06, 1 - 0.19 / figure.get_figheight()),
            ncols=4,
            handlelength=1.8,
        )
        _selector(plan, runs, population, right)
        for ax in axes[0]:
            ax.set_xscale("log")
            ax.set_xlim(plan.config.learning_rate, max(run.full.t_end for run in runs))
        finish(figure, axes, r"training time $t$ (step × learning rate)")
    return figure


def _title(plan, runs):
    config = plan.config
    sizes = ", ".join(
        f"{k}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{getattr(config, k)}" for k in _SHOWN
    )
    seeds = f"{len(runs)} seeds" if len(runs) > 1 else f"seed {runs[0].config.seed}"
    return f"chen: {sizes}, {config.sequences} sequences, {seeds}"


def _quantity(plan, runs, population, quantity, ax):
    handles = {}
    for run in runs:
        (handles["finite data"],) = ax.plot(
            run.full.t[1:], run.full[quantity][1:], color=_FULL, linewidth=0.8, alpha=0.8
        )
    for dynamics, trajectory in population.items():
        (handles[_NAMES[dynamics]],) = ax.plot(
            trajectory.t[1:],
            trajectory[quantity][1:],
            color=_POPULATION,
            linewidth=1.1,
            linestyle=_LINES[dynamics],
        )
    points = _recorded(plan, quantity)
    if points:
        (handles["recorded run"],) = ax.plot(
            *zip(*points, strict=True), color="black", clip_on=False, **_POINTS
        )
    return handles


def _selector(plan, runs, population, ax):
    labels = plan.config.labels
    count, ends = len(labels), []
    for k, label in enumerate(labels):
        colour = BRIGHT[k % len(BRIGHT)] if k < len(BRIGHT) else "#555555"
        for run in runs:
            values = log10_p(run.full.z[:, :count])[1:, k]
            ax.plot(run.full.t[1:], values, color=colour, linewidth=0.7, alpha=0.7)
            seen = values[values >= _LOWEST]
        for dynamics, trajectory in population.items():
            values = log10_p(trajectory.z[:, :count])[1:, k]
            ax.plot(
                trajectory.t[1:], values, color=colour, linewidth=0.9, linestyle=_LINES[dynamics]
            )
        points = _recorded(plan, f"log10_p_{label}")
        if points:
            ax.plot(*zip(*points, strict=True), color=colour, clip_on=False, **_POINTS)
        ends.append((seen, _name(label), colour))
    ax.set_ylim(_LOWEST, 3.0)
    ax.set_ylabel(r"$\log_{10} p_{\mathcal{S}}$")
    label_ends(ax, ends)


def _recorded(plan, quantity):
    if not plan.as_recorded:
        return []
    last = plan.config.steps * plan.config.learning_rate
    found = [(t, recorded(quantity, t)) for t in TIMES if 0 < t <= last]
    return [(t, said[0]) for t, said in found if said is not None]


def _name(label):
    heads = ",".join(label.split("_") if "_" in label else label)
    return r"$\emptyset$" if label == "empty" else rf"$\{{{heads}\}}$"


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
