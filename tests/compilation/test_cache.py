"""The cache of compiled systems: damaged, stale, shared, unwritable; results are never touched."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import reduced_dynamics as rd
from reduced_dynamics import catalogue
from reduced_dynamics.compilation import cache, compiled
from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.errors import CacheWarning
from reduced_dynamics.core.identity import identity
from reduced_dynamics.integration.rosenbrock.build import SOURCES

ROOT = Path(__file__).resolve().parents[2]
x, k = sp.symbols("x k", real=True)


@pytest.fixture(scope="module")
def system():
    return rd.gradient_flow(k * x**2 / 2, [x], parameters={k: 2.0}, start={x: 1.0}, name="tiny")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    fresh(monkeypatch)
    return tmp_path


def fresh(monkeypatch):
    """As in a new process: nothing is compiled yet."""
    monkeypatch.setattr(compiled, "_COMPILED", {})


def flow(system, **parameters):
    """−k·x at x = 3, and the compiled function."""
    values = system.values(parameters)
    functions = compile_system(system, values)
    rate = functions.flow(0.0, np.array([3.0]), np.array(system.pack(values)))
    return rate.tolist(), functions


def files(folder, *endings):
    found = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return [p for p in found if not endings or p.name.endswith(endings)]


@pytest.fixture(scope="module")
def built(system, tmp_path_factory):
    """A cache in which `flow` has been compiled once; copy it before use."""
    path = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, str(path))
        fresh(patch)
        assert flow(system)[0] == [-6.0]
    return path


@pytest.fixture
def warm(built, folder):
    shutil.copytree(built, folder, dirs_exist_ok=True)
    return folder


def is_loaded(functions):
    return functions.flow.stats.cache_hits and not functions.flow.stats.cache_misses


def never(*_):
    raise AssertionError("derived again")


def test_a_warm_cache_is_loaded_and_neither_derived_nor_compiled(system, warm, monkeypatch):
    monkeypatch.setattr("reduced_dynamics.compilation.module.module_source", never)
    before = {p: p.read_bytes() for p in files(warm)}
    rate, functions = flow(system)
    assert rate == [-6.0]
    assert is_loaded(functions)
    assert {p: p.read_bytes() for p in files(warm)} == before


def test_a_new_parameter_value_compiles_nothing(system, warm):
    _, first = flow(system)
    function = first.flow
    for value in (3.0, -1.0, 1e9):
        rate, functions = flow(system, k=value)
        assert rate == [-3 * value]
        assert functions is first
        assert functions.flow is function
    assert not function.stats.cache_misses
    assert len(function.signatures) == 1
    assert len(list(warm.iterdir())) == 1


def test_the_module_is_readable(system, warm):
    _, functions = flow(system)
    text = functions.path.read_text()
    assert functions.path.parent.name == f"tiny-{functions.source}"
    for line in ("State z:      x", "Parameters:   k", "def flow(t, z, par):", "x = z[0]"):
        assert line in text


# Damage

DAMAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "one bit": lambda data: data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 1])
    + data[len(data) // 3 + 1 :],
    "garbage": lambda data: b"\x80\x04garbage" + bytes(range(256)),
    "longer": lambda data: data + b"#",
    "zeros": lambda data: bytes(len(data)),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("ending", ["module.py", ".nbi", ".nbc", "manifest.json"])
def test_damage_is_noticed_and_mended(system, warm, ending, damage, monkeypatch):
    paths = files(warm, ending)
    assert paths
    for path in paths:
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    rate, functions = flow(system)
    assert rate == [-6.0]
    assert not is_loaded(functions)
    fresh(monkeypatch)
    monkeypatch.setattr("reduced_dynamics.compilation.module.module_source", never)
    rate, functions = flow(system)
    assert rate == [-6.0]
    assert is_loaded(functions)


def test_a_module_that_was_edited_is_not_trusted(system, warm):
    (module,) = files(warm, "module.py")
    text = module.read_text()
    assert "k*x" in text
    module.write_text(text.replace("k*x", "7.0*x"))
    assert flow(system)[0] == [-6.0]
    assert module.read_text() == text


@pytest.mark.parametrize("ending", ["module.py", ".nbi", ".nbc", "manifest.json"])
def test_files_that_are_missing_are_made_anew(system, warm, ending):
    for path in files(warm, ending):
        path.unlink()
    assert flow(system)[0] == [-6.0]
    assert files(warm, "module.py")
    assert files(warm, ".nbc")


@pytest.mark.parametrize("text", ["[]", "3", '{"a": 1}', "null", '{"module.flow-.nbi": []}'])
def test_a_manifest_of_another_kind(system, warm, text):
    (manifest,) = files(warm, "manifest.json")
    manifest.write_text(text)
    assert flow(system)[0] == [-6.0]
    recorded = json.loads(manifest.read_text())
    assert set(recorded) == {p.name for p in files(warm, ".nbi", ".nbc")}


def test_code_that_numba_cannot_read_though_it_is_what_was_written(system, warm):
    """Sealed garbage: the hashes agree, only numba knows better."""
    for path in files(warm, ".nbi", ".nbc"):
        path.write_bytes(b"\x80\x04garbage")
    (package,) = warm.iterdir()
    cache.seal(package)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba may say what it thinks of the file
        assert flow(system)[0] == [-6.0]


def test_partial_files_of_a_killed_process_do_no_harm(system, warm):
    (package,) = warm.iterdir()
    (package / ".partial-abc").write_bytes(b"half")
    rate, functions = flow(system)
    assert rate == [-6.0]
    assert is_loaded(functions)


def test_a_cache_removed_under_a_running_process(system, warm):
    _, functions = flow(system)
    shutil.rmtree(warm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        jacobian = functions.jacobian(0.0, np.array([1.0]), np.array([5.0]))
    assert jacobian.tolist() == [[-5.0]]


# Stale


def test_other_sources_or_versions_use_another_directory(system, warm, monkeypatch):
    _, old = flow(system)
    fresh(monkeypatch)
    monkeypatch.setattr(compiled, "identity", lambda *_: "another")
    rate, new = flow(system)
    assert rate == [-6.0]
    assert new.source != old.source
    assert len(list(warm.iterdir())) == 2
    assert old.path.exists()


FAMILIES = ("musat", "wang", "chen")
#: What every compiled system follows from; and what none does.
FOLLOWS = (
    "derivations/core/differentiate.py",
    "derivations/core/staged.py",
    "derivations/core/windows.py",
    *(
        f"reduced_dynamics/compilation/{name}.py"
        for name in [
            "assembly",
            "chart",
            "decorators",
            "dense",
            "exponential",
            "functions",
            "loops",
            "module",
            "named",
            "pairs",
            "printing",
            "statements",
            "wide",
            "windows",
        ]
    ),
)
BESIDE = (
    "derivations/core/latex.py",
    "derivations/core/reading.py",
    "derivations/core/report.py",
    "reduced_dynamics/compilation/define.py",
    "reduced_dynamics/core/system.py",
    "reduced_dynamics/plotting/style.py",
)


@pytest.mark.parametrize("name", ["musat3", "wang", "chen", "tiny"])
def test_a_module_is_renewed_with_what_it_follows_from_alone(name, system, changes):
    derive = system.derive if name == "tiny" else catalogue.system(name).derive
    follows, beside = [*FOLLOWS], [*BESIDE]
    for family in FAMILIES:
        own = name.startswith(family)
        (follows if own else beside).append(f"derivations/{family}/derive.py")
        beside += [f"reduced_dynamics/families/{family}/system.py"]
        reports = (ROOT / "derivations" / family).glob("*report*.py")
        beside += [str(path.relative_to(ROOT)) for path in reports]
    for path in follows:
        assert changes(path, lambda: identity(derive, compiled.PRINTER)), path
    for path in beside:
        assert not changes(path, lambda: identity(derive, compiled.PRINTER)), path


def test_an_integrator_is_renewed_with_its_templates_alone(changes):
    folder = "reduced_dynamics/integration/rosenbrock"
    for name in ("step", "crossings", "kernel", "lanes", "tableau", "source"):
        assert changes(f"{folder}/{name}.py", lambda: identity(*SOURCES)), name
    assert changes("reduced_dynamics/compilation/lanes.py", lambda: identity(*SOURCES))
    for name in ("single", "build"):
        assert not changes(f"{folder}/{name}.py", lambda: identity(*SOURCES)), name


def test_every_part_of_a_name_counts():
    keys = [cache.key("a"), cache.key("b"), cache.key("a", "b"), cache.key("ab")]
    assert len(set(keys)) == 4
    assert cache.key("a", "b") == cache.key("a", "b")


# Unwritable


def test_an_unwritable_cache_works_with_a_warning(system, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    monkeypatch.setenv(cache.VARIABLE, str(blocked / "cache"))
    fresh(monkeypatch)
    with pytest.warns(CacheWarning, match=f"cannot be written.*{cache.VARIABLE}"):
        rate, functions = flow(system)
    assert rate == [-6.0]
    assert not functions.path.is_relative_to(tmp_path)
    assert blocked.read_text() == "not a directory"


def test_a_read_only_cache_is_still_read(system, warm, monkeypatch):
    """As an administrator may prepare it for everybody."""
    before = {p: p.read_bytes() for p in files(warm)}
    writable = cache._writable
    monkeypatch.setattr(cache, "_writable", lambda p: not p.is_relative_to(warm) and writable(p))
    monkeypatch.setattr("reduced_dynamics.compilation.module.module_source", never)
    with pytest.warns(CacheWarning):
        rate, functions = flow(system)
    assert rate == [-6.0]
    assert is_loaded(functions)
    assert functions.jacobian(0.0, np.array([1.0]), np.array([5.0])).tolist() == [[-5.0]]
    assert {p: p.read_bytes() for p in files(warm)} == before


def test_a_damaged_read_only_cache_is_not_used(system, warm, monkeypatch):
    for path in files(warm, ".nbc"):
        path.write_bytes(b"garbage")
    monkeypatch.setattr(cache, "_writable", lambda p: False)
    with pytest.warns(CacheWarning):
        rate, functions = flow(system)
    assert rate == [-6.0]
    assert not is_loaded(functions)


def test_a_full_disk(system, folder, monkeypatch):
    """Directories can be made, but nothing written: neither there nor for temporary files."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write", full)
    with pytest.warns(CacheWarning):
        rate, _ = flow(system)
    assert rate == [-6.0]
    assert not files(folder)


def test_a_disk_that_fills_up_while_numba_writes(system, folder, monkeypatch):
    from numba.core.caching import IndexDataCacheFile

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    with pytest.warns(CacheWarning, match="No space left"):
        rate, _ = flow(system)
    assert rate == [-6.0]


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "~/somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.directory() == tmp_path / "somewhere"
    monkeypatch.setenv(cache.VARIABLE, "~nobody-of-that-name/cache")
    assert cache.directory().is_absolute()
    monkeypatch.setenv(cache.VARIABLE, "relative")
    monkeypatch.chdir(tmp_path)
    assert cache.directory() == tmp_path / "relative"
    monkeypatch.delenv(cache.VARIABLE)
    assert cache.directory().name == "reduced-dynamics"


# Processes

SCRIPT = """
import json, logging, sys, warnings
warnings.simplefilter("error")
logging.basicConfig(level="INFO", format="%(message)s")
import sympy as sp, reduced_dynamics as rd
u, v = sp.symbols("u v", real=True)
system = rd.gradient_flow((u * v - 1) ** 2 / 2, [u, v], start={u: 0.1, v: 0.2}, name="shared")
trajectory = rd.integrate(system, t_end=20)
print(json.dumps([trajectory.z[-1].tolist(), trajectory.stats["steps"]]))
"""


def launch(script, folder):
    environment = os.environ | {cache.VARIABLE: str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_that_build_at_once(tmp_path):
    running = [launch(SCRIPT, tmp_path) for _ in range(3)]
    results = [p.communicate(timeout=120) for p in running]
    assert [p.returncode for p in running] == [0, 0, 0], results
    assert len({out for out, _ in results}) == 1
    # What one makes, the others wait for.
    said = [line for _, err in results for line in err.splitlines()]
    made = [line for line in said if line.startswith(("deriving", "compiling"))]
    assert made and len(made) == len(set(made)), said
    (package,) = tmp_path.iterdir()
    assert not list(package.glob(".partial*"))
    after = launch(SCRIPT, tmp_path)
    assert after.communicate(timeout=120)[0] == results[0][0]


def test_a_build_that_is_killed_leaves_a_cache_that_works(tmp_path):
    process = launch(SCRIPT, tmp_path)
    while process.poll() is None and not list(tmp_path.rglob("*.nbi")):
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.communicate()
    after = launch(SCRIPT, tmp_path)
    out, err = after.communicate(timeout=120)
    assert after.returncode == 0, err
    assert json.loads(out)[0] == pytest.approx(expected(), rel=1e-8)


def expected():
    """u² − v² is conserved, and uv ends at 1."""
    half = (0.1**2 - 0.2**2) / 2
    v2 = -half + (half**2 + 1) ** 0.5
    return [1 / v2**0.5, v2**0.5]


def test_the_second_process_knows_neither_sympy_nor_the_derivations(tmp_path):
    script = """
import sys, reduced_dynamics as rd
trajectory = rd.integrate("musat3", {"N": 4}, t_end=5)
print(trajectory.z[-1].tolist(), file=sys.stderr)
print(sorted(m for m in sys.modules if m.split(".")[0] in ("sympy", "mpmath", "derivations")))
"""
    first, second = (launch(script, tmp_path).communicate(timeout=120) for _ in range(2))
    assert "sympy" in first[0]
    # The names of chen's subsets, which need no SymPy, and the packages that they lie in.
    names = "derivations.chen.selector"
    assert set(eval(second[0])) <= {"derivations", "derivations.chen", names}
    assert second[1] == first[1].splitlines(keepends=True)[-1]
