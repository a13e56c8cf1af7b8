"""What a user can get wrong: one clear sentence on standard error, exit code 2, nothing written."""

import pytest

from reduced_dynamics.commands.main import main

CASES = {
    "unknown system": (["run", "musat4"], "did you mean 'musat3'"),
    "unknown command": (["rnu", "musat3"], "invalid choice"),
    "no system": (["run"], "name the system"),
    "unknown option": (["run", "musat3", "--sett", "N=3"], "did you mean --set"),
    "unknown parameter": (["run", "musat3", "--set", "Nn=3"], "did you mean 'N'"),
    "no value": (["run", "musat3", "--set", "N"], "NAME=VALUE"),
    "twice": (["run", "musat3", "--set", "N=3", "--set", "N=4"], "given twice"),
    "N zero": (["run", "musat3", "--set", "N=0"], "out of range"),
    "N negative": (["run", "musat19", "--set", "N=-4"], "out of range"),
    "N fractional": (["run", "musat3", "--set", "N=2.5"], "whole number"),
    "N huge": (["run", "musat19", "--set", "N=1e30"], "out of range"),
    "N nan": (["run", "musat3", "--set", "N=nan"], "finite"),
    "N text": (["run", "musat3", "--set", "N=many"], "must be a number"),
    "D odd": (["run", "musat19", "--set", "N=4", "--set", "D=17"], "odd"),
    "D small": (["run", "musat19", "--set", "N=4", "--set", "D=8"], "smallest that does is 10"),
    "query beyond": (["run", "musat3", "--set", "N=4", "--set", "query=5"], "beyond the last"),
    "query text": (["run", "musat3", "--set", "query=first"], "'last', 'uniform'"),
    "uniform huge": (["run", "musat3", "--set", "N=10**6"], "must be a number"),
    "bool": (["run", "musat3", "--set", "self_attention=maybe"], "true or false"),
    "method": (["run", "musat3", "--method", "RK45"], "unknown method"),
    "negative tolerance": (["run", "musat3", "--rtol", "-1"], "rtol"),
    "nan tolerance": (["run", "musat3", "--atol", "nan"], "finite"),
    "threshold": (["run", "musat3", "--threshold", "inf"], "finite"),
    "horizon code": (["run", "musat3", "--t-end", "__import__('os')"], "unexpected"),
    "horizon name": (["run", "musat3", "--t-end", "8*M"], "unknown"),
    "horizon negative": (["run", "musat3", "--t-end", "-5"], "positive"),
    "horizon power": (["run", "musat3", "--t-end", "9**9**9**9"], ""),
    "clamp name": (["run", "musat3", "--clamp", "alpha4=0"], "did you mean 'alpha3'"),
    "clamp far": (["run", "musat3", "--clamp", "alpha3=701"], "±700"),
    "clamp nan": (["run", "musat3", "--clamp", "alpha3=nan"], "finite"),
    "clamp and start": (["run", "musat3", "--clamp", "beta2=1", "--start", "beta2=0"], "both"),
    "at beyond": (["run", "musat3", "--t-end", "10", "--at", "20"], "beyond the horizon"),
    "at text": (["run", "musat3", "--at", "1;2"], "number"),
    "gd without step": (["run", "musat3", "--dynamics", "gd"], "--step"),
    "step without gd": (["run", "musat3", "--step", "1"], "gd"),
    "ending": (["run", "musat3", "--out", "x.nx"], "ending"),
    "no ending": (["run", "musat3", "--out", "x"], "ending"),
    "plot ending": (["run", "musat3", "--plot", "x.jpeg"], "ending"),
    "no directory": (["run", "musat3", "--out", "nowhere/x.nc"], "mkdir"),
    "directory": (["run", "musat3", "--out", "folder.nc"], "directory"),
    "no config": (["run", "musat3", "--config", "none.toml"], "cannot read"),
    "bad toml": (["run", "musat3", "--config", "bad.toml"], "TOML"),
    "toml option": (["run", "musat3", "--config", "odd.toml"], "did you mean"),
    "derive unknown": (["derive", "musat5"], "unknown system"),
    "latex ending": (["derive", "musat3", "--latex", "x.txt"], "ending"),
    "list unknown": (["list", "musat"], "did you mean"),
    "validate small D": (["validate", "musat19", "--set", "D=4"], "smallest"),
    "validate batch": (["validate", "musat19", "--batch", "0"], "batch"),
    "bank": (["run", "musat19", "--set", "inputs=gaussian", "--set", "bank=0"], "out of range"),
    "inputs": (["run", "musat19", "--set", "inputs=gauss"], "did you mean 'gaussian'"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("N = = 3")
    (tmp_path / "odd.toml").write_text('methd = "Radau"')
    (tmp_path / "folder.nc").mkdir()
    before = sorted(tmp_path.iterdir())
    arguments, expected = CASES[case]
    try:
        code = main(arguments)
    except SystemExit as stopped:  # argparse's own errors
        code = stopped.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert expected in printed.err
    assert 1 <= len(printed.err.strip().splitlines()) <= 2
    assert "Traceback" not in printed.err
    assert sorted(tmp_path.iterdir()) == before
