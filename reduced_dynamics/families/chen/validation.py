"""The copier–selector–classifier on finite data: against the recorded run, the population and its
own limit.

A `Run` is one training on one sample of sequences; `summary` lays the spread
of many of them beside the authors' recorded run (`recorded_markov`) and the reduced system's
trajectories, which are those of infinitely many sequences. `limit` says how near the trained model
comes to the generalised induction head, and `transfer` what it does at other lengths and priors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import IntegrationError
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.experiments.comparison import Job
from reduced_dynamics.families.chen import full_model
from reduced_dynamics.families.chen import recorded as recorded_markov
from reduced_dynamics.families.chen.full import model as markov
from reduced_dynamics.families.chen.full import optimum as induction_head
from reduced_dynamics.families.chen.full import training as markov_training
from reduced_dynamics.families.chen.full.model import LOSSES, Weights
from reduced_dynamics.families.chen.full.task import Sequences, sample_sequences
from reduced_dynamics.families.chen.full.training import MarkovConfig
from reduced_dynamics.families.chen.full.windows import compress
from reduced_dynamics.families.chen.full_model import CHEN
from reduced_dynamics.families.chen.population import log10_p
from reduced_dynamics.families.chen.system import CHEN as SYSTEM
from reduced_dynamics.integration.one import integrate, report_at

#: Where a trained model is tested: lengths, and concentrations of the prior on kernels.
LENGTHS, PRIORS = (10, 25, 50, 100, 200, 400), (0.03, 0.1, 0.3, 1.0, 3.0)
#: Fresh sequences of every test.
TESTED = 10_000


@dataclass(frozen=True, eq=False)
class Run:
    """One training on one sample of sequences.

    Attributes
    ----------
    config : MarkovConfig
    full : Trajectory
        Of `train_markov`, perhaps cut short.
    """

    config: MarkovConfig
    full: Trajectory

    @property
    def weights(self) -> Weights:
        """Those at the last recorded time."""
        return markov_training.weights_of(self.full, self.config)

    def at(self, times: Sequence[float]) -> dict[str, np.ndarray]:
        """Columns by name at those of `times` that were reached, shape (times reached,).

        t, a, loss (on the training set), validation_loss, accuracy, and log10_p_… by subset.
        """
        slack = 0.5 * self.config.learning_rate
        reached = [t for t in times if t <= self.full.t_end + slack]
        rows = [int(np.abs(self.full.t - t).argmin()) for t in reached]
        logs = self.full.z[rows, : len(self.config.subsets)]
        return {
            "t": np.array(reached, dtype=float),
            **{k: self.full[k][rows] for k in ("a", "loss", "validation_loss", "accuracy")},
            **{
                f"log10_p_{label}": column
                for label, column in zip(self.config.labels, log10_p(logs).T, strict=True)
            },
        }

    @cached_property
    def limit(self) -> list[dict[str, Any]]:
        """The model at the end and the generalised induction head, on both sets in both losses.

        Rows of set, loss, model, induction_head, bayes, oracle (mean losses) and unmatched, the
        part of the sequences without a match.
        """
        found = []
        for name, sequences in zip(
            ("training", "validation"), markov_training.data(self.config), strict=True
        ):
            means = compare(self.weights, sequences, self.config)
            unmatched = induction_head.unmatched(sequences)
            found += [{"set": name, "unmatched": unmatched, **row} for row in means]
        return found


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
        each = {k: markov.losses(o, sequences.target, loss, config.eps) for k, o in outputs.items()}
        difference = each["model"] - each["induction_head"]
        rows.append(
            {
                "loss": loss,
                **{k: float(v.mean()) for k, v in each.items()},
                **{
                    f"{k}_accuracy": markov.accuracy(o, sequences.target)
                    for k, o in outputs.items()
                },
                "standard_error": float(difference.std() / np.sqrt(len(sequences))),
            }
        )
    return rows


@dataclass(frozen=True)
class Plan:
    """What is to be made: jobs, the reduced system beside them, and the times of the tables.

    Attributes
    ----------
    jobs : tuple of Job
        One for every seed.
    values : mapping
        All parameters of the reduced system.
    at : tuple of float
    """

    jobs: tuple[Job, ...]
    system: ReducedSystem
    values: Mapping[str, Any]
    at: tuple[float, ...]

    @property
    def config(self) -> MarkovConfig:
        return self.jobs[0].config

    @property
    def as_recorded(self) -> bool:
        """Whether this is the recorded run's setting."""
        return all(getattr(self.config, k) == v for k, v in recorded_markov.SETTING.items())


def plan(parameters: Mapping[str, Any] | None = None, **options: Any) -> Plan:
    """The trainings to be made, of `full_model.plan`; `sequences` and the like among parameters."""
    system = SYSTEM
    given, training = CHEN.split(system, parameters or {})
    jobs = full_model.plan(system, given, **training, **options)
    return Plan(tuple(jobs), system, jobs[0].parameters, jobs[0].at)


def population(
    plan: Plan, t_end: float, dynamics: str = "flow", progress=None
) -> Trajectory | None:
    """The reduced system's trajectory: the same model on infinitely many sequences.

    Parameters
    ----------
    plan : Plan
    t_end : float
    dynamics : {"flow", "gd"}
        Gradient flow, or descent with the full model's own steps, a thousand at most; None if
        that diverges.
    progress : callable, optional
        That of `integrate`.
    """
    options = {"t_end": t_end, **full_model.TOLERANCES, "dynamics": dynamics}
    if dynamics == "gd":
        step = plan.config.learning_rate
        options |= {"step": step, "t_end": min(t_end, full_model.DESCENT * step)}
    try:
        return integrate(plan.system, plan.values, progress=progress, **options)
    except IntegrationError:
        return None


def population_at(
    plan: Plan, trajectory: Trajectory, times: Sequence[float]
) -> dict[str, np.ndarray]:
    """Columns of a population's trajectory as those of `Run.at`: t, a, loss, log10_p_…"""
    reached = [min(t, trajectory.t_end) for t in times if t <= trajectory.t_end * (1 + 1e-9)]
    table = report_at(plan.system.adapted(plan.values), trajectory, reached)
    labels = plan.config.labels
    logs = np.array([table[f"c_{label}"] for label in labels]).T
    columns = {name: np.array(table[name]) for name in ("t", "a", "loss")}
    return columns | {
        f"log10_p_{label}": column for label, column in zip(labels, log10_p(logs).T, strict=True)
    }


def summary(plan: Plan, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every quantity at every reported time, over the runs that reached it.

    Rows of quantity, t, count, mean, sd (nan for one run), recorded and z (None where nothing was
    recorded, or the setting is another). z is recorded − mean over √(sd² + unit²/12), the unit
    being that of the recorded number's last digit; None too where all runs agree, at the start.
    """
    tables = [run.at(plan.at) for run in runs]
    found = []
    for quantity in ("a", "loss", *(f"log10_p_{label}" for label in plan.config.labels)):
        for k, t in enumerate(plan.at):
            values = np.array([table[quantity][k] for table in tables if k < len(table["t"])])
            if not values.size:
                continue
            sd = float(values.std(ddof=1)) if values.size > 1 else np.nan
            said = recorded_markov.recorded(quantity, t) if plan.as_recorded else None
            z = None
            if said is not None and sd > 1e-12:
                spread = np.hypot(sd, said[1] / np.sqrt(12.0))
                z = float((said[0] - values.mean()) / spread)
            found.append(
                {
                    "quantity": quantity,
                    "t": t,
                    "count": int(values.size),
                    "mean": float(values.mean()),
                    "sd": sd,
                    "recorded": None if said is None else said[0],
                    "z": z,
                }
            )
    return found


def transfer(
    run: Run,
    lengths: Sequence[int] = LENGTHS,
    priors: Sequence[float] = PRIORS,
    count: int = TESTED,
    progress=None,
) -> list[dict[str, Any]]:
    """The trained model on fresh sequences of other lengths and from other kernels.

    Parameters
    ----------
    run : Run
    lengths : sequence of int
        Lengths of the input, the prior being that of training.
    priors : sequence of float
        Concentrations δ, the length being that of training.
    count : int
        Sequences of every test, the same for all models compared; seeded by the run's seed.
    progress : callable, optional
        ``progress(done, all)``.

    Returns
    -------
    list of dict
        Rows of L, dirichlet, unmatched and the keys of `compare`, two (losses) for every test.
    """
    config = run.config
    tests = [(L, config.dirichlet) for L in lengths] + [(config.L, d) for d in priors]
    tests = list(dict.fromkeys(tests))
    for L, dirichlet in tests:  # all are checked before the first is made
        replace(config, L=L, dirichlet=dirichlet, sequences=count, validation=1)
    stream = np.random.SeedSequence(config.seed).spawn(3)[2]  # two are the training's
    found = []
    for k, (L, dirichlet) in enumerate(tests):
        rng = np.random.default_rng(stream)
        sequences = sample_sequences(count, config.S, config.n, L, dirichlet, rng)
        about = {"L": L, "dirichlet": dirichlet, "unmatched": induction_head.unmatched(sequences)}
        found += [about | row for row in compare(run.weights, sequences, config)]
        if progress is not None:
            progress(k + 1, len(tests))
    return found
