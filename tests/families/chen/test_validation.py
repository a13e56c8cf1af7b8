"""The copier–selector–classifier against the recorded run, its limit and its transfer."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.chen import recorded as recorded_markov
from reduced_dynamics.families.chen.full import model as markov
from reduced_dynamics.families.chen.full import optimum as induction_head
from reduced_dynamics.families.chen.full import training as markov_training
from reduced_dynamics.families.chen.full.training import MarkovConfig, weights_of
from reduced_dynamics.families.chen.population import log10_p
from reduced_dynamics.families.chen.validation import (
    as_recorded,
    compare,
    limit,
    plan,
    summary,
    transfer,
)

ROOT = Path(__file__).resolve().parents[3]
TINY = {"sequences": 200, "validation": 50, "kernels": 16}
TINY_OPTIONS = [part for k, v in TINY.items() for part in ("--set", f"{k}={v}")]


@pytest.fixture(scope="module")
def five():
    """Five seeds at the recorded run's setting, to t = 100."""
    jobs = plan(t_end=100)
    return jobs, [job.trained() for job in jobs]


def test_the_recorded_run_lies_within_the_spread_of_seeds(five):
    jobs, runs = five
    assert as_recorded(jobs[0].config) and [job.config.seed for job in jobs] == [0, 1, 2, 3, 4]
    rows = summary(jobs[0], runs)
    scores = {(row["quantity"], row["t"]): row["z"] for row in rows if row["z"] is not None}
    # All but what is the same for every seed: the start, and p of {1, 2} at the end.
    assert max(map(abs, scores.values())) < 3
    assert sum(abs(z) < 2 for z in scores.values()) >= 25 and len(scores) == 27
    # The spread of an independent implementation, a = .711 ± .010 and 4.279 ± .021.
    by = {(row["quantity"], row["t"]): row for row in rows}
    assert by["a", 10.0]["mean"] == pytest.approx(0.711, abs=0.015)
    assert by["a", 100.0]["mean"] == pytest.approx(4.279, abs=0.03)
    assert 0.003 < by["a", 10.0]["sd"] < 0.03 and by["a", 0.0]["z"] is None
    for run in runs:
        assert run["p_12"][-1] > 1 - 1e-12
        assert 8 < run.events["T_selected"] < 11


def test_descent_overshoots_before_it_settles(five):
    """A step of 1 is no flow: while |c| is small c_∅ alternates in sign and grows once more.

    The factor 1 − 2η(∂loss/∂p_∅ − mean)/|c|² of a step falls below −1 at t = 7, with p_∅ down to
    10⁻⁴; it grows to a fifth at t = 13, the loss rises, and the growth of |c| ends it.
    """
    for full in five[1]:
        early = full.t <= 20
        p, t = full["p_empty"][early], full.t[early]
        assert p[(t > 4) & (t < 9)].min() < 1e-3
        assert 0.1 < p[t > 8].max() < 0.4 and t[t > 8][p[t > 8].argmax()] in (12, 13)
        assert 1e-3 < full.loss_rise < 1e-2
        length = np.exp(0.5 * np.logaddexp.reduce(full.z[:, :7], axis=1))
        assert np.all(np.diff(length) >= -1e-12)
        assert length[0] == pytest.approx(0.0265, abs=1e-4)
        assert length[t.tolist().index(10.0)] == pytest.approx(0.177, abs=0.01)
        assert length[-1] == pytest.approx(0.37, abs=0.01)


def test_scores_count_rounding_and_spread():
    job = plan(t_end=10, seeds=3)[0]

    def made(a, offset):
        config = job.config
        z = np.zeros((2, len(config.coordinates)))
        z[:, -1] = 0.01, a
        z[1, 0] = offset
        loss = np.array([0.9, 0.8])
        return Trajectory("markov", config.coordinates, np.array([0.0, 10.0]), z, loss)

    rows = summary(job, [made(a, k) for k, a in enumerate((0.69, 0.70, 0.72))])
    row = next(r for r in rows if (r["quantity"], r["t"]) == ("a", 10.0))
    sd = np.std([0.69, 0.70, 0.72], ddof=1)
    mean = (0.69 + 0.70 + 0.72) / 3
    assert row["mean"] == pytest.approx(mean) and row["sd"] == pytest.approx(sd)
    assert row["z"] == pytest.approx((0.7011 - mean) / np.hypot(sd, 1e-4 / 12**0.5))
    single = summary(job, [made(0.7, 0)])
    assert all(r["z"] is None and np.isnan(r["sd"]) for r in single)
    assert next(r for r in single if r["quantity"] == "a")["recorded"] == 0.01


def test_what_was_recorded_keeps_its_digits():
    assert recorded_markov.recorded("a", 100) == (4.2781, pytest.approx(1e-4))
    assert recorded_markov.recorded("loss", 50_000.0) == (0.6496, pytest.approx(1e-5))
    assert recorded_markov.recorded("log10_p_3", 30) == (-29.7, pytest.approx(0.1))
    assert recorded_markov.recorded("log10_p_empty", 100) == (-73, 1)
    assert recorded_markov.recorded("log10_p_3", 1000) is None
    assert recorded_markov.recorded("a", 11) is None and recorded_markov.recorded("b", 10) is None
    for name, value in recorded_markov.SETTING.items():
        assert getattr(MarkovConfig(), name) == value


def test_log10_p_reaches_below_the_smallest_number():
    found = log10_p(np.array([0.0, np.log(3.0), -3000.0]))
    assert found[:2] == pytest.approx(np.log10([0.25, 0.75]))
    assert found[2] == pytest.approx(-3000 / np.log(10) - np.log10(4))


@pytest.mark.parametrize(
    ("parameters", "options", "said"),
    [
        ({"sequence": 5}, {}, "did you mean"),
        ({"sequences": 0}, {}, "out of range"),
        ({"H": 1, "degree": 1}, {}, "H = 1 heads"),
        ({"degree": 4}, {}, "degree = 4"),
        ({"dirichlet": 0}, {}, "dirichlet"),
        ({"L": 4}, {}, "L = 4 is shorter"),
        ({"sequences": 10**8}, {}, "GiB"),
        ({"training": "C-W-C"}, {}, "training"),
        ({}, {"at": [20.0], "steps": 10}, "between 0 and 10"),
        ({}, {"t_end": 0}, "that of one step"),
        ({}, {"seeds": []}, "at least one seed"),
        ({}, {"learning_rate": -1.0, "steps": 3}, "learning rate must be"),
    ],
)
def test_impossible_plans_are_refused(parameters, options, said):
    with pytest.raises(InputError, match=re.escape(said)):
        plan(parameters, **options)


def test_plans_follow_their_parameters():
    (found,) = plan(TINY | {"S": 4, "training": "C-W-a"}, t_end="2*S", learning_rate=0.5, seeds=[3])
    assert found.config.steps == 16 and found.config.S == 4 and found.config.sequences == 200
    assert found.config.training == "C-W-a" and found.config.seed == 3
    assert found.at == (0.0, 8.0) and not as_recorded(found.config)
    assert found.file("a/b.npz") == "a/b-seed3.npz"


def test_the_trained_model_comes_near_the_induction_head(five):
    config, full = five[0][0].config, five[1][0]
    rows = {(row["set"], row["loss"]): row for row in limit(full, config)}
    sequences, held_out = markov_training.data(config)
    training = rows["training", "ce"]
    assert training["model"] == pytest.approx(full.loss[-1], rel=1e-12)
    head = induction_head.induction_head(sequences)
    expected = markov.losses(head, sequences.target, "ce", 0.0).mean()
    assert training["induction_head"] == pytest.approx(expected, rel=1e-12)
    assert 0.01 < training["model"] - training["induction_head"] < 0.03
    for row in rows.values():
        assert row["induction_head"] > row["bayes"] > row["oracle"]
    # On the logarithmic loss the head pays for a state never seen, and a finite a does better.
    assert rows["training", "log"]["model"] < rows["training", "log"]["induction_head"]
    unmatched = induction_head.unmatched(held_out)
    assert rows["validation", "ce"]["unmatched"] == unmatched


def test_transfer_to_other_lengths_and_priors(five):
    config, full = five[0][0].config, five[1][0]
    rows = transfer(full, config, lengths=(10, 100), priors=(0.1, 1.0), count=4000)
    assert [(r["L"], r["dirichlet"]) for r in rows[::2]] == [(10, 0.1), (100, 0.1), (100, 1.0)]
    by = {(r["L"], r["dirichlet"], r["loss"]): r for r in rows}
    for row in rows:
        assert row["bayes"] > row["oracle"] and row["model"] > row["bayes"]
        assert row["oracle_accuracy"] >= row["bayes_accuracy"] - 0.02
    # Fewer matches and flatter kernels are harder.
    assert by[10, 0.1, "ce"]["model"] > by[100, 0.1, "ce"]["model"] + 0.05
    assert by[100, 1.0, "ce"]["model"] > by[100, 0.1, "ce"]["model"] + 0.05
    assert by[10, 0.1, "ce"]["unmatched"] > by[100, 0.1, "ce"]["unmatched"]
    with pytest.raises(InputError, match="L = 4 is shorter than the window"):
        transfer(full, config, lengths=(4,), priors=())
    with pytest.raises(InputError, match="dirichlet must be a positive number"):
        transfer(full, config, lengths=(), priors=(0.0,))


def test_compare_uses_the_same_sequences_for_all(five):
    config = replace(five[0][0].config, sequences=500)
    weights = weights_of(five[1][0], config)
    sequences, _ = markov_training.data(config)
    rows = compare(weights, sequences, config)
    assert [row["loss"] for row in rows] == list(markov.LOSSES)
    assert compare(weights, sequences, config) == rows
