"""Training the two-layer, two-head network on the mixed target, to a trajectory of its scalars.

The weights are the coordinates of the reduced system (arXiv 2410.11474, section 4), so the time is
step × learning rate. Full batch: M sequences, drawn once; or fresh sequences at every step. The
gradient *flow* of the M sequences can be integrated as well: against the reduced flow it shows what
finitely many sequences do, and against descent what finite steps do, each apart from the other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.integrate import LSODA

from reduced_dynamics.core.errors import InputError, IntegrationError, check_interrupt, unknown
from reduced_dynamics.core.trajectory import Crossing, Trajectory
from reduced_dynamics.families.wang.full import mixed_target
from reduced_dynamics.families.wang.full.mixed_target import SCALARS, Scalars, Sequences, Target
from reduced_dynamics.training.loop import (
    Progress,
    TrainingInterrupted,
    recorded_steps,
    run,
    versions,
)
from reduced_dynamics.training.optimisers import OPTIMISERS, optimiser

#: The scalars that each stage trains; stage II has p₁ = ∞.
TRAINED = {"stage1": ("p1",), "stage2": SCALARS[1:], "joint": SCALARS}
#: Events: the loss that falls, and to which level; that of the 4-gram in parts of its start.
LEVELS = {
    "T_g4": ("L_G4", 0.01),
    "T_plateau_in": ("L_IH_over_L_sad", 1.01),
    "T_plateau_out": ("L_IH_over_L_sad", 0.99),
    "T_half": ("L_IH_over_L_sad", 0.5),
    "T_converged": ("L_IH_over_L_sad", 0.01),
}
#: Tolerances of the flow. LSODA's are a step's, and its errors add up.
RTOL, ATOL = 1e-10, 1e-13
#: Numbers in the tokens of sequences that are kept, a gigabyte.
LARGEST = 1 << 27
#: Sequences are drawn in this many at a time where they are not kept.
_PORTION = 1 << 16


@dataclass(frozen=True)
class MixedTargetConfig:
    """How to train the two-layer, two-head network.

    Attributes
    ----------
    L : int
        Tokens of a sequence.
    alpha_star, w_star, teacher_exponent
        Of the target: see `mixed_target.Target`.
    sigma_init : float
        Where every scalar starts.
    start : mapping of str to float
        Scalars that start elsewhere.
    clamp : mapping of str to float
        Scalars held at a value throughout.
    training : {"stage1", "stage2", "joint"}
        Only p₁ moves; all others do, with p₁ = ∞; all six do.
    sequences : int
        M: sequences that are drawn once. They are trained on, or, with `batch`, measured on.
    batch : int, optional
        Fresh sequences at every step, instead of the M.
    learning_rate : float
    steps : int, optional
        Number of steps; or else
    t_end : float, optional
        the training time, step × learning rate, at which to stop.
    optimiser : {"sgd", "momentum", "adam", "flow"}
        "flow" integrates the gradient flow of the M sequences; its steps are only what time is
        measured in.
    seed : int
    record : int or tuple of float
        At how many equal intervals, or at which times, rows are recorded; the first and the last
        step always are. A time is rounded to the nearest step, except by the flow.
    """

    L: int = 40
    alpha_star: float = 1.0
    w_star: float = 0.49
    teacher_exponent: int = 2
    sigma_init: float = 0.01
    start: Mapping[str, float] = field(default_factory=dict)
    clamp: Mapping[str, float] = field(default_factory=dict)
    training: str = "stage2"
    sequences: int = 4096
    batch: int | None = None
    learning_rate: float = 1.0
    steps: int | None = None
    t_end: float | None = None
    optimiser: str = "sgd"
    seed: int = 0
    record: int | tuple[float, ...] = 400

    def __post_init__(self):
        if self.training not in TRAINED:
            raise unknown("training", self.training, TRAINED)
        if self.optimiser not in (*OPTIMISERS, "flow"):
            raise unknown("optimiser", self.optimiser, (*OPTIMISERS, "flow"))
        optimiser("sgd", self.learning_rate)  # whatever goes in steps, checks them
        if self.optimiser == "flow" and self.batch is not None:
            raise InputError(
                "the gradient flow is that of a fixed set of sequences; drop batch, or train with "
                "optimiser sgd"
            )
        for name in ("sequences", "batch", "seed"):
            value, least = getattr(self, name), 0 if name == "seed" else 1
            if value is not None and not (isinstance(value, int | np.integer) and value >= least):
                raise InputError(f"{name} must be an integer, {least} or more, not {value!r}")
        if not isinstance(self.L, int | np.integer) or self.L < mixed_target.SHORTEST:
            raise InputError(
                f"L must be a whole number, {mixed_target.SHORTEST} or more, not {self.L!r}"
            )
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
            if name not in SCALARS:
                raise unknown("scalar", name, SCALARS)
            if name == "p1" and self.training == "stage2":
                raise InputError("stage2 trains with p1 infinite; give p1 in stage1 or joint")
            if not np.isfinite(value):
                raise InputError(f"{name} must be finite, not {value!r}")
        if (self.steps is None) == (self.t_end is None):
            raise InputError("say either steps or t_end, one of the two, to say when to stop")
        if self.t_end is not None and not np.isfinite(self.t_end):
            raise InputError(f"t_end must be finite, not {self.t_end!r}")
        if not isinstance(self.total_steps, int | np.integer) or self.total_steps < 1:
            raise InputError(
                "there must be a whole number of steps, at least one: set steps, or t_end to no "
                f"less than {self.time_step:g}, the time of one step"
            )
        recorded_steps(self.record, self.total_steps, self.time_step)

    @property
    def time_step(self) -> float:
        """Training time of one step."""
        return self.learning_rate

    @property
    def total_steps(self) -> int:
        return self.steps if self.steps is not None else round(self.t_end / self.time_step)

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

    def scalars(self, z: np.ndarray) -> Scalars:
        """All six, from the coordinates, shape (d,)."""
        return Scalars(*([np.inf] * (len(SCALARS) - len(z))), *z.tolist())


def train_mixed_target(
    config: MixedTargetConfig, progress: Progress | None = None, checkpoint=None
) -> Trajectory:
    """Train the two-layer, two-head network, or integrate its gradient flow.

    Parameters
    ----------
    config : MixedTargetConfig
    progress, checkpoint
        Those of `loop.run`. The flow takes none.

    Returns
    -------
    Trajectory
        The finite scalars at step × learning rate; the loss that is descended, of the M sequences
        or of a minibatch; observables `L_G4` and `L_IH`, the two parts of the loss on the M
        sequences, and `L_IH_over_L_sad`, relative to the saddle w_Q w_K = 0 of those sequences,
        where h is at its best; the events of `LEVELS`, interpolated between recorded times.

    Raises
    ------
    InputError, TrainingInterrupted, DivergedError
        As `loop.run` does.
    IntegrationError
        If the flow cannot be integrated.
    """
    model = _MixedTarget(config)
    if config.optimiser != "flow":
        return run(model, progress, checkpoint)[0]
    if checkpoint is not None:
        raise InputError("a flow is integrated at once and keeps no checkpoint; drop it")
    return _integrate(model, progress)


class _MixedTarget:
    """The model as `loop.run` wants it."""

    name = "mixed target"

    def __init__(self, config: MixedTargetConfig):
        self.config = config
        self.optimiser = optimiser(
            "sgd" if config.optimiser == "flow" else config.optimiser, config.learning_rate
        )
        self.steps, self.held = config.total_steps, config.held
        self.record = recorded_steps(config.record, self.steps, config.time_step)
        # Other sizes draw other sequences, so that errors at different M are independent.
        seeds = np.random.SeedSequence((config.seed, config.sequences)).spawn(2)
        of_sequences, self.of_batches = map(np.random.default_rng, seeds)
        self.sequences = mixed_target.sample(
            config.L, config.sequences, config.target, of_sequences
        )

    def start(self):
        origin = self.config.origin._asdict()
        return (np.array([origin[name] for name in self.config.coordinates]),), self.of_batches

    def loss_and_gradient(self, weights, rng):
        config = self.config
        if config.batch is None:
            losses, slope = self.descended(weights[0], self.sequences)
            return sum(losses), (slope,), losses
        loss, gradient = 0.0, np.zeros(len(config.coordinates))
        for first in range(0, config.batch, _PORTION):
            size = min(_PORTION, config.batch - first)
            batch = mixed_target.sample(config.L, size, config.target, rng)
            losses, slope = self.descended(weights[0], batch)
            loss += sum(losses) * size / config.batch
            gradient += slope * (size / config.batch)
        return loss, (gradient,), ()

    def descended(self, z: np.ndarray, sequences: Sequences):
        """Both losses of these sequences, and the gradient by the coordinates, 0 where held."""
        losses, gradient = mixed_target.loss_and_gradient(self.config.scalars(z), sequences)
        slope = np.array(gradient[-len(z) :])
        slope[self.held] = 0.0
        return losses, slope

    def constrain(self, weights):
        return weights

    def measure(self, weights):
        if self.config.batch is None:
            return tuple(weights[0].tolist())
        return (*self.descended(weights[0], self.sequences)[0], *weights[0].tolist())

    def trajectory(self, rows, stats, message):
        config = self.config
        t = rows[:, 0] * config.time_step
        loss, parts, z = rows[:, 1], rows[:, 2:4], rows[:, 4:]
        observables = {"L_G4": parts[:, 0].copy(), "L_IH": parts[:, 1].copy()}
        with np.errstate(divide="ignore", invalid="ignore"):  # few sequences have no saddle
            observables["L_IH_over_L_sad"] = observables["L_IH"] / self.sequences.saddle[1]
        events = {} if config.training == "stage1" else LEVELS
        return Trajectory(
            system=self.name,
            coordinates=config.coordinates,
            t=t,
            z=z,
            loss=loss,
            parameters={
                "L": config.L,
                "alpha_star": config.alpha_star,
                "w_star": config.w_star,
                "teacher_exponent": config.teacher_exponent,
                "sigma_init": config.sigma_init,
                "training": config.training,
            },
            observables=observables,
            crossings=_crossings(t, z, observables, events),
            event_names=tuple(events),
            solver={
                "method": config.optimiser,
                "learning_rate": config.learning_rate,
                "sequences": config.sequences,
                "batch": config.batch or "full",
                "steps": self.steps,
                "seed": config.seed,
                "start": _listed(config.start) or "sigma_init",
                "clamp": _listed(config.clamp) or "nothing",
            },
            loss_rise=float(np.max(loss - np.minimum.accumulate(loss))),
            stats=stats,
            versions=versions(),
            source=mixed_target.__name__,
            message=message,
        )


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in values.items())


def _crossings(t, z, observables, events) -> tuple[Crossing, ...]:
    """First falls of the losses to the events' levels, linear between recorded times."""
    found = []
    for name, (watch, level) in events.items():
        values = observables[watch]
        height = values - level * (values[0] if watch == "L_G4" else 1.0)
        falls = np.flatnonzero((height[:-1] > 0.0) & (height[1:] <= 0.0))
        for i in falls[:1]:
            share = height[i] / (height[i] - height[i + 1])
            state = tuple(map(float, z[i] + share * (z[i + 1] - z[i])))
            found.append(Crossing(name, float(t[i] + share * (t[i + 1] - t[i])), -1, state))
    return tuple(sorted(found, key=lambda crossing: crossing.t))


def _integrate(model: _MixedTarget, progress: Progress | None) -> Trajectory:
    """The gradient flow of the model's sequences, at its recorded times."""
    config = model.config
    times = sorted(step * config.time_step for step in model.record)
    begun = time.perf_counter()
    rows, calls, steps = [], 0, 0

    def rate(_, z):
        nonlocal calls
        calls += 1
        return -model.descended(z, model.sequences)[1]

    def keep(t, z):
        losses, _ = model.descended(z, model.sequences)
        rows.append((t / config.time_step, sum(losses), *losses, *z.tolist()))

    def so_far(message):
        seconds = time.perf_counter() - begun
        stats = {"steps": steps, "rhs": calls, "wall_s": seconds}
        return model.trajectory(np.array(rows), stats, message) if rows else None

    (origin,), _ = model.start()
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
            if progress is not None:
                part = solver.t / times[-1]
                left = (time.perf_counter() - begun) * (1.0 - part) / part
                progress(round(part * model.steps), model.steps, rows[-1][1], left)
    except (KeyboardInterrupt, SystemError) as stopped:
        check_interrupt(stopped)
        message = f"the flow was interrupted at t = {solver.t:g} of {times[-1]:g}"
        raise TrainingInterrupted(message, len(rows), so_far(message), None) from None
    return so_far("the horizon was reached")
