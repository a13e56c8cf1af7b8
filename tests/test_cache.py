"""The cache: rebuilt when damaged, safe for two at once, optional when it cannot be written."""

import os
import subprocess
import sys
import warnings

import pytest
import sympy as sp

import reduced_dynamics as rd
from reduced_dynamics import cache, compiled
from reduced_dynamics.errors import CacheWarning

CODE = """
import sympy as sp, reduced_dynamics as rd
u, v = sp.symbols("u v")
s = rd.gradient_flow((u * v - 1) ** 2 / 2, [u, v], start={u: 0.1, v: 0.2}, name="tiny")
print(rd.integrate(s, t_end=5).final["u"])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_COMPILED", {})
    return tmp_path / "cache"


def final():
    u, v = sp.symbols("u v")
    system = rd.gradient_flow((u * v - 1) ** 2 / 2, [u, v], start={u: 0.1, v: 0.2}, name="tiny")
    compiled._COMPILED.clear()
    return rd.integrate(system, t_end=5).final["u"]


def test_damage_of_any_file_is_mended(folder):
    expected = final()
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert {".py", ".json", ".nbi", ".nbc"} <= {p.suffix for p in files}
    for path in files:
        original = path.read_bytes()
        for damaged in (b"", original[: len(original) // 2], b"garbage" * 100):
            path.write_bytes(damaged)
            assert final() == expected
    half = len(original) // 2
    path.write_bytes(original[:half] + bytes([original[half] ^ 1]) + original[half + 1 :])
    assert final() == expected


def test_an_unwritable_cache_warns_and_works(folder, monkeypatch):
    expected = final()
    monkeypatch.setattr(cache, "_writable", lambda _: False)
    with pytest.warns(CacheWarning, match="cannot be written"):
        assert final() == expected


def test_a_cache_below_a_file_warns_and_works(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.warns(CacheWarning):
        final()


def test_two_processes_at_once(tmp_path):
    environment = os.environ | {cache.VARIABLE: str(tmp_path / "cache")}
    both = [
        subprocess.Popen([sys.executable, "-c", CODE], env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    results = [p.communicate(timeout=120)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert results[0] == results[1]


def test_new_parameter_values_do_not_recompile(folder):
    u, a = sp.symbols("u a")
    system = rd.gradient_flow(a * u**2 / 2, [u], parameters={a: 1.0}, start={u: 1.0}, name="scale")
    rd.integrate(system, t_end=1)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.nb*")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slow = rd.integrate(system, {"a": 0.5}, t_end=1).final["u"]
    assert slow == pytest.approx(0.6065306597126334, rel=1e-8)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.nb*")} == before


def test_another_derivation_is_another_module(folder, monkeypatch):
    final()
    names = {p.name for p in folder.iterdir()}
    monkeypatch.setattr(cache, "fingerprint", lambda: "other sources")
    final()
    assert len({p.name for p in folder.iterdir()} - names) == 1
