"""What a figure is asked for, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reduced_dynamics.core.progress import Progress
from reduced_dynamics.experiments.caption import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: How large the run is: as in the paper as far as three minutes of one core allow; a coarse
#: version within half a minute; and the least that draws every panel, for tests.
SIZES = ("full", "quick", "tiny")

MUSAT = "Musat et al., arXiv 2511.01033"
WANG = "Wang et al., arXiv 2410.11474"
CHEN = "Chen et al., arXiv 2409.10559"


def _silent(text: str) -> None:
    pass


@dataclass(frozen=True)
class Request:
    """What a figure is asked for.

    Attributes
    ----------
    size : {"full", "quick", "tiny"}
    seed : int
        The first seed of whatever is random.
    progress : callable
        Called with a short text on what is being done.
    text : str or None
        File with the text to train on; only `wang-5` takes one.
    """

    size: str = "full"
    seed: int = 0
    progress: Callable[[str], None] = _silent
    text: str | None = None

    def of(self, full: Any, quick: Any, tiny: Any) -> Any:
        """The value for this size."""
        return dict(zip(SIZES, (full, quick, tiny), strict=True))[self.size]

    def training(self, label: str) -> Progress:
        """A `progress` for the trainings of full models."""
        return lambda what, share: self.progress(f"{label}: {what}")

    def integrating(self, label: str) -> Callable[[str, float], None]:
        """A `progress` for `integrate`."""
        return lambda what, share: self.progress(f"{label}: {what}")


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure, the numbers of the run that drew it, and what they say about the claim.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
    numbers : mapping
        JSON: plain numbers, texts, lists and mappings of them.
    setting : str
        What was run and what the panels show; may have fields, see `caption.Finding`.
    findings : sequence of Finding
    """

    figure: Figure
    numbers: Mapping[str, Any]
    setting: str
    findings: Sequence[Finding]


@dataclass(frozen=True)
class About:
    """What is known of a figure before it is drawn."""

    title: str
    paper: str
    claim: str
