"""Training the copier–selector–classifier by full-batch gradient descent, jointly or in stages.

Its trajectory has the coordinates of the reduced system `chen` (log c², W, a) at the same time,
step × learning rate.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from derivations.chen.selector import label, subsets
from reduced_dynamics.core.errors import InputError, whole_numbers
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.chen.full import model as markov
from reduced_dynamics.families.chen.full import task as markov_task
from reduced_dynamics.families.chen.full import windows as markov_windows
from reduced_dynamics.families.chen.full.model import LOSSES, Weights
from reduced_dynamics.families.chen.system import PARTS, SELECTED
from reduced_dynamics.training import hold, loop
from reduced_dynamics.training.model import Model
from reduced_dynamics.training.recorder import Event, Recorder
from reduced_dynamics.training.settings import Settings, one_of
from reduced_dynamics.training.source import Fixed

#: log c² of what has fallen below the smallest number.
_FLOOR = np.finfo(float).tiny


@dataclass(frozen=True, kw_only=True)
class MarkovConfig(Settings):
    """How to train the copier–selector–classifier; the defaults are the recorded run's setting.

    What all trainings share is in `Settings`; the seed is of the data, and every step is on all
    sequences.

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
    steps: int | None = 1000

    PARAMETERS = (
        *("S", "n", "H", "degree", "L", "dirichlet", "loss", "eps", "sequences"),
        *("validation", "w_plus", "w_minus", "c_init", "a_init", "training", "seed"),
    )

    def __post_init__(self):
        markov_task.check_task(self.S, self.n, self.L, self.dirichlet)
        if isinstance(self.H, int | np.integer) and self.n - 1 > self.H:
            raise InputError(
                f"H = {self.H} heads cannot see the {self.n - 1} parents of n = {self.n}, for each "
                f"is copied by one head; H must be at least {self.n - 1}"
            )
        whole_numbers(H=self.H)
        if not isinstance(self.degree, int | np.integer) or not 0 <= self.degree <= self.H:
            raise InputError(
                f"degree = {self.degree!r} must be an integer from 0 to H = {self.H}: a subset has "
                "no more heads than there are"
            )
        whole_numbers(sequences=self.sequences, validation=self.validation)
        markov_windows.check_windows(self.sequences + self.validation, self.S, self.L, self.H)
        one_of("loss", self.loss, LOSSES)
        if not 0.0 <= self.eps < np.inf:
            raise InputError(f"eps must be 0 or positive, not {self.eps!r}")
        if not 1e-100 <= abs(self.c_init) <= 1e100:
            raise InputError(f"c_init = {self.c_init!r} must lie in 1e-100 .. 1e+100 (or negative)")
        for name in ("w_plus", "w_minus", "a_init"):
            if not abs(getattr(self, name)) <= 700.0:
                raise InputError(f"{name} = {getattr(self, name)!r} must lie within ±700")
        stages(self.training)
        if self.batch is not None:
            raise InputError("every step is on all sequences; drop batch, and set sequences")
        super().__post_init__()

    @property
    def solver(self) -> dict[str, Any]:
        return super().solver | {"batch": self.sequences}

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
        W = [f"W_{h}_{j}" for h in range(1, self.H + 1) for j in range(self.H)]
        return (*(f"c_{name}" for name in self.labels), *W, "a")


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
        one_of("stage of training", part, ["joint", *PARTS])
    if len(set(parts)) < len(parts) or "joint" in parts:
        raise InputError(
            f"training = '{training}' repeats a stage; give joint, or some of C, W and a once each "
            "in some order, such as C-W-a"
        )
    return parts


def held(config: MarkovConfig) -> hold.Stages:
    """All parts but the one that a stage trains."""
    return hold.Stages(
        [
            hold.Weights(tuple(stage not in ("joint", part) for part in PARTS))
            for stage in stages(config.training)
        ],
        config.total_steps,
    )


def train_markov(
    config: MarkovConfig, progress: Progress = silent, checkpoint=None
) -> tuple[Trajectory, Weights]:
    """Train the copier–selector–classifier on a finite set of sequences.

    `progress`, `checkpoint` and the errors are those of `training.loop.train`.

    Returns
    -------
    Trajectory
        Coordinates ``c_…`` (log c²), ``W_h_j`` and ``a`` and the training loss at step × learning
        rate; observables ``p_…``, `accuracy` (on the training set), `validation_loss` and
        `validation_accuracy`; event `T_selected`, when some p first exceeds .99.
    Weights
        At the end.
    """
    sets = [(s, markov_windows.compress(s, config.H)) for s in data(config)]
    start = markov.initial_weights(
        config.H, config.degree, config.w_plus, config.w_minus, config.c_init, config.a_init
    )
    chosen = [f"p_{name}" for name in config.labels]
    selected = Event(
        "T_selected", lambda rows: np.max([rows[p] for p in chosen], axis=0) - SELECTED, 1
    )
    return loop.train(
        Model(
            "markov",
            start,
            lambda w, windows: markov.loss_and_gradient(w, windows, config.loss, config.eps),
            markov.__name__,
        ),
        Fixed(sets[0][1]),
        config.method,
        config.rates,
        held(config),
        Recorder(partial(_measure, config, sets), config.coordinates, [selected]),
        config,
        progress,
        checkpoint,
    )


def data(config: MarkovConfig) -> tuple[markov_task.Sequences, markov_task.Sequences]:
    """The training and the validation sequences, from streams of their own."""
    return tuple(
        markov_task.sample_sequences(
            count, config.S, config.n, config.L, config.dirichlet, np.random.default_rng(stream)
        )
        for count, stream in zip(
            (config.sequences, config.validation), config.streams(2), strict=True
        )
    )


def weights_of(trajectory: Trajectory, config: MarkovConfig, row: int = -1) -> Weights:
    """The weights at a recorded row; c up to its signs, of which nothing depends."""
    z, count = trajectory.z[row], len(config.subsets)
    W = z[count:-1].reshape(config.H, config.H)
    return Weights(np.exp(0.5 * z[:count]), W.copy(), np.array(z[-1]))


def _measure(config: MarkovConfig, sets, weights: Weights) -> dict[str, float]:
    (o, target), (held_out, unseen) = (
        (markov.outputs(weights, windows), sequences.target) for sequences, windows in sets
    )
    logs = 2.0 * np.log(np.maximum(np.abs(weights.c), _FLOOR))
    z = (*logs, *np.ravel(weights.W), float(weights.a))
    return {
        **{f"p_{k}": p for k, p in zip(config.labels, markov.selection(weights.c), strict=True)},
        "accuracy": markov.accuracy(o, target),
        "validation_loss": markov.losses(held_out, unseen, config.loss, config.eps).mean(),
        "validation_accuracy": markov.accuracy(held_out, unseen),
        **dict(zip(config.coordinates, z, strict=True)),
    }
