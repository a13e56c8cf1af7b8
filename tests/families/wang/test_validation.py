"""The mixed target's reduced flow against the full model: the API and the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from reduced_dynamics.catalogue import get
from reduced_dynamics.commands import main
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.musat.validation import rms, run_study
from reduced_dynamics.families.wang.validation import MixedStudy, plan, validate_mixed_target
from reduced_dynamics.io import storage
from reduced_dynamics.training.loop import TrainingInterrupted
from tests.training.interruption import before

WANG = get("wang")
ROOT = Path(__file__).resolve().parents[3]
#: Ten tokens: everything is over by t = 250, and training is fast.
SMALL = {"L": 10, "w_star": 0.7, "sigma_init": 0.1}
ASYMPTOTIC = SMALL | {"w_star": 0.6, "engine": "asymptotic"}


@pytest.fixture(scope="module")
def small():
    return validate_mixed_target(WANG, SMALL, t_end=250, sequences=8192, learning_rate=0.5)


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
    found = validate_mixed_target(
        WANG, SMALL | {"w_star": 0.6, "training": "joint"}, t_end=20, sequences=4096
    )
    assert found.names == ("p1", "p", "g", "w_Q", "w_K", "h")
    assert found.full["p1"][-1] != found.full["p1"][0]
    assert np.abs(found.error).max() < 0.05


def test_minibatches_stay_near_the_flow():
    found = validate_mixed_target(
        WANG, SMALL, t_end=30, batch=1024, sequences=512, learning_rate=0.2
    )
    assert np.abs(found.error).max() < 0.05
    assert found.full.solver["batch"] == 1024


def test_momentum_runs_in_the_time_of_its_long_steps():
    options = {"t_end": 20, "sequences": 256, "seed": 1}
    flow = validate_mixed_target(WANG, SMALL, optimiser="flow", **options)
    away = []
    for rate in (0.0025, 0.00125):
        found = validate_mixed_target(
            WANG, SMALL, optimiser="momentum", learning_rate=rate, at=[5, 10, 20], **options
        )
        assert found.t[-1] == pytest.approx(20) and found.descent is None
        rows = [np.abs(found.t - t).argmin() for t in (5, 10, 20)]
        same = [np.abs(flow.t - t).argmin() for t in (5, 10, 20)]
        away.append(np.abs(found.full.z[rows] - flow.full.z[same]).max())
    # It lags behind by its memory of ten steps, which are half as long the second time.
    assert away[0] / away[1] == pytest.approx(2.0, abs=0.1) and away[0] < 0.05


def test_clamped_in_both():
    found = validate_mixed_target(
        WANG, ASYMPTOTIC, t_end=20, sequences=256, clamp={"h": 0.3}, learning_rate=1.0
    )
    assert np.all(found.full["h"] == 0.3) and np.all(found.reduced["h"] == 0.3)


def test_interrupted_and_resumed_is_the_same_to_the_last_bit(tmp_path):
    options = {"t_end": 50, "sequences": 64, "learning_rate": 0.5}
    checkpoint = tmp_path / "run.npz"
    with pytest.raises(TrainingInterrupted) as caught:
        validate_mixed_target(
            WANG, ASYMPTOTIC, progress=before(40), checkpoint=checkpoint, **options
        )
    partial = plan(WANG, ASYMPTOTIC, **options)[0].compare(caught.value.trajectory)
    assert 15 < partial.t[-1] < 30
    resumed = validate_mixed_target(WANG, ASYMPTOTIC, checkpoint=checkpoint, **options)
    whole = validate_mixed_target(WANG, ASYMPTOTIC, **options)
    assert np.array_equal(resumed.error, whole.error)


# ------------------------------------------------------------------------------------- studies


def test_the_error_of_few_sequences_falls_as_their_root():
    jobs = plan(
        WANG, SMALL, study="sequences", values=[500, 2000, 8000], seeds=6, t_end=250,
    )  # fmt: skip
    runs = run_study(jobs).runs
    study = MixedStudy("sequences", runs)
    assert study.option == "sequences" and study.values == (500, 2000, 8000)
    assert study.slope("error").exponent == pytest.approx(-0.5, abs=0.2)
    assert study.slope("half").exponent == pytest.approx(-0.5, abs=0.3)
    # More than sequences that differ could do by chance.
    errors, sizes = study.points["error"], study.points["value"]
    assert errors[sizes == 8000].mean() < 0.5 * errors[sizes == 500].mean()


def test_the_error_of_steps_is_of_first_order():
    jobs = plan(
        WANG, ASYMPTOTIC, study="step", values=[0.125, 0.25, 0.5], t_end=60, sequences=256
    )  # fmt: skip
    study = MixedStudy("step", run_study(jobs).runs)
    assert study.slope("stepping").exponent == pytest.approx(1.0, abs=0.05)
    assert study.slope("discretisation").exponent == pytest.approx(1.0, abs=0.05)


def test_study_figures(tmp_path):
    from reduced_dynamics.families.musat.figures import study_figure
    from reduced_dynamics.plotting.style import save_figure

    for over, values in (("sequences", [64, 128]), ("step", [0.5, 1.0])):
        options = {} if over == "sequences" else {"sequences": 64}
        jobs = plan(WANG, ASYMPTOTIC, study=over, values=values, t_end=20, **options)
        save_figure(study_figure(MixedStudy(over, run_study(jobs).runs)), tmp_path / f"{over}.png")
        assert (tmp_path / f"{over}.png").stat().st_size > 10_000


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
        ({}, {"study": "sequences", "batch": 4}, "drop batch"),
        ({}, {"study": "step", "batch": 4}, "drop batch"),
        ({}, {"study": "step", "optimiser": "momentum"}, "use optimiser sgd"),
        ({}, {"study": "stepp"}, "did you mean 'step'"),
        ({}, {"values": [1]}, "say which: sequences or step"),
        ({}, {"study": "sequences", "values": [0.5]}, "sequences must be an integer"),
        ({"training": "joint"}, {}, "give t_end"),
        ({}, {"t_end": 0}, "positive time"),
        ({}, {"at": [1e6]}, "between 0 and"),
        ({}, {"clamp": {"p1": 1}}, "unknown coordinate"),
        ({}, {"sequences": 0}, "1 or more"),
        ({"L": 10**6}, {}, "do not fit in memory"),
        ({}, {"seeds": 0}, "at least one seed"),
    ],
)
def test_impossible_comparisons_are_refused(parameters, options, said):
    with pytest.raises(InputError, match=re.escape(said)):
        plan(WANG, parameters, **options)


# ---------------------------------------------------------------------------------- command line

SETTINGS = [f"--set={name}={value}" for name, value in ASYMPTOTIC.items()]


def simulate(*arguments):
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "simulate.py", "validate", "wang", *SETTINGS, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def test_json_and_files(tmp_path):
    out, plot = tmp_path / "full.nc", tmp_path / "overlay.svg"
    done = simulate(
        "--set", "sequences=128", "--t-end", "2*L", "--seeds", "2", "--at", "5,10", "--json",
        "--out", str(out), "--plot", str(plot),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["system"] == "wang" and report["parameters"]["L"] == 10
    assert report["training"]["sequences"] == 128 and report["training"]["batch"] is None
    assert report["complete"] is True and [run["seed"] for run in report["runs"]] == [0, 1]
    run = report["runs"][0]
    assert run["at"]["t"] == [5, 10] and run["t_end"] == 20
    assert {"full_L_IH", "reduced_L_IH", "full_L_G4", "reduced_L_G4"} <= run["at"].keys()
    assert set(run["events"]["T_half"]) == {"full", "reduced"}
    assert set(run["max_error"]) == {"p", "g", "w_Q", "w_K", "h"}
    saved = storage.load(tmp_path / "full-seed1.nc")
    assert saved.final == report["runs"][1]["final"]["full"] and plot.exists()
    assert saved.solver["sequences"] == 128


def test_text_and_studies(tmp_path, capsys):
    settings = ["validate", "wang", *SETTINGS, "--set", "sequences=64"]
    assert main([*settings, "--t-end", "20", "--batch", "32", "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "batch 32, measured on 64 sequences" in printed and "T_half" in printed
    assert re.search(r"w_Q +\d", printed) and "standard deviation" in printed
    step = ["--study", "step", "--values", "0.5,1", "--seeds", "1", "--t-end", "20"]
    assert main([*settings, *step, "--plot", str(tmp_path / "study.png")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"stepping +~ learning rate\^\(\S+, two values: no error", printed)
    sequences = ["--study", "sequences", "--values", "32,64", "--seeds", "2", "--t-end", "20"]
    assert main(["validate", "wang", *SETTINGS, *sequences, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["study"]["over"] == "sequences" and report["planned_runs"] == 4
    assert report["training"] == {"optimiser": "flow", "clamp": {}}
    assert report["study"]["slopes"]["error"]["exponent"] < 1


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--batch", "2.5"], "--batch takes a whole number"),
        (["--set", "sequences=many"], "--set sequences takes a number"),
        (["--set", "sequence=64"], "did you mean 'sequences'"),
        (["--t-end", "1", "--steps", "1"], "give one of the two"),
        (["--out", "nowhere/x.nc"], "does not exist"),
        (["--init-scale", "1"], "means nothing for wang"),
        (["--study", "sequence"], "did you mean 'sequences'"),
        (["--optimiser", "flow", "--checkpoint", "c.npz"], "not to a flow"),
        (["--t-end", "L +"], "L +"),
    ],
)
def test_bad_command_lines(arguments, said, capsys):
    code = main(["validate", "wang", *arguments])
    printed = capsys.readouterr()
    assert code == 2 and said in printed.err and not printed.out
    assert len(printed.err.strip().splitlines()) <= 2


def test_ctrl_c_keeps_everything_and_the_same_command_goes_on(tmp_path):
    # Long enough not to end between the first line of progress, after two seconds, and the signal.
    checkpoint, out = tmp_path / "c.npz", tmp_path / "full.npz"
    command = ["--set", "sequences=16384", "--steps", "6000", "--checkpoint", str(checkpoint),
               "--out", str(out)]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "simulate.py", "validate", "wang", *SETTINGS, *command],
        cwd=ROOT, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stderr:  # the first line of progress that speaks of training
        if line.startswith("step"):
            assert re.match(r"step \d+ of 6000, loss \S+ \([\d.]+%, \d+ s left\)", line)
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted before step" in said, said
    assert "T_half" in printed and checkpoint.exists()
    partial = storage.load(out)
    assert 0 < partial.t_end < 3000
    done = simulate(*command)
    assert done.returncode == 0, done.stderr
    whole = storage.load(out)
    assert whole.t_end == 3000
    assert np.array_equal(whole.z[: len(partial)], partial.z)


def test_divergence_exits_with_three_and_keeps_what_came_before(tmp_path, capsys):
    out = tmp_path / "full.csv"
    command = ["--learning-rate", "50", "--steps", "400", "--set", "sequences=64"]
    assert main(["validate", "wang", *SETTINGS, *command, "--out", str(out)]) == 3
    assert "diverged at step" in capsys.readouterr().err and out.exists()
