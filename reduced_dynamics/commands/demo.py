"""The main job, shown: the head forms in the 3- and in the 19-dimensional flow.

Run by ``make demo``: integrates `musat3` and `musat19` to emergence, prints what happened beside
what the paper claims, and writes a figure and a data file for each.
"""

import argparse
import os

from reduced_dynamics.commands.progress import Reporter
from reduced_dynamics.io.storage import save
from reduced_dynamics.plotting.style import save_figure
from reduced_dynamics.public import integrate, trajectory_figure

#: Paper: order of emergence, and how the times scale with N.
ORDER = ("T_gamma3", "T_beta2", "T_alpha3", "t_icl")
SCALE = {"T_gamma3": 1, "T_beta2": 2, "T_alpha3": 2, "t_icl": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="demo", help="folder for figures and data (demo)")
    parser.add_argument("-N", type=int, default=64, help="number of item-label pairs (64)")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    limits = sharp_constants()
    for name in ("musat3", "musat19"):
        with Reporter() as reporter:
            trajectory = integrate(name, {"N": options.N}, progress=reporter)
        print("\n".join(compare(trajectory, options.N, limits if name == "musat3" else {})))
        data = os.path.join(options.out, f"{name}.nc")
        figure = os.path.join(options.out, f"{name}.png")
        save(trajectory, data)
        save_figure(trajectory_figure(trajectory), figure)
        print(f"  wrote {data} and {figure}\n")


def sharp_constants() -> dict[str, float]:
    """Limits of the scaled emergence times of `musat3` as N → ∞, derived by SymPy."""
    from derivations.musat import limits

    return {name: float(value) for name, value in limits.sharp_constants().items()}


def compare(trajectory, n: int, limits: dict[str, float]) -> list[str]:
    """What happened, beside the paper's claims."""
    events = trajectory.events
    lines = [f"{trajectory.system}, N = {n}: {trajectory.message}"]
    head = f"  {'event':10} {'time':>14} {'scaled':>22}"
    lines.append(head + (f" {'N → ∞ (derived)':>17}" if limits else ""))
    for name in ORDER:
        time, power = events[name], SCALE[name]
        scaled = f"t/N{'²' if power == 2 else ''} = {time / n**power:.6f}" if time else ""
        limit = f" {limits[name]:17.6f}" if limits else ""
        lines.append(f"  {name:10} {time:14.6g} {scaled:>22}{limit}" if time else f"  {name}: –")
    happened = [(events[e], e[2:]) for e in ORDER[:3] if events[e] is not None]
    order = " → ".join(name for _, name in sorted(happened))
    agrees = [name for _, name in sorted(happened)] == ["gamma3", "beta2", "alpha3"]
    lines.append(
        f"  order of emergence: {order}; the paper: gamma3 → beta2 → alpha3 "
        f"({'agrees' if agrees else 'differs'})"
    )
    drifts = [f"{k} {v:.1e}" for k, v in trajectory.invariants.items() if "-" in k or "_" in k]
    lines.append(
        f"  loss {trajectory.loss[0]:.4g} → {trajectory.loss[-1]:.3g}; largest rise "
        f"{trajectory.loss_rise:.1e}; drift of first integrals: {', '.join(drifts)}"
    )
    return lines


if __name__ == "__main__":
    main()
