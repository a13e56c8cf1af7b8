"""Plateaus of a loss."""

import numpy as np
import pytest

from reduced_dynamics.families.wang.plateau import plateaus


def test_plateaus_of_a_staircase():
    x = np.linspace(0.0, 9.0, 300)
    loss = 3.0 - 1.0 / (1 + np.exp(-4 * (x - 2))) - 1.5 / (1 + np.exp(-4 * (x - 6)))
    (found,) = plateaus(np.exp(x), loss)
    assert np.exp(2) < found.start < found.step < found.end < np.exp(6)
    assert found.slowing < 0.05 and found.loss == pytest.approx(2.0, abs=0.02)
    assert plateaus(np.exp(x), -x) == []  # an even fall has none
    assert plateaus(np.exp(x), -(x**2)) == []
