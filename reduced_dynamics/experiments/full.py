"""What a family says of a full model: the record that ``validate`` and ``sweep --full`` go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reduced_dynamics.core.errors import unknown
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.system import Parameter, ReducedSystem
from reduced_dynamics.experiments.comparison import Comparison, Job


@dataclass(frozen=True, eq=False)
class FullModel:
    """How a full model is trained and laid over a reduced system.

    Attributes
    ----------
    home : str
        Where it stands, ``"module:OBJECT"``; what this module imports, its numbers follow from.
    title : str
        What it is, after "against": ``"the two-layer, two-head network"``.
    settings : tuple of Parameter
        What can be set of its training, beside the parameters of the reduced system.
    horizon : str
        In reduced training time unless said otherwise, an expression over the parameters.
    plan : callable
        ``plan(system, parameters, *, seeds, t_end, steps, at, clamp, **settings)``: a `Job` for
        every seed, all checked before the first of them begins. All options have defaults.
    seeds : int
        How many are trained unless said otherwise.
    xscale : {"linear", "log"}
        Of time, where the two are drawn.
    further : mapping of str to str
        Observables of the full model that a sweep keeps at the end, and what they mean.
    remarks : callable
        From the (Job, Comparison) pairs to further lines of the report.
    """

    home: str
    title: str
    settings: tuple[Parameter, ...]
    horizon: str
    plan: Callable[..., Sequence[Job]]
    seeds: int = 1
    xscale: str = "linear"
    further: Mapping[str, str] = field(default_factory=dict)
    remarks: Callable[[Sequence[tuple[Job, Comparison]]], Sequence[str]] = lambda done: ()

    def split(
        self, system: ReducedSystem, given: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters of the reduced system and settings of the training, from both in one.

        Raises
        ------
        InputError
            For a name that is neither (with the nearest), or a setting out of range.
        """
        own = {s.name: s for s in self.settings}
        names = [p.name for p in system.parameters]
        parameters, training = {}, {}
        for name, value in given.items():
            if name in names:
                parameters[name] = value
            elif name in own:
                training[name] = own[name].parse(value)
            else:
                raise unknown(f"parameter of {system.name}", name, [*names, *own])
        return parameters, training

    def compare(
        self,
        system: ReducedSystem,
        parameters: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        progress: Progress = silent,
        checkpoint=None,
        **options: Any,
    ) -> Comparison:
        """Train once and lay the reduced flow over the trajectory; `options` are those of `plan`.

        Raises
        ------
        InputError
            For anything that is impossible or contradicts itself.
        TrainingInterrupted, DivergedError
            With the full model's trajectory so far, for `Job.compare`.
        """
        (job,) = self.plan(system, parameters, seeds=[seed], **options)
        return job.run(progress, checkpoint)
