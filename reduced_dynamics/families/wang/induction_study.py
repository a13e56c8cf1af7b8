"""Many trainings on IH_n, over seeds and over one setting: which of them learn?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.wang.full import induction_task as task
from reduced_dynamics.families.wang.full.induction_training import InductionConfig, train_induction

levels = lru_cache(task.levels)

#: What a study may vary: heads and width together (``heads``), heads for every n (``needed``), or
#: one number of the configuration.
STUDIES = (
    "heads",
    "needed",
    *(
        setting.name
        for setting in fields(InductionConfig)
        if setting.type in ("int", "float") and setting.name != "seed"
    ),
)
#: Values gone over if none are given: the heads of the paper's Figure 4 and the number between; n.
VALUES = {"heads": (2, 4, 8), "needed": (2, 3, 4)}


@dataclass(frozen=True)
class Job:
    """One training of a plan, and the values of what distinguishes it from others, by name."""

    config: InductionConfig
    varied: Mapping[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return ", ".join([*(f"{k} {v:g}" for k, v in self.varied.items()), f"seed {self.seed}"])

    @property
    def seed(self) -> int:
        return self.config.seed

    def file(self, path) -> str:
        """A name of its own, made from the one that many jobs share."""
        root, end = os.path.splitext(os.fspath(path))
        what = "".join(f"-{name}{value:g}" for name, value in self.varied.items())
        return f"{root}{what}-seed{self.seed}{end}"

    def run(self, progress: Progress = silent, checkpoint=None) -> Result:
        """Train; arguments and errors are those of `train_induction`."""
        return self.compare(train_induction(self.config, progress, checkpoint)[0])

    def compare(self, full: Trajectory) -> Result:
        """A trajectory, whole or not, against what could be learnt."""
        return Result(self, full)


@dataclass(frozen=True, eq=False)
class Result:
    """A job and the trajectory of its model, as far as that goes."""

    job: Job
    full: Trajectory

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """The errors of predictors that compare 0, 1, … n − 1 tokens: see `induction_task`."""
        config = self.job.config
        return levels(config.n, config.L, config.d, config.w_star)

    @property
    def error(self) -> float:
        """The error at the end, on held-out sequences, over the one of a model that answers 0."""
        return float(self.full["error"][-1])

    @property
    def compared(self) -> int:
        """How many tokens a model with this error compares: the number of the nearest level."""
        return task.compared(self.error, self.levels)

    @property
    def learnt(self) -> bool:
        """Whether all n − 1 tokens are compared: the error is below half of the last level's."""
        return self.compared == self.job.config.n - 1


def plan(
    config: InductionConfig,
    seeds: Sequence[int] = (0,),
    study: str | None = None,
    values: Sequence[float] | None = None,
    tied: bool = True,
) -> list[Job]:
    """The trainings that a study over seeds, and over one setting, consists of.

    Parameters
    ----------
    config : InductionConfig
        What they share.
    seeds : sequence of int
    study : str, optional
        One of `STUDIES`.
    values : sequence of float, optional
        Of what the study is over; for ``heads`` 2, 4, 8, and for ``needed``, which goes through
        H = 1 … n + 1 of each, n = 2, 3, 4.
    tied : bool
        Whether ``heads`` is D as well as H.

    Raises
    ------
    InputError
        If the study is unknown, has no values or is given impossible ones, or there is no seed.
    """
    if not seeds:
        raise InputError("at least one seed is needed; give --seeds a number or a list")
    if len(set(seeds)) < len(seeds):
        raise InputError("a seed is given twice; every run of a study needs its own")
    if study is None:
        if values is not None:
            raise InputError("--values needs --study, to say of what they are values")
        return [Job(replace(config, seed=seed)) for seed in seeds]
    if study not in STUDIES:
        raise unknown("study of ih", study, STUDIES)
    values = VALUES.get(study) if values is None else values
    if values is None:
        raise InputError(f"--study {study} needs --values, such as --values 1,2,4")
    if len(set(values)) < len(values):
        raise InputError("--values names a value twice; give each once")
    return [
        Job(replace(config, seed=seed, **changes), varied)
        for value in values
        for varied, changes in _points(config, study, value, tied)
        for seed in seeds
    ]


def _points(config, study, value, tied):
    """What a value of a study stands for: what varies by name, and the changes of the settings."""
    if study == "needed":
        n = _suited(config, "n", value)
        return [({"n": n, "H": H}, {"n": n, "H": H}) for H in range(1, n + 2)]
    names = (("H", "D") if tied else ("H",)) if study == "heads" else (study,)
    return [({study: value}, {name: _suited(config, name, value) for name in names})]


def _suited(config, name: str, value: float) -> int | float:
    """The value as an integer where the setting is one."""
    if not isinstance(getattr(config, name), int):
        return value
    if value != int(value):
        raise InputError(f"{name} takes whole numbers, not {value:g}")
    return int(value)


def fewest(found: Sequence[Result]) -> dict[int, tuple[int | None, int | None]]:
    """Of every n, the fewest heads with which some seed learns, and with which all seeds do.

    With all that have more heads, too: a lucky number among unlucky ones is not enough.
    """
    result = {}
    for n in dict.fromkeys(one.job.config.n for one in found):
        learnt: dict[int, list[bool]] = {}
        for one in found:
            if one.job.config.n == n:
                learnt.setdefault(one.job.config.H, []).append(one.learnt)
        heads = sorted(learnt, reverse=True)
        result[n] = tuple(_last_of_run(heads, learnt, enough) for enough in (any, all))
    return result


def _last_of_run(heads, learnt, enough) -> int | None:
    last = None
    for H in heads:
        if not enough(learnt[H]):
            break
        last = H
    return last
