"""The two-layer, two-head network on the mixed target: gradients, population limits, training."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.progress import silent
from reduced_dynamics.families.wang.full.mixed_target import (
    SCALARS,
    Scalars,
    Target,
    assemble,
    loss_and_gradient,
    recency,
    sample,
)
from reduced_dynamics.families.wang.full.mixed_target_training import (
    MixedTargetConfig,
    train_mixed_target,
)
from reduced_dynamics.training.loop import DivergedError, TrainingInterrupted
from tests.training.interruption import before

# ------------------------------------------------------------------------ an oracle, in plain loops


def softmax(scores):
    scores = np.array(scores)
    weights = np.exp(scores - scores[np.argmax(scores.real)])
    return weights / weights.sum()


def oracle(weights, tokens, target):
    """The 4-gram and induction loss of the definition, index by index; weights may be complex."""
    p1, p, g, w_Q, w_K, h = weights
    total = np.zeros(2, dtype=complex)
    for row in tokens:
        L = len(row)
        x = dict(enumerate(row, start=1))
        places = range(2, L - 1)
        y = {}
        for s in places:
            if p1 == np.inf:
                y[s] = x[s - 1]
            else:
                attention = softmax([-p1 * (s - 1 - tau) for tau in range(1, s)])
                y[s] = sum(a * x[tau] for a, tau in zip(attention, range(1, s), strict=True))

        def read(scores, x=x, places=places):
            return sum(a * x[s] for a, s in zip(softmax(scores), places, strict=True))

        four = g * read([-p * (L - 2 - s) for s in places]) - target.c4 * x[L - 2]
        wanted = target.c * read([target.a * x[L] * x[s - 1] for s in places])
        induction = h * read([w_Q * w_K * x[L] * y[s] for s in places]) - wanted
        total += 0.5 * np.array([four**2, induction**2])
    return total / len(tokens)


def oracle_gradient(weights, tokens, target):
    """By complex step; 0 by an infinite p₁."""
    found = np.zeros(6)
    for k in range(6):
        if np.isfinite(weights[k]):
            moved = np.array(weights, dtype=complex)
            moved[k] += 1e-30j
            moved = [np.inf if np.isinf(w) else w for w in moved]
            found[k] = oracle(moved, tokens, target).sum().imag / 1e-30
    return found


scalar = st.floats(-3.0, 3.0)


@given(
    st.integers(5, 9),
    st.lists(scalar, min_size=6, max_size=6),
    st.booleans(),
    st.sampled_from([Target(), Target(0.3, 1.2, 1), Target(2.0, 0.0, 2)]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_losses_and_gradient_against_the_oracle(L, weights, copies, target, seed):
    weights = [np.inf if copies else weights[0], *weights[1:]]
    tokens = np.random.default_rng(seed).standard_normal((3, L))
    losses, gradient = loss_and_gradient(Scalars(*weights), assemble(tokens, target))
    expected = oracle(weights, tokens, target).real
    assert np.allclose(losses, expected, rtol=1e-12, atol=1e-14)
    slope = oracle_gradient(weights, tokens, target)
    assert np.allclose(gradient, slope, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("p1", [np.inf, 0.7, -0.4])
def test_gradient_against_finite_differences_at_full_length(p1):
    data = sample(40, 500, Target(), np.random.default_rng(3))
    weights = Scalars(p1, 0.3, 0.5, 0.6, 0.4, 0.45)
    _, gradient = loss_and_gradient(weights, data)
    for k, name in enumerate(SCALARS):
        if not np.isfinite(weights[k]):
            assert gradient[k] == 0.0
            continue
        loss = [
            sum(loss_and_gradient(weights._replace(**{name: weights[k] + d}), data)[0])
            for d in np.array([-2, -1, 1, 2]) * 1e-3
        ]
        expected = (loss[0] - 8 * loss[1] + 8 * loss[2] - loss[3]) / 12e-3
        assert gradient[k] == pytest.approx(expected, abs=1e-9)


def test_the_teacher_has_no_loss():
    target = Target(0.5, 0.8, 2)
    data = sample(12, 50, target, np.random.default_rng(0))
    losses, gradient = loss_and_gradient(
        Scalars(np.inf, np.inf, target.c4, 0.8, 0.8, target.c), data
    )
    assert max(losses) < 1e-30 and np.abs(gradient).max() < 1e-15
    # A large finite p₁ or p is the copy, without overflow.
    near, _ = loss_and_gradient(Scalars(700.0, 700.0, target.c4, 0.8, 0.8, target.c), data)
    assert max(near) < 1e-30


@pytest.mark.parametrize("p", [-700.0, -1.0, 0.0, 1e-12, 0.3, 700.0, np.inf])
def test_attention_by_relative_position(p):
    weights, slopes = recency(p, 30, 30)
    assert np.isfinite(weights).all() and np.isfinite(slopes).all()
    assert np.allclose(weights.sum(axis=1), 1.0) and np.abs(slopes.sum(axis=1)).max() < 1e-12
    assert not np.triu(weights, 1).any()
    assert np.array_equal(recency(p, 1, 30)[0], weights[-1:])
    if 0 < abs(p) < 10:
        above, below = (recency(p + d, 30, 30)[0] for d in (1e-5, -1e-5))
        assert np.allclose(slopes, (above - below) / 2e-5, atol=1e-8)


def test_blocks_do_not_change_the_losses(monkeypatch):
    from reduced_dynamics.families.wang.full import mixed_target

    tokens = np.random.default_rng(5).standard_normal((200, 9))
    weights = Scalars(0.4, 0.2, 0.3, 0.5, 0.6, 0.7)
    whole = loss_and_gradient(weights, assemble(tokens, Target()))
    monkeypatch.setattr(mixed_target, "_BLOCK", 9 * 7)
    parts = assemble(tokens, Target())
    assert len(parts.blocks) == 29 and parts.count == 200
    cut = loss_and_gradient(weights, parts)
    assert np.allclose(whole[0], cut[0], rtol=1e-13) and np.allclose(whole[1], cut[1], rtol=1e-12)


def test_the_saddle_of_the_sequences():
    data = sample(20, 300, Target(), np.random.default_rng(1))
    h, loss = data.saddle
    at = Scalars(np.inf, 0.5, 0.5, 0.0, 0.0, h)
    (_, induction), gradient = loss_and_gradient(at, data)
    assert induction == pytest.approx(loss, rel=1e-13)
    assert np.abs(gradient[3:]).max() < 1e-15


# ----------------------------------------------------------------------------- the population limit


def mean_and_error(weights, target, L, batches=40, size=500):
    """Losses over independent batches: means and their standard errors, shape (2,) each."""
    rng = np.random.default_rng(8)
    found = [loss_and_gradient(weights, sample(L, size, target, rng))[0] for _ in range(batches)]
    return np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(batches)


@pytest.mark.parametrize("p, g", [(0.01, 0.3), (0.5, 0.6), (-0.2, 1.0)])
def test_the_four_gram_loss_is_the_direct_sum(p, g):
    L, target = 12, Target(0.7)
    weights = np.exp(-p * np.arange(L - 3))
    weights /= weights.sum()
    residual = g * weights
    residual[0] -= target.c4
    mean, error = mean_and_error(Scalars(np.inf, p, g, 0.0, 0.0, 0.0), target, L)
    assert abs(mean[0] - 0.5 * residual @ residual) < 4 * error[0]
    assert error[0] < 0.02 * mean[0]


@pytest.mark.parametrize("p1, a, h", [(np.inf, 0.3, 0.5), (np.inf, 0.9, 0.4), (0.4, 0.5, 0.6)])
def test_the_induction_loss_is_the_integral_for_two_pairs(p1, a, h):
    target = Target(0.4, 0.7, 1)
    nodes, mass = np.polynomial.hermite_e.hermegauss(28)
    mass = mass / mass.sum()
    x1, x2, x3, x5 = np.meshgrid(nodes, nodes, nodes, nodes, indexing="ij", sparse=True)
    # At L = 5: keys x₁ and the average of x₁, x₂; values x₂ and x₃.
    older = 0.0 if p1 == np.inf else np.exp(-p1) / (1 + np.exp(-p1))

    def output(a, older):
        second = older * x1 + (1 - older) * x2
        share = 1 / (1 + np.exp(a * x5 * (second - x1)))
        return share * x2 + (1 - share) * x3

    squares = (h * output(a, older) - target.c * output(target.a, 0.0)) ** 2
    expected = 0.5 * np.einsum("abcd,a,b,c,d->", squares, mass, mass, mass, mass)
    mean, error = mean_and_error(Scalars(p1, 0.0, 0.0, 1.0, a, h), target, 5)
    assert abs(mean[1] - expected) < 4 * error[1] and error[1] < 0.02 * mean[1]


def test_the_gradients_error_falls_as_the_root_of_the_number_of_sequences():
    weights, target = Scalars(np.inf, 0.5, 0.4, 0.3, 0.3, 0.4), Target()
    rng = np.random.default_rng(2)
    exact = np.array(loss_and_gradient(weights, sample(10, 400_000, target, rng))[1])
    sizes, spread = np.array([50, 200, 800, 3200]), []
    for size in sizes:
        found = [loss_and_gradient(weights, sample(10, size, target, rng))[1] for _ in range(60)]
        spread.append(np.sqrt(np.mean((np.array(found) - exact) ** 2, axis=0)[1:]))
    exponents = np.polyfit(np.log(sizes), np.log(spread), 1)[0]
    assert np.abs(exponents + 0.5).max() < 0.08


# ----------------------------------------------------------------------------------------- training


def trained(*arguments):
    return train_mixed_target(*arguments)[0]


SMALL = {"L": 8, "w_star": 0.7, "sigma_init": 0.1, "sequences": 64, "record": 20}


def plain_descent(config, steps):
    """Gradient descent by the oracle's loss and gradient."""
    of_sequences = np.random.default_rng(
        np.random.SeedSequence((config.seed, config.sequences)).spawn(2)[0]
    )
    tokens = of_sequences.standard_normal((config.sequences, config.L))
    z = np.array(config.origin)
    held = [name not in config.coordinates for name in SCALARS]
    if config.training == "stage1":
        held = [name != "p1" for name in SCALARS]
    for _ in range(steps):
        slope = oracle_gradient(z, tokens, config.target)
        z = np.where(held, z, z - config.learning_rate * slope)
    return z[-len(config.coordinates) :]


@pytest.mark.parametrize("training", ["stage1", "stage2", "joint"])
def test_full_batch_descent_is_the_oracles(training):
    start = {"h": 0.6, "w_Q": 0.8, "g": 0.2}
    config = MixedTargetConfig(
        **SMALL | {"sequences": 5, "record": 1}, training=training, start=start, steps=6
    )
    found = trained(config)
    assert found.coordinates == config.coordinates and len(found) == 2
    assert np.allclose(found.z[-1], plain_descent(config, 6), rtol=0, atol=1e-13)
    if training == "stage1":
        assert np.array_equal(found.z[0, 1:], found.z[-1, 1:]) and found.z[-1, 0] != found.z[0, 0]
        assert not found.event_names


def test_minibatches_descend_and_are_measured_on_the_fixed_sequences():
    config = MixedTargetConfig(**SMALL, batch=32, steps=300, learning_rate=0.5)
    found = trained(config)
    fixed = trained(MixedTargetConfig(**SMALL, steps=1))
    assert found["L_IH"][0] == fixed["L_IH"][0] and found.loss[0] != fixed.loss[0]
    assert found["L_G4"][-1] < 0.1 * found["L_G4"][0]
    assert np.allclose(fixed["L_G4"] + fixed["L_IH"], fixed.loss, rtol=1e-14)


def test_descent_goes_to_the_flow_at_first_order():
    flow = trained(MixedTargetConfig(**SMALL, t_end=40.0, optimiser="flow"))
    long, middle, short = (
        trained(MixedTargetConfig(**SMALL, t_end=40.0, learning_rate=rate)).z - flow.z
        for rate in (0.1, 0.05, 0.025)
    )
    assert np.abs(long).max() / np.abs(middle).max() == pytest.approx(2.0, abs=0.1)
    assert np.abs(middle).max() / np.abs(short).max() == pytest.approx(2.0, abs=0.05)
    # What extrapolation to no step at all leaves is of second order, and falls by four.
    rest, finer = np.abs(2 * middle - long).max(), np.abs(2 * short - middle).max()
    assert finer < 0.02 * np.abs(short).max() and rest / finer == pytest.approx(4.0, abs=0.3)


def test_the_flow_conserves_the_balance_and_never_climbs():
    config = MixedTargetConfig(**SMALL, t_end=400.0, optimiser="flow", start={"w_Q": 0.3})
    found = trained(config)
    balance = found["w_Q"] ** 2 - found["w_K"] ** 2
    assert np.abs(balance - balance[0]).max() < 1e-9
    assert found.loss_rise == 0.0
    order = [found.events[name] for name in ("T_plateau_out", "T_half", "T_converged")]
    assert None not in order and order == sorted(order)


def test_events_are_where_the_losses_cross():
    found = trained(MixedTargetConfig(**SMALL, t_end=400.0, optimiser="flow"))
    half = np.interp(found.events["T_half"], found.t, found["L_IH_over_L_sad"])
    assert half == pytest.approx(0.5, abs=1e-12)
    fine = trained(MixedTargetConfig(**SMALL | {"record": 400}, t_end=400.0, optimiser="flow"))
    assert found.events["T_half"] == pytest.approx(fine.events["T_half"], rel=0.02)


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("batch", [None, 16])
def test_resumed_is_the_same_to_the_last_bit(tmp_path, optimiser, batch):
    rate = {"sgd": 0.5, "momentum": 0.05, "adam": 0.01}[optimiser]
    config = MixedTargetConfig(
        **SMALL, steps=60, batch=batch, optimiser=optimiser, learning_rate=rate
    )
    whole = trained(config)
    checkpoint = tmp_path / "run.npz"
    with pytest.raises(TrainingInterrupted) as caught:
        trained(config, before(33), checkpoint)
    assert 0 < caught.value.trajectory.t_end < whole.t_end
    resumed = trained(config, silent, checkpoint)
    assert np.array_equal(resumed.z, whole.z) and np.array_equal(resumed.loss, whole.loss)
    assert np.array_equal(resumed["L_IH"], whole["L_IH"])
    assert whole.loss[-1] < whole.loss[0]


def test_an_interrupted_flow_keeps_what_it_has():
    def interrupt(what, share):
        if share > 0.1:
            raise KeyboardInterrupt

    config = MixedTargetConfig(**SMALL, t_end=40.0, optimiser="flow")
    with pytest.raises(TrainingInterrupted, match="flow was interrupted at t") as caught:
        trained(config, interrupt)
    partial, whole = caught.value.trajectory, trained(config)
    assert np.array_equal(partial.z, whole.z[: len(partial)]) and 1 < len(partial) < len(whole)


def test_clamped_scalars_stay():
    config = MixedTargetConfig(**SMALL, steps=50, clamp={"h": 0.4}, optimiser="adam")
    found = trained(config)
    assert np.all(found["h"] == 0.4) and found["g"][-1] != found["g"][0]


def test_too_long_steps_say_which_would_do():
    config = MixedTargetConfig(**SMALL, steps=500, learning_rate=50.0)
    with pytest.raises(DivergedError, match=r"learning rates below [\d.e-]+ are stable"):
        trained(config)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"L": 4}, "L must be an integer, at least 5"),
        ({"sequences": 0}, "sequences must be a positive integer"),
        ({"batch": 1.5}, "batch must be a positive integer"),
        ({"seed": -1}, "seed must be 0 or a positive integer"),
        ({"L": 10**6, "sequences": 10**6}, "do not fit in memory; take at most 134"),
        ({"training": "stage3"}, "did you mean 'stage2'"),
        ({"optimiser": "sdg"}, "did you mean 'sgd'"),
        ({"optimiser": "flow", "batch": 8}, "drop batch"),
        ({"start": {"w": 1.0}}, "unknown scalar 'w'"),
        ({"start": {"p1": 1.0}}, "stage2 trains with p1 infinite"),
        ({"clamp": {"h": np.nan}}, "h must be finite"),
        ({"w_star": -1.0}, "0 or positive"),
        ({"teacher_exponent": 3}, "teacher_exponent is 1 or 2"),
    ],
)
def test_impossible_settings_are_refused(changes, said):
    with pytest.raises(InputError, match=re.escape(said)):
        MixedTargetConfig(**{"steps": 10, **changes})


def test_a_flow_takes_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="keeps no checkpoint"):
        trained(MixedTargetConfig(**SMALL, steps=1, optimiser="flow"), silent, tmp_path / "c.npz")
