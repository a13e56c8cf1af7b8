"""The approximation theorems: transformer, targets, kernels, constructions and their errors."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from derivations.wang import periodised_kernel
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.wang.approximation import (
    kernels,
    relu,
    shifts,
    similarities,
    supremum,
)
from reduced_dynamics.families.wang.approximation.constructions import (
    score_bound,
    shift_bound,
    theorem_3_1,
    theorem_3_3,
    theorem_3_4,
)
from reduced_dynamics.families.wang.approximation.targets import (
    generalised_induction_head,
    induction_head,
)
from reduced_dynamics.families.wang.approximation.transformer import (
    Attention,
    FeedForward,
    Transformer,
)

KINDS = pytest.mark.parametrize("kind", kernels.KERNELS)


def slow_head(X, n, g):
    """GIH_n of one sequence, word for word."""
    L = len(X)
    token = {s: X[s - 1] for s in range(1, L + 1)}
    u = np.concatenate([token[L - j] for j in range(n - 1)])
    scores, values = [], []
    for s in range(n, L):
        v = np.concatenate([token[s - 1 - j] for j in range(n - 1)])
        scores.append(np.exp(g(u, v)))
        values.append(token[s])
    return sum(w * x for w, x in zip(scores, values, strict=True)) / sum(scores)


def slow_transformer(model, X):
    """The model on one sequence: every head, row and score in a loop."""

    def attention(layer, rows):
        out = []
        for s in range(1, len(rows) + 1):
            total = rows[s - 1].copy() if layer.skip else np.zeros(len(rows[0]))
            seen = [t for t in range(1, s) if t >= layer.first]
            for Q, K, V, p in zip(layer.Q, layer.K, layer.V, layer.slopes, strict=True):
                phi = [s - t if layer.kernel == "exponential" else np.log(s - t) for t in seen]
                scores = [
                    (Q @ rows[s - 1]) @ (K @ rows[t - 1]) - p * f
                    for t, f in zip(seen, phi, strict=True)
                ]
                weights = np.exp(np.array(scores) - max(scores)) if seen else []
                for t, w in zip(seen, weights, strict=True):
                    total += w / sum(weights) * (V @ rows[t - 1])
            out.append(total)
        return out

    rows = attention(model.layer1, [model.embedding @ x for x in X])
    if model.feed_forward is not None:
        f = model.feed_forward
        rows = [x + f.B @ np.maximum(f.A @ x + f.a, 0) + f.b for x in rows]
    return model.readout @ attention(model.layer2, rows)[-1]


@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 5), st.integers(0, 10**6))
def test_targets_against_the_definition(n, d, more, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((3, n + 1 + more, d))
    W = rng.standard_normal(((n - 1) * d,) * 2)
    expected = [slow_head(x, n, lambda u, v: u @ W @ v) for x in X]
    np.testing.assert_allclose(induction_head(X, W, n), expected, rtol=1e-12, atol=1e-12)
    for g in similarities.SIMILARITIES.values():
        expected = [slow_head(x, n, g) for x in X]
        np.testing.assert_allclose(generalised_induction_head(X, n, g), expected, rtol=1e-12,
                                   atol=1e-12)  # fmt: skip


def test_targets_of_too_short_sequences():
    with pytest.raises(InputError, match=r"IH_4 needs .* L ≥ n \+ 1 = 5 tokens, not L = 4"):
        induction_head(np.zeros((1, 4, 1)), np.eye(3), 4)


@KINDS
@pytest.mark.parametrize("skip", [True, False])
def test_transformer_against_loops(kind, skip):
    rng = np.random.default_rng(0)
    D, d, L, M = 5, 2, 7, 6

    def layer(H, first, skip):
        return Attention(
            *rng.standard_normal((3, H, D, D)), rng.uniform(0, 2, H), kind, first, skip
        )

    model = Transformer(
        rng.standard_normal((D, d)), layer(3, 1, True), layer(2, 3, skip),
        rng.standard_normal((d, D)),
        FeedForward(rng.standard_normal((M, D)), rng.standard_normal(M),
                    rng.standard_normal((D, M)), rng.standard_normal(D)),
    )  # fmt: skip
    X = rng.standard_normal((4, L, d))
    np.testing.assert_allclose(model(X), [slow_transformer(model, x) for x in X], rtol=1e-10)
    assert (model.D, model.H) == (D, 3)


def test_rows_that_see_nothing_get_nothing():
    one = np.ones((1, 1, 1))
    layer = Attention(one, one, one, np.zeros(1), first=3, skip=False)
    assert layer(np.ones((1, 5, 1)))[0, :, 0].tolist() == [0, 0, 0, 1, 1]


# Theorem 3.1


@KINDS
def test_one_head_a_layer_within_its_bound_and_at_its_rate(kind):
    """Order of magnitude of the specification's errors at L = 64: that of a random sample."""
    stated = {
        "exponential": [0.29, 0.12, 0.018, 3.2e-4, 6.0e-6],
        "polynomial": [0.49, 0.28, 0.065, 3.7e-3, 2.4e-4],
    }[kind]
    rng, W, slopes, found = np.random.default_rng(1), np.eye(2), (1, 2, 4, 8, 12), []
    X = supremum.sample(600, 64, 2, rng)
    for p, expected in zip(slopes, stated, strict=True):
        model = theorem_3_1(W, kind, p)
        assert (model.D, model.H, model.feed_forward) == (4, 1, None)
        sampled, searched = supremum.largest(model, lambda X: induction_head(X, W), X, 25, rng)
        bound = score_bound(shift_bound(W, shifts.copy(kind, p, 62).error, 2))
        assert expected / 3 < sampled < 3 * expected
        assert sampled < searched < bound < 5 * searched
        found.append(searched)
    rate = np.polyfit(slopes[2:], np.log(found[2:]), 1)[0]
    assert rate == pytest.approx({"exponential": -1, "polynomial": -np.log(2)}[kind], rel=0.06)


@pytest.mark.parametrize("L", [3, 4, 16, 200])
def test_the_bound_of_the_exponential_kernel_holds_at_every_length(L):
    rng, W = np.random.default_rng(L), np.eye(1)
    model = theorem_3_1(W, "exponential", 3.0)
    X = supremum.sample(200, L, 1, rng)
    _, searched = supremum.largest(model, lambda X: induction_head(X, W), X, 20, rng)
    assert searched < score_bound(2 * np.exp(-3.0))


def test_score_bound_holds_and_is_sharp():
    rng = np.random.default_rng(2)
    for eta in (0.01, 0.3, 2.0):
        scores = rng.standard_normal((400, 9)) * 2
        moved = scores + eta * rng.choice([-1, 1], scores.shape)
        values = rng.choice([-1, 1], scores.shape)

        def average(a, values=values):
            return (np.exp(a) * values).sum(1) / np.exp(a).sum(1)

        assert np.abs(average(scores) - average(moved)).max() <= score_bound(eta) + 1e-12
    # Two tokens, moved apart from equal scores by ± η about the middle.
    a = np.array([-0.15, 0.15])
    change = 2 * abs(np.exp(a[1]) / np.exp(a).sum() - np.exp(-a[1]) / np.exp(a).sum())
    assert change == pytest.approx(2 * 2 * np.tanh(0.15) / 2)


# The kernels near the start


def test_the_folded_kernel_is_the_softmax():
    assert periodised_kernel.residual() == 0
    x = sp.Symbol("x", positive=True)
    z = periodised_kernel.z
    assert sp.simplify(periodised_kernel.coefficient().subs(z, 1 / x - 1) - 1 / (1 - x)) == 0
    third = {z: sp.Rational(1, 3)}
    k, S = periodised_kernel.k, periodised_kernel.S
    endless = periodised_kernel.endless_kernel().subs(third)
    folded = sum(endless.subs(k, 2 + 5 * j) for j in range(60))
    exact = periodised_kernel.softmax_kernel().subs(third).subs({k: 2, S: 5})
    assert abs(float(folded - exact)) < 1e-12


@given(st.floats(0.1, 5.0), st.integers(1, 12))
def test_the_folded_kernel_in_numbers(slope, S):
    K = S * int(np.ceil(40 / slope / S) + 1)
    endless, beyond = kernels.endless(np.array([slope]), K)
    folded = endless.reshape(-1, S, 1).sum(axis=0)
    np.testing.assert_allclose(folded, kernels.kernel("exponential", [slope], S), atol=1e-13)
    assert endless.sum() + beyond[0] == pytest.approx(1, abs=1e-13)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 10**6))
def test_no_combination_is_worse_over_few_tokens(H, i, seed):
    """err_S ≤ err_∞ for every S ≥ i, whatever the coefficients: they need not be good ones."""
    rng = np.random.default_rng(seed)
    slopes, c = rng.uniform(0.1, 4, H), rng.normal(0, 3, H)
    everywhere = kernels.error_everywhere(slopes, c, i, 60)
    for S in (i, i + 1, i + 2, i + 7, 60):
        assert kernels.error("exponential", slopes, c, i, S) <= everywhere
    head, beyond = kernels.endless(slopes, 60)
    in_doubles = np.abs(head @ c - (np.arange(1, 61) == i)).sum() + np.abs(c) @ beyond
    assert everywhere == pytest.approx(in_doubles, rel=0, abs=1e-14 * (1 + np.abs(c).sum()))


def test_the_error_of_a_shift_is_attained():
    slopes, c, S = np.array([0.5, 2.0]), np.array([-1.3, 2.1]), 6
    off = kernels.kernel("polynomial", slopes, S) @ c - (np.arange(1, S + 1) == 2)
    X = np.concatenate([np.sign(off)[::-1], [0.0]])[None, :, None]
    zeros = np.zeros((2, 1, 1))
    layer = Attention(zeros, zeros, c[:, None, None], slopes, "polynomial", skip=False)
    attained = layer(X)[0, -1, 0] - X[0, -3, 0]
    assert attained == pytest.approx(kernels.error("polynomial", slopes, c, 2, S), rel=1e-13)


# Theorem 3.4


@pytest.mark.parametrize("name", similarities.SIMILARITIES)
def test_expansion_is_orthonormal_and_converges(name):
    g = similarities.similarity(name, 1.5)
    found = similarities.decompose(g, 1)
    gram = found.phi[:, :9].T @ (found.weights[:, None] * found.phi[:, :9])
    np.testing.assert_allclose(gram, np.eye(9), atol=1e-12)
    u, v = np.random.default_rng(0).uniform(-1, 1, (2, 800, 1))
    errors = []
    for rank in (2, 8, 24):
        used = found.usable(rank)
        approximation = (found.left(u, used) * found.right(v, used)).sum(axis=-1)
        errors.append(np.abs(approximation - g(u, v)).max())
    if name == "kinked":  # as 1/r
        assert errors[0] * 2 == pytest.approx(errors[1] * 8, rel=0.25)
        assert errors[1] * 8 == pytest.approx(errors[2] * 24, rel=0.25)
    else:
        assert errors[2] < 1e-9
    # The root of the squares of what is left out is the error in L₂ (Schmidt, Eckart and Young).
    w, nodes = found.weights, found.nodes
    difference = found.left(nodes, 4) @ found.right(nodes, 4).T - g(nodes[:, None], nodes[None])
    left_out = np.sqrt((found.sigma[4:] ** 2).sum())
    assert np.sqrt(w @ difference**2 @ w) == pytest.approx(left_out, rel=1e-6)


def test_the_singular_values_of_the_kinked_similarity_fall_as_in_theory():
    """|u − v| is the Green's function of −½d²/du²: σ_k ∝ k⁻², so the sup error falls as 1/r."""
    found = similarities.decompose(similarities.similarity("kinked", 1.0), 1)
    k = np.arange(10, 41)
    assert np.polyfit(np.log(k), np.log(found.sigma[k]), 1)[0] == pytest.approx(-2, abs=0.1)


def test_relu_networks_are_piecewise_linear_interpolation():
    rng, x = np.random.default_rng(0), np.linspace(-1, 1, 5001)[:, None]

    def function(x):
        return np.concatenate([np.sin(3 * x), np.exp(x)], axis=-1)

    widths = (8, 16, 32, 64)
    errors = [np.abs(relu.fit(function, 1, w, rng)(x) - function(x)).max() for w in widths]
    assert np.polyfit(np.log(widths), np.log(errors), 1)[0] == pytest.approx(-2, abs=0.15)
    one = relu.fit(lambda x: np.maximum(x, 0.0), 1, 8, rng)  # a hinge of its own
    np.testing.assert_allclose(one(x), np.maximum(x, 0.0), atol=1e-12)
    assert (one.width, one.outputs) == (8, 1)
    with pytest.raises(InputError, match="at least one hidden unit"):
        relu.fit(function, 1, 0, rng)


@pytest.mark.parametrize(("n", "width", "tolerance"), [(2, 256, 2e-4), (3, 400, 0.08)])
def test_general_similarity_by_the_whole_transformer(n, width, tolerance):
    rng = np.random.default_rng(3)
    found = similarities.decompose(similarities.similarity("smooth", 1.0), n - 1)
    rank = 8 if n == 2 else 20
    left = relu.fit(lambda x: found.left(x, rank), n - 1, width, rng)
    right = relu.fit(lambda x: found.right(x, rank), n - 1, width, rng)
    copies = shifts.copy("exponential", 40.0) if n == 2 else shifts.fit("exponential", n, 4, 1e4)
    model = theorem_3_4(copies, 1, left, right)
    assert n + 2 * rank == model.D
    X = supremum.sample(300, 20, 1, rng)
    error = np.abs(model(X) - generalised_induction_head(X, n, found.g)).max()
    assert error < tolerance
    # What layer 2 reads are the features of the windows themselves.
    u = np.concatenate([X[:, -1 - j] for j in range(n - 1)], axis=-1)
    np.testing.assert_allclose(model.hidden(X)[:, -1, n : n + rank], left(u), atol=1e-5)


def test_theorem_3_1_is_3_3_with_one_head():
    rng = np.random.default_rng(4)
    W, X = rng.standard_normal((2, 2)), rng.uniform(-1, 1, (5, 9, 2))
    one = theorem_3_1(W, "exponential", 40.0)
    np.testing.assert_allclose(one(X), induction_head(X, W), atol=1e-12)
    W3 = rng.standard_normal((4, 4))
    two = theorem_3_3(W3, shifts.fit("exponential", 3, 2, 1e6), 2)
    np.testing.assert_allclose(two(X), induction_head(X, W3, 3), atol=1e-4)
