"""The one way in which long work says how far it is."""

from collections.abc import Callable

from reduced_dynamics.core.errors import InputError

#: ``progress(what, share)``: what is being done, in words that a person reads ("seed 3: step 120 of
#: 8000, loss 0.31"), and which share of it is done, 0 to 1; nan where that cannot be known. Called
#: as often as is convenient: who shows it decides how often it is shown.
Progress = Callable[[str, float], None]


def silent(what: str, share: float) -> None:
    """Progress that nobody watches."""


def watched(progress: Progress | None) -> Progress:
    """What is to be told: `progress`, or nobody.

    Raises
    ------
    InputError
        If it cannot be called.
    """
    if progress is None:
        return silent
    if not callable(progress):
        raise InputError(f"progress must be callable, not {progress!r}")
    return progress
