"""All experiments into one folder with an index page; what is already there is not made again.

Beside every result ``NAME.nc`` lies its figure, ``NAME.svg``, always drawn anew. A result says
with which settings, versions and sources it was made, and only if these are today's is it taken
as made. So an interrupted gallery is taken up where it stopped, and an experiment that fails does
not keep the others from being made.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reduced_dynamics.core.errors import InputError, ReducedDynamicsError, check_interrupt, unknown
from reduced_dynamics.experiments import page
from reduced_dynamics.experiments.experiment import Context, Experiment
from reduced_dynamics.experiments.perform import ExperimentInterrupted, perform, source
from reduced_dynamics.experiments.result import Result
from reduced_dynamics.experiments.setting import collect
from reduced_dynamics.io import files
from reduced_dynamics.io.jsonable import plain
from reduced_dynamics.io.versions import versions
from reduced_dynamics.plotting.style import save_figure


@dataclass(frozen=True)
class Entry:
    """What became of one experiment: "made", "kept" or "failed".

    Where it failed there is no result, but why it did and the exit code of the error.
    """

    name: str
    state: str
    result: Result | None = None
    error: str = ""
    exit_code: int = 0


def make(
    experiments: Sequence[Experiment],
    folder,
    given: Mapping[str, Any] | None = None,
    context: Context | None = None,
    report: Callable[[Entry], None] | None = None,
) -> list[Entry]:
    """Perform experiments into a folder, each with its figure, and an index page of them all.

    Parameters
    ----------
    experiments : sequence of Experiment
    folder : path
        Made if it does not exist.
    given : mapping, optional
        Settings, for those experiments that have them.
    context : Context, optional
    report : callable, optional
        Called with every `Entry` as soon as it is there.

    Raises
    ------
    InputError
        If the folder cannot be used, or a setting is unknown or refused by one of those that have
        it: before any is performed. Errors of single experiments are entries.
    ExperimentInterrupted
        When the user interrupts; all that was made until then is in the folder and its index.
    """
    context = context or Context()
    names = {s.name for experiment in experiments for s in experiment.settings}
    settings = {}
    for name in given or {}:
        if name not in names:
            raise unknown("setting of any experiment", name, sorted(names))
    for experiment in experiments:
        known = {s.name for s in experiment.settings}
        own = {k: v for k, v in (given or {}).items() if k in known}
        collect(experiment.settings, own, context.size, experiment.name)
        settings[experiment.name] = own
    check_folder(folder)
    folder = Path(folder)
    entries: list[Entry] = []
    try:
        for experiment in experiments:
            entry = _one(experiment, folder, settings[experiment.name], context)
            entries.append(entry)
            if report is not None:
                report(entry)
    except KeyboardInterrupt:
        raise ExperimentInterrupted(
            "the gallery", [entry.name for entry in entries], len(experiments)
        ) from None
    finally:
        drawings = {
            entry.name: files.read(folder / f"{entry.name}.svg")
            for entry in entries
            if entry.result is not None
        }
        text = page.index([e.name for e in experiments], entries, drawings)
        files.write(folder / "index.html", text.encode())
    return entries


def check_folder(folder) -> None:
    """Make the folder if need be, and be sure that files can be written to it.

    Raises
    ------
    InputError
        If it is a file, or cannot be made or written to.
    """
    path = os.fspath(folder)
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise InputError(f"'{path}' is a file; name a folder for all experiments") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot make the folder '{path}' ({reason.lower()}); choose another place"
        ) from None
    files.check_target(os.path.join(path, "index.html"), [".html"])


def _one(experiment: Experiment, folder: Path, given: Mapping[str, Any], context: Context) -> Entry:
    name = experiment.name
    try:
        kept = _kept(experiment, folder, given, context.size)
        result = kept or perform(
            experiment, given, replace(context, progress=context.labelled(name))
        )
        if kept is None:
            result.save(folder / f"{name}.nc")
        save_figure(result.plot(), folder / f"{name}.svg")
    except ExperimentInterrupted:
        raise KeyboardInterrupt from None
    except ReducedDynamicsError as error:
        return Entry(name, "failed", error=str(error), exit_code=error.exit_code)
    except (ArithmeticError, LookupError, SystemError, ValueError, TypeError, MemoryError) as error:
        if isinstance(error, SystemError):
            check_interrupt(error)
            raise KeyboardInterrupt from None
        # A fault of the experiment rather than of the user's: the others are made all the same,
        # and the page names what went wrong.
        said = f"{type(error).__name__}: {error}; a fault of this program, please report it"
        return Entry(name, "failed", error=said, exit_code=1)
    return Entry(name, "made" if kept is None else "kept", result)


def _kept(
    experiment: Experiment, folder: Path, given: Mapping[str, Any], size: str
) -> Result | None:
    """The result that is there already and was made with the same settings and sources."""
    try:
        found = Result.load(folder / f"{experiment.name}.nc", experiment)
    except InputError:
        return None
    settings = plain(collect(experiment.settings, given, size, experiment.name))
    same = (
        found.settings == settings
        and found.source == source(experiment)
        and found.versions == versions()
    )
    return found if same else None
