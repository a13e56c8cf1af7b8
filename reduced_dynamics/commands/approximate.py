"""``approximate``: the approximation theorems, as constructions with measured errors."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import asdict

from reduced_dynamics.commands import progress
from reduced_dynamics.commands.arguments import pairs
from reduced_dynamics.commands.validate import finite
from reduced_dynamics.core.errors import unknown
from reduced_dynamics.families.wang.approximation import settings as approximation
from reduced_dynamics.families.wang.approximation.settings import QUICK, Settings, Table, changed

INTERRUPTED = 130

THEOREMS = ("3.1", "3.3", "3.4")

DESCRIPTION = """\
Build the constructions of Theorems 3.1, 3.3 and 3.4 (arXiv 2410.11474) as weights of a two-layer
transformer, and measure their errors against the induction heads over bounded tokens.

  simulate.py approximate                          all three, about a minute
  simulate.py approximate 3.1 --set p=1,2,4,8 --set L=128
  simulate.py approximate 3.3 --set n=4 --set H=2,3,4,8 --set bound=1e3,1e4 --plot heads.pdf
  simulate.py approximate 3.4 --set similarity=kinked --json

3.1  one head a layer, IH_2: error over the slope p and the length L
3.3  H heads, IH_n: error over H, over the bound of the coefficients, over L, and near the start
3.4  a ReLU network, GIH_n: error over the rank of the similarity and over the width

Settings of --set, with their defaults; lists are separated by commas:
"""


def add_parser(commands):
    command = commands.add_parser(
        "approximate",
        help="the approximation theorems, as weights with measured errors",
        description=DESCRIPTION + "\n".join(approximation.explain()),
    )
    add = command.add_argument
    add("theorem", metavar="THEOREM", nargs="?", default="all", help="3.1, 3.3 or 3.4 (all)")
    add("--set", action="append", default=[], metavar="K=V", help="a setting (repeatable)")
    add("--quick", action="store_true", help="smaller tables, in a quarter of the time")
    add("--plot", metavar="FILE", help="draw it: .png, .pdf or .svg, one file a theorem")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    return command


def execute(options) -> int:
    if options.theorem not in (*THEOREMS, "all"):
        raise unknown("theorem", options.theorem, (*THEOREMS, "all"))
    chosen = THEOREMS if options.theorem == "all" else (options.theorem,)
    settings = changed(QUICK if options.quick else Settings(), pairs("set", options.set))
    if options.plot:
        from reduced_dynamics.plotting.style import check_target

        for theorem in chosen:
            check_target(_file(options.plot, theorem, chosen))
    reporter, done, interrupted = Reporter(), {}, False
    if not options.json:
        print(f"approximation theorems (seed {settings.seed}, tokens in [-1, 1])")
    try:
        for theorem in chosen:
            done[theorem] = tables = []
            for table in _study(theorem)(settings, reporter):
                tables.append(table)
                reporter.close()
                if not options.json:
                    print("\n".join(["", *as_text(theorem, table)]), flush=True)
    except KeyboardInterrupt:
        interrupted = True
    reporter.close()
    if options.plot and not interrupted:
        from reduced_dynamics.families.wang.approximation.figures import figure
        from reduced_dynamics.plotting.style import save_figure

        for theorem, tables in done.items():
            path = _file(options.plot, theorem, chosen)
            save_figure(figure(theorem, tables), path)
            print(f"drew {path}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(finite(as_json(settings, done, interrupted)), indent=1, allow_nan=False))
    if interrupted:
        print("simulate.py: interrupted; the tables above are complete", file=sys.stderr)
    return INTERRUPTED if interrupted else 0


class Reporter(progress.Reporter):
    """What is being computed, silent for two seconds."""

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + self.every
        self.stream.write(f"\r{text}\x1b[K" if self.live else f"{text}\n")
        self.stream.flush()
        self.shown = True


def as_text(theorem: str, table: Table) -> list[str]:
    """A table for people: aligned columns, the fitted rates, the note."""
    cells = [list(table.columns)] + [[_cell(value) for value in row] for row in table.rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(table.columns))]
    lines = [f"Theorem {theorem}: {table.title}"]
    for row in cells:
        aligned = (text.rjust(width) for text, width in zip(row, widths, strict=True))
        lines.append(("  " + "  ".join(aligned)).rstrip())
    for rate in table.rates:
        said = "" if rate.expected is None else f", expected {rate.expected:.3g}"
        lines.append(f"  {rate.name}: {rate.measured:.3f} ({rate.points} points{said})")
    return [*lines, f"  {table.note}"] if table.note else lines


def as_json(settings: Settings, done: dict[str, list[Table]], interrupted: bool) -> dict:
    """The object that ``approximate --json`` prints."""
    from reduced_dynamics.io.versions import versions

    return {
        "settings": asdict(settings),
        "complete": not interrupted,
        "theorems": {
            theorem: {
                table.name: {
                    "title": table.title,
                    "columns": list(table.columns),
                    "rows": [list(row) for row in table.rows],
                    "rates": [asdict(rate) for rate in table.rates],
                    "note": table.note,
                }
                for table in tables
            }
            for theorem, tables in done.items()
        },
        "versions": versions(),
    }


def _study(theorem: str):
    from reduced_dynamics.families.wang.approximation import theorem_3_1, theorem_3_3, theorem_3_4

    modules = (theorem_3_1, theorem_3_3, theorem_3_4)
    return dict(zip(THEOREMS, modules, strict=True))[theorem].study


def _file(path: str, theorem: str, chosen: tuple[str, ...]) -> str:
    """A name of its own for every theorem, where there are several."""
    root, end = os.path.splitext(path)
    return path if len(chosen) == 1 else f"{root}-{theorem}{end}"


def _cell(value) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return "-"
    plain = abs(value) == math.inf or (value == round(value) and abs(value) < 1e6)
    return f"{value:g}" if plain else f"{value:.3e}" if abs(value) < 1e-2 else f"{value:.4g}"
