"""Sweeps end to end: results, stores, interruptions, refusals; from Python and as a command."""

import errno
import filecmp
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import xarray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reduced_dynamics as rd
from reduced_dynamics.commands.main import main
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.musat.system import MUSAT3
from reduced_dynamics.integration.rosenbrock import single
from reduced_dynamics.io import files
from reduced_dynamics.sweeping import disk, reading, runners, store, work
from reduced_dynamics.sweeping.reading import IncompleteSweep, summary
from reduced_dynamics.sweeping.run import SweepInterrupted, perform, planned
from reduced_dynamics.sweeping.store import StoreError

ROOT = Path(__file__).resolve().parents[2]
SIMULATE = [sys.executable, "-W", "error", str(ROOT / "simulate.py")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """One command in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stopped:
            code = stopped.code
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return call


def same(one, other):
    """Whether two directories hold the same files, byte for byte."""
    found = [{p.relative_to(d) for p in Path(d).rglob("*") if p.is_file()} for d in (one, other)]
    return found[0] == found[1] and all(
        filecmp.cmp(Path(one) / name, Path(other) / name, shallow=False) for name in found[0]
    )


# Results


def test_every_point_is_what_run_makes_of_it(monkeypatch):
    options = {"t_end": "6*N**2", "clamp": {"beta2": 0.25}, "threshold": 0.3}
    found = rd.sweep(
        "musat3", grid={"N": [16, 8], "query": "last,2", "start.gamma3": "0.1:1:log:2"},
        at=["N", 7.5], out="a.zarr", **options,
    )  # fmt: skip
    assert dict(found.sizes) == {"N": 2, "query": 2, "start.gamma3": 2, "at": 2}
    for n in (16, 8):
        for query in ("last", "2"):
            point = found.sel({"N": n, "query": query}).isel({"start.gamma3": 1})
            run = rd.integrate("musat3", {"N": n, "query": query}, start={"gamma3": 1.0}, **options)
            for name, t in run.events.items():
                value = float(point[name])
                assert np.isnan(value) if t is None else value == pytest.approx(t, rel=1e-7)
            assert point.final_alpha3 == pytest.approx(run.final["alpha3"], rel=1e-7)
            assert point.final_loss == pytest.approx(run.loss[-1], rel=1e-6)
            assert point.at_t.values.tolist() == [n, 7.5]
            report = rd.report_at(rd.system("musat3"), run, [n, 7.5])
            for name in ("loss", "A", "alpha3", "gamma3"):
                np.testing.assert_allclose(point[f"at_{name}"], report[name], rtol=1e-7)
    assert (found.status == 1).all()
    monkeypatch.setattr(reading, "AT_ONCE", 0)  # as a store too large for the memory is opened
    xarray.testing.assert_identical(rd.open_sweep("a.zarr").load(), found)


def test_the_store_is_plain_zarr():
    rd.sweep("musat3", grid={"N": "8:64:log:4"}, parameters={"query": "last"}, t_end="N",
             out="a.zarr")  # fmt: skip
    with xarray.open_zarr("a.zarr") as plain:
        assert plain.sizes == {"point": 4}
        assert plain.N.values.tolist() == [8, 16, 32, 64]
        assert "N" in plain.coords
        assert plain.T_gamma3.attrs["kind"] == "events"
        about = plain.attrs
    assert about["system"] == "musat3"
    assert json.loads(about["parameters"]) == {"query": "last"}
    assert json.loads(about["plan"])["grid"] == {"N": "8:64:log:4"}
    assert json.loads(about["solver"])["rtol"] == 1e-9
    assert json.loads(about["scales"]) == {"N": "log"}
    assert len(about["source"]) == 20
    assert {"numpy", "numba", "zarr"} <= json.loads(about["versions"]).keys()
    assert "training time" in about["time_units"]


def test_points_that_cannot_be_are_recorded():
    found = rd.sweep("musat3", grid={"N": "-1,0,8", "query": "last,9,1"}, t_end=5.0)
    assert found.status.values.tolist() == [[3, 3, 3], [3, 3, 3], [1, 3, 1]]
    assert "out of range" in str(found.reason.values[0, 0])
    assert "beyond the last" in str(found.reason.values[2, 1])
    assert np.isnan(found.final_alpha3.values[0]).all()


def test_failures_do_not_stop_the_rest():
    x, a = sp.symbols("x a", real=True)
    system = rd.gradient_flow(
        -a * x**3 / 3, [x], parameters={a: 1.0}, start={x: 1.0}, events={"high": (x, 10.0, 1)},
        name="explosion",
    )  # fmt: skip
    found = rd.sweep(system, grid={"a": [-1.0, 1.0, 0.5], "start.x": [1.0, 701.0]}, t_end=3.0)
    assert found.status.values.tolist() == [[1, 3], [2, 3], [2, 3]]
    assert str(found.reason.values[1, 0]).startswith("failed at t = 1:")
    assert found.high.values[1, 0] == pytest.approx(0.9, rel=1e-7)
    one_by_one = rd.sweep(
        system, grid={"a": [-1.0, 1.0]}, t_end=3.0, method="Radau", keep=["events", "final"]
    )
    assert one_by_one.status.values.tolist() == [1, 2]
    assert "Radau failed" in str(one_by_one.reason.values[1])


def test_one_by_one_to_an_automatic_horizon():
    found = rd.sweep("musat3", grid={"N": [4, 8]}, keep=["events", "trajectory"], out="a.zarr")
    for k, n in enumerate((4, 8)):
        run = rd.integrate("musat3", {"N": n}, method="Rodas5P")
        kept = rd.sweep_trajectory("a.zarr", k)
        assert np.array_equal(kept.z, run.z)
        assert np.array_equal(kept.at([3.0, 40.0]), run.at([3.0, 40.0]))
        assert kept.crossings == run.crossings
        assert kept.parameters == run.parameters
        assert found.t_reached[k] == run.t_end
        assert found.t_icl[k] == run.events["t_icl"]
    with xarray.open_zarr("a.zarr", group="trajectories/0", consolidated=False) as group:
        assert group.row_size.values.sum() == group.sizes["sample"]
    for point, message in ((2, "no point 2"), (-1, "no point -1"), (99, "no point")):
        with pytest.raises(InputError, match=message):
            rd.sweep_trajectory("a.zarr", point)


def test_gradient_descent_and_its_failures():
    found = rd.sweep("musat3", grid={"N": [4, 8]}, parameters={"query": 1}, t_end=50.0,
                     dynamics="gd", step=0.5)  # fmt: skip
    run = rd.integrate("musat3", {"N": 8, "query": 1}, t_end=50.0, dynamics="gd", step=0.5)
    assert found.final_alpha3.values[1] == run.final["alpha3"]
    bad = rd.sweep("musat3", grid={"N": [8]}, t_end=5000.0, dynamics="gd", step=100.0)
    assert bad.status.values.tolist() == [2]
    assert "diverged" in str(bad.reason.values[0])


def test_samples_and_grids_together():
    found = rd.sweep("musat3", grid={"query": "last,1"}, random={"N": "8:64:log"}, points=5,
                     sampling="sobol", t_end=10.0)  # fmt: skip
    assert found.sizes == {"query": 2, "sample": 5}
    assert found.N.dims == ("sample",)
    alone = rd.sweep("musat3", random={"N": "8:64:log"}, points=5, sampling="sobol", t_end=10.0)
    assert np.array_equal(alone.N, found.N)
    assert alone.N.dims == ("point",)
    assert np.array_equal(alone.final_gamma3, found.final_gamma3[0])


def test_trainings():
    from reduced_dynamics.families.musat.full_model import MUSAT

    found = rd.sweep("musat3", grid={"seed": "0,1", "batch": [8]}, full=True, t_end=4.0,
                     parameters={"N": 2, "D": 8, "learning_rate": 0.5})  # fmt: skip
    again = MUSAT.compare(rd.system("musat3"), {"N": 2, "D": 8}, seed=1, batch=8, learning_rate=0.5,
                     t_end=4.0)  # fmt: skip
    point = found.sel(seed=1, batch=8)
    assert float(point.largest_error) == again.worst[0]
    assert float(point.full_alpha3) == again.full.final["alpha3"]
    assert float(point.reduced_alpha3) == again.reduced.final["alpha3"]
    assert float(point.outside_over_inside) == again.full["outside_over_inside"][-1]
    assert int(point.n_steps) == again.full.stats["steps"]


@pytest.mark.parametrize(
    ("system", "parameters"),
    [("wang", {"sequences": 32}), ("chen", {"sequences": 60, "validation": 20, "L": 30})],
)
def test_trainings_of_other_families(system, parameters):
    found = rd.sweep(system, grid={"seed": "3,4"}, parameters=parameters, full=True, t_end=3.0)
    assert (found.status == 1).all(), found.reason.values
    assert np.isfinite(found.full_loss).all()
    assert found.full_loss[0] != found.full_loss[1]


def test_what_no_training_can_do_is_refused():
    found = rd.sweep("chen", grid={"seed": "0,1"}, clamp={"a": 0.1}, full=True, t_end=3.0)
    assert found.status.values.tolist() == [3, 3]
    assert "the full model of chen holds no coordinate fixed" in str(found.reason.values[0])
    x = sp.Symbol("x")
    with pytest.raises(InputError, match="there is no full model of alone, but of musat19"):
        rd.sweep(rd.gradient_flow(x**2, [x], name="alone"), grid={"start.x": "1,2"}, full=True)


# Stores


def fake(task, threads=1, stopped=None):
    """Results of a block that are quick to make, and tell the points apart."""
    found = work._Table(task).arrays
    n = task.columns["start.alpha3"]
    for name, values in found.items():
        values.T[:] = "x" if name == "reason" else 1 if name == "status" else n
    return found


OPTIONS = {"grid": {"start.alpha3": "0:1:lin:23"}, "t_end": 1.0, "block": 4}


class Dies(BaseException):
    """Nothing that the sweep would handle: the process is gone."""


@given(st.lists(st.integers(0, 4), max_size=3), st.integers(1, 3))
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_interruptions_anywhere_change_nothing(tmp_path_factory, stops, threads):
    folder = tmp_path_factory.mktemp("sweep")
    plan = planned(MUSAT3, **OPTIONS)
    computed = []

    def counting(task, *rest):
        computed.append(task.block)
        return fake(task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runners, "compute", counting)
        perform(plan, folder / "whole.zarr", threads=1)
        for stop in stops:
            put, written = disk.put, []

            def dying(path, data, within=None, put=put, written=written, stop=stop):
                if "/c/" in path.as_posix() and "part.zarr/" in path.as_posix():
                    written.append(path)
                    if len(written) > 7 * stop:
                        raise Dies
                put(path, data, within)

            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(disk, "put", dying)
                with suppress(Dies):
                    perform(plan, folder / "part.zarr", resume=True, threads=threads)
        stored = set()
        if (folder / "part.zarr").exists():
            stored = {int(p.name) for p in (folder / "part.zarr/status/c").glob("*")}
        computed.clear()
        perform(plan, folder / "part.zarr", resume=True, threads=threads)
    assert same(folder / "part.zarr", folder / "whole.zarr")
    assert not stored & set(computed)
    assert stored | set(computed) == set(range(plan.blocks))


def test_ctrl_c_between_blocks(monkeypatch):
    monkeypatch.setattr(runners, "compute", fake)
    seen = []

    def stop(what, share):
        seen.append((what, share))
        if share >= 8 / 23:
            raise KeyboardInterrupt

    with pytest.raises(SweepInterrupted, match="8 of 23 points stored"):
        rd.sweep("musat3", **OPTIONS, out="a.zarr", progress=stop, threads=1)
    assert seen == [(f"{k} of 23 points stored", k / 23) for k in (0, 4, 8)]
    with pytest.warns(IncompleteSweep, match="15 of 23 points are missing, numbers 8..22"):
        found = rd.open_sweep("a.zarr")
    assert "numbers 8..22" in found.attrs["missing"]
    assert found.status.values.tolist() == [1] * 8 + [0] * 15
    seen.clear()
    plan = planned(MUSAT3, **OPTIONS)
    assert perform(plan, Path("a.zarr"), resume=True, progress=lambda *a: seen.append(a)) == 15
    assert seen[0] == ("8 of 23 points stored", 8 / 23)
    assert seen[-1] == ("23 of 23 points stored", 1.0)
    assert perform(plan, Path("a.zarr"), resume=True) == 0


def test_a_damaged_or_unfinished_block_is_computed_again(monkeypatch):
    monkeypatch.setattr(runners, "compute", fake)
    plan = planned(MUSAT3, **OPTIONS)
    perform(plan, Path("a.zarr"))
    perform(plan, Path("b.zarr"))
    Path("b.zarr/status/c/2").write_bytes(b"")
    Path("b.zarr/status/c/3").write_bytes(b"no chunk")
    Path("b.zarr/t_icl/c/4").unlink()
    Path("b.zarr/status/c/4").unlink()
    Path(f"b.zarr/t_icl/c/.4.0123{files.PARTIAL}").write_bytes(b"half")
    assert not same("a.zarr", "b.zarr")
    perform(plan, Path("b.zarr"), resume=True)
    assert same("a.zarr", "b.zarr")


def garbled(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "garbage": lambda path: path.write_bytes(b"no chunk"),
    "one bit": garbled,
    "a directory": lambda path: (path.unlink(), path.mkdir(), (path / "x").touch()),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_seen_and_mended(monkeypatch, run, how):
    monkeypatch.setattr(runners, "compute", fake)
    plan = planned(MUSAT3, **OPTIONS, at=[0.5, 1.0])
    perform(plan, Path("a.zarr"))
    shutil.copytree("a.zarr", "b.zarr")
    for name, blocks in (
        ("t_icl/c/1", 1), ("reason/c/1", 1), ("at_loss/c/2/0", 1), ("start.alpha3/c/0", 0),
        ("at/c/0", 0), ("n_rhs/c/5", 1), ("status/c/2", 1),
    ):  # fmt: skip
        DAMAGES[how](Path("b.zarr") / name)
        if not (name.startswith("status") and how == "missing"):
            with pytest.raises(InputError, match=f"'{name.split('/')[0]}' is damaged in 'b.zarr'"):
                rd.open_sweep("b.zarr")
        seen = []
        perform(plan, Path("b.zarr"), resume=True, progress=lambda *told, to=seen: to.append(told))
        assert len(seen) == 1 + blocks, name
        assert same("a.zarr", "b.zarr")
        rd.open_sweep("b.zarr")


def test_a_file_in_the_place_of_a_directory_is_damage(monkeypatch):
    monkeypatch.setattr(runners, "compute", fake)
    plan = planned(MUSAT3, **OPTIONS, at=[0.5, 1.0])
    perform(plan, Path("a.zarr"))
    shutil.copytree("a.zarr", "b.zarr")
    for name in ("at_loss/c/2", "t_icl/c", "status/c"):
        shutil.rmtree(f"b.zarr/{name}")
        Path(f"b.zarr/{name}").write_text("no directory")
        perform(plan, Path("b.zarr"), resume=True)
        assert same("a.zarr", "b.zarr")


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_metadata_is_written_again(monkeypatch, how):
    monkeypatch.setattr(runners, "compute", fake)
    plan = planned(MUSAT3, **OPTIONS)
    perform(plan, Path("a.zarr"))
    shutil.copytree("a.zarr", "b.zarr")
    for name in ("status", "t_icl", "start.alpha3"):
        DAMAGES[how](Path("b.zarr") / name / "zarr.json")
    rd.open_sweep("b.zarr")  # whose metadata are in one file
    assert summary("b.zarr").complete == 23
    perform(plan, Path("b.zarr"), resume=True)
    assert same("a.zarr", "b.zarr")
    about = json.loads(Path("b.zarr/zarr.json").read_bytes())
    about["consolidated_metadata"]["metadata"]["t_icl"]["shape"] = [3]
    Path("b.zarr/zarr.json").write_text(json.dumps(about))
    perform(plan, Path("b.zarr"), resume=True)
    assert same("a.zarr", "b.zarr")
    DAMAGES["cut"](Path("b.zarr/zarr.json"))
    for call in (rd.open_sweep, summary, lambda path: perform(plan, Path(path), resume=True)):
        with pytest.raises(InputError, match=r"'b\.zarr/zarr\.json' is damaged or missing"):
            call("b.zarr")


def test_damaged_trajectories_are_computed_again():
    plan = planned(MUSAT3, grid={"N": [4, 5, 6]}, t_end=40.0, keep=["trajectory"], block=1)
    perform(plan, Path("a.zarr"))
    perform(plan, Path("b.zarr"), threads=1)
    assert same("a.zarr", "b.zarr")  # counters too
    folder = Path("b.zarr/trajectories/1")
    for name in ("z/c/0/0", "header/c/0", "nodes/zarr.json"):
        (folder / name).unlink()
        with pytest.raises(InputError, match="'trajectories/1' is damaged"):
            rd.sweep_trajectory("b.zarr", 1)
        assert rd.sweep_trajectory("b.zarr", 0).t_end == 40.0
        perform(plan, Path("b.zarr"), resume=True)
        assert same("a.zarr", "b.zarr")


def test_counters_do_not_depend_on_when_an_integration_pauses(monkeypatch):
    found = []
    for first in (1, 7, single.MOST_STEPS):
        monkeypatch.setattr(single, "FIRST", first)
        run = rd.integrate("musat3", {"N": 8}, t_end=500.0, method="Rodas5P")
        found.append((run.z.tolist(), {k: v for k, v in run.stats.items() if k != "wall_s"}))
    assert found[0] == found[1] == found[2]


def test_another_sweep_is_refused_and_named(run):
    base = ["sweep", "musat3", "--grid", "N=8:16:lin:3", "--t-end", "10", "--out", "a.zarr"]
    assert run(*base)[0] == 0
    before = sorted(p.name for p in Path("a.zarr").rglob("*"))
    for more, message in (
        (["--rtol", "1e-8"], "solver rtol is 1e-09 there and 1e-08 here"),
        (["--set", "query=1"], "parameters query is nothing there and 1 here"),
        (["--block", "1"], "in blocks of 3 points, not 1; add --block 3 --resume to go on"),
        (["--block", "1", "--resume"], "add --block 3 to go on"),
        (["--keep", "events"], 'keep is ["events", "final", "loss", "stats"] there and'),
        ([], "holds this sweep already, complete; add --resume"),
    ):
        code, out, err = run(*base, *more)
        assert (code, out) == (2, "")
        assert message in err
    changed = [w.replace("16", "17") for w in base]
    assert "grid N is 8:16:lin:3 there and 8:17:lin:3 here" in run(*changed, "--resume")[2]
    assert sorted(p.name for p in Path("a.zarr").rglob("*")) == before
    code, out, _ = run(*base, "--resume", "--json")
    assert code == 0
    assert json.loads(out)["computed"] == 0


def test_other_sources_are_refused(monkeypatch):
    rd.sweep("musat3", **OPTIONS, out="a.zarr")
    monkeypatch.setattr("reduced_dynamics.sweeping.run.derivation", lambda _: "another")
    with pytest.raises(InputError, match=r"derivation is .* there and another here"):
        rd.sweep("musat3", **OPTIONS, out="a.zarr", resume=True)
    # A worker that would compute something else says so too.
    with pytest.raises(InputError, match="derives other equations"):
        rd.sweep("musat3", **OPTIONS)


def test_places_where_no_store_can_be(run, monkeypatch):
    Path("file.zarr").write_text("x")
    Path("folder.zarr").mkdir()
    Path("folder.zarr/x").write_text("x")
    Path("link.zarr").symlink_to("nowhere.zarr")
    monkeypatch.setattr(runners, "compute", None)
    for out, message in (
        ("a.nc", "end 'a.nc' in .zarr"),
        ("none/a.zarr", "mkdir -p none"),
        ("file.zarr/b/a.zarr", "'file.zarr' is a file, not a directory"),
        ("s3://bucket/a.zarr", "this machine's disks"),
        ("file.zarr", "something other than a sweep"),
        ("folder.zarr", "something other than a sweep"),
        ("link.zarr", "'link.zarr' is a link to 'nowhere.zarr', which does not exist"),
        ("", "needs the name"),
    ):
        code, printed, err = run("sweep", "musat3", "--grid", "N=8", "--out", out)
        assert (code, printed) == (2, "")
        assert message in err
        # Before it, what was compiled, and progress, where that took a while.
        assert err.strip().splitlines()[-1].startswith("simulate.py: ") and "Traceback" not in err
    assert sorted(os.listdir()) == ["file.zarr", "folder.zarr", "link.zarr"]
    for path, message in (("none.zarr", "no sweep at"), ("file.zarr", "other than a sweep")):
        with pytest.raises(InputError, match=message):
            rd.open_sweep(path)


def test_one_process_at_a_time(monkeypatch):
    monkeypatch.setattr(runners, "compute", fake)
    rd.sweep("musat3", **OPTIONS, out="a.zarr")
    held = disk.Lock(Path("a.zarr"))
    with pytest.raises(InputError, match="another process is writing"):
        rd.sweep("musat3", **OPTIONS, out="a.zarr", resume=True)
    held.release()
    rd.sweep("musat3", **OPTIONS, out="a.zarr", resume=True)


def test_a_store_is_made_by_one_process(monkeypatch):
    monkeypatch.setattr(runners, "compute", fake)
    with disk.alone(Path("a.zarr")):
        for resume in (False, True):
            with pytest.raises(InputError, match=r"another process is writing to 'a\.zarr'"):
                rd.sweep("musat3", **OPTIONS, out="a.zarr", resume=resume)
        rd.sweep("musat3", **OPTIONS, out="b.zarr")
    Path(".a.zarr.lock").touch()  # left by a process that was killed
    Path(".a.zarr-01234567.new").mkdir()
    Path(".a.zarr-of another-01234567.new").mkdir()
    rd.sweep("musat3", **OPTIONS, out="a.zarr")
    assert same("a.zarr", "b.zarr")
    assert sorted(os.listdir()) == [".a.zarr-of another-01234567.new", "a.zarr", "b.zarr"]


def test_processes_that_begin_at_once(uninterrupted):
    command = [*SIMULATE, *LONG, "--out", "a.zarr", "--resume"]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in running]
    assert min(code for _, _, code in ended) == 0, ended  # a late one finds the rest, or nothing
    for _, err, code in ended:
        if code:
            assert err.startswith("simulate.py: another process is writing to 'a.zarr'")
            assert len(err.splitlines()) == 1
    assert same("a.zarr", uninterrupted)
    assert os.listdir() == ["a.zarr"]


@pytest.mark.parametrize("room", [0, 30, 75])
def test_a_full_disk(monkeypatch, room):
    monkeypatch.setattr(runners, "compute", fake)
    put, written = disk.put, []

    def full(path, data, within=None):
        written.append(path)
        if len(written) > room:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        put(path, data, within)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "put", full)
        with pytest.raises(StoreError, match=r"no space left on device.*--resume"):
            rd.sweep("musat3", **OPTIONS, out="a.zarr", threads=1)
    assert not list(Path().rglob(f"*{files.PARTIAL}"))
    assert os.listdir() == (["a.zarr"] if room > 0 and Path("a.zarr").exists() else [])
    rd.sweep("musat3", **OPTIONS, out="a.zarr", resume=True)
    rd.sweep("musat3", **OPTIONS, out="b.zarr")
    assert same("a.zarr", "b.zarr")


# The command


def test_text_and_json(run):
    arguments = ["sweep", "musat3", "--grid", "N=8:12:lin:9", "--grid", "query=last,9",
                 "--t-end", "20*N**2"]  # fmt: skip
    code, text, err = run(*arguments)
    assert code == 0
    assert "N: 5 different values, 4 fewer than asked for (after rounding)" in err
    assert "musat3: 10 points (N 5 x query 2)" in text
    assert "9 complete, 0 failed, 1 refused" in text
    assert "1 x query = 9 asks for a pair beyond the last; it must lie in" in text
    assert "not stored" in text
    code, out, _ = run(*arguments, "--json")
    found = json.loads(out)
    assert found["events"]["t_icl"]["reached"] == 9
    assert found["events"]["t_icl"]["min"] < found["events"]["t_icl"]["max"]
    assert (found["points"], found["complete"], found["refused"]) == (10, 9, 1)
    assert found["dims"] == {"N": 5, "query": 2}
    assert os.listdir() == []


def test_what_all_points_share_is_shown(run):
    code, text, _ = run("sweep", "musat3", "--grid", "N=8,9", "--set", "query=last", "--start",
                        "gamma3=0.25", "--clamp", "beta2=0.5", "--t-end", "9")  # fmt: skip
    assert code == 0
    assert "musat3: 2 points (N 2), query=last, start gamma3=0.25, clamped beta2=0.5\n" in text


def test_sweeps_that_come_to_nothing(run):
    sizes = ["sweep", "musat3", "--grid", "N=8,9,10"]
    descent = ["--dynamics", "gd", "--t-end", "5000"]
    for more, expected, message in (
        (["--t-end", "-5"], 2, "every point was refused: the horizon must be a positive time"),
        ([*descent, "--step", "1e9"], 2, "every point was refused"),
        ([*descent, "--step", "1000"], 3, "every point failed"),
    ):
        code, out, err = run(*sizes, *more, "--json")
        assert code == expected
        assert json.loads(out)["complete"] == 0
        assert message in err
        # Before it, what was compiled, and progress, where that took a while.
        assert err.strip().splitlines()[-1].startswith("simulate.py: ") and "Traceback" not in err
    code, out, _ = run("sweep", "musat3", "--grid", "N=-2,-1,8", "--t-end", "10")
    assert code == 0
    assert "2 x such as: N = -2 is out of range" in out


def test_an_empty_directory_may_become_a_store(run):
    Path("a.zarr").mkdir()
    assert run("sweep", "musat3", "--grid", "N=8,9", "--t-end", "9", "--out", "a.zarr")[0] == 0
    assert rd.open_sweep("a.zarr").sizes == {"N": 2}


def test_arguments_that_are_of_another_kind():
    for call in (
        lambda: rd.sweep("musat3", grid={"N": [8]}, t_end=1.0, out=3),
        lambda: rd.sweep("musat3", grid={"N": [8]}, t_end=1.0, resume=True),
        lambda: rd.open_sweep(3),
        lambda: summary(3),
    ):
        with pytest.raises(InputError):
            call()


def test_options_from_a_file(run):
    Path("c.toml").write_text(
        'system = "musat3"\nt_end = 20.0\nat = ["N", 2]\njson = true\nkeep = ["events", "at"]\n'
        'rtol = 1e-8\n[grid]\nN = [8, 16]\n"start.gamma3" = "0:1:lin:3"\n[set]\nquery = 1\n'
        "[clamp]\nbeta2 = 0.5\n"
    )
    code, out, err = run("sweep", "--config", "c.toml", "--set", "query=2", "--rtol", "1e-7")
    assert code == 0, err
    found = json.loads(out)
    assert found["dims"] == {"N": 2, "start.gamma3": 3}
    assert found["plan"]["parameters"] == {"query": "2"}
    assert found["plan"]["solver"]["rtol"] == 1e-7
    assert found["plan"]["at"] == ["N", 2.0]
    assert found["complete"] == 6
    for text, message in (
        ("grids = 3", "did you mean 'grid'"),
        ("grid = 3", "must be a table"),
        ("resume = 1", "true or false"),
        ("points = 'x'", "takes a number"),
        ("[grid]\nN = {a = 1}", "finite numbers"),
        ("at = [inf]\n[grid]\nN = [8]", "finite number"),
    ):
        Path("c.toml").write_text(text)
        code, _, err = run("sweep", "musat3", "--config", "c.toml")
        assert code == 2
        assert message in err
        # Before it, what was compiled, and progress, where that took a while.
        assert err.strip().splitlines()[-1].startswith("simulate.py: ") and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the system to sweep"),
        (["musta3", "--grid", "N=8"], "did you mean 'musat3'"),
        (["musat3"], "nothing is swept"),
        (["musat3", "--grid", "N"], "takes NAME=SPEC"),
        (["musat3", "--grid", "N="], "is empty"),
        (["musat3", "--grid", "N=8", "--grid", "N=9"], "given twice"),
        (["musat3", "--grid", "N=8", "--set", "N=9"], "both fixed and swept"),
        (["musat3", "--grid", "N=8", "--seed", "3"], "--seed is of the samples"),
        (["musat3", "--random", "N=8:9", "--points", "1.5"], "whole number"),
        (["musat3", "--grid", "N=8", "--threads", "0"], "at least 1"),
        (["musat3", "--grid", "N=8", "--threads", "1", "--workers", "2"], "give one of"),
        (["musat3", "--grid", "N=8", "--girds", "1"], "unknown argument"),
        (["musat3", "--grid", "N=8", "--keep", "event"], "did you mean 'events'"),
        (["musat3", "--grid", "N=8", "--resume"], "drop --resume, or add --out"),
        (
            ["musat3", "--full", "--grid", "start.gamma3=.1,.2"],
            "a full model starts as its training says; drop start.gamma3, or --full",
        ),
        (["musat3", "--grid", "N=8", "--set", "start.gamma3=.1"], "by --start gamma3=.1"),
        (["musat3", "--grid", "N=8", "--scheduler", "foo"], "'foo' is no address"),
        (["musat3", "--grid", "N=8", "--scheduler", ""], "'' is no address"),
    ],
)
def test_bad_input(run, arguments, message):
    code, out, err = run("sweep", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert os.listdir() == []


# Processes that end in the middle

#: A few seconds of work in many blocks; events, and times that are reported on the way.
LONG = ["sweep", "musat3", "--random", "N=8:24:log", "--points", "3000", "--t-end", "20*N**2",
        "--block", "100", "--threads", "1"]  # fmt: skip


def stored(out):
    """How many blocks are stored; files that are still being written are not."""
    folder = Path(out) / "status/c"
    return sum(name.isdigit() for name in os.listdir(folder)) if folder.is_dir() else 0


def begun(out, blocks):
    """The sweep in a process of its own, that has stored so many blocks."""
    running = subprocess.Popen(
        [*SIMULATE, *LONG, "--out", out, "--resume"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while stored(out) < blocks:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return running


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "whole.zarr"
    made = subprocess.run([*SIMULATE, *LONG, "--out", path], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return path


def test_kill_9_twice_changes_nothing(uninterrupted):
    for blocks in (3, 12):
        running = begun("a.zarr", blocks)
        running.kill()
        running.communicate()
        assert stored("a.zarr") >= blocks
    code = subprocess.run([*SIMULATE, *LONG, "--out", "a.zarr", "--resume", "--json"],
                          capture_output=True, text=True)  # fmt: skip
    assert code.returncode == 0, code.stderr
    found = json.loads(code.stdout)
    assert found["complete"] == 3000
    assert found["computed"] <= 1800
    assert same("a.zarr", uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_requests_to_end(uninterrupted, number):
    running = begun("a.zarr", 3)
    running.send_signal(number)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in err
    line = err.strip().splitlines()[-1]
    assert "points stored; go on with: simulate.py sweep" in line
    again = shlex.split(line.partition("go on with: simulate.py ")[2])
    found = subprocess.run([*SIMULATE, *again], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    assert same("a.zarr", uninterrupted)


def test_threads_do_not_matter(uninterrupted):
    arguments = [w if w != "1" else "3" for w in LONG]
    found = subprocess.run([*SIMULATE, *arguments, "--out", "a.zarr"], capture_output=True)
    assert found.returncode == 0
    assert same("a.zarr", uninterrupted)


def test_summary_of_an_incomplete_store(monkeypatch):
    monkeypatch.setattr(runners, "compute", fake)
    plan = planned(MUSAT3, **OPTIONS)
    perform(plan, Path("a.zarr"))
    Path("a.zarr/status/c/1").unlink()
    found = summary("a.zarr")
    assert (found.points, found.complete, found.missing) == (23, 19, 4)
    assert reading.stored("a.zarr") == "19 of 23 points"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IncompleteSweep)
        assert "numbers 4..7" in rd.open_sweep("a.zarr").attrs["missing"]
    assert store.difference(Path("a.zarr"), plan) == ""
