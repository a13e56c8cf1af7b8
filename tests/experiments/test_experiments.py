"""Every experiment: declared in full, performed at size tiny, kept, drawn again from its file."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reduced_dynamics import catalogue
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments import gallery
from reduced_dynamics.experiments import perform as module
from reduced_dynamics.experiments.experiment import Conclusion, Context, Experiment
from reduced_dynamics.experiments.finding import VERDICTS, Finding, Measured, fill, holds, near
from reduced_dynamics.experiments.perform import ExperimentInterrupted, perform
from reduced_dynamics.experiments.result import Result
from reduced_dynamics.experiments.setting import SIZES, Setting, Settings, collect, seeds
from reduced_dynamics.io import bundle
from reduced_dynamics.io.jsonable import plain

ROOT = Path(__file__).resolve().parents[2]

EXPERIMENTS = {e.name: e for e in catalogue.experiments()}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_declared_in_full(name):
    one = EXPERIMENTS[name]
    assert catalogue.experiment(name) is one
    assert one.question.endswith("?") and one.title and one.caption
    assert bool(one.claim) == bool(one.source)
    assert {"full", "quick"} <= one.cost.keys()
    for size in SIZES:
        settings = collect(one.settings, {}, size, name)
        assert one.parts(settings)
        for setting in one.settings:  # what is declared is itself allowed
            if settings[setting.name] is not None:
                assert setting.parse(settings[setting.name]) == settings[setting.name]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_at_tiny(name, tmp_path):
    from reduced_dynamics.plotting.style import save_figure

    result = perform(EXPERIMENTS[name], {}, Context("tiny", keep=tmp_path / "parts"))
    assert result.findings and all(f.verdict in VERDICTS for f in result.findings)
    assert not os.listdir(tmp_path / "parts")  # nothing is left once it is done
    json.dumps(result.as_json(), allow_nan=False)
    path = tmp_path / "r.nc"
    result.save(path)
    again = Result.load(path, EXPERIMENTS[name])
    assert again.findings == result.findings and again.numbers == result.numbers
    assert again.data.identical(result.data.assign_attrs(again.data.attrs))
    save_figure(result.plot(), tmp_path / "a.svg")
    save_figure(again.plot(), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_settings_are_checked():
    known = (
        Setting("N", 64, "pairs", 32, 8, kind="int", low=2, high=100),
        Setting("sizes", (8, 16), "pairs", kind="int", many=True, low=2),
    )
    assert collect(known, {}, "tiny", "x").N == 8
    assert collect(known, {"sizes": "8:32:log:3"}, "quick", "x").sizes == (8, 16, 32)
    assert collect(known, {"sizes": "4,"[:1]}, "full", "x").sizes == (4,)
    with pytest.raises(InputError, match="did you mean 'sizes'"):
        collect(known, {"size": 1}, "full", "x")
    with pytest.raises(InputError, match="out of range"):
        collect(known, {"N": 1}, "full", "x")
    with pytest.raises(InputError, match="did you mean 'quick'"):
        collect(known, {}, "quik", "x")
    with pytest.raises(AttributeError):
        collect(known, {}, "full", "x").N = 3
    assert seeds("seeds", "3") == (0, 1, 2) and seeds("seeds", "3,") == (3,)
    assert seeds("seeds", 2) == seeds("seeds", (0, 1)) == (0, 1)


def test_a_claimed_number_agrees_differs_or_is_not_decided():
    assert near(2.01, 2.0, 0.05) == "agrees"
    assert near(2.06, 2.0, 0.05) == "differs"
    assert near(2.01, 2.0, 0.05, error=0.1) == "not decided"
    assert near(2.5, 2.0, 0.05, error=0.1) == "differs"
    assert near(None, 2.0, 0.05) == near(float("nan"), 2.0, 0.05) == "not decided"


def test_sentences_are_filled_from_the_numbers():
    assert (
        fill("{a:.2f}, {b[c]}, {d:.1f}", {"a": 1.0, "b": {"c": True}, "d": None}) == "1.00, yes, –"
    )
    with pytest.raises(KeyError):
        fill("{no}", {})
    one = Finding("x {a}", "differs", "c", Measured(1.0, interval=(0.5, 1.5), n=3), "because {a}")
    filled = one.filled({"a": 2})
    assert str(filled) == "[differs] x 2 (because 2)"
    assert Finding.from_json(json.loads(json.dumps(filled.as_json()))) == filled
    with pytest.raises(ValueError):
        Finding("x", "perhaps")


def test_a_bundle_comes_back_as_it_was():
    value = {"a": [1, 2.5, None, "é", float("inf")], "b": {"c": np.arange(6.0).reshape(2, 3)}}
    again = bundle.decode(bundle.encode(value))
    assert again["a"] == value["a"] and np.array_equal(again["b"]["c"], value["b"]["c"])
    damaged = bytearray(bundle.encode(value))
    damaged[len(damaged) // 2] ^= 255
    for content in (bytes(damaged), b"", b"PK"):
        with pytest.raises(InputError):
            bundle.decode(content)
    with pytest.raises(InputError):
        bundle.encode({"a": object()})


# ---------------------------------------------------------------- performing


def _parts(settings):
    return {f"x{x}": x for x in settings.xs}


def _work(settings, x, context):
    if x == settings.bad:
        raise InputError("x is bad; take another")
    if x == settings.stop:
        raise KeyboardInterrupt
    with open(settings.log, "a") as file:
        file.write(f"{x}\n")
    return {"square": x * x, "array": np.full(2, float(x))}


def _conclude(settings, outcomes):
    squares = [o["square"] for o in outcomes.values()]
    data = {"x": (("x",), settings.xs, "x"), "square": (("x",), squares, "x squared, 1")}
    return Conclusion({"squares": squares, "largest": max(squares)}, data)


def _judge(numbers):
    return [Finding("the largest square is {largest}", holds(numbers["largest"] == 16))]


def _draw(result):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().plot(result.data["x"], result.data["square"])
    return figure


SQUARES = Experiment(
    name="toy.squares",
    question="how large are squares?",
    parts=_parts,
    work=_work,
    conclude=_conclude,
    judge=_judge,
    draw=_draw,
    settings=(
        Setting("xs", (1, 2, 4), "numbers", (1, 2), (1,), kind="int", many=True),
        Setting("log", "", "file", kind="text"),
        Setting("stop", -1, "where an interruption comes", kind="int"),
        Setting("bad", -1, "what fails", kind="int"),
    ),
    title="squares",
    caption="squares of {squares}",
    cost={"full": 1, "quick": 1},
)


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_are_kept_and_not_done_twice(workers, tmp_path, monkeypatch):
    given = {"log": str(tmp_path / "log"), "xs": (1, 2, 3, 4)}
    context = Context(workers=workers, keep=tmp_path / "parts")
    stopped = {"stop": 3} if workers == 1 else {"bad": 3}
    # What stops is a setting of the toy only; it must not be part of what names the kept parts.
    monkeypatch.setattr(module, "plain", lambda v: plain(_without(v)))
    with pytest.raises((ExperimentInterrupted, InputError)) as found:
        perform(SQUARES, given | stopped, context)
    if workers == 1:
        assert found.value.exit_code == 130 and (found.value.done, found.value.total) == (2, 4)
        assert "2 of 4 parts are done and kept: x1, x2" in str(found.value)
    result = perform(SQUARES, given, context)
    assert sorted((tmp_path / "log").read_text().split()) == ["1", "2", "3", "4"]
    assert result.numbers["squares"] == [1, 4, 9, 16] and result.findings[0].verdict == "agrees"
    assert str(result).splitlines()[0] == "[agrees] the largest square is 16"
    assert result.command.startswith("python simulate.py experiment toy.squares --set xs=1,2,3,4")


def _without(value):
    if isinstance(value, Settings):
        return {k: v for k, v in value.items() if k not in ("stop", "bad")}
    return value


def test_a_damaged_part_is_done_again(tmp_path):
    given = {"log": str(tmp_path / "log")}
    context = Context(keep=tmp_path / "parts")
    with pytest.raises(ExperimentInterrupted):
        perform(SQUARES, given | {"stop": 4}, context)
    (folder,) = (tmp_path / "parts").iterdir()
    (folder / "x2.npz").write_bytes(b"damaged")
    with pytest.raises(ExperimentInterrupted):
        perform(SQUARES, given | {"stop": 4}, context)
    assert (tmp_path / "log").read_text().split() == ["1", "2", "2"]


def test_results_of_others_are_refused(tmp_path):
    path = tmp_path / "r.nc"
    result = perform(SQUARES, {"log": str(tmp_path / "log")}, Context(keep=tmp_path / "parts"))
    result.save(path)
    other = replace(SQUARES, name="toy.cubes")
    with pytest.raises(InputError, match=r"a result of toy.squares, not of toy.cubes"):
        Result.load(path, other)
    replace(result, experiment="toy.squares").data.attrs.clear()
    import xarray

    data = xarray.load_dataset(path, engine="netcdf4")
    data.attrs["format_version"] = 2
    data.to_netcdf(path, engine="netcdf4")
    with pytest.raises(InputError, match="it is of version 2, this program reads 1"):
        Result.load(path, SQUARES)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        Result.load(path, SQUARES)
    with pytest.raises(InputError, match="there is no file"):
        Result.load(tmp_path / "none.nc", SQUARES)


@pytest.mark.parametrize(
    ("name", "value"),
    [("numbers", "{}"), ("numbers", "[1, 2]"), ("wall_s", '"x"'), ("settings", "[]"),
     ("findings", "[]"), ("findings", "{}")],
)  # fmt: skip
def test_entries_that_are_not_a_results(name, value, tmp_path):
    import xarray

    path, changed = tmp_path / "r.nc", tmp_path / "s.nc"
    perform(SQUARES, {"log": str(tmp_path / "log")}, Context(keep=tmp_path)).save(path)
    xarray.load_dataset(path).assign_attrs({name: value}).to_netcdf(changed)
    with pytest.raises(InputError, match="its entries make no sense"):
        Result.load(changed, SQUARES)


def test_a_figure_whose_data_are_gone(tmp_path):
    import xarray

    path, changed = tmp_path / "r.nc", tmp_path / "s.nc"
    perform(SQUARES, {"log": str(tmp_path / "log")}, Context(keep=tmp_path)).save(path)
    found = xarray.load_dataset(path)
    found.rename({name: f"other_{name}" for name in found.data_vars}).to_netcdf(changed)
    with pytest.raises(InputError, match="does not hold what its figure shows"):
        Result.load(changed, SQUARES).plot()


def test_a_gallery_is_taken_up_and_survives_what_fails(tmp_path):
    folder, log = tmp_path / "gallery", str(tmp_path / "log")
    bad = replace(SQUARES, name="toy.bad", judge=lambda numbers: [Finding("{nothing}")])
    states = []

    def report(entry):
        states.append((entry.name, entry.state, entry.exit_code))

    context = Context(keep=tmp_path / "parts")
    gallery.make([SQUARES, bad], folder, {"log": log}, context, report)
    gallery.make([SQUARES, bad], folder, {"log": log}, context, report)
    assert states[0] == ("toy.squares", "made", 0) and states[2] == ("toy.squares", "kept", 0)
    assert states[1][1:] == states[3][1:] == ("failed", 1)
    text = (folder / "index.html").read_text()
    assert "the largest square is 16" in text and "This experiment failed: KeyError" in text
    assert "http" not in text.replace("http://www.w3.org", "")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        gallery.make([SQUARES], tmp_path / "file", {"log": log}, context)


# ---------------------------------------------------------------- the command


def command(*words, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / "simulate.py"), "experiment", *words],
        capture_output=True, text=True, cwd=cwd, timeout=300,
    )  # fmt: skip


def test_the_command_performs_keeps_and_draws_again(tmp_path):
    run = command("musat.order", "--size", "tiny", "--out", "r.nc", "--plot", "a.png", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("[")
    again = command("musat.order", "--from", "r.nc", "--plot", "b.png", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["experiment"] == "musat.order"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("musat.ordr",), "did you mean 'musat.order'"),
        (("musat.order", "--set", "size=3"), "unknown setting of musat.order 'size'; did you mean"),
        (("musat.order", "--set", "N=0"), "out of range"),
        (("musat.order", "--size", "huge"), "unknown size 'huge'"),
        (("musat.order", "--seed", "1"), "unknown setting of musat.order 'seed'"),
        (("musat.order", "--workers", "0"), "--workers takes a positive whole number"),
        (("musat.order", "--from", "none.nc"), "none.nc"),
        (("musat.order", "--from", ""), "--from needs the name of a file"),
        (("musat.order", "--from", "r.nc", "--seed", "4"), "drop --seed, or drop --from"),
        (("musat.order", "--from", "r.nc", "--size", "tiny"), "drop --size, or drop --from"),
        (("--plot", "z.png"), "--plot is for one experiment or all"),
        (("--from", "r.nc"), "--from is for one experiment or all"),
        (("musat.order", "--out", "r.csv"), "unknown file ending '.csv'"),
        (("musat.order", "--plot", "r.gif"), "unknown file ending '.gif'"),
        (("all", "--plot", "r.png"), "--out FOLDER"),
        (
            ("all", "--set", "kernell=3"),
            "setting of any experiment 'kernell'; did you mean 'kernel'",
        ),
        (("all", "--set", "kernel=3"), "unknown value of kernel '3'"),
        (("all", "--set", "N=0"), "out of range"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(words, said, tmp_path, capsys, monkeypatch):
    from reduced_dynamics.commands.main import main

    def never(*_):
        raise AssertionError("performed before all that was given was checked")

    monkeypatch.setattr("reduced_dynamics.experiments.perform.perform", never)
    monkeypatch.setattr(gallery, "_one", never)
    monkeypatch.chdir(tmp_path)
    assert main(["experiment", *words]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and "Traceback" not in printed.err and not printed.out


def test_all_experiments_are_listed_with_their_costs(capsys):
    from reduced_dynamics.commands.main import main

    assert main(["experiment"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(any(line.startswith(name) for line in lines) for name in EXPERIMENTS)
