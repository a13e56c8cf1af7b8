"""wang.early-drop: why the induction loss falls before its plateau, and by how much."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds, near
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.wang import comparisons
from reduced_dynamics.families.wang.system import WANG, a_star
from reduced_dynamics.integration.one import integrate, report_at
from reduced_dynamics.plotting.style import BRIGHT, INK, REST_INK, finish, grid, style

#: "The induction loss stays where it is" means above this part of its start.
STAYS = 0.99
#: Lengths in training time within which the plateau is entered: 3.4 at the paper's values.
ENTERED = 20
#: What is left agrees with its limit at large L within this part of it.
WITHIN = 0.02
#: What is held at σ_init in the two runs that tell the cause, their labels and colours.
ARMS = {
    "free": ((), "nothing held", INK),
    "w_held": (("w_Q", "w_K"), "$w_Q$, $w_K$ held", BRIGHT[1]),
    "h_held": (("h",), "$h$ held", BRIGHT[0]),
}

SETTINGS = (
    Setting("lengths", (10, 20, 40, 80, 160, 320, 1280), "values of L over which the rest is "
            "followed", (20, 40, 160, 640), (20, 40), kind="int", many=True, low=5),
    Setting("ws", (0.2, 0.3, 0.4, 0.49, 0.6, 0.7), "values of w* over which it is followed",
            (0.3, 0.49, 0.7), (0.49, 0.6), many=True, low=0.01),
    *comparisons.system(engine=(None, None, "asymptotic")),
)  # fmt: skip


def parts(settings):
    shared = comparisons.parameters(settings)
    found = {f"{arm}": (shared, arm) for arm in ARMS}
    for name, values in (("L", settings.lengths), ("w_star", settings.ws)):
        found |= {f"{name}{value:g}": (shared | {name: value}, "") for value in values}
    for parameters, _ in found.values():
        WANG.values(parameters)
    return found


def work(settings, part, context):
    """A run's trajectory; or what is left of L_IH at its plateau, and the limit of that."""
    parameters, arm = part
    if arm == "free":
        return integrate(WANG, parameters)
    run = integrate(WANG, parameters, t_end=f"{ENTERED} * L")
    entered = run.events["T_plateau_in"]
    if entered is None:
        raise InputError(
            f"L_IH does not come within 1 % of its saddle in a time of {ENTERED} L with these "
            "settings: there is no plateau"
        )
    if not arm:
        left = 1.01 / float(run["L_IH_over_L_sad"][0])
        return {"left": left, "limit": limit(WANG.values(parameters))}
    held = dict.fromkeys(ARMS[arm][0], settings.sigma_init)
    return integrate(WANG, parameters, t_end=3.0 * entered, clamp=held)


def limit(values: Mapping[str, Any]) -> float | None:
    """What h alone leaves of L_IH as L → ∞, when it comes within 1 % of the saddle's.

    From h = σ_init; from 0 it is 1.01 (1 − √(1 − 2a*²)) (`derivations.wang.derive.early_drop`).
    None for a* beyond the range of the asymptotic overlaps.
    """
    from derivations.wang import derive

    a = a_star(values)
    if 2.0 * a * a >= 1.0:
        return None
    loss = derive.asymptotic_loss().subs({derive.w_Q: 0, derive.w_K: 0})
    part = loss.subs(derive.h, derive.c) / loss.subs(derive.h, values["sigma_init"])
    c = 1.0 / (1.0 + values["alpha_star"])
    return 1.01 * float(part.subs({derive.a_star: a, derive.c: c, derive.N: values["L"] - 3}))


def conclude(settings, outcomes):
    free = outcomes["free"]
    entered, escaped = (free.events[name] for name in ("T_plateau_in", "T_plateau_out"))
    left = {}
    for arm in ARMS:
        run = outcomes[arm]
        at = report_at(WANG.adapted(run.parameters), run, [entered])
        left[arm] = at["L_IH"][0] / run["L_IH"][0]
    state = dict(zip(free.coordinates, free.at([entered])[0].tolist(), strict=True))
    over = {}
    for name, values in (("L", settings.lengths), ("w_star", settings.ws)):
        found = [outcomes[f"{name}{value:g}"] for value in values]
        over[name] = {
            "values": values,
            "left": [one["left"] for one in found],
            "limit": [one["limit"] for one in found],
        }
    known = WANG.values(comparisons.parameters(settings))
    longest = int(np.argmax(settings.lengths))
    numbers = {
        **known,
        "T_plateau_in": entered,
        "T_plateau_out": escaped,
        "stays": STAYS,
        "within": WITHIN,
        "left": left,
        "state": state,
        "moved": {"h": state["h"] / settings.sigma_init, "w_Q": state["w_Q"] / settings.sigma_init},
        "over": over,
        "limit": limit(known),
        "longest": settings.lengths[longest],
        "left_longest": over["L"]["left"][longest],
    }
    data = {}
    for name, found in over.items():
        data[name] = ((name,), found["values"], f"values of {name}")
        for kind, meaning in (("left", "L_IH at the plateau over its start"), ("limit", "L → ∞")):
            numbers_of = np.array(found[kind], float)
            data[f"{kind}_{name}"] = ((name,), numbers_of, meaning)
    return Conclusion(numbers, data, {arm: outcomes[arm] for arm in ARMS})


def judge(numbers):
    left, limit_of = numbers["left"], numbers["limit"]
    cause = left["h_held"] > numbers["stays"] and left["w_held"] < numbers["stays"]
    return [
        Finding(
            "before its plateau, by t = {T_plateau_in:.1f}, the induction loss "
            + ("stays where it is" if left["free"] > numbers["stays"] else "does not stay")
            + ": {left[free]:.2%} of its start are left; the plateau that lasts to "
            "{T_plateau_out:.1f} is that of the saddle w = 0, h = c",
            holds(left["free"] > numbers["stays"]),
            claim="in the first phase the loss of the induction head stays where it is",
            why="h moves while w_Q w_K is still near 0, and takes most of the loss with it",
        ),
        Finding(
            ("the cause is h" if cause else "the cause is not h alone")
            + ": with w_Q and w_K held where they start {left[w_held]:.2%} are left at that time, "
            "with h held {left[h_held]:.2%}; h has grown {moved[h]:.1f}-fold by then, w_Q "
            "{moved[w_Q]:.2f}-fold"
        ),
        Finding(
            "what h leaves as L → ∞, 1.01 (1 − √(1 − 2a*²)) but for its start at σ_init, is "
            "{limit:.4f}; at L = {longest} it is {left_longest:.4f}",
            ""
            if limit_of is None
            else near(numbers["left_longest"], limit_of, numbers["within"] * limit_of),
            claim="derived in derivations/wang/derive.py: early_drop",
        ),
        Finding(
            "over w* = {over[w_star][values]:g} it is {over[w_star][left]:.3f}: the weaker the "
            "attention of the target, the more of it a mean of the tokens explains"
        ),
    ]


def draw(result):
    data, numbers = result.data, result.numbers
    with style():
        title = "induction loss before its plateau: α* = {alpha_star:g}, w* = {w_star:g}, L = {L}"
        figure, axes = grid(1, 3, title.format(**numbers), gap=0.72, right=0.12, above=0.12)
        left, middle, right = axes[0]
        end = 3.0 * numbers["T_plateau_in"]
        for arm, (_, label, colour) in ARMS.items():
            run = result.trajectories[arm]
            shown = run.t <= end
            dash = (0, (4, 2)) if arm == "w_held" else "-"
            left.plot(run.t[shown], (run["L_IH"] / run["L_IH"][0])[shown], color=colour,
                      linestyle=dash, label=label)  # fmt: skip
        left.axvline(numbers["T_plateau_in"], color=REST_INK, linewidth=0.7, linestyle=(0, (1, 2)))
        left.set(xlim=(0.0, end), ylim=(0.0, 1.05))
        left.legend(fontsize=7.5, loc="center right")
        left.set(xlabel="training time $t$", ylabel=r"$L_{\mathrm{IH}}$ / its start")
        for ax, name, label in ((middle, "L", "length $L$"), (right, "w_star", "$w^*$")):
            x = data[name].values
            ax.plot(x, data[f"left_{name}"], "o", color=INK, markersize=3.5, label="flow")
            look = {"color": BRIGHT[2], "linestyle": (0, (4, 2)), "linewidth": 1.0}
            ax.plot(x, data[f"limit_{name}"], label=r"$L\to\infty$", **look)
            ax.set(xlabel=label, ylabel=r"$L_{\mathrm{IH}}$ at the plateau / its start")
            ax.set_ylim(
                0.0, 1.15 * np.nanmax([data[f"{kind}_{name}"] for kind in ("left", "limit")])
            )
        middle.set_xscale("log")
        middle.set_xticks(data["L"].values, [f"{L}" for L in data["L"].values])
        middle.minorticks_off()
        right.legend(fontsize=7.5, loc="upper left")
        finish(figure, axes, "")
    return figure


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.early-drop",
    question="why does the induction loss fall in the first phase, and by how much?",
    title="the induction loss falls before its plateau, since h moves first",
    claim="in the first phase, partial learning, the 4-gram is learned while the loss of the "
    "induction head stays where it is; yet Figure 2 shows it falling.",
    source="Wang et al., arXiv 2410.11474, Theorem 4.5 and Figure 2; asked in the reviews",
    caption="the reduced flow of Stage II at L = {L}, α* = {alpha_star:g}, w* = {w_star:g}, "
    "σ_init = {sigma_init:g}. Left: the induction loss over its start, with nothing held, with "
    "w_Q and w_K held at σ_init, and with h held there; dotted, where the loss comes within 1 % of "
    "its saddle. Middle and right: what is left there, over L and over w* (points), and the limit "
    "as L → ∞ (dashed).",
    cost={"full": 35, "quick": 19},
)
