"""The house: imports run down its rooms, in no circle, and no family knows another."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "reduced_dynamics"

#: The rooms, upper ones first; a module imports from its own room and from those below.
ROOMS = (
    ("simulate",),
    ("reduced_dynamics.commands",),
    ("reduced_dynamics",),
    ("reduced_dynamics.public",),
    ("reduced_dynamics.catalogue",),
    ("reduced_dynamics.families",),
    ("reduced_dynamics.experiments",),
    ("reduced_dynamics.sweeping", "reduced_dynamics.analysis", "reduced_dynamics.bench"),
    ("reduced_dynamics.training",),
    ("reduced_dynamics.plotting",),
    ("reduced_dynamics.integration",),
    ("reduced_dynamics.compilation",),
    ("reduced_dynamics.io",),
    ("reduced_dynamics.core",),
    ("reduced_dynamics._version",),
    ("derivations",),
)
#: Modules that stand in text, to be imported when a name is first used or by generated code.
IN_TEXT = re.compile(r"(?<![\w.`/])(?:reduced_dynamics|derivations)(?:\.\w+)+")


@cache
def modules() -> dict[str, Path]:
    """Every module of the tree by its name."""
    paths = [ROOT / "simulate.py"]
    for package in (PACKAGE, "derivations"):
        paths += sorted((ROOT / package).rglob("*.py"))
    named = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def imports(name: str, text: str, known=None) -> set[str]:
    """The modules of the tree that `text`, module `name`, imports, anywhere and in strings."""
    known = set(modules()) if known is None else known
    tree = ast.parse(text)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= parts & known
            if parts - known:
                found.add(node.module)
        elif isinstance(node, ast.Constant) and id(node) not in documentation:
            found |= set(IN_TEXT.findall(str(node.value)))
    return {f for f in found if f in known} - {name}


@cache
def graph() -> dict[str, set[str]]:
    return {name: imports(name, path.read_text()) for name, path in modules().items()}


def room(name: str) -> int:
    """The number of a module's room, counted from above."""
    fitting = [
        (len(prefix), number)
        for number, prefixes in enumerate(ROOMS)
        for prefix in prefixes
        if name == prefix or (name.startswith(prefix + ".") and prefix != PACKAGE)
    ]
    assert fitting, f"{name} stands in no room"
    return max(fitting)[1]


def upward(arrows: dict[str, set[str]]) -> list[str]:
    return sorted(f"{a} -> {b}" for a, to in arrows.items() for b in to if room(a) > room(b))


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another in a circle (strongly connected components)."""
    reach: dict[str, set[str]] = {}
    for start in arrows:
        seen, stack = set(), [start]
        while stack:
            for following in arrows[stack.pop()] - seen:
                seen.add(following)
                stack.append(following)
        reach[start] = seen
    groups = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in arrows if a in reach[a]}
    return sorted(map(list, groups))


def family(name: str) -> str:
    """The family in whose room a module stands; empty for none."""
    match = re.match(r"(?:reduced_dynamics\.families|derivations)\.(\w+)", name)
    return match[1] if match and match[1] in families() else ""


@cache
def families() -> tuple[str, ...]:
    folders = (ROOT / PACKAGE / "families").iterdir()
    return tuple(sorted(f.name for f in folders if (f / "__init__.py").exists()))


def between_families(arrows: dict[str, set[str]]) -> list[str]:
    return sorted(
        f"{a} -> {b}"
        for a, to in arrows.items()
        for b in to
        if family(a) and family(b) and family(a) != family(b)
    )


def test_every_module_stands_in_a_room():
    for name in modules():
        room(name)


def test_no_arrow_runs_up():
    assert not upward(graph())


def test_there_is_no_circle():
    assert not circles(graph())


def test_no_family_imports_another():
    assert not between_families(graph())


def named_below(paths: dict[str, str]) -> list[str]:
    """Places below the families (strings and names of the code, not prose) that name one."""
    words = re.compile(rf"(?<![a-z])(?:{'|'.join(families())})(?![a-z])")
    found = []
    for name, text in paths.items():
        tree = ast.parse(text)
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            match node:
                case ast.Constant(value=str(said)) if id(node) not in prose:
                    pass
                case ast.Name(id=said) | ast.FunctionDef(name=said) | ast.arg(arg=said):
                    pass
                case _:
                    continue
            if words.search(said):
                found.append(f"{name}:{node.lineno}")
    return found


def test_nothing_below_the_families_names_one():
    below = {
        name: path.read_text()
        for name, path in modules().items()
        if room(name) > room("reduced_dynamics.families")
        and not name.startswith(("derivations", "reduced_dynamics.bench"))
    }
    below |= {
        name: path.read_text()
        for name, path in modules().items()
        if name.startswith(("derivations.core", "derivations.subspace"))
    }
    assert not named_below(below)


def test_the_rules_see_what_breaks_them():
    up = {"reduced_dynamics.core.errors": {"reduced_dynamics.commands.main"}}
    assert upward(up)
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert between_families({"reduced_dynamics.families.chen.system": {"derivations.wang.derive"}})
    known = {"derivations.core.staged", "reduced_dynamics.core", "reduced_dynamics.core.errors"}
    inside = "def f():\n    from reduced_dynamics.core import errors\n"
    assert imports("m", inside, known | {"m"}) == {"reduced_dynamics.core.errors"}
    text = 'TEXT = "from derivations.core.staged import i"'
    assert imports("m", text, known | {"m"}) == {"derivations.core.staged"}
    a_family = families()[0]
    assert named_below({"m": f'SYSTEMS = ["{a_family}19"]'}) == ["m:1"]
    assert not named_below({"m": f'"""As {a_family} does."""'})


#: What `derivations` may not import.
NUMERICAL = {"numba", "scipy", "numpy", "reduced_dynamics", "matplotlib"}


def imported_roots(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.split(".")[0] for name in found}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "derivations").rglob("*.py")), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_derivations_know_sympy_only(path):
    assert not imported_roots(path) & NUMERICAL


def test_sympy_is_loaded_by_what_generates_code_only():
    heavy = {"sympy", "matplotlib", "xarray", "netCDF4", "zarr", "dask", "distributed"}
    for name, path in modules().items():
        if name.startswith(("derivations", "reduced_dynamics.compilation")):
            continue
        assert not imported_roots(path, top_level_only=True) & heavy, path


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
