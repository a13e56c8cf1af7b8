"""An experiment: a question, independent parts of work, and what follows from them.

A claim of a paper, a reader's question, a study, a figure: each is one `Experiment`, a record in a
file of its own whose callables are that file's functions (`Experiment.of`). It says *what*; a
`Context` says *how*. `perform.perform` does the work: the parts share workers, are kept when
interrupted, and are not repeated when the same experiment is asked for again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.experiments.finding import Finding
from reduced_dynamics.experiments.setting import Setting, Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: The functions of an experiment, which its file may have.
_CALLABLES = ("parts", "work", "conclude", "judge", "draw")


@dataclass(frozen=True)
class Context:
    """How an experiment is performed, never what.

    Attributes
    ----------
    size : {"full", "quick", "tiny"}
        Which values the settings have that are not given.
    workers : int
        Processes that share the parts; with 1 they are done here, one after the other.
    progress : callable
        See `core.progress.Progress`.
    keep : path or None
        Folder in which parts are kept; None: in the cache.
    checkpoint : Path or None
        Within a part: an ``.npz`` file in which a training may keep its state.
    """

    size: str = "full"
    workers: int = 1
    progress: Progress = silent
    keep: Any = None
    checkpoint: Path | None = None

    def labelled(self, label: str) -> Progress:
        """`progress` whose texts begin with a label."""
        return lambda what, share: self.progress(f"{label}: {what}", share)

    def within(self, folder: Path, key: str, many: bool) -> Context:
        """The context of one part."""
        progress = self.labelled(key) if many else self.progress
        return replace(self, progress=progress, checkpoint=folder / f"{key}.checkpoint.npz")


@dataclass(frozen=True)
class Conclusion:
    """What follows from the parts.

    Attributes
    ----------
    numbers : mapping
        Numbers, texts, and lists and mappings of them: all that findings and captions say.
    data : mapping of str to (dims, array, meaning)
        Labelled arrays for the figure and for the user: dimensions by name, values, and one line
        with the unit. An array named like its one dimension gives that dimension's coordinates.
    trajectories : mapping of str to Trajectory
    """

    numbers: Mapping[str, Any]
    data: Mapping[str, tuple[Sequence[str], Any, str]] = field(default_factory=dict)
    trajectories: Mapping[str, Trajectory] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """A question and how it is answered.

    Attributes
    ----------
    name : str
        Family and short name, ``"musat.order"``.
    question : str
        One line.
    parts : callable
        From `Settings` to a mapping of keys to the arguments of `work`: independent pieces of
        work. Keys are short and fit for file names.
    work : callable
        ``work(settings, arguments, context)``: one part's outcome, of numbers, texts, None, numpy
        arrays and trajectories, and lists and mappings (with texts for keys) of them. A function
        of a module, for it is sent to other processes.
    conclude : callable
        ``conclude(settings, outcomes)``, with the parts' outcomes by key: a `Conclusion`.
    judge : callable
        From a conclusion's numbers (as JSON has them) to the findings, the answer first. Pure: the
        verdicts follow from the numbers alone.
    draw : callable
        From a `result.Result`, which may come from a file, to a matplotlib figure.
    settings : tuple of Setting
    title : str
        A few words, for lists and headings.
    claim, source : str
        What the paper says, and where (paper, theorem, figure); empty where it says nothing.
    caption : str
        What was run and what the panels show; with fields, as the findings' texts.
    cost : mapping of str to float
        Processor seconds at "full" and "quick", measured on one core.
    """

    name: str
    question: str
    parts: Callable[[Settings], Mapping[str, Any]]
    work: Callable[[Settings, Any, Context], Any]
    conclude: Callable[[Settings, Mapping[str, Any]], Conclusion]
    judge: Callable[[Mapping[str, Any]], Sequence[Finding]]
    draw: Callable[[Any], Figure]
    settings: tuple[Setting, ...] = ()
    title: str = ""
    claim: str = ""
    source: str = ""
    caption: str = ""
    cost: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, module: str, **declared: Any) -> Experiment:
        """The experiment that a file is.

        What is not given are the file's functions of these names, those of its `STUDY` where it is
        one, and its `SETTINGS`.
        """
        own = vars(sys.modules[module])
        study = own.get("STUDY")
        found = {name: getattr(study, name) for name in _CALLABLES if hasattr(study, name)}
        found |= {name: own[name] for name in _CALLABLES if name in own}
        return cls(**{"settings": own.get("SETTINGS", ()), **found, **declared})

    def __post_init__(self):
        names = [s.name for s in self.settings]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name}: two settings of one name")
