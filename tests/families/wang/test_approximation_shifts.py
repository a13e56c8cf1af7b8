"""Theorem 3.3: shifts by bounded combinations of kernels, and the transformer that they make."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.wang.approximation import kernels, shifts, supremum
from reduced_dynamics.families.wang.approximation.combination import combine
from reduced_dynamics.families.wang.approximation.constructions import (
    score_bound,
    shift_bound,
    theorem_3_3,
)
from reduced_dynamics.families.wang.approximation.targets import induction_head


@given(
    st.lists(st.floats(0.1, 6.0), min_size=1, max_size=5, unique=True),
    st.integers(1, 4),
    st.floats(0.5, 300.0),
    st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_the_program_is_optimal_and_bounded(slopes, i, bound, seed):
    """Its certificate equals its error, and no other combination is better."""
    slopes = np.array(slopes)
    systems = [kernels.endless(slopes, 200)]
    found = combine(systems, i, bound)
    assert np.abs(found.coefficients).sum() <= bound * (1 + 1e-12)
    assert found.lower <= found.error + 1e-12
    assert found.error - found.lower < 1e-6 * (1 + bound)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        c = found.coefficients + rng.normal(0, 0.1, len(slopes))
        c *= min(1, bound / np.abs(c).sum())
        error = np.abs(systems[0][0] @ c - (np.arange(1, 201) == i)).sum()
        assert error + np.abs(c) @ systems[0][1] >= found.lower - 1e-12


@pytest.mark.parametrize(("kind", "lengths"), [("exponential", None), ("polynomial", (5, 9, 40))])
def test_the_derivative_by_the_slopes(kind, lengths):
    slopes = np.array([3.0, 1.5, 0.8, 0.4]) * (1 if lengths is None else 2)
    systems = shifts._systems(kind, slopes, lengths)
    lags = len(systems[0][0])

    def best(slopes):
        return combine(shifts._systems(kind, slopes, lengths, lags), 2, 50.0)

    found = shifts._derivative(kind, slopes, systems, best(slopes), lengths)
    step = 1e-5 * np.eye(4)
    differences = [(best(slopes + e).error - best(slopes - e).error) / 2e-5 for e in step]
    np.testing.assert_allclose(found, differences, rtol=1e-3, atol=1e-5)
    assert np.abs(found).max() > 1e-2


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("kind", kernels.KERNELS)
def test_too_few_heads_leave_an_error_of_one(kind, n):
    """H < n − 1: no slopes and no coefficients do better, and the certificate says so."""
    rng = np.random.default_rng(n)
    lengths = None if kind == "exponential" else (n - 1, 40)
    for H in range(1, n - 1):
        for slopes in rng.uniform(0.2, 6.0, (4, H)):
            found = shifts.fit(kind, n, H, 1e5, lengths, slopes)
            assert found.error == pytest.approx(1, abs=1e-3)
        assert shifts.fit(kind, n, H, 1e5, lengths).error == pytest.approx(1, abs=1e-3)
    # The witness: orthogonal to all kernels on the first n − 1 lags, so it sees nothing else.
    slopes = rng.uniform(0.2, 6.0, n - 2)
    y = np.linalg.svd(kernels.kernel(kind, slopes, 30)[: n - 1].T)[2][-1]
    i = int(np.argmax(np.abs(y))) + 1
    y = y / y[i - 1]
    for c in rng.normal(0, 10, (50, n - 2)):
        assert kernels.error(kind, slopes, c, i, 30) >= 1
    assert np.abs(y).max() == pytest.approx(1)


def test_the_error_falls_with_the_heads_and_the_bound():
    previous, start = 1.0, None
    for H in (3, 4, 6, 8):
        found = shifts.fit("exponential", 4, H, 1e4, start=start)
        assert found.error < 0.6 * previous
        assert found.size <= 1e4 * (1 + 1e-12)
        previous, start = found.error, found.slopes
    assert previous < 1e-3
    # Many slopes at once are a lower bound at this bound of the coefficients, and above 0.
    assert 0 < shifts.floor(4, 1e3) < shifts.fit("exponential", 4, 4, 1e3).error


@pytest.mark.parametrize(("n", "H", "power"), [(3, 2, -1.0), (4, 3, -0.5)])
def test_the_power_in_the_bound_is_that_of_finite_differences(n, H, power):
    """Error ∝ B^{−(H−i+1)/(i−1)} for i = n − 1: without a bound n − 1 heads are enough."""
    bounds = (1e3, 1e4) if n == 3 else (1e5, 1e6)
    errors = [shifts.fit("exponential", n, H, bound).error for bound in bounds]
    measured = np.log(errors[1] / errors[0]) / np.log(bounds[1] / bounds[0])
    assert measured == pytest.approx(power, rel=0.03)


@pytest.mark.parametrize(("i", "H"), [(1, 2), (2, 2), (2, 3), (2, 4), (3, 3), (3, 4), (3, 5)])
def test_finite_differences_of_the_decay(i, H):
    """Error O(η^{H−i+1}), Σ|c| = O(η^{−(i−1)}), and the program is at least as good."""
    etas, errors, sizes = np.array([0.04, 0.02, 0.01]), [], []
    for eta in etas:
        slopes = -np.log(eta * np.arange(1, H + 1) / H)
        head, _ = kernels.endless(slopes, 30)
        c = np.linalg.solve(head[:H], np.arange(1, H + 1) == i)
        errors.append(np.abs(head[H:] @ c).sum())
        sizes.append(np.abs(c).sum())
        found = combine([kernels.endless(slopes, 60)], i, sizes[-1] * (1 + 1e-9))
        assert found.error <= errors[-1] * (1 + 1e-6) + 1e-10 * sizes[-1]

    def power(values):
        return np.log(values[-1] / values[-2]) / np.log(etas[-1] / etas[-2])

    assert power(errors) == pytest.approx(H - i + 1, abs=0.05)
    assert power(sizes) == pytest.approx(-(i - 1), abs=0.05)


def test_the_exponential_kernel_near_the_start():
    """However short the sequence, and with the normalisation that the softmax has there."""
    found = shifts.fit("exponential", 4, 6, 1e4)
    for S in (3, 4, 5, 6, 10, 50, 300):
        assert found.error_over(S) <= found.error
    alpha = found.coefficients * -np.expm1(-found.slopes)
    unnormalised = shifts.Shifts("exponential", found.slopes, alpha, found.errors, found.lower)
    assert unnormalised.error_over(3) > 0.9


def test_the_polynomial_kernel_is_fitted_for_one_length_only():
    one = shifts.fit("polynomial", 4, 6, 1e4, (60,))
    assert one.error_over(60) == one.error
    several = shifts.fit("polynomial", 4, 6, 1e4, (3, 5, 9, 20, 60), one.slopes)
    assert several.error == max(several.error_over(S) for S in (3, 5, 9, 20, 60))
    # With the same slopes, serving more lengths costs accuracy at the one.
    assert several.error_over(60) >= one.error - 1e-6
    assert several.error <= max(one.error_over(S) for S in (3, 5, 9, 20, 60)) + 1e-6


@pytest.mark.parametrize("L", [5, 6, 12, 64])
def test_the_transformer_stays_within_its_bound(L):
    n, d = 4, 2
    found = shifts.fit("exponential", n, 6, 1e4)
    rng, W = np.random.default_rng(L), np.eye((n - 1) * d)
    model = theorem_3_3(W, found, d)
    assert (n * d, 6) == (model.D, model.H)
    X = supremum.sample(200, L, d, rng)
    _, searched = supremum.largest(model, lambda X: induction_head(X, W, n), X, 20, rng)
    assert searched <= score_bound(shift_bound(W, found.error, d))
    # The blocks of every row that layer 2 reads are the tokens before it.
    hidden = model.hidden(X)
    for i in range(1, n):
        block = hidden[:, n - 1 :, i * d : (i + 1) * d]
        assert np.abs(block - X[:, n - 1 - i : L - i]).max() <= found.errors[i - 1] + 1e-12


@pytest.mark.parametrize("H", [1, 2, 3])
def test_heads_below_n_minus_1_fail_at_ih_4(H):
    rng, W = np.random.default_rng(0), np.eye(3)
    model = theorem_3_3(W, shifts.fit("exponential", 4, H, 1e5), 1)
    X = supremum.sample(300, 40, 1, rng)
    _, searched = supremum.largest(model, lambda X: induction_head(X, W, 4), X, 20, rng)
    assert searched > 0.3 if H < 3 else searched < 0.03


def test_bad_sizes():
    with pytest.raises(InputError, match="polynomial kernel has no limit"):
        shifts.fit("polynomial", 3, 2, 10.0)
    with pytest.raises(InputError, match="n ≥ 2, H ≥ 1 and bound > 0"):
        shifts.fit("exponential", 3, 0, 10.0)
    with pytest.raises(InputError, match="at least 3 tokens, not 2"):
        shifts.fit("exponential", 4, 3, 10.0, (2, 9))
    with pytest.raises(InputError, match="did you mean 'polynomial'"):
        kernels.kernel("polynomal", [1.0], 3)
    with pytest.raises(InputError, match="give it S"):
        shifts.copy("polynomial", 2.0)
