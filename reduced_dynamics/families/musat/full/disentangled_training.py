"""Training the disentangled transformer on fresh sequences, to a trajectory of 19 coordinates.

The result is laid over a reduced trajectory as it is: its time is the reduced one,
step × learning rate / D, for every basis matrix of the subspace has squared Frobenius norm D
(arXiv 2511.01033, Theorem 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from reduced_dynamics.core import memory
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.musat.full import disentangled, recall_task
from reduced_dynamics.families.musat.full.disentangled import COORDINATES, Weights
from reduced_dynamics.training import hold, loop
from reduced_dynamics.training.model import Model
from reduced_dynamics.training.recorder import Event, Recorder
from reduced_dynamics.training.settings import Settings, one_of, told
from reduced_dynamics.training.source import Fresh

#: Numbers in the rows of one block of sequences, half a megabyte: minibatches are worked through
#: in blocks that stay in a core's cache.
_BLOCK = 1 << 16

#: Events: the coordinate that crosses the threshold.
EVENTS = {"T_alpha3": "alpha3", "T_beta2": "beta2", "T_gamma3": "gamma3"}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """How to train the disentangled transformer; what all trainings share is in `Settings`.

    Its time is the reduced one, step × learning rate / D, that of momentum and Adam as well.

    N pairs with tokens and positions of width D are drawn as `recall_task` has them. The
    coordinates of `clamp` are held at a value throughout; everything else, off the subspace too, is
    free. `threshold` is the level of the events T_alpha3, T_beta2 and T_gamma3.
    """

    N: int
    D: int
    batch: int = told(256, "fresh sequences a step", low=1, high=10**9)
    learning_rate: float = told(1.0, "of gradient descent", low=0.0)
    inputs: str = "orthonormal"
    query: str | int = "last"
    self_attention: bool = False
    init_scale: float = told(0.0, "standard deviation of a random start", low=0.0)
    perturbation: float = told(0.0, "the same, its part off the subspace only", low=0.0)
    clamp: Mapping[str, float] = field(default_factory=dict)
    threshold: float = 0.5

    PARAMETERS = ("N", "D", "inputs", "query", "self_attention", "threshold")

    def __post_init__(self):
        recall_task.check_sizes(self.N, self.D, self.batch, self.inputs, self.query)
        weights = 28 * self.D**2  # and their gradient, and what an optimiser keeps
        memory.require(3.0 * 8 * weights, f"{weights:.3g} weights", "take a smaller N or D")
        for name in ("init_scale", "perturbation"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise InputError(f"{name} must be 0 or positive, not {getattr(self, name)!r}")
        for name in self.clamp:
            one_of("coordinate", name, COORDINATES)
        super().__post_init__()

    @property
    def time_step(self) -> float:
        """Reduced time of one step."""
        return self.learning_rate / self.D


def train(
    config: TrainingConfig, progress: Progress = silent, checkpoint=None
) -> tuple[Trajectory, Weights]:
    """Train the disentangled transformer: a trajectory, and all 28 D² weights at the end.

    It has the 19 coordinates and the minibatch loss at reduced times; as observables
    `outside_norm`, the Frobenius norm of the weights outside the invariant subspace, and
    `outside_over_inside`; and crossings of the threshold, interpolated between recorded times.
    `progress`, `checkpoint` and the errors are those of `training.loop.train`.
    """
    of_weights, of_batches = config.streams(2)
    held = hold.nothing
    if config.clamp:
        values = {COORDINATES.index(name): value for name, value in config.clamp.items()}
        held = hold.Coordinates(
            disentangled.project, partial(disentangled.embed, D=config.D), values
        )
    events = [
        Event(event, lambda columns, name=name: columns[name] - config.threshold)
        for event, name in EVENTS.items()
    ]
    return loop.train(
        model(config, np.random.default_rng(of_weights)),
        sequences(config, of_batches),
        config.method,
        config.rates,
        held,
        Recorder(_measure, COORDINATES, events, time_scale=float(config.D)),
        config,
        progress,
        checkpoint,
    )


def model(config: TrainingConfig, rng: np.random.Generator) -> Model:
    """The model from a random start."""
    zeros = disentangled.zeros(config.D)
    weights = [config.init_scale * rng.standard_normal(W.shape) for W in zeros]
    off = disentangled.off_subspace(Weights(*(rng.standard_normal(W.shape) for W in zeros)))
    return Model(
        "disentangled",
        Weights(*(W + config.perturbation * V for W, V in zip(weights, off, strict=True))),
        partial(disentangled.loss_and_gradient, self_attention=config.self_attention),
        disentangled.__name__,
    )


def sequences(config: TrainingConfig, seed: np.random.SeedSequence) -> Fresh:
    """Minibatches of the task, in blocks, so that memory does not grow with `config.batch`."""

    def sample(count, rng):
        return recall_task.sample_batch(config.N, config.D, count, rng, config.inputs, config.query)

    blocks = -(-config.batch * (2 * config.N + 1) * 2 * config.D // _BLOCK)
    return Fresh(sample, config.batch, seed, blocks)


def _measure(weights: Weights) -> dict[str, float]:
    inside, outside = disentangled.norms(weights)
    ratio = outside / inside if inside else (np.inf if outside else 0.0)
    z = disentangled.project(weights).tolist()
    return {
        "outside_norm": outside,
        "outside_over_inside": ratio,
        **dict(zip(COORDINATES, z, strict=True)),
    }
