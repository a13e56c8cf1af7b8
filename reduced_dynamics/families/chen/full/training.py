"""Training the copier–selector–classifier by full-batch gradient descent, jointly or in stages.

Its trajectory has the coordinates of the reduced system `chen` (log c², W, a) at the same time,
step × learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from derivations.chen.selector import label, subsets
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.trajectory import Crossing, Trajectory
from reduced_dynamics.families.chen.full import model as markov
from reduced_dynamics.families.chen.full import task as markov_task
from reduced_dynamics.families.chen.full import windows as markov_windows
from reduced_dynamics.families.chen.full.model import LOSSES, Weights
from reduced_dynamics.training.loop import Progress, recorded_steps, run, versions
from reduced_dynamics.training.optimisers import SGD, Arrays

#: What a stage trains: the copier, the selector or the classifier.
PARTS = ("C", "W", "a")
#: A subset counts as selected once its p exceeds this.
SELECTED = 0.99
#: log c² of what has fallen below the smallest number.
_FLOOR = np.finfo(float).tiny


@dataclass(frozen=True)
class MarkovConfig:
    """How to train the copier–selector–classifier; the defaults are the recorded run's setting.

    Attributes
    ----------
    S, n : int
        States; order of the chain plus one: n − 1 parents.
    H, degree : int
        Heads, at least n − 1; largest subset of the selector.
    L : int
        Length of the input, at least 2H − 1.
    dirichlet : float
        δ of the prior on kernels.
    loss : {"ce", "log"}
    eps : float
        ε of loss `log`.
    sequences, validation : int
        Sizes of the training set and of the set never trained on.
    w_plus, w_minus, c_init, a_init : float
        Start of W at j = 0 and elsewhere, of every c and of a.
    training : str
        "joint", or stages C (selector), W (copier), a (classifier) in some order such as
        "C-W-a"; each takes an equal share of the steps and trains that alone.
    learning_rate : float
    steps : int
    seed : int
        Of the data.
    record : int or tuple of float
        At how many equal intervals, or at which times (step × learning rate), to record.
    """

    S: int = 3
    n: int = 3
    H: int = 3
    degree: int = 2
    L: int = 100
    dirichlet: float = 0.1
    loss: str = "ce"
    eps: float = 1e-8
    sequences: int = 9000
    validation: int = 1000
    w_plus: float = 3.0
    w_minus: float = 0.1
    c_init: float = 0.01
    a_init: float = 0.01
    training: str = "joint"
    learning_rate: float = 1.0
    steps: int = 1000
    seed: int = 0
    record: int | tuple[float, ...] = 200

    def __post_init__(self):
        markov_task.check_task(self.S, self.n, self.L, self.dirichlet)
        if isinstance(self.H, int | np.integer) and self.n - 1 > self.H:
            raise InputError(
                f"H = {self.H} heads cannot see the {self.n - 1} parents of n = {self.n}, for each "
                f"is copied by one head; H must be at least {self.n - 1}"
            )
        markov.check_subsets(self.H, self.degree)
        for name in ("sequences", "validation", "steps"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name} must be a positive integer, not {value!r}")
        markov_windows.check_windows(self.sequences + self.validation, self.S, self.L, self.H)
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)
        if not 0.0 <= self.eps < np.inf:
            raise InputError(f"eps must be 0 or positive, not {self.eps!r}")
        if not 0.0 < self.learning_rate < np.inf:
            raise InputError(
                f"the learning rate must be a positive number, not {self.learning_rate!r}"
            )
        if not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise InputError(f"the seed must be 0 or a positive integer, not {self.seed!r}")
        if not 1e-100 <= abs(self.c_init) <= 1e100:
            raise InputError(f"c_init = {self.c_init!r} must lie in 1e-100 .. 1e+100 (or negative)")
        for name in ("w_plus", "w_minus", "a_init"):
            if not abs(getattr(self, name)) <= 700.0:
                raise InputError(f"{name} = {getattr(self, name)!r} must lie within ±700")
        stages(self.training)
        recorded_steps(self.record, self.steps, self.learning_rate)

    @property
    def subsets(self) -> tuple[tuple[int, ...], ...]:
        return subsets(self.H, self.degree)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the subsets: "empty", "1", …, "12", …"""
        return tuple(label(s, self.H) for s in self.subsets)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """c_… (log c²), W_h_j, a: the reduced system's."""
        heads = range(1, self.H + 1)
        lags = range(self.H)
        return (
            *(f"c_{name}" for name in self.labels),
            *(f"W_{h}_{j}" for h in heads for j in lags),
            "a",
        )


def stages(training: str) -> tuple[str, ...]:
    """``"joint"`` as one stage of that name, ``"C-W-a"`` as three.

    Raises
    ------
    InputError
        If a stage is unknown or occurs twice.
    """
    if training == "joint":
        return ("joint",)
    parts = tuple(part.strip() for part in str(training).split("-"))
    for part in parts:
        if part not in PARTS:
            raise unknown("stage of training", part, ["joint", *PARTS])
    if len(set(parts)) < len(parts):
        raise InputError(
            f"training = '{training}' repeats a stage; give joint, or some of C, W and a once each "
            "in some order, such as C-W-a"
        )
    return parts


@dataclass(frozen=True)
class Staged(SGD):
    """Gradient descent that trains one part of the weights at a time.

    Attributes
    ----------
    order : tuple of str
        Stages; see `stages`.
    steps : int
        Of all stages together, which share them equally.
    """

    order: tuple[str, ...] = ("joint",)
    steps: int = 1

    def start(self, weights: Arrays) -> Arrays:
        return (np.zeros(()),)

    def step(self, weights: Arrays, gradient: Arrays, memory: Arrays) -> tuple[Arrays, Arrays]:
        """New weights, and the number of steps made."""
        done = int(memory[0])
        stage = self.order[min(done * len(self.order) // self.steps, len(self.order) - 1)]
        moved, _ = super().step(weights, gradient, ())
        trained = (stage in ("joint", part) for part in PARTS)
        new = tuple(m if t else w for m, w, t in zip(moved, weights, trained, strict=True))
        return new, (np.array(done + 1.0),)


def train_markov(
    config: MarkovConfig, progress: Progress | None = None, checkpoint=None
) -> tuple[Trajectory, Weights]:
    """Train the copier–selector–classifier on a finite set of sequences.

    Parameters
    ----------
    config : MarkovConfig
    progress, checkpoint
        Those of `loop.run`.

    Returns
    -------
    Trajectory
        Coordinates ``c_…`` (log c²), ``W_h_j`` and ``a`` and the training loss at step × learning
        rate; observables ``p_…``, `accuracy` (on the training set), `validation_loss` and
        `validation_accuracy`; event `T_selected`, when some p first exceeds .99.
    Weights
        At the end.

    Raises
    ------
    InputError, TrainingInterrupted, DivergedError
        As `loop.run` does.
    """
    trajectory, weights = run(_Markov(config), progress, checkpoint)
    return trajectory, Weights(*weights)


def data(config: MarkovConfig) -> tuple[markov_task.Sequences, markov_task.Sequences]:
    """The training and the validation sequences, from streams of their own."""
    return tuple(
        markov_task.sample_sequences(
            count, config.S, config.n, config.L, config.dirichlet, np.random.default_rng(stream)
        )
        for count, stream in zip(
            (config.sequences, config.validation),
            np.random.SeedSequence(config.seed).spawn(2),
            strict=True,
        )
    )


def weights_of(trajectory: Trajectory, config: MarkovConfig, row: int = -1) -> Weights:
    """The weights at a recorded row; c up to its signs, of which nothing depends."""
    z, count = trajectory.z[row], len(config.subsets)
    W = z[count:-1].reshape(config.H, config.H)
    return Weights(np.exp(0.5 * z[:count]), W.copy(), np.array(z[-1]))


class _Markov:
    """The model as `loop.run` wants it."""

    name = "markov"

    def __init__(self, config: MarkovConfig):
        self.config = config
        self.steps = config.steps
        self.optimiser = Staged(config.learning_rate, stages(config.training), config.steps)
        self.record = recorded_steps(config.record, config.steps, config.learning_rate)
        # Training and validation: sequences and their windows.
        self.sets = tuple((s, markov_windows.compress(s, config.H)) for s in data(config))

    def start(self):
        config = self.config
        weights = markov.initial_weights(
            config.H, config.degree, config.w_plus, config.w_minus, config.c_init, config.a_init
        )
        return tuple(weights), np.random.default_rng(config.seed)  # which full batches do not use

    def loss_and_gradient(self, weights, rng):
        windows = self.sets[0][1]
        loss, gradient = markov.loss_and_gradient(
            Weights(*weights), windows, self.config.loss, self.config.eps
        )
        return loss, gradient, ()

    def constrain(self, weights):
        return weights

    def measure(self, weights):
        config, weights = self.config, Weights(*weights)
        found = []
        for sequences, windows in self.sets:
            o = markov.outputs(weights, windows)
            found.append(markov.accuracy(o, sequences.target))
        loss = markov.losses(o, sequences.target, config.loss, config.eps).mean()
        logs = 2.0 * np.log(np.maximum(np.abs(weights.c), _FLOOR))
        p = markov.selection(weights.c)
        return (*found, loss, *p, *logs, *np.ravel(weights.W), float(weights.a))

    def trajectory(self, rows, stats, message):
        config = self.config
        count = len(config.subsets)
        accuracy, validation_accuracy, validation_loss = rows[:, 2:5].T
        p, z = rows[:, 5 : 5 + count], rows[:, 5 + count :]
        t, loss = rows[:, 0] * config.learning_rate, rows[:, 1]
        return Trajectory(
            system=self.name,
            coordinates=config.coordinates,
            t=t,
            z=z,
            loss=loss,
            parameters={
                name: getattr(config, name)
                for name in (
                    *("S", "n", "H", "degree", "L", "dirichlet", "loss", "eps", "sequences"),
                    *("validation", "w_plus", "w_minus", "c_init", "a_init", "training", "seed"),
                )
            },
            observables={f"p_{k}": column for k, column in zip(config.labels, p.T, strict=True)}
            | {
                "accuracy": accuracy,
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
            },
            crossings=_selected(t, p.max(axis=1), z),
            event_names=("T_selected",),
            solver={
                "method": "sgd",
                "learning_rate": config.learning_rate,
                "batch": config.sequences,
                "steps": config.steps,
                "seed": config.seed,
            },
            loss_rise=float(np.max(loss - np.minimum.accumulate(loss))),
            stats=stats,
            versions=versions(),
            source=markov.__name__,
            message=message,
        )


def _selected(t: np.ndarray, largest: np.ndarray, z: np.ndarray) -> tuple[Crossing, ...]:
    """When the largest p first exceeds .99, linear between recorded times."""
    above = np.flatnonzero(largest > SELECTED)
    if not above.size or above[0] == 0:
        return ()
    i = above[0] - 1
    share = (SELECTED - largest[i]) / (largest[i + 1] - largest[i])
    state = tuple(map(float, z[i] + share * (z[i + 1] - z[i])))
    return (Crossing("T_selected", float(t[i] + share * (t[i + 1] - t[i])), 1, state),)
