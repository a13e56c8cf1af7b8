"""Every crossing within a step is found, once, in order, and on the right side of its ends."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.polynomial import Polynomial

from reduced_dynamics.core.trajectory import lobatto
from reduced_dynamics.integration.events import may_cross, roots

#: Nodes a step: of the state, and of what is computed from it.
SIZES = (5, 9)


def search(function, n, low=0.0, high=1.0):
    """Crossings of a function on [low, high] as (place, direction), as the integrator does it."""

    def within(x):
        return float(function(low + (high - low) * np.asarray(x)))

    values = np.array([within(x) for x in lobatto(n)])
    if not may_cross(values[:, None])[0]:
        return []
    return [(low + (high - low) * x, direction) for x, direction in roots(values, within)]


def polynomial(places, scale=1.0, add=0.0):
    """scale · (Π (x − place) + add), from its factors, so that its roots are what they are."""
    return lambda x: scale * (np.prod([x - p for p in places], axis=0) + add)


places = st.lists(st.floats(0.01, 0.99), max_size=4, unique=True).map(sorted)
scales = st.floats(1e-9, 1e9).flatmap(lambda s: st.sampled_from([s, -s]))


def separated(xs, gap):
    return all(b - a > gap for a, b in itertools.pairwise(xs))


@given(places, scales, st.sampled_from(SIZES))
@settings(max_examples=300, deadline=None)
@example([0.5], 1.0, 9)  # at a node
@example([0.5], -1.0, 5)
@example([0.1464466094067262, 0.5, 0.8535533905932737], 1.0, 5)
def test_simple_roots_are_found_in_order(xs, scale, n):
    assume(separated(xs, 1e-3))
    p = polynomial(xs, scale)
    found = search(p, n)
    assert [x for x, _ in found] == pytest.approx(xs, abs=1e-10)
    sign = -1 if p(0.0) > 0 else 1
    assert [d for _, d in found] == [sign * (-1) ** k for k in range(len(xs))]


@given(
    st.floats(0.02, 0.97), st.floats(1e-6, 1e-2), st.lists(st.floats(1.5, 4), max_size=3), scales,
    st.sampled_from(SIZES),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_a_close_pair_between_two_nodes_is_not_missed(x, gap, outside, scale, n):
    outside = outside[: n - 3]
    p = polynomial([x, x + gap, *outside], scale)
    assert (p(0.0) > 0) == (p(1.0) > 0)  # the ends alone say nothing
    found = search(p, n)
    assert len(found) == 2
    assert [at for at, _ in found] == pytest.approx([x, x + gap], abs=1e-3 * gap)
    assert found[0][1] == -found[1][1]


@given(st.floats(0.02, 0.98), st.floats(1e-3, 1.0), scales, st.sampled_from(SIZES))
@settings(max_examples=200, deadline=None)
def test_what_stays_on_one_side_does_not_cross(x, height, scale, n):
    assert search(polynomial([x, x], scale, height * 1e-3), n) == []


@given(st.floats(0.02, 0.98), scales, st.sampled_from(SIZES))
@settings(max_examples=200, deadline=None)
@example(0.5, 1.0, 9)
@example(0.5, -1.0, 5)
def test_touching_leaves_no_crossing_or_a_pair_of_rounding_errors(x, scale, n):
    found = search(polynomial([x, x], scale), n)
    assert len(found) in (0, 2)
    for at, _ in found:
        assert at == pytest.approx(x, abs=1e-6)


@given(places, scales, st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from(SIZES))
@settings(max_examples=300, deadline=None)
@example([0.5], 1.0, [0.5], 9)  # a step ends at the root itself
@example([0.25, 0.75], 1.0, [0.25, 0.5, 0.75], 9)
def test_steps_neither_repeat_nor_lose_a_crossing(xs, scale, cuts, n):
    assume(separated(xs, 1e-3))
    ends = sorted({0.0, 1.0, *cuts})
    assume(separated(ends, 1e-6))
    p = polynomial(xs, scale)
    found = [c for a, b in itertools.pairwise(ends) for c in search(p, n, a, b)]
    assert [x for x, _ in found] == pytest.approx(xs, abs=1e-9)
    assert all(a[1] == -b[1] for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ends_of_a_step(n, sign):
    assert search(polynomial([0.0], sign), n) == []  # it crossed in the step before
    ((x, direction),) = search(polynomial([1.0], sign), n)
    assert (x, direction) == (1.0, int(sign))
    (first, second) = search(polynomial([0.0, 0.3, 1.0], sign), n)
    assert first == (pytest.approx(0.3), -int(sign))
    assert second == (1.0, int(sign))
    assert search(lambda x: 0.0 * x, n) == []  # a clamped coordinate at the level


@given(st.lists(st.floats(-3, 3), min_size=9, max_size=9), st.sampled_from(SIZES))
@settings(max_examples=500, deadline=None)
def test_no_interpolant_with_a_root_is_dismissed(values, n):
    """`may_cross` may be wrong in one direction only."""
    values = np.array(values[:n])
    if not may_cross(values[:, None])[0]:
        fit = Polynomial.fit(lobatto(n), values, n - 1)
        fine = fit(np.linspace(0, 1, 2001))
        assert (fine > 0).all() or (fine < 0).all()


def test_columns_are_told_apart():
    x = lobatto(9)
    values = np.stack([x - 0.5, x + 0.5, 0.1 - x, (x - 0.5) ** 2 + 1e-3], axis=1)
    assert may_cross(values)[[0, 2]].all()
    assert not may_cross(values)[1]
    assert may_cross(np.full((9, 1), np.nan)).all()  # to be looked at, not dismissed
    assert roots(np.full(9, np.nan), lambda x: np.nan) == []


def test_the_function_decides_where_the_interpolant_is_wrong():
    """The interpolant only says where to look; places and directions are the function's own."""
    steep = lambda x: np.tanh(40 * (np.asarray(x) - 0.37))  # noqa: E731
    ((x, direction),) = search(steep, 9)
    assert direction == 1
    assert x == pytest.approx(0.37, abs=1e-12)
