"""chen.late: how fast a grows once the head has formed."""

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, Measured, near
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.chen.system import CHEN
from reduced_dynamics.integration.one import integrate, report_at
from reduced_dynamics.plotting.style import BRIGHT, INK, finish, grid, label_ends, style

SETTINGS = (
    Setting("kernels", 2000, "kernels that stand for the population", 512, 64, kind="int", low=1),
    Setting("t_end", 1e8, "horizon, training time", 1e6, 1e4, low=1e3),
    Setting("losses", ("ce", "log"), "losses", kind="choice", many=True, choices=("ce", "log")),
    Setting("seed", 0, "seed of the kernels", kind="int", low=0),
)
#: The law: a ≈ ln t + OFFSET; how near its slope agrees.
SLOPE, OFFSET, WITHIN = 1.0, 0.5, 0.02
_TOLERANCES = {"rtol": 1e-7, "atol": 1e-10}


def parts(settings):
    return {loss: loss for loss in settings.losses}


def work(settings, loss, context):
    values = {"kernels": settings.kernels, "seed": settings.seed, "loss": loss}
    flow = integrate(CHEN, values, t_end=settings.t_end, progress=context.progress, **_TOLERANCES)
    t = np.geomspace(1.0, settings.t_end, 161)
    found = report_at(CHEN, flow, t)
    return {"t": t, "a": np.array(found["a"]), "loss": np.array(found["loss"])}


def conclude(settings, outcomes):
    data, rows = {}, {}
    for loss, found in outcomes.items():
        t, a = found["t"], found["a"]
        slope = np.gradient(a, np.log(t))
        data |= {
            "t": (("t",), t, "training time"),
            f"a_{loss}": (("t",), a, f"a, loss {loss}"),
            f"slope_{loss}": (("t",), slope, f"da / d ln t, loss {loss}"),
        }
        rows[loss] = {
            "slope": float(slope[-2]),
            "slope_before": float(np.interp(np.log(t[-1]) - np.log(10.0), np.log(t), slope)),
            "offset": float(a[-1] - np.log(t[-1])),
            "a": float(a[-1]),
        }
    return Conclusion({**settings, "rows": rows}, data)


def judge(numbers):
    return [
        Finding(
            f"loss {loss}: da/d ln t = {row['slope']:.4f} at t = {numbers['t_end']:g} "
            f"({row['slope_before']:.4f} a tenth of that before), a − ln t = {row['offset']:+.3f}",
            near(row["slope"], SLOPE, WITHIN, abs(row["slope"] - row["slope_before"])),
            "a grows as ln t",
            Measured(row["slope"], n=1),
        )
        for loss, row in numbers["rows"].items()
    ]


def draw(result):
    with style():
        figure, axes = grid(1, 2, "chen: a after the head has formed", gap=0.75, right=0.6)
        left, right = axes[0]
        t, ends = result.data["t"].values, ([], [])
        for k, loss in enumerate(result.settings["losses"]):
            for ax, name, end in zip((left, right), ("a", "slope"), ends, strict=True):
                values = result.data[f"{name}_{loss}"].values
                ax.plot(t, values, color=BRIGHT[k])
                end.append((values, f"loss {loss}", BRIGHT[k]))
        law = np.log(t) + OFFSET
        left.plot(t[law > 0], law[law > 0], color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
        right.axhline(SLOPE, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
        left.set_ylabel("$a$ (dashed: ln $t$ + ½)")
        right.set_ylabel("$da / d\\ln t$ (dashed: 1)")
        for ax, end in zip((left, right), ends, strict=True):
            ax.set_xscale("log")
            ax.set_xlim(t[0], t[-1])
            label_ends(ax, end)
        finish(figure, axes, "training time $t$ (step × learning rate)")
    return figure


EXPERIMENT = Experiment.of(
    __name__,
    name="chen.late",
    question="how fast does a grow once the head has formed: is it a ≈ ln t + ½?",
    title="a long after the head has formed",
    claim="the second layer's a grows without bound; the rate of convergence to the limiting model "
    "follows from a ≈ ln t.",
    source="Chen et al., arXiv 2409.10559, the theorem's last stage",
    caption="the population flow over {kernels} kernels to t = {t_end:g}, losses {losses}: a with "
    "ln t + ½ (dashed), and its logarithmic slope.",
    cost={"full": 20, "quick": 8},
)
