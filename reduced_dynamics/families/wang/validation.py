"""The reduced flow of the mixed target against the two-layer, two-head network.

The full model is trained on M sequences that are drawn once, or on fresh minibatches. The error of
finite M is that of the sequences' own gradient flow against the reduced one; the error of finite
steps that of descent against the flow of the same sequences. Its studies vary one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.system import ReducedSystem, numeric
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.musat.validation import (
    Comparison,
    Job,
    Slope,
    Study,
    fit,
    rms,
    schedule,
)
from reduced_dynamics.families.wang.full.mixed_target_training import (
    MixedTargetConfig,
    train_mixed_target,
)
from reduced_dynamics.integration.one import report_at

#: The default horizon: 3680 at the paper's values, a fifth more than it takes to converge.
HORIZON = "1.2 * L * (1 + alpha_star)**2 / w_star**teacher_exponent * log(1 / sigma_init)"
#: The reduced system's parameters that are the full model's as well.
SHARED = ("L", "alpha_star", "w_star", "sigma_init", "teacher_exponent", "training")
#: At how many even intervals rows are kept; events are interpolated between them.
INTERVALS = 400

#: Studies: the option that is varied, and its values.
STUDIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "sequences": ("sequences", (1024, 2048, 4096, 8192, 16384)),
    "step": ("learning_rate", (0.25, 0.5, 1.0, 2.0)),
}
#: Settings of a study unless said otherwise: the flow has no error of steps, and the error of
#: steps needs no more than a thousand sequences.
DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"learning_rate": 0.5},
    "sequences": {"optimiser": "flow"},
    "step": {"sequences": 1024},
}


@dataclass(frozen=True, eq=False)
class MixedComparison(Comparison):
    """A trajectory of the two-layer, two-head network and the reduced one.

    Attributes
    ----------
    reduced_parts : mapping of str to ndarray of shape (n,)
        The reduced system's observables along `reduced`, at the full model's times.
    flow : Trajectory or None
        The gradient flow of the full model's sequences, at its times; None where it is not asked.
    """

    reduced_parts: Mapping[str, np.ndarray] | None = None
    flow: Trajectory | None = None

    @cached_property
    def stepping(self) -> np.ndarray | None:
        """Full model minus the flow of its own sequences, shape (n, d): finite steps alone."""
        return None if self.flow is None else self.full.z - self.flow.z[: len(self.t)]

    @cached_property
    def table(self) -> dict[str, list[float]]:
        """Columns by name, at the times `at`.

        t; losses and their 4-gram and induction parts of the full model (`full_…`, the parts on
        its M sequences) and of the reduced one; largest error over the coordinates.
        """
        rows = self.rows
        result = {"t": self.t[rows].tolist()}
        reduced = {"loss": self.reduced_loss, **(self.reduced_parts or {})}
        for name in ("loss", "L_G4", "L_IH"):
            result[f"full_{name}"] = self.full[name][rows].tolist()
            result[f"reduced_{name}"] = reduced[name][rows].tolist()
        return result | {"error": np.abs(self.error[rows]).max(axis=1).tolist()}

    @property
    def events(self) -> dict[str, tuple[float | None, float | None]]:
        """Time of every event in the full and in the reduced model, or None."""
        return {name: (self.full.events.get(name), t) for name, t in self.reduced.events.items()}

    def lateness(self, event: str) -> float:
        """By which part the full model's event is late; nan where either does not happen."""
        full, reduced = self.events.get(event, (None, None))
        return np.nan if full is None or not reduced else full / reduced - 1.0


@dataclass(frozen=True)
class MixedJob(Job):
    """One comparison to be made with the two-layer, two-head network; see `Job`."""

    config: MixedTargetConfig

    studies: ClassVar[Mapping[str, tuple[str, tuple[float, ...]]]] = STUDIES
    comparison: ClassVar[type[Comparison]] = MixedComparison

    def run(self, progress: Progress = silent, checkpoint=None) -> MixedComparison:
        """Train, integrate, compare; see `Job.run`."""
        self.system.pack(self.parameters)  # tables are made first, and kept, as derivations are
        return super().run(progress, checkpoint)

    def train(self, progress: Progress = silent, checkpoint=None) -> Trajectory:
        """The full model's trajectory."""
        return train_mixed_target(self.config, progress, checkpoint)[0]

    def compare(self, full: Trajectory) -> MixedComparison:
        """Lay the reduced flow over a trajectory of the full model; see `Job.compare`."""
        found = super().compare(full)
        report = report_at(self.system, found.reduced, found.t)
        parts = {name: np.array(report[name]) for name in found.reduced.observables}
        flow = None
        if self.over == "step":
            own = replace(self.config, optimiser="flow")
            flow, _ = train_mixed_target(own)
        return replace(found, reduced_parts=parts, flow=flow)


def plan(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    study: str = "",
    clamp: Mapping[str, Any] | None = None,
    t_end: float | str | None = None,
    steps: int | None = None,
    values: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 1,
    at: Sequence[float] | None = None,
    **training: Any,
) -> list[MixedJob]:
    """The comparisons to be made, all checked before the first of them begins.

    Parameters
    ----------
    system : ReducedSystem
        `wang`.
    parameters : mapping, optional
        The system's.
    study : {"", "sequences", "step"}
        What is varied.
    clamp : mapping of str to float, optional
        Scalars that both models hold at a value.
    t_end : float or str, optional
        Horizon in training time, or an expression over the parameters; `HORIZON` by default.
    steps, values, seeds, at
        Those of `validate.plan`.
    **training
        sequences, batch, learning_rate, optimiser ("sgd", "momentum" in the time of its long
        steps, or "flow") and start of `MixedTargetConfig`.

    Raises
    ------
    InputError
        For anything that is impossible or contradicts itself.
    """
    values_of = system.values(parameters or {})
    adapted = system.adapted(values_of)
    if training.get("optimiser") == "adam":
        raise InputError(
            "adam does not descend the gradient, so no time scale makes its training follow the "
            "gradient flow; use optimiser sgd, momentum or flow"
        )
    if study == "step" and training.get("batch") is not None:
        raise InputError("the study of steps compares with the flow of fixed sequences; drop batch")
    if study == "step" and training.get("optimiser", "sgd") != "sgd":
        raise InputError("the study of steps is of gradient descent; use optimiser sgd")
    if study == "sequences" and training.get("batch") is not None:
        raise InputError("the study of sequences trains on all of them; drop batch")
    if t_end is None and steps is None and values_of["training"] != "stage2":
        raise InputError(
            f"training={values_of['training']} has no horizon of its own; give t_end (--t-end)"
        )
    base = MixedTargetConfig(
        **{name: values_of[name] for name in SHARED},
        clamp={name: adapted.place(name, value) for name, value in (clamp or {}).items()},
        steps=1,
        **DEFAULTS.get(study, {}) | training,
    )
    planned = schedule(
        base, numeric(values_of), STUDIES, study=study, values=values, seeds=seeds,
        t_end=HORIZON if t_end is None else t_end, steps=steps, at=at, intervals=INTERVALS,
    )  # fmt: skip
    held = dict(base.clamp)
    return [MixedJob(adapted, values_of, config, times, held, study) for config, times in planned]


def validate_mixed_target(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
    checkpoint=None,
    **options: Any,
) -> MixedComparison:
    """Train the two-layer, two-head network and lay the reduced flow over its trajectory.

    Parameters and errors are those of `validate.validate`, options those of `plan`.
    """
    return plan(system, parameters, seeds=[seed], **options)[0].run(progress, checkpoint)


@dataclass(frozen=True, eq=False)
class MixedStudy(Study):
    """Comparisons over the values of one option, and several seeds each; see `Study`."""

    @cached_property
    def points(self) -> dict[str, np.ndarray]:
        """Every run's value and errors, shape (runs,) each.

        `error` and `discretisation` are root mean squares over time of the distance from the
        reduced flow, of the full model and of reduced descent with the same steps; `stepping` is
        that of the full model from the flow of its own sequences. `largest` is the largest error
        of any coordinate; `half` by which part T_half is early or late.
        """
        rows = [
            {
                "value": float(job.value),
                "error": rms(found.error),
                "discretisation": rms(found.discretisation),
                "stepping": rms(found.stepping),
                "largest": found.worst[0],
                "half": abs(found.lateness("T_half")),
            }
            for job, found in self.runs
        ]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def slope(self, quantity: str) -> Slope | None:
        """The power law through the root mean squares over the seeds; see `Study.slope`.

        Errors of single draws are as often near 0 as at their typical size, and a fit to their
        logarithms would follow the near misses.
        """
        points = self.points
        x, y = np.array(self.values, dtype=float), points[quantity]
        y = np.array([np.sqrt(np.mean(y[points["value"] == value] ** 2)) for value in x])
        good = (x > 0) & (y > 0)
        return fit(x[good], y[good]) if good.sum() > 1 else None
