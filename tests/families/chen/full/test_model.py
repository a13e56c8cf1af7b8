"""The copier–selector–classifier: against its definition written out, and its training."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reduced_dynamics.core import memory
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.chen.full import model as markov
from reduced_dynamics.families.chen.full import optimum as induction_head
from reduced_dynamics.families.chen.full import training as markov_training
from reduced_dynamics.families.chen.full.model import Weights
from reduced_dynamics.families.chen.full.task import sample_sequences
from reduced_dynamics.families.chen.full.training import MarkovConfig, train_markov
from reduced_dynamics.families.chen.full.windows import compress
from reduced_dynamics.io import storage
from reduced_dynamics.training.loop import DivergedError, TrainingInterrupted

ROOT = Path(__file__).resolve().parents[4]
SMALL = MarkovConfig(L=20, sequences=60, validation=30, steps=40, record=8)


def explicit(weights, sequences, degree, loss, eps=1e-8):
    """Mean loss and outputs as defined, position by position; complex numbers pass through."""
    c, W, a = weights
    H, S, L = len(W), sequences.S, sequences.L
    chosen = [s for size in range(degree + 1) for s in combinations(range(1, H + 1), size)]
    p = c**2 / np.sum(c**2)

    def copied(x, h, i):
        lags = [j for j in range(H) if i - h - j >= 0]
        v = np.zeros(S, dtype=W.dtype)
        total = sum(np.exp(W[h - 1, j]) for j in lags)
        for j in lags:
            v[x[i - h - j]] += np.exp(W[h - 1, j]) / total
        return v / (np.sqrt(np.sum(v**2)) + 1e-7) if lags else v

    found, outputs = 0.0, []
    for row in sequences.states:
        x, y = row[:-1], row[-1]
        scores = []
        for i in range(L):
            inner = [np.sum(copied(x, h, L) * copied(x, h, i)) for h in range(1, H + 1)]
            scores.append(
                sum(w * np.prod([inner[h - 1] for h in s]) for w, s in zip(p, chosen, strict=True))
            )
        A = np.exp(a * np.array(scores))
        o = np.array([np.sum(A[x == k]) for k in range(S)]) / np.sum(A)
        found += -np.log(o[y] + eps) if loss == "log" else np.log(np.sum(np.exp(o))) - o[y]
        outputs.append(o)
    return found / len(sequences), np.array(outputs)


def random_weights(H, degree, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    count = len(markov.subsets(H, degree))
    return Weights(
        rng.standard_normal(count),
        scale * rng.standard_normal((H, H)),
        np.array(2.0 * rng.standard_normal()),
    )


def sequences_of(count, S, n, L, dirichlet=0.3, seed=0):
    return sample_sequences(count, S, n, L, dirichlet, np.random.default_rng(seed))


CASES = [  # S, n, H, degree, L, sequences
    (3, 3, 3, 2, 9, 5),
    (2, 2, 1, 1, 4, 6),
    (4, 3, 2, 2, 3, 6),
    (3, 3, 3, 0, 6, 3),
    (2, 4, 4, 4, 8, 3),
    (11, 2, 2, 1, 12, 4),
]


@pytest.mark.parametrize("loss", markov.LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_the_model_is_its_definition_written_out(case, loss):
    S, n, H, degree, L, count = case
    sequences = sequences_of(count, S, n, L)
    windows, weights = compress(sequences, H), random_weights(H, degree, 1)
    expected, outputs = explicit(weights, sequences, degree, loss)
    value, _ = markov.loss_and_gradient(weights, windows, loss)
    o = markov.outputs(weights, windows)
    assert o == pytest.approx(outputs, rel=1e-12)
    assert value == pytest.approx(expected, rel=1e-12)
    assert markov.losses(o, sequences.target, loss, 1e-8).mean() == pytest.approx(expected)


@pytest.mark.parametrize("loss", markov.LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_gradient_of_the_compressed_model_is_that_of_the_definition(case, loss):
    """By complex step through the definition, which knows nothing of patterns and counts."""
    S, n, H, degree, L, count = case
    sequences = sequences_of(count, S, n, L, seed=2)
    weights = random_weights(H, degree, 3)
    _, gradient = markov.loss_and_gradient(weights, compress(sequences, H), loss)
    for name, part, analytic in zip(weights._fields, weights, gradient, strict=True):
        for index in np.ndindex(part.shape):
            moved = {k: v.astype(complex) for k, v in weights._asdict().items()}
            moved[name][index] += 1e-30j
            value, _ = explicit(Weights(**moved), sequences, degree, loss)
            assert analytic[index] == pytest.approx(value.imag / 1e-30, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("loss", markov.LOSSES)
def test_gradient_against_finite_differences(loss):
    sequences = sequences_of(400, 3, 3, 100, dirichlet=0.1)
    windows = compress(sequences, 3)
    for seed in range(3):
        weights = random_weights(3, 2, seed)
        _, gradient = markov.loss_and_gradient(weights, windows, loss)
        largest = max(np.abs(part).max() for part in gradient)
        for name, part, analytic in zip(weights._fields, weights, gradient, strict=True):
            for index in np.ndindex(part.shape):

                def at(shift, name=name, part=part, index=index, weights=weights):
                    moved = part.copy()
                    moved[index] += shift
                    return markov.loss_and_gradient(
                        weights._replace(**{name: moved}), windows, loss
                    )[0]

                h = 2e-3  # a stencil of order six: its error and that of rounding are below 1e-11
                ring = [at(k * h) - at(-k * h) for k in (1, 2, 3)]
                numeric = (45 * ring[0] - 9 * ring[1] + ring[2]) / (60 * h)
                assert abs(numeric - analytic[index]) < 1e-10 * max(1.0, largest)


def test_windows_count_every_position_and_know_no_names():
    sequences = sequences_of(50, 3, 3, 40)
    windows = compress(sequences, 3)
    assert windows.count.sum() == 50 * 40
    assert windows.head_tokens.max() < 3 and windows.head_tokens.min() == -1
    weights = random_weights(3, 2, 0)
    renamed = np.array([2, 0, 1], dtype=np.int8)[sequences.states]
    other = compress(replace(sequences, states=renamed), 3)
    assert other.heads.shape == windows.heads.shape
    o, of_renamed = (markov.outputs(weights, w) for w in (windows, other))
    assert of_renamed[:, [2, 0, 1]] == pytest.approx(o, rel=1e-12)
    # All patterns of pairs of windows there are, for S = 3: see the module.
    many = compress(sequences_of(2000, 3, 3, 60, dirichlet=10.0), 3)
    assert len(many.head_tokens) == 122 + 41 + 14 + 5


@given(seed=st.integers(0, 2**32), scale=st.floats(0.1, 5.0))
@settings(max_examples=20, deadline=None)
def test_c_matters_by_its_direction_alone(seed, scale):
    windows = compress(sequences_of(20, 3, 3, 20), 3)
    weights = random_weights(3, 2, seed, scale)
    value, gradient = markov.loss_and_gradient(weights, windows)
    assert abs(np.vdot(weights.c, gradient.c)) < 1e-14
    doubled, of_doubled = markov.loss_and_gradient(weights._replace(c=2 * weights.c), windows)
    assert doubled == pytest.approx(value, rel=1e-14)
    assert of_doubled.c == pytest.approx(gradient.c / 2, rel=1e-10, abs=1e-16)
    assert np.abs(gradient.W.sum(axis=1)).max() < 1e-14  # each head's softmax


def test_descent_lengthens_c_by_the_length_of_its_steps():
    """|c|² ← |c|² + |Δc|² exactly, for ∂loss/∂c is orthogonal to c."""
    windows = compress(sequences_of(300, 3, 3, 100, dirichlet=0.1), 3)
    weights = markov.initial_weights(3, 2, 3.0, 0.1, 0.01, 0.01)
    for _ in range(30):
        _, gradient = markov.loss_and_gradient(weights, windows)
        after = Weights(*(w - g for w, g in zip(weights, gradient, strict=True)))
        square = np.vdot(weights.c, weights.c) + np.vdot(gradient.c, gradient.c)
        assert np.vdot(after.c, after.c) == pytest.approx(square, rel=1e-14)
        weights = after
    assert 0.3 < np.linalg.norm(weights.c) < 0.45  # from .026: the flow would keep it


def test_a_selector_far_below_rounding_keeps_its_relative_precision():
    windows = compress(sequences_of(50, 3, 3, 30), 3)
    c = np.array([1e-60, 1e-3, 1e-90, 1e-120, 1.0, 1e-200, 0.0])
    _, gradient = markov.loss_and_gradient(Weights(c, np.eye(3), np.array(2.0)), windows)
    _, of_ten = markov.loss_and_gradient(
        Weights(np.where(c < 1e-50, 10 * c, c), np.eye(3), np.array(2.0)), windows
    )
    tiny = (c < 1e-50) & (c > 0)
    assert of_ten.c[tiny] == pytest.approx(10 * gradient.c[tiny], rel=1e-12, abs=0)
    assert np.all(gradient.c[tiny] != 0) and gradient.c[6] == 0


# The task


def test_sequences_follow_their_kernels():
    sequences = sequences_of(4000, 3, 3, 12, dirichlet=0.5)
    assert sequences.states.shape == (4000, 13) and sequences.L == 12
    assert sequences.truth.sum(axis=1) == pytest.approx(np.ones(4000))
    # The first states and the states on the whole are uniform, by symmetry.
    assert np.bincount(sequences.states[:, 0], minlength=3) == pytest.approx(4000 / 3, rel=0.06)
    # The target has the probabilities it was drawn from: a sum of 4000 independent draws.
    hit = np.take_along_axis(sequences.truth, sequences.target[:, None].astype(int), axis=1)[:, 0]
    expected = (sequences.truth**2).sum(axis=1)
    z = (hit - expected).sum() / np.sqrt(((sequences.truth**3).sum(1) - expected**2).sum())
    assert abs(z) < 4
    # The same parents in one sequence give the same law: repeats agree far more than 1/3.
    assert np.array_equal(sequences_of(7, 3, 3, 12).states, sequences_of(7, 3, 3, 12).states)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dirichlet": 0.0}, "dirichlet must be a positive number"),
        ({"dirichlet": -1.0}, "dirichlet must be a positive number"),
        ({"H": 1}, "H must be at least 2"),
        ({"degree": 4}, "degree = 4 must be an integer from 0 to H = 3"),
        ({"L": 4}, "L must be at least 5"),
        ({"n": 4, "L": 3}, "too short for a chain with 3 parents"),
        ({"S": 1}, "S must be an integer, at least 2"),
        ({"S": 500}, "at most 100"),
        ({"S": 60, "n": 9, "H": 8}, "GiB"),
        ({"S": 30, "H": 9}, "64 bits"),
        ({"sequences": 10**10}, "GiB of memory"),
        ({"batch": 10}, "drop batch"),
        ({"sequences": 0}, "sequences must be a positive integer"),
        ({"loss": "cs"}, "did you mean 'ce'"),
        ({"training": "C-W-C"}, "repeats a stage"),
        ({"training": "C-W-b"}, "unknown stage of training 'b'"),
        ({"c_init": 0.0}, "c_init"),
        ({"a_init": 1e9}, "±700"),
        ({"eps": -1.0}, "eps must be 0 or positive"),
        ({"record": (50.0,)}, "recorded times must lie between 0 and 40"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(change, said):
    with pytest.raises(InputError, match=said.replace("±", ".")):
        replace(SMALL, **change)


def test_memory_is_estimated_before_it_is_taken():
    memory.require(1.0, "a byte", "take none")
    with pytest.raises(InputError, match=r"a mountain would take about .* GiB .*; take a hill"):
        memory.require(1e18, "a mountain", "take a hill")


# What it tends to


def by_hand(sequences):
    """The generalised induction head, sequence by sequence."""
    outputs = []
    for row in sequences.states:
        x = row[:-1].tolist()
        parents, n = x[len(x) - sequences.n + 1 :], sequences.n
        found = [x[i] for i in range(n - 1, len(x)) if x[i - n + 1 : i] == parents] or x
        outputs.append([found.count(k) / len(found) for k in range(sequences.S)])
    return np.array(outputs)


@pytest.mark.parametrize("case", [(3, 3, 12, 3), (2, 2, 5, 1), (4, 4, 30, 4)])
def test_the_induction_head_is_the_limit_of_the_model(case):
    S, n, L, H = case
    sequences = sequences_of(200, S, n, max(L, 2 * H - 1))
    head = induction_head.induction_head(sequences)
    assert head == pytest.approx(by_hand(sequences), abs=1e-15)
    parents = markov.subsets(H, n - 1).index(tuple(range(1, n)))
    c = np.zeros(len(markov.subsets(H, n - 1)))
    c[parents] = 1.0
    W = np.zeros((H, H))
    W[:, 0] = 700.0
    o = markov.outputs(Weights(c, W, np.array(600.0)), compress(sequences, H))
    assert o == pytest.approx(head, abs=1e-12)
    if L == 12:
        assert 0 < induction_head.unmatched(sequences) < 1


def test_nothing_beats_bayes_on_average_and_the_oracle_beats_it():
    sequences = sequences_of(20_000, 3, 3, 50, dirichlet=0.3)
    head = induction_head.induction_head(sequences)
    for loss in markov.LOSSES:
        outputs = [
            head,
            induction_head.best_output(induction_head.posterior(sequences), loss),
            induction_head.best_output(sequences.truth, loss),
        ]
        each = [markov.losses(o, sequences.target, loss, 1e-8) for o in outputs]
        assert each[0].mean() > each[1].mean() > each[2].mean()


def test_the_posterior_is_calibrated():
    """Among targets given probability q, a part q occurs."""
    sequences = sequences_of(30_000, 3, 3, 30, dirichlet=0.5)
    q = induction_head.posterior(sequences)
    hit = np.eye(3)[sequences.target]
    for low in (0.1, 0.3, 0.6):
        near = (q > low) & (q < low + 0.2)
        gap = (hit - q)[near].sum() / np.sqrt((q * (1 - q))[near].sum())
        assert abs(gap) < 4


def test_best_output_minimises_the_expected_loss():
    rng = np.random.default_rng(0)
    for S in (2, 3, 10):
        q = rng.dirichlet(np.full(S, 0.5), size=50)
        best = induction_head.best_output(q, "ce")
        assert best.min() >= 0 and best.sum(axis=1) == pytest.approx(np.ones(50))

        def risk(o, q=q):
            return np.log(np.exp(o).sum(axis=1)) - (q * o).sum(axis=1)

        for _ in range(200):
            other = rng.dirichlet(np.full(S, 0.5), size=50)
            share = rng.random((50, 1)) ** 4
            assert np.all(risk(best) <= risk((1 - share) * best + share * other) + 1e-12)
    assert induction_head.best_output(q, "log") is q
    with pytest.raises(InputError, match="unknown loss"):
        induction_head.best_output(q, "l2")


# Training


def test_the_trajectory_has_the_reduced_systems_names():
    trajectory, weights = train_markov(SMALL)
    assert trajectory.coordinates[:7] == tuple(
        f"c_{s}" for s in ("empty", "1", "2", "3", "12", "13", "23")
    )
    assert trajectory.coordinates[7:] == (*(f"W_{h}_{j}" for h in (1, 2, 3) for j in range(3)), "a")
    assert trajectory.t.tolist() == [0, 5, 10, 15, 20, 25, 30, 35, 40]
    assert trajectory["a"][0] == 0.01 and trajectory["W_2_0"][0] == 3.0
    assert trajectory["c_1"][0] == pytest.approx(np.log(1e-4))
    p = np.array([trajectory[f"p_{s[2:]}"] for s in trajectory.coordinates[:7]])
    assert p.sum(axis=0) == pytest.approx(np.ones(9))
    assert trajectory["a"][-1] == weights.a
    again = markov_training.weights_of(trajectory, SMALL)
    assert np.array_equal(again.W, weights.W)
    assert again.c == pytest.approx(np.abs(weights.c), rel=1e-12)
    sequences, held_out = markov_training.data(SMALL)
    for name, which in (("accuracy", sequences), ("validation_accuracy", held_out)):
        o = markov.outputs(weights, compress(which, 3))
        assert trajectory[name][-1] == markov.accuracy(o, which.target)
    assert trajectory["validation_loss"][-1] == pytest.approx(
        explicit(weights, held_out, 2, "ce")[0]
    )
    assert trajectory.loss[-1] == pytest.approx(explicit(weights, sequences, 2, "ce")[0])


def test_the_pair_of_parents_is_selected_first():
    config = MarkovConfig(sequences=2000, validation=200, steps=60, record=60)
    trajectory, _ = train_markov(config)
    assert 8 < trajectory.events["T_selected"] < 14
    assert trajectory["p_12"][-1] > 0.999 and trajectory.loss[-1] < 0.72


@pytest.mark.parametrize("order", ["C-W-a", "a-C-W"])
def test_stages_train_one_part_at_a_time(order):
    trajectory, _ = train_markov(replace(SMALL, training=order, steps=30, record=30))
    columns = {"C": slice(0, 7), "W": slice(7, 16), "a": slice(16, 17)}
    for k, part in enumerate(order.split("-")):
        change = np.diff(trajectory.z[10 * k : 10 * k + 11], axis=0)
        for other, where in columns.items():
            assert np.any(change[:, where]) == (other == part)


def test_resumed_training_is_the_same_to_the_last_bit(tmp_path, monkeypatch):
    config = replace(SMALL, training="W-C-a")
    whole, weights = train_markov(config)
    path = tmp_path / "kept.npz"
    calls, original = [], markov.loss_and_gradient

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 17:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(markov, "loss_and_gradient", interrupted)
    with pytest.raises(TrainingInterrupted) as stopped:
        train_markov(config, checkpoint=path)
    assert stopped.value.step == 16 and stopped.value.trajectory.t[-1] == 15
    resumed, other = train_markov(config, checkpoint=path)
    assert np.array_equal(resumed.z, whole.z) and np.array_equal(resumed.loss, whole.loss)
    assert all(np.array_equal(x, y) for x, y in zip(weights, other, strict=True))
    with pytest.raises(InputError, match=r"was made with dirichlet = 0\.1, not 0\.2"):
        train_markov(replace(config, dirichlet=0.2), checkpoint=path)


def test_steps_that_are_too_long_are_said_to_be():
    with pytest.raises(DivergedError, match="diverged at step"):
        train_markov(replace(SMALL, learning_rate=1e7, record=1))


def test_a_trajectory_travels_in_a_file(tmp_path):
    trajectory, _ = train_markov(SMALL)
    storage.save(trajectory, tmp_path / "run.json")
    again = storage.load(tmp_path / "run.json")
    assert np.array_equal(again.z, trajectory.z) and again.parameters == trajectory.parameters


@pytest.mark.parametrize("case", [(3, 4, 5, 3), (6, 3, 3, 2)])
def test_other_orders_and_alphabets_work(case):
    S, n, H, degree = case
    config = replace(SMALL, S=S, n=n, H=H, degree=degree, sequences=300, steps=5, record=5)
    trajectory, _ = train_markov(config)
    assert np.isfinite(trajectory.z).all() and trajectory.loss[-1] < trajectory.loss[0]
