"""``analyse``: fixed points, phase portraits, spectra, sensitivities and phases of a system."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np

from reduced_dynamics import catalogue
from reduced_dynamics.commands.arguments import REPEATABLE, add_options, gather, number, whole
from reduced_dynamics.commands.outputs import draw
from reduced_dynamics.commands.progress import Reporter
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.integration.one import integrate
from reduced_dynamics.io.jsonable import printed
from reduced_dynamics.io.versions import versions
from reduced_dynamics.plotting.style import check_target

DESCRIPTION = """\
What a dynamical-systems tool is asked for, of any reduced system.

  simulate.py analyse wang fixed-points --clamp p=20
  simulate.py analyse wang plane --x w_Q=-1:1 --y w_K=-1:1 --start p=20 --plot saddle.pdf
  simulate.py analyse musat3 spectrum --set N=64 --plot spectrum.pdf
  simulate.py analyse musat3 sensitivities --set N=64
  simulate.py analyse wang phases --of L_IH

fixed-points  with eigenvalues, in a box; --clamp holds coordinates, --box NAME=LOW:HIGH sets it
plane         streamlines and nullclines along two coordinates; the others are where --start says,
              or where the run is at the time --at; --run draws the run as well
spectrum      eigenvalues of the Jacobian and the stiffness ratio along a run
sensitivities of emergence times to the start and to the parameters
phases        where the loss stands still and where it falls, and what moves meanwhile
"""


def add_parser(commands):
    command = commands.add_parser(
        "analyse", help="fixed points, portraits, spectra, sensitivities", description=DESCRIPTION
    )
    command.add_argument("system", nargs="?", metavar="SYSTEM", help="musat3, wang, ...")
    command.add_argument("study", nargs="?", metavar="STUDY", help=" | ".join(STUDIES))
    add_options(command)
    add = command.add_argument
    add("--x", metavar="NAME=LOW:HIGH", help="plane: the coordinate along x")
    add("--y", metavar="NAME=LOW:HIGH", help="plane: the coordinate along y")
    add("--run", action="store_true", help="plane: draw the run too")
    add("--box", **REPEATABLE, metavar="NAME=LOW:HIGH", help="fixed-points: where")
    add("--tries", metavar="K", help="fixed-points: starting points of the search (64)")
    add(
        "--of",
        metavar="NAME",
        help="phases: of this observable (the loss); sensitivities: to these parameters (A,B,...)",
    )
    add("--plot", metavar="FILE", help="draw it: .png, .pdf or .svg")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    return command


def execute(options) -> int:
    parameters, integration, files = gather(options)
    if not files["system"] or not options.study:
        raise InputError(
            "name a system and a study, e.g. simulate.py analyse wang fixed-points; the studies "
            f"are {', '.join(STUDIES)}"
        )
    system = catalogue.system(files["system"])
    if options.study not in STUDIES:
        raise unknown("study", options.study, STUDIES)
    study, own, draws = STUDIES[options.study]
    for name in sorted(set().union(*(o for _, o, _ in STUDIES.values())) - own):
        if getattr(options, name):
            raise InputError(f"--{name} has no meaning for {options.study}; drop it")
    if files["plot"]:
        if not draws:
            raise InputError(f"{options.study} draws nothing; drop --plot, or use the study plane")
        check_target(files["plot"])
    text, result, figure = study(system, parameters, integration, options)
    if files["plot"]:
        draw(figure(), files["plot"], files["json"])
    if files["json"]:
        head = {"system": system.name, "study": options.study, "parameters": result.pop("values")}
        print(printed(head | result | {"versions": versions()}))
    else:
        print("\n".join(text))
    return 0


def _fixed_points(system: ReducedSystem, parameters, integration, options):
    from reduced_dynamics.analysis.fixed_points import fixed_points

    for name in integration:
        if name != "clamp":
            raise InputError(f"--{name.replace('_', '-')} has no meaning for fixed-points; drop it")
    tries = whole("tries", options.tries) if options.tries else 64
    box = {name: (low, high) for name, low, high in (_range("box", text) for text in options.box)}
    hold = integration.get("clamp")
    found = fixed_points(system, parameters, within=box, hold=hold, tries=tries)
    values = system.values(parameters)
    text = [_title(system, values), f"fixed points from {tries} starts in the box"]
    for members in _grouped(found):
        kind = members[0].kind
        text += ["", f"{kind}, loss {members[0].loss:.6g}"]
        if len(members) > 1:
            what = "a continuum" if "degenerate" in kind or kind == "neutral" else "equivalent ones"
            text[-1] += f": {len(members)} points found of {what}; one of them"
        text += [f"  {name:14} {value:.9g}" for name, value in members[0].state.items()]
        text.append("  eigenvalues    " + " ".join(f"{e:.4g}" for e in members[0].eigenvalues))
    if not found:
        text += [
            "",
            "none: the flow has no finite state of rest in the box, or more --tries are "
            "needed; weights that grow forever are the rule where a softmax saturates",
        ]
    told = ("kind", "loss", "residual", "state", "eigenvalues")
    points = [{name: getattr(p, name) for name in told} for p in found]
    return text, {"values": values, "fixed_points": points}, None


def _grouped(found) -> list[list[Any]]:
    """Fixed points of the same kind and the same loss but for rounding, together."""
    scale = max((abs(p.loss) for p in found), default=0.0)

    def alike(point):
        return point.kind, float(f"{round(point.loss / scale, 14) * scale if scale else 0.0:.6g}")

    return [list(group) for _, group in groupby(found, key=alike)]


def _plane(system: ReducedSystem, parameters, integration, options):
    from reduced_dynamics.analysis.figures import plane_figure
    from reduced_dynamics.analysis.fixed_points import fixed_points
    from reduced_dynamics.analysis.plane import plane

    if not (options.x and options.y):
        raise InputError("a plane needs --x NAME=LOW:HIGH and --y NAME=LOW:HIGH")
    x, y = _range("x", options.x), _range("y", options.y)
    times = integration.pop("at", [])
    if len(times) > 1:
        raise InputError("a plane is taken at one time; give --at one number")
    spanned = {x[0], y[0]}
    for name in sorted(spanned & integration.get("clamp", {}).keys()):
        raise InputError(f"{name} spans the plane; it cannot be clamped")
    if not (times or options.run):
        for name in sorted(spanned & integration.get("start", {}).keys()):
            raise InputError(f"{name} spans the plane; it starts nowhere, except with --run")
    state = dict(integration.get("clamp", {})) | dict(integration.get("start", {}))
    run = _run(system, parameters, integration, at=times) if times or options.run else None
    if times:
        state = dict(zip(run.coordinates, run.at(times[0]), strict=True))
    others = {k: v for k, v in state.items() if k not in spanned}
    found = plane(system, parameters, x=x, y=y, at=others)
    box = {x[0]: x[1:], y[0]: y[1:]}
    points = []
    if not found.at_rest:
        points = fixed_points(system, parameters, within=box, hold=found.others, tries=16)
    text = [
        _title(system, found.parameters),
        f"plane of {x[0]} in {x[1]:g} .. {x[2]:g} and {y[0]} in {y[1]:g} .. {y[2]:g}; others at",
        *(f"  {name:14} {value:.9g}" for name, value in found.others.items()),
        "",
        f"loss from {np.nanmin(found.loss):.6g} to {np.nanmax(found.loss):.6g}",
    ]
    missing = int(np.isnan(found.loss).sum())
    if missing:
        text.append(
            f"hatched, {missing / found.loss.size:.0%} of it: the equations do not hold there"
        )
    if found.at_rest:
        text.append("the plane is at rest throughout: neither coordinate moves on it")
    else:
        text.append(f"share of the rate that leaves the plane: up to {np.nanmax(found.across):.3g}")
        what = "states of rest" if points else "no state of rest"
        text.append(f"{what} within the plane (the others held){':' if points else ''}")
    for members in _grouped(points):
        point = members[0]
        where = ", ".join(f"{name} = {point.state[name]:.6g}" for name in found.names)
        more = f" ({len(members)} of the kind found)" if len(members) > 1 else ""
        text.append(f"  {where}: {point.kind}, loss {point.loss:.6g}{more}")
    result = {"values": found.parameters, "names": found.names, "others": found.others}
    result |= {k: getattr(found, k) for k in ("x", "y", "u", "v", "loss", "across")}
    return text, result, lambda: plane_figure(found, points, run if options.run else None)


def _spectrum(system: ReducedSystem, parameters, integration, options):
    from reduced_dynamics.analysis.figures import spectrum_figure
    from reduced_dynamics.analysis.spectrum import spectrum

    at = integration.get("at")
    trajectory = _run(system, parameters, integration, at=at or ())
    found, title = spectrum(trajectory, system, at=at), _title(system, trajectory.parameters)
    steps = range(len(at)) if at else np.unique(np.linspace(0, len(found.t) - 1, 12).astype(int))
    text = [title, "", f"  {'t':>12} {'largest':>12} {'smallest':>12} {'stiffness':>12}"]
    text += [
        f"  {found.t[k]:12.6g} {found.growth[k]:12.4g} {found.eigenvalues[k].real.min():12.4g} "
        f"{found.stiffness[k]:12.4g}"
        for k in steps
    ]
    text += [
        "",
        "largest, smallest: eigenvalues of the Jacobian in 1/(reduced training time); stiffness:",
        "the fastest decay over the speed |dz/dt|/|z - z(0)| of the run.",
    ]
    result = {k: getattr(found, k) for k in ("t", "eigenvalues", "speed", "stiffness")}
    result = {"values": dict(trajectory.parameters)} | result
    return text, result, lambda: spectrum_figure(found, title)


def _sensitivities(system: ReducedSystem, parameters, integration, options):
    from reduced_dynamics.analysis.figures import sensitivity_figure
    from reduced_dynamics.analysis.sensitivity import sensitivities

    of = None if options.of is None else [n.strip() for n in options.of.split(",") if n.strip()]
    with Reporter() as reporter:
        found = sensitivities(system, parameters, of=of, progress=reporter, **integration)
    values = system.values(parameters)
    order = sorted(found.times, key=found.times.get)
    title = _title(system, values)
    text = [title]
    if not order:
        text += ["", "nothing emerged after t = 0; give a longer --t-end"]
    for event in order:
        text += ["", f"{event} = {found.times[event]:.9g}", "  d log T / d log parameter"]
        for name, value in found.parameter[event].items():
            text.append(f"    {name:14} {value:12.6g}  ± {found.error[event][name]:.1g}")
        text.append("  dT / d start")
        for name, value in found.start.get(event, {}).items():
            text.append(f"    {name:14} {value:12.6g}")
    result = {
        "values": values, "events": found.times, "elasticity": found.parameter,
        "error": found.error, "start": found.start,
    }  # fmt: skip
    return text, result, lambda: sensitivity_figure(found, title)


def _phases(system: ReducedSystem, parameters, integration, options):
    from reduced_dynamics.analysis.figures import phases_figure
    from reduced_dynamics.analysis.phases import phases

    trajectory = _run(system, parameters, integration)
    of = options.of or "loss"
    found = phases(trajectory, of)
    text = [
        _title(system, trajectory.parameters),
        "",
        f"  {'phase':8} {'from t':>12} {'to t':>12} {of + ' from':>14} {'to':>12}  what moves",
    ]
    for p in found:
        moves = ", ".join(f"{name} {share:.0%}" for name, share in [*p.moves.items()][:4])
        text.append(
            f"  {p.kind:8} {p.start:12.6g} {p.end:12.6g} {p.before:14.6g} {p.after:12.6g}  {moves}"
        )
    text += [
        "",
        f"plateau: |d log({of} - last {of})/d log t| < .1 for a factor of 1.2 in time or more;",
        "end: less than a thousandth of the drop is left; what moves: shares of the sum of the",
        "coordinates' absolute changes.",
    ]
    result = {"values": dict(trajectory.parameters), "of": of, "phases": [vars(p) for p in found]}
    return text, result, lambda: phases_figure(trajectory, found, of)


#: Every study: what does it, the options it has for itself, and whether it can be drawn.
STUDIES: dict[str, tuple[Callable[..., Any], set[str], bool]] = {
    "fixed-points": (_fixed_points, {"box", "tries"}, False),
    "plane": (_plane, {"x", "y", "run"}, True),
    "spectrum": (_spectrum, set(), True),
    "sensitivities": (_sensitivities, {"of"}, True),
    "phases": (_phases, {"of"}, True),
}


def _run(system: ReducedSystem, parameters, integration, at=()):
    with Reporter() as reporter:
        return integrate(system, parameters, progress=reporter, **{**integration, "at": tuple(at)})


def _range(option: str, text: str) -> tuple[str, float, float]:
    """``NAME=LOW:HIGH``."""
    name, _, rest = text.partition("=")
    low, colon, high = rest.partition(":")
    if not (name.strip() and colon):
        raise InputError(f"--{option} takes NAME=LOW:HIGH, not '{text}'")
    return name.strip(), number(option, low), number(option, high)


def _title(system: ReducedSystem, values) -> str:
    return f"{system.name} ({', '.join(f'{k}={v}' for k, v in values.items() if v is not None)})"
