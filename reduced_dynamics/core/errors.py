"""What a user can cause, said in one sentence with the remedy.

Every error of this package that a user can bring about derives from `ReducedDynamicsError`
and carries the exit code that the command line returns for it.
"""

import difflib
from collections.abc import Iterable
from numbers import Integral
from typing import Any


class ReducedDynamicsError(Exception):
    """Base of this package's errors; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(ReducedDynamicsError, ValueError):
    """Something asked for does not exist, is out of range or contradicts itself (exit 2)."""

    exit_code = 2


class IntegrationError(ReducedDynamicsError, RuntimeError):
    """An integration failed or got stuck (exit 3). `trajectory` holds what was done so far.

    Attributes
    ----------
    trajectory : Trajectory or None
        Everything computed before the failure.
    """

    exit_code = 3

    def __init__(self, message, trajectory=None):
        super().__init__(message)
        self.trajectory = trajectory


class CacheWarning(UserWarning):
    """The cache of compiled systems could not be used as it should; results are unaffected."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for an unknown name, answered with the nearest known one.

    >>> str(unknown("parameter", "Nn", ["N", "query"]))
    "unknown parameter 'Nn'; did you mean 'N'? (known: N, query)"
    """
    known = list(known)
    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.5)
    hint = f"; did you mean '{lowered[close[0]]}'?" if close else ""
    return InputError(f"unknown {kind} '{name}'{hint} (known: {', '.join(known)})")


def whole_numbers(least: int = 1, **values: Any) -> None:
    """Raise `InputError` unless these are integers, `least` or more.

    >>> whole_numbers(N=4, D=2.5)
    Traceback (most recent call last):
    reduced_dynamics.core.errors.InputError: D must be a positive integer, not 2.5
    """
    for name, value in values.items():
        integer = isinstance(value, Integral) and not isinstance(value, bool)
        if not (integer and value >= least):
            kind = {0: "0 or a positive integer", 1: "a positive integer"}
            said = kind.get(least, f"an integer, at least {least}")
            raise InputError(f"{name} must be {said}, not {value!r}")


def check_interrupt(error: BaseException) -> None:
    """Raise the error again unless it is Ctrl-C.

    Python wraps a KeyboardInterrupt that meets a compiled function as it returns in a SystemError;
    handlers of an interruption catch both and ask here.
    """
    cause: BaseException | None = error
    while isinstance(cause, SystemError):
        cause = cause.__cause__
    if not isinstance(cause, KeyboardInterrupt):
        raise error
