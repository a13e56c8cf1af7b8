"""Training the two-layer, two-head network on the mixed target, to a trajectory of its scalars.

The weights are the coordinates of the reduced system (arXiv 2410.11474, section 4), so the time is
step × learning rate. Full batch: M sequences, drawn once; or fresh sequences at every step. The
gradient *flow* of the M sequences can be integrated as well: against the reduced flow it shows what
finitely many sequences do, and against descent what finite steps do, each apart from the other.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.integrate import LSODA

from reduced_dynamics.core.errors import (
    InputError,
    IntegrationError,
    check_interrupt,
    whole_numbers,
)
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.wang.full import mixed_target
from reduced_dynamics.families.wang.full.mixed_target import SCALARS, Scalars, Sequences, Target
from reduced_dynamics.families.wang.system import EVENTS
from reduced_dynamics.training import hold, loop
from reduced_dynamics.training.loop import TrainingInterrupted
from reduced_dynamics.training.model import Model
from reduced_dynamics.training.optimisers import OPTIMISERS, SGD, Arrays, Optimiser
from reduced_dynamics.training.recorder import Event, Recorder
from reduced_dynamics.training.settings import Settings, listed, one_of, told
from reduced_dynamics.training.source import Fixed, Fresh

#: The scalars that each stage trains; stage II has p₁ = ∞.
TRAINED = {"stage1": ("p1",), "stage2": SCALARS[1:], "joint": SCALARS}
#: Tolerances of the flow. LSODA's are a step's, and its errors add up.
RTOL, ATOL = 1e-10, 1e-13
#: Numbers in the tokens of sequences that are kept, a gigabyte.
LARGEST = 1 << 27
#: Sequences are drawn in this many at a time where they are not kept.
_PORTION = 1 << 16


@dataclass(frozen=True, kw_only=True)
class MixedTargetConfig(Settings):
    """How to train the two-layer, two-head network; what all trainings share is in `Settings`.

    Its `PARAMETERS` are those of the reduced system `wang`. The scalars of `start` begin elsewhere
    than at `sigma_init`, those of `clamp` are held at a value throughout. The M `sequences` are
    trained on, or, with `batch`, measured on. The optimiser "flow" integrates their gradient flow;
    its steps are only what time is measured in, and recorded times are not rounded to them.
    """

    L: int = 40
    alpha_star: float = 1.0
    w_star: float = 0.49
    teacher_exponent: int = 2
    sigma_init: float = 0.01
    start: Mapping[str, float] = field(default_factory=dict)
    clamp: Mapping[str, float] = field(default_factory=dict)
    training: str = "stage2"
    sequences: int = told(4096, "sequences drawn once", low=1, high=10**9)
    record: int | tuple[float, ...] = 400

    PARAMETERS = ("L", "alpha_star", "w_star", "teacher_exponent", "sigma_init", "training")
    METHODS = (*OPTIMISERS, "flow")

    def __post_init__(self):
        one_of("training", self.training, TRAINED)
        whole_numbers(sequences=self.sequences)
        if self.optimiser == "flow" and self.batch is not None:
            raise InputError(
                "the gradient flow is that of a fixed set of sequences; drop batch, or train with "
                "optimiser sgd"
            )
        whole_numbers(mixed_target.SHORTEST, L=self.L)
        if self.alpha_star < 0 or self.w_star < 0 or self.teacher_exponent not in (1, 2):
            raise InputError(
                "alpha_star and w_star are 0 or positive, and teacher_exponent is 1 or 2; mend "
                f"{self.alpha_star!r}, {self.w_star!r}, {self.teacher_exponent!r}"
            )
        if self.L * self.sequences > LARGEST:
            raise InputError(
                f"{self.sequences} sequences of {self.L} tokens do not fit in memory; take at most "
                f"{LARGEST // self.L} sequences"
            )
        for name, value in (*self.start.items(), *self.clamp.items()):
            one_of("scalar", name, SCALARS)
            if name == "p1" and self.training == "stage2":
                raise InputError("stage2 trains with p1 infinite; give p1 in stage1 or joint")
            if not np.isfinite(value):
                raise InputError(f"{name} must be finite, not {value!r}")
        super().__post_init__()

    @property
    def method(self) -> Optimiser:
        return SGD() if self.optimiser == "flow" else super().method

    @property
    def solver(self) -> dict[str, Any]:
        return super().solver | {"start": listed(self.start) or "sigma_init"}

    @property
    def target(self) -> Target:
        return Target(self.alpha_star, self.w_star, self.teacher_exponent)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The scalars that are finite: all six, or in stage II all but p₁."""
        return SCALARS[1:] if self.training == "stage2" else SCALARS

    @property
    def held(self) -> np.ndarray:
        """Which of the coordinates are not trained, or clamped, shape (d,)."""
        free = set(TRAINED[self.training]) - set(self.clamp)
        return np.array([name not in free for name in self.coordinates])

    @property
    def origin(self) -> Scalars:
        """Where all six start."""
        held = {"p1": np.inf} if self.training == "stage2" else {}
        given = dict(self.start) | dict(self.clamp) | held
        return Scalars(**(dict.fromkeys(SCALARS, self.sigma_init) | given))

    def losses_and_gradient(
        self, z: np.ndarray, sequences: Sequences
    ) -> tuple[tuple[float, float], np.ndarray]:
        """The 4-gram and the induction loss, and their sum's gradient by the coordinates, (d,)."""
        scalars = Scalars(*([np.inf] * (len(SCALARS) - len(z))), *z.tolist())
        losses, gradient = mixed_target.loss_and_gradient(scalars, sequences)
        return losses, np.array(gradient[-len(z) :])


def train_mixed_target(
    config: MixedTargetConfig, progress: Progress = silent, checkpoint=None
) -> tuple[Trajectory, Arrays]:
    """Train the two-layer, two-head network, or integrate its gradient flow.

    The trajectory has the finite scalars at step × learning rate; the loss that is descended, of
    the M sequences or of a minibatch; as observables `L_G4` and `L_IH`, the two parts of the loss
    on the M sequences, and `L_IH_over_L_sad`, relative to the saddle w_Q w_K = 0 of those
    sequences, where h is at its best; and the reduced system's events, interpolated between
    recorded times. Beside it the scalars at the end, one array.

    `progress`, `checkpoint` and the errors are those of `training.loop.train`. The flow takes no
    checkpoint.

    Raises
    ------
    IntegrationError
        If the flow cannot be integrated.
    """
    # Other sizes draw other sequences, so that errors at different M are independent.
    of_sequences, of_batches = np.random.SeedSequence((config.seed, config.sequences)).spawn(2)
    target = config.target
    fixed = mixed_target.sample(
        config.L, config.sequences, target, np.random.default_rng(of_sequences)
    )

    def loss_and_gradient(weights, sequences):
        losses, gradient = config.losses_and_gradient(weights[0], sequences)
        return sum(losses), (gradient,)

    def measure(weights):
        (four, induction), _ = config.losses_and_gradient(weights[0], fixed)
        with np.errstate(divide="ignore", invalid="ignore"):  # few sequences have no saddle
            relative = np.divide(induction, fixed.saddle[1])
        scalars = dict(zip(config.coordinates, weights[0].tolist(), strict=True))
        return {"L_G4": four, "L_IH": induction, "L_IH_over_L_sad": relative, **scalars}

    def height(columns, event):
        start = columns[event.watch][0] if event.of_start else 1.0
        return columns[event.watch] - event.level * start

    events = [
        Event(event.name, lambda columns, event=event: height(columns, event), event.direction)
        for event in EVENTS
        if config.training != "stage1"
    ]
    origin = config.origin._asdict()
    start = np.array([origin[name] for name in config.coordinates])
    model = Model("mixed target", (start,), loss_and_gradient, mixed_target.__name__)
    recorder = Recorder(measure, config.coordinates, events)
    if config.optimiser == "flow":
        if checkpoint is not None:
            raise InputError("a flow is integrated at once and keeps no checkpoint; drop it")
        return _integrate(model, fixed, recorder, config, progress)
    source = Fixed(fixed)
    if config.batch is not None:
        source = Fresh(
            lambda count, rng: mixed_target.sample(config.L, count, target, rng),
            config.batch,
            of_batches,
            parts=-(-config.batch // _PORTION),
        )
    held = hold.Weights((config.held,))
    return loop.train(
        model, source, config.method, config.rates, held, recorder, config, progress, checkpoint
    )


def _integrate(
    model: Model, sequences: Sequences, recorder: Recorder, config, progress: Progress
) -> tuple[Trajectory, Arrays]:
    """The gradient flow of the sequences, at the recorded times."""
    times = sorted(step * config.time_step for step in config.recorded)
    begun = time.perf_counter()
    rows, calls, steps = [], 0, 0

    def rate(_, z):
        nonlocal calls
        calls += 1
        _, gradient = config.losses_and_gradient(z, sequences)
        return np.where(config.held, 0.0, -gradient)

    def keep(t, z):
        losses, _ = config.losses_and_gradient(z, sequences)
        rows.append(recorder.row(t / config.time_step, sum(losses), (z,)))

    def so_far(message):
        seconds = time.perf_counter() - begun
        stats = {"steps": steps, "rhs": calls, "wall_s": seconds}
        return recorder.trajectory(model, config, rows, stats, message) if rows else None

    (origin,) = model.start
    solver = LSODA(rate, 0.0, origin, times[-1], rtol=RTOL, atol=ATOL)
    try:
        keep(0.0, origin)
        while solver.status == "running":
            said, steps = solver.step(), steps + 1
            if solver.status == "failed" or not np.isfinite(solver.y).all():
                message = f"the flow cannot be integrated beyond t = {solver.t:g}: {said}"
                raise IntegrationError(message, so_far(message))
            inside = solver.dense_output()
            while len(rows) < len(times) and times[len(rows)] <= solver.t:
                keep(times[len(rows)], inside(times[len(rows)]))
            progress(
                f"t = {solver.t:.4g} of {times[-1]:.4g}, loss {rows[-1]['loss']:.4g}",
                solver.t / times[-1],
            )
    except (KeyboardInterrupt, SystemError) as stopped:
        check_interrupt(stopped)
        message = f"the flow was interrupted at t = {solver.t:g} of {times[-1]:g}"
        raise TrainingInterrupted(message, len(rows), so_far(message), None) from None
    return so_far("the horizon was reached"), (solver.y,)
