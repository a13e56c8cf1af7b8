"""``run``: integrate one trajectory."""

import sys
from typing import Any

from reduced_dynamics import catalogue
from reduced_dynamics.commands.arguments import add_options, gather
from reduced_dynamics.commands.outputs import draw, say
from reduced_dynamics.commands.progress import Reporter
from reduced_dynamics.core.errors import InputError, IntegrationError
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.integration.one import Interrupted, integrate, report_at
from reduced_dynamics.io import storage
from reduced_dynamics.io.jsonable import printed
from reduced_dynamics.plotting.style import check_target
from reduced_dynamics.public import trajectory_figure

DESCRIPTION = """\
Integrate one trajectory of a reduced system and report when things emerge.

  simulate.py run musat3 --set N=1000
  simulate.py run musat19 --set N=64 --set query=uniform --plot emergence.pdf
  simulate.py run musat3 --set N=64 --t-end '8*N**2' --at 100,1000,10000 --out run.nc
  simulate.py run musat19 --set N=16 --clamp alpha1=0 --json
  simulate.py run musat3 --set N=8 --dynamics gd --step 0.5

A config file holds the same options: t-end = "8*N**2" at the top, parameters under [set],
held coordinates under [clamp], other starts under [start].
"""


def add_parser(commands):
    command = commands.add_parser("run", help="integrate one trajectory", description=DESCRIPTION)
    command.add_argument("system", nargs="?", metavar="SYSTEM", help="musat3, musat19, ...")
    add_options(command)
    add = command.add_argument
    add("--out", metavar="FILE", help="save it: .nc, .npz, .csv or .json")
    add("--plot", metavar="FILE", help="draw it: .png, .pdf or .svg")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    return command


def execute(options) -> int:
    parameters, integration, files = gather(options)
    if not files["system"]:
        raise InputError(
            "name the system to run, e.g. simulate.py run musat3; see simulate.py list"
        )
    system = catalogue.system(files["system"])
    if files["out"]:
        storage.check_target(files["out"])
    if files["plot"]:
        check_target(files["plot"])
    try:
        with Reporter() as reporter:
            trajectory = integrate(system, parameters, progress=reporter, **integration)
    except (IntegrationError, Interrupted) as stopped:
        if stopped.trajectory is not None:
            keep(stopped.trajectory, files)
            if files["json"]:
                print(printed(as_json(stopped.trajectory, None)))
            if isinstance(stopped, Interrupted):
                print(f"simulate.py: {stopped.trajectory.message}", file=sys.stderr)
                return 130
        raise
    at = report_at(system, trajectory, integration.get("at", ()))
    keep(trajectory, files)
    if files["json"]:
        print(printed(as_json(trajectory, at)))
    else:
        remarks = catalogue.find("remarks", system.name) or (lambda _: ())
        print("\n".join([*as_text(trajectory, at), *remarks(trajectory)]))
    return 0


def keep(trajectory: Trajectory, files: dict[str, Any]) -> None:
    """Save and draw what was asked for; also the part of a run that was cut short."""
    if files["out"]:
        storage.save(trajectory, files["out"])
        say(f"saved {files['out']}", files["json"])
    if files["plot"]:
        draw(trajectory_figure(trajectory), files["plot"], files["json"])


def as_json(trajectory: Trajectory, at: dict[str, list[float]] | None) -> dict[str, Any]:
    """The object that ``run --json`` prints."""
    told = ("method", "rtol", "atol", "dynamics", "step")
    result = {
        "system": trajectory.system,
        "parameters": dict(trajectory.parameters),
        "solver": {k: trajectory.solver[k] for k in told if k in trajectory.solver},
        "t_end": trajectory.t_end,
        "state": trajectory.final,
        "loss": float(trajectory.loss[-1]),
        "events": trajectory.events,
        "invariants": trajectory.invariants,
        "loss_rise": trajectory.loss_rise,
        "message": trajectory.message,
    }
    result |= {"at": at} if at else {}
    return result | {"stats": dict(trajectory.stats), "versions": dict(trajectory.versions)}


def as_text(trajectory: Trajectory, at: dict[str, list[float]] | None) -> list[str]:
    """What ``run`` prints for people."""
    parameters = ", ".join(f"{k}={v}" for k, v in trajectory.parameters.items() if v is not None)
    solver = trajectory.solver
    if solver["dynamics"] == "flow":
        how = f"{solver['method']}, rtol {solver['rtol']:g}, atol {solver['atol']:g}"
    else:
        how = f"gradient descent, step {solver['step']:g}"
    lines = [f"{trajectory.system} ({parameters})", f"  {how}"]
    lines += [f"  ended at t = {trajectory.t_end:.6g}: {trajectory.message}", "", "events"]
    happened = sorted((t, name) for name, t in trajectory.events.items() if t is not None)
    lines += [f"  {name:14} {t:.9g}" for t, name in happened]
    lines += [f"  {name:14} not reached" for name, t in trajectory.events.items() if t is None]
    again = len(trajectory.crossings) - len(happened)
    if again:
        lines.append(f"  and {again} further crossings (saved with --out)")
    lines += ["", f"state at t = {trajectory.t_end:.6g}"]
    lines += [f"  {name:14} {value:.9g}" for name, value in trajectory.final.items()]
    lines += [f"  {'loss':14} {trajectory.loss[-1]:.9g}  (start {trajectory.loss[0]:.9g})"]
    lines += [f"  {name:14} {v[-1]:.9g}" for name, v in trajectory.observables.items()]
    if at:
        lines += ["", "at"]
        names = list(at)
        shown = names if len(names) <= 8 else ["t", "loss", *_largest(at, 6)]
        lines.append("  " + " ".join(f"{n:>12}" for n in shown))
        lines += ["  " + " ".join(f"{at[n][k]:12.6g}" for n in shown) for k in range(len(at["t"]))]
        if len(shown) < len(names):
            lines.append(f"  (the {len(shown) - 2} that moved most; all of them with --json)")
    lines += ["", "checks"]
    for name, drift in trajectory.invariants.items():
        lines.append(f"  drift of {name:20} {drift:.2e}")
    rise = f"  largest rise of the loss {'':4} {trajectory.loss_rise:.2e}"
    if trajectory.loss_rise > 1e-3 * abs(trajectory.loss[0]):
        rise += ": no flow does that; the step is too long, or the loss has a pole"
    lines.append(rise)
    stats = trajectory.stats
    if "bank_error_loss" in stats:
        lines.append(
            f"  sampling error of the loss at the end {stats['bank_error_loss']:.2e}, from a bank "
            f"of {trajectory.parameters.get('bank') or trajectory.parameters['kernels']} draws"
        )
    lines.append(
        f"  {stats['steps']} steps, {stats['rhs']} right-hand sides, {stats.get('jac', 0)} "
        f"Jacobians, {stats['wall_s']:.2f} s"
    )
    return lines


def _largest(at: dict[str, list[float]], count: int) -> list[str]:
    names = [n for n in at if n not in ("t", "loss")]
    return sorted(names, key=lambda n: -max(map(abs, at[n])))[:count]
