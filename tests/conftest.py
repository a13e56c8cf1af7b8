"""What tests in several folders use."""

import shutil
import signal
from pathlib import Path

import pytest

from reduced_dynamics.core import identity as identities

ROOT = Path(__file__).resolve().parents[1]

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start
# would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def forget():
    """As in a new process: no source has been read."""
    for found in vars(identities).values():
        if hasattr(found, "cache_clear"):
            found.cache_clear()


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the packages, of whose files identities are taken."""
    for package in ("derivations", "reduced_dynamics"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    forget()
    monkeypatch.setattr(identities, "location", lambda top: str(tmp_path / top))
    yield tmp_path
    monkeypatch.undo()
    forget()


@pytest.fixture
def changes(tree):
    """Whether what `identity` returns changes with a file's text, or with part of it."""

    def changes(path, identity, old="", new="\n#"):
        forget()
        before, file = identity(), tree / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new) if old else text + new)
        forget()
        after = identity()
        file.write_text(text)
        forget()
        assert identity() == before
        return after != before

    return changes
