"""The copier–selector–classifier on finite data: against the recorded run, the population and its
own limit.

`summary` lays the spread of many trainings beside the authors' recorded run (`chen.recorded`), and
`population` makes the reduced system's trajectories, which are those of infinitely many sequences.
`limit` says how near a trained model comes to the generalised induction head, and `transfer` what
it does at other lengths and priors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import IntegrationError
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.experiments.comparison import Job
from reduced_dynamics.families.chen import recorded
from reduced_dynamics.families.chen.full import model as markov
from reduced_dynamics.families.chen.full import optimum as induction_head
from reduced_dynamics.families.chen.full.model import LOSSES, Weights
from reduced_dynamics.families.chen.full.task import Sequences, sample_sequences
from reduced_dynamics.families.chen.full.training import MarkovConfig, data, weights_of
from reduced_dynamics.families.chen.full.windows import compress
from reduced_dynamics.families.chen.full_model import CHEN
from reduced_dynamics.families.chen.population import log10_p
from reduced_dynamics.families.chen.system import CHEN as SYSTEM
from reduced_dynamics.integration.one import integrate, report_at

#: Where a trained model is tested: lengths, and concentrations of the prior on kernels.
LENGTHS, PRIORS = (10, 25, 50, 100, 200, 400), (0.03, 0.1, 0.3, 1.0, 3.0)


def plan(parameters: Mapping[str, Any] | None = None, **options: Any) -> list[Job]:
    """The trainings to be made, of `full_model.plan`; `sequences` and the like among parameters."""
    given, training = CHEN.split(SYSTEM, parameters or {})
    return CHEN.plan(SYSTEM, given, **training, **options)


def as_recorded(config: MarkovConfig) -> bool:
    """Whether this is the recorded run's setting."""
    return all(getattr(config, k) == v for k, v in recorded.SETTING.items())


# ---------------------------------------------------------------- the end of a training


def limit(full: Trajectory, config: MarkovConfig) -> list[dict[str, Any]]:
    """The model at the end and the generalised induction head, on both sets in both losses.

    Rows of set, unmatched, the part of the sequences without a match, and the keys of `compare`.
    """
    return [
        {"set": name, "unmatched": induction_head.unmatched(sequences), **row}
        for name, sequences in zip(("training", "validation"), data(config), strict=True)
        for row in compare(weights_of(full, config), sequences, config)
    ]


def compare(weights: Weights, sequences: Sequences, config: MarkovConfig) -> list[dict[str, Any]]:
    """Mean losses and accuracies of the model and of what could be done, a row for each loss.

    Keys: loss, then of model, induction_head, bayes and oracle the mean loss, and with
    ``_accuracy`` how often the likeliest state is the target; ``standard_error`` of the
    difference model − induction_head.
    """
    model = markov.outputs(weights, compress(sequences, config.H))
    head = induction_head.induction_head(sequences)
    posterior = induction_head.posterior(sequences)
    rows = []
    for loss in LOSSES:
        outputs = {
            "model": model,
            "induction_head": head,
            "bayes": induction_head.best_output(posterior, loss),
            "oracle": induction_head.best_output(sequences.truth, loss),
        }
        target = sequences.target
        each = {k: markov.losses(o, target, loss, config.eps) for k, o in outputs.items()}
        difference = each["model"] - each["induction_head"]
        row = {"loss": loss} | {k: float(v.mean()) for k, v in each.items()}
        row |= {f"{k}_accuracy": markov.accuracy(o, target) for k, o in outputs.items()}
        rows.append(row | {"standard_error": float(difference.std() / np.sqrt(len(sequences)))})
    return rows


def transfer(
    full: Trajectory,
    config: MarkovConfig,
    lengths: Sequence[int] = LENGTHS,
    priors: Sequence[float] = PRIORS,
    count: int = 10_000,
) -> list[dict[str, Any]]:
    """The trained model on fresh sequences of other lengths and from other kernels.

    Rows of L, dirichlet, unmatched and the keys of `compare`, two (losses) for every test. At
    other lengths of the input the prior is that of training, with other concentrations δ the
    length. The `count` sequences of a test are the same for all models compared; they are seeded
    by the training's seed.
    """
    tests = [(L, config.dirichlet) for L in lengths] + [(config.L, d) for d in priors]
    tests = list(dict.fromkeys(tests))
    for L, dirichlet in tests:  # all are checked before the first is made
        replace(config, L=L, dirichlet=dirichlet, sequences=count, validation=1)
    stream = config.streams(3)[2]  # two are the training's
    found = []
    for L, dirichlet in tests:
        rng = np.random.default_rng(stream)
        sequences = sample_sequences(count, config.S, config.n, L, dirichlet, rng)
        about = {"L": L, "dirichlet": dirichlet, "unmatched": induction_head.unmatched(sequences)}
        found += [about | row for row in compare(weights_of(full, config), sequences, config)]
    return found


# ---------------------------------------------------------------- beside the recorded run


def population(job: Job, t_end: float, dynamics: str = "flow", progress=None) -> Trajectory | None:
    """The reduced system's trajectory: the same model on infinitely many sequences.

    `job` is any seed's. By gradient flow, or with "gd" by descent with the full model's own steps,
    a thousand at most; None if that diverges.
    """
    options = {"t_end": t_end, "dynamics": dynamics}
    if dynamics == "gd":
        step = job.config.learning_rate
        options |= {"step": step, "t_end": min(t_end, job.most_descended * step)}
    try:
        return integrate(
            job.system, job.parameters, progress=progress, **{**job.integration, **options}
        )
    except IntegrationError:
        return None


def at_times(full: Trajectory, job: Job) -> dict[str, np.ndarray]:
    """Columns t, a, loss (on the training set), log10_p_… by subset, shape (times reached,).

    At the recorded rows nearest to those of the job's times that training reached.
    """
    slack = 0.5 * job.config.learning_rate
    reached = [t for t in job.at if t <= full.t_end + slack]
    rows = [int(np.abs(full.t - t).argmin()) for t in reached]
    columns = {"t": np.array(reached, dtype=float)} | {k: full[k][rows] for k in ("a", "loss")}
    return columns | _by_subset(full.z[rows, : len(job.config.subsets)], job)


def population_at(trajectory: Trajectory, job: Job) -> dict[str, np.ndarray]:
    """Columns of a population's trajectory as those of `at_times`, at the times themselves."""
    end = trajectory.t_end
    reached = [min(t, end) for t in job.at if t <= end * (1 + 1e-9)]
    table = report_at(job.system.adapted(job.parameters), trajectory, reached)
    logs = np.array([table[f"c_{label}"] for label in job.config.labels]).T
    return {name: np.array(table[name]) for name in ("t", "a", "loss")} | _by_subset(logs, job)


def _by_subset(logs: np.ndarray, job: Job) -> dict[str, np.ndarray]:
    columns = zip(job.config.labels, log10_p(logs).T, strict=True)
    return {f"log10_p_{label}": column for label, column in columns}


def summary(job: Job, runs: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """Every quantity at every reported time, over the runs that reached it.

    Rows of quantity, t, count, mean, sd (nan for one run), recorded and z (None where nothing was
    recorded, or the setting is another). z is recorded − mean over √(sd² + unit²/12), the unit
    being that of the recorded number's last digit; None too where all runs agree, at the start.
    `job` is any seed's.
    """
    tables = [at_times(run, job) for run in runs]
    found = []
    for quantity in [name for name in tables[0] if name != "t"]:
        for k, t in enumerate(job.at):
            values = np.array([table[quantity][k] for table in tables if k < len(table["t"])])
            if not values.size:
                continue
            mean, sd = values.mean(), float(values.std(ddof=1)) if values.size > 1 else np.nan
            known = recorded.recorded(quantity, t) if as_recorded(job.config) else None
            said, unit = known or (None, None)
            z = None
            if said is not None and sd > 1e-12:
                z = float((said - mean) / np.hypot(sd, unit / np.sqrt(12.0)))
            row = {"quantity": quantity, "t": t, "count": values.size, "mean": float(mean)}
            found.append(row | {"sd": sd, "recorded": said, "z": z})
    return found
