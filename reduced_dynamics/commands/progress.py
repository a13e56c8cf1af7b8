"""Progress of a long integration on standard error, from two seconds on."""

from __future__ import annotations

import sys
import time


class Reporter:
    """Callable for `integrate`'s `progress`: silent at first, then a line now and then.

    On a terminal one line is rewritten twice a second; elsewhere a line is added every ten.
    """

    SILENT = 2.0

    def __init__(self, stream=None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.every = 0.5 if self.live else 10.0
        self.next = time.monotonic() + self.SILENT
        self.shown = False

    def __call__(self, progress) -> None:
        now = time.monotonic()
        if now < self.next or progress.steps < 2:  # before that, it compiles
            return
        self.next = now + self.every
        part = 100.0 * progress.t / progress.t_end
        text = (
            f"t = {progress.t:.4g} of at most {progress.t_end:.4g} ({part:.1f} %), "
            f"{progress.steps} steps, loss {progress.loss:.4g}, {progress.wall_s:.0f} s"
        )
        self.stream.write(f"\r{text}\x1b[K" if self.live else f"{text}\n")
        self.stream.flush()
        self.shown = True

    def close(self) -> None:
        """Clear the line."""
        if self.live and self.shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
