"""Training the disentangled transformer on fresh sequences, to a trajectory of 19 coordinates.

The result is laid over a reduced trajectory as it is: its time is the reduced one,
step × learning rate / D, for every basis matrix of the subspace has squared Frobenius norm D
(arXiv 2511.01033, Theorem 1).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.trajectory import Crossing, Trajectory
from reduced_dynamics.families.musat.full import disentangled, recall_task
from reduced_dynamics.families.musat.full.disentangled import COORDINATES, LAYOUT, Weights
from reduced_dynamics.training.loop import (
    DivergedError,
    Progress,
    TrainingInterrupted,
    recorded_steps,
    run,
    versions,
)
from reduced_dynamics.training.optimisers import optimiser

__all__ = ["DivergedError", "TrainingConfig", "TrainingInterrupted", "minibatch", "train"]

#: Numbers in the rows of one block of sequences, half a megabyte: minibatches are worked through
#: in blocks that stay in a core's cache.
_BLOCK = 1 << 16

#: Events: the coordinate that crosses the threshold.
EVENTS = {"T_alpha3": "alpha3", "T_beta2": "beta2", "T_gamma3": "gamma3"}


@dataclass(frozen=True)
class TrainingConfig:
    """How to train the disentangled transformer.

    Attributes
    ----------
    N, D : int
        Pairs, and width of tokens and positions.
    batch : int
        Fresh sequences a step.
    learning_rate : float
    steps : int, optional
        Number of steps; or else
    t_end : float, optional
        the reduced training time, step × learning rate / D, at which to stop.
    inputs : {"orthonormal", "gaussian"}
    query : {"last", "uniform"} or int from 1 to N
    self_attention : bool
    optimiser : {"sgd", "momentum", "adam"}
        The time of momentum and Adam is step × learning rate / D as well.
    seed : int
    init_scale : float
        Standard deviation of the initial weights, 0 for the paper's zero start.
    perturbation : float
        Standard deviation of a further random start of which only the part outside the
        invariant subspace is kept.
    clamp : mapping of str to float
        Coordinates held at a value throughout; everything else, off the subspace too, is free.
    record : int or tuple of float
        At how many equal intervals, or at which reduced times, rows are recorded; the first and
        the last step always are. A time is rounded to the nearest step.
    threshold : float
        Level of the events T_alpha3, T_beta2 and T_gamma3.
    """

    N: int
    D: int
    batch: int = 256
    learning_rate: float = 1.0
    steps: int | None = None
    t_end: float | None = None
    inputs: str = "orthonormal"
    query: str | int = "last"
    self_attention: bool = False
    optimiser: str = "sgd"
    seed: int = 0
    init_scale: float = 0.0
    perturbation: float = 0.0
    clamp: Mapping[str, float] = field(default_factory=dict)
    record: int | tuple[float, ...] = 200
    threshold: float = 0.5

    def __post_init__(self):
        recall_task.check_sizes(self.N, self.D, self.batch, self.inputs, self.query)
        optimiser(self.optimiser, self.learning_rate)
        if (self.steps is None) == (self.t_end is None):
            raise InputError("say either steps or t_end, one of the two, to say when to stop")
        for name in ("init_scale", "perturbation"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise InputError(f"{name} must be 0 or positive, not {getattr(self, name)!r}")
        if not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise InputError(f"the seed must be 0 or a positive integer, not {self.seed!r}")
        if self.t_end is not None and not np.isfinite(self.t_end):
            raise InputError(f"t_end must be finite, not {self.t_end!r}")
        if not isinstance(self.total_steps, int | np.integer) or self.total_steps < 1:
            raise InputError(
                f"there must be a whole number of steps, at least one: set steps, or t_end to no "
                f"less than {self.time_step:g}, the time of one step"
            )
        for name in self.clamp:
            if name not in COORDINATES:
                raise unknown("coordinate", name, COORDINATES)
        recorded_steps(self.record, self.total_steps, self.time_step)

    @property
    def time_step(self) -> float:
        """Reduced time of one step."""
        return self.learning_rate / self.D

    @property
    def total_steps(self) -> int:
        return self.steps if self.steps is not None else round(self.t_end / self.time_step)


def train(config: TrainingConfig, progress: Progress | None = None, checkpoint=None) -> Trajectory:
    """Train the disentangled transformer.

    Parameters
    ----------
    config : TrainingConfig
    progress, checkpoint
        Those of `loop.run`.

    Returns
    -------
    Trajectory
        The 19 coordinates and the minibatch loss at reduced times; observables `outside_norm`,
        the Frobenius norm of the weights outside the invariant subspace, and
        `outside_over_inside`; crossings of the threshold, interpolated between recorded times.

    Raises
    ------
    InputError, TrainingInterrupted, DivergedError
        As `loop.run` does.
    """
    return run(_Disentangled(config), progress, checkpoint)[0]


def train_weights(
    config: TrainingConfig, progress: Progress | None = None
) -> tuple[Trajectory, Weights]:
    """Train as `train` does; the trajectory and all 28 D² weights at the end."""
    trajectory, weights = run(_Disentangled(config), progress)
    return trajectory, Weights(*weights)


def minibatch(
    weights: Weights, config: TrainingConfig, rng: np.random.Generator
) -> tuple[float, Weights, float]:
    """Loss and gradient averaged over `config.batch` fresh sequences, and seconds of sampling.

    Long minibatches are worked through in blocks, so memory does not grow with `config.batch`.
    """
    blocks = -(-config.batch * (2 * config.N + 1) * 2 * config.D // _BLOCK)
    sizes = [part.size for part in np.array_split(np.arange(config.batch), blocks) if part.size]
    loss, gradient, seconds = 0.0, disentangled.zeros(config.D), 0.0
    for size in sizes:
        begun = time.perf_counter()
        batch = recall_task.sample_batch(config.N, config.D, size, rng, config.inputs, config.query)
        seconds += time.perf_counter() - begun
        part, slope = disentangled.loss_and_gradient(weights, batch, config.self_attention)
        share = size / config.batch
        loss += share * part
        for total, term in zip(gradient, slope, strict=True):
            term *= share
            total += term
    return loss, gradient, seconds


class _Disentangled:
    """The model as `loop.run` wants it."""

    name = "disentangled"

    def __init__(self, config: TrainingConfig):
        self.config = config
        self.optimiser = optimiser(config.optimiser, config.learning_rate)
        self.steps = config.total_steps
        self.record = recorded_steps(config.record, self.steps, config.time_step)
        self.sampling = 0.0

    def start(self):
        of_weights, of_batches = map(
            np.random.default_rng, np.random.SeedSequence(self.config.seed).spawn(2)
        )
        weights = Weights(
            *(self.config.init_scale * of_weights.standard_normal(W.shape) for W in self._zeros())
        )
        off = disentangled.off_subspace(
            Weights(*(of_weights.standard_normal(W.shape) for W in weights))
        )
        weights = tuple(W + self.config.perturbation * V for W, V in zip(weights, off, strict=True))
        return self.constrain(weights), of_batches

    def loss_and_gradient(self, weights, rng):
        loss, gradient, seconds = minibatch(Weights(*weights), self.config, rng)
        self.sampling += seconds
        return loss, gradient, ()

    def constrain(self, weights):
        if not self.config.clamp:
            return weights
        z = disentangled.project(Weights(*weights))
        change = np.zeros(len(LAYOUT))
        for name, value in self.config.clamp.items():
            index = COORDINATES.index(name)
            change[index] = value - z[index]
        shift = disentangled.embed(change, self.config.D)
        return tuple(W + V for W, V in zip(weights, shift, strict=True))

    def measure(self, weights):
        weights = Weights(*weights)
        inside, outside = disentangled.norms(weights)
        ratio = outside / inside if inside else (np.inf if outside else 0.0)
        return (outside, ratio, *disentangled.project(weights).tolist())

    def trajectory(self, rows, stats, message):
        config = self.config
        t = rows[:, 0] * config.time_step
        loss, outside, ratio, z = rows[:, 1], rows[:, 2], rows[:, 3], rows[:, 4:]
        clamped = ", ".join(f"{name}={value:g}" for name, value in config.clamp.items())
        return Trajectory(
            system=self.name,
            coordinates=COORDINATES,
            t=t,
            z=z,
            loss=loss,
            parameters={
                "N": config.N,
                "D": config.D,
                "inputs": config.inputs,
                "query": config.query,
                "self_attention": config.self_attention,
                "threshold": config.threshold,
            },
            observables={"outside_norm": outside, "outside_over_inside": ratio},
            crossings=_crossings(t, z, config.threshold),
            event_names=tuple(EVENTS),
            solver={
                "method": config.optimiser,
                "learning_rate": config.learning_rate,
                "batch": config.batch,
                "steps": self.steps,
                "seed": config.seed,
                "init_scale": config.init_scale,
                "perturbation": config.perturbation,
                "clamp": clamped or "nothing",
            },
            loss_rise=float(np.max(loss - np.minimum.accumulate(loss))),
            stats=stats | {"sampling_share": self.sampling / stats["wall_s"]},
            versions=versions(),
            time_scale=float(config.D),
            source=disentangled.__name__,
            message=message,
        )

    def _zeros(self):
        return disentangled.zeros(self.config.D)


def _crossings(t: np.ndarray, z: np.ndarray, threshold: float) -> tuple[Crossing, ...]:
    """Every crossing of the threshold by an event's coordinate, linear between recorded times."""
    found = []
    for event, name in EVENTS.items():
        height = z[:, COORDINATES.index(name)] - threshold
        above = height >= 0.0
        for i in np.flatnonzero(above[1:] != above[:-1]):
            share = height[i] / (height[i] - height[i + 1])
            found.append(
                Crossing(
                    event,
                    float(t[i] + share * (t[i + 1] - t[i])),
                    1 if above[i + 1] else -1,
                    tuple(map(float, z[i] + share * (z[i + 1] - z[i]))),
                )
            )
    return tuple(sorted(found, key=lambda crossing: crossing.t))
