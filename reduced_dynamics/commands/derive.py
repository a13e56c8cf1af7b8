"""``derive``: the derivation of a system's equations, with the checks made on the way."""

from __future__ import annotations

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
    command.add_argument("system", metavar="SYSTEM", help="musat3, musat19, ...")
    command.add_argument("--latex", metavar="FILE", help="write the equations as LaTeX (.tex)")
    command.add_argument(
        "--self-attention", action="store_true", help="derive with self_attention=true"
    )
    return command


def execute(options) -> int:
    system = catalogue.system(options.system)
    if options.self_attention and "self_attention" not in {p.name for p in system.parameters}:
        raise InputError(f"--self-attention has no meaning for {system.name}; drop it")
    if options.latex:
        check_target(options.latex, [".tex"])
        from derivations.core.latex import document

        text = document(system.name, self_attention=options.self_attention)
        write(options.latex, text.encode())
        print(f"wrote {options.latex}: compile it with pdflatex {options.latex}")
        return 0
    from derivations.core.report import report

    try:
        for line in report(system.name, self_attention=options.self_attention):
            print(line, flush=True)
    except ArithmeticError as error:
        print(f"simulate.py: a check of the derivation failed: {error}", file=sys.stderr)
        return 3
    except KeyError:
        raise InputError(f"no derivation report for {system.name}") from None
    return 0
