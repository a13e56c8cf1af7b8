"""The copier, selector and classifier on finite data beside `chen`, which has infinitely many.

What is compared is what the model does: a, the copier's W and the selector's p. The weights c of
subsets that have died differ by orders of magnitude from one sample to the next, unseen in p.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.system import Parameter, ReducedSystem
from reduced_dynamics.experiments.comparison import Job, schedule
from reduced_dynamics.experiments.full import SEED, FullModel
from reduced_dynamics.families.chen import recorded as recorded_markov
from reduced_dynamics.families.chen.full.training import MarkovConfig, train_markov

#: The default horizon, and how many seeds: five trainings of a second or two.
HORIZON, SEEDS = "1000", 5
#: Rows kept: every step at first, then evenly in the logarithm of time.
EVERY, ROWS = 20, 120
#: The population beside finite data: sequences of their length, and so many that the bank's noise
#: (half a percent of a with 2000) is far below the three percent to be told apart; fewer, but no
#: fewer than a few, where windows are so many that a bank would outgrow that of the recorded run.
POPULATION = {"limit": "finite", "kernels": 8192}
FEW = 128
#: The population descends no further than this many steps: later the flow is the same.
DESCENT = 1000
#: Tolerances of the population flow, far below the spread of finite data.
TOLERANCES = {"rtol": 1e-6, "atol": 1e-9}


def plan(
    system: ReducedSystem,
    parameters: Mapping[str, Any] | None = None,
    *,
    seeds: int | Sequence[int] = SEEDS,
    t_end: float | str = HORIZON,
    steps: int | None = None,
    at: Sequence[float] | None = None,
    clamp: Mapping[str, Any] | None = None,
    **training: Any,
) -> list[Job]:
    """The trainings to be made, all checked before the first of them begins.

    Parameters
    ----------
    system : ReducedSystem
        `chen`.
    parameters : mapping, optional
        The system's; `limit` and `kernels`, of the population alone, are those of `POPULATION` by
        default.
    seeds, t_end, steps
        Those of `experiments.comparison.schedule`; seeds are those of the data.
    at : sequence of float, optional
        Times that tables report; the recorded run's by default.
    clamp : mapping
        Empty: parts of the model are held by the parameter `training`.
    **training
        sequences, validation and learning_rate of `MarkovConfig`.

    Raises
    ------
    InputError
        For anything that is impossible or contradicts itself.
    """
    if clamp:
        raise InputError(
            f"the full model of {system.name} holds no coordinate fixed; hold parts of it by "
            "--set training=C (or W, or a, or C-W-a in some order)"
        )
    given = dict(parameters or {})
    values = system.values({**POPULATION, "kernels": _kernels(system, given), **given})
    shared = {f.name for f in fields(MarkovConfig)} & values.keys() - {"seed"}
    base = MarkovConfig(**{name: values[name] for name in shared}, **training)
    options = {"t_end": t_end, "steps": steps, "seeds": seeds}
    if at is None:
        ((config, _),) = schedule(base, values, **options | {"seeds": [0]})
        last = config.steps * config.learning_rate
        at = [t for t in recorded_markov.TIMES if t < last] + [last]
    form, flows = system.adapted(values), {}
    moving = [name for name in form.names if not name.startswith("c_")]
    selector = [o.name for o in form.observables if o.name != "p_top"]
    return [
        Job(
            system, values, config, train_markov, times, compared=(*moving, *selector),
            integration=TOLERANCES, most_descended=DESCENT, flows=flows,
        )
        for config, times in schedule(base, values, at=at, record=_rows, **options)
    ]  # fmt: skip


def _rows(horizon: float, step: float) -> list[float]:
    steps = max(1, round(horizon / step))
    kept = {*range(min(EVERY, steps) + 1), *np.rint(np.geomspace(1, steps, ROWS)).astype(int)}
    return [float(k * step) for k in sorted(kept)]


def _kernels(system: ReducedSystem, parameters: Mapping[str, Any]) -> int:
    """How many kernels stand for the population: a bank no larger than the recorded run's, or few.

    Their tables have an entry for every window of 2H - 1 states and the next one.
    """
    known = {p.name: p for p in system.parameters}
    S, H = (known[k].parse(parameters.get(k, known[k].default)) for k in "SH")
    usual, each = 3**6, S ** (2 * H)
    return int(min(POPULATION["kernels"], max(POPULATION["kernels"] * usual / each, FEW)))


def _remarks(done) -> list[str]:
    config, accuracy = done[0][0].config, [c.full["accuracy"][-1] for _, c in done]
    return [
        f"full batch of {config.sequences} sequences; t = step x learning rate; accuracy at the "
        f"end {np.mean(accuracy):.4f}; the authors' recorded run beside these: "
        "experiment chen.recorded"
    ]


CHEN = FullModel(
    home=f"{__name__}:CHEN",
    title="all weights of the copier, selector and classifier on finite data",
    settings=(
        SEED,
        Parameter("sequences", 9000, "sequences of the training set", "int", 1, 10**8),
        Parameter("validation", 1000, "sequences never trained on", "int", 1, 10**8),
        Parameter("learning_rate", 1.0, "of gradient descent", "float", 0.0),
    ),
    horizon=HORIZON,
    plan=plan,
    seeds=SEEDS,
    xscale="log",
    further={"validation_loss": "loss on sequences never trained on", "accuracy": "on these"},
    swept_beside=False,
    remarks=_remarks,
)
