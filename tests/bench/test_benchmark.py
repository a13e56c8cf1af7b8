"""The benchmark in a small form: accuracy reached, notes for what is missing, JSON."""

import json

import numpy as np
import pytest

from reduced_dynamics.bench import measure as benchmark
from reduced_dynamics.commands.main import main


@pytest.fixture
def few(monkeypatch):
    """Few contenders, one of them not installed."""
    names = ("Rodas5P, lanes", "Rodas5P, scalar", "scipy LSODA")
    chosen = [c for c in benchmark.CONTENDERS if c[0] in names]
    chosen.append(("absent", "no_such_package", lambda: None, 1))
    monkeypatch.setattr(benchmark, "CONTENDERS", tuple(chosen))


def test_it_times_what_is_installed_at_the_accuracy_asked_for(few, capsys):
    arguments = [
        "bench",
        "musat3",
        "--points",
        "4",
        "--repeat",
        "1",
        "--accuracy",
        "1e-6",
        "--json",
        "-",
    ]
    assert main(arguments) == 0
    (told,) = json.loads(capsys.readouterr().out)["cases"]
    assert told["reference_against_radau"] < 1e-11
    rows = {row["contender"]: row for row in told["rows"]}
    assert rows["absent"]["note"].startswith("not installed")
    for name in ("Rodas5P, lanes", "Rodas5P, scalar", "scipy LSODA"):
        assert rows[name]["error"] <= 1e-6
        assert rows[name]["per_s"] > 0
    assert told["ratios"]["Rodas5P, scalar / scipy LSODA"] > 5
    assert 0 < rows["Rodas5P, scalar"]["floor"] < 1


def test_it_prints_a_table_and_writes_a_file(few, capsys, tmp_path):
    target = tmp_path / "bench.json"
    assert main(["bench", "musat3", "--points", "2", "--repeat", "1", "--json", str(target)]) == 0
    text = capsys.readouterr().out
    assert "per second" in text
    assert "not installed (no_such_package)" in text
    assert json.loads(target.read_text())["accuracy"] == 1e-8


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["musat33"], "did you mean 'musat3'"),
        (["--points", "0"], "whole number"),
        (["--accuracy", "1"], "out of range"),
        (["--repeat", "x"], "takes a number"),
        (["--json", "nonexistent/x"], "its directory does not exist"),
    ],
)
def test_bad_input_ends_in_one_sentence(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_error_counts_missed_and_invented_events():
    case = benchmark.Case("x", [], "1", [], np.array([[1.0, np.nan], [2.0, 4.0]]))
    assert case.error(np.array([[1.0, np.nan]])) == 0.0
    assert case.error(np.array([[1.0, np.nan], [2.0, 4.004]])) == pytest.approx(1e-3)
    assert case.error(np.array([[np.nan, np.nan]])) == np.inf
    assert case.error(np.array([[1.0, 3.0]])) == np.inf
