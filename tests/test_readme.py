"""Every command and every piece of Python in the README runs, and prints what the README says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(kind):
    return [m.group(2) for m in BLOCK.finditer(TEXT) if m.group(1) == kind]


def sessions():
    """(command, expected lines) of every console block."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, expected = part.partition("\n")
            found.append((command, expected.splitlines()))
    return found


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


@pytest.mark.parametrize(("command", "expected"), sessions(), ids=lambda v: str(v)[:60])
def test_commands_print_what_the_readme_says(command, expected, tmp_path):
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
    appear_in_order(expected, run.stdout.splitlines())


def pieces():
    code = [(m.start(), m.group(2)) for m in BLOCK.finditer(TEXT) if m.group(1) == "python"]
    output = [(m.start(), m.group(2)) for m in BLOCK.finditer(TEXT) if m.group(1) == "text"]
    return [(c, next(t for at, t in output if at > start)) for start, c in code]


@pytest.mark.parametrize(("code", "expected"), pieces(), ids=["use", "define"])
def test_python_prints_what_the_readme_says(code, expected, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == expected
