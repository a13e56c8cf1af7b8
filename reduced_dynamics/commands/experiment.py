"""``experiment``: a claim, a question or a figure of a paper, with its findings."""

import os
import sys
from typing import Any

from reduced_dynamics import catalogue
from reduced_dynamics.commands.arguments import REPEATABLE, given, whole
from reduced_dynamics.commands.outputs import draw, say
from reduced_dynamics.commands.progress import Reporter
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments.experiment import Context
from reduced_dynamics.experiments.finding import tally
from reduced_dynamics.experiments.gallery import make
from reduced_dynamics.experiments.perform import perform
from reduced_dynamics.experiments.result import ENDINGS, Result
from reduced_dynamics.experiments.setting import collect
from reduced_dynamics.io import files
from reduced_dynamics.io.jsonable import printed
from reduced_dynamics.plotting.style import check_target

DESCRIPTION = """\
Perform an experiment: it measures, judges what a paper claims, and draws. The answer is the first
line; every number in it comes from the run.

  simulate.py experiment                                    all of them, with what they cost
  simulate.py experiment musat.order --size quick           a coarse version
  simulate.py experiment wang.phases --out r.nc --plot phases.pdf
  simulate.py experiment wang.phases --from r.nc --plot phases.png      drawn again
  simulate.py experiment chen.criterion --json              findings and numbers, nothing else
  simulate.py experiment all --size quick --out gallery     all, with an index page; resumable

Ctrl-C keeps the parts that are done; the same command goes on from there.
"""
#: Folder of ``experiment all``.
FOLDER = "gallery"
_PLAIN = ("size", "workers", "seed", "seeds", "out", "plot")
#: What is said of an experiment to be performed or drawn.
_SAYING = ("set", "config", "source", *_PLAIN)


def add_parser(commands):
    command = commands.add_parser(
        "experiment",
        help="a claim, a question or a figure of a paper, with its findings",
        description=DESCRIPTION,
    )
    add = command.add_argument
    add("name", metavar="NAME", nargs="?", help="an experiment; all; without one they are listed")
    add("--set", **REPEATABLE, metavar="K=V", help="a setting (repeatable)")
    add("--config", metavar="FILE.toml", help="settings and options from a file; these here win")
    add("--size", metavar="full|quick|tiny", help="how fine (full)")
    add("--workers", metavar="COUNT", help="processes that share the parts (1)")
    add("--seed", metavar="N", help="the setting `seed`")
    add("--seeds", metavar="COUNT|S1,S2,...", help="the setting `seeds`")
    add("--from", dest="source", metavar="R.nc", help="draw a stored result, computing nothing")
    add("--out", metavar="FILE.nc", help="keep the result; of all: a folder (gallery)")
    add("--plot", metavar="FILE", help="draw it: .png, .pdf or .svg")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    return command


def execute(options) -> int:
    settings, chosen = _gather(options)
    said = [name for name in _SAYING if getattr(options, name) not in (None, [])]
    if options.name is None:
        if said:
            raise InputError(f"--{said[0].replace('source', 'from')} is for one experiment or all")
        return _list(options)
    if options.name == "all":
        return _all(options, settings, chosen)
    experiment = catalogue.experiment(options.name)
    if chosen["out"]:
        files.check_target(chosen["out"], ENDINGS)
    if chosen["plot"]:
        check_target(chosen["plot"])
    if options.source is not None:
        if not options.source:
            raise InputError("--from needs the name of a file")
        made = [name for name in said if name not in ("source", "out", "plot")]
        if made:
            raise InputError(f"--from draws a stored result; drop --{made[0]}, or drop --from")
        result = Result.load(options.source, experiment)
    else:
        collect(experiment.settings, settings, chosen["size"], experiment.name)
        _say_cost(experiment, chosen["size"])
        with Reporter() as reporter:
            result = perform(experiment, settings, _context(chosen, reporter))
    return _show(options, chosen, result)


def _show(options, chosen, result) -> int:
    """Print first: what was found is not lost where a file cannot be written."""
    print(printed(result.as_json()) if options.json else result, flush=True)
    if chosen["out"]:
        result.save(chosen["out"])
        say(f"saved {chosen['out']}", options.json)
    if chosen["plot"]:
        draw(result.plot(), chosen["plot"], options.json)
    return 0


def _gather(options) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings, and options from the command line and the file."""
    chosen, tables = given(options, _PLAIN, ("set",))
    settings = tables["set"]
    for name in ("seed", "seeds"):
        if chosen[name] is not None:
            if name in settings:
                raise InputError(f"--{name} and --set {name} say the same; give one of the two")
            settings[name] = chosen[name]
    chosen["size"] = chosen["size"] or "full"
    count = 1 if chosen["workers"] is None else chosen["workers"]
    chosen["workers"] = whole("workers", count, 1, kind="a positive whole number")
    return settings, chosen


def _context(chosen, reporter) -> Context:
    return Context(chosen["size"], chosen["workers"], reporter)


def _say_cost(experiment, size: str) -> None:
    seconds = experiment.cost.get(size)
    if seconds is not None and seconds >= 10:
        print(f"{experiment.name} at {size}: about {_duration(seconds)} of one core",
              file=sys.stderr)  # fmt: skip


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _list(options) -> int:
    found = catalogue.experiments()
    if options.json:
        rows = {
            e.name: {
                "title": e.title, "question": e.question, "claim": e.claim, "source": e.source,
                "cost": dict(e.cost),
                "settings": {s.name: {"meaning": s.meaning, "range": s.range} for s in e.settings},
            }
            for e in found
        }  # fmt: skip
        print(printed(rows))
        return 0
    print(f"{'experiment':26} {'full':>7} {'quick':>7}  question")
    for family in catalogue.families():
        own = [e for e in found if e.name.startswith(f"{family.name}.")]
        if own:
            print(f"\n{family.title} ({family.paper.rpartition(', ')[2]})")
        for e in own:
            costs = [e.cost.get(size) for size in ("full", "quick")]
            shown = " ".join(f"{'–' if c is None else _duration(c):>7}" for c in costs)
            print(f"{e.name:26} {shown}  {e.question}")
    print("\ncosts: seconds, minutes or hours of one core, once compiled")
    return 0


def _all(options, settings, chosen) -> int:
    if chosen["plot"] or options.source:
        raise InputError("of all experiments every figure goes into the folder; use --out FOLDER")
    folder = chosen["out"] or FOLDER
    stream = sys.stderr if options.json else sys.stdout
    reporter, entries = Reporter(), []

    def report(entry) -> None:
        reporter.close()
        entries.append(entry)
        if entry.result is None:
            print(f"simulate.py: {entry.name} failed: {entry.error}", file=sys.stderr)
            return
        counts = ", ".join(f"{n} {kind}" for kind, n in tally(entry.result.findings).items() if n)
        seconds = f" in {entry.result.wall_s:.0f} s" if entry.state == "made" else ""
        print(f"{entry.state:6} {entry.name:26} {counts}{seconds}", file=stream, flush=True)

    try:
        make(catalogue.experiments(), folder, settings, _context(chosen, reporter), report)
    finally:
        reporter.close()
        if options.json:
            found = {
                e.name: {"state": e.state, "error": e.error,
                         "result": e.result and e.result.as_json()}
                for e in entries
            }  # fmt: skip
            print(printed(found))
        if entries:
            print(f"index: {os.path.join(folder, 'index.html')}", file=stream)
    return max((entry.exit_code for entry in entries), default=0)
