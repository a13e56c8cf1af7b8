"""Dispatch, exit codes, and errors in one sentence.

0 done; 2 bad input; 3 the integration failed; 130 interrupted, with everything finished kept.
"""

import argparse
import difflib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from reduced_dynamics._version import __version__
from reduced_dynamics.core.errors import InputError, ReducedDynamicsError, check_interrupt, unknown

INTERRUPTED = 130

DESCRIPTION = """\
How transformers learn induction heads, as equations you can integrate.

The training of a two-layer transformer on an in-context task lives in a few dimensions. This
program derives those equations with SymPy, compiles them and integrates them.

  simulate.py list                      what there is
  simulate.py derive musat19            where the equations come from, with proofs
  simulate.py run musat3 --set N=1000   when an induction head emerges
"""


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that name the nearest option."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message):
        choice = re.fullmatch(r"argument COMMAND: invalid choice: '(.*?)' \(.* (.*)\)", message)
        if choice:
            known = [c.strip("',") for c in message.partition("choose from ")[2][:-1].split()]
            message = "invalid choice: " + str(unknown("command", choice[1], known))
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_args(self, args=None, namespace=None):
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            parser = getattr(found, "parser", self)
            options = [o for a in parser._actions for o in a.option_strings]
            close = difflib.get_close_matches(rest[0].split("=")[0], options, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]}?" if close else ""
            parser.error(f"unknown argument '{rest[0]}'{hint}")
        return found


#: The module of every command, in the order of the help.
COMMANDS = {
    "list": "systems",
    "derive": "derive",
    "run": "run",
    "sweep": "sweep",
    "validate": "validate",
    "analyse": "analyse",
    "bench": "bench",
    "experiment": "experiment",
}


def parser(arguments: Sequence[str] = ()) -> Parser:
    """The command line; of one command only where `arguments` name it, which starts faster."""
    top = Parser(prog="simulate.py", description=DESCRIPTION)
    top.add_argument("--version", action="version", version=f"reduced-dynamics {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    named = [name for name in arguments[:1] if name in COMMANDS]
    for name in named or COMMANDS:
        module = import_module(f"reduced_dynamics.commands.{COMMANDS[name]}")
        command = module.add_parser(commands)
        command.set_defaults(execute=module.execute, parser=command)
    return top


def main(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    _prepare_streams()
    try:
        options = parser(arguments).parse_args(arguments)
        options.arguments = list(arguments)
        code = options.execute(options)
        sys.stdout.flush()
        return code
    except ReducedDynamicsError as error:
        print(f"simulate.py: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, SystemError) as stopped:
        check_interrupt(stopped)
        print("simulate.py: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; say nothing more, also not while closing.
        _silence_output()
        return 0
    except OSError as error:
        _silence_output()
        what = f"cannot use '{error.filename}'" if error.filename else "cannot write the output"
        print(f"simulate.py: {what} ({error.strerror}); choose another place", file=sys.stderr)
        return InputError.exit_code


def _prepare_streams() -> None:
    """Warnings and this package's messages as plain lines; output that any terminal can show."""
    warnings.showwarning = _show_warning
    log = logging.getLogger("reduced_dynamics")
    log.setLevel(logging.INFO)
    log.handlers = [logging.StreamHandler(sys.stderr)]
    if sys.stdout is None:  # closed by the caller
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _silence_output() -> None:
    """Whatever is still to be written to standard output goes nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message, category, filename, lineno, file=None, line=None):
    print(f"simulate.py: warning: {message}", file=sys.stderr)
