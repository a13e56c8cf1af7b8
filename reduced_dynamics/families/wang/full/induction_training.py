"""Training the two-layer transformer on IH_n, and probing what its first layer knows.

The runs behind Figures 3 and 4 of arXiv 2410.11474. Its settings beyond n = 4 and H = D ∈ {8, 2}
were not at hand; with those here H = D = 8 learns from every seed tried, in half a minute.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from reduced_dynamics.core import memory
from reduced_dynamics.core.errors import InputError, whole_numbers
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.wang.approximation.targets import induction_head
from reduced_dynamics.families.wang.full import induction
from reduced_dynamics.families.wang.full import induction_task as task
from reduced_dynamics.families.wang.full.induction import ENCODINGS, Weights
from reduced_dynamics.families.wang.full.language import slopes
from reduced_dynamics.training import hold, loop
from reduced_dynamics.training.model import Model
from reduced_dynamics.training.optimisers import OPTIMISERS
from reduced_dynamics.training.recorder import Recorder
from reduced_dynamics.training.schedule import Constant, Cosine, Schedule
from reduced_dynamics.training.settings import Settings, told
from reduced_dynamics.training.source import Fresh

SCHEDULES = ("cosine", "constant")
#: What is held: layer 1's weights may stay as they were drawn.
TRAINED = {
    "joint": hold.nothing,
    "layer2": hold.Weights(
        tuple(name in ("embedding", "Q1", "K1", "V1", "p1") for name in Weights._fields)
    ),
}

#: Sequences, never trained on, on which error and probing distance are evaluated. So many tell the
#: error to a tenth or two of itself.
_HELD_OUT = 1024
#: Beyond this |w*| the target is the one best match, whatever w*.
_SHARPEST = 1e6


@dataclass(frozen=True, kw_only=True)
class InductionConfig(Settings):
    """How to train the two-layer transformer on IH_n; what all trainings share is in `Settings`.

    Its time is the number of steps. The encodings are those of `induction`.
    """

    n: int = told(4, "the target IH_n compares n − 1 tokens", low=2)
    H: int = told(8, "heads of layer 1", low=1)
    D: int = told(8, "width of the residual stream", low=1)
    H2: int = told(1, "heads of layer 2", low=1)
    L: int = told(16, "tokens of a sequence", low=4)
    d: int = told(1, "dimension of a token", low=1)
    w_star: float = told(1.0, "the teacher is W* = w* · identity", low=-1e6)
    encoding: str = told(
        "linear", "positional: a slope times the lag, or times its logarithm, or a number a lag",
        choices=ENCODINGS,
    )  # fmt: skip
    content: bool = told(True, "whether layer 1 attends by content as well as by position")
    skip: bool = told(True, "whether layer 2 has a skip connection")
    training: str = told("joint", "which layers learn", choices=tuple(TRAINED))
    batch: int = told(128, "fresh sequences a step", low=1)
    learning_rate: float = told(0.02, "of the first step", low=0)
    schedule: str = told("cosine", "of the learning rate", choices=SCHEDULES)
    steps: int | None = told(8000, "of training", low=1)
    optimiser: str = told("adam", "how it descends", choices=tuple(OPTIMISERS))
    init_scale: float = told(0.5, "matrices start with N(0, init_scale²/D) entries", low=0)
    slope: float = told(2.0, "layer 1's slopes start uniform between 0 and this", low=0)
    record: int | tuple[float, ...] = told(
        100, "even intervals at which error and probing distance are measured", low=1
    )

    PARAMETERS = ("n", "H", "D", "H2", "L", "d", "w_star", "encoding", "content", "skip")

    def __post_init__(self):
        task.check_sizes(self.n, self.L, self.d)
        whole_numbers(H=self.H, H2=self.H2, D=self.D, batch=self.batch)
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
        super().__post_init__()
        self._check_memory()

    @property
    def time_step(self) -> float:
        return 1.0

    @property
    def rates(self) -> Schedule:
        if self.schedule == "constant":
            return Constant(self.learning_rate)
        return Cosine(self.learning_rate, self.total_steps)

    def sample(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Fresh sequences and their targets."""
        x = task.sample(self.L, self.d, count, rng)
        return x, induction_head(x, task.teacher(self.n, self.d, self.w_star), self.n)

    def _check_memory(self):
        batch, rows = max(self.batch, _HELD_OUT), self.L - self.n + 1
        scores = batch * rows * (self.H * self.L + 2 * self.H2)
        streams = batch * rows * (5 * self.D + 2 * self.H * self.d)
        weights = 6 * 3 * (self.H + self.H2) * self.D**2
        windows = 3 * task.SEQUENCES * self.L * (self.n - 1) * self.d
        needed = 8.0 * (scores + streams + weights + windows)
        memory.require(needed, "this training", "take a smaller L, H, D, d or batch")


def train_induction(
    config: InductionConfig, progress: Progress = silent, checkpoint=None
) -> tuple[Trajectory, Weights]:
    """Train on IH_n: a trajectory over the steps, and the last weights.

    It has the coordinates `probe_0` … `probe_{n−1}`, the part of x_{s−k} that no linear map reads
    off layer 1's output at s (see `probe`), and the minibatch loss; as observables `error`, the
    mean squared error over E ‖IH_n‖² on 1024 sequences that are never trained on (1 for a model
    that answers 0), `probing_distance`, the mean of all coordinates but the last, and with a slope
    to every head the slopes `p1_1` …, `p2_1` …. `progress`, `checkpoint` and the errors are those
    of `training.loop.train`.
    """
    of_weights, of_batches, of_tests = config.streams(3)
    start = induction.initial_weights(
        (config.n, config.L, config.d), (config.H, config.H2), config.D, config.encoding,
        config.init_scale, (0.0, config.slope), np.random.default_rng(of_weights), config.content,
    )  # fmt: skip
    form = {"n": config.n, "encoding": config.encoding, "skip": config.skip}

    def loss_and_gradient(weights, data):
        return induction.loss_and_gradient(weights, *data, **form)

    held_out = config.sample(_HELD_OUT, np.random.default_rng(of_tests))
    return loop.train(
        Model("ih", start, loss_and_gradient, induction.__name__),
        Fresh(config.sample, config.batch, of_batches),
        config.method,
        config.rates,
        TRAINED[config.training],
        Recorder(partial(_measure, form, held_out), tuple(f"probe_{k}" for k in range(config.n))),
        config,
        progress,
        checkpoint,
    )


def _measure(form, held_out, weights: Weights) -> dict[str, float]:
    x, target = held_out
    outcome = induction.forward(weights, x, **form)
    probed = probe(outcome.first, x, form["n"])
    return {
        "error": float(np.sum((outcome.output - target) ** 2) / np.sum(target**2)),
        "probing_distance": float(probed[:-1].mean()),
        **({} if form["encoding"] == "free" else slopes(weights.p1, weights.p2)),
        **{f"probe_{k}": float(missed) for k, missed in enumerate(probed)},
    }


def probe(rows: np.ndarray, x: np.ndarray, n: int) -> np.ndarray:
    """What of every recent token no linear map reads off layer 1's output.

    The linear map of least squares from layer 1's output y_s to x_s, x_{s−1}, … x_{s−n+1}, one for
    all s = n … L, and of each token the part of its mean square that the map misses: 0 if it can
    be read off exactly, 1 if nothing of it can. `rows` is `Outcome.first`; x has shape (B, L, d).

    Of the n numbers, the mean of the first n − 1 is the probing distance of arXiv 2410.11474,
    Figure 3, to X_{s−n+2:s}: what the query needs. Keys need the last as well.
    """
    L, d = x.shape[1:]
    wanted = np.concatenate([x[:, n - 1 - k : L - k] for k in range(n)], axis=2).reshape(-1, n * d)
    rows = rows.reshape(-1, rows.shape[2])
    missed = wanted - rows @ np.linalg.lstsq(rows, wanted, rcond=None)[0]
    parts = [(a * a).reshape(-1, n, d).sum(axis=(0, 2)) for a in (missed, wanted)]
    return parts[0] / parts[1]
