"""The two-layer, two-head network beside the reduced flow of the mixed target, `wang`.

The network is trained on M sequences that are drawn once, or on fresh minibatches. The error of
finite M is that of the sequences' own gradient flow against the reduced one; the error of finite
steps that of descent against the flow of the same sequences.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.system import Parameter, ReducedSystem
from reduced_dynamics.experiments.comparison import Job, descends_the_gradient, schedule
from reduced_dynamics.experiments.full import SEED, FullModel
from reduced_dynamics.families.wang.full.mixed_target_training import (
    MixedTargetConfig,
    train_mixed_target,
)

#: The default horizon: 3680 at the paper's values, a fifth more than it takes to converge.
HORIZON = "1.2 * L * (1 + alpha_star)**2 / w_star**teacher_exponent * log(1 / sigma_init)"
#: The reduced system's parameters that are the full model's as well.
SHARED = ("L", "alpha_star", "w_star", "sigma_init", "teacher_exponent", "training")
#: At how many even intervals rows are kept; events are interpolated between them.
INTERVALS = 400
OPTIMISERS = ("sgd", "momentum", "flow")


def plan(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    seeds: int | Sequence[int] = 1,
    t_end: float | str | None = None,
    steps: int | None = None,
    at: Sequence[float] | None = None,
    clamp: Mapping[str, Any] | None = None,
    **training: Any,
) -> list[Job]:
    """The comparisons to be made: see `FullModel`.

    The horizon of Stage II is `HORIZON` by default; the others have none. `training` takes
    sequences, batch, learning_rate, optimiser ("sgd", "momentum" in the time of its long steps, or
    "flow") and start of `MixedTargetConfig`.
    """
    values = system.values(parameters or {})
    adapted = system.adapted(values)
    descends_the_gradient(training.get("optimiser", "sgd"), OPTIMISERS)
    if t_end is None and steps is None and values["training"] != "stage2":
        raise InputError(
            f"training={values['training']} has no horizon of its own; give t_end (--t-end)"
        )
    held = {name: adapted.place(name, value) for name, value in (clamp or {}).items()}
    base = MixedTargetConfig(
        **{name: values[name] for name in SHARED},
        clamp=held,
        steps=1,
        **{"learning_rate": 0.5} | training,
    )
    planned = schedule(
        base, values, t_end=HORIZON if t_end is None else t_end, steps=steps, at=at, seeds=seeds,
        record=INTERVALS,
    )  # fmt: skip
    flows: dict = {}
    return [
        Job(adapted, values, config, train_mixed_target, times, held, flows=flows)
        for config, times in planned
    ]


def _remarks(done) -> list[str]:
    config = done[0][0].config
    data = f"batch {config.batch}, measured on" if config.batch else "full batch of"
    return [
        f"{data} {config.sequences} sequences; t = step x learning rate; L_IH_over_L_sad of the "
        "full model is relative to the saddle of its own sequences"
    ]


WANG = FullModel(
    home=f"{__name__}:WANG",
    title="the two-layer, two-head network",
    settings=(
        SEED,
        *MixedTargetConfig.settable("sequences"),
        Parameter("batch", None, "fresh sequences a step, instead of these", "int", 1, 10**9),
        Parameter("learning_rate", 0.5, "of gradient descent", "float", 0.0),
        Parameter("optimiser", "sgd", "how it descends", "choice", choices=OPTIMISERS),
    ),
    horizon=HORIZON,
    plan=plan,
    remarks=_remarks,
)
