"""The standard transformer: gradients, measures, attention maps, and that it learns recall."""

import re
from dataclasses import replace

import numpy as np
import pytest

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.musat.full import standard
from reduced_dynamics.families.musat.full.standard_training import (
    ADAM,
    COORDINATES,
    SGD,
    StandardConfig,
    attention_at,
    train_standard,
    weights_at,
)
from reduced_dynamics.training.loop import DivergedError, TrainingInterrupted
from tests.training.interruption import before


def explicit_layer(h, Q, K, V, O, scale):
    """One causal attention layer, row by row; also its attention map."""
    out, attention = [], np.zeros((len(h), len(h)))
    for i in range(len(h)):
        exponentials = [np.exp(scale * ((Q @ h[i]) @ (K @ h[j]))) for j in range(i + 1)]
        attended = np.zeros_like(h[i])
        for j in range(i + 1):
            attention[i, j] = exponentials[j] / sum(exponentials)
            attended = attended + attention[i, j] * (V @ h[j])
        out.append(h[i] + O @ attended)
    return np.array(out), attention


def explicit(weights, tokens, target, scaled):
    """Cross-entropy and both attention maps of one sequence, as defined."""
    w = weights
    scale = len(w.Q1) ** -0.5 if scaled else 1.0
    h = np.array([w.tokens[token] + w.positions[i] for i, token in enumerate(tokens)])
    h, first = explicit_layer(h, w.Q1, w.K1, w.V1, w.O1, scale)
    h, second = explicit_layer(h, w.Q2, w.K2, w.V2, w.O2, scale)
    y = w.unembedding @ h[-1]
    return np.log(np.sum(np.exp(y))) - y[target], first, second[-1]


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    weights = standard.initial_weights(9, 8, 5, 0.6, rng)
    return weights, standard.sample_sequences(3, 9, 6, rng, "uniform")


@pytest.mark.parametrize("scaled", [False, True])
def test_the_loss_is_the_definition_written_out(case, scaled):
    weights, sequences = case
    outcome = standard.forward(weights, sequences, scaled)
    losses = []
    for b, (tokens, target) in enumerate(zip(*sequences, strict=True)):
        loss, first, last = explicit(weights, tokens, target, scaled)
        losses.append(loss)
        assert outcome.attention1[b] == pytest.approx(first, rel=1e-12)
        assert outcome.attention2[b] == pytest.approx(last, rel=1e-12)
    assert outcome.loss == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("scaled", [False, True])
def test_gradient_against_finite_differences(case, scaled):
    weights, sequences = case
    _, gradient = standard.loss_and_gradient(weights, sequences, scaled)
    h = 1e-5
    for name, W, analytic in zip(weights._fields, weights, gradient, strict=True):
        numeric = np.empty_like(W)
        for index in np.ndindex(W.shape):
            values = []
            for step in (h, -h):
                shifted = W.copy()
                shifted[index] += step
                moved = weights._replace(**{name: shifted})
                values.append(standard.forward(moved, sequences, scaled).loss)
            numeric[index] = (values[0] - values[1]) / (2 * h)
        assert np.linalg.norm(analytic - numeric) < 1e-7 * np.linalg.norm(analytic), name


def test_batched_is_one_by_one(case):
    weights, sequences = case
    _, gradient = standard.loss_and_gradient(weights, sequences)
    singles = [
        standard.loss_and_gradient(weights, standard.Sequences(t[None], np.array([b])))[1]
        for t, b in zip(*sequences, strict=True)
    ]
    for k, W in enumerate(gradient):
        average = np.mean([one[k] for one in singles], axis=0)
        assert np.linalg.norm(W - average) < 1e-13 * np.linalg.norm(W)


def test_measures_are_the_papers_sums(case):
    w, _ = case
    T = 7
    p, t = w.positions, w.tokens
    alpha = sum((w.K1 @ p[i - 1]) @ (w.Q1 @ p[i]) for i in range(1, T))
    beta = sum((w.K2 @ w.O1 @ w.V1 @ t[i]) @ (w.Q2 @ t[i]) for i in range(len(t)))
    gamma = np.trace(w.unembedding @ w.O2 @ w.V2 @ t.T)
    assert standard.measures(w, T) == pytest.approx((alpha, beta, gamma), rel=1e-12)


def test_sequences():
    tokens, target = standard.sample_sequences(4, 9, 500, np.random.default_rng(1), "uniform")
    assert tokens.shape == (500, 9)
    assert all(len(set(row[:-1])) == 8 for row in tokens)
    for row, label in zip(tokens, target, strict=True):
        items = list(row[:-1:2])
        assert label == row[2 * items.index(row[-1]) + 1]
    assert np.bincount(tokens[:, 0], minlength=9).min() > 25
    tokens, target = standard.sample_sequences(4, 9, 5, np.random.default_rng(1), "last")
    assert np.array_equal(tokens[:, -1], tokens[:, 6]) and np.array_equal(target, tokens[:, 7])


def test_large_scores_stay_finite(case):
    weights, sequences = case
    large = standard.Weights(*(100.0 * W for W in weights))
    outcome, gradient = standard.loss_and_gradient(large, sequences)
    assert np.isfinite(outcome.loss) and all(np.isfinite(W).all() for W in gradient)


QUICK = StandardConfig(N=4, width=32, learning_rate=3e-3, steps=1100, record=55)


def test_adam_learns_recall():
    trajectory, _ = train_standard(QUICK)
    assert trajectory["accuracy"][-1] >= 0.98 > 0.2 > trajectory["accuracy"][0]
    assert trajectory["held_out_loss"][-1] < 0.2
    assert trajectory.t_end == pytest.approx(1100 * 3e-3) and trajectory.time_scale == 1
    assert all(trajectory[name][-1] > 10 for name in COORDINATES)
    assert None not in trajectory.events.values() and trajectory.stats["steps"] == 1100


def test_sgd_from_a_small_start_shows_the_papers_order():
    config = replace(SGD, N=4, init_scale=0.1, width=64, steps=1800, record=180)
    trajectory, _ = train_standard(config)
    assert trajectory["accuracy"][-1] >= 0.98
    assert [crossing.name for crossing in trajectory.crossings] == [
        "T_gamma3",
        "T_beta2",
        "T_alpha3",
    ]


def test_weights_and_attention_of_any_step():
    config = replace(QUICK, steps=30, precision="double")
    trajectory, _ = train_standard(config)
    final = weights_at(config, 30)
    assert standard.measures(final, 9) == tuple(trajectory.z[-1])
    start = weights_at(config, 0)
    assert standard.measures(start, 9) == tuple(trajectory.z[0])
    sequences, outcome = attention_at(config, 15, batch=3)
    assert sequences.tokens.shape == (3, 9)
    assert outcome.attention1.sum(axis=2) == pytest.approx(np.ones((3, 9)))
    assert not np.triu(outcome.attention1, 1).any()
    assert outcome.attention2.sum(axis=1) == pytest.approx(np.ones(3))
    with pytest.raises(InputError, match=re.escape("steps 0..30")):
        weights_at(config, 31)


def test_resumed_training_is_identical(tmp_path):
    config = replace(QUICK, steps=40, record=8)
    path = tmp_path / "run.npz"
    with pytest.raises(TrainingInterrupted) as caught:
        train_standard(config, before(20), path)
    assert len(caught.value.trajectory) == 5
    (resumed, _), (whole, _) = train_standard(config, checkpoint=path), train_standard(config)
    assert np.array_equal(resumed.z, whole.z) and np.array_equal(resumed.loss, whole.loss)
    with pytest.raises(InputError, match="made with width = 32, not 16"):
        train_standard(replace(config, width=16), checkpoint=path)


def test_a_diverging_step_is_named():
    with pytest.raises(DivergedError, match=r"diverged at step \d+") as caught:
        train_standard(replace(SGD, N=4, width=16, learning_rate=100.0, steps=500, record=500))
    assert len(caught.value.trajectory) == caught.value.step


@pytest.mark.parametrize(
    "change, said",
    [
        ({"N": 17}, "take N ≤ 16"),
        ({"N": 16}, "take N ≤ 15"),
        ({"N": 0}, "N must be a positive integer"),
        ({"width": 0}, "width must be a positive integer"),
        ({"query": "first"}, "unknown query"),
        ({"init_scale": 0.0}, "gradient vanishes for ever"),
        ({"precision": "singel"}, "did you mean 'single'"),
    ],
)
def test_impossible_trainings_are_refused(change, said):
    with pytest.raises(InputError, match=re.escape(said)):
        replace(ADAM, **change)


def test_tokens_and_positions_outside_their_tables(case):
    weights, sequences = case
    with pytest.raises(InputError, match="from 0 to 8"):
        standard.forward(weights, sequences._replace(tokens=sequences.tokens + 5))
    short = weights._replace(positions=weights.positions[:3])
    with pytest.raises(InputError, match="table of 7 positions, not 3"):
        standard.forward(short, sequences)
