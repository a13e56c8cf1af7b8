"""The copier–selector–classifier on finite data: against the recorded run, the population and its
own limit.

A `Job` is one training on one sample of sequences, its result a `Run`; `summary` lays the spread
of many of them beside the authors' recorded run (`recorded_markov`) and the reduced system's
trajectories, which are those of infinitely many sequences. `limit` says how near the trained model
comes to the generalised induction head, and `transfer` what it does at other lengths and priors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError, IntegrationError
from reduced_dynamics.core.expressions import evaluate
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.system import Parameter, ReducedSystem, numeric
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.chen import recorded as recorded_markov
from reduced_dynamics.families.chen.full import model as markov
from reduced_dynamics.families.chen.full import optimum as induction_head
from reduced_dynamics.families.chen.full import training as markov_training
from reduced_dynamics.families.chen.full.model import LOSSES, Weights
from reduced_dynamics.families.chen.full.task import Sequences, sample_sequences
from reduced_dynamics.families.chen.full.training import MarkovConfig, train_markov
from reduced_dynamics.families.chen.full.windows import compress
from reduced_dynamics.families.chen.population import log10_p
from reduced_dynamics.families.chen.system import CHEN
from reduced_dynamics.families.musat.validation import check_steps
from reduced_dynamics.integration.one import integrate, report_at

#: The default horizon, and how many seeds: five trainings of a second or two.
HORIZON, SEEDS = 1000.0, 5
#: Rows kept: every step at first, then evenly in the logarithm of time.
EVERY, ROWS = 20, 120
#: Parameters of the finite model alone.
OWN = (
    Parameter("sequences", 9000, "sequences of the training set", "int", 1, 10**8),
    Parameter("validation", 1000, "sequences never trained on", "int", 1, 10**8),
)
#: Where a trained model is tested: lengths, and concentrations of the prior on kernels.
LENGTHS, PRIORS = (10, 25, 50, 100, 200, 400), (0.03, 0.1, 0.3, 1.0, 3.0)
#: Fresh sequences of every test.
TESTED = 10_000
#: The population beside finite data: sequences of their length, and so many that the bank's noise
#: (half a percent of a with 2000) is far below the three percent to be told apart; fewer, but no
#: fewer than a few, where windows are so many that a bank would outgrow that of the recorded run.
POPULATION = {"limit": "finite", "kernels": 8192}
FEW = 128
#: The population descends no further than this many steps: later the flow is the same.
DESCENT = 1000
#: Tolerances of the population flow, far below the spread of finite data.
_RTOL, _ATOL = 1e-6, 1e-9


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
class Job:
    """One training to be made.

    Attributes
    ----------
    config : MarkovConfig
    """

    config: MarkovConfig

    @property
    def label(self) -> str:
        return f"seed {self.config.seed}"

    def file(self, path) -> str:
        """A name of its own, made from the one that many jobs share."""
        root, end = os.path.splitext(os.fspath(path))
        return f"{root}-seed{self.config.seed}{end}"

    def run(self, progress: Progress = silent, checkpoint=None) -> Run:
        """Train; arguments and errors are those of `train_markov`."""
        return self.compare(train_markov(self.config, progress, checkpoint)[0])

    def compare(self, full: Trajectory) -> Run:
        """What was recorded, perhaps of a training that was cut short."""
        return Run(self.config, full)


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


def _kernels(parameters: Mapping[str, Any]) -> int:
    """How many kernels stand for the population: a bank no larger than the recorded run's, or few.

    Their tables have an entry for every window of 2H - 1 states and the next one.
    """
    known = {p.name: p for p in CHEN.parameters}
    S, H = (known[k].parse(parameters.get(k, known[k].default)) for k in "SH")
    usual, each = 3**6, S ** (2 * H)
    return int(min(POPULATION["kernels"], max(POPULATION["kernels"] * usual / each, FEW)))


def plan(
    parameters: Mapping[str, Any] | None = None,
    *,
    seeds: int | Sequence[int] = SEEDS,
    t_end: float | str | None = None,
    steps: int | None = None,
    at: Sequence[float] | None = None,
    learning_rate: float = 1.0,
) -> Plan:
    """The trainings to be made, all checked before the first of them begins.

    Parameters
    ----------
    parameters : mapping, optional
        Of the reduced system `chen`, and `sequences` and `validation`, the sizes of the data;
        `limit` and `kernels`, of the population alone, are those of `POPULATION` by default.
    seeds : int or sequence of int
        Of the data: how many, counted from 0, or which.
    t_end : float or str, optional
        Horizon, step × learning rate; or an expression over the parameters.
    steps : int, optional
        Number of steps instead.
    at : sequence of float, optional
        Times that tables report; the recorded run's by default.
    learning_rate : float

    Raises
    ------
    InputError
        For anything that is impossible or contradicts itself.
    """
    given = POPULATION | {"kernels": _kernels(parameters or {})} | dict(parameters or {})
    own = {p.name: p.parse(given.pop(p.name, p.default)) for p in OWN}
    system = CHEN
    values = system.values(given)
    if not 0.0 < learning_rate < np.inf:
        raise InputError(f"the learning rate must be positive, not {learning_rate:g}")
    if steps is None:
        t_end = HORIZON if t_end is None else t_end
        known = numeric(values) | own
        horizon = evaluate(t_end, known) if isinstance(t_end, str) else float(t_end)
        if not 0.5 * learning_rate <= horizon < np.inf:
            raise InputError(
                f"the horizon must be at least one step, {learning_rate:g}, not {horizon:g}; "
                "mend t_end, or the learning rate"
            )
        check_steps(horizon / learning_rate, learning_rate)
        steps = max(1, round(horizon / learning_rate))
    shared = {f.name for f in fields(MarkovConfig)} & values.keys() - {"seed"}
    base = MarkovConfig(
        **{name: values[name] for name in shared},
        **own,
        learning_rate=learning_rate,
        steps=steps,
        record=1,
    )
    last = steps * learning_rate
    if at is None:
        at = [t for t in recorded_markov.TIMES if t < last] + [last]
    outside = [t for t in at if not 0 <= t <= last]
    if outside:
        raise InputError(
            f"the times to report must lie between 0 and {last:g}, the horizon; {outside[0]:g} "
            "does not"
        )
    kept = {*range(min(EVERY, steps) + 1), *np.rint(np.geomspace(1, steps, ROWS)).astype(int)}
    record = tuple(sorted({*(float(k * learning_rate) for k in kept), *map(float, at)}))
    base = replace(base, record=record)
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not chosen:
        raise InputError("at least one seed is needed; give a number or a list")
    if len(set(chosen)) < len(chosen):
        raise InputError("a seed is given twice; runs with the same seed are the same run")
    jobs = tuple(Job(replace(base, seed=seed)) for seed in chosen)
    return Plan(jobs, system, values, tuple(map(float, at)))


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
    options = {"t_end": t_end, "rtol": _RTOL, "atol": _ATOL, "dynamics": dynamics}
    if dynamics == "gd":
        step = plan.config.learning_rate
        options |= {"step": step, "t_end": min(t_end, DESCENT * step)}
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
