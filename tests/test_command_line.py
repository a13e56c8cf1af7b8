"""End to end through the command line, in subprocesses."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from reduced_dynamics import load

ROOT = Path(__file__).resolve().parent.parent


def simulate(*arguments, cwd, **options):
    return subprocess.run(
        [sys.executable, str(ROOT / "simulate.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        **options,
    )


def test_json_is_the_contract(tmp_path):
    run = simulate("run", "musat3", "--set", "N=8", "--at", "0,10", "--json", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["system"] == "musat3"
    assert result["parameters"]["N"] == 8
    assert {"method", "rtol", "atol", "dynamics"} <= result["solver"].keys()
    assert result["state"].keys() == {"alpha3", "beta2", "gamma3"}
    assert result["events"].keys() == {"T_alpha3", "T_beta2", "T_gamma3", "t_icl", "t_half_loss"}
    assert result["invariants"]["first_integral"] < 1e-8
    assert result["at"]["t"] == [0.0, 10.0]
    assert result["at"]["loss"][0] == 0.5
    assert {"rhs", "jac", "steps", "wall_s"} <= result["stats"].keys()
    assert "numpy" in result["versions"]


def test_every_format_reads_back_in_another_process(tmp_path):
    results = {}
    for ending in ("nc", "npz", "csv", "json"):
        run = simulate("run", "musat3", "--set", "N=4", "--out", f"r.{ending}", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        results[ending] = load(tmp_path / f"r.{ending}")
    for trajectory in results.values():
        assert trajectory.events == results["nc"].events
        np.testing.assert_array_equal(trajectory.z, results["nc"].z)
        assert trajectory.parameters["N"] == 4
        assert trajectory.source == results["nc"].source
    t = 0.37 * results["nc"].t_end
    np.testing.assert_array_equal(results["nc"].at(t), results["npz"].at(t))
    assert not list(tmp_path.glob("*.part*"))


def test_plots_in_every_format(tmp_path):
    for ending, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        run = simulate("run", "musat3", "--set", "N=4", "--plot", f"p.{ending}", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        assert (tmp_path / f"p.{ending}").read_bytes().startswith(magic)


def test_config_file_and_the_command_line_wins(tmp_path):
    (tmp_path / "run.toml").write_text(
        'system = "musat3"\nt-end = "8*N"\nmethod = "Radau"\nat = [1, 2]\n'
        "[set]\nN = 16\nquery = 3\n[clamp]\nalpha3 = 0.5\n"
    )
    run = simulate("run", "--config", "run.toml", "--set", "N=32", "--json", cwd=tmp_path)
    result = json.loads(run.stdout)
    assert result["parameters"]["N"] == 32
    assert result["parameters"]["query"] == 3
    assert result["t_end"] == 256.0
    assert result["solver"]["method"] == "Radau"
    assert result["state"]["alpha3"] == 0.5
    assert result["at"]["t"] == [1.0, 2.0]


def test_descent_that_diverges_exits_3_and_keeps_its_part(tmp_path):
    run = simulate(
        "run", "musat3", "--set", "N=8", "--dynamics", "gd", "--step", "50", "--out", "d.npz",
        cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 3
    assert "a step under" in run.stderr
    assert "Traceback" not in run.stderr
    assert len(load(tmp_path / "d.npz")) > 1


def test_interrupt_keeps_what_was_done(tmp_path):
    process = subprocess.Popen(
        [
            sys.executable, str(ROOT / "simulate.py"), "run", "musat3", "--set", "N=1000",
            "--dynamics", "gd", "--step", "0.01", "--out", "part.nc",
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    # The first line of progress shows that it is well under way.
    line = process.stderr.readline()
    while line and "steps" not in line:
        line = process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert len(load(tmp_path / "part.nc")) > 10


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["list"], ["list", "musat19"]])
def test_help_and_lists(command, tmp_path):
    run = simulate(*command, cwd=tmp_path)
    assert run.returncode == 0
    assert len(run.stdout) > 200
    assert run.stderr == ""


def test_a_reader_that_leaves_early(tmp_path):
    shell = f"{sys.executable} {ROOT / 'simulate.py'} list musat19 | head -1"
    run = subprocess.run(shell, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert run.stderr == ""
