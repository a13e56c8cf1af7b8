"""Findings: sentences with their numbers, and what they say about a claim.

No experiment writes a number into a sentence by hand. A finding's text has fields, such as
``"T_γ/N = {T_gamma3:.4f}"``, that are filled from the numbers of the run; its verdict is a pure
function of those numbers. So text, verdict, figure and ``--json`` cannot disagree.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: What a finding says about a claim; empty where nothing is claimed.
VERDICTS = ("agrees", "differs", "not decided", "")
#: Columns of text.
WIDTH = 96


@dataclass(frozen=True)
class Measured:
    """A measured number, made of `n` independent values; None if there was nothing to measure.

    `error` is its standard error, `interval` instead of that where it lies with 95 %.
    """

    value: float | None
    error: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None


@dataclass(frozen=True)
class Finding:
    """A sentence with its numbers.

    Attributes
    ----------
    text : str
        With fields that name numbers of the run, as for `str.format`: ``{loss:.3g}``,
        ``{events[T_half]:.1f}``.
    verdict : {"agrees", "differs", "not decided", ""}
        Of the run on the claim; empty where nothing is claimed.
    claim : str
        What the paper claims, where it claims something.
    measured : Measured or None
    why : str
        Where it differs or is not decided: why. With fields as `text`; else empty.
    """

    text: str
    verdict: str = ""
    claim: str = ""
    measured: Measured | None = None
    why: str = ""

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"a verdict is one of {VERDICTS}, not {self.verdict!r}")
        if self.verdict in ("agrees", ""):
            object.__setattr__(self, "why", "")

    def filled(self, numbers: Mapping[str, Any]) -> Finding:
        """The same with its fields filled."""
        text, why = (" ".join(fill(t, numbers).split()) for t in (self.text, self.why))
        return Finding(text, self.verdict, self.claim, self.measured, why)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Finding:
        measured = found["measured"]
        if measured is not None:
            interval = measured["interval"]
            measured = Measured(**{**measured, "interval": interval and tuple(interval)})
        return cls(**{**found, "measured": measured})

    def __str__(self) -> str:
        """One line: the verdict, the sentence, and why."""
        mark = f"[{self.verdict or 'measured'}]"
        return f"{mark} {self.text}" + (f" ({self.why})" if self.why else "")


def holds(statement: bool | None) -> str:
    """The verdict on a claim that holds, does not hold, or cannot be decided (None)."""
    return "not decided" if statement is None else "agrees" if statement else "differs"


def near(measured: float | None, claimed: float, within: float, error: float = 0.0) -> str:
    """The verdict on a claimed number, which agrees with what is `within` this distance of it.

    `error` is twice the standard error of what was measured, or half its interval.
    """
    if measured is None or not math.isfinite(measured):
        return "not decided"
    off = abs(measured - claimed)
    if off + error <= within:
        return "agrees"
    return "differs" if off - error > within else "not decided"


class _Filler(string.Formatter):
    """`str.format`, with a dash for what does not exist or was not reached."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "–"
        if isinstance(value, list | tuple):
            return ", ".join(self.format_field(one, format_spec) for one in value)
        if isinstance(value, bool):
            return "yes" if value else "no"
        return super().format_field(value, format_spec)


def fill(text: str, numbers: Mapping[str, Any]) -> str:
    """A text with its fields filled from `numbers`.

    Raises
    ------
    KeyError
        If a field names no number.
    """
    return _Filler().vformat(text, (), numbers)


def tally(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings agree, differ, are not decided, or stand beside what is claimed."""
    names = {v or "measured": v for v in VERDICTS}
    return {name: sum(f.verdict == v for f in findings) for name, v in names.items()}
