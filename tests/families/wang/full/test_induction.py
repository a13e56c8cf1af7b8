"""The two-layer transformer on IH_n: definition, gradients, probe, training."""

import re
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.wang import induction_runs
from reduced_dynamics.families.wang.approximation.targets import induction_head
from reduced_dynamics.families.wang.approximation.transformer import Attention, Transformer
from reduced_dynamics.families.wang.full import induction
from reduced_dynamics.families.wang.full import induction_task as task
from reduced_dynamics.families.wang.full.induction_training import (
    InductionConfig,
    probe,
    train_induction,
)
from reduced_dynamics.training.loop import DivergedError, TrainingInterrupted
from tests.training.interruption import before

# What the model computes


def explicit_scores(p, encoding, k):
    if encoding == "free":
        return p[k]
    return -p * (k if encoding == "linear" else np.log(1.0 + k))


def explicit_output(w, x, n, encoding, skip):
    """The model as defined, one sequence and one sum at a time; complex weights are welcome."""

    def attend(row, Q, K, V, p, seen, nearest):
        weights = [
            np.exp((Q @ row) @ (K @ y) + explicit_scores(p, encoding, nearest - s)) for s, y in seen
        ]
        return V @ sum(a * y for a, (_, y) in zip(weights, seen, strict=True)) / sum(weights)

    L = len(x)
    rows = {s: w.embedding @ x[s - 1] for s in range(1, L + 1)}
    first = {
        s: rows[s]
        + sum(
            attend(rows[s], *head, [(t, rows[t]) for t in range(1, s)], s - 1)
            for head in zip(w.Q1, w.K1, w.V1, w.p1, strict=True)
        )
        for s in range(n, L + 1)
    }
    out = sum(
        attend(first[L], *head, [(s, first[s]) for s in range(n, L)], L - 1)
        for head in zip(w.Q2, w.K2, w.V2, w.p2, strict=True)
    )
    return w.readout @ (out + first[L] if skip else out)


def explicit_target(x, W, n):
    """IH_n of one sequence, tokens counted from 1, the newest of a stretch first."""
    L, d = x.shape
    token = dict(enumerate(x, start=1))
    total, norm = np.zeros(d), 0.0
    for s in range(n, L):
        score = 0.0
        for i, j in product(range(n - 1), repeat=2):
            block = W[i * d : (i + 1) * d, j * d : (j + 1) * d]
            score += token[L - i] @ block @ token[s - 1 - j]
        total, norm = total + np.exp(score) * token[s], norm + np.exp(score)
    return total / norm


def case(encoding="linear", n=3, L=7, d=2, D=3, heads=(2, 2), batch=3):
    rng = np.random.default_rng(0)
    weights = induction.initial_weights((n, L, d), heads, D, encoding, 1.0, (0.0, 1.0), rng)
    weights = induction.Weights(*(w + 0.2 * rng.standard_normal(w.shape) for w in weights))
    x = task.sample(L, d, batch, rng)
    return weights, x, induction_head(x, task.teacher(n, d, 0.7), n), n


CASES = list(product(induction.ENCODINGS, (False, True)))


@pytest.mark.parametrize("encoding, skip", CASES)
def test_the_output_is_the_definition_written_out(encoding, skip):
    w, x, _, n = case(encoding)
    outcome = induction.forward(w, x, n, encoding, skip)
    expected = [explicit_output(w, one, n, encoding, skip) for one in x]
    np.testing.assert_allclose(outcome.output, expected, rtol=1e-12, atol=1e-13)
    assert outcome.attention1.sum(axis=3) == pytest.approx(1.0, abs=1e-14)
    assert outcome.attention2.sum(axis=2) == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("encoding, skip", CASES)
def test_gradient_against_complex_step(encoding, skip):
    w, x, target, n = case(encoding)
    loss, gradient = induction.loss_and_gradient(w, x, target, n, encoding, skip)

    def explicit_loss(w):
        errors = [explicit_output(w, one, n, encoding, skip) for one in x] - target
        return 0.5 * (errors * errors).sum() / len(x)

    assert loss == pytest.approx(explicit_loss(w), rel=1e-12)
    for name, W, analytic in zip(w._fields, w, gradient, strict=True):
        numeric = np.empty_like(W)
        for index in np.ndindex(W.shape):
            shifted = W.astype(complex)
            shifted[index] += 1e-30j
            numeric[index] = explicit_loss(w._replace(**{name: shifted})).imag / 1e-30
        assert np.linalg.norm(analytic - numeric) < 1e-11 * np.linalg.norm(numeric), name


@pytest.mark.parametrize("encoding, kernel", [("linear", "exponential"), ("log", "polynomial")])
def test_it_is_the_transformer_of_the_approximation_theorems(encoding, kernel):
    w, x, _, n = case(encoding, n=4, L=12, d=1, D=5, heads=(3, 2))
    model = Transformer(
        w.embedding,
        Attention(w.Q1, w.K1, w.V1, w.p1, kernel),
        Attention(w.Q2, w.K2, w.V2, w.p2, kernel, first=n, skip=False),
        w.readout,
    )
    found = induction.forward(w, x, n, encoding, skip=False)
    np.testing.assert_allclose(found.output, model(x), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.first, model.hidden(x)[:, n - 1 :], rtol=1e-12, atol=1e-14)


def test_large_scores_stay_finite():
    w, x, target, n = case()
    large = induction.Weights(*(30.0 * W for W in w))
    loss, gradient = induction.loss_and_gradient(large, x, target, n)
    assert np.isfinite(loss) and all(np.isfinite(W).all() for W in gradient)


# The task


@pytest.mark.parametrize("n, d", [(2, 1), (2, 3), (3, 2), (4, 1)])
def test_target_against_its_sum(n, d):
    rng = np.random.default_rng(1)
    x = task.sample(9, d, 4, rng)
    W = rng.standard_normal(((n - 1) * d, (n - 1) * d))
    expected = [explicit_target(one, W, n) for one in x]
    np.testing.assert_allclose(induction_head(x, W, n), expected, rtol=1e-12)


def test_levels_fall_with_every_token_compared():
    levels = task.levels(4, 12, 1, 1.0, count=2000)
    assert levels[0] < 1.0 and levels[-1] == 0.0
    assert all(a > b + 0.05 for a, b in pairwise(levels))
    # No weights beat the best ones by more than chance: here those of a coarse grid.
    x = task.sample(12, 1, 2000, np.random.default_rng(0))
    wanted = induction_head(x, task.teacher(4, 1, 1.0), 4)[:, 0]
    for m in (1, 2):
        for w in np.linspace(0.2, 1.2, 11):
            found = induction_head(x, w * np.diag(np.arange(3) < m), 4)[:, 0]
            left = 1 - (found @ wanted) ** 2 / (found @ found) / (wanted @ wanted)
            assert left > levels[m] - 1e-4
    assert [task.compared(error, levels) for error in (9.0, levels[1], 0.01)] == [0, 1, 3]


# The probe


def copying(n, D, L, shifts):
    """Layer 1 copies x_{s−k} into row k for k in `shifts`; layer 2 compares and returns x_s."""
    heads, row = len(shifts), np.eye(D)
    zeros = np.zeros((heads, D, D))
    p1 = np.full((heads, L - 1), -800.0)
    V1, Q2, K2, V2 = zeros.copy(), np.zeros((1, D, D)), np.zeros((1, D, D)), np.zeros((1, D, D))
    for h, k in enumerate(shifts):
        p1[h, k - 1] = 0.0
        V1[h] = np.outer(row[k], row[0])
    Q2[0], K2[0] = row, row
    K2[0] = sum(np.outer(row[i], row[i + 1]) for i in range(n - 1))
    Q2[0] = sum(np.outer(row[i], row[i]) for i in range(n - 1))
    V2[0] = np.outer(row[0], row[0])
    return induction.Weights(
        row[:, :1], zeros, zeros, V1, p1, Q2, K2, V2, np.zeros((1, L - n)), row[:1]
    )


def test_probing_a_layer_that_copies_and_one_that_does_not():
    n, D, L = 4, 4, 12
    x = task.sample(L, 1, 200, np.random.default_rng(2))
    weights = copying(n, D, L, (1, 2, 3))
    outcome = induction.forward(weights, x, n, "free", skip=False)
    assert probe(outcome.first, x, n) == pytest.approx([0.0] * 4, abs=1e-25)
    np.testing.assert_allclose(
        outcome.output, induction_head(x, task.teacher(n, 1, 1.0), n), rtol=1e-12, atol=1e-14
    )
    # Three heads are needed for three shifts: without one of them a token is out of reach.
    without = probe(induction.forward(copying(n, D, L, (1, 3)), x, n, "free").first, x, n)
    assert without[[0, 1, 3]] == pytest.approx([0.0] * 3, abs=1e-25)
    assert without[2] == pytest.approx(1.0, abs=0.02)


def test_probe_is_the_residual_of_every_token():
    rng = np.random.default_rng(3)
    x, rows = task.sample(9, 2, 30, rng), rng.standard_normal((30, 7, 4))
    found = probe(rows, x, 3)
    for k in range(3):
        wanted = np.array([x[b, s - 1 - k] for b in range(30) for s in range(3, 10)])
        _, residual, *_ = np.linalg.lstsq(rows.reshape(-1, 4), wanted, rcond=None)
        assert found[k] == pytest.approx(residual.sum() / (wanted**2).sum(), rel=1e-12)


# Training

QUICK = InductionConfig(
    n=2, H=2, D=4, L=8, encoding="free", batch=64, steps=400, learning_rate=0.03, record=20
)


def trained(*arguments, **keywords):
    return train_induction(*arguments, **keywords)[0]


@pytest.fixture(scope="module")
def quick():
    return trained(QUICK)


def test_it_learns_a_short_induction_head(quick):
    assert quick["error"][0] > 0.5 and quick["error"][-1] < 0.05
    levels = induction_runs.levels(2, 8, 1, 1.0)
    assert induction_runs.row("a", {"full": quick, "levels": levels})["learnt"]
    assert quick["probe_1"][-1] < 1e-3 and quick.coordinates == ("probe_0", "probe_1")
    assert np.array_equal(quick["probing_distance"], quick["probe_0"])
    assert quick.t_end == 400 and len(quick) == 21
    weights = train_induction(replace(QUICK, record=1))[1]
    x = task.sample(8, 1, 2000, np.random.default_rng(9))
    target = induction_head(x, task.teacher(2, 1, 1.0), 2)
    error = induction.forward(weights, x, 2, "free").output - target
    assert (error**2).sum() / (target**2).sum() == pytest.approx(quick["error"][-1], abs=0.02)


def test_seeds_and_settings_matter_and_nothing_else(quick):
    assert np.array_equal(trained(QUICK).loss, quick.loss)
    assert not np.array_equal(trained(replace(QUICK, seed=1)).loss, quick.loss)


def test_slopes_are_recorded():
    found = trained(InductionConfig(n=3, H=2, D=3, H2=2, L=8, steps=6, record=3))
    assert set(found.observables) == {
        "error", "probing_distance", "p1_1", "p1_2", "p2_1", "p2_2"
    }  # fmt: skip
    assert found["p2_1"][0] == 0.0 and 0.0 < found["p1_1"][0] < 2.0
    assert found["p1_1"][-1] != found["p1_1"][0]


def test_layer_2_alone_leaves_layer_1_as_it_was():
    found = trained(replace(QUICK, training="layer2", encoding="linear", steps=40))
    assert np.ptp(found["p1_1"]) == 0.0 and np.ptp(found["probing_distance"]) == 0.0
    assert found["p2_1"][-1] != 0.0 and found.loss[-1] != found.loss[0]


def test_without_content_layer_1_attends_by_position_only():
    weights = train_induction(replace(QUICK, content=False, steps=30, record=1))[1]
    assert not weights.Q1.any() and not weights.K1.any() and weights.V1.any()
    x = task.sample(8, 1, 5, np.random.default_rng(4))
    attention = induction.forward(weights, x, 2, "free").attention1
    assert np.ptp(attention, axis=0) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("optimiser", ["adam", "momentum"])
def test_resumed_training_is_identical(optimiser, tmp_path):
    config = replace(QUICK, steps=40, record=8, optimiser=optimiser, learning_rate=0.01)
    path = tmp_path / "run.npz"

    with pytest.raises(TrainingInterrupted) as caught:
        trained(config, before(20), path)
    assert len(caught.value.trajectory) == 5
    resumed, whole = trained(config, checkpoint=path), trained(config)
    assert np.array_equal(resumed.z, whole.z) and np.array_equal(resumed.loss, whole.loss)
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole.observables)
    with pytest.raises(InputError, match="made with D = 4, not 3"):
        trained(replace(config, D=3), checkpoint=path)


def test_the_learning_rate_falls_along_a_cosine():
    """By steps of plain descent on a loss that does not change: here the last is of length 0."""
    flat = replace(QUICK, optimiser="sgd", steps=3, record=(0, 1, 2, 3), learning_rate=1e-9)
    constant = trained(replace(flat, schedule="constant", encoding="linear"))
    cosine = trained(replace(flat, encoding="linear"))
    moved = np.diff(cosine["p1_1"]) / np.diff(constant["p1_1"])
    assert moved == pytest.approx([1.0, 0.75, 0.25], rel=1e-3)


def test_a_diverging_step_is_named():
    with pytest.raises(DivergedError, match=r"diverged at step \d+"):
        trained(replace(QUICK, optimiser="sgd", learning_rate=100.0, schedule="constant"))


@pytest.mark.parametrize(
    "change, said",
    [
        ({"n": 1}, "compares no tokens"),
        ({"n": 4, "L": 5}, "take L ≥ 6"),
        ({"d": 0}, "d must be a positive integer"),
        ({"H": 0}, "H must be a positive integer"),
        ({"D": 2.5}, "D must be a positive integer"),
        ({"init_scale": 0.0}, "no gradient reaches"),
        ({"w_star": 0.0}, "compares nothing"),
        ({"w_star": np.nan}, "w_star must be between"),
        ({"w_star": 1e300}, "w_star must be between"),
        ({"L": 10**6}, "GiB of memory"),
        ({"D": 10**6}, "GiB of memory"),
        ({"slope": -1.0}, "slope must be"),
        ({"encoding": "alibi"}, "unknown encoding"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"training": "layer1"}, "did you mean 'layer2'"),
    ],
)
def test_impossible_trainings_are_refused(change, said):
    with pytest.raises(InputError, match=re.escape(said)):
        replace(InductionConfig(), **change)
