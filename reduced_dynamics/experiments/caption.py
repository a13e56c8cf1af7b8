"""Captions whose numbers are those of the run: texts with fields, filled from its `numbers`.

No figure writes a number into its caption by hand. A `Finding` is a text such as
``"T_γ/N = {T_gamma3:.4f}"`` and the verdict that the run itself came to, so the caption and what
``--json`` prints cannot disagree.
"""

from __future__ import annotations

import math
import string
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Columns of a caption as text.
WIDTH = 96
_MARKS = {True: "[agrees]  ", False: "[differs] ", None: "[measured]"}


@dataclass(frozen=True)
class Finding:
    """One line of a caption.

    Attributes
    ----------
    text : str
        With fields that name numbers of the run, as for `str.format`: ``{loss:.3g}``,
        ``{events[T_half]:.1f}``.
    agrees : bool or None
        Whether the run agrees with what the paper claims; None where the paper claims nothing.
    """

    text: str
    agrees: bool | None = None

    def __post_init__(self):
        if self.agrees is not None:  # a numpy bool is no True
            object.__setattr__(self, "agrees", bool(self.agrees))


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


def compose(
    heading: str,
    claim: str,
    setting: str,
    findings: Sequence[Finding],
    numbers: Mapping[str, Any],
    command: str,
) -> str:
    """A caption as text, its lines at most `WIDTH` characters wide.

    Parameters
    ----------
    heading : str
        Id and title.
    claim : str
        What the paper says, with its reference.
    setting : str
        What was run and what the panels show; with fields, as the findings' texts.
    findings : sequence of Finding
    numbers : mapping
    command : str
        That makes this figure again.
    """
    lines = [heading, ""]
    lines += textwrap.wrap(f"The paper: {' '.join(claim.split())}", WIDTH)
    lines += ["", *textwrap.wrap(f"Here: {' '.join(fill(setting, numbers).split())}", WIDTH), ""]
    for finding in findings:
        text = " ".join(fill(finding.text, numbers).split())
        lines += textwrap.wrap(
            f"{_MARKS[finding.agrees]} {text}",
            WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * 13,
            break_long_words=False,
        )
    return "\n".join([*lines, "", f"Made by: {command}"])


def tally(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings agree with the paper, differ from it, or stand beside it."""
    names = {"agrees": True, "differs": False, "measured": None}
    return {name: sum(f.agrees is kind for f in findings) for name, kind in names.items()}
