"""Training the two-layer transformer on IH_n, and probing what its first layer knows.

The runs behind Figures 3 and 4 of arXiv 2410.11474. Its settings beyond n = 4 and H = D ∈ {8, 2}
were not at hand; with those here H = D = 8 learns from every seed tried, in half a minute.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from reduced_dynamics.core import memory
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.wang.approximation.targets import induction_head
from reduced_dynamics.families.wang.full import induction
from reduced_dynamics.families.wang.full import induction_task as task
from reduced_dynamics.families.wang.full.induction import ENCODINGS, Weights
from reduced_dynamics.training.loop import Progress, recorded_steps, run, versions
from reduced_dynamics.training.optimisers import Arrays, Optimiser, optimiser

SCHEDULES = ("cosine", "constant")
#: Which layers learn; the other's weights stay as they were drawn.
TRAINED = ("joint", "layer2")

#: What a trajectory says of the model and the task, and of how it was trained.
PARAMETERS = ("n", "H", "D", "H2", "L", "d", "w_star", "encoding", "content", "skip")
TRAINING = (
    "learning_rate", "schedule", "training", "batch", "steps", "seed", "init_scale", "slope"
)  # fmt: skip

#: Sequences, never trained on, on which error and probing distance are evaluated. So many tell the
#: error to a tenth or two of itself.
_HELD_OUT = 1024
#: Beyond this |w*| the target is the one best match, whatever w*.
_SHARPEST = 1e6


@dataclass(frozen=True)
class InductionConfig:
    """How to train the two-layer transformer on IH_n.

    Attributes
    ----------
    n : int
        The target compares n − 1 tokens.
    H, H2 : int
        Heads of layer 1 and of layer 2.
    D : int
        Width of the residual stream.
    L, d : int
        Length of the sequences and dimension of their tokens.
    w_star : float
        The teacher is W* = w* · identity.
    encoding : {"linear", "log", "free"}
        The relative positional encoding: see `induction`.
    content : bool
        Whether layer 1 attends by content as well as by position.
    skip : bool
        Whether layer 2 has a skip connection, as layer 1 does.
    training : {"joint", "layer2"}
    batch : int
        Fresh sequences a step.
    learning_rate : float
        Of the first step.
    schedule : {"cosine", "constant"}
        Whether the learning rate falls to 0 along a cosine.
    steps : int
    optimiser : {"adam", "sgd", "momentum"}
    init_scale : float
        Initial matrices have iid N(0, init_scale²/D) entries.
    slope : float
        Layer 1's slopes start uniform between 0 and this.
    seed : int
    record : int or tuple of float
        At how many equal intervals, or before which steps, to record.
    """

    n: int = 4
    H: int = 8
    D: int = 8
    H2: int = 1
    L: int = 16
    d: int = 1
    w_star: float = 1.0
    encoding: str = "linear"
    content: bool = True
    skip: bool = True
    training: str = "joint"
    batch: int = 128
    learning_rate: float = 0.02
    schedule: str = "cosine"
    steps: int = 8000
    optimiser: str = "adam"
    init_scale: float = 0.5
    slope: float = 2.0
    seed: int = 0
    record: int | tuple[float, ...] = 100

    def __post_init__(self):
        task.check_sizes(self.n, self.L, self.d)
        optimiser(self.optimiser, self.learning_rate)
        for name in ("H", "H2", "D", "batch", "steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a positive integer, not {value!r}")
        if not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise InputError(f"the seed must be 0 or a positive integer, not {self.seed!r}")
        if not 0.0 < self.init_scale < np.inf:
            raise InputError(
                f"init_scale must be positive, not {self.init_scale!r}: at 0 no gradient reaches "
                "either layer; use e.g. 0.5"
            )
        if not 0.0 < abs(self.w_star) <= _SHARPEST:
            raise InputError(
                f"w_star must be between -{_SHARPEST:g} and {_SHARPEST:g} and not 0, at which the "
                f"target is a mean and compares nothing; it is {self.w_star!r}"
            )
        if not 0.0 <= self.slope < np.inf:
            raise InputError(f"slope must be 0 or a positive number, not {self.slope!r}")
        for name, known in (
            ("encoding", ENCODINGS),
            ("schedule", SCHEDULES),
            ("training", TRAINED),
        ):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        recorded_steps(self.record, self.steps, 1.0)
        self._check_memory()

    def _check_memory(self):
        batch, rows = max(self.batch, _HELD_OUT), self.L - self.n + 1
        scores = batch * rows * (self.H * self.L + 2 * self.H2)
        streams = batch * rows * (5 * self.D + 2 * self.H * self.d)
        weights = 6 * 3 * (self.H + self.H2) * self.D**2
        windows = 3 * task.SEQUENCES * self.L * (self.n - 1) * self.d
        needed = 8.0 * (scores + streams + weights + windows)
        memory.require(needed, "this training", "take a smaller L, H, D, d or batch")


def train_induction(
    config: InductionConfig, progress: Progress | None = None, checkpoint=None
) -> Trajectory:
    """Train on IH_n.

    Parameters
    ----------
    config : InductionConfig
    progress, checkpoint
        Those of `loop.run`.

    Returns
    -------
    Trajectory
        Against the number of steps: the coordinates `probe_0` … `probe_{n−1}`, the part of x_{s−k}
        that no linear map reads off layer 1's output at s (see `probe`), and the minibatch loss;
        observables `error`, the mean squared error over E ‖IH_n‖² on 1024 sequences that are
        never trained on (1 for a model that answers 0), `probing_distance`, the mean of all
        coordinates but the last, and with a slope to every head the slopes `p1_1` …, `p2_1` ….

    Raises
    ------
    InputError, TrainingInterrupted, DivergedError
        As `loop.run` does.
    """
    return run(_Induction(config), progress, checkpoint)[0]


def trained_weights(config: InductionConfig) -> Weights:
    """The weights at the end of this training."""
    return Weights(*run(_Induction(config))[1])


def probe(rows: np.ndarray, x: np.ndarray, n: int) -> np.ndarray:
    """What of every recent token no linear map reads off layer 1's output.

    The linear map of least squares from layer 1's output y_s to x_s, x_{s−1}, … x_{s−n+1}, one for
    all s = n … L, and of each token the part of its mean square that the map misses: 0 if it can
    be read off exactly, 1 if nothing of it can.

    Parameters
    ----------
    rows : ndarray, shape (B, L − n + 1, D)
        `Outcome.first`.
    x : ndarray, shape (B, L, d)

    Returns
    -------
    ndarray, shape (n,)
        The mean of the first n − 1 is the probing distance of arXiv 2410.11474, Figure 3, to
        X_{s−n+2:s}: what the query needs. Keys need the last as well.
    """
    L, d = x.shape[1:]
    wanted = np.concatenate([x[:, n - 1 - k : L - k] for k in range(n)], axis=2).reshape(-1, n * d)
    rows = rows.reshape(-1, rows.shape[2])
    missed = wanted - rows @ np.linalg.lstsq(rows, wanted, rcond=None)[0]
    parts = [(a * a).reshape(-1, n, d).sum(axis=(0, 2)) for a in (missed, wanted)]
    return parts[0] / parts[1]


@dataclass(frozen=True)
class _Annealed:
    """An optimiser whose learning rate falls to 0 along a cosine, over `steps` steps."""

    inner: Optimiser
    steps: int

    @property
    def learning_rate(self) -> float:
        return self.inner.learning_rate

    def start(self, weights: Arrays) -> Arrays:
        return (np.zeros(()), *self.inner.start(weights))

    def step(self, weights: Arrays, gradient: Arrays, memory: Arrays) -> tuple[Arrays, Arrays]:
        part = 0.5 * (1.0 + np.cos(np.pi * float(memory[0]) / self.steps))
        now = dataclasses.replace(self.inner, learning_rate=part * self.inner.learning_rate)
        weights, kept = now.step(weights, gradient, memory[1:])
        return weights, (memory[0] + 1.0, *kept)

    def stable_learning_rate(self, curvature: float) -> float | None:
        return self.inner.stable_learning_rate(curvature)


class _Induction:
    """The model as `loop.run` wants it."""

    name = "ih"

    def __init__(self, config: InductionConfig):
        self.config = config
        self.steps = config.steps
        self.optimiser = optimiser(config.optimiser, config.learning_rate)
        if config.schedule == "cosine":
            self.optimiser = _Annealed(self.optimiser, config.steps)
        self.record = recorded_steps(config.record, config.steps, 1.0)
        self._teacher = task.teacher(config.n, config.d, config.w_star)
        self._of_weights, self._of_batches, of_tests = np.random.SeedSequence(config.seed).spawn(3)
        self.held_out = self._sample(_HELD_OUT, np.random.default_rng(of_tests))

    def start(self):
        config = self.config
        weights = induction.initial_weights(
            (config.n, config.L, config.d),
            (config.H, config.H2),
            config.D,
            config.encoding,
            config.init_scale,
            (0.0, config.slope),
            np.random.default_rng(self._of_weights),
            config.content,
        )
        return weights, np.random.default_rng(self._of_batches)

    def loss_and_gradient(self, weights, rng):
        config = self.config
        x, target = self._sample(config.batch, rng)
        loss, gradient = induction.loss_and_gradient(
            Weights(*weights), x, target, config.n, config.encoding, config.skip
        )
        if config.training == "layer2":
            still = ("embedding", "Q1", "K1", "V1", "p1")
            gradient = gradient._replace(
                **{name: np.zeros_like(getattr(gradient, name)) for name in still}
            )
        return loss, gradient, ()

    def constrain(self, weights):
        return weights

    def measure(self, weights):
        config = self.config
        x, target = self.held_out
        weights = Weights(*weights)
        outcome = induction.forward(weights, x, config.n, config.encoding, config.skip)
        error = float(np.sum((outcome.output - target) ** 2) / np.sum(target**2))
        slopes = () if config.encoding == "free" else (*weights.p1, *weights.p2)
        return (error, *slopes, *probe(outcome.first, x, config.n))

    def trajectory(self, rows, stats, message):
        config = self.config
        settings = dataclasses.asdict(config)
        probed = rows[:, -config.n :]
        names = [f"p1_{h + 1}" for h in range(config.H)] + [f"p2_{h + 1}" for h in range(config.H2)]
        slopes = rows[:, 3 : -config.n].T
        return Trajectory(
            system=self.name,
            coordinates=tuple(f"probe_{k}" for k in range(config.n)),
            t=rows[:, 0],
            z=probed,
            loss=rows[:, 1],
            parameters={name: settings[name] for name in PARAMETERS},
            observables={
                "error": rows[:, 2],
                "probing_distance": probed[:, :-1].mean(axis=1),
                **dict(zip(names, slopes, strict=False)),
            },
            solver={"method": config.optimiser, **{name: settings[name] for name in TRAINING}},
            loss_rise=float(np.max(rows[:, 1] - np.minimum.accumulate(rows[:, 1]))),
            stats=stats,
            versions=versions(),
            source=induction.__name__,
            message=message,
        )

    def _sample(self, batch, rng):
        config = self.config
        x = task.sample(config.L, config.d, batch, rng)
        return x, induction_head(x, self._teacher, config.n)
