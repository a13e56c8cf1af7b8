"""``bench``: speed at equal accuracy, beside other integrators where they are installed."""

import json
import math
import os
import platform
from dataclasses import asdict
from functools import partial

import numpy as np

from reduced_dynamics import catalogue
from reduced_dynamics.commands.arguments import number, whole
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.io.files import check_target, write
from reduced_dynamics.io.jsonable import plain

DESCRIPTION = """\
Integrate the same trajectories with this package's integrator and with others, each at the
loosest tolerance that gives the accuracy asked for, and print trajectories per second.

  simulate.py bench
  simulate.py bench musat19 --points 20
  simulate.py bench wang
  simulate.py bench musat3 --accuracy 1e-9 --json bench.json

Other integrators take part where they are installed: pip install 'reduced-dynamics[bench]'.
"""


def _wang(count: int) -> list[dict]:
    """Targets and starts of the exact engine, which share one table of overlaps."""
    alphas = np.geomspace(0.3, 3.0, count)
    starts = np.random.default_rng(0).permutation(np.geomspace(0.003, 0.03, count))
    chosen = np.random.default_rng(1).permutation(count)
    return [
        {"engine": "exact", "alpha_star": float(alphas[k]), "sigma_init": float(starts[k])}
        for k in chosen
    ]


#: System: its points from a count, horizon (the system's own bound if empty), and how many points
#: by default.
CASES = {
    "musat3": (lambda count: [{"N": n} for n in _sizes(8, 512, count)], "20*N**2", 1000),
    "musat19": (lambda count: [{"N": 64}] * count, "4*N**2", 32),
    "wang": (_wang, "", 100),
}


def _sizes(low: int, high: int, count: int) -> list[int]:
    """Sizes spread evenly in their logarithm, in random but fixed order."""
    sizes = np.round(np.geomspace(low, high, count)).astype(int)
    return np.random.default_rng(0).permutation(sizes).tolist()


def add_parser(commands):
    command = commands.add_parser(
        "bench", help="speed and accuracy beside other integrators", description=DESCRIPTION
    )
    add = command.add_argument
    add("system", nargs="?", metavar="SYSTEM", help="musat3, musat19 or wang; all by default")
    add("--points", metavar="N", help="how many trajectories")
    add(
        "--accuracy",
        metavar="X",
        default="1e-8",
        help="largest relative error of an event's time (1e-8)",
    )
    add("--repeat", metavar="N", default="3", help="the best of so many timings counts (3)")
    add("--json", metavar="FILE", help="write the table to a file; - is standard output")
    return command


def execute(options) -> int:
    from reduced_dynamics.io.versions import versions

    if options.system is not None and options.system not in CASES:
        raise unknown("system to measure", options.system, CASES)
    repeat, accuracy = _count("repeat", options.repeat), number("accuracy", options.accuracy)
    if not 1e-11 <= accuracy <= 1e-3:
        raise InputError(f"--accuracy {accuracy:g} is out of range; it lies in 1e-11 .. 1e-3")
    chosen = [options.system] if options.system else list(CASES)
    counts = [
        CASES[name][2] if options.points is None else _count("points", options.points)
        for name in chosen
    ]
    quiet = options.json == "-"
    if options.json and not quiet:
        ending = os.path.splitext(options.json)[1].lower()  # any will do, and none
        check_target(options.json + ("" if ending else ".json"), [ending or ".json"])
    told = {"accuracy": accuracy, "machine": platform.machine(), "versions": versions()}
    tell = (lambda text: None) if quiet else partial(print, flush=True)
    told["cases"] = [
        _measured(name, count, accuracy, repeat, tell)
        for name, count in zip(chosen, counts, strict=True)
    ]
    if options.json:
        text = json.dumps(told, indent=1)
        if quiet:
            print(text)
        else:
            write(options.json, (text + "\n").encode())
    return 0


def _measured(name: str, count: int, accuracy: float, repeat: int, tell) -> dict:
    """One table, told line by line."""
    from reduced_dynamics.bench.measure import compare, make_case

    points, horizon, _ = CASES[name]
    system = catalogue.system(name)
    horizon = horizon or system.horizon.bound
    case = make_case(system, points(count), horizon)
    tell(
        f"{name}, {count} points to t = {horizon}, one thread; events right to "
        f"{accuracy:g} (reference and Radau at 1e-12 differ by {case.checked:.1e})\n"
    )
    tell(_HEAD)
    rows = []
    for row in compare(case, accuracy, repeat):
        rows.append(row)
        tell(_line(row))
    ratios = _ratios(rows)
    tell("\n" + "\n".join(f"{text}: {ratio:.3g}" for text, ratio in ratios.items()) + "\n")
    return {
        "system": name, "points": count, "t_end": horizon,
        "reference_against_radau": case.checked, "rows": plain(list(map(asdict, rows))),
        "ratios": ratios,
    }  # fmt: skip


_HEAD = (
    f"{'':22}{'rtol':>8}{'event error':>13}{'per second':>12}{'each':>12}"
    f"{'attempts':>10}{'rhs':>9}{'floor':>8}{'points':>8}"
)


def _line(row) -> str:
    if row.note:
        return f"{row.contender:22}  {row.note}"
    steps = "" if row.steps is None else f"{row.steps:.0f}"
    rhs = "" if row.rhs is None else f"{row.rhs:.0f}"
    floor = "" if row.floor is None else f"{row.floor:.0%}"
    return (
        f"{row.contender:22}{row.rtol:8.0e}{row.error:13.1e}{row.per_s:12.4g}"
        f"{1e6 * row.trajectory_s:9.0f} µs{steps:>10}{rhs:>9}{floor:>8}{row.points:8d}"
    )


def _ratios(rows) -> dict[str, float]:
    """How many times faster the own integrator is than each of the others."""
    speed = {row.contender: row.per_s for row in rows if math.isfinite(row.per_s)}
    own = [name for name in speed if name.startswith("Rodas5P")]
    others = [name for name in speed if name not in own]
    return {f"{a} / {b}": speed[a] / speed[b] for b in others for a in own}


def _count(name: str, text: str) -> int:
    return whole(name, text, 1, 10**6, "a whole number from 1 to 1000000")
