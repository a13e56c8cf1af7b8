"""wang.scaling: how the induction head's emergence time T_half grows, beside what theory predicts.

On the plateau w grows at the unstable rate λ of the saddle (derived in
`derivations.wang.derive.saddle`: λ = c² a*/N to leading order), from σ to the order of √a*, so
T_half ≈ log(√a*/σ)/λ. The logarithm makes the exponent in w* smaller than the 2 of 1/λ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.fits import Fit, line, power_law
from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, Measured, near
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.wang import comparisons
from reduced_dynamics.families.wang.system import WANG, a_star
from reduced_dynamics.integration.one import integrate
from reduced_dynamics.integration.problem import Options, Problem
from reduced_dynamics.plotting.style import BRIGHT, INK, finish, grid, style


@dataclass(frozen=True)
class Law:
    """A parameter that is varied: T_half against what, how it is fitted and called."""

    values: str
    abscissa: Callable[[float], float]
    fit: Callable[..., Fit]
    said: str
    label: str


LAWS = {
    "L": Law("lengths", float, power_law, "exponent of L", "$L$"),
    "alpha_star": Law(
        "alphas", lambda x: 1 + x, power_law, "exponent of 1 + α*", r"$1 + \alpha^*$"
    ),
    "w_star": Law("ws", float, power_law, "exponent of w*", "$w^*$"),
    "sigma_init": Law(
        "sigmas", lambda x: -np.log(x), line, "slope in log(1/σ_init)",
        r"$\log(1/\sigma_{\mathrm{init}})$",
    ),
}  # fmt: skip
#: A measured exponent (or slope, as a part of itself) agrees if it is so near the predicted one.
WITHIN = 0.1
#: A run ends at so many times the predicted T_half.
LONG_AFTER = 4.0

SETTINGS = (
    Setting("lengths", (40, 80, 160, 320, 640, 1280), "values of L", (40, 80, 160, 320),
            (40, 160), kind="int", many=True, low=5),
    Setting("alphas", (0.25, 0.5, 1.0, 2.0, 4.0, 8.0), "values of α*", (0.5, 1.0, 2.0, 4.0),
            (1.0, 4.0), many=True, low=0),
    Setting("ws", (0.1, 0.15, 0.2, 0.3, 0.4, 0.5), "values of w*", (0.2, 0.3, 0.4, 0.5),
            (0.3, 0.5), many=True, low=0.01),
    Setting("sigmas", (1e-2, 1e-3, 1e-4, 1e-5, 1e-6), "values of σ_init", (1e-2, 1e-4, 1e-6),
            (1e-2, 1e-6), many=True, low=1e-300),
    Setting("level", 0.95, "confidence of the intervals", low=0, high=1),
    *comparisons.system(engine=(None, None, "asymptotic")),
)  # fmt: skip


def parts(settings):
    """Parameters of every run; impossible ones are refused here."""
    shared = comparisons.parameters(settings)
    found = {}
    for name, law in LAWS.items():
        if len(set(settings[law.values])) < 2:
            raise InputError(f"{law.values} needs at least two different values")
        for value in settings[law.values]:
            found[f"{name}{value:g}"] = shared | {name: value}
            WANG.values(found[f"{name}{value:g}"])
    return found


def work(settings, parameters, context):
    known, rate = WANG.values(parameters), unstable_rate(parameters)
    growth = float(0.5 * np.log(a_star(known)) - np.log(known["sigma_init"]))
    # Long after w has grown, and long before the 4-gram has settled.
    t_end = LONG_AFTER * growth / rate if growth > 0 else None
    when = integrate(WANG, parameters, t_end=t_end).events["T_half"]
    return {"T_half": when, "rate": rate, "growth": growth}


def unstable_rate(parameters: Mapping[str, Any]) -> float:
    """The rate λ at which w leaves the saddle w = 0 of a `wang` system in Stage II.

    The largest eigenvalue of the compiled flow's Jacobian at w = 0 and the h that is at rest there.
    """
    problem = Problem(WANG, parameters, Options())
    names = problem.system.names
    place = problem.z0.copy()
    at = [names.index("w_Q"), names.index("w_K")]
    place[at] = 0.0
    h = names.index("h")
    # The flow of h is linear: one Newton step ends it.
    for _ in range(2):
        place[h] -= problem.rate(0.0, place)[h] / problem.jacobian(0.0, place)[h, h]
    return float(np.linalg.eigvals(problem.jacobian(0.0, place)[np.ix_(at, at)]).real.max())


def conclude(settings, outcomes):
    laws, data = {}, {}
    for name, law in LAWS.items():
        values = np.array(settings[law.values], float)
        found = [outcomes[f"{name}{value:g}"] for value in values]
        for value, one in zip(values, found, strict=True):
            if one["T_half"] is None:
                raise InputError(
                    f"T_half is not reached at {name} = {value:g}; leave that value out"
                )
        times, rates, growth = (
            np.array([one[k] for one in found]) for k in ("T_half", "rate", "growth")
        )
        x = np.array([law.abscissa(value) for value in values])
        fit = law.fit(x, times, settings.level)
        predicted = law.fit(x, growth / rates, settings.level)
        laws[name] = {
            "said": law.said,
            "measured": fit.slope,
            "interval": fit.interval,
            "predicted": predicted.slope,
            "intercept": fit.intercept,
            "local": fit.local,
            "values": values,
            "T_half": times,
            "rate": rates,
            "linear": law.fit is line,
        }
        data[name] = ((name,), values, f"values of {name}")
        data[f"T_half_{name}"] = ((name,), times, "T_half, training time")
        data[f"rate_{name}"] = ((name,), rates, "unstable rate of the saddle, 1 / training time")
        data[f"predicted_{name}"] = ((name,), growth / rates, "log(√a*/σ)/λ, training time")
    numbers = comparisons.parameters(settings)
    return Conclusion(numbers | {"laws": laws, "level": settings.level, "within": WITHIN}, data)


def judge(numbers):
    findings = []
    for name, law in numbers["laws"].items():
        size = abs(law["predicted"]) if law["linear"] else 1.0
        low, high = law["interval"]
        known = low is not None and high is not None
        verdict = near(
            law["measured"], law["predicted"], numbers["within"] * size,
            0.5 * (high - low) if known else 0.0,
        )  # fmt: skip
        at = f"laws[{name}]"
        findings.append(
            Finding(
                f"{{{at}[said]}}: {{{at}[measured]:.4g}} ({{level:.0%}}: {{{at}[interval]:.4g}}), "
                f"between neighbours {{{at}[local]:.4g}}; predicted {{{at}[predicted]:.4g}}",
                verdict,
                claim="derived: w leaves the saddle at its unstable rate and grows to √a*, in the "
                "time log(√a*/σ_init)/λ",
                measured=Measured(
                    law["measured"], interval=(low, high) if known else None, n=len(law["values"])
                ),
                why="the prediction leaves out the time until h has risen, and how growth slows "
                "down at the end",
            )
        )
    return findings


def draw(result):
    numbers, data = result.numbers, result.data
    varied = {*LAWS, "laws", "level", "within"}
    fixed = ", ".join(f"{k} = {v}" for k, v in numbers.items() if k not in varied and v is not None)
    with style():
        title = f"T_half in wang: {fixed}; else L = {numbers['L']}, α* = {numbers['alpha_star']:g}"
        title += f", w* = {numbers['w_star']:g}, σ_init = {numbers['sigma_init']:g}"
        figure, axes = grid(2, 2, title, gap=0.7, between=0.75, right=0.1, above=0.22)
        for ax, (name, law) in zip(axes.flat, LAWS.items(), strict=True):
            _panel(ax, law, numbers["laws"][name], data[f"predicted_{name}"].values)
        for ax in axes[:, 0]:
            ax.set_ylabel(r"$T_{\mathrm{half}}$ (training time)")
        finish(figure, axes, "")
    return figure


def _panel(ax, law: Law, found, predicted) -> None:
    x = np.array([law.abscissa(value) for value in found["values"]])
    if found["linear"]:
        fitted = found["intercept"] + found["measured"] * x
        text = f"slope {found['measured']:.1f}, predicted {found['predicted']:.1f}"
    else:
        ax.set(xscale="log", yscale="log")
        ax.set_xticks(x, [f"{value:g}" for value in x], minor=False)
        ax.minorticks_off()
        fitted = np.exp(found["intercept"]) * x ** found["measured"]
        text = f"exponent {found['measured']:.2f}, predicted {found['predicted']:.2f}"
    ax.plot(x, fitted, color=BRIGHT[0], label="fit")
    look = {"color": BRIGHT[1], "linestyle": (0, (4, 1.5)), "linewidth": 1.2}
    ax.plot(x, predicted, label=r"$\log(\sqrt{a^*}/\sigma)/\lambda$", **look)
    ax.plot(x, found["T_half"], "o", color=INK, markersize=4, zorder=3, label="flow")
    ax.set_title(text, fontsize=8.0, color=INK)
    ax.set_xlabel(law.label)
    if law.label == "$L$":
        ax.legend(fontsize=7.0, loc="upper left")


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.scaling",
    question="how late does the induction head of the mixed target emerge, over L, α*, w* and σ?",
    title="emergence time of the induction head, measured and predicted",
    caption="T_half, when the induction loss is half of its saddle's, in the reduced flow of Stage "
    "II, one parameter varied at a time about L = {L}, α* = {alpha_star:g}, w* = {w_star:g}, "
    "σ_init = {sigma_init:g} (points); least squares through them (solid; bends count as scatter "
    "in its interval) and the growth of w at the saddle's unstable rate λ from σ_init to its end "
    "√a* (dashed), which leaves out the time until h has risen.",
    cost={"full": 70, "quick": 32},
)
