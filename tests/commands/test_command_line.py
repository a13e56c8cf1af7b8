"""The command line end to end: what it prints, saves and returns, also when it is cut short."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import reduced_dynamics as rd
from reduced_dynamics.commands.main import main
from reduced_dynamics.core.system import ReducedSystem

ROOT = Path(__file__).resolve().parents[2]
SIMULATE = [sys.executable, str(ROOT / "simulate.py")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """One command in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stopped:  # --help, --version and argparse's own errors
            code = stopped.code
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return call


def process(*arguments, **options):
    """One command in a process of its own."""
    found = subprocess.run(
        [*SIMULATE, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )
    assert "Traceback" not in found.stderr
    return found


def numbers(text):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def beside_progress(err):
    """What is printed besides our own progress, which a slow machine sees."""
    return [line for line in err.splitlines() if line.strip() and "steps, loss" not in line]


# What `run` prints

KEYS = ["system", "parameters", "solver", "t_end", "state", "loss", "events", "invariants",
        "stats", "versions"]  # fmt: skip


def test_json_is_one_object_and_nothing_else():
    found = process("run", "musat3", "--set", "N=8", "--at", "10,100", "--json", "--out", "a.nc")
    assert found.returncode == 0
    result = numbers(found.stdout)
    assert set(KEYS) | {"at"} <= set(result)
    assert result["system"] == "musat3"
    assert result["parameters"]["N"] == 8
    assert result["solver"] == {"method": "LSODA", "rtol": 1e-9, "atol": 1e-12, "dynamics": "flow"}
    assert list(result["state"]) == ["alpha3", "beta2", "gamma3"]
    assert list(result["events"]) == ["T_gamma3", "T_beta2", "T_alpha3", "t_icl", "t_half_loss"]
    assert result["invariants"]["first_integral"] < 1e-8
    assert {"rhs", "jac", "steps", "wall_s"} <= set(result["stats"])
    assert {"reduced_dynamics", "python", "numpy", "scipy", "numba"} <= set(result["versions"])
    assert result["at"]["t"] == [10, 100]
    assert {"t", "loss", "alpha3", "beta2", "gamma3"} <= set(result["at"])
    assert all(len(column) == 2 for column in result["at"].values())
    # The file that was saved is spoken of elsewhere, and holds the same.
    assert "a.nc" in found.stderr
    trajectory = rd.load("a.nc")
    assert trajectory.final == result["state"]
    assert trajectory.events == result["events"]
    for k, t in enumerate(result["at"]["t"]):
        state = [result["at"][name][k] for name in trajectory.coordinates]
        np.testing.assert_allclose(trajectory.at(t), state, rtol=1e-12)


def test_text_and_json_agree(run):
    arguments = ("run", "musat3", "--set", "N=8", "--t-end", "8*N**2", "--at", "50")
    _, text, _ = run(*arguments)
    code, out, err = run(*arguments, "--json")
    result = numbers(out)
    assert code == 0 and not beside_progress(err)
    assert result["t_end"] == 512
    words = text.split()
    for name, value in {**result["state"], **result["events"]}.items():
        shown = words[words.index(name) + 1]
        assert value is None or float(shown) == pytest.approx(value, rel=1e-8)


def test_at_start_clamp_and_threshold(run):
    code, out, _ = run("run", "musat19", "--set", "N=4", "--t-end", "20", "--at", "0, 5,20",
                       "--clamp", "gamma3=1.5", "--clamp", "beta2 = -0.25", "--start", "alpha3=2",
                       "--threshold", "0.9", "--json")  # fmt: skip
    assert code == 0
    result = numbers(out)
    assert result["at"]["t"] == [0, 5, 20]
    assert result["at"]["gamma3"] == pytest.approx([1.5] * 3, rel=1e-15)
    assert result["at"]["beta2"] == pytest.approx([-0.25] * 3, rel=1e-15)
    assert result["at"]["alpha3"][0] == 2
    assert result["events"]["T_gamma3"] is None  # it was put there, and did not emerge
    assert result["events"]["T_beta2"] is None
    expected = rd.integrate("musat19", {"N": 4}, t_end=20, clamp={"gamma3": 1.5, "beta2": -0.25},
                            start={"alpha3": 2}, threshold=0.9)  # fmt: skip
    assert result["state"] == expected.final


@pytest.mark.parametrize("method", ["Radau", "BDF"])
def test_methods(run, method):
    code, out, _ = run("run", "musat3", "--set", "N=4", "--method", method, "--rtol", "1e-8",
                       "--atol", "1e-11", "--t-end", 100, "--json")  # fmt: skip
    assert code == 0
    solver = {"method": method, "rtol": 1e-8, "atol": 1e-11, "dynamics": "flow"}
    assert numbers(out)["solver"] == solver


def test_gradient_descent(run):
    arguments = ("run", "musat3", "--set", "N=4", "--t-end", "1000", "--dynamics", "gd")
    code, out, _ = run(*arguments, "--step", "0.01", "--at", "333.335,999.995", "--json")
    assert code == 0
    result = numbers(out)
    assert result["solver"]["dynamics"] == "gd"
    assert result["solver"]["step"] == 0.01
    assert result["stats"]["steps"] == 100_000
    # Far fewer states are kept than steps made, and yet these are the ones asked for.
    for k, steps in enumerate((33_333, 99_999)):
        short = rd.integrate("musat3", {"N": 4}, t_end=steps * 0.01, dynamics="gd", step=0.01)
        assert result["at"]["alpha3"][k] == short.final["alpha3"]


def test_gradient_descent_that_diverges_ends_with_exit_code_3(run):
    code, out, err = run("run", "musat3", "--set", "N=8", "--dynamics", "gd", "--step", "100",
                         "--out", "part.npz", "--json")  # fmt: skip
    assert code == 3
    assert "diverged at step" in numbers(out)["message"]
    assert "diverged at step" in err
    assert "lower --step" in err
    assert np.isfinite(rd.load("part.npz").z).all()


def test_extreme_starts_give_json_without_infinities(run):
    for start in (("alpha3=700", "beta2=700", "gamma3=700"), ("alpha3=-700", "beta2=-700")):
        options = [part for s in start for part in ("--start", s)]
        code, out, err = run("run", "musat3", "--set", "N=2", "--t-end", 1, *options, "--json")
        assert code == 0, err
        numbers(out)


# Configuration


def test_the_command_line_wins_over_the_file(run):
    Path("c.toml").write_text(
        'system = "musat3"\nt_end = "2*N"\nmethod = "BDF"\nat = [1, 2.5]\njson = true\n'
        "[set]\nN = 16\nquery = 2\n[clamp]\nbeta2 = 0.5\n[start]\nalpha3 = 0.1\n"
    )
    code, out, _ = run("run", "--config", "c.toml")
    assert code == 0
    result = numbers(out)
    assert result["system"] == "musat3"
    assert result["t_end"] == 32
    assert result["solver"]["method"] == "BDF"
    assert result["parameters"]["query"] == 2
    assert result["at"]["t"] == [1, 2.5]
    assert result["at"]["beta2"] == pytest.approx([0.5, 0.5], rel=1e-15)
    code, out, _ = run("run", "musat19", "--config", "c.toml", "--set", "N=4", "--method", "LSODA",
                       "--t-end", "5", "--clamp", "beta2=0.25")  # fmt: skip
    assert code == 0
    result = numbers(out)
    assert result["system"] == "musat19"
    assert result["t_end"] == 5
    assert result["solver"]["method"] == "LSODA"
    assert result["parameters"]["N"] == 4
    assert result["parameters"]["query"] == 2
    assert result["state"]["beta2"] == 0.25


BAD_CONFIG = {
    "out = 5": "text in quotes",
    "plot = true": "text in quotes",
    "system = ['musat3']": "text in quotes",
    "method = 3": "text in quotes",
    "json = 'yes'": "true or false",
    "rtol = 1" + "0" * 400: "number",
    "t-end = 1" + "0" * 400: "number",
    "t-end = true": "number",
    "t-end = [1]": "number",
    "at = [[1]]": "number",
    "at = []": "--at takes numbers",
    "set = 3": "must be a table",
    "method = {a = 1}": "must be a value",
    "[set]\nN = true": "must be a number",
    "[set]\nN = [1]": "must be a number",
    "[set]\nN = 1979-05-27": "must be a number",
    "[set]\nN = nan": "finite",
    "[clamp]\nalpha3 = 'x'": "must be a number",
    "[clamp]\nalpha = 1": "did you mean 'alpha3'",
    "a = " + "[" * 50_000: "not valid TOML",
    "N = = 3": "not valid TOML",
    "\udcff": "not valid TOML",
}


@pytest.mark.parametrize("text", BAD_CONFIG, ids=lambda t: t[:20])
def test_bad_configuration(run, text):
    Path("c.toml").write_bytes(text.encode(errors="surrogateescape"))
    code, out, err = run("run", "musat3", "--config", "c.toml")
    assert code == 2
    assert out == ""
    assert BAD_CONFIG[text] in err
    assert len(err.strip().splitlines()) == 1
    assert os.listdir() == ["c.toml"]


# Files


def test_every_format_is_read_back_by_another_process(run):
    names = [f"result.{ending}" for ending in ("nc", "npz", "csv", "json")]
    expected = None
    for name in names:
        code, out, _ = run("run", "musat3", "--set", "N=4", "--t-end", "2*N", "--out", name)
        assert code == 0
        assert f"saved {name}" in out
        expected = rd.load(name)
    code = (
        "import sys, reduced_dynamics as rd\n"
        "for name in sys.argv[1:]:\n"
        "    t = rd.load(name)\n"
        "    print(t.system, t.parameters['N'], t.t_end, t.final, t.source)\n"
    )
    reader = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *names],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert reader.returncode == 0, reader.stderr
    line = f"musat3 4 8.0 {expected.final} {expected.source}"
    assert reader.stdout.splitlines() == [line] * 4


def test_a_result_replaces_the_one_before(run):
    for n in (4, 5):
        run("run", "musat3", "--set", f"N={n}", "--t-end", 1, "--out", "a.json")
    assert rd.load("a.json").parameters["N"] == 5
    assert os.listdir() == ["a.json"]


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_plots(ending, run):
    code, out, err = run("run", "musat3", "--set", "N=4", "--plot", f"a.{ending}")
    assert code == 0
    assert f"drew a.{ending}" in out
    assert not beside_progress(err)  # such as what other packages log
    magic = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
    assert Path(f"a.{ending}").read_bytes().startswith(magic)


BAD_TARGET = (
    "folder",
    "folder/",
    "folder.nc",
    "none/a.nc",
    "a.xyz",
    "a",
    "plain/a.nc",
    "/dev/null.nc/a.nc",
)


@pytest.mark.parametrize("option", ["--out", "--plot"])
@pytest.mark.parametrize("target", BAD_TARGET)
def test_bad_targets_are_refused_before_anything_is_computed(run, target, option, monkeypatch):
    os.mkdir("folder")
    os.mkdir("folder.nc")
    Path("plain").write_text("a file")
    monkeypatch.setattr("reduced_dynamics.commands.run.integrate", None)
    code, out, err = run("run", "musat3", option, target)
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert sorted(os.listdir()) == ["folder", "folder.nc", "plain"]


def test_names_that_are_no_text(run):
    """Bytes that are no UTF-8 are a file name like any other."""
    name = os.fsdecode(b"\xff.json")
    found = process("run", "musat3", "--set", "N=4", "--t-end", 1, "--out", name)
    assert found.returncode == 0
    assert os.listdir() == [name]


# Other commands


def test_list(run):
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert "musat3" in out
    assert "musat19" in out
    for name in ("musat3", "musat19"):
        code, out, _ = run("list", name)
        assert code == 0
        system: ReducedSystem = rd.system(name)
        described = (*system.coordinates, *system.parameters, *system.observables, *system.events)
        for thing in described:
            assert thing.name in out.split()
            assert thing.meaning in out
        for parameter in system.parameters:
            assert parameter.range in out


def test_derive(run):
    code, out, err = run("derive", "musat3")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 10
    code, out, _ = run("derive", "musat3", "--latex", "f.tex")
    assert code == 0
    text = Path("f.tex").read_text()
    assert text.startswith("\\documentclass")
    assert text.rstrip().endswith("\\end{document}")
    for target in ("f.txt", "none/f.tex"):
        assert run("derive", "musat3", "--latex", target)[0] == 2


def test_version_and_help(run):
    assert run("--version") == (0, f"reduced-dynamics {rd.__version__}\n", "")
    for command in ([], ["list"], ["derive"], ["run"], ["validate"]):
        code, out, err = run(*command, "--help")
        assert (code, err) == (0, "")
        assert len(out) > 150
        assert "usage: simulate.py" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum", "musat3"], "did you mean 'run'?"),
        (["--verson"], "simulate.py"),
        ([], "COMMAND"),
        (["run", "musat3", "--method"], "expected one argument"),
        (["run", "musat3", "musat19"], "unknown argument 'musat19'"),
        (["run", "musat3", "--set", "N=1e12", "--dynamics", "gd", "--step", "1e-300"], "too many"),
    ],
)
def test_more_bad_input(run, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_exit_codes_of_a_process():
    for arguments, code, message in (
        (["run", "musta3"], 2, "simulate.py: unknown system 'musta3'; did you mean 'musat3'?"),
        (["run", "musat3", "--set", "N=-1"], 2, "out of range"),
        (["run", "musat3", "--dynamics", "gd", "--step", "1e4"], 3, "diverged"),
    ):
        found = process(*arguments)
        assert found.returncode == code
        assert found.stdout == ""
        assert message in found.stderr


# Output that goes nowhere


def shell(command):
    found = subprocess.run(
        ["bash", "-c", f'set -o pipefail; S="$0 $1"; {command}', *SIMULATE],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in found.stderr
    assert "Exception" not in found.stderr
    return found


def test_a_reader_that_leaves():
    found = shell("$S run musat3 --set N=4 --json | head -1")
    assert found.stdout == "{\n"
    assert found.stderr == ""
    found = shell("$S list | true")
    assert found.stderr == ""
    assert found.returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_that_cannot_be_written():
    found = shell("$S list > /dev/full")
    assert found.returncode == 2
    assert "cannot write the output" in found.stderr
    assert shell("$S list >&-").returncode == 0


def test_a_terminal_that_knows_ascii_only():
    found = process("derive", "musat3", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert found.returncode == 0


# Interruption


def interrupt(*arguments, after="t = "):
    """Start a command, press Ctrl-C once it reports progress, wait for its end."""
    running = subprocess.Popen(
        [*SIMULATE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    begun = []
    for line in running.stderr:
        begun.append(line)
        if line.startswith(after):
            break
    assert running.poll() is None, begun
    time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert "Traceback" not in err
    return running.returncode, out, err


@pytest.mark.parametrize(
    "options",
    [["musat19", "--set", "N=20000"], ["musat3", "--dynamics", "gd", "--step", "1e-5", "--json"]],
    ids=["flow", "gd"],
)
def test_ctrl_c_keeps_what_was_done(options):
    code, out, err = interrupt("run", *options, "--out", "part.nc", "--plot", "part.png")
    assert code == 130
    assert "interrupted by the user at t = " in err
    part = rd.load("part.nc")
    assert part.t_end > 0
    assert len(part) > 1
    assert "interrupted" in part.message
    assert Path("part.png").stat().st_size > 1000
    assert sorted(os.listdir()) == ["part.nc", "part.png"]
    if "--json" in options:
        assert numbers(out)["t_end"] == part.t_end


def test_ctrl_c_at_once(run, monkeypatch):
    """Before the first step there is one state; that is kept as well."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("reduced_dynamics.integration.one.run_flow", stop)
    code, _, _ = run("run", "musat3", "--set", "N=4", "--out", "a.nc", "--plot", "a.png")
    assert code == 130
    assert len(rd.load("a.nc")) == 1
    monkeypatch.setattr("reduced_dynamics.integration.one.Problem", stop)
    code, _, err = run("run", "musat3", "--set", "N=4", "--out", "b.nc")
    assert code == 130
    assert err == "simulate.py: interrupted\n"
    assert not Path("b.nc").exists()


def test_a_switched_off_compiler_is_said():
    found = process("run", "musat3", env=os.environ | {"NUMBA_DISABLE_JIT": "1"})
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1].endswith("this package compiles; unset it")
    assert "Traceback" not in found.stderr
