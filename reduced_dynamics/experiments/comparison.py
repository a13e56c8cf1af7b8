"""A full model's training and the reduced flow laid over it: nobody should have to believe the
reduction.

A `Job` is one training and the reduced trajectory that it should follow; what comes of it is a
`Comparison`. Two errors make up what separates the two. Gradient descent takes steps, and the flow
does not: that part is known without any sampling, from the reduced equations descended with the
same steps (`Comparison.discretisation`). Data are finite: that is the rest (`Comparison.sampling`).
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.errors import InputError, IntegrationError, whole_numbers
from reduced_dynamics.core.expressions import evaluate
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.system import ReducedSystem, numeric
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.experiments.setting import seeds as chosen_seeds
from reduced_dynamics.integration.one import integrate, report_at
from reduced_dynamics.training.settings import Settings

#: Where tables report unless said otherwise, in parts of the horizon.
PARTS = (0.1, 0.25, 0.5, 0.75, 1.0)
#: More steps of training than anybody waits for.
MOST_STEPS = 1e9

_COMPILING = threading.Lock()


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
        has no meaning (momentum), takes too long or diverges.
    names : tuple of str
        The d coordinates or observables that are compared; both models have them.
    beside : mapping of str to ndarray of shape (n,)
        Loss, observables and coordinates along `reduced`, at the full model's times.
    at : tuple of float
        The times that tables report.
    """

    full: Trajectory
    reduced: Trajectory
    descent: Trajectory | None
    names: tuple[str, ...]
    beside: Mapping[str, np.ndarray]
    at: tuple[float, ...]

    @property
    def t(self) -> np.ndarray:
        """Recorded times, shape (n,), reduced training time."""
        return self.full.t

    @property
    def reduced_loss(self) -> np.ndarray:
        """Population loss along `reduced`, at the full model's times, shape (n,)."""
        return self.beside["loss"]

    @cached_property
    def error(self) -> np.ndarray:
        """Full minus reduced flow, shape (n, d)."""
        return self._of(self.full) - self._of(self.beside)

    @cached_property
    def discretisation(self) -> np.ndarray | None:
        """Reduced descent minus reduced flow, shape (n, d): the error of finite steps alone."""
        return None if self.descent is None else self._descended - self._of(self.beside)

    @cached_property
    def sampling(self) -> np.ndarray | None:
        """Full minus reduced descent, shape (n, d): the error of finite data alone."""
        return None if self.descent is None else self._of(self.full) - self._descended

    @property
    def max_error(self) -> dict[str, float]:
        """Largest error over all recorded times, by name."""
        return dict(zip(self.names, np.abs(self.error).max(axis=0).tolist(), strict=True))

    @property
    def final_error(self) -> dict[str, float]:
        """Error at the last time, with its sign, by name."""
        return dict(zip(self.names, self.error[-1].tolist(), strict=True))

    @property
    def worst(self) -> tuple[float, str, float]:
        """The largest error of all, its coordinate and its time."""
        row, column = np.unravel_index(np.abs(self.error).argmax(), self.error.shape)
        return float(abs(self.error[row, column])), self.names[column], float(self.t[row])

    @property
    def events(self) -> dict[str, tuple[float | None, float | None]]:
        """Time of every event in the full and in the reduced model, or None."""
        full, reduced = self.full.events, self.reduced.events
        return {name: (full[name], t) for name, t in reduced.items() if name in full}

    def lateness(self, event: str) -> float:
        """By which part the full model's event is late; nan where either does not happen."""
        full, reduced = self.events.get(event, (None, None))
        return np.nan if full is None or not reduced else full / reduced - 1.0

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

        t; the loss of both and every further observable of both that is not itself compared
        (``full_…``, ``reduced_…``); the largest error; then what the full model alone has.
        """
        rows, columns = self.rows, {"t": self.t[self.rows].tolist()}
        others = [name for name in self.full.observables if name not in self.names]
        for name in ("loss", *(k for k in others if k in self.beside)):
            columns[f"full_{name}"] = self.full[name][rows].tolist()
            columns[f"reduced_{name}"] = self.beside[name][rows].tolist()
        columns["error"] = np.abs(self.error[rows]).max(axis=1).tolist()
        alone = [k for k in others if k not in self.beside]
        return columns | {k: self.full[k][rows].tolist() for k in alone}

    def _of(self, source) -> np.ndarray:
        return np.column_stack([source[name] for name in self.names])

    @cached_property
    def _descended(self) -> np.ndarray:
        # A long descent keeps every k-th state only; linear in between is far within its error.
        columns = [np.interp(self.t, self.descent.t, self.descent[name]) for name in self.names]
        return np.column_stack(columns)


def rms(error: np.ndarray | None) -> float:
    """Root mean square over time of the distance over all coordinates; nan if there is none.

    Parameters
    ----------
    error : ndarray, shape (n, d), or None
    """
    return np.nan if error is None else float(np.sqrt(np.mean(np.sum(error**2, axis=1))))


def largest(error: np.ndarray | None) -> float | None:
    """The largest error of any coordinate at any time; None if there is none."""
    return None if error is None else float(np.abs(error).max())


@dataclass(frozen=True)
class Job:
    """One comparison to be made: how the full model is trained, and what it should follow.

    Attributes
    ----------
    system : ReducedSystem
    parameters : mapping
        Of the reduced system, all of them.
    config : Settings
        Of the full model's training.
    train : callable
        ``train(config, progress, checkpoint)``: the full model's `Trajectory`, and its weights.
    at : tuple of float
        The times that tables report, reduced training time.
    clamp : mapping of str to float
        Coordinates that both models hold.
    compared : tuple of str
        Coordinates or observables that are compared; the system's coordinates unless given.
    integration : mapping
        Options of `integrate` for the reduced flow.
    most_descended : int
        Steps, more of which the reduced equations are not descended.
    flows : dict
        Reduced trajectories that the jobs of one plan share: their seeds start alike.
    """

    system: ReducedSystem
    parameters: Mapping[str, Any]
    config: Settings
    train: Callable[..., tuple[Trajectory, Any]]
    at: tuple[float, ...]
    clamp: Mapping[str, float] = field(default_factory=dict)
    compared: tuple[str, ...] = ()
    integration: Mapping[str, Any] = field(default_factory=dict)
    most_descended: float = np.inf
    flows: dict = field(default_factory=dict, compare=False, repr=False)

    @property
    def label(self) -> str:
        """What tells this job from the others, in words."""
        return f"seed {self.config.seed}"

    def file(self, path) -> str:
        """A name of its own, made from the one that many jobs share."""
        root, end = os.path.splitext(os.fspath(path))
        return f"{root}-seed{self.config.seed}{end}"

    def run(self, progress: Progress = silent, checkpoint=None) -> Comparison:
        """Train, integrate, compare; see `trained` and `compare`."""
        self.prepare()
        return self.compare(self.trained(progress, checkpoint))

    def prepare(self) -> None:
        """Make tables and a first derivation, which take a minute: an interruption there must not
        cost the training."""
        with _COMPILING:
            self.system.pack(self.parameters)
            compile_system(self.system.adapted(self.parameters), self.parameters)

    def trained(self, progress: Progress = silent, checkpoint=None) -> Trajectory:
        """The full model's trajectory.

        Parameters
        ----------
        progress : callable
        checkpoint : path, optional
            An ``.npz`` file, kept up to date, from which training is resumed if it exists.

        Raises
        ------
        InputError
            For anything that is impossible or contradicts itself.
        TrainingInterrupted, DivergedError
            With the full model's trajectory so far, for `compare`.
        """
        return self.train(self.config, progress, checkpoint)[0]

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
        form = self.system.adapted(self.parameters)
        usual = dict(zip(form.names, form.origin(self.parameters), strict=True))
        start = {
            name: float(value)
            for name, value in zip(full.coordinates, full.z[0], strict=True)
            if name in usual and name not in self.clamp and value != usual[name]
        }
        options = {"t_end": full.t_end, "start": start, "clamp": dict(self.clamp)}
        reduced, descent = self._reduced(options), None
        step = self.config.time_step
        if self.config.optimiser == "sgd" and full.t_end <= self.most_descended * step:
            try:
                descent = self._reduced(options | {"dynamics": "gd", "step": step})
            except IntegrationError:
                descent = None  # the full model's own divergence is reported where it happens
        beside = {k: np.array(v) for k, v in report_at(self.system, reduced, full.t).items()}
        return Comparison(
            full, reduced, descent, self.compared or form.names, beside, self.at
        )  # fmt: skip

    def _reduced(self, options: dict[str, Any]) -> Trajectory:
        key = repr(sorted(options.items()))
        if key not in self.flows:
            self.flows[key] = integrate(
                self.system, self.parameters, **{**self.integration, **options}
            )
        return self.flows[key]


def schedule(
    base: Settings,
    values: Mapping[str, Any],
    *,
    t_end: float | str,
    steps: int | None = None,
    at: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 1,
    record: int | Callable[[float, float], Sequence[float]] = 200,
) -> list[tuple[Settings, tuple[float, ...]]]:
    """The trainings of several seeds, each with the times that tables report.

    Parameters
    ----------
    base : Settings
        Of a full model; seed, steps and record are set here.
    values : mapping
        Parameters, the numbers among which an expression for the horizon may use.
    t_end : float or str
        Horizon in reduced training time, or an expression over the parameters.
    steps : int, optional
        Number of training steps instead.
    at : sequence of float, optional
        Times that tables report; parts of the horizon by default.
    seeds : int or sequence of int
        Of the full model: how many, counted from 0, or which.
    record : int or callable
        At how many even intervals rows are kept; or from the horizon and the time of a step, in
        the model's own time, to the times of rows. The times of tables are added.

    Raises
    ------
    InputError
        For anything that is impossible or contradicts itself.
    """
    factor = stretch(base)
    step = base.time_step * factor
    if steps is not None:
        whole_numbers(steps=steps)
        t_end = steps * step
    horizon = evaluate(t_end, numeric(values)) if isinstance(t_end, str) else float(t_end)
    if not 0.5 * step <= horizon < np.inf:
        raise InputError(
            f"the horizon must be a positive time, no less than {step:g}, that of one step, and "
            f"not {horizon:g}; mend t_end, or the learning rate"
        )
    if not horizon / step <= MOST_STEPS:
        raise InputError(
            f"learning rate {base.learning_rate:g} makes {horizon / step:.3g} steps of this "
            "horizon; raise the learning rate, or shorten the horizon"
        )
    at = tuple(float(t) for t in at) if at else tuple(part * horizon for part in PARTS)
    if not all(0 <= t <= horizon for t in at):
        raise InputError(f"the times to report must lie between 0 and {horizon:g}, the horizon")
    count = max(1, round(horizon / step))
    # The last step may fall a little short of the horizon.
    last = count * base.time_step
    if isinstance(record, int):
        kept = np.linspace(0.0, horizon / factor, record + 1)
    else:
        kept = record(horizon / factor, base.time_step)
    rows = tuple(min(float(t), last) for t in (*kept, *(t / factor for t in at)))
    return [
        (replace(base, seed=seed, steps=count, record=rows), at)
        for seed in chosen_seeds("seeds", seeds)
    ]


def stretch(config: Settings) -> float:
    """How much faster than step × learning rate the optimiser's long steps go: 1/(1 − μ)."""
    return 1.0 / (1.0 - getattr(config.method, "momentum", 0.0))


def in_flow_time(full: Trajectory, config: Settings) -> Trajectory:
    """The full model's trajectory in the time of the flow that its optimiser follows."""
    factor = stretch(config)
    if factor == 1.0:
        return full
    return full.with_(
        t=full.t * factor,
        time_scale=full.time_scale / factor,
        crossings=tuple(replace(c, t=c.t * factor) for c in full.crossings),
    )


def descends_the_gradient(optimiser: str, known: Sequence[str]) -> None:
    """Refuse Adam.

    Raises
    ------
    InputError
    """
    if optimiser == "adam":
        *others, last = known
        raise InputError(
            "adam does not descend the gradient, so no time scale makes its training follow the "
            f"gradient flow; use optimiser {', '.join(others)} or {last}"
        )
