"""``bench``: speed at equal accuracy, beside other integrators where they are installed."""

from __future__ import annotations

import json
import math
import platform

import numpy as np

from reduced_dynamics.commands.arguments import number
from reduced_dynamics.errors import InputError, unknown
from reduced_dynamics.files import write

DESCRIPTION = """\
Integrate the same trajectories with this package's integrator and with others, each at the
loosest tolerance that gives the accuracy asked for, and print trajectories per second.

  simulate.py bench
  simulate.py bench musat19 --points 20
  simulate.py bench musat3 --accuracy 1e-9 --json bench.json

Other integrators take part where they are installed: pip install 'reduced-dynamics[bench]'.
"""

#: System: its points from a count, horizon, and how many points by default.
CASES = {
    "musat3": (lambda count: _sizes(8, 512, count), "20*N**2", 1000),
    "musat19": (lambda count: [64] * count, "4*N**2", 4),
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
    add("system", nargs="?", default="musat3", metavar="SYSTEM", help="musat3 (default), musat19")
    add("--points", metavar="N", help="how many trajectories")
    add("--accuracy", metavar="X", help="largest relative error of an event's time (1e-8)")
    add("--repeat", metavar="N", help="the best of so many timings counts (3)")
    add("--json", metavar="FILE", help="write the table to a file; - is standard output")
    return command


def execute(options) -> int:
    from reduced_dynamics.benchmark import as_dict, compare, make_case
    from reduced_dynamics.integration import versions

    if options.system not in CASES:
        raise unknown("system to measure", options.system, CASES)
    points, horizon, default = CASES[options.system]
    count = _whole("points", options.points, default)
    repeat = _whole("repeat", options.repeat, 3)
    accuracy = number("accuracy", options.accuracy) if options.accuracy else 1e-8
    if not 1e-11 <= accuracy <= 1e-3:
        raise InputError(f"--accuracy {accuracy:g} is out of range; it lies in 1e-11 .. 1e-3")
    case = make_case(options.system, [{"N": n} for n in points(count)], horizon)
    quiet = options.json == "-"
    told = {
        "system": options.system, "points": count, "t_end": horizon, "accuracy": accuracy,
        "reference_against_radau": case.checked, "machine": platform.machine(),
        "versions": versions(),
    }  # fmt: skip
    if not quiet:
        print(
            f"{options.system}, {count} points to t = {horizon}, one thread; events right to "
            f"{accuracy:g} (reference and Radau at 1e-12 differ by {case.checked:.1e})\n"
        )
        print(_HEAD)
    rows = []
    for row in compare(case, accuracy, repeat):
        rows.append(row)
        if not quiet:
            print(_line(row), flush=True)
    ratios = _ratios(rows)
    if not quiet:
        print("\n" + "\n".join(f"{text}: {ratio:.3g}" for text, ratio in ratios.items()))
    if options.json:
        text = json.dumps(told | {"rows": [as_dict(r) for r in rows], "ratios": ratios}, indent=1)
        if quiet:
            print(text)
        else:
            write(options.json, (text + "\n").encode())
    return 0


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


def _whole(name: str, text: str | None, default: int) -> int:
    value = number(name, text) if text is not None else default
    if value != int(value) or not 1 <= value <= 10**6:
        raise InputError(f"--{name} takes a whole number from 1 to 1000000, not {text}")
    return int(value)
