"""``list``: the systems, their state and their parameters."""

from reduced_dynamics import catalogue
from reduced_dynamics.core.system import ReducedSystem

HELP = "systems, their state and parameters: name, default, range, meaning"


def add_parser(commands):
    command = commands.add_parser("list", help=HELP, description=f"List {HELP}.")
    command.add_argument("system", nargs="?", metavar="SYSTEM", help="describe this one in full")
    return command


def execute(options) -> int:
    if options.system:
        print("\n".join(describe(catalogue.system(options.system))))
        return 0
    for system in catalogue.everything("systems"):
        print(f"{system.name:10} {system.title}")
        print(f"{'':10} {len(system.coordinates)} coordinates; parameters:", end=" ")
        print(", ".join(f"{p.name}={_default(p)}" for p in system.parameters))
    print("\nsimulate.py list SYSTEM describes one in full.")
    return 0


def describe(system: ReducedSystem) -> list[str]:
    """Everything declared about a system, as lines of text."""
    lines = [f"{system.name}: {system.title}", f"  source: {system.source}", "", "Parameters"]
    lines += _parameters(system.parameters)
    model = catalogue.find("full", system.name)
    if model is not None:
        lines += ["", f"Training of {model.title} (validate, sweep --full)"]
        lines += _parameters(model.settings)
        lines += [f"  until t = {model.horizon} unless said otherwise"]
    lines += ["", "State (dz/dt = -d loss/dz, in reduced training time)"]
    starts = [c.start if isinstance(c.start, str) else f"{c.start:g}" for c in system.coordinates]
    rows = [(c.name, s, c.meaning) for c, s in zip(system.coordinates, starts, strict=True)]
    lines += _table(rows, ("name", "start", "meaning"))
    for title, named in (
        ("Observables", system.observables),
        ("Events", system.events),
        ("First integrals", system.invariants),
    ):
        if named:
            rows = [(one.name, one.meaning) for one in named]
            lines += ["", title, *_table(rows, ("name", "meaning"))]
    horizon = system.horizon
    if horizon.plateaus:
        lines += ["", f"Automatic horizon: t = {horizon.bound}"]
    elif horizon.bound:
        formed = f"until {', '.join(horizon.formed)} and a settled loss"
        lines += ["", f"Automatic horizon: {formed}, at most t = {horizon.bound}"]
    return lines


def _parameters(known) -> list[str]:
    rows = [(p.name, _default(p), p.range, p.meaning) for p in known]
    return _table(rows, ("name", "default", "range", "meaning"))


def _default(parameter) -> str:
    default = parameter.default
    if default is None:
        return "auto"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _table(rows, head) -> list[str]:
    rows = [head, *rows]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head) - 1)]
    return [
        "  "
        + "  ".join([*(cell.ljust(w) for cell, w in zip(row[:-1], widths, strict=True)), row[-1]])
        for row in rows
    ]
