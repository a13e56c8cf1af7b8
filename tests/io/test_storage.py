"""Files give back what was put into them, or say in one sentence why they cannot."""

import json
import math
import os
import pickle
import pwd
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import NODES, Crossing, Trajectory, lobatto
from reduced_dynamics.io import files
from reduced_dynamics.io.netcdf import to_dataset
from reduced_dynamics.io.storage import check_target, load, save

ENDINGS = (".nc", ".npz", ".csv", ".json")


def bits(array):
    """The array's bytes, equal for equal floats only: −0.0 is not 0.0, and NaN is NaN."""
    return np.where(np.isnan(array), np.nan, array).astype(float).tobytes()


def assert_same(ours, theirs, nodes=True):
    for name in ("system", "coordinates", "event_names", "source", "message"):
        assert getattr(ours, name) == getattr(theirs, name)
    for name in ("t", "z", "loss"):
        assert getattr(ours, name).dtype == float
        assert getattr(ours, name).shape == getattr(theirs, name).shape
        assert bits(getattr(ours, name)) == bits(getattr(theirs, name))
    assert list(ours.observables) == list(theirs.observables)
    for name, values in ours.observables.items():
        assert bits(values) == bits(theirs.observables[name])
    # By repr, for NaN is not equal to itself, and True == 1 == 1.0.
    for name in ("parameters", "solver", "invariants", "stats", "versions", "crossings"):
        assert repr(getattr(ours, name)) == repr(getattr(theirs, name))
    for name in ("loss_rise", "time_scale"):
        assert repr(getattr(ours, name)) == repr(getattr(theirs, name))
    assert ours.events == theirs.events
    if nodes and theirs.nodes is not None:
        assert ours.nodes.shape == theirs.nodes.shape
        assert bits(ours.nodes) == bits(theirs.nodes)
    else:
        assert ours.nodes is None


@pytest.fixture
def trajectory():
    """Two coordinates over [0, 2], exactly (t, t²)."""
    t = np.linspace(0, 2, 5)
    fine = t[:-1, None] + lobatto(NODES) * np.diff(t)[:, None]
    return Trajectory(
        system="musat3",
        coordinates=("alpha3", "γ/1"),
        t=t,
        z=np.stack([t, t**2], axis=1),
        loss=np.exp(-t),
        parameters={"N": 64, "query": "last ❄ \u2028\n", "self_attention": False, "rate": 1e-3},
        observables={"A": 1 / (1 + t), "outside/inside": np.array([np.nan, 0, 1, np.inf, -0.0])},
        crossings=(
            Crossing("T_alpha3", 0.5, 1, (0.5, 0.25)),
            Crossing("T_alpha3", 1.0 + 2**-52, -1, (1.0, 5e-324)),
        ),
        event_names=("T_alpha3", "t_icl"),
        solver={"method": "LSODA", "rtol": 1e-9, "clamp": {"beta2": 0.0}, "max_step": math.inf},
        invariants={"first integral": 1e-17, "other": math.nan},
        loss_rise=0.0,
        stats={"rhs": 123, "wall_s": 0.125},
        versions={"numpy": np.__version__},
        time_scale=16.0,
        source="0123abcd",
        message="reached t_end",
        nodes=np.stack([fine, fine**2], axis=2),
    )


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("discrete", [False, True])
def test_round_trip(trajectory, tmp_path, ending, discrete):
    if discrete:
        trajectory = trajectory.with_(nodes=None)
    path = tmp_path / f"result{ending.upper()}"
    save(trajectory, path)
    assert_same(load(path), trajectory, nodes=ending != ".csv")
    assert os.listdir(tmp_path) == [path.name]
    # Like any new file, not private to its owner as temporary files are.
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_but_a_start(tmp_path, ending):
    single = Trajectory("s", ("x",), np.zeros(1), np.zeros((1, 1)), np.ones(1))
    for nodes in (None, np.empty((0, NODES, 1))):
        save(single.with_(nodes=nodes), tmp_path / f"a{ending}")
        assert_same(load(tmp_path / f"a{ending}"), single.with_(nodes=nodes), ending != ".csv")


FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.sampled_from(
    [1e308, -1e308, 5e-324, -5e-324, 2.2250738585072014e-308, -0.0, 0.1]
)
WORDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=10)
SETTINGS = st.dictionaries(st.text(max_size=8), SCALARS, max_size=4)


@st.composite
def trajectories(draw):
    n, d = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    names = draw(st.lists(WORDS, min_size=d + 4, max_size=d + 4, unique=True))

    def floats(*shape):
        return draw(hnp.arrays(float, shape, elements=FLOATS))

    crossings = st.builds(
        Crossing,
        st.sampled_from(names[:2]),
        FLOATS.filter(math.isfinite),
        st.sampled_from([-1, 1]),
        st.tuples(*[FLOATS] * d),
    )
    return Trajectory(
        system=draw(WORDS),
        coordinates=tuple(names[4:]),
        t=floats(n),
        z=floats(n, d),
        loss=floats(n),
        observables={name: floats(n) for name in names[2 : draw(st.integers(2, 4))]},
        crossings=tuple(draw(st.lists(crossings, max_size=2))),
        event_names=tuple(names[:2]),
        nodes=draw(st.sampled_from([None, floats(n - 1, NODES, d)])),
        message=draw(WORDS),
        loss_rise=draw(FLOATS),
        time_scale=draw(st.floats(1, 1e4) | st.integers(1, 64)),
        **{key: draw(SETTINGS) for key in ("parameters", "solver", "invariants", "versions")},
    )


@pytest.mark.parametrize("ending", ENDINGS)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(trajectory=trajectories())
def test_any_trajectory_round_trips(tmp_path, ending, trajectory):
    path = tmp_path / f"any{ending}"
    save(trajectory, path)
    assert_same(load(path), trajectory, nodes=ending != ".csv")


def test_numpy_scalars_become_pythons(trajectory, tmp_path):
    parameters = {"N": np.int64(3), "x": np.float64(0.1), "yes": np.bool_(True), "at": (1, 2)}
    for ending in ENDINGS:
        save(trajectory.with_(parameters=parameters), tmp_path / f"a{ending}")
        found = load(tmp_path / f"a{ending}").parameters
        assert repr(found) == "{'N': 3, 'x': 0.1, 'yes': True, 'at': [1, 2]}"


def test_names_that_netcdf_could_not_tell_apart(tmp_path):
    names = ("t", "loss", "step", "a b", "a/b", "a_b", "1", "crossing_t", "nodes", "η", "ж", "a_b_")
    z = np.arange(2.0 * len(names)).reshape(2, -1)
    twins = Trajectory("s", names, np.arange(2.0), z, np.ones(2), observables={"t": np.ones(2)})
    save(twins, tmp_path / "a.nc")
    assert_same(load(tmp_path / "a.nc"), twins)


def test_dataset_describes_itself(trajectory):
    dataset = to_dataset(trajectory)
    assert dict(dataset.sizes) == {"t": 5, "node": 9, "coordinate": 2, "crossing": 2, "step": 4}
    assert all("long_name" in v.attrs for v in dataset.variables.values())
    assert all(v.attrs["units"] == "1" for v in dataset.variables.values() if v.dtype.kind == "f")
    np.testing.assert_array_equal(dataset["alpha3"], trajectory["alpha3"])
    assert dataset["alpha3"].sel(t=1.1, method="nearest") == 1.0
    assert dataset.attrs["Conventions"] == "CF-1.11"
    assert json.loads(dataset.attrs["parameters"])["N"] == 64
    assert json.loads(dataset.attrs["events"]) == {"T_alpha3": 0.5, "t_icl": None}
    assert dataset.attrs["source"] == "0123abcd"
    assert dataset.attrs["message"] == "reached t_end"


def test_netcdf_opens_with_xarray_alone(trajectory, tmp_path):
    import xarray

    save(trajectory, tmp_path / "a.nc")
    with xarray.open_dataset(tmp_path / "a.nc") as found:
        xarray.testing.assert_equal(found, to_dataset(trajectory))
        # A dataset that went through other hands, with their marks in it, is still ours.
        found.assign_attrs(history="by someone").to_netcdf(tmp_path / "b.nc")
    assert_same(load(tmp_path / "b.nc"), trajectory)


def test_text_formats_open_with_anything(trajectory, tmp_path):
    import pandas

    save(trajectory, tmp_path / "a.csv")
    table = pandas.read_csv(tmp_path / "a.csv", comment="#")
    assert list(table) == ["t", "alpha3", "γ/1", "loss", "A", "outside/inside"]
    np.testing.assert_array_equal(table["γ/1"], trajectory["γ/1"])
    save(trajectory, tmp_path / "a.json")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((tmp_path / "a.json").read_text("utf-8"), parse_constant=refuse)
    assert found["parameters"]["N"] == 64
    assert found["state"]["alpha3"] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert found["events"] == {"T_alpha3": 0.5, "t_icl": None}


def test_a_parameter_that_cannot_travel(trajectory, tmp_path):
    for ending in ENDINGS:
        with pytest.raises(InputError, match=r"object\) cannot be stored"):
            save(trajectory.with_(parameters={"x": object()}), tmp_path / f"a{ending}")
    assert os.listdir(tmp_path) == []


def test_crossings_without_their_states_are_not_written(trajectory, tmp_path):
    for ending in ENDINGS:
        with pytest.raises(ValueError, match="reshape"):
            save(trajectory.with_(crossings=(Crossing("T", 1.0, 1, ()),)), tmp_path / f"a{ending}")
    assert os.listdir(tmp_path) == []


def test_undecodable_text_from_the_command_line_travels(trajectory, tmp_path):
    parameters = {"label": os.fsdecode(b"caf\xe9")}
    for ending in ENDINGS:
        save(trajectory.with_(parameters=parameters), tmp_path / f"a{ending}")
        assert load(tmp_path / f"a{ending}").parameters == parameters


# Reading what is not ours


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_and_foreign_files(trajectory, tmp_path, ending):
    path = tmp_path / f"a{ending}"
    save(trajectory, path)
    whole = path.read_bytes()
    if ending == ".nc":  # which is padded with zeros
        whole = whole.rstrip(b"\0")
    cuts = [whole[: len(whole) * k // 7] for k in range(7)] + [whole[:-2], whole[:8]]
    foreign = [b"hello", b"\0" * 100, b"\xff\xfe", b"{}", b"[1]", b"[" * 10**5, b"# x\n1,2\n"]
    for content in cuts + foreign + [pickle.dumps(1)]:
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as a trajectory") as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_csv_without_its_last_rows(trajectory, tmp_path):
    path = tmp_path / "a.csv"
    save(trajectory, path)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    for content in ("".join(lines[:-1]), "".join(lines).rstrip()[:-1]):
        path.write_text(content, "utf-8")
        with pytest.raises(InputError, match="last rows are missing"):
            load(path)


def test_well_formed_files_of_something_else(tmp_path):
    import xarray

    np.savez(tmp_path / "a.npz", x=np.ones(3))
    np.savez(tmp_path / "b.npz", metadata=np.array("{}"))
    with open(tmp_path / "c.npz", "wb") as file:
        np.save(file, np.ones(3))
    xarray.Dataset({"x": ("t", np.ones(3))}).to_netcdf(tmp_path / "a.nc")
    (tmp_path / "a.json").write_text('{"format": "other"}')
    (tmp_path / "a.csv").write_text("t,x\n0,1\n")
    for name in os.listdir(tmp_path):
        with pytest.raises(InputError, match="holds something else"):
            load(tmp_path / name)


def test_pickles_are_never_opened(trajectory, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    save(trajectory, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        arrays = dict(archive)
    for name in ("metadata", "z"):
        np.savez(tmp_path / "a.npz", **arrays | {name: np.array([Bomb()], dtype=object)})
        with pytest.raises(InputError):
            load(tmp_path / "a.npz")
    assert not (tmp_path / "boom").exists()


def edit(trajectory, path, **changes):
    save(trajectory, path)
    document = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps(document), "utf-8")


def test_files_that_contradict_themselves(trajectory, tmp_path):
    path = tmp_path / "a.json"
    for changes, says in [
        ({"format_version": 99}, "newer version, 99"),
        ({"t": [0.0]}, "damaged"),
        ({"loss": [0.0]}, "'loss' does not fit"),
        ({"t": ["a"] * 5}, "'t' does not fit"),
        ({"parameters": 3}, "'parameters' makes no sense"),
        ({"nodes": [[[0.0]]]}, "damaged"),
        ({"coordinate_names": []}, "damaged"),
        ({"crossings": [{}]}, "damaged"),
    ]:
        edit(trajectory, path, **changes)
        with pytest.raises(InputError, match=says):
            load(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        load(tmp_path / "missing.nc")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        load(tmp_path / "folder.npz")
    with pytest.raises(InputError, match=r"'\.txt'"):
        load(tmp_path / "a.txt")
    with pytest.raises(InputError, match="cannot read"):
        load("a\0.nc")


# Where to write


def test_targets_that_are_refused(trajectory, tmp_path):
    (tmp_path / "folder.nc").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.nc")
    for name, says in [
        ("a.ncc", r"unknown file ending '\.ncc'; did you mean '\.nc'\? \(known: \.nc, \.npz"),
        ("a", "no file ending"),
        ("", "no file ending"),
        (".nc", "no file ending"),
        ("folder.nc", "is a directory; name a file inside it"),
        ("pipe.nc", "not a regular file"),
        ("missing/a.nc", "directory does not exist; create it with: mkdir -p"),
        ("file/a.nc", "cannot write"),
        ("x" * 300 + ".nc", "cannot write"),
        ("a\0.nc", "cannot write"),
    ]:
        target = str(tmp_path / name) if name else name
        with pytest.raises(InputError, match=says) as caught:
            check_target(target)
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.nc", "pipe.nc"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_targets_that_are_accepted(tmp_path, ending, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_target(f"a{ending}")
    assert os.listdir(tmp_path) == []
    (tmp_path / f"a{ending}").write_text("old")
    check_target(tmp_path / f"a{ending}")
    assert (tmp_path / f"a{ending}").read_text() == "old"


def test_a_read_only_file_system(tmp_path, monkeypatch):
    def refuse(directory):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "_create", refuse)
    with pytest.raises(InputError, match=r"\(read-only file system\); choose another place"):
        check_target(tmp_path / "a.nc")


@contextmanager
def without_privileges():
    """Root may write anywhere; here it is nobody, who may not."""
    if os.geteuid() != 0:
        yield
        return
    nobody = pwd.getpwnam("nobody").pw_uid
    os.setresuid(nobody, nobody, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_a_directory_and_a_file_without_permission():
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to everyone else
        directory = Path(name)
        directory.chmod(0o777)
        with without_privileges():
            check_target(directory / "b.nc")
            (directory / "a.nc").touch(0o444)
            with pytest.raises(InputError, match="write-protected"):
                check_target(directory / "a.nc")
        directory.chmod(0o555)
        with without_privileges(), pytest.raises(InputError, match="permission denied"):
            check_target(directory / "b.nc")
        directory.chmod(0o755)


# Whole or not at all


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_changes_nothing(tmp_path, monkeypatch, call, error):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, call, fail)
    expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        files.write(path, b"new")
    assert os.listdir(tmp_path) == ["a.json"]
    assert path.read_bytes() == b"old"


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "real" / "a.csv")
    check_target(link)
    files.write(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real" / "a.csv").read_bytes() == b"new"


def test_a_name_as_long_as_names_can_be(tmp_path):
    path = tmp_path / ("x" * 250 + ".json")
    check_target(path)
    files.write(path, b"")
    assert path.exists()


def test_importing_is_cheap():
    code = (
        "import sys, reduced_dynamics.io.storage, reduced_dynamics.plotting.trajectories;"
        "sys.exit(any(m in sys.modules for m in ('xarray', 'netCDF4', 'matplotlib', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
