"""``figure``: the papers' figures, with the numbers of the run that drew them."""

from __future__ import annotations

import os
import sys
import time

from reduced_dynamics.commands import progress
from reduced_dynamics.commands.validate import whole
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.experiments.registry import MODULES, TAKES_TEXT, about, make
from reduced_dynamics.experiments.request import Request
from reduced_dynamics.io import files
from reduced_dynamics.io.jsonable import printed

INTERRUPTED = 130
#: Folder of ``figure all``.
FOLDER = "figures"

DESCRIPTION = """\
Make a figure of one of the papers, with a caption that says what the paper claims and what was
measured here: every number in it comes from the run that drew the figure.

  simulate.py figure list                      what there is
  simulate.py figure musat-3 --quick           a coarse version, within half a minute
  simulate.py figure wang-2 --out phases.pdf   the caption goes to phases.caption.txt
  simulate.py figure wang-5 --text book.txt    the transformer trained on another text
  simulate.py figure chen-criterion --json     the numbers, and nothing else
  simulate.py figure all --out figures         all of them and an index page; resumable

Without --out the figure is ID.svg in the current folder (with --json, no file is written).
"""


def add_parser(commands):
    command = commands.add_parser(
        "figure", help="a figure of one of the papers, with its numbers", description=DESCRIPTION
    )
    add = command.add_argument
    add("id", metavar="ID", help=f"list, all, {', '.join(MODULES)}")
    add("--out", metavar="FILE", help=".svg, .pdf or .png; of all: a folder (figures)")
    add("--quick", action="store_true", help="a coarse version, within 30 seconds")
    add("--seed", metavar="N", help="first seed of whatever is random (0)")
    add("--text", metavar="FILE", help=f"text to train on, UTF-8 ({', '.join(TAKES_TEXT)})")
    add("--json", action="store_true", help="print the numbers as one JSON object, nothing else")
    return command


def execute(options) -> int:
    for name in ("out", "text"):
        if getattr(options, name) == "":
            raise InputError(f"--{name} needs the name of a file")
    if options.id == "list":
        return _list(options)
    if options.id not in (*MODULES, "all"):
        raise unknown("figure", options.id, (*MODULES, "all", "list"))
    if options.text is not None and options.id not in (*TAKES_TEXT, "all"):
        raise InputError(f"--text is for {', '.join(TAKES_TEXT)}; drop it")
    seed = 0 if options.seed is None else whole("seed", options.seed)
    if seed < 0:
        raise InputError(f"--seed must be 0 or a positive integer, not {seed}")
    reporter = Reporter()
    request = Request("quick" if options.quick else "full", seed, reporter, options.text)
    try:
        return (_all if options.id == "all" else _one)(options, request, reporter)
    finally:
        reporter.close()


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


def _list(options) -> int:
    known = {name: about(name) for name in MODULES}
    if options.json:
        found = {name: {"title": a.title, "paper": a.paper} for name, a in known.items()}
        print(printed(found))
        return 0
    for name, one in known.items():
        print(f"{name:20} {one.title}")
    print(f"{'all':20} all of them into one folder, with an index page")
    return 0


def _one(options, request: Request, reporter: Reporter) -> int:
    from reduced_dynamics.experiments.folder import as_record, companion, settings
    from reduced_dynamics.plotting.style import check_target, save_figure

    target = options.out or (None if options.json else f"{options.id}.svg")
    if target is not None:
        check_target(target)
        files.check_target(companion(target), [".txt"])
    if options.text is not None:
        files.read(options.text)
    made = make(options.id, request)
    reporter.close()
    if target is not None:
        save_figure(made.figure, target)
        files.write(companion(target), f"{made.caption}\n".encode())
    if options.json:
        record = as_record(made, settings(options.id, request))
        print(printed(record))
    else:
        print(made.caption)
    if target is not None:
        said = f"drew {target}, caption in {companion(target)}"
        print(said, file=sys.stderr if options.json else sys.stdout)
    return 0


def _all(options, request: Request, reporter: Reporter) -> int:
    from reduced_dynamics.experiments.folder import make_all

    folder = options.out or FOLDER
    stream = sys.stderr if options.json else sys.stdout
    if options.text is not None:
        files.read(options.text)
    entries = []

    def report(entry) -> None:
        reporter.close()
        entries.append(entry)
        if entry.state == "failed":
            print(f"simulate.py: {entry.id} failed: {entry.error}", file=sys.stderr)
            return
        counts = ", ".join(f"{n} {kind}" for kind, n in entry.record["verdicts"].items())
        seconds = f" in {entry.record['wall_s']:.0f} s" if entry.state == "made" else ""
        print(f"{entry.state:6} {entry.id:20} {counts}{seconds}", file=stream, flush=True)

    code = 0
    try:
        make_all(folder, request, report=report)
    except KeyboardInterrupt:
        print(
            f"simulate.py: interrupted after {len(entries)} of {len(MODULES)} figures; the same "
            "command takes it up again",
            file=sys.stderr,
        )
        code = INTERRUPTED
    if options.json:
        found = {
            entry.id: {"state": entry.state, "error": entry.error, "record": entry.record}
            for entry in entries
        }
        print(printed(found))
    print(f"index: {os.path.join(folder, 'index.html')}", file=stream)
    return code or max((entry.exit_code for entry in entries), default=0)
