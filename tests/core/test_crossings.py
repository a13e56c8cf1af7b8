"""Crossings between recorded times."""

import numpy as np
import pytest

from reduced_dynamics.core.crossings import crossings, first_reach


def found(height, direction=0):
    height = np.array(height, dtype=float)
    t = 10.0 * np.arange(len(height))
    z = np.column_stack([t, -2.0 * t])
    return [(c.t, c.direction, c.state) for c in crossings("e", t, z, height, direction)]


def test_all_crossings_linear_in_between():
    assert found([-1, 3, -1]) == [(2.5, 1, (2.5, -5.0)), (17.5, -1, (17.5, -35.0))]
    assert [(t, d) for t, d, _ in found([-1, 0, 1])] == [(10.0, 1)]
    assert [(t, d) for t, d, _ in found([1, 0, -1])] == [(10.0, -1)]
    assert found([1, 0, 1]) == found([2, 1, 3]) == []  # what touches has not crossed
    assert found([np.nan, np.nan]) == []


def test_the_first_time_that_a_level_is_reached():
    assert [t for t, *_ in found([-1, 1, -1, 1], 1)] == [5.0]
    assert [t for t, *_ in found([3, -1, 1, -1], -1)] == [7.5]
    assert found([1, -1, 1], 1) == found([-1, 1, -1], -1) == []  # it was there at the start
    assert found([-1, -2], 1) == []


def test_first_reach():
    t, values = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.5, 3.0])
    assert first_reach(t, values, 0.25) == 0.25
    assert first_reach(t, values, 2.0) == pytest.approx(2.6)
    assert first_reach(t, values, 4.0) is None and first_reach(t, values, 0.0) == 0.0
