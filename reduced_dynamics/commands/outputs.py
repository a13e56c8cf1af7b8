"""What commands say of the files that they write."""

import sys

from reduced_dynamics.plotting.style import save_figure


def say(text: str, json) -> None:
    """A line for people; beside ``--json``, whose object stands alone, on standard error."""
    print(text, file=sys.stderr if json else sys.stdout)


def draw(figure, path: str, json) -> None:
    """Save a figure, and say so."""
    save_figure(figure, path)
    say(f"drew {path}", json)
