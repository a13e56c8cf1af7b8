"""Every command and every piece of Python in the README and the documentation runs, and prints what
is said there; the documentation builds without a warning."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ADD_FAMILY = ROOT / "docs" / "add_family.md"
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").glob("*.md")} - {ADD_FAMILY})]
FILE = re.compile(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```", re.M | re.S)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def sessions(pages=PAGES):
    """(command, expected lines of every page that shows it) of every console block."""
    found: dict[str, list[list[str]]] = {}
    for page in pages:
        for kind, block in BLOCK.findall(page.read_text()):
            if kind == "console":
                for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
                    command, _, expected = part.partition("\n")
                    found.setdefault(command, []).append(expected.splitlines())
    return list(found.items())


def matches(expected: str, actual: str) -> bool:
    """Line by line; "..." stands for anything, numbers agree to the digits the README shows."""
    pattern = ".*".join(re.escape(piece) for piece in expected.split("..."))
    if re.fullmatch(pattern, actual):
        return True
    want, have = expected.replace("...", "").split(), actual.split()
    return len(want) == len(have) and all(map(same, want, have))


def same(want: str, have: str) -> bool:
    try:
        digits = len(re.sub(r"e.*|\D", "", want))
        return abs(float(want) - float(have)) <= abs(float(want)) * 2 * 10.0 ** (1 - digits)
    except ValueError:
        return want == have


def appear_in_order(expected, actual):
    rest = iter(actual)
    for line in expected:
        if line.strip() in ("...", ""):
            continue
        assert any(matches(line, other) for other in rest), f"not printed: {line}"


@pytest.mark.parametrize(("command", "shown"), sessions(), ids=lambda v: str(v)[:60])
def test_commands_print_what_is_shown(command, shown, tmp_path, env=None):
    words = shlex.split(command)
    assert words[:2] == ["python", "simulate.py"]
    run = subprocess.run(
        [sys.executable, str(ROOT / "simulate.py"), *words[2:]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
        env=env,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout.strip()
    for expected in shown:
        appear_in_order(expected, run.stdout.splitlines())


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """An environment in which the package that the page makes is installed."""
    folder = tmp_path_factory.mktemp("added")
    for name, text in FILE.findall(ADD_FAMILY.read_text()):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    about = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = [
        line
        for group, named in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {where}" for name, where in named.items()))
    ]
    (about / "entry_points.txt").write_text("\n".join(points) + "\n")
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize(("command", "shown"), sessions([ADD_FAMILY]), ids=lambda v: str(v)[:60])
def test_a_family_in_one_folder_can_do_what_the_page_shows(command, shown, added, tmp_path):
    test_commands_print_what_is_shown(command, shown, tmp_path, added)


def test_without_its_entry_point_the_family_is_unknown(tmp_path):
    """So that what the page shows does not come from anywhere else."""
    command = [sys.executable, str(ROOT / "simulate.py"), "list", "toy"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 2 and "unknown system 'toy'" in run.stderr


def pieces():
    """(code, output) of every block of Python and the text that follows it."""
    found = []
    for page in PAGES:
        blocks = BLOCK.findall(page.read_text())
        for (kind, code), (after, output) in pairwise(blocks):
            if kind == "python":
                assert after == "text", f"{page.name}: a piece of Python without its output"
                found.append(pytest.param(code, output, id=page.stem))
    return found


@pytest.mark.parametrize(("code", "expected"), pieces())
def test_python_prints_what_is_shown(code, expected, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == expected


def test_documentation_builds_without_a_warning(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         str(ROOT / "docs"), str(tmp_path)],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "api.html").exists()
