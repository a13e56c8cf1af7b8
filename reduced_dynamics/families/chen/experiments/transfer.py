"""chen.transfer: the trained model at other lengths and other priors than in training."""

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, Measured
from reduced_dynamics.experiments.setting import Setting, Settings
from reduced_dynamics.families.chen.validation import LENGTHS, PRIORS, plan, transfer
from reduced_dynamics.plotting.style import INK, finish, grid, style

SETTINGS = (
    Setting("t_end", 1000.0, "training time", 300.0, 12.0, low=1.0),
    Setting("sequences", 9000, "sequences of the training set", 9000, 200, kind="int", low=1),
    Setting("tested", 10_000, "fresh sequences of every test", 4000, 200, kind="int", low=2),
    Setting("lengths", LENGTHS, "lengths L at test time", LENGTHS, (10, 100), kind="int",
            many=True, low=4),
    Setting("priors", PRIORS, "Dirichlet parameters δ at test time", PRIORS, (0.1, 1.0),
            many=True, low=1e-3),
    Setting("seeds", (0, 1, 2), "seeds of the sequences", (0, 1), (0,), kind="seeds"),
)  # fmt: skip
#: Predictors: colour and marker.
_PREDICTORS = {
    "oracle": ("oracle", "#808080", "D"),
    "bayes": ("Bayes", "#009E73", "^"),
    "induction_head": ("induction head", "#D55E00", "s"),
    "model": ("trained model", "#0072B2", "o"),
}


def _jobs(settings):
    parameters = {"sequences": settings.sequences, "kernels": 64}
    return plan(parameters, seeds=list(settings.seeds), t_end=settings.t_end)


def parts(settings):
    return {f"seed{seed}": seed for seed in settings.seeds}


def work(settings, seed, context):
    job = next(job for job in _jobs(settings) if job.config.seed == seed)
    full = job.trained(context.progress, context.checkpoint)
    rows = transfer(full, job.config, settings.lengths, settings.priors, settings.tested)
    return [row | {"seed": seed} for row in rows]


def conclude(settings, outcomes):
    config = _jobs(settings)[0].config
    rows = [row for one in outcomes.values() for row in one]
    tests = dict.fromkeys((row["L"], row["dirichlet"], row["loss"]) for row in rows)
    table = []
    for L, dirichlet, loss in tests:
        here = [r for r in rows if (r["L"], r["dirichlet"], r["loss"]) == (L, dirichlet, loss)]
        mean = {
            k: float(np.mean([row[k] for row in here]))
            for k, v in here[0].items()
            if isinstance(v, float) and k != "dirichlet"
        }
        error = mean["standard_error"] / np.sqrt(len(here))
        excess = mean["model"] - mean["induction_head"]
        table.append({"L": L, "dirichlet": dirichlet, "loss": loss, **mean, "excess": excess,
                      "error": float(error)})  # fmt: skip
    own = [row for row in table if row["loss"] == config.loss]
    numbers = {
        **settings,
        "L": config.L, "dirichlet": config.dirichlet, "loss": config.loss,
        "table": table,
        "worst": max(own, key=lambda row: row["excess"]),
        "trained": next((row for row in own if (row["L"], row["dirichlet"]) ==
                         (config.L, config.dirichlet)), None),
    }  # fmt: skip
    data = {
        name: (("test",), [row[name] for row in own], meaning)
        for name, meaning in (
            ("L", "length at test time"),
            ("dirichlet", "Dirichlet parameter δ at test time"),
            ("model", "mean loss of the trained model"),
            ("induction_head", "mean loss of the generalised induction head"),
            ("bayes", "least mean loss of who knows order and prior"),
            ("oracle", "least mean loss of who knows the kernel"),
            ("unmatched", "part of the sequences without a match"),
        )
    }
    return Conclusion(numbers, data)


def judge(numbers):
    worst, own = numbers["worst"], numbers["trained"]
    findings = [
        Finding(
            f"at other lengths and priors the trained model's loss exceeds the generalised "
            f"induction head's by {worst['excess']:+.4f} ± {worst['error']:.4f} at most (L = "
            f"{worst['L']}, δ = {worst['dirichlet']:g}): what is learned is the head, not the "
            "length or the prior of training"
            if worst["excess"] < 0.01
            else f"at L = {worst['L']}, δ = {worst['dirichlet']:g} the trained model loses "
            f"{worst['excess']:+.4f} ± {worst['error']:.4f} against the generalised induction head",
            measured=Measured(worst["excess"], worst["error"], n=numbers["tested"]),
        )
    ]
    if own is not None:
        findings.append(
            Finding(
                f"where it was trained: model {own['model']:.4f}, head "
                f"{own['induction_head']:.4f}, Bayes {own['bayes']:.4f}, oracle "
                f"{own['oracle']:.4f}; no match in {own['unmatched']:.1%} of the sequences",
                measured=Measured(own["excess"], own["error"], n=numbers["tested"]),
            )
        )
    return findings


def draw(result):
    """Above the mean loss, the one trained on, below accuracy; left against L, right against δ; a
    line marks the training's."""
    config, rows = _jobs(Settings(result.settings))[0].config, result.numbers["table"]
    with style():
        title = (
            f"trained at L = {config.L}, dirichlet = {config.dirichlet:g} (loss {config.loss}), "
            "tested elsewhere"
        )
        figure, axes = grid(2, 2, title, gap=0.62, between=0.25, above=0.25, right=0.12)
        for column, (key, fixed, label) in enumerate(
            (("L", "dirichlet", "length $L$"), ("dirichlet", "L", r"Dirichlet parameter $\delta$"))
        ):
            chosen = [r for r in rows if r[fixed] == getattr(config, fixed)]
            for row, suffix in enumerate(("", "_accuracy")):
                ax = axes[row, column]
                _transfer(ax, [r for r in chosen if r["loss"] == config.loss], key, suffix)
                ax.axvline(getattr(config, key), color=INK, linewidth=0.5, linestyle=(0, (1, 2)))
                ax.set_xscale("log")
            axes[1, column].set_xlabel(label)
        axes[0, 0].set_ylabel(f"loss ({config.loss})")
        axes[1, 0].set_ylabel("accuracy")
        axes[0, 0].legend(loc="lower left", bbox_to_anchor=(-0.05, 0.98), ncols=4, handlelength=1.4)
        finish(figure, axes, "")
    return figure


def _transfer(ax, rows, key, suffix):
    places = sorted({r[key] for r in rows})
    for name, (label, colour, marker) in _PREDICTORS.items():
        means = [np.mean([r[name + suffix] for r in rows if r[key] == x]) for x in places]
        look = {"color": colour, "marker": marker, "markersize": 3.0, "linewidth": 1.0}
        if name == "model":  # often on top of another: a ring around its point
            look |= {"markersize": 5.5, "markerfacecolor": "none", "linestyle": (0, (1, 2))}
        ax.plot(places, means, label=label, **look)


EXPERIMENT = Experiment.of(
    __name__,
    name="chen.transfer",
    question="what does the trained model do at other lengths and other Dirichlet priors?",
    title="the trained model at other lengths and priors",
    caption="trained at L = {L}, δ = {dirichlet:g} on loss {loss} to t = {t_end:g}, seeds {seeds}; "
    "{tested} fresh sequences a test, the same for all predictors. Above the mean loss, below how "
    "often the likeliest state is the target. Induction head: the generalised one; Bayes knows "
    "order and prior, oracle the kernel, both give the output with the least expected loss.",
    cost={"full": 60, "quick": 20},
)
