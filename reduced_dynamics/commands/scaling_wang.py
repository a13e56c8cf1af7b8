"""``validate wang --study scaling``: exponents of the emergence time, beside the predicted ones."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from reduced_dynamics import catalogue
from reduced_dynamics.commands.arguments import pairs
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.wang.emergence_scaling import LAWS, Scaling, measure
from reduced_dynamics.integration.recorder import versions

#: Options of ``validate`` that mean something here.
USED = {"system", "study", "set", "plot", "json"}


def report(options) -> int:
    """Measure T_half over L, α*, w* and σ_init; print the laws as text or JSON, and draw them.

    Returns the exit code: 130 if interrupted, with the laws measured until then printed.
    """
    for name, value in vars(options).items():
        if name not in USED and isinstance(value, str) and name in _OPTIONS:
            raise InputError(
                f"--{name.replace('_', '-')} has no meaning for --study scaling, which integrates "
                "the reduced system only; drop it"
            )
    parameters = pairs("set", options.set)
    values = catalogue.system("wang").values(parameters)
    if values["training"] != "stage2":
        raise InputError("the scaling of T_half is that of Stage II; set training=stage2")
    if options.plot:
        from reduced_dynamics.plotting.style import check_target

        check_target(options.plot)
    began, found, code = time.monotonic(), {}, 0
    try:
        for name in LAWS:
            found[name] = measure(parameters, name, progress=_progress(began))
    except KeyboardInterrupt:
        print("simulate.py: interrupted; what is complete follows", file=sys.stderr)
        code = 130
    if options.plot and found:
        from reduced_dynamics.families.wang.scaling_figure import scaling_figure
        from reduced_dynamics.plotting.style import save_figure

        save_figure(scaling_figure(found, values), options.plot)
        print(f"drew {options.plot}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(as_json(values, found), indent=1, allow_nan=False))
    else:
        print("\n".join(as_text(values, found)))
    return code


_OPTIONS = (
    "t_end", "steps", "at", "batch", "learning_rate", "optimiser", "init_scale", "perturbation",
    "seeds", "values", "checkpoint", "out",
)  # fmt: skip


def _progress(began: float):
    def show(line: str) -> None:
        if time.monotonic() - began > 2.0:
            print(line, file=sys.stderr)

    return show


def as_text(values: dict[str, Any], found: dict[str, Scaling]) -> list[str]:
    """What the study prints for people."""
    parameters = ", ".join(f"{k}={v}" for k, v in values.items())
    lines = [f"scaling of T_half in wang ({parameters})", "  one parameter at a time is varied"]
    for scaling in found.values():
        law, fit, alone = scaling.law, scaling.fit, scaling.predicted
        low, high = fit.interval
        linear = law.parameter == "sigma_init"
        what = "slope in" if linear else "exponent of"
        lines += ["", f"{what} {law.label}"]
        lines.append(f"  measured   {fit.slope:.6g}  ({fit.level:.0%}: {low:.6g} .. {high:.6g})")
        lines.append(f"  predicted  {alone.slope:.6g}  from the unstable rate of the saddle")
        lines.append("  local      " + " ".join(f"{s:.6g}" for s in fit.local))
        lines.append(f"  {law.parameter:>12} {'T_half':>14} {'rate':>14}")
        rows = zip(scaling.values, scaling.times, scaling.rates, strict=True)
        lines += [f"  {v:12g} {t:14.8g} {r:14.8g}" for v, t, r in rows]
    if found:
        lines += [
            "",
            "measured: least squares over the values listed, with the confidence interval of the",
            "slope (bends count as scatter); local: between neighbours. predicted: the same for",
            "log(w_end/sigma_init)/rate, the growth of w at the saddle's rate to its end, √a*; it",
            "leaves out the time until h has risen, and how growth slows down at the end.",
        ]
    return lines


def as_json(values: dict[str, Any], found: dict[str, Scaling]) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    return {
        "system": "wang",
        "study": "scaling",
        "parameters": values,
        "laws": {
            name: {
                "measured": scaling.fit.slope,
                "interval": list(scaling.fit.interval),
                "level": scaling.fit.level,
                "predicted": scaling.predicted.slope,
                "local": scaling.fit.local.tolist(),
                name: scaling.values.tolist(),
                "T_half": scaling.times.tolist(),
                "rate": scaling.rates.tolist(),
            }
            for name, scaling in found.items()
        },
        "versions": versions(),
    }
