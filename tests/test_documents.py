"""Every command and every piece of Python in the README and the documentation runs, and prints what
is said there; the documentation builds without a warning."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def sessions():
    """(command, expected lines of every page that shows it) of every console block."""
    found: dict[str, list[list[str]]] = {}
    for page in PAGES:
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
def test_commands_print_what_is_shown(command, shown, tmp_path):
    words = shlex.split(command)
    assert words[:2] == ["python", "simulate.py"]
    run = subprocess.run(
        [sys.executable, str(ROOT / "simulate.py"), *words[2:]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout.strip()
    for expected in shown:
        appear_in_order(expected, run.stdout.splitlines())


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
