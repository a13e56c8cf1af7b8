"""Progress of long work on standard error, from two seconds on."""

import math
import sys
import time
from contextlib import AbstractContextManager


class Reporter(AbstractContextManager):
    """A `core.progress.Progress` for people: silent at first, then a line now and then.

    On a terminal one line is rewritten twice a second; elsewhere a line is added every ten.
    """

    SILENT = 2.0

    def __init__(self, stream=None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.every = 0.5 if self.live else 10.0
        self.next = time.monotonic() + self.SILENT
        self.shown = False
        self.begun = (0.0, math.inf)  # when, and with which share, the work at hand began

    def __call__(self, what: str, share: float) -> None:
        now = time.monotonic()
        if share < self.begun[1]:
            self.begun = (now, share)
        if now < self.next:
            return
        self.next = now + self.every
        self.show(f"{what}{self._rest(now, share)}")

    def show(self, text: str) -> None:
        """Write a line, or over the one that is there."""
        self.stream.write(f"\r{text}\x1b[K" if self.live else f"{text}\n")
        self.stream.flush()
        self.shown = True

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Clear the line; what comes next is other work."""
        self.begun = (0.0, math.inf)
        if self.live and self.shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def _rest(self, now: float, share: float) -> str:
        """The share that is done, and the time left if it goes on like this."""
        if math.isnan(share):
            return ""
        since, first = self.begun
        left = ""
        if share > first:
            left = f", {(now - since) * (1.0 - share) / (share - first):.0f} s left"
        return f" ({100.0 * share:.1f} %{left})"
