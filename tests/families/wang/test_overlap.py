"""Overlaps of softmax averages: quadrature against brute force and sampling; the tables."""

import math

import numpy as np
import pytest

from reduced_dynamics.compilation import cache
from reduced_dynamics.families.wang import overlap
from reduced_dynamics.families.wang.overlap import Table, table


def brute_force(n, a, b, step):
    """Q(a, b) as a trapezoid sum over z and all the keys at once.

    The last value x_{n+1} is in no exponential: E x = 0 and E x² = 1 take its place.
    """
    x = step * np.arange(-math.ceil(6.5 / step), math.ceil(6.5 / step) + 1)
    w = np.exp(-x * x / 2) * step / math.sqrt(2 * math.pi)
    keys = np.stack(np.meshgrid(*[x] * n, indexing="ij"))
    weight = math.prod(np.meshgrid(*[w] * n, indexing="ij"))
    total = 0.0
    for k in range(19):
        z = 0.35 * k
        first, second = (np.exp(s * z * keys) for s in (a, b))
        first /= first.sum(0)
        second /= second.sum(0)
        outputs = [(p[:-1] * keys[1:]).sum(0) for p in (first, second)]
        given = (weight * (outputs[0] * outputs[1] + first[-1] * second[-1])).sum()
        total += (1 if k == 0 else 2) * 0.35 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * given
    return total


@pytest.mark.parametrize(
    "n, a, b, step",
    [(3, 0.3, 0.24, 0.4), (3, 0.7, 0.7, 0.3), (4, 0.5, 0.3, 0.6), (4, -0.3, 0.5, 0.6)],
)
def test_brute_force_at_small_sizes(n, a, b, step):
    assert overlap.overlap(n, a, b) == pytest.approx(brute_force(n, a, b, step), rel=1e-7)


def test_two_grids_and_one_agree():
    # a = b takes the one-dimensional path; a hair beside it the general one.
    for n, a in ((2, 0.4), (37, 0.49), (5000, 0.6)):
        assert overlap.overlap(n, a, a * (1 + 1e-14)) == pytest.approx(
            overlap.overlap(n, a, a), rel=1e-9
        )


def test_monte_carlo_at_L_40():
    n, a, b, draws = 37, 0.49, 0.2401, 60_000
    random = np.random.default_rng(5)
    samples = np.empty(draws)
    for start in range(0, draws, 20_000):
        x, z = random.standard_normal((20_000, n + 1)), random.standard_normal((20_000, 1))
        outputs = []
        for s in (a, b):
            e = np.exp(s * z * x[:, :-1])
            outputs.append((e * x[:, 1:]).sum(1) / e.sum(1))
        samples[start : start + 20_000] = outputs[0] * outputs[1]
    error = samples.std() / math.sqrt(draws)
    assert abs(samples.mean() - overlap.overlap(n, a, b)) < 3.5 * error
    assert error < 0.01 * samples.mean()


@pytest.mark.parametrize(
    "n, a, b", [(2, 0.2, 0.2), (37, 0.24, 0.24), (37, 0.9, 0.24), (997, 0.7, 0.5)]
)
def test_refinement(n, a, b):
    assert overlap.overlap(n, a, b) == pytest.approx(overlap.overlap(n, a, b, 1.6), rel=1e-8)


def test_the_asymptotic_form_is_the_limit():
    """The relative difference from (1/N)(1 − 2ab)^{−1/2} falls like 1/N."""
    a, b = 0.15, 0.2
    gaps = [1 - n * overlap.overlap(n, a, b) * math.sqrt(1 - 2 * a * b) for n in (1000, 10_000)]
    assert gaps[0] / gaps[1] == pytest.approx(10.0, rel=0.05)


def test_table_holds_values_and_derivatives():
    found = table(37, 0.2401)
    assert found.error <= overlap.ACCURACY
    for a in (0.0, 0.05, 0.2, 0.2401, 0.45, -0.2, 0.97):
        assert found.own(a) == pytest.approx(overlap.overlap(37, a, a, 1.3), rel=1e-8)
        assert found.cross(a) == pytest.approx(overlap.overlap(37, a, 0.2401, 1.3), rel=1e-8)
    assert found.cross(0.2401) == found.own(0.2401) == found.target


@pytest.mark.parametrize("n, a, b", [(2, 2.275, 2.0), (37, 1.54, 2.0), (37, -0.2, 2.0)])
def test_steep_scores_of_similar_size(n, a, b):
    """Grids in proportion to the scores were in phase here: 7e-7 wrong."""
    assert overlap.overlap(n, a, b) == pytest.approx(overlap.overlap(n, a, b, 1.5), rel=2e-9)


@pytest.mark.parametrize("n, a_star", [(2, 1e-4), (999_997, 1e-4), (999_997, 0.2401), (997, 0.9)])
def test_tables_at_the_ends_of_the_range(n, a_star):
    found = overlap._made(n, a_star)
    assert found.error <= overlap.ACCURACY
    assert found.series.shape[1] <= 48
    for a in (0.11 * a_star, 0.9 * a_star):
        assert found.own(a) == pytest.approx(overlap.overlap(n, a, a, 1.6), rel=1e-8)
        assert found.cross(a) == pytest.approx(overlap.overlap(n, a, a_star, 1.6), rel=1e-8)


def test_a_slow_table_is_announced(monkeypatch, caplog):
    monkeypatch.setattr(overlap, "QUIET", 0.0)
    with caplog.at_level("INFO", logger="reduced_dynamics"):
        overlap._made(37, 0.21)
    assert [r.message for r in caplog.records] == [
        "tabulating the overlaps for L = 40, a* = 0.21 by quadrature (once; kept in the cache)"
    ]


def test_a_saddle_is_not_exactly_at_c():
    """N·Q(0, b) is 1 for two pairs by symmetry, and a little less for more."""
    assert 2 * overlap.overlap(2, 0.0, 0.8) == pytest.approx(1.0, abs=1e-9)
    assert 37 * overlap.overlap(37, 0.0, 0.2401) == pytest.approx(0.9999608, abs=1e-7)


def test_tables_are_kept_and_damage_is_repaired(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    made = []

    def fake(n, a_star):
        made.append((n, a_star))
        return Table(a_star, 0.5, 1.0, np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]]), 1e-10)

    monkeypatch.setattr(overlap, "_made", fake)
    overlap.table.cache_clear()
    try:
        first = overlap.table(5, 0.25)
        overlap.table.cache_clear()
        again = overlap.table(5, 0.25)
        assert len(made) == 1
        assert np.array_equal(first.packed, again.packed)
        (file,) = tmp_path.glob("overlap-*.bin")
        for damage in (b"", file.read_bytes()[:-3], b"nonsense\n\x00\x01"):
            file.write_bytes(damage)
            overlap.table.cache_clear()
            assert np.array_equal(overlap.table(5, 0.25).packed, first.packed)
        assert len(made) == 4
        overlap.table.cache_clear()
        overlap.table(5, 0.26)
        assert len(made) == 5
    finally:
        overlap.table.cache_clear()
