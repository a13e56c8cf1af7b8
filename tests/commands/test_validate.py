"""``validate``: one command for the full models of all families."""

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

from reduced_dynamics import catalogue
from reduced_dynamics.commands.main import main
from reduced_dynamics.experiments.comparison import Job
from reduced_dynamics.integration.one import Interrupted
from reduced_dynamics.io import storage
from reduced_dynamics.public import integrate

ROOT = Path(__file__).resolve().parents[2]
#: A few seconds of every family.
SMALL = {
    "musat19": ["--set", "N=4", "--t-end", "N"],
    "musat3": ["--steps", "64"],
    "wang": ["--set", "L=10", "--set", "w_star=0.6", "--set", "sigma_init=0.1",
             "--set", "engine=asymptotic", "--set", "sequences=64", "--t-end", "2*L"],
    "chen": ["--set", "sequences=200", "--set", "validation=50", "--set", "kernels=16",
             "--t-end", "12", "--seeds", "1"],
}  # fmt: skip


def simulate(*arguments):
    return subprocess.run(
        [sys.executable, "simulate.py", "validate", *map(str, arguments)],
        cwd=ROOT, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def report(capsys, *arguments):
    assert main(["validate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_full_model_has_a_line_here():
    assert set(SMALL) == set(catalogue.offered("full"))


@pytest.mark.parametrize("name", SMALL)
def test_json_and_files(name, tmp_path, capsys):
    out, plot = tmp_path / "full.nc", tmp_path / "overlay.svg"
    found = report(capsys, name, *SMALL[name], "--seeds", 2, "--at", "1,2", "--out", out,
                   "--plot", plot)  # fmt: skip
    assert {"system", "parameters", "training", "complete", "runs", "versions"} <= found.keys()
    assert found["system"] == name and found["complete"] is True and plot.exists()
    assert [run["seed"] for run in found["runs"]] == [0, 1]
    model, run = catalogue.find("full", name), found["runs"][0]
    assert {s.name for s in model.settings} - {"seed"} <= found["training"].keys()
    assert run["at"]["t"] == [1, 2] and {"full_loss", "reduced_loss", "error"} <= run["at"].keys()
    assert run["largest_error"]["value"] == max(run["max_error"].values())
    assert run["max_error"].keys() == run["final_error"].keys() == run["final"]["full"].keys()
    saved = storage.load(tmp_path / "full-seed1.nc")
    final = found["runs"][1]["final"]["full"]
    assert {k: saved[k][-1] for k in final} == final


def test_settings_and_parameters_are_given_alike(capsys):
    found = report(capsys, "musat19", "--set", "N=4", "--set", "batch=16", "--t-end", "N")
    assert found["parameters"]["D"] == 16 and found["training"]["batch"] == 16
    run = found["runs"][0]
    assert run["t_end"] == 4
    assert {"outside_norm", "outside_over_inside"} <= run["at"].keys()
    flow = integrate("musat19", {"N": 4}, t_end=4).final
    assert flow == pytest.approx(run["final"]["reduced"])


def test_what_chen_compares_is_what_the_model_does(capsys):
    found = report(capsys, "chen", *SMALL["chen"])
    names = found["runs"][0]["max_error"].keys()
    assert {"a", "p_12", "W_1_0"} <= names and not [n for n in names if n.startswith("c_")]
    assert found["parameters"]["limit"] == "finite" and found["parameters"]["kernels"] == 16
    assert {"accuracy", "validation_loss"} <= found["runs"][0]["at"].keys()


def test_one_seed_and_a_file_of_options(tmp_path, capsys):
    config = tmp_path / "study.toml"
    config.write_text("seed = 3\nsteps = 8\n[set]\nN = 1\nbatch = 8\n[clamp]\nalpha1 = 0.1\n")
    found = report(capsys, "musat19", "--config", config)
    assert [run["seed"] for run in found["runs"]] == [3] and found["training"]["batch"] == 8
    assert found["runs"][0]["steps"] == 8 and found["runs"][0]["final"]["full"]["alpha1"] == 0.1
    found = report(capsys, "musat19", "--config", config, "--set", "batch=4", "--steps", 4)
    assert found["training"]["batch"] == 4 and found["runs"][0]["steps"] == 4


def test_for_people(capsys):
    assert main(["validate", "musat3", "--steps", "64"]) == 0
    printed = capsys.readouterr().out
    assert "16 coordinates of the full model are held" in printed
    assert "within 0.01" in printed and "gamma3" in printed and "T_gamma3" in printed
    assert main(["validate", "wang", *SMALL["wang"], "--set", "batch=32", "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "batch 32, measured on 64 sequences" in printed and "T_half" in printed
    assert re.search(r"w_Q +\d", printed) and "deviation: standard" in printed


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["musat19", "--set", "N=4", "--set", "D=8"], "the smallest that does is 10"),
        (["musat19", "--set", "batch=2.5"], "batch must be a whole number"),
        (["musat19", "--set", "bacth=2"], "did you mean 'batch'"),
        (["musat19", "--steps", "1.5"], "whole number"),
        (["wang", "--set", "seed=2"], "give --seed"),
        (["musat19", "--seed", "1", "--seeds", "2"], "give one of the two"),
        (["musat19", "--t-end", "1", "--steps", "1"], "give one of the two"),
        (["musat19", "--t-end", "0"], "positive time"),
        (["musat19", "--out", "nowhere/x.nc"], "does not exist"),
        (["musat19", "--out", ""], "name of a file"),
        (["musat19", "--bach", "2"], "--bach"),
        (["musat1"], "did you mean 'musat19'"),
        (["musat19", "--config", "none.toml"], "cannot read"),
        (["wang", "--set", "sequence=64"], "did you mean 'sequences'"),
        (["wang", "--set", "sequences=many"], "sequences must be a number"),
        (["wang", "--set", "training=joint"], "give t_end"),
        (["wang", "--t-end", "L +"], "L +"),
        (["chen", "--clamp", "a=1"], "--set training"),
        (["chen", "--set", "H=1"], "H = 1"),
        (["chen", "--set", "dirichlet=-1"], "dirichlet"),
        (["chen", "--plot", "a.gif"], "file ending"),
    ],
)
def test_bad_input_ends_in_a_sentence(arguments, said, capsys):
    try:
        code = main(["validate", *arguments])
    except SystemExit as stopped:  # argparse's own errors
        code = stopped.code
    printed = capsys.readouterr()
    assert code == 2 and said in printed.err and not printed.out
    assert len(printed.err.strip().splitlines()) <= 2


def test_ctrl_c_keeps_everything_and_the_same_command_goes_on(tmp_path):
    checkpoint, out = tmp_path / "c.npz", tmp_path / "full.npz"
    command = ["musat19", "--set", "N=4", "--t-end", "20", "--seed", "0",
               "--checkpoint", str(checkpoint), "--out", str(out)]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "simulate.py", "validate", *command, "--set", "batch=2048"],
        cwd=ROOT, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stderr:  # until steps have been made
        assert re.match(r"step \d+ of 320, loss [\d.]+ \([\d.]+ %", line)
        if " left" in line:
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "interrupted before step" in said
    assert "take it up again" in said and "outside" in printed and checkpoint.exists()
    partial = storage.load(out)
    assert 0 < partial.t_end < 20
    other = simulate(*command, "--set", "batch=1024")
    assert other.returncode == 2 and "made with batch = 2048, not 1024" in other.stderr
    done = simulate(*command, "--set", "batch=2048")
    assert done.returncode == 0, done.stderr
    whole = storage.load(out)
    assert whole.t_end == 20
    assert np.array_equal(whole.z[: len(partial) - 1], partial.z[: len(partial) - 1])


def test_ctrl_c_after_the_training_keeps_the_training(tmp_path, capsys, monkeypatch):
    original = Job.compare

    def interrupted(job, full):
        if job.config.seed == 1:
            raise Interrupted(None)
        return original(job, full)

    monkeypatch.setattr(Job, "compare", interrupted)
    out = tmp_path / "full.npz"
    command = ["validate", "musat3", "--steps", "4", "--seeds", "3", "--out", str(out), "--json"]
    assert main(command) == 130
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert "interrupted" in shown.err and not found["complete"] and len(found["runs"]) == 1
    assert (tmp_path / "full-seed1.npz").exists() and not (tmp_path / "full-seed2.npz").exists()


@pytest.mark.parametrize("name, rate", [("musat19", 2000), ("wang", 50)])
def test_divergence_exits_with_three_and_keeps_what_came_before(name, rate, tmp_path, capsys):
    out = tmp_path / "full.csv"
    given = list(SMALL[name][:-2])
    command = [*given, "--set", f"learning_rate={rate}", "--steps", "400", "--out", str(out)]
    assert main(["validate", name, *command]) == 3
    assert "diverged at step" in capsys.readouterr().err and out.exists()
