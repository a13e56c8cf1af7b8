"""The disentangled transformer beside `musat19` and `musat3`.

The times match by t = step × learning rate / D (arXiv 2511.01033, Theorem 1: every basis matrix of
the subspace has squared Frobenius norm D).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.system import Parameter, ReducedSystem
from reduced_dynamics.experiments.comparison import Job, descends_the_gradient, schedule
from reduced_dynamics.experiments.full import SEED, FullModel
from reduced_dynamics.families.musat.full.disentangled import COORDINATES
from reduced_dynamics.families.musat.full.disentangled_training import TrainingConfig, train

#: Pairs, unless said otherwise: training all 28 D² weights takes seconds.
PAIRS = 4
#: The default horizon: 160 at four pairs, twice the time at which the head forms, t ~ 5 N².
HORIZON = "10*N**2"
OPTIMISERS = ("sgd", "momentum")


def plan(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    seeds: int | Sequence[int] = 1,
    t_end: float | str = HORIZON,
    steps: int | None = None,
    at: Sequence[float] | None = None,
    clamp: Mapping[str, Any] | None = None,
    **training: Any,
) -> list[Job]:
    """The comparisons to be made: see `FullModel`.

    The system is one whose coordinates are among the disentangled transformer's 19; those that it
    lacks are held at 0 in the full model. Unless given, N is 4 and D is 4N. `training` takes batch,
    learning_rate, optimiser ("sgd", or "momentum" in the time of its long steps), init_scale and
    perturbation of `TrainingConfig`.
    """
    values = _values(system, parameters or {})
    descends_the_gradient(training.get("optimiser", "sgd"), OPTIMISERS)
    held = {name: system.place(name, value) for name, value in (clamp or {}).items()}
    base = TrainingConfig(
        N=values["N"],
        D=values["D"],
        inputs=values.get("inputs", "orthonormal"),
        query=values["query"],
        self_attention=values["self_attention"],
        steps=1,
        clamp={name: 0.0 for name in COORDINATES if name not in system.names} | held,
        **training,
    )
    planned = schedule(base, values, t_end=t_end, steps=steps, at=at, seeds=seeds)
    flows: dict = {}
    return [Job(system, values, one, train, times, held, flows=flows) for one, times in planned]


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


def _remarks(done) -> list[str]:
    config, first = done[0][0].config, done[0][1]
    lines = [
        f"{28 * config.D**2} weights are trained; t = step x learning rate / "
        f"{first.full.time_scale:g}; norms are Frobenius, loss full is that of one minibatch"
    ]
    if config.clamp:
        lines.append(f"{len(config.clamp)} coordinates of the full model are held")
    return lines


MUSAT = FullModel(
    home=f"{__name__}:MUSAT",
    title="all weights of the disentangled transformer",
    settings=(
        SEED,
        *TrainingConfig.settable("batch", "learning_rate"),
        Parameter("optimiser", "sgd", "how it descends", "choice", choices=OPTIMISERS),
        *TrainingConfig.settable("init_scale", "perturbation"),
    ),
    horizon=HORIZON,
    plan=plan,
    further={"outside_over_inside": "norm outside the subspace over that inside it"},
    remarks=_remarks,
)
