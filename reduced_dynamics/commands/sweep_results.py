"""What ``sweep`` makes of its results: fitted scaling laws, maps of regimes, their figures."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from reduced_dynamics.commands.arguments import REPEATABLE
from reduced_dynamics.commands.outputs import draw
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.plotting.style import check_target


class _Once(argparse.Action):
    """An option of which the last one would win silently."""

    def __call__(self, parser, namespace, values, option_string=None):
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "one map at a time; run it again for the other")
        setattr(namespace, self.dest, values)


def add_options(add) -> None:
    """The options, through a parser's ``add_argument``."""
    add(
        "--fit",
        **REPEATABLE,
        metavar="RESULT~K",
        help="the scaling law of a result in a swept parameter, such as t_icl~N, or t_icl~N**2 "
        "for the prefactor of that exponent (repeatable)",
    )
    add(
        "--map",
        metavar="RESULT",
        action=_Once,
        help="map a result over two swept parameters; 'order' maps which events come in which "
        "order, 'order:A,B,...' of these events only",
    )
    add("--plot", metavar="FILE", help="draw the laws, or the map: .png, .pdf or .svg")


def check(options) -> None:
    """Refuse what cannot be made, before anything is computed."""
    from reduced_dynamics.sweeping.laws import parse

    over = {parse(spec)[1] for spec in options.fit}
    if options.plot is not None:
        if not (options.fit or options.map):
            raise InputError("--plot draws what --fit or --map asks for; add one of them")
        if options.fit and options.map:
            raise InputError("--plot draws either --fit or --map; ask for one of them at a time")
        if len(over) > 1:
            raise InputError(f"laws over {' and '.join(sorted(over))} need a figure each")
        check_target(options.plot)


def check_names(options, plan) -> None:
    """Refuse results and dimensions that the sweep will not have."""
    if not options.fit and options.map is None:
        return
    from reduced_dynamics.sweeping import laws, regimes

    for spec in options.fit:
        laws.check(plan, spec)
    if options.map is not None:
        regimes.check(plan, options.map)


def report(path: Path, options) -> tuple[list[str], dict[str, Any]]:
    """The lines and the JSON of the laws and the map that were asked for; draws the figure.

    Raises
    ------
    InputError
        If a name is unknown, or nothing was reached.
    """
    if not (options.fit or options.map):
        return [], {}
    from reduced_dynamics.sweeping.figures import laws_figure, regimes_figure
    from reduced_dynamics.sweeping.laws import laws
    from reduced_dynamics.sweeping.reading import open_sweep
    from reduced_dynamics.sweeping.regimes import regimes

    dataset = open_sweep(path)
    lines: list[str] = []
    found: dict[str, Any] = {}
    all_laws = [law for spec in options.fit for law in laws(dataset, spec)]
    for law in all_laws:
        lines += ["", *_law_text(law)]
    if all_laws:
        found["laws"] = [_law_json(law) for law in all_laws]
    if options.map:
        mapped = regimes(dataset, options.map)
        lines += ["", *_map_text(mapped)]
        found["map"] = _map_json(mapped)
    if options.plot is not None:  # of either; see `check`
        figure = (
            regimes_figure(mapped) if options.map else laws_figure(all_laws, dataset.attrs["title"])
        )
        draw(figure, options.plot, options.json)
    return lines, found


def _points(count: int) -> str:
    return f"{count} point{'s' * (count != 1)}"


def _law_text(law) -> list[str]:
    from reduced_dynamics.sweeping.laws import NEEDED

    at = ", ".join(f"{k}={v}" for k, v in law.at.items())
    low, high = law.fit.interval
    interval = "two points have no interval"
    if np.isfinite([low, high]).all():
        interval = f"{law.fit.level:.0%}: {_exponent(low, law)} .. {_exponent(high, law)}"
    lines = [
        f"{law.of} ~ {law.over}^k{' at ' if at else ''}{at}: {_points(len(law.x))}"
        + (f", {law.left_out} without it left out" if law.left_out else ""),
        f"  fit           k = {_exponent(law.fit.slope, law)}  ({interval}),"
        f" factor {np.exp(law.fit.intercept):.6g}",
        f"  residuals     up to {np.abs(law.residual).max():.2g} in the logarithm",
    ]
    shown = range(max(0, len(law.middle) - 4), len(law.middle))
    last = ", ".join(f"{_exponent(law.fit.local[k], law)} at {law.middle[k]:.4g}" for k in shown)
    lines.append(f"  local k       {last}")
    few = len(law.middle) < NEEDED
    if law.exponent.known:
        lines.append(
            f"  its limit     {law.exponent.value:.6g} ± {law.exponent.error:.1g}"
            f"  (if what is left is one power of {law.over})"
        )
    elif few:
        lines.append(
            f"  its limit     not to be told from {_points(len(law.x))}: sweep more points, at "
            f"least {NEEDED + 1}"
        )
    else:
        lines.append("  its limit     not to be told: the last local exponents do not settle")
    if law.simple is not None:
        lines.append(
            f"  {law.of}/{law.over}^{law.simple:g} at {law.x[-1]:g} is {law.ratio[-1]:.8g}"
            + (
                f"; its limit {law.prefactor.value:.8g} ± {law.prefactor.error:.1g}"
                if law.prefactor.known
                else "; sweep more points for its limit"
                if len(law.x) < NEEDED
                else "; no limit to be told from the last points"
            )
        )
    return lines


def _exponent(value: float, law) -> str:
    """With as many digits as tell it from a multiple of ½, where it differs by more than noise."""
    nearest = round(2.0 * value) / 2.0 if np.isfinite(value) else np.nan
    digits = 6
    if abs(value - nearest) > law.noise:
        while digits < 16 and float(f"{value:.{digits}g}") == nearest:
            digits += 1
    return f"{value:.{digits}g}"


def _law_json(law) -> dict[str, Any]:
    return {
        **{k: getattr(law, k) for k in ("of", "over", "at", "x", "y", "left_out")},
        "exponent": law.fit.slope,
        "interval": law.fit.interval,
        "level": law.fit.level,
        "factor": np.exp(law.fit.intercept),
        "residual": law.residual,
        "local": law.fit.local,
        "local_limit": law.exponent.value,
        "local_limit_error": law.exponent.error,
        "simple": law.simple,
        "prefactor": law.ratio,
        "prefactor_limit": law.prefactor.value if law.prefactor else None,
        "prefactor_limit_error": law.prefactor.error if law.prefactor else None,
        "noise": law.noise,
    }


def _map_text(mapped) -> list[str]:
    names = " and ".join(mapped.names)
    if mapped.of == "order":
        total = mapped.values.size
        shares = [*zip(mapped.orders, mapped.counts, strict=True), *mapped.incomplete.items()]
        return [
            f"order of events over {names}",
            *(f"  {count / total:6.1%}  {text}" for text, count in shares),
        ]
    known = mapped.values[np.isfinite(mapped.values)]
    lost = "".join(f"; {count} {text}" for text, count in mapped.incomplete.items())
    if not len(known):
        return [f"{mapped.of} over {names}: nowhere reached{lost}"]
    return [
        f"{mapped.of} over {names}: from {known.min():.6g} to {known.max():.6g}, reached at "
        f"{len(known)} of {_points(mapped.values.size)}{lost}"
    ]


def _map_json(mapped) -> dict[str, Any]:
    told = ("of", "names", "x", "y", "values", "orders", "counts", "incomplete", "at")
    return {name: getattr(mapped, name) for name in told}
