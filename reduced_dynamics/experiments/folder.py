"""All figures into one folder with an index page; what is already there is not made again.

Beside every figure ``ID.svg`` lie its caption, ``ID.caption.txt``, and its numbers, ``ID.json``,
which is written last and says with which settings, versions and source it was made: only if these
are today's is a figure taken as made. So an interrupted run is taken up where it stopped, and a
figure that fails does not keep the others from being made.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from reduced_dynamics.core.errors import InputError, ReducedDynamicsError, check_interrupt
from reduced_dynamics.experiments import index
from reduced_dynamics.experiments.registry import (
    MODULES,
    TAKES_TEXT,
    Made,
    about,
    check,
    make,
)
from reduced_dynamics.experiments.request import Request
from reduced_dynamics.io import files
from reduced_dynamics.io.versions import versions
from reduced_dynamics.plotting.style import save_figure
from reduced_dynamics.training.loop import TrainingInterrupted

_FORMAT = "reduced_dynamics figure 1"
#: What a figure's folder entry consists of, in the order of writing.
CAPTION = ".caption.txt"
ENDINGS = (".svg", CAPTION, ".json")


@dataclass(frozen=True)
class Entry:
    """What became of one figure.

    Attributes
    ----------
    id : str
    state : {"made", "kept", "failed"}
    record : dict or None
        The content of its ``.json``; None if it failed.
    error : str
        Why it failed.
    exit_code : int
        0, or that of the error.
    """

    id: str
    state: str
    record: dict[str, Any] | None = None
    error: str = ""
    exit_code: int = 0


def check_folder(folder) -> None:
    """Make the folder if need be, and be sure that files can be written to it.

    Raises
    ------
    InputError
        If it is a file, or cannot be made or written to.
    """
    path = os.fspath(folder)
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise InputError(f"'{path}' is a file; name a folder for all figures") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot make the folder '{path}' ({reason.lower()}); choose another place"
        ) from None
    files.check_target(os.path.join(path, "index.html"), [".html"])


def make_all(
    folder,
    request: Request | None = None,
    names: Sequence[str] | None = None,
    report: Callable[[Entry], None] | None = None,
) -> list[Entry]:
    """Make figures into a folder, each with caption and numbers, and an index page of them all.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    request : Request, optional
        Its `text` is for those figures that take one.
    names : sequence of str, optional
        Which; all by default.
    report : callable, optional
        Called with every `Entry` as soon as it is there.

    Raises
    ------
    InputError
        If the folder cannot be used or a name is unknown. Errors of single figures are entries.
    KeyboardInterrupt
        When the user interrupts; all figures made until then are in the folder and its index.
    """
    request = request or Request()
    names = [check(name) for name in (names or MODULES)]
    check_folder(folder)
    entries: list[Entry] = []
    try:
        for name in names:
            own = request if name in TAKES_TEXT else replace(request, text=None)
            entry = _one(folder, name, own)
            entries.append(entry)
            if report is not None:
                report(entry)
    finally:
        _write_index(folder, names, entries)
    return entries


def _one(folder, name: str, request: Request) -> Entry:
    made_with = settings(name, request)
    kept = _kept(folder, name, made_with)
    if kept is not None:
        return Entry(name, "kept", kept)
    request.progress(f"{name}: {about(name).title}")
    own = replace(request, progress=lambda text: request.progress(f"{name}: {text}"))
    try:
        made = make(name, own)
        record = as_record(made, made_with)
        _save(folder, made, record)
    except TrainingInterrupted:
        raise KeyboardInterrupt from None
    except ReducedDynamicsError as error:
        return Entry(name, "failed", error=str(error), exit_code=error.exit_code)
    except (ArithmeticError, LookupError, SystemError, ValueError, MemoryError) as error:
        if isinstance(error, SystemError):
            check_interrupt(error)
            raise KeyboardInterrupt from None
        # A fault of this package rather than of the user's: the other figures are made all the
        # same, and the page names what went wrong.
        said = f"{type(error).__name__}: {error}; a fault of this program, please report it"
        return Entry(name, "failed", error=said, exit_code=1)
    return Entry(name, "made", record)


def settings(name: str, request: Request) -> dict[str, Any]:
    """What a figure depends on: its request, versions, and this package's source."""
    text = None
    if request.text is not None:
        text = hashlib.sha256(files.read(request.text)).hexdigest()
    return {
        "id": name,
        "size": request.size,
        "seed": request.seed,
        "text": text,
        "versions": all_versions(),
        "source": source_hash(),
    }


@lru_cache(maxsize=1)
def all_versions() -> dict[str, str]:
    """Versions of what computes and of what draws."""
    import matplotlib

    return versions() | {"matplotlib": matplotlib.__version__}


@lru_cache(maxsize=1)
def source_hash() -> str:
    """A hash of this package's and the derivations' source: another source, other figures."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for root in (package, package.parent / "derivations"):
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def as_record(made: Made, made_with: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a figure beside its picture, and what ``--json`` prints: JSON."""
    known = about(made.id)
    return {
        "format": _FORMAT,
        "id": made.id,
        "title": known.title,
        "paper": known.paper,
        "claim": known.claim,
        "numbers": made.numbers,
        "verdicts": made.verdicts,
        "caption": made.caption,
        "command": made.command,
        "wall_s": made.wall_s,
        "settings": made_with,
    }


def companion(path) -> str:
    """The file beside a figure that holds its caption: a name that no text of the user's has."""
    return os.path.splitext(os.fspath(path))[0] + CAPTION


def _path(folder, name: str, ending: str) -> str:
    return os.path.join(os.fspath(folder), name + ending)


def _save(folder, made: Made, record: dict[str, Any]) -> None:
    svg, txt, numbers = (_path(folder, made.id, ending) for ending in ENDINGS)
    save_figure(made.figure, svg)
    files.write(txt, f"{made.caption}\n".encode())
    content = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    files.write(numbers, f"{content}\n".encode())


def _kept(folder, name: str, made_with: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a figure that is there already and was made with the same settings."""
    if not all(os.path.isfile(_path(folder, name, ending)) for ending in ENDINGS):
        return None
    try:
        record = json.loads(files.read(_path(folder, name, ".json")))
    except (InputError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        return None
    return record if record.get("settings") == json.loads(json.dumps(made_with)) else None


def _write_index(folder, names, entries) -> None:
    pictures = {
        entry.id: files.read(_path(folder, entry.id, ".svg"))
        for entry in entries
        if entry.record is not None
    }
    content = index.page(names, entries, pictures, all_versions(), source_hash())
    files.write(_path(folder, "index", ".html"), content.encode())
