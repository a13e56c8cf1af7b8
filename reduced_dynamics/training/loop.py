"""The training loop of every full model: minibatches, progress, checkpoints, and what can go wrong.

A step replaces one frozen state by the next, so that an interruption at any moment finds a state
that is whole; a checkpoint is that state in a file.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numba
import numpy as np

from reduced_dynamics import __version__
from reduced_dynamics.core.errors import (
    InputError,
    IntegrationError,
    ReducedDynamicsError,
    check_interrupt,
)
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.io import files
from reduced_dynamics.training.optimisers import Arrays, Optimiser

#: Seconds between two checkpoints, and between two reports of progress.
SAVE_EVERY = 30.0
REPORT_EVERY = 0.2
#: Training has diverged once the loss exceeds its first value this many times.
DIVERGED = 1e3

_FORMAT = "reduced_dynamics checkpoint 1"

Progress = Callable[[int, int, float, float], None]


class Model(Protocol):
    """What the loop needs to know of a model and its settings."""

    name: str
    config: Any
    """A frozen dataclass of scalars, strings, tuples and mappings."""
    optimiser: Optimiser
    steps: int
    record: frozenset[int]
    """Steps before which a row is recorded; 0 and `steps` among them."""

    def start(self) -> tuple[Arrays, np.random.Generator]:
        """The first weights, and the generator from which minibatches are drawn."""

    def loss_and_gradient(
        self, weights: Arrays, rng: np.random.Generator
    ) -> tuple[float, Arrays, tuple[float, ...]]:
        """Loss and gradient on a fresh minibatch, and what else is to be recorded of it."""

    def constrain(self, weights: Arrays) -> Arrays:
        """The weights after a step, brought back to where they are held."""

    def measure(self, weights: Arrays) -> tuple[float, ...]:
        """What is to be recorded of the weights."""

    def trajectory(self, rows: np.ndarray, stats: dict[str, Any], message: str) -> Trajectory:
        """Rows of (step, loss, minibatch's records, weights' records) as a trajectory."""


class TrainingInterrupted(ReducedDynamicsError):
    """Training was interrupted from the keyboard (exit 130); what was done is kept.

    Attributes
    ----------
    step : int
    trajectory : Trajectory or None
        Everything recorded so far; None if that is nothing.
    checkpoint : path or None
        Where training goes on from.
    """

    exit_code = 130

    def __init__(self, message, step, trajectory, checkpoint):
        super().__init__(message)
        self.step = step
        self.trajectory = trajectory
        self.checkpoint = checkpoint


class DivergedError(IntegrationError):
    """The steps were too long (exit 3). `step` says when, `trajectory` holds what came before."""

    def __init__(self, message, step, trajectory=None):
        super().__init__(message, trajectory)
        self.step = step


@dataclass(frozen=True, eq=False)
class _State:
    """Everything that the rest of training depends on, before step `step`."""

    step: int
    weights: Arrays
    memory: Arrays
    rng: dict[str, Any]
    rows: tuple[tuple[float, ...], ...] = ()


def run(
    model: Model, progress: Progress | None = None, checkpoint=None
) -> tuple[Trajectory, Arrays]:
    """Train a model to its last step: what was recorded, and the weights at the end.

    Parameters
    ----------
    model : Model
    progress : callable, optional
        Called as ``progress(step, steps, loss, seconds_left)`` a few times a second and
        whenever a row has been recorded.
    checkpoint : path, optional
        An ``.npz`` file. If it exists, training goes on from it, to results identical to the
        last bit with those of a run without interruption; it is written every half minute, at
        an interruption and at the end.

    Raises
    ------
    InputError
        If the checkpoint is of another configuration, is no checkpoint, or cannot be written.
    TrainingInterrupted
        At a KeyboardInterrupt, after the checkpoint has been written.
    DivergedError
        If the loss is no longer finite, or a thousand times its first value.
    """
    state = None
    if checkpoint is not None:
        files.check_target(checkpoint, [".npz"])
        if os.path.exists(checkpoint):
            state = _load(model, checkpoint)
    if state is None:
        weights, rng = model.start()
        state = _State(0, weights, model.optimiser.start(weights), rng.bit_generator.state)
    rng = _generator(state.rng)

    _keep_memory()
    begun = saved = reported = time.perf_counter()
    first_step = state.step
    calmest = (np.inf, state)

    def stats():
        seconds = time.perf_counter() - begun
        done = state.step - first_step
        return {"steps": state.step, "wall_s": seconds, "steps_per_s": done / seconds}

    def so_far(message):
        return model.trajectory(np.array(state.rows), stats(), message) if state.rows else None

    def keep():
        """Write the checkpoint; why that failed, if it did: no result is lost to a full disk."""
        try:
            if checkpoint is not None:
                _save(model, state, checkpoint)
        except InputError as error:
            return f"; {error}"
        return ""

    try:
        while not _finished(model, state):
            with np.errstate(all="ignore"):
                loss, gradient, extras = model.loss_and_gradient(state.weights, rng)
            limit = DIVERGED * state.rows[0][1] if state.rows else np.inf
            if not (np.isfinite(loss) and loss <= limit):
                message = _divergence(model, state.step, loss, state.rows, calmest[1])
                raise DivergedError(message, state.step, so_far(message))
            if loss < calmest[0]:
                calmest = (loss, state)

            step, rows = state.step, state.rows
            recorded = step in model.record
            with np.errstate(all="ignore"):  # what overflows here is noticed at the next step
                if recorded:
                    rows = (*rows, (step, loss, *extras, *model.measure(state.weights)))
                if step == model.steps:
                    state = dataclasses.replace(state, rows=rows)
                else:
                    weights, memory = model.optimiser.step(state.weights, gradient, state.memory)
                    weights = model.constrain(weights)
                    state = _State(step + 1, weights, memory, rng.bit_generator.state, rows)

            now = time.perf_counter()
            if checkpoint is not None and now - saved > SAVE_EVERY:
                _save(model, state, checkpoint)
                saved = time.perf_counter()
            if progress is not None and (recorded or now - reported > REPORT_EVERY):
                done = state.step - first_step
                left = (now - begun) * (model.steps - step) / max(done, 1)
                progress(step, model.steps, loss, left)
                reported = now
    except (KeyboardInterrupt, SystemError) as stopped:
        check_interrupt(stopped)
        message = f"training was interrupted before step {state.step} of {model.steps}"
        if checkpoint is not None:
            message += (
                keep() or f"; the same settings with checkpoint '{checkpoint}' take it up again"
            )
        raise TrainingInterrupted(message, state.step, so_far(message), checkpoint) from None
    message = f"all {model.steps} steps were made" + keep()
    return model.trajectory(np.array(state.rows), stats(), message), state.weights


def versions() -> dict[str, str]:
    """Versions of what trains: this package, Python, numpy, numba."""
    return {
        "reduced_dynamics": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
    }


def recorded_steps(record: int | tuple[float, ...], last: int, time_step: float) -> frozenset[int]:
    """Steps before which to record: 0, the last, and those asked for.

    Parameters
    ----------
    record : int or tuple of float
        A number of equal intervals, or times; these are rounded to the nearest step.
    last : int
        Number of steps.
    time_step : float
        Time that passes in a step.

    Raises
    ------
    InputError
        If there is no interval, or a time lies outside training.
    """
    if isinstance(record, int):
        if record < 1:
            raise InputError(f"record at least one interval, not {record}")
        chosen = np.linspace(0, last, record + 1)
    else:
        chosen = np.asarray(record, dtype=float) / time_step
        if not np.all((chosen >= 0) & (chosen < last + 0.5)):
            raise InputError(
                f"recorded times must lie between 0 and {last * time_step:g}, the end of training"
            )
    return frozenset({0, last, *np.rint(chosen).astype(int).tolist()})


def curvature(model: Model, weights: Arrays, iterations: int = 20) -> float:
    """The eigenvalue of largest modulus of the loss's Hessian, by power iteration.

    Hessian-vector products are central differences of the gradient on one fixed minibatch.
    """
    rng = np.random.default_rng(0)
    along = tuple(rng.standard_normal(w.shape) for w in weights)
    size = np.sqrt(sum(np.vdot(w, w) for w in weights))
    h = 1e-4 * (1.0 + float(size))

    def gradient(scale):
        shifted = tuple(w + scale * v for w, v in zip(weights, along, strict=True))
        return model.loss_and_gradient(shifted, np.random.default_rng(1))[1]

    eigenvalue = 0.0
    for _ in range(iterations):
        norm = np.sqrt(sum(np.vdot(v, v) for v in along))
        if norm == 0.0:
            return 0.0
        along = tuple(v / norm for v in along)
        along = tuple((p - m) / (2.0 * h) for p, m in zip(gradient(h), gradient(-h), strict=True))
        eigenvalue = float(np.sqrt(sum(np.vdot(v, v) for v in along)))
    return eigenvalue


def _divergence(model, step, loss, rows, calm) -> str:
    if not rows:
        return f"the loss of the initial weights is {loss:g}; start from smaller weights"
    rate = model.optimiser.learning_rate
    said = f"training diverged at step {step}: the loss went from {rows[0][1]:.3g} to {loss:.3g}; "
    with np.errstate(all="ignore"):
        bound = model.optimiser.stable_learning_rate(curvature(model, calm.weights))
    if bound is not None and bound < rate:
        return said + (
            f"by the curvature at its lowest loss, step {calm.step}, learning rates below "
            f"{bound:.2g} are stable there; try half of that, {bound / 2:.2g}, instead of {rate:g}"
        )
    return said + f"try a learning rate of {rate / 10:.2g} instead of {rate:g} (a rule of thumb)"


def _keep_memory() -> None:
    """Let the C library keep freed memory for the next step instead of returning it to the system.

    Freeing a large block raises glibc's threshold for that, and training, which frees and
    allocates the same megabytes at every step, runs at twice the speed. Elsewhere it does nothing.
    """
    np.empty(16 << 20, dtype=np.uint8)


def _finished(model: Model, state: _State) -> bool:
    return bool(state.rows) and state.rows[-1][0] == model.steps


def _generator(state: dict[str, Any]) -> np.random.Generator:
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    return rng


def _settings(model: Model) -> dict[str, Any]:
    """The configuration as it comes back from a file."""
    settings = {"model": model.name, **dataclasses.asdict(model.config)}
    return json.loads(json.dumps(settings, default=lambda number: number.item()))


def _save(model: Model, state: _State, path) -> None:
    content = io.BytesIO()
    np.savez(
        content,
        format=_FORMAT,
        config=json.dumps(_settings(model)),
        step=state.step,
        rng=json.dumps(state.rng),
        rows=np.array(state.rows, dtype=float),
        **{f"weights{i}": w for i, w in enumerate(state.weights)},
        **{f"memory{i}": m for i, m in enumerate(state.memory)},
    )
    files.write(path, content.getvalue())


def _load(model: Model, path) -> _State:
    content = files.read(path)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            saved = dict(file)
        if str(saved["format"]) != _FORMAT:
            raise ValueError
        config = json.loads(str(saved["config"]))
        state = _State(
            int(saved["step"]),
            _numbered(saved, "weights"),
            _numbered(saved, "memory"),
            json.loads(str(saved["rng"])),
            tuple((int(row[0]), *map(float, row[1:])) for row in saved["rows"]),
        )
    except Exception:
        # Whatever numpy and zipfile raise on bytes that are not what they expect.
        raise InputError(
            f"'{path}' is not a checkpoint of this package, or is damaged; name another file, or "
            "delete it to start anew"
        ) from None
    for name, value in _settings(model).items():
        if config.get(name) != value:
            raise InputError(
                f"the checkpoint '{path}' was made with {name} = {config.get(name)!r}, not "
                f"{value!r}; use the same settings, or another file to start anew"
            )
    return state


def _numbered(arrays: dict[str, np.ndarray], name: str) -> Arrays:
    count = sum(key.startswith(name) for key in arrays)
    return tuple(arrays[f"{name}{i}"] for i in range(count))
