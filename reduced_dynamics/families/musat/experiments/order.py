"""musat.order: the three coordinates of the induction head, and when they emerge as N grows."""

from itertools import pairwise

import numpy as np

from reduced_dynamics.core.fits import power_law
from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.musat.system import MUSAT3
from reduced_dynamics.integration.one import integrate
from reduced_dynamics.plotting.style import (
    HEAD,
    INK,
    REST_INK,
    finish,
    grid,
    label_ends,
    style,
    symbol,
)

#: Event and the power of N that the paper claims.
POWERS = {"T_gamma3": 1, "T_beta2": 2, "T_alpha3": 2, "t_icl": 2}
#: The order of emergence that the paper claims.
ORDER = tuple(POWERS)
COLOURS = {f"T_{name}": colour for name, colour in HEAD.items()} | {"t_icl": INK}
MARKERS = {"T_gamma3": "o", "T_beta2": "s", "T_alpha3": "^", "t_icl": "D"}
#: "At large N a ratio has reached its limit" means within this.
NEAR = 1e-2
#: A local exponent agrees with a power if it is within this.
WITHIN = 0.05

SETTINGS = (
    Setting("N", 64, "pairs of the run that is shown", 32, 8, kind="int", low=2, high=10**6),
    Setting("sizes", (8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536),
            "pairs, over which emergence times are followed", (8, 32, 128, 512, 2048, 8192),
            (8, 16, 32), kind="int", many=True, low=2, high=10**12),
)  # fmt: skip


def parts(settings):
    return {"shown": settings.N} | {f"N{N}": N for N in settings.sizes}


def work(settings, N, context):
    """The trajectory at N pairs, or its events alone."""
    run = integrate(MUSAT3, {"N": N})
    return run if N == settings.N else dict(run.events)


def conclude(settings, outcomes):
    shown, sizes = outcomes["shown"], sorted(set(settings.sizes))
    events = [outcomes[f"N{N}"] for N in sizes]
    events = [found.events if hasattr(found, "events") else found for found in events]
    times = {name: [found[name] for found in events] for name in POWERS}
    from derivations.musat.limits import sharp_constants

    limits = {name: float(value) for name, value in sharp_constants().items()}
    ratios = {
        name: [t / N**power for t, N in zip(times[name], sizes, strict=True)]
        for name, power in POWERS.items()
    }
    numbers = {
        "N": settings.N,
        "events": {name: shown.events[name] for name in POWERS},
        "first_integral_drift": shown.invariants["first_integral"],
        "sizes": sizes,
        "largest_N": sizes[-1],
        "times": times,
        "ratio": {name: column[-1] for name, column in ratios.items()},
        "limits": limits,
        "off_limit": {name: ratios[name][-1] / limits[name] - 1 for name in POWERS},
        "local_exponent": {
            name: float(power_law(sizes, column).local[-1]) for name, column in times.items()
        },
    }
    data = {"N": (("N",), sizes, "pairs")} | {
        f"ratio_{name}": (("N",), ratios[name], f"{name} / N^{power}, reduced training time")
        for name, power in POWERS.items()
    }
    return Conclusion(numbers, data, {"shown": shown})


def judge(numbers):
    times, local = numbers["times"], numbers["local_exponent"]
    rows = [
        [numbers["events"][name] for name in ORDER],
        *zip(*(times[n] for n in ORDER), strict=True),
    ]
    ordered = all(a < b for row in rows for a, b in pairwise(row))
    near = all(abs(off) < NEAR for off in numbers["off_limit"].values())
    return [
        Finding(
            "order of emergence γ3, β2, α3, then the head, "
            + ("at every N" if ordered else "does not hold at every N")
            + "; at N = {N}: {events[T_gamma3]:.1f}, {events[T_beta2]:.1f}, "
            "{events[T_alpha3]:.1f}, t_ICL = {events[t_icl]:.1f}",
            holds(ordered),
        ),
        Finding(
            "exponents of N between the two largest N: T_γ {local_exponent[T_gamma3]:.4f} "
            "(claimed 1); T_β {local_exponent[T_beta2]:.4f}, T_α "
            "{local_exponent[T_alpha3]:.4f}, t_ICL {local_exponent[t_icl]:.4f} (claimed 2)",
            holds(all(abs(local[name] - power) < WITHIN for name, power in POWERS.items())),
        ),
        Finding(
            "constants at N = {largest_N}: T_γ/N = {ratio[T_gamma3]:.5f} (limit 2 ln 2 = "
            "{limits[T_gamma3]:.5f}), T_β/N² = {ratio[T_beta2]:.5f} ({limits[T_beta2]:.5f}), "
            "T_α/N² = {ratio[T_alpha3]:.5f} ({limits[T_alpha3]:.5f}), t_ICL/N² = "
            "{ratio[t_icl]:.5f} (2√(2π) = {limits[t_icl]:.5f}); "
            + ("all within 1 %" if near else "not yet within 1 %")
        ),
        Finding(
            "the first integral α + (e^α − 1)/(2N − 2) − β²/2 drifts by "
            "{first_integral_drift:.1e} at most"
        ),
    ]


def draw(result):
    trajectory, limits = result.trajectories["shown"], result.numbers["limits"]
    sizes = result.data["N"].values
    with style():
        N = trajectory.parameters["N"]
        title = f"musat3: the flow of three coordinates, query last; left and middle N = {N}"
        figure, axes = grid(1, 3, title, gap=0.72, right=0.42, above=0.1)
        left, middle, right = axes[0]
        end = min(trajectory.t_end, 1.6 * trajectory.events["t_icl"])
        for ax, t in (
            (left, np.linspace(0.0, end, 600)),
            (middle, np.geomspace(max(0.1, 1e-6 * end), end, 600)),
        ):
            states = trajectory.at(t)
            curves = []
            for k, name in enumerate(trajectory.coordinates):
                ax.plot(t, states[:, k], color=HEAD[name])
                curves.append((states[:, k], symbol(name), HEAD[name]))
            A = np.interp(t, trajectory.t, trajectory["A"])
            ax.plot(t, A, color=INK, linestyle=(0, (4, 1.5)), linewidth=1.2)
            curves.append((A, "$A$", INK))
            ax.axhline(0.5, color=REST_INK, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5)
            ax.set_xlim(t[0], t[-1])
            if ax is middle:
                ax.set_xscale("log")
            else:
                label_ends(ax, curves)
        for ax in (left, middle):
            ax.set_xlabel("time $t$ (step × rate / $D$)")
            # A power of ten belongs beside the tick labels; below them it meets the axis label.
            ax.xaxis.offsetText.set(x=1.03, ha="left", va="bottom")
        left.set_ylabel("coordinates; $A$")
        for name in POWERS:
            power = "" if POWERS[name] == 1 else f"^{POWERS[name]}"
            look = {"color": COLOURS[name], "marker": MARKERS[name], "markersize": 3.2}
            right.plot(sizes, result.data[f"ratio_{name}"], linestyle="none", **look)
            right.axhline(limits[name], color=COLOURS[name], linewidth=0.8, linestyle=(0, (4, 2)))
            label = symbol(name).strip("$")
            right.annotate(
                f"${label}/N{power}$", (1.02, limits[name]), xycoords=right.get_yaxis_transform(),
                va="center", fontsize=8.0, color=COLOURS[name], annotation_clip=False,
            )  # fmt: skip
        right.set(xscale="log", ylim=(0.0, None), xlabel="pairs $N$", ylabel="time / power of $N$")
        finish(figure, axes, "")
    return figure


EXPERIMENT = Experiment.of(
    __name__,
    name="musat.order",
    question="in which order do the three coordinates of the head emerge, and how late with N?",
    title="three coordinates of an induction head, and when they emerge",
    claim="three of the 19 coordinates make the induction head; they emerge in the order γ3, β2, "
    "α3, and the time until the head has formed is quadratic in the context: T_γ = Θ(N), "
    "T_β, T_α, t_ICL = Θ(N²).",
    source="Musat et al., arXiv 2511.01033, Theorem 2",
    caption="the flow of α3, β2 and γ3 from zero, the other 16 coordinates at 0, orthonormal "
    "inputs, last item queried, threshold 0.5. Left and middle: the coordinates and the attention "
    "A on the right label at N = {N}. Right: emergence times over the power of N that the paper "
    "claims, for N = {sizes}; dashed, their limits as N → ∞, derived by SymPy (beyond the paper).",
    cost={"full": 20, "quick": 5},
)
