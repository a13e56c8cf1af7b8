"""chen.step-size: when does the flow describe gradient descent?"""

from itertools import pairwise

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, Measured, near
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.chen.system import CHEN
from reduced_dynamics.integration.one import integrate
from reduced_dynamics.plotting.style import BRIGHT, INK, finish, grid, style

SETTINGS = (
    Setting("kernels", 2000, "kernels that stand for the population", 512, 64, kind="int", low=1),
    Setting("steps", (1e-3, 5e-4, 2.5e-4, 1.25e-4), "steps of gradient descent, training time",
            (1e-3, 5e-4), (1e-2, 5e-3), many=True, low=1e-9),
    Setting("t_end", 0.5, "training time at which both are compared", 0.5, 0.1, low=1e-6),
    Setting("long", 1.0, "the recorded run's step, whose growth of |c| is shown", low=1e-6),
    Setting("seed", 0, "seed of the kernels", kind="int", low=0),
)  # fmt: skip
#: The order of convergence that Euler's method has, and how near it agrees.
ORDER, WITHIN = 1.0, 0.05
_RTOL = 1e-8


def parts(settings):
    return {"flow": None, "long": settings.long} | {f"{s:g}": s for s in settings.steps}


def work(settings, step, context):
    values = {"kernels": settings.kernels, "seed": settings.seed}
    options = {"t_end": settings.t_end, "rtol": _RTOL}
    if step is not None:
        t_end = 20.0 * step if step == settings.long else settings.t_end
        options = {"t_end": t_end, "dynamics": "gd", "step": step}
    run = integrate(CHEN, values, progress=context.progress, **options)
    return {
        "z": run.z[-1],
        "selector": [name.startswith("c_") for name in run.coordinates],
        "growth": float(run.invariants["log_sum_c2"]),
    }


def conclude(settings, outcomes):
    flow, selector = outcomes["flow"], np.array(outcomes["flow"]["selector"])
    rows = []
    for step in settings.steps:
        found = outcomes[f"{step:g}"]
        difference = np.abs(found["z"] - flow["z"])
        rows.append(
            {
                "step": step,
                "error": float(difference[~selector].max()),
                "selector_error": float(difference[selector].max()),
                "growth": found["growth"],
            }
        )
    data = {"step": (("step",), [row["step"] for row in rows], "step, training time")}
    for name, meaning in (
        ("error", "largest difference of a and W from the flow"),
        ("selector_error", "largest difference of log c² from the flow"),
        ("growth", "rise of log Σ c², which the flow conserves"),
    ):
        data[name] = (("step",), [row[name] for row in rows], meaning)
    orders = [
        float(
            np.log(before["selector_error"] / row["selector_error"])
            / np.log(before["step"] / row["step"])
        )
        for before, row in pairwise(rows)
    ]
    numbers = {**settings, "rows": rows, "orders": orders,
               "long_growth": outcomes["long"]["growth"]}  # fmt: skip
    return Conclusion(numbers, data)


def judge(numbers):
    last = numbers["orders"][-1] if numbers["orders"] else None
    return [
        Finding(
            "descent approaches the flow with order "
            + ", ".join(f"{order:.4f}" for order in numbers["orders"])
            + " in its step",
            near(last, ORDER, WITHIN),
            "the flow is the limit of small steps (Euler's method: first order)",
            Measured(last, n=len(numbers["rows"])),
        ),
        Finding(
            "with the recorded run's step {long:g}, |c|² rises by a factor of "
            f"{np.exp(numbers['long_growth']):.0f} within the first 20 steps, where the flow "
            "conserves it: these steps are not a flow, and the flow selects that much sooner"
        ),
    ]


def draw(result):
    """How far descent is from the flow against its step, beside first order."""
    rows = result.numbers["rows"]
    with style():
        title = "chen: gradient descent against the flow at the same time"
        figure, axes = grid(1, 1, title, right=1.2)
        ax = axes[0, 0]
        named = {"textcoords": "offset points", "va": "center", "fontsize": 8}
        steps = np.array([row["step"] for row in rows])
        for key, label, colour in (
            ("selector_error", r"$\log c^2$", BRIGHT[0]),
            ("error", "$a$ and $W$", BRIGHT[1]),
            ("growth", r"growth of $\log \Sigma c^2$", BRIGHT[2]),
        ):
            values = np.array([row[key] for row in rows])
            ax.plot(steps, values, marker="o", markersize=3.5, color=colour)
            end = (steps.max(), values[steps.argmax()])
            ax.annotate(label, end, (8.0, 0.0), color=colour, **named)
        first = rows[0]["selector_error"] * steps / steps[0]
        ax.plot(steps, first, color=INK, linewidth=0.6, linestyle=(0, (4, 2)))
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(steps, [f"{step:.3g}" for step in steps])
        ax.set_xticks([], minor=True)
        ax.set_ylabel("largest difference")
        finish(figure, axes, "step (dashed: first order)")
    return figure


EXPERIMENT = Experiment.of(
    __name__,
    name="chen.step-size",
    question="when does the flow describe gradient descent, and when not?",
    title="gradient descent against the flow at the same time",
    caption="gradient descent on the population ({kernels} kernels) with steps {steps:g} against "
    "the gradient flow at t = {t_end:g}: largest differences of log c², of a and W, and how much "
    "log Σ c² has risen, which the flow conserves; dashed, first order.",
    cost={"full": 30, "quick": 10},
)
