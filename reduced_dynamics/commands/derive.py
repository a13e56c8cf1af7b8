"""``derive``: the derivation of a system's equations, with the checks made on the way."""

import json
import sys

from reduced_dynamics import catalogue
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.io.files import check_target, write

DESCRIPTION = """\
Derive a system's equations with SymPy, from the definition of the model and the task, and print
the steps, the proofs and the counts as they are made. A check that fails ends with exit code 3.
"""


def add_parser(commands):
    command = commands.add_parser(
        "derive",
        help="the derived equations, the proofs behind them and the counts",
        description=DESCRIPTION,
    )
    add = command.add_argument
    add("system", metavar="SYSTEM", help="musat3, musat19, ...")
    add("--latex", metavar="FILE", help="write the equations as LaTeX (.tex) instead")
    add("--self-attention", action="store_true", help="derive with self_attention=true")
    add("--json", action="store_true", help="print one JSON object, nothing else")
    return command


def execute(options) -> int:
    name = catalogue.system(options.system).name
    if options.latex:
        check_target(options.latex, [".tex"])
    report = catalogue.find("reports", name)
    if report is None:
        known = ", ".join(catalogue.offered("reports"))
        raise InputError(f"there is no report on how {name} is derived; there is one for {known}")
    given = {"self_attention": options.self_attention}
    if options.self_attention and "self_attention" not in report.options:
        raise InputError(f"--self-attention has no meaning for {name}; drop it")
    given = {option: given[option] for option in report.options}
    try:
        return _tell(name, report, given, options)
    except ArithmeticError as error:
        return _failed(error)


def _failed(what) -> int:
    print(f"simulate.py: a check of the derivation failed: {what}", file=sys.stderr)
    return 3


def _tell(name, report, given, options) -> int:
    # Only when a report is told: it brings SymPy.
    from derivations.documents import document, lines, record

    if options.latex:
        write(options.latex, document(report, **given).encode())
        told = f"wrote {options.latex}: compile it with pdflatex {options.latex}"
        print(told, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        found = record(report, **given)
        print(json.dumps({"system": name} | found, indent=1, ensure_ascii=False))
        wrong = [f for step in found["steps"] for f in step["residuals"] if f["residual"] != "0"]
        if wrong:
            return _failed("; ".join(f"{f['check']}: residual {f['residual']}" for f in wrong))
    elif not options.latex:
        for line in lines(report, **given):
            print(line, flush=True)
    return 0
