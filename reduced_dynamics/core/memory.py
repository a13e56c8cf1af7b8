"""Whether what is asked for fits into memory, said before it is begun."""

import os

from reduced_dynamics.core.errors import InputError

#: Part of the machine's memory that one computation may take.
SHARE = 0.5
#: Bytes assumed where the system does not say how many it has.
_ASSUMED = 8 << 30


def available() -> int:
    """Bytes that one computation may take: half of the machine's memory."""
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        installed = 0
    return int(SHARE * (installed if installed > 0 else _ASSUMED))


def require(needed: float, what: str, remedy: str) -> None:
    """Make sure that `needed` bytes may be taken.

    Parameters
    ----------
    needed : float
        An estimate, in bytes.
    what, remedy : str
        What needs them, and what to do about it.

    Raises
    ------
    InputError
        If that is more than `available`.
    """
    if needed > available():
        raise InputError(
            f"{what} would take about {needed / 2**30:.3g} GiB of memory, and "
            f"{available() / 2**30:.3g} GiB may be used here; {remedy}"
        )
