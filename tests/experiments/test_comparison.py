"""What lays a full model over a reduced flow, and studies of many: without any training."""

from dataclasses import dataclass

import numpy as np
import pytest

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import Crossing, Trajectory
from reduced_dynamics.experiments.comparison import Comparison, in_flow_time, rms, schedule
from reduced_dynamics.experiments.setting import Settings as Given
from reduced_dynamics.experiments.study import Curve, Quantity, Study, law, outcome
from reduced_dynamics.training.settings import Settings


def trajectory(t, columns, loss=None, **more):
    z = np.column_stack(list(columns.values()))
    return Trajectory("toy", tuple(columns), t, z, np.exp(-t) if loss is None else loss, **more)


def compared(shift=0.1, descended=0.02, late=0.5):
    t = np.linspace(0.0, 10.0, 11)
    full = trajectory(
        t, {"x": t + shift, "held": 0 * t}, observables={"part": t, "norm": 2 * t},
        crossings=(Crossing("T_x", 5.0 + late, 1, (5.0, 0.0)),), event_names=("T_x", "T_no"),
    )  # fmt: skip
    reduced = trajectory(
        t, {"x": t}, crossings=(Crossing("T_x", 5.0, 1, (5.0,)),), event_names=("T_x", "T_no")
    )
    descent = trajectory(t, {"x": t + descended})
    beside = {"t": t, "loss": reduced.loss, "part": t - 1.0, "x": t}
    return Comparison(full, reduced, descent, ("x",), beside, (2.1, 10.0, 40.0))


def test_an_error_is_that_of_steps_and_that_of_data():
    found = compared()
    assert np.allclose(found.error, 0.1) and np.allclose(found.discretisation, 0.02)
    assert np.allclose(found.error, found.discretisation + found.sampling, rtol=0, atol=1e-15)
    assert rms(found.error) == pytest.approx(0.1) and np.isnan(rms(None))
    assert found.worst[:2] == (pytest.approx(0.1), "x")
    assert found.rows == [2, 10]  # 40 was not reached


def test_events_and_tables_hold_both_sides():
    found = compared()
    assert found.events == {"T_x": (5.5, 5.0), "T_no": (None, None)}
    assert found.lateness("T_x") == pytest.approx(0.1) and np.isnan(found.lateness("T_no"))
    names = ["t", "full_loss", "reduced_loss", "full_part", "reduced_part", "error", "norm"]
    assert list(found.table) == names and found.table["reduced_part"] == [1.0, 9.0]


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    steps: int | None = 1


def test_trainings_are_scheduled_in_the_time_of_the_flow():
    base = Config(learning_rate=0.5)
    (one, at), (two, _) = schedule(base, {"N": 4, "query": "last"}, t_end="2*N", seeds=[3, 5])
    assert (one.seed, two.seed) == (3, 5) and one.steps == 16 and at[-1] == 8.0
    assert max(one.record) == 8.0 and len(set(one.record)) == 201
    # Momentum's steps are ten times as long.
    ((slow, _),) = schedule(Config(learning_rate=0.5, optimiser="momentum"), {}, t_end=80.0)
    assert slow.steps == 16 and max(slow.record) == pytest.approx(8.0)
    t = np.array([0.0, 8.0])
    run = in_flow_time(trajectory(t, {"x": t}), slow)
    assert run.t[-1] == pytest.approx(80.0) and run.time_scale == pytest.approx(0.1)
    ((few, _),) = schedule(base, {}, t_end=0.0, steps=3, record=lambda horizon, step: [step])
    assert few.steps == 3 and set(few.record) >= {0.5, 1.5}


@pytest.mark.parametrize(
    "options, said",
    [
        ({"t_end": 0.0}, "positive time"),
        ({"t_end": "N"}, "N"),
        ({"t_end": 1e12}, "steps of this horizon"),
        ({"t_end": 1.0, "steps": 0}, "positive integer"),
        ({"t_end": 1.0, "at": [2.0]}, "between 0 and 1"),
        ({"t_end": 1.0, "seeds": 0}, "at least one seed"),
    ],
)
def test_impossible_schedules_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        schedule(Config(learning_rate=0.5), {}, **options)


def test_a_law_is_the_power_and_its_error():
    x = np.array([1.0, 2, 4, 8])
    found = law(x, 3 * x**-0.5)
    assert found["exponent"] == pytest.approx(-0.5) and found["factor"] == pytest.approx(3)
    noisy = law(x, x**-0.5 * np.exp([0.1, -0.1, -0.1, 0.1]))
    assert noisy["error"] == pytest.approx(np.sqrt(0.04 / 2 / (5 * np.log(2) ** 2)))
    assert law(x[:2], x[:2])["error"] is None
    assert law([0, 1], [1, 1])["exponent"] is None and law([1, 1], [1, 2])["exponent"] is None


def test_a_study_sees_what_grows_with_its_setting():
    study = Study(
        "rate", "rate", "r", (Quantity("error", "error", "k", "o"),
                              Quantity("scatter", "scatter", "k", "o", pooled=True),
                              Quantity("shift", "shift", "k", "o", fitted=False),
                              Quantity("draw", "draw", "k", "o", pooled=True),
                              Quantity("miss", "miss", "k", "o")),
        (Curve("distance", "distance"), Curve("norm", "norm")), "toy",
    )  # fmt: skip
    settings = Given({"rate": (0.0, 1.0, 2.0, 4.0), "seeds": (0, 1), "N": 2})
    parts = study.parts(settings)
    assert parts["rate4-seed1"] == [4.0, 1] and len(parts) == 8
    outcomes: dict = {}
    for key, (rate, seed) in parts.items():
        found = compared(shift=0.1 * rate**2 * (1 + 0.1 * seed))
        # Near misses of one seed: a fit to all runs follows them, one to their squares does not.
        draw = 1e-3 * rate**3 if seed else rate
        outcomes[key] = outcome(found, {"norm": found.full["norm"]}, extra=rate,
                                draw=draw, miss=draw)  # fmt: skip
    # A training of longer steps has fewer rows, at the times that it has.
    few = outcomes["rate4-seed0"]
    for table in (few, few["curves"]):
        table |= {
            k: v[::2] for k, v in table.items() if isinstance(v, np.ndarray) and k != "states"
        }
    concluded = study.conclude(settings, outcomes)
    laws, means = concluded.numbers["laws"], concluded.numbers["means"]
    assert laws["error"]["exponent"] == pytest.approx(2.0)
    assert laws["draw"]["exponent"] == pytest.approx(1.0, abs=1e-3)
    assert laws["miss"]["exponent"] == pytest.approx(2.0)
    assert laws["scatter"]["exponent"] == pytest.approx(2.0) and "shift" not in laws
    assert means["shift"] == pytest.approx([0.0, 0.105, 0.42, 1.68])
    assert means["scatter"][1] == pytest.approx(0.005 * np.sqrt(2))
    assert means["extra"] == [0.0, 1.0, 2.0, 4.0] and concluded.numbers["parameters"] == {"N": 2}
    assert concluded.data["mean_distance"][1][3] == pytest.approx(1.68)
    assert concluded.data["mean_norm"][1][3] == pytest.approx(2 * concluded.data["t"][1])
    assert len(concluded.data["t"][1]) == 11
