"""Identities follow what is imported, however it is imported, and nothing else."""

import ast
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from reduced_dynamics.core import identity as identities
from reduced_dynamics.core.identity import identity, modules

ROOT = Path(__file__).resolve().parents[2]


def write(tree, **texts):
    (tree / "toy").mkdir()
    for name, text in texts.items():
        (tree / "toy" / f"{name}.py").write_text(text)


@pytest.mark.parametrize(
    "line",
    [
        "import toy.other",
        "import os, toy.other as o",
        "from toy import other",
        "from toy.other import x",
        "from toy.other import *",
        "from toy import (\n    __doc__,  # import this\n    other,\n)",
        "from . import other",
        "from .other import x",
        "def f():\n    from toy.other import x",
        "try:\n    import toy.other\nexcept ImportError: pass",
        "import sys; import toy.other",
        'TEXT = "\\nfrom toy.other import x\\n"',
        "TEXT = 'import toy.other'",
        'LAZY = {"x": "toy.other:x"}',
        'LAZY = {"x": "toy.other.x"}',
        "from toy import between",
    ],
)
def test_every_import_counts(tree, changes, line):
    between = "from .other import x"
    write(tree, __init__="", root=line, other="x = 1", between=between, beside="x = 2")
    root = partial(identity, "toy.root")
    assert changes("toy/root.py", root)
    assert changes("toy/other.py", root)
    assert not changes("toy/beside.py", root)


def test_circles_end_and_dots_climb(tree):
    write(tree, __init__="", root="from toy import deep", other="import toy.root")
    (tree / "toy/deep").mkdir()
    (tree / "toy/deep/__init__.py").write_text("from .inner import x")
    (tree / "toy/deep/inner.py").write_text("from ..other import x\nfrom .. import other")
    assert {*modules("toy.root")} == {"toy.root", "toy.deep", "toy.deep.inner", "toy.other"}


def test_a_root_that_is_not_there_is_said(tree):
    with pytest.raises(ModuleNotFoundError, match=r"no module named 'derivations\.no'"):
        identity("derivations.no")


def test_no_import_of_the_tree_is_overlooked():
    for package in ("derivations", "reduced_dynamics"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            name = name.removesuffix(".__init__")
            wanted = set()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    wanted |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    inside = {f"{node.module}.{alias.name}" for alias in node.names}
                    wanted |= {m if identities._file(m) else node.module for m in inside}
            followed = {m for m in wanted if m.partition(".")[0] in identities.FOLLOWED}
            wanted = {m for m in followed if identities._file(m)} - {name}
            assert wanted <= {*modules(name)}, name


def test_versions_count(monkeypatch):
    now = identity("derivations.core.staged")
    for package in ("sympy", "numba", "numpy", "python"):
        changed = identities._version
        monkeypatch.setattr(
            identities, "_version", lambda p, one=package, v=changed: "0" if p == one else v(p)
        )
        assert identity("derivations.core.staged") != now
        monkeypatch.undo()


def helper():
    from derivations.core.staged import N

    return N


def derive(values, factor=1):
    """A caption."""
    from derivations.core.windows import Windows

    return Windows, helper(), values["a"] * 2


def test_a_function_stands_for_its_code_and_what_it_imports(changes):
    of_derive = partial(identity, derive)
    assert changes("derivations/core/windows.py", of_derive)
    assert changes("derivations/core/staged.py", of_derive)
    assert not changes("derivations/core/dense.py", of_derive)

    def variant(*old_and_new):
        scope = {}
        text = Path(__file__).read_text()
        text = text[text.index("def helper") : text.index("def test_a_function_stands")]
        for old, new in old_and_new:
            assert old in text
            text = text.replace(old, new)
        exec(text, scope)
        return identity(scope["derive"])

    assert variant() == variant(("A caption", "Another"))
    assert variant() != variant(("* 2", "* 3"))
    assert variant() != variant(("return N", "return -N"))
    assert identity(partial(derive, factor=2)) != identity(partial(derive, factor=3))


def test_an_identity_is_the_same_in_every_process():
    code = (
        "import sys\nfrom reduced_dynamics.core.identity import identity\n"
        "from reduced_dynamics.core.system import Parameter\n"
        "def f(x):\n    from derivations.core.staged import i\n    return x in {'a', 'b', 'c'}\n"
        "print(identity(f, 'derivations.core.differentiate'))\n"
        "print({'sympy', 'derivations'} & {*sys.modules})"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
        ).stdout
        for _ in range(3)
    }
    assert len(said) == 1
    assert said.pop().endswith("\nset()\n")


def test_modules_of_a_package_without_its_own_file_count(tmp_path, monkeypatch):
    (tmp_path / "bare_package").mkdir()
    module = tmp_path / "bare_package" / "one.py"
    module.write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert modules("bare_package.one") == {"bare_package.one": module}
    assert identity("bare_package.one") != identity()
