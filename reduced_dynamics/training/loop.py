"""The training loop of every full model: steps, progress, checkpoints, and what can go wrong.

A step replaces one frozen state by the next, so that an interruption at any moment finds a state
that is whole; a checkpoint is that state in a file.
"""

import dataclasses
import os
import time
from collections.abc import Iterable, Iterator

import numpy as np

from reduced_dynamics.core.errors import (
    InputError,
    IntegrationError,
    ReducedDynamicsError,
    check_interrupt,
)
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.io import files
from reduced_dynamics.training import checkpoint as kept
from reduced_dynamics.training.checkpoint import State
from reduced_dynamics.training.divergence import advice
from reduced_dynamics.training.hold import Hold
from reduced_dynamics.training.model import Model
from reduced_dynamics.training.optimisers import Arrays, Optimiser
from reduced_dynamics.training.recorder import Recorder
from reduced_dynamics.training.schedule import Schedule
from reduced_dynamics.training.settings import Settings
from reduced_dynamics.training.source import Part, Source

#: Seconds between two checkpoints, and between two reports of progress.
SAVE_EVERY = 30.0
REPORT_EVERY = 0.2
#: Training has diverged once the loss exceeds its first value this many times.
DIVERGED = 1e3


class TrainingInterrupted(ReducedDynamicsError):
    """Training was interrupted from the keyboard (exit 130) before `step`; what was done is kept.

    `trajectory` is everything recorded so far, None if that is nothing; `checkpoint` is the path of
    the file from which training goes on, or None.
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


def train(
    model: Model,
    source: Source,
    optimiser: Optimiser,
    schedule: Schedule,
    hold: Hold,
    recorder: Recorder,
    settings: Settings,
    progress: Progress = silent,
    checkpoint=None,
) -> tuple[Trajectory, Arrays]:
    """Train a model to its last step: what was recorded, and the weights at the end.

    A step draws its data from the source, records a row if it is one of `settings.recorded`, and
    makes ``hold(step, weights, optimised weights)`` the weights of the next one. The first weights
    are ``hold(0, start, start)``.

        @dataclass(frozen=True)
        class Line(Settings):                        # y = w·x, learnt from noisy pairs
            d: int = 3
            PARAMETERS = ("d",)

        def sample(count, rng):
            x = rng.standard_normal((count, settings.d))
            return x, x.sum(axis=1) + 0.1 * rng.standard_normal(count)

        def loss_and_gradient(weights, data):
            error = data[0] @ weights[0] - data[1]
            return 0.5 * np.mean(error**2), (data[0].T @ error / len(error),)

        settings = Line(batch=64, learning_rate=0.1, t_end=20.0, record=50)
        trajectory, weights = train(
            Model("line", (np.zeros(3),), loss_and_gradient, __name__),
            Fresh(sample, settings.batch, settings.seed),
            settings.method, settings.rates, hold.nothing,
            Recorder(lambda w: {f"w{i}": x for i, x in enumerate(w[0])}, ("w0", "w1", "w2"),
                     [Event("T_half", lambda columns: columns["w0"] - 0.5, 1)]),
            settings,
        )

    Parameters
    ----------
    model : Model
        Loss and gradient on given data, and the first weights.
    source : Source
        What data a step sees: `Fresh` or `Fixed`.
    optimiser : Optimiser
        Pure: gradient to new weights and new memory; usually ``settings.method``.
    schedule : Schedule
        The learning rate of every step; usually ``settings.rates``.
    hold : Hold
        What does not move; `hold.nothing` if everything does.
    recorder : Recorder
        What is measured, by name, and which events are located.
    settings : Settings
        How many steps, which of them are recorded, and what the trajectory says of model, task
        and training. A checkpoint is of these settings and no others.
    progress : callable
        ``progress("step 120 of 8000, loss 0.31", 0.015)``, a few times a second and whenever a row
        has been recorded.
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
            state = kept.load(checkpoint, model.name, settings)
    if state is None:
        first = np.random.default_rng(source.seed).bit_generator.state
        weights = hold(0, model.start, model.start)
        state = State(0, weights, optimiser.start(weights), first)
    state = dataclasses.replace(state, weights=model.shaped(state.weights))
    rng = np.random.default_rng()
    rng.bit_generator.state = state.rng

    _keep_memory()
    begun = saved = reported = time.perf_counter()
    first_step, steps, recorded = state.step, settings.total_steps, settings.recorded
    calmest = (np.inf, state)
    sampling = _Clock()

    def so_far(message):
        seconds = time.perf_counter() - begun
        stats = {
            "steps": state.step,
            "wall_s": seconds,
            "steps_per_s": (state.step - first_step) / seconds,
            "sampling_share": sampling.seconds / seconds,
        }
        if state.rows:
            return recorder.trajectory(model, settings, state.rows, stats, message)
        return None

    def keep():
        """Write the checkpoint; why that failed, if it did: no result is lost to a full disk."""
        try:
            if checkpoint is not None:
                kept.save(checkpoint, model.name, settings, state)
        except InputError as error:
            return f"; {error}"
        return ""

    def fixed_gradient(weights):
        """Of the loss, on one set of data, along what is free at the calmest state."""
        _, calm = calmest
        parts = source.draw(np.random.default_rng(1))
        _, full = model.average(model.shaped(weights), parts)
        moved = tuple(w - g for w, g in zip(calm.weights, full, strict=True))
        held = hold(calm.step, calm.weights, model.shaped(moved))
        return tuple(w - m for w, m in zip(calm.weights, held, strict=True))

    def diverged(loss):
        if not state.rows:
            return f"the loss of the initial weights is {loss:g}; start from smaller weights"
        _, calm = calmest
        better = advice(optimiser, schedule.learning_rate, fixed_gradient, calm.weights, calm.step)
        return (
            f"training diverged at step {state.step}: the loss went from "
            f"{state.rows[0]['loss']:.3g} to {loss:.3g}; {better}"
        )

    try:
        while not (state.rows and state.rows[-1]["step"] == steps):
            step, rows = state.step, state.rows
            with np.errstate(all="ignore"):  # what overflows here is noticed at the next step
                loss, gradient = model.average(state.weights, sampling.during(source.draw(rng)))
                if not (np.isfinite(loss) and (not rows or loss <= DIVERGED * rows[0]["loss"])):
                    message = diverged(loss)
                    raise DivergedError(message, step, so_far(message))
                if loss < calmest[0]:
                    calmest = (loss, state)
                if step in recorded:
                    rows = (*rows, recorder.row(step, loss, state.weights))
                if step == steps:
                    state = dataclasses.replace(state, rows=rows)
                else:
                    moved, memory = optimiser.step(
                        state.weights, gradient, state.memory, schedule(step)
                    )
                    weights = model.shaped(hold(step, state.weights, model.shaped(moved)))
                    state = State(step + 1, weights, memory, rng.bit_generator.state, rows)

            now = time.perf_counter()
            if checkpoint is not None and now - saved > SAVE_EVERY:
                kept.save(checkpoint, model.name, settings, state)
                saved = time.perf_counter()
            if step in recorded or now - reported > REPORT_EVERY:
                progress(f"step {step} of {steps}, loss {loss:.4g}", step / steps)
                reported = now
    except (KeyboardInterrupt, SystemError) as stopped:
        check_interrupt(stopped)
        message = f"training was interrupted before step {state.step} of {steps}"
        if checkpoint is not None:
            message += (
                keep() or f"; the same settings with checkpoint '{checkpoint}' take it up again"
            )
        raise TrainingInterrupted(message, state.step, so_far(message), checkpoint) from None
    message = f"all {steps} steps were made" + keep()
    return so_far(message), state.weights


class _Clock:
    """Seconds spent in drawing data."""

    seconds = 0.0

    def during(self, parts: Iterable[Part]) -> Iterator[Part]:
        parts = iter(parts)
        while True:
            begun = time.perf_counter()
            part = next(parts, None)
            self.seconds += time.perf_counter() - begun
            if part is None:
                return
            yield part


def _keep_memory() -> None:
    """Let the C library keep freed memory for the next step instead of returning it to the system.

    Freeing a large block raises glibc's threshold for that, and training, which frees and
    allocates the same megabytes at every step, runs at twice the speed. Elsewhere it does nothing.
    """
    np.empty(16 << 20, dtype=np.uint8)
