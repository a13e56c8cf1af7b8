"""Imports run one way: definition, derivation, module, compiled system, trajectory, figure."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", sorted((ROOT / "derivations").glob("*.py")), ids=lambda p: p.name)
def test_derivations_know_sympy_only(path):
    assert not roots(imports(path)) & {"numba", "scipy", "numpy", "reduced_dynamics", "matplotlib"}


#: What may not be imported (even inside functions), by module.
FORBIDDEN = {
    "system": {
        "reduced_dynamics.integration.one",
        "reduced_dynamics.compilation.compiled",
        "numba",
        "scipy",
    },
    "compiled": {"reduced_dynamics.integration.one", "reduced_dynamics.io.storage", "scipy"},
    "codegen": {
        "reduced_dynamics.integration.one",
        "reduced_dynamics.compilation.compiled",
        "scipy",
    },
    "trajectory": {
        "reduced_dynamics.integration.one",
        "reduced_dynamics.core.system",
        "numba",
        "scipy",
    },
    "storage": {
        "reduced_dynamics.integration.one",
        "reduced_dynamics.core.system",
        "numba",
        "scipy",
    },
    "figure_style": {
        "reduced_dynamics.integration.one",
        "reduced_dynamics.core.system",
        "numba",
        "scipy",
    },
    "plotting": {
        "reduced_dynamics.integration.one",
        "reduced_dynamics.core.system",
        "numba",
        "scipy",
    },
    "problem": {"reduced_dynamics.integration.one", "reduced_dynamics.integration.flow"},
    "recorder": {"reduced_dynamics.integration.one", "reduced_dynamics.integration.flow"},
    "flow": {"reduced_dynamics.integration.one", "reduced_dynamics.integration.recorder"},
    "descent": {"reduced_dynamics.integration.one", "reduced_dynamics.integration.recorder"},
    "integration": {"reduced_dynamics.io.storage", "reduced_dynamics.plotting.trajectories"},
}


@pytest.mark.parametrize("module", FORBIDDEN)
def test_imports_run_one_way(module):
    path = next((ROOT / "reduced_dynamics").glob(f"{module}*.py"))
    found = imports(path)
    assert not {f for f in found if any(f == b or f.startswith(b + ".") for b in FORBIDDEN[module])}
    assert not any(f.startswith("reduced_dynamics.commands") for f in found)


def test_no_module_of_the_core_loads_sympy_at_import():
    for path in (ROOT / "reduced_dynamics").rglob("*.py"):
        if path.name.startswith("codegen"):
            continue
        found = roots(imports(path, top_level_only=True))
        heavy = {"sympy", "matplotlib", "xarray", "netCDF4", "zarr", "dask", "distributed"}
        assert not found & heavy, path


def test_running_a_cached_system_imports_no_sympy():
    code = """
import sys, reduced_dynamics as rd
rd.integrate("musat3", {"N": 4}, t_end=10)
print(sorted({"sympy", "derivations.core.staged", "matplotlib", "xarray"} & set(sys.modules)))
"""
    for _ in range(2):  # the first fills the cache if need be
        run = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
        )
    assert run.stdout.strip() == "[]"
