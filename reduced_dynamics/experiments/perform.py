"""Performing an experiment: its parts shared among workers, kept as they come, never done twice."""

import hashlib
import json
import multiprocessing
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reduced_dynamics.compilation import cache
from reduced_dynamics.core.errors import (
    InputError,
    ReducedDynamicsError,
    check_interrupt,
    whole_numbers,
)
from reduced_dynamics.core.identity import identity
from reduced_dynamics.experiments.experiment import Conclusion, Context, Experiment
from reduced_dynamics.experiments.result import Result
from reduced_dynamics.experiments.setting import Settings, collect
from reduced_dynamics.io import bundle, files
from reduced_dynamics.io.jsonable import plain
from reduced_dynamics.io.versions import versions
from reduced_dynamics.training.loop import TrainingInterrupted


class ExperimentInterrupted(ReducedDynamicsError):
    """An experiment was interrupted (exit 130); the `done` of its `total` parts are kept."""

    exit_code = 130

    def __init__(self, name: str, done: list[str], total: int):
        said = f": {', '.join(done[:8])}{', …' if len(done) > 8 else ''}" if done else ""
        super().__init__(
            f"{name} was interrupted; {len(done)} of {total} parts are done and kept{said}; the "
            "same command goes on from there"
        )
        self.done, self.total = len(done), total


def perform(
    experiment: Experiment, given: Mapping[str, Any] | None = None, context: Context | None = None
) -> Result:
    """Do what an experiment asks for.

    Parameters
    ----------
    experiment : Experiment
    given : mapping, optional
        Settings by name; the others have their values at the context's size.
    context : Context, optional

    Raises
    ------
    InputError
        For an unknown setting or size, or a value that is impossible.
    ExperimentInterrupted
        At a KeyboardInterrupt; what was done is kept for the same call.
    ReducedDynamicsError
        If a part fails; the others that were done are kept.
    """
    context = context or Context()
    whole_numbers(workers=context.workers)
    settings = collect(experiment.settings, given or {}, context.size, experiment.name)
    parts = dict(experiment.parts(settings))
    folder = _folder(experiment, settings, context)
    begun = time.monotonic()
    outcomes = _kept(folder, parts)
    try:
        task = partial(_one, experiment, settings, folder)
        for key, outcome in _work(task, parts, outcomes, folder, context):
            outcomes[key] = outcome
    except (KeyboardInterrupt, TrainingInterrupted, SystemError) as stopped:
        if isinstance(stopped, SystemError):
            check_interrupt(stopped)
        raise ExperimentInterrupted(experiment.name, sorted(outcomes), len(parts)) from None
    context.progress("concluding", 1.0)
    wall_s = time.monotonic() - begun
    found = experiment.conclude(settings, {key: outcomes[key] for key in parts})
    numbers = plain(found.numbers)
    result = Result(
        experiment=experiment.name,
        size=context.size,
        settings=plain(settings),
        numbers=numbers,
        findings=tuple(finding.filled(numbers) for finding in experiment.judge(numbers)),
        data=_dataset(found, settings),
        trajectories=dict(found.trajectories),
        command=command(experiment, settings, context.size),
        versions=versions(),
        source=source(experiment),
        wall_s=wall_s,
        declared=experiment,
    )
    shutil.rmtree(folder, ignore_errors=True)
    return result


def command(experiment: Experiment, settings: Mapping[str, Any], size: str) -> str:
    """The command line that performs an experiment with these settings."""
    words = ["python simulate.py experiment", experiment.name]
    if size != "full":
        words.append(f"--size {size}")
    for setting in experiment.settings:
        value = settings[setting.name]
        if value != setting.at(size):
            shown = ",".join(map(str, value)) if isinstance(value, tuple | list) else value
            if setting.kind == "seeds" and "," not in str(shown):
                shown = f"{shown},"  # one seed, not a number of seeds
            words.append(f"--set {setting.name}={shown}")
    return " ".join(words)


def source(experiment: Experiment) -> str:
    """Hash of the sources and versions that an experiment's result follows from.

    The figure is not among them: it is drawn from the result whenever it is asked for.
    """
    return identity(experiment.parts, experiment.work, experiment.conclude, experiment.judge)[:16]


def _dataset(found: Conclusion, settings: Mapping[str, Any]):
    import xarray

    variables = {
        name: (dims, np.asarray(values), {"long_name": meaning})
        for name, (dims, values, meaning) in found.data.items()
    }
    return xarray.Dataset(variables, attrs={"settings": json.dumps(plain(settings))})


# ---------------------------------------------------------------- parts


def _folder(experiment: Experiment, settings: Settings, context: Context) -> Path:
    """Where the parts of an experiment with these settings and sources are kept."""
    identity = [plain(settings), source(experiment), versions()]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    root = cache.directory() / "experiments" if context.keep is None else Path(context.keep)
    return root / f"{experiment.name}-{digest}"


def _kept(folder: Path, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The outcomes that are there from before, undamaged."""
    found = {}
    for key in parts:
        with suppress(InputError):
            if (folder / f"{key}.npz").exists():
                found[key] = bundle.decode(files.read(folder / f"{key}.npz"))
    return found


def _work(
    task: Callable,
    parts: Mapping[str, Any],
    done: Mapping[str, Any],
    folder: Path,
    context: Context,
) -> Iterator[tuple[str, Any]]:
    """The outcomes of the parts that are not done yet, each as soon as `task` has it."""
    left = {key: arguments for key, arguments in parts.items() if key not in done}
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    many = len(parts) > 1
    if context.workers == 1 or len(left) < 2:
        for count, (key, arguments) in enumerate(left.items(), start=len(done)):
            context.progress(f"part {key}", count / len(parts))
            yield key, task(key, arguments, context.within(folder, key, many))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(context.workers, len(left)), mp_context=spawn) as pool:
        # Another process can show no progress of its own.
        quiet = Context(context.size)
        with _undisturbed():
            tasks = {
                pool.submit(task, key, arguments, quiet.within(folder, key, False)): key
                for key, arguments in left.items()
            }
        try:
            for count, made in enumerate(as_completed(tasks), start=len(done) + 1):
                yield tasks[made], made.result()
                context.progress(f"{count} of {len(parts)} parts", count / len(parts))
        except BaseException:
            # What has begun ends, and is kept.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C does not reach the processes that are begun meanwhile: what they have begun ends."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _one(
    experiment: Experiment,
    settings: Settings,
    folder: Path,
    key: str,
    arguments: Any,
    context: Context,
) -> Any:
    """One part's outcome, kept and read back, so that it is the same now and after a restart."""
    content = bundle.encode(experiment.work(settings, arguments, context))
    with suppress(InputError):  # what cannot be kept is done again if need be
        files.write(folder / f"{key}.npz", content)
        context.checkpoint.unlink(missing_ok=True)
    return bundle.decode(content)
