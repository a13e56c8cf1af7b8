"""``simulate.py approximate``: tables, JSON, figures, and bad input in one sentence."""

import json

import numpy as np
import pytest

from reduced_dynamics.commands.main import main
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.wang.approximation import theorem_3_1
from reduced_dynamics.families.wang.approximation.settings import QUICK, Settings, changed, slope

SMALL = ["--quick", "--set", "samples=60", "--set", "rounds=4"]
ONE = {
    "3.1": ["--set", "p=4,8", "--set", "lengths=5,16,32"],
    "3.3": ["--set", "n=3", "--set", "H=1,2,3", "--set", "bound=100", "--set", "lengths=5,16",
            "--set", "L=9"],
    "3.4": ["--set", "rank=2,4", "--set", "width=16,32", "--set", "similarity=smooth",
            "--set", "L=12"],
}  # fmt: skip


@pytest.mark.parametrize("theorem", ONE)
def test_json_and_figure(theorem, capsys, tmp_path):
    target = tmp_path / "a.png"
    arguments = ["approximate", theorem, *SMALL, *ONE[theorem], "--json", "--plot", str(target)]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert result["complete"] and list(result["theorems"]) == [theorem]
    assert target.stat().st_size > 10_000
    for table in result["theorems"][theorem].values():
        assert table["rows"] and all(len(row) == len(table["columns"]) for row in table["rows"])
    if theorem == "3.3":
        rows = result["theorems"]["3.3"]["H"]["rows"]
        assert [row[3] == pytest.approx(1, abs=1e-6) for row in rows[:3]] == [True, False, False]
        assert rows[3][2] is None  # any number of heads


def test_text(capsys):
    assert main(["approximate", "3.1", *SMALL, *ONE["3.1"]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("d ln(error) / dp, exponential, p ≥ 4" in line for line in lines)
    row = next(line.split() for line in lines if line.split()[:3] == ["exponential", "8", "64"])
    assert float(row[5]) == pytest.approx(2 * np.tanh(2 * np.exp(-8)), rel=1e-3)


def test_the_same_seed_gives_the_same_tables(capsys):
    outputs = []
    for seed in (0, 0, 1):
        assert main(["approximate", "3.1", *SMALL, *ONE["3.1"], "--set", f"seed={seed}"]) == 0
        outputs.append(capsys.readouterr().out.splitlines()[1:])
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["3.2"], "unknown theorem '3.2'; did you mean"),
        (["--set", "heads=3"], "unknown setting 'heads'"),
        (["--set", "p=1,x"], "p takes a number, not 'x'"),
        (["--set", "H=1.5"], "H takes a whole number, not '1.5'"),
        (["--set", "n=1"], "n must be from 2 to 8, not 1"),
        (["--set", "p=1000"], "p must be from 0 to 40, not 1000"),
        (["--set", "kernel=polynomal"], "unknown kernel 'polynomal'; did you mean 'polynomial'?"),
        (["--set", "similarity=rough"], "unknown similarity 'rough'"),
        (["--set", "rank=,"], "rank takes values separated by commas"),
        (["--set", "L=4"], "L must be from 5 to 4096, not 4"),
        (["--set", "p"], "--set takes NAME=VALUE, not 'p'"),
        (["3.1", "--plot", "a.gif"], "unknown file ending '.gif'"),
    ],
)
def test_bad_input(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["approximate", *arguments]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and "Traceback" not in printed.err
    assert printed.out == ""


def test_interruption_keeps_what_was_done(capsys, monkeypatch):
    study = theorem_3_1.study

    def cut_short(settings, progress):
        yield next(study(settings, progress))
        raise KeyboardInterrupt

    monkeypatch.setattr(theorem_3_1, "study", cut_short)
    assert main(["approximate", "3.1", *SMALL, *ONE["3.1"], "--json"]) == 130
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert not result["complete"] and list(result["theorems"]["3.1"]) == ["p"]
    assert "interrupted" in printed.err


def test_settings():
    assert changed(Settings(), {"H": "8, 2,8"}).H == (2, 8)
    assert changed(QUICK, {"kernel": "polynomial"}).kernel == ("polynomial",)
    with pytest.raises(InputError, match="strength takes a number, not 'inf'"):
        changed(Settings(), {"strength": "inf"})
    assert slope("a", [1.0], [2.0], None) == []
    (rate,) = slope("a", [1, 2, 3], [2, np.nan, 6], 2.0)
    assert (rate.measured, rate.points) == (pytest.approx(2), 2)
