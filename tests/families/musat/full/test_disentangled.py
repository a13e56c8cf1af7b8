"""The disentangled transformer: inputs, gradients, the invariant subspace, and its training."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.musat.full import disentangled, recall_task
from reduced_dynamics.families.musat.full.disentangled import COORDINATES, LAYOUT, Weights
from reduced_dynamics.families.musat.full.disentangled_training import (
    TrainingConfig,
    model,
    sequences,
    train,
)
from reduced_dynamics.families.musat.full.recall_task import multiplication_by_i, sample_batch
from reduced_dynamics.training.loop import DivergedError, TrainingInterrupted
from tests.families.musat.explicit_transformer import explicit_loss, explicit_rows
from tests.training.interruption import before


def random_weights(D, rng, scale=0.5):
    return Weights(*(scale * rng.standard_normal(W.shape) for W in disentangled.zeros(D)))


def difference(f, weights, h=1e-5):
    """Central differences of f by every single weight."""
    gradient = []
    for k, W in enumerate(weights):
        slope = np.empty_like(W)
        for index in np.ndindex(W.shape):
            values = []
            for step in (h, -h):
                shifted = W.copy()
                shifted[index] += step
                values.append(f(weights._replace(**{weights._fields[k]: shifted})))
            slope[index] = (values[0] - values[1]) / (2 * h)
        gradient.append(slope)
    return gradient


def minibatch(weights, config, rng):
    """Loss and gradient on a minibatch, as training sees it."""
    trained = model(config, np.random.default_rng(0))
    return trained.average(weights, sequences(config, 0).draw(rng))


def norm(arrays):
    return np.sqrt(sum(np.vdot(a, a) for a in arrays))


# ------------------------------------------------------------------------------------- inputs


def test_orthonormal_frames_are_orthonormal_and_tied_by_the_rotation():
    N, D = 4, 16
    rng = np.random.default_rng(0)
    M = multiplication_by_i(D)
    assert np.array_equal(M @ M, -np.eye(D)) and np.array_equal(M.T @ M, np.eye(D))
    rows = sample_batch(N, D, 300, rng).rows
    tokens = rows[:, : 2 * N, :D]
    assert np.abs(tokens @ tokens.swapaxes(1, 2) - np.eye(2 * N)).max() < 1e-13
    positions = rows[:, ::2, D:]
    assert np.array_equal(rows[:, 1::2, D:], positions[:, :-1] @ M.T)
    everything = np.concatenate([positions, positions @ M.T], axis=1)
    assert np.abs(everything @ everything.swapaxes(1, 2) - np.eye(2 * N + 2)).max() < 1e-13


@pytest.mark.parametrize("k, D", [(3, 6), (4, 4)])
def test_real_frames_are_haar(k, D):
    n = 40_000
    q = recall_task.haar_real(n, k, D, np.random.default_rng(1))
    for v in range(k):  # every vector of the frame is uniform on the sphere
        assert stats.kstest(q[:, v, D - 1] ** 2, stats.beta(0.5, (D - 1) / 2).cdf).pvalue > 1e-3
    a, b = q[:, 0], q[:, k - 1]
    expected = {
        0: a[:, 1],
        1 / D: b[:, 0] ** 2,
        3 / (D * (D + 2)): b[:, 0] ** 4,
        1 / (D * (D + 2)): a[:, 1] ** 2 * b[:, 1] ** 2,
        (D + 1) / ((D - 1) * D * (D + 2)): a[:, 0] ** 2 * b[:, 2] ** 2,
        -1 / ((D - 1) * D * (D + 2)): a[:, 0] * a[:, 3] * b[:, 0] * b[:, 3],
    }
    for value, sample in expected.items():
        assert abs(sample.mean() - value) < 4 * sample.std() / n**0.5
    if k == D:
        assert abs(np.linalg.det(q).mean()) < 4 / n**0.5


def test_complex_frames_are_haar():
    n, k, m = 40_000, 4, 4
    q = recall_task.haar_complex(n, k, m, np.random.default_rng(2))
    q = q[..., :m] + 1j * q[..., m:]
    for v in range(k):
        assert stats.kstest(np.abs(q[:, v, m - 1]) ** 2, stats.beta(1, m - 1).cdf).pvalue > 1e-3
        angle = np.angle(q[:, v, 0]) / (2 * np.pi) + 0.5
        assert stats.kstest(angle, stats.uniform.cdf).pvalue > 1e-3
    a, b = q[:, 0], q[:, k - 1]
    expected = {
        1 / m: np.abs(b[:, 0]) ** 2,
        2 / (m * (m + 1)): np.abs(b[:, 0]) ** 4,
        1 / (m * (m + 1)): np.abs(a[:, 1] * b[:, 1]) ** 2,
        1 / (m * m - 1): np.abs(a[:, 0] * b[:, 2]) ** 2,
        -1 / ((m - 1) * m * (m + 1)): (a[:, 0] * a[:, 3].conj() * b[:, 0].conj() * b[:, 3]).real,
        0: (b[:, 0] ** 2).real,
    }
    for value, sample in expected.items():
        assert abs(sample.mean() - value) < 4 * sample.std() / n**0.5


def test_normals_are_normal():
    x = recall_task.normals(np.random.default_rng(3), 200_001)
    assert x.shape == (200_001,)
    assert stats.kstest(x, stats.norm.cdf).pvalue > 1e-3
    half = recall_task._BLOCK // 2  # the two numbers of a pair share their radius and nothing else
    first, second = x[:half], x[half : 2 * half]
    for f in (np.asarray, np.square):
        assert abs(np.corrcoef(f(first), f(second))[0, 1]) < 4 / half**0.5
    gaussian = sample_batch(3, 10, 2000, np.random.default_rng(4), "gaussian").rows
    assert np.var(gaussian) * 10 == pytest.approx(1, abs=0.02)


def test_queries():
    rng = np.random.default_rng(5)
    rows = sample_batch(3, 8, 3000, rng, query="uniform")
    assert np.bincount(rows.query, minlength=4)[1:] == pytest.approx([1000] * 3, abs=120)
    for batch in (
        rows,
        sample_batch(3, 8, 4, rng, query="last"),
        sample_batch(3, 8, 4, rng, query=2),
    ):
        for x, b, q in zip(batch.rows[:50], batch.target, batch.query, strict=False):
            assert np.array_equal(x[-1, :8], x[2 * q - 2, :8])
            assert np.array_equal(b, x[2 * q - 1, :8])
    assert set(sample_batch(3, 8, 4, rng, query=2).query) == {2}
    assert set(sample_batch(3, 8, 4, rng).query) == {3}


@pytest.mark.parametrize(
    "N, D, options, said",
    [
        (4, 8, {}, "the smallest D that would do is 10"),
        (4, 11, {}, "use D = 12"),
        (4, 5, {"inputs": "gaussian"}, "use D = 6"),
        (0, 8, {}, "N must be a positive integer"),
        (3, 8, {"query": 4}, "N = 3 allows 1..3"),
        (3, 8, {"query": "lst"}, "did you mean 'last'"),
        (3, 8, {"inputs": "ortho"}, "did you mean 'orthonormal'"),
    ],
)
def test_impossible_sequences_are_refused(N, D, options, said):
    with pytest.raises(InputError, match=re.escape(said)):
        sample_batch(N, D, 2, np.random.default_rng(0), **options)


# ---------------------------------------------------------------------------- loss and gradient


@pytest.mark.parametrize("self_attention", [False, True])
@pytest.mark.parametrize("inputs", ["orthonormal", "gaussian"])
def test_the_loss_is_the_definition_written_out(inputs, self_attention):
    N, D, B = 3, 8, 4
    rng = np.random.default_rng(6)
    tokens, positions = recall_task.sample_vectors(N, D, B, rng, inputs)
    query = recall_task.sample_queries(N, B, rng, "uniform")
    batch = recall_task.arrange(tokens, positions, query)
    weights = random_weights(D, rng)
    losses = []
    for a, p, q in zip(tokens, positions, query, strict=True):
        rows = explicit_rows(a[::2], a[1::2], p, multiplication_by_i(D), q)
        losses.append(explicit_loss(*weights, rows, a[2 * q - 1], self_attention))
    loss, _ = disentangled.forward(weights, batch, self_attention)
    assert loss == pytest.approx(np.mean(losses), rel=1e-13)


@pytest.mark.parametrize("self_attention", [False, True])
@pytest.mark.parametrize("inputs, D", [("orthonormal", 6), ("gaussian", 4)])
def test_gradient_against_finite_differences(inputs, D, self_attention):
    rng = np.random.default_rng(7)
    batch = sample_batch(2, D, 3, rng, inputs, "uniform")
    weights = random_weights(D, rng)
    _, gradient = disentangled.loss_and_gradient(weights, batch, self_attention)
    numeric = difference(lambda W: disentangled.forward(W, batch, self_attention)[0], weights)
    for analytic, other in zip(gradient, numeric, strict=True):
        assert norm([analytic - other]) < 1e-7 * norm([analytic])


def test_batched_is_one_by_one():
    rng = np.random.default_rng(8)
    batch = sample_batch(4, 16, 32, rng, query="uniform")
    weights = random_weights(16, rng, 0.2)
    loss, gradient = disentangled.loss_and_gradient(weights, batch)
    single = [disentangled.loss_and_gradient(weights, batch[i : i + 1]) for i in range(len(batch))]
    assert np.mean([one[0] for one in single]) == pytest.approx(loss, rel=1e-13)
    for k, W in enumerate(gradient):
        average = np.mean([one[1][k] for one in single], axis=0)
        assert norm([W - average]) < 1e-13 * norm([W])


def test_long_minibatches_are_blocks_of_the_same():
    config = TrainingConfig(N=3, D=8, batch=2000, steps=1)
    weights = random_weights(8, np.random.default_rng(9), 0.3)
    loss, gradient = minibatch(weights, config, np.random.default_rng(10))
    rng = np.random.default_rng(10)
    blocks = [sample_batch(3, 8, 500, rng) for _ in range(4)]
    rows = np.concatenate([block.rows for block in blocks])
    target = np.concatenate([block.target for block in blocks])
    whole = recall_task.Batch(rows, target, np.full(2000, 3))
    expected, slope = disentangled.loss_and_gradient(weights, whole)
    assert loss == pytest.approx(expected, rel=1e-13)
    assert norm([a - b for a, b in zip(gradient, slope, strict=True)]) < 1e-13 * norm(slope)


@pytest.mark.parametrize("size", [-700.0, 700.0])
@pytest.mark.parametrize("inputs", ["orthonormal", "gaussian"])
def test_stable_at_large_coordinates(inputs, size):
    rng = np.random.default_rng(11)
    batch = sample_batch(4, 16, 16, rng, inputs)
    z = size * rng.choice([-1.0, 1.0], 19)
    for point in (z, np.full(19, size)):
        loss, gradient = disentangled.loss_and_gradient(disentangled.embed(point, 16), batch)
        assert np.isfinite(loss) and all(np.isfinite(W).all() for W in gradient)


def test_misshapen_weights_are_refused():
    batch = sample_batch(2, 6, 2, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"D = 6\) need weights of shapes \(\(12, 12\)"):
        disentangled.forward(disentangled.zeros(8), batch)
    with pytest.raises(InputError, match="19 coordinates"):
        disentangled.embed(np.zeros(3), 6)


# -------------------------------------------------------------------------- the invariant subspace


def test_embedding_is_the_papers_layout():
    D = 4
    z = dict(zip(COORDINATES, np.arange(1.0, 20.0), strict=True))
    I, M, O = np.eye(D), multiplication_by_i(D), np.zeros((D, D))
    b = [None, *(z[f"beta{i}"] for i in range(1, 13))]
    W1 = np.block([[z["alpha1"] * I, O], [O, z["alpha2"] * I + z["alpha3"] * M]])
    W2 = np.block(
        [
            [b[1] * I, O, b[2] * I, O],
            [O, b[5] * I + b[6] * M, O, b[7] * I + b[8] * M],
            [b[3] * I, O, b[4] * I, O],
            [O, b[9] * I + b[10] * M, O, b[11] * I + b[12] * M],
        ]
    )
    W3 = np.hstack([x for i in range(1, 5) for x in (z[f"gamma{i}"] * I, O)])
    for mine, theirs in zip(
        disentangled.embed(np.array(list(z.values())), D), (W1, W2, W3), strict=True
    ):
        assert np.array_equal(mine, theirs)


def test_projection_inverts_embedding_and_splits_the_norm():
    D = 8
    rng = np.random.default_rng(12)
    z = rng.standard_normal(19)
    assert np.abs(disentangled.project(disentangled.embed(z, D)) - z).max() < 1e-14
    assert disentangled.norms(disentangled.embed(z, D)) == pytest.approx(
        (D**0.5 * np.linalg.norm(z), 0.0), abs=1e-13
    )
    weights = random_weights(D, rng)
    inside, outside = disentangled.norms(weights)
    assert np.hypot(inside, outside) == pytest.approx(norm(weights), rel=1e-13)
    for unit in np.eye(19):
        assert norm(disentangled.embed(unit, D)) ** 2 == pytest.approx(D)


def test_reduced_gradient_is_the_projected_one():
    D = 8
    rng = np.random.default_rng(13)
    batch = sample_batch(3, D, 20, rng, "gaussian", "uniform")
    z = rng.standard_normal(19)
    _, gradient = disentangled.loss_and_gradient(disentangled.embed(z, D), batch)

    def loss(point):
        return disentangled.forward(disentangled.embed(point, D), batch)[0]

    slope = [(loss(z + h) - loss(z - h)) / 2e-5 for h in 1e-5 * np.eye(19)]
    assert D * disentangled.project(gradient) == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_orthonormal_loss_does_not_depend_on_the_frame():
    D = 12
    rng = np.random.default_rng(14)
    batch = sample_batch(5, D, 30, rng, query=2)
    for scale in (0.5, 5.0):
        weights = disentangled.embed(scale * rng.standard_normal(19), D)
        losses = [disentangled.forward(weights, batch[i : i + 1])[0] for i in range(30)]
        assert np.ptp(losses) < 1e-12 * max(losses)


@pytest.mark.parametrize("query", ["last", "uniform"])
@pytest.mark.parametrize("inputs", ["orthonormal", "gaussian"])
def test_the_population_gradient_stays_in_the_subspace(inputs, query):
    """Off the subspace, an average over n sequences is sampling error: it falls as n^−½."""
    N, D = 3, 8
    rng = np.random.default_rng(15)
    sizes = 2 ** np.arange(5, 14, 2)
    logs = np.zeros(len(sizes))
    points = [disentangled.embed(rng.standard_normal(19), D) for _ in range(6)]
    for weights in points:
        for i, n in enumerate(sizes):
            config = TrainingConfig(N=N, D=D, batch=int(n), steps=1, inputs=inputs, query=query)
            _, gradient = minibatch(weights, config, rng)
            inside, outside = disentangled.norms(gradient)
            logs[i] += np.log(outside)
        assert outside < inside
    slope = np.polyfit(np.log(sizes), logs / len(points), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.04)


# ---------------------------------------------------------------------------------------- training

SMALL = {"N": 2, "D": 6, "batch": 16, "steps": 60}


def test_trajectory_of_a_training():
    config = TrainingConfig(N=2, D=6, batch=32, t_end=30.0, learning_rate=1.0, record=30)
    trajectory, _ = train(config)
    assert trajectory.coordinates == COORDINATES and trajectory.nodes is None
    assert trajectory.time_scale == 6 and trajectory.t_end == pytest.approx(30.0)
    assert len(trajectory) == 31 and trajectory.stats["steps"] == 180
    assert not trajectory.z[0].any() and trajectory["outside_over_inside"][0] == 0.0
    assert trajectory["gamma3"][-1] > 0.5 > trajectory["beta2"][0]
    t = trajectory.events["T_gamma3"]
    assert np.interp(t, trajectory.t, trajectory["gamma3"]) == pytest.approx(0.5)
    again, _ = train(config)
    assert np.array_equal(trajectory.z, again.z) and np.array_equal(trajectory.loss, again.loss)


def test_recorded_times():
    trajectory, _ = train(TrainingConfig(**SMALL, learning_rate=0.6, record=(0.5, 1.0, 5.96)))
    assert trajectory.t == pytest.approx([0.0, 0.5, 1.0, 6.0])
    with pytest.raises(InputError, match="between 0 and 6"):
        TrainingConfig(**SMALL, learning_rate=0.6, record=(7.0,))


def test_clamped_coordinates_stay():
    free = {"alpha3", "beta2", "gamma3"}
    clamp = {name: 0.0 for name in COORDINATES if name not in free} | {"beta1": 0.25}
    trajectory, _ = train(TrainingConfig(**SMALL, clamp=clamp))
    for name, value in clamp.items():
        assert np.abs(trajectory[name] - value).max() < 1e-14
    assert trajectory["gamma3"][-1] > 0.1 and trajectory["outside_norm"][-1] > 0
    with pytest.raises(InputError, match="did you mean 'beta2'"):
        TrainingConfig(**SMALL, clamp={"beta_2": 0.0})


def test_starts():
    off, _ = train(TrainingConfig(**SMALL, perturbation=0.1, record=1))
    assert np.abs(off.z[0]).max() < 1e-15
    weights = 28 * 6**2 - 19
    assert off["outside_norm"][0] == pytest.approx(0.1 * weights**0.5, rel=0.1)
    scaled, _ = train(TrainingConfig(**SMALL, init_scale=0.1, self_attention=True, record=1))
    assert np.abs(scaled.z[0]).max() > 1e-3


@pytest.mark.parametrize("clamp", [{}, {"beta1": 0.25}])
def test_resumed_training_is_identical(tmp_path, clamp):
    config = TrainingConfig(**SMALL, learning_rate=0.1, init_scale=0.1, record=20, clamp=clamp)
    path = tmp_path / "run.npz"
    with pytest.raises(TrainingInterrupted):
        train(config, before(36), path)
    (resumed, weights), (whole, others) = train(config, checkpoint=path), train(config)
    assert np.array_equal(resumed.z, whole.z) and np.array_equal(resumed.loss, whole.loss)
    assert np.array_equal(resumed["outside_norm"], whole["outside_norm"])
    assert all(np.array_equal(W, V) for W, V in zip(weights, others, strict=True))
    with pytest.raises(InputError, match=r"made with clamp = \{"):
        train(replace(config, clamp={"beta2": 0.0}), checkpoint=path)


def test_a_diverging_step_is_named():
    config = TrainingConfig(N=3, D=8, batch=64, steps=100, learning_rate=200.0, record=100)
    with pytest.raises(DivergedError, match="learning rates below") as caught:
        train(config)
    better = float(re.search(r"try half of that, ([\d.e+-]+)", str(caught.value))[1])
    assert 0 < better < 200.0
    assert np.isfinite(train(replace(config, learning_rate=better))[0].loss).all()


def test_a_start_that_has_no_loss_is_named():
    with pytest.raises(DivergedError, match="start from smaller weights"):
        train(TrainingConfig(**SMALL, init_scale=1e200))


@pytest.mark.parametrize(
    "change, said",
    [
        ({"D": 5}, "the smallest D that would do is 6"),
        ({"steps": None, "t_end": 0.01}, "0.166667, the time of one step"),
        ({"perturbation": -1.0}, "perturbation must be 0 or positive"),
    ],
)
def test_impossible_trainings_are_refused(change, said):
    with pytest.raises(InputError, match=re.escape(said)):
        TrainingConfig(**SMALL | change)


def test_nineteen_coordinates():
    assert len(LAYOUT) == len(set(LAYOUT.values())) == 19
