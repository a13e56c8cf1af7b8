"""Progress of a long integration on standard error, from two seconds on."""

from __future__ import annotations

import math
import sys
import time


class Reporter:
    """A `core.progress.Progress`: silent at first, then a line now and then.

    On a terminal one line is rewritten twice a second; elsewhere a line is added every ten.
    """

    SILENT = 2.0

    def __init__(self, stream=None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.every = 0.5 if self.live else 10.0
        self.begun = time.monotonic()
        self.next = self.begun + self.SILENT
        self.shown = False

    def __call__(self, what: str, share: float) -> None:
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + self.every
        done = "" if math.isnan(share) else f" ({100.0 * share:.1f} %{self._left(share, now)})"
        text = f"{what}{done}"
        self.stream.write(f"\r{text}\x1b[K" if self.live else f"{text}\n")
        self.stream.flush()
        self.shown = True

    def _left(self, share: float, now: float) -> str:
        """The time left, where what was done until now says it."""
        if not 0.0 < share < 1.0:
            return ""
        return f", {(now - self.begun) * (1.0 - share) / share:.0f} s left"

    def close(self) -> None:
        """Clear the line."""
        if self.live and self.shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
