"""The reduced flow against the full transformer: nobody should have to believe the reduction.

A `Job` is one training of the full model and the reduced trajectory that it should follow; its
result is a `Comparison`; many of them, over batch sizes, learning rates or perturbations, are a
`Study`. The times match by t = step × learning rate / D (arXiv 2511.01033, Theorem 1: every basis
matrix of the subspace has squared Frobenius norm D).

Two errors make up what is left. Gradient descent takes steps, and the flow does not: that part
is known without any sampling, from the reduced equations descended with the same steps
(`Comparison.discretisation`). Minibatches are finite: that is the rest (`Comparison.sampling`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.errors import InputError, IntegrationError, unknown
from reduced_dynamics.core.expressions import evaluate
from reduced_dynamics.core.fits import power_law
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.musat.full.disentangled import COORDINATES
from reduced_dynamics.families.musat.full.disentangled_training import TrainingConfig, train
from reduced_dynamics.integration.one import integrate, report_at

#: Pairs, unless said otherwise: training all 28 D² weights takes seconds.
PAIRS = 4
#: The default horizon: 160 at four pairs, twice the time at which the head forms, t ~ 5 N².
HORIZON = "10*N**2"
#: Where tables report, in parts of the horizon, and at how many even intervals rows are kept.
PARTS, INTERVALS = (0.1, 0.25, 0.5, 0.75, 1.0), 200

#: More steps of training than anybody waits for.
MOST_STEPS = 1e9
#: Studies: the option that is varied, and its values.
STUDIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "batch": ("batch", (16, 64, 256, 1024)),
    "step": ("learning_rate", (0.5, 1.0, 2.0, 4.0)),
    "perturbation": ("perturbation", (0.0, 0.003, 0.01, 0.03, 0.1)),
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """A full model's trajectory and the reduced one, from the same start.

    Attributes
    ----------
    full : Trajectory
        Of the full model, n recorded times; all its coordinates, held ones too.
    reduced : Trajectory
        Of the reduced gradient flow, up to the full model's last time.
    descent : Trajectory or None
        Of the reduced equations by gradient descent with the full model's steps; None where that
        has no meaning (momentum) or diverges.
    reduced_loss : ndarray, shape (n,)
        Population loss along `reduced`, at the full model's times.
    at : tuple of float
        The times that tables report.
    """

    full: Trajectory
    reduced: Trajectory
    descent: Trajectory | None
    reduced_loss: np.ndarray
    at: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The d coordinates that are compared: the reduced system's."""
        return self.reduced.coordinates

    @property
    def t(self) -> np.ndarray:
        """Recorded times, shape (n,), reduced training time."""
        return self.full.t

    @cached_property
    def error(self) -> np.ndarray:
        """Full minus reduced flow, shape (n, d)."""
        return self._full - self.reduced.at(self.t)

    @cached_property
    def discretisation(self) -> np.ndarray | None:
        """Reduced descent minus reduced flow, shape (n, d): the error of finite steps alone."""
        return None if self.descent is None else self._descended - self.reduced.at(self.t)

    @cached_property
    def sampling(self) -> np.ndarray | None:
        """Full minus reduced descent, shape (n, d): the error of finite minibatches alone."""
        return None if self.descent is None else self._full - self._descended

    @property
    def max_error(self) -> dict[str, float]:
        """Largest error over all recorded times, by coordinate."""
        return dict(zip(self.names, np.abs(self.error).max(axis=0).tolist(), strict=True))

    @property
    def final_error(self) -> dict[str, float]:
        """Error at the last time, with its sign, by coordinate."""
        return dict(zip(self.names, self.error[-1].tolist(), strict=True))

    @property
    def worst(self) -> tuple[float, str, float]:
        """The largest error of all, its coordinate and its time."""
        row, column = np.unravel_index(np.abs(self.error).argmax(), self.error.shape)
        return float(abs(self.error[row, column])), self.names[column], float(self.t[row])

    @property
    def wall_s(self) -> dict[str, float]:
        """Seconds that each of the two took."""
        return {"full": self.full.stats["wall_s"], "reduced": self.reduced.stats["wall_s"]}

    @cached_property
    def rows(self) -> list[int]:
        """Recorded rows nearest to the times `at`, of those that were reached; else the last."""
        half = 0.5 * float(np.diff(self.t).max(initial=0.0))
        within = [time for time in self.at if time <= self.t[-1] + half]
        return [int(np.abs(self.t - time).argmin()) for time in within] or [len(self.t) - 1]

    @cached_property
    def table(self) -> dict[str, list[float]]:
        """Columns by name, at the times `at`.

        t; loss of the full model (of that step's minibatch) and of the reduced one; largest error
        over the coordinates; Frobenius norm outside the subspace, and over that inside it.
        """
        rows = self.rows
        return {
            "t": self.t[rows].tolist(),
            "full_loss": self.full.loss[rows].tolist(),
            "reduced_loss": self.reduced_loss[rows].tolist(),
            "error": np.abs(self.error[rows]).max(axis=1).tolist(),
            "outside_norm": self.full["outside_norm"][rows].tolist(),
            "outside_over_inside": self.full["outside_over_inside"][rows].tolist(),
        }

    @cached_property
    def _full(self) -> np.ndarray:
        return np.column_stack([self.full[name] for name in self.names])

    @cached_property
    def _descended(self) -> np.ndarray:
        # A long descent keeps every k-th state only; linear in between is far within its error.
        columns = [np.interp(self.t, self.descent.t, column) for column in self.descent.z.T]
        return np.column_stack(columns)


def rms(error: np.ndarray | None) -> float:
    """Root mean square over time of the distance over all coordinates; nan if there is none.

    Parameters
    ----------
    error : ndarray, shape (n, d), or None
    """
    return np.nan if error is None else float(np.sqrt(np.mean(np.sum(error**2, axis=1))))


@dataclass(frozen=True)
class Job:
    """One comparison to be made: how the full model is trained, and what it should follow.

    For another full model a subclass says how it is trained, what its studies vary, and which
    `Comparison` comes of it.

    Attributes
    ----------
    system : ReducedSystem
    parameters : mapping
        Of the reduced system, all of them.
    config : TrainingConfig
        Of the full model.
    at : tuple of float
        The times that tables report, reduced training time.
    clamp : mapping of str to float
        Coordinates that both models hold.
    over : str
        The study this is part of; empty outside studies.
    """

    system: ReducedSystem
    parameters: Mapping[str, Any]
    config: TrainingConfig
    at: tuple[float, ...]
    clamp: Mapping[str, float] = field(default_factory=dict)
    over: str = ""

    studies: ClassVar[Mapping[str, tuple[str, tuple[float, ...]]]] = STUDIES
    comparison: ClassVar[type[Comparison]] = Comparison

    @property
    def option(self) -> str:
        """Name of what the study varies; empty outside studies."""
        return self.studies[self.over][0] if self.over else ""

    @property
    def value(self) -> float | None:
        """What the study varies, here."""
        return getattr(self.config, self.option) if self.over else None

    @property
    def label(self) -> str:
        """What tells this job from the others, in words."""
        what = f"{self.option.replace('_', ' ')} {self.value:g}, " if self.over else ""
        return f"{what}seed {self.config.seed}"

    def file(self, path) -> str:
        """A name of its own, made from the one that many jobs share."""
        root, end = os.path.splitext(os.fspath(path))
        what = f"-{self.over}{self.value:g}" if self.over else ""
        return f"{root}{what}-seed{self.config.seed}{end}"

    def run(self, progress: Progress = silent, checkpoint=None) -> Comparison:
        """Train, integrate, compare; arguments and errors are those of `training.train`."""
        # A first derivation takes a minute; an interruption there must not cost the training.
        compile_system(self.system, self.parameters)
        return self.compare(self.train(progress, checkpoint))

    def train(self, progress: Progress = silent, checkpoint=None) -> Trajectory:
        """The full model's trajectory."""
        return train(self.config, progress, checkpoint)[0]

    def compare(self, full: Trajectory) -> Comparison:
        """Lay the reduced flow over a trajectory of the full model, which may have been cut short.

        Raises
        ------
        InputError
            If training had not gone on for any time.
        """
        if not full.t_end > 0:
            raise InputError("training stopped at its first step: there is nothing to compare yet")
        full = in_flow_time(full, self.config)
        start = {
            name: float(value)
            for name, value in zip(full.coordinates, full.z[0], strict=True)
            if name in self.system.names and name not in self.clamp and value
        }
        options = {"t_end": full.t_end, "start": start, "clamp": dict(self.clamp)}
        reduced = integrate(self.system, self.parameters, **options)
        descent = None
        if self.config.optimiser == "sgd":
            step = self.config.time_step
            try:
                options |= {"dynamics": "gd", "step": step}
                descent = integrate(self.system, self.parameters, **options)
            except IntegrationError:
                descent = None  # the full model's own divergence is reported where it happens
        loss = np.array(report_at(self.system, reduced, full.t)["loss"])
        return self.comparison(full, reduced, descent, loss, self.at)


def plan(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    study: str = "",
    values: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 1,
    t_end: float | str = HORIZON,
    steps: int | None = None,
    at: Sequence[float] | None = None,
    clamp: Mapping[str, Any] | None = None,
    **training: Any,
) -> list[Job]:
    """The comparisons to be made, all checked before the first of them begins.

    Parameters
    ----------
    system : ReducedSystem
        One whose coordinates are among the disentangled transformer's 19; those that it lacks
        are held at 0 in the full model.
    parameters : mapping, optional
        The system's. Unless given, N is 4 and D is 4N.
    study : {"", "batch", "step", "perturbation"}
        What is varied.
    values : sequence of float, optional
        Over which values; those in `STUDIES` by default.
    seeds : int or sequence of int
        Of the full model: how many, counted from 0, or which.
    t_end : float or str
        Horizon in reduced training time, or an expression over the parameters.
    steps : int, optional
        Number of training steps instead; in a study of the learning rate, at the rate given.
    at : sequence of float, optional
        Times that tables report.
    clamp : mapping of str to float, optional
        Coordinates that both models hold at a value.
    **training
        batch, learning_rate, optimiser ("sgd", or "momentum" in the time of its long steps),
        init_scale and perturbation of `TrainingConfig`.

    Raises
    ------
    InputError
        For anything that is impossible or contradicts itself.
    """
    values_of = _values(system, parameters or {})
    method = training.get("optimiser", "sgd")
    if method == "adam":
        raise InputError(
            "adam does not descend the gradient, so no time scale makes its training follow the "
            "gradient flow; use optimiser sgd or momentum"
        )
    base = TrainingConfig(
        N=values_of["N"],
        D=values_of["D"],
        inputs=values_of.get("inputs", "orthonormal"),
        query=values_of["query"],
        self_attention=values_of["self_attention"],
        steps=1,
        clamp={name: 0.0 for name in COORDINATES if name not in system.names}
        | {name: system.place(name, value) for name, value in (clamp or {}).items()},
        **training,
    )
    numbers = {k: float(v) for k, v in values_of.items() if type(v) in (int, float)}
    planned = schedule(
        base, numbers, STUDIES, study=study, values=values, seeds=seeds, t_end=t_end, steps=steps,
        at=at,
    )  # fmt: skip
    return [
        Job(system, values_of, config, times, dict(clamp or {}), study) for config, times in planned
    ]


def check_steps(steps: float, learning_rate: float) -> None:
    """Refuse trainings that nobody lives to see the end of.

    Raises
    ------
    InputError
    """
    if not steps <= MOST_STEPS:
        raise InputError(
            f"learning rate {learning_rate:g} makes {steps:.3g} steps of this horizon; raise the "
            "learning rate, or shorten the horizon"
        )


def schedule(
    base: Any,
    numbers: Mapping[str, float],
    studies: Mapping[str, tuple[str, tuple[float, ...]]],
    *,
    study: str = "",
    values: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 1,
    t_end: float | str,
    steps: int | None = None,
    at: Sequence[float] | None = None,
    intervals: int = INTERVALS,
) -> list[tuple[Any, tuple[float, ...]]]:
    """The trainings of a study or of several seeds, each with the times that tables report.

    Parameters
    ----------
    base : configuration of a full model
        A frozen dataclass with `seed`, `steps`, `t_end`, `record`, `optimiser`, `learning_rate`,
        and what the studies vary.
    numbers : mapping of str to float
        What an expression for the horizon may use.
    studies : mapping
        By name: the option that is varied, and its default values.
    intervals : int
        At how many even intervals rows are recorded, besides the times to report.
    study, values, seeds, t_end, steps, at
        Those of `plan`.

    Raises
    ------
    InputError
        For anything that is impossible or contradicts itself.
    """
    step = base.time_step * stretch(base)
    if steps is not None:
        if not isinstance(steps, int | np.integer) or steps < 1:
            raise InputError(f"steps must be a positive integer, not {steps!r}")
        t_end = steps * step
    horizon = evaluate(t_end, numbers) if isinstance(t_end, str) else float(t_end)
    if not 0 < horizon < np.inf:
        raise InputError(f"the horizon must be a positive time, not {horizon:g}; mend t_end")
    check_steps(horizon / step, base.learning_rate)
    at = tuple(float(t) for t in at) if at else tuple(part * horizon for part in PARTS)
    if not all(0 <= t <= horizon for t in at):
        raise InputError(f"the times to report must lie between 0 and {horizon:g}, the horizon")

    option, chosen = "", (None,)
    if study:
        if study not in studies:
            raise unknown("study", study, studies)
        option, chosen = studies[study]
        chosen = chosen if values is None else tuple(values)
        if isinstance(getattr(base, option), int):
            chosen = tuple(int(v) if float(v).is_integer() else v for v in chosen)
        if not chosen:
            raise InputError(f"a study needs values of {option.replace('_', ' ')} to go over")
    elif values is not None:
        *others, last = studies
        raise InputError(f"values belong to a study; say which: {', '.join(others)} or {last}")
    planned = []
    for value in chosen:
        for seed in _seeds(seeds):
            config = replace(base, seed=seed, **({option: value} if option else {}))
            own = horizon / stretch(config)
            # The last step may fall a little short of the horizon.
            last = round(own / config.time_step) * config.time_step
            times = (*np.linspace(0.0, own, intervals + 1), *(t / stretch(config) for t in at))
            times = tuple(min(float(t), last) for t in times)
            config = replace(config, steps=None, t_end=own, record=times)
            planned.append((config, at))
    return planned


def validate(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
    checkpoint=None,
    **options: Any,
) -> Comparison:
    """Train the full transformer and lay the reduced flow over its trajectory.

    Parameters
    ----------
    system, parameters, **options
        Those of `plan`.
    seed : int
    progress : callable
        See `core.progress`.
    checkpoint : path, optional
        An ``.npz`` file, kept up to date, from which training is resumed if it exists.

    Raises
    ------
    InputError
        For anything that is impossible or contradicts itself.
    TrainingInterrupted, DivergedError
        With the full model's trajectory so far, for `Job.compare`.
    """
    return plan(system, parameters, seeds=[seed], **options)[0].run(progress, checkpoint)


@dataclass(frozen=True)
class Slope:
    """A power law fitted by least squares in logarithms: exponent, its standard error, prefactor.

    The standard error is nan where two points fix the line.
    """

    exponent: float
    standard_error: float
    prefactor: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.prefactor * np.asarray(x, dtype=float) ** self.exponent


@dataclass(frozen=True, eq=False)
class Study:
    """Comparisons over the values of one option, and several seeds each.

    Attributes
    ----------
    over : str
        A key of `STUDIES`.
    runs : tuple of (Job, Comparison)
    """

    over: str
    runs: tuple[tuple[Job, Comparison], ...]

    @property
    def option(self) -> str:
        return self.runs[0][0].option

    @property
    def values(self) -> tuple[float, ...]:
        """The values gone over, ascending."""
        return tuple(sorted({job.value for job, _ in self.runs}))

    def at_value(self, value: float) -> list[Comparison]:
        """The comparisons made at one value, one for every seed."""
        return [comparison for job, comparison in self.runs if job.value == value]

    @cached_property
    def points(self) -> dict[str, np.ndarray]:
        """Every run's value and errors, shape (runs,) each.

        `error`, `discretisation` and `sampling` are root mean squares over time (see `rms`);
        `largest` is the largest error of any coordinate; `outside_start`, `outside_end` and
        `outside_largest` are Frobenius norms outside the subspace, `outside` their root mean
        square over time. `scatter` is a run's distance from the mean over the seeds, as an
        unbiased estimate: the noise of minibatches without the drift that it causes; nan for one
        seed. `shift` is how far a perturbed run's coordinates, in root mean square,
        are from those of the run on the same minibatches without a perturbation; nan where there
        is none.
        """
        unmoved = {job.config.seed: found for job, found in self.runs if job.value == 0}
        rows = [
            {
                "value": float(job.value),
                "error": rms(found.error),
                "discretisation": rms(found.discretisation),
                "sampling": rms(found.sampling),
                "largest": found.worst[0],
                "scatter": _scatter(found, self.at_value(job.value)),
                "shift": _shift(found, unmoved.get(job.config.seed)),
                "outside": float(np.sqrt(np.mean(found.full["outside_norm"] ** 2))),
                "outside_start": float(found.full["outside_norm"][0]),
                "outside_end": float(found.full["outside_norm"][-1]),
                "outside_largest": float(found.full["outside_norm"].max()),
            }
            for job, found in self.runs
        ]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def slope(self, quantity: str) -> Slope | None:
        """How a quantity of `points` scales with the value; None without two positive values."""
        x, y = self.points["value"], self.points[quantity]
        if quantity == "scatter":
            # Distances from a mean that they share: all seeds make one point.
            y = np.array([np.sqrt(np.mean(y[x == value] ** 2)) for value in self.values])
            x = np.array(self.values, dtype=float)
        good = (x > 0) & (y > 0)
        return fit(x[good], y[good]) if len(set(x[good])) > 1 else None


def run_study(jobs: Sequence[Job], begin: Callable[[Job], None] | None = None, **options) -> Study:
    """All comparisons of a study; `begin` is called before each, `options` are `Job.run`'s."""
    runs = []
    for job in jobs:
        if begin is not None:
            begin(job)
        runs.append((job, job.run(**options)))
    return Study(jobs[0].over, tuple(runs))


def _scatter(found: Comparison, alike: Sequence[Comparison]) -> float:
    count = len(alike)
    if count < 2:
        return np.nan
    mean = np.mean([one._full for one in alike], axis=0)
    return rms(found._full - mean) * float(np.sqrt(count / (count - 1)))


def _shift(found: Comparison, unmoved: Comparison | None) -> float:
    if unmoved is None or len(unmoved.t) != len(found.t):
        return np.nan
    return rms(found._full - unmoved._full)


def fit(x: np.ndarray, y: np.ndarray) -> Slope:
    """The power law through positive points, shapes (n,)."""
    found = power_law(x, y)
    return Slope(found.slope, found.standard_error, float(np.exp(found.intercept)))


def stretch(config: TrainingConfig) -> float:
    """How much faster than step × learning rate the optimiser's long steps go: 1/(1 − μ)."""
    return 1.0 / (1.0 - getattr(config.method, "momentum", 0.0))


def in_flow_time(full: Trajectory, config: TrainingConfig) -> Trajectory:
    """The full model's trajectory in the time of the flow that its optimiser follows."""
    factor = stretch(config)
    if factor == 1.0:
        return full
    return full.with_(
        t=full.t * factor,
        time_scale=full.time_scale / factor,
        crossings=tuple(replace(c, t=c.t * factor) for c in full.crossings),
    )


def _values(system: ReducedSystem, given: Mapping[str, Any]) -> dict[str, Any]:
    """The system's parameters, small enough to train unless said otherwise."""
    strange = [name for name in system.names if name not in COORDINATES]
    if strange:
        raise InputError(
            f"there is no full model for {system.name}: {strange[0]} is no coordinate of the "
            "disentangled transformer; validate musat19 or musat3"
        )
    given = {"N": PAIRS} | dict(given)
    values = system.values(given)
    return values if values["D"] is not None else system.values({**given, "D": 4 * values["N"]})


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    if not isinstance(seeds, int | np.integer):
        chosen = list(dict.fromkeys(seeds))
    else:
        chosen = list(range(seeds))
    if not chosen:
        raise InputError("at least one seed is needed; give a number of seeds or a list of them")
    return chosen
