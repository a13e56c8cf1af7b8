"""The two-layer, two-head network against the reduced flow of the mixed target."""

import re

import numpy as np
import pytest

from reduced_dynamics import catalogue
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments.comparison import rms
from reduced_dynamics.families.wang.full.mixed_target_training import TrainingInterrupted
from reduced_dynamics.families.wang.full_model import WANG as FULL
from reduced_dynamics.families.wang.full_model import plan

WANG = catalogue.system("wang")
#: Ten tokens: everything is over by t = 250, and training is fast.
SMALL = {"L": 10, "w_star": 0.7, "sigma_init": 0.1}
ASYMPTOTIC = SMALL | {"w_star": 0.6, "engine": "asymptotic"}


@pytest.fixture(scope="module")
def small():
    return FULL.compare(WANG, SMALL, t_end=250, sequences=8192, learning_rate=0.5)


def test_coordinates_follow_the_reduced_flow(small):
    assert small.names == ("p", "g", "w_Q", "w_K", "h") and small.t[-1] == 250
    assert small.worst[0] < 0.06
    assert rms(small.error) < 0.03
    assert np.allclose(small.full.z[0], 0.1) and np.allclose(small.reduced.z[0], 0.1)


def test_losses_lie_side_by_side(small):
    table = small.table
    assert table["t"] == [25, 62.5, 125, 187.5, 250]
    for name in ("L_G4", "L_IH"):
        full, reduced = np.array(table[f"full_{name}"]), np.array(table[f"reduced_{name}"])
        # The loss at the start is the target's variance, up to what few sequences leave.
        assert np.abs(full[:3] / reduced[:3] - 1).max() < 0.1
    both = np.array(table["full_L_G4"]) + table["full_L_IH"]
    assert np.allclose(both, table["full_loss"], rtol=1e-14)


def test_events_come_at_the_same_times(small):
    assert set(small.events) == {"T_g4", "T_plateau_in", "T_plateau_out", "T_half", "T_converged"}
    for name in ("T_g4", "T_half", "T_converged"):
        assert abs(small.lateness(name)) < 0.05
    assert np.isnan(small.lateness("T_none"))


def test_stage_one_moves_the_first_layer_alone():
    jobs = plan(
        WANG,
        {"L": 40, "training": "stage1"},
        t_end=200,
        sequences=4096,
        learning_rate=1.0,
        start={"p1": 0.5, "w_Q": 0.5, "w_K": 0.5, "h": 0.5, "g": 0.3},
    )
    found = jobs[0].run()
    assert found.names[0] == "p1" and not found.events
    assert np.all(found.full.z[:, 1:] == found.full.z[0, 1:])
    move = found.reduced["p1"][-1] - 0.5
    assert move > 0.01 and found.full["p1"][-1] - 0.5 == pytest.approx(move, rel=0.2)


def test_joint_training_moves_all_six():
    found = FULL.compare(
        WANG, SMALL | {"w_star": 0.6, "training": "joint"}, t_end=20, sequences=4096
    )
    assert found.names == ("p1", "p", "g", "w_Q", "w_K", "h")
    assert found.full["p1"][-1] != found.full["p1"][0]
    assert np.abs(found.error).max() < 0.05


def test_minibatches_stay_near_the_flow():
    found = FULL.compare(WANG, SMALL, t_end=30, batch=1024, sequences=512, learning_rate=0.2)
    assert np.abs(found.error).max() < 0.05
    assert found.full.solver["batch"] == 1024


def test_momentum_runs_in_the_time_of_its_long_steps():
    options = {"t_end": 20, "sequences": 256, "seed": 1}
    flow = FULL.compare(WANG, SMALL, optimiser="flow", **options)
    away = []
    for rate in (0.0025, 0.00125):
        found = FULL.compare(
            WANG, SMALL, optimiser="momentum", learning_rate=rate, at=[5, 10, 20], **options
        )
        assert found.t[-1] == pytest.approx(20) and found.descent is None
        rows = [np.abs(found.t - t).argmin() for t in (5, 10, 20)]
        same = [np.abs(flow.t - t).argmin() for t in (5, 10, 20)]
        away.append(np.abs(found.full.z[rows] - flow.full.z[same]).max())
    # It lags behind by its memory of ten steps, which are half as long the second time.
    assert away[0] / away[1] == pytest.approx(2.0, abs=0.1) and away[0] < 0.05


def test_clamped_in_both():
    found = FULL.compare(
        WANG, ASYMPTOTIC, t_end=20, sequences=256, clamp={"h": 0.3}, learning_rate=1.0
    )
    assert np.all(found.full["h"] == 0.3) and np.all(found.reduced["h"] == 0.3)


def test_interrupted_and_resumed_is_the_same_to_the_last_bit(tmp_path):
    options = {"t_end": 50, "sequences": 64, "learning_rate": 0.5}

    def interrupt(what, share):
        if share >= 0.4:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "run.npz"
    with pytest.raises(TrainingInterrupted) as caught:
        FULL.compare(WANG, ASYMPTOTIC, progress=interrupt, checkpoint=checkpoint, **options)
    partial = plan(WANG, ASYMPTOTIC, **options)[0].compare(caught.value.trajectory)
    assert 15 < partial.t[-1] < 30
    resumed = FULL.compare(WANG, ASYMPTOTIC, checkpoint=checkpoint, **options)
    whole = FULL.compare(WANG, ASYMPTOTIC, **options)
    assert np.array_equal(resumed.error, whole.error)


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "parameters, options, said",
    [
        ({"L": 4}, {}, "out of range"),
        ({"w_star": -1}, {}, "out of range"),
        ({"sigma_init": 0}, {}, "fixed point"),
        ({"w_star": 0.9, "engine": "asymptotic"}, {}, "engine=exact"),
        ({"alpha": 4}, {}, "did you mean 'alpha_star'"),
        ({}, {"optimiser": "adam"}, "no time scale"),
        ({}, {"optimiser": "flow", "batch": 4}, "drop batch"),
        ({"training": "joint"}, {}, "give t_end"),
        ({}, {"t_end": 0}, "positive time"),
        ({}, {"at": [1e6]}, "between 0 and"),
        ({}, {"clamp": {"p1": 1}}, "unknown coordinate"),
        ({}, {"sequences": 0}, "sequences must be a positive integer"),
        ({"L": 10**6}, {}, "do not fit in memory"),
        ({}, {"seeds": 0}, "at least one seed"),
    ],
)
def test_impossible_comparisons_are_refused(parameters, options, said):
    with pytest.raises(InputError, match=re.escape(said)):
        plan(WANG, parameters, **options)
