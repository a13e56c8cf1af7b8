"""``experiment``: a claim, a question or a figure of a paper, with its findings."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from reduced_dynamics import catalogue
from reduced_dynamics.commands.arguments import number, pairs, read_config
from reduced_dynamics.commands.progress import Reporter
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.io.jsonable import printed

DESCRIPTION = """\
Perform an experiment: it measures, judges what a paper claims, and draws. The answer is the first
line; every number in it comes from the run.

  simulate.py experiment                                    all of them, with what they cost
  simulate.py experiment musat.three --size quick           a coarse version
  simulate.py experiment wang.phases --out r.nc --plot phases.pdf
  simulate.py experiment wang.phases --from r.nc --plot phases.png      drawn again
  simulate.py experiment chen.criterion --json              findings and numbers, nothing else
  simulate.py experiment all --size quick --out gallery     all, with an index page; resumable

Ctrl-C keeps the parts that are done; the same command goes on from there.
"""
#: Folder of ``experiment all``.
FOLDER = "gallery"
_PLAIN = ("size", "workers", "seed", "seeds", "out", "plot")


def add_parser(commands):
    command = commands.add_parser(
        "experiment",
        help="a claim, a question or a figure of a paper, with its findings",
        description=DESCRIPTION,
    )
    add = command.add_argument
    add("name", metavar="NAME", nargs="?", help="an experiment; all; without one they are listed")
    add("--set", action="append", default=[], metavar="K=V", help="a setting (repeatable)")
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
    given, chosen = _gather(options)
    if options.name is None:
        return _list(options)
    if options.name == "all":
        return _all(options, given, chosen)
    experiment = catalogue.experiment(options.name)
    _check_targets(chosen)
    if options.source:
        from reduced_dynamics.experiments.result import Result

        if given:
            raise InputError("--from draws a stored result; drop --set, or drop --from")
        result = Result.load(options.source, experiment)
    else:
        from reduced_dynamics.experiments.perform import perform
        from reduced_dynamics.experiments.setting import collect

        collect(experiment.settings, given, chosen["size"], experiment.name)
        _say_cost(experiment, chosen["size"])
        reporter = Reporter()
        try:
            result = perform(experiment, given, _context(chosen, reporter))
        finally:
            reporter.close()
    return _show(options, chosen, result)


def _show(options, chosen, result) -> int:
    """Print first: what was found is not lost where a file cannot be written."""
    said = sys.stderr if options.json else sys.stdout
    if options.json:
        print(printed(result.as_json()))
    else:
        print(result)
    sys.stdout.flush()
    if chosen["out"]:
        result.save(chosen["out"])
        print(f"saved {chosen['out']}", file=said)
    if chosen["plot"]:
        from reduced_dynamics.plotting.style import save_figure

        save_figure(result.plot(), chosen["plot"])
        print(f"drew {chosen['plot']}", file=said)
    return 0


def _gather(options) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings, and options from the command line and the file."""
    config: Mapping[str, Any] = {}
    if options.config:
        config = read_config(options.config, _PLAIN, ("set",), ())
    chosen = {name: getattr(options, name) for name in _PLAIN}
    chosen = {k: config.get(k) if v is None else v for k, v in chosen.items()}
    for name in ("out", "plot"):
        if chosen[name] == "":
            raise InputError(f"--{name} needs the name of a file")
    given = dict(config.get("set", {})) | pairs("set", options.set)
    for name in ("seed", "seeds"):
        if chosen[name] is not None:
            if name in given:
                raise InputError(f"--{name} and --set {name} say the same; give one of the two")
            given[name] = chosen[name]
    chosen["size"] = chosen["size"] or "full"
    workers = number("workers", chosen["workers"] or 1)
    if workers != int(workers) or workers < 1:
        raise InputError(f"--workers takes a positive whole number, not {chosen['workers']}")
    chosen["workers"] = int(workers)
    return given, chosen


def _context(chosen, reporter):
    from reduced_dynamics.experiments.experiment import Context

    return Context(chosen["size"], chosen["workers"], reporter)


def _check_targets(chosen) -> None:
    """Refuse files that could not be written, before anything is computed."""
    if chosen["out"]:
        from reduced_dynamics.experiments.result import ENDINGS
        from reduced_dynamics.io import files

        files.check_target(chosen["out"], ENDINGS)
    if chosen["plot"]:
        from reduced_dynamics.plotting.style import check_target

        check_target(chosen["plot"])


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


def _all(options, given, chosen) -> int:
    from reduced_dynamics.experiments.finding import tally
    from reduced_dynamics.experiments.gallery import make

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
        make(catalogue.experiments(), folder, given, _context(chosen, reporter), report)
    finally:
        reporter.close()
        if options.json:
            found = {
                e.name: {"state": e.state, "error": e.error,
                         "result": e.result and e.result.as_json()}
                for e in entries
            }  # fmt: skip
            print(printed(found))
        print(f"index: {os.path.join(folder, 'index.html')}", file=stream)
    return max((entry.exit_code for entry in entries), default=0)
