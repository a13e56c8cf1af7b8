"""What a training is put together from: optimisers, schedules, holds, settings."""

import re
from dataclasses import replace

import numpy as np
import pytest

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.training import hold
from reduced_dynamics.training.optimisers import SGD, Adam, Momentum
from reduced_dynamics.training.schedule import Constant, Cosine
from reduced_dynamics.training.settings import Settings


def test_optimisers_against_their_definitions():
    rng = np.random.default_rng(16)
    w = (rng.standard_normal(3), rng.standard_normal((2, 2)))
    gradients = [tuple(rng.standard_normal(a.shape) for a in w) for _ in range(5)]
    rates = [0.1, 0.2, 0.1, 0.3, 0.1]

    def run(optimiser):
        weights, memory = w, optimiser.start(w)
        for g, rate in zip(gradients, rates, strict=True):
            weights, memory = optimiser.step(weights, g, memory, rate)
        return weights

    for k in range(2):
        g = [gradient[k] for gradient in gradients]
        expected = w[k] - sum(rate * one for rate, one in zip(rates, g, strict=True))
        assert run(SGD())[k] == pytest.approx(expected, rel=1e-13)
        x, v = w[k], 0.0
        for rate, one in zip(rates, g, strict=True):
            v = 0.9 * v + one
            x = x - rate * v
        assert run(Momentum())[k] == pytest.approx(x, rel=1e-13)
        x, m, v = w[k], 0.0, 0.0
        for t, (rate, one) in enumerate(zip(rates, g, strict=True), start=1):
            m = 0.9 * m + 0.1 * one
            v = 0.999 * v + 0.001 * one**2
            x = x - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert run(Adam())[k] == pytest.approx(x, rel=1e-12)


def test_schedules():
    assert [Constant(0.3)(step) for step in (0, 7)] == [0.3, 0.3]
    assert [Cosine(0.4, 4)(step) for step in (0, 2, 4)] == pytest.approx([0.4, 0.2, 0.0])
    assert Cosine(0.4, 3)(1) == pytest.approx(0.3)


BEFORE = (np.array([1.0, 2.0]), np.array(3.0))
AFTER = (np.array([10.0, 20.0]), np.array(30.0))


def test_held_weights_stay():
    assert hold.nothing(0, BEFORE, AFTER) is AFTER
    one, two = hold.Weights((np.array([True, False]), True))(5, BEFORE, AFTER)
    assert one.tolist() == [1.0, 20.0] and two == 3.0
    assert hold.Weights((False, True))(5, BEFORE, AFTER)[0] is AFTER[0]


def test_held_coordinates_have_their_values_and_leave_the_rest_alone():
    basis = np.array([[3.0, 4.0], [-4.0, 3.0]]) / 5.0

    def embed(z):
        return (z @ basis,)

    held = hold.Coordinates(lambda w: basis @ w[0], embed, {1: 7.0})
    (w,) = held(0, (np.zeros(2),), (np.array([2.0, -1.0]),))
    assert (basis @ w).tolist() == pytest.approx([(basis @ [2.0, -1.0])[0], 7.0])


def test_stages_share_the_steps():
    parts = [hold.Weights(tuple(k != j for k in range(3))) for j in (1, 2, 0)]
    held, weights = hold.Stages(parts, 7), (0, 0, 0)
    for step in range(7):
        weights = held(step, weights, tuple(w - 1 for w in weights))
    assert weights == (-2, -3, -2)


SETTINGS = Settings(steps=60)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"t_end": 3.0}, "one of the two"),
        ({"steps": None}, "either steps or t_end"),
        ({"steps": 0}, "steps must be a positive integer"),
        ({"steps": 2.5}, "steps must be a positive integer"),
        ({"steps": True}, "steps must be a positive integer"),
        ({"steps": None, "t_end": np.nan}, "must be finite"),
        ({"steps": None, "t_end": np.inf}, "must be finite"),
        ({"steps": None, "t_end": 0.4}, "no less than 1, the time of one step"),
        ({"learning_rate": -1.0}, "learning rate must be a positive number"),
        ({"learning_rate": np.nan}, "learning rate must be a positive number"),
        ({"optimiser": "sdg"}, "did you mean 'sgd'"),
        ({"seed": -1}, "seed must be 0 or a positive integer"),
        ({"seed": 1.5}, "seed must be 0 or a positive integer"),
        ({"batch": 0}, "batch must be a positive integer"),
        ({"record": 0}, "at least one interval"),
        ({"record": (61.0,)}, "between 0 and 60"),
        ({"record": (np.nan,)}, "between 0 and 60"),
    ],
)
def test_impossible_settings_are_refused(change, said):
    with pytest.raises(InputError, match=re.escape(said)):
        replace(SETTINGS, **change)


def test_steps_and_what_is_recorded():
    settings = Settings(t_end=5.0, learning_rate=0.5, record=(0.6, 2.0))
    assert settings.total_steps == 10 and settings.recorded == {0, 1, 4, 10}
    assert Settings(steps=10, record=4).recorded == {0, 2, 5, 8, 10}
    # Streams do not depend on what was drawn before.
    first, again = (np.random.default_rng(s.streams(2)[1]).random() for s in (settings, settings))
    assert first == again
