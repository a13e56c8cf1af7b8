"""The user's cache of generated modules and their compiled code.

A module lives in a directory of its own, named by a hash of what it was derived from, together
with what numba compiled from it. Everything in it is checked against recorded hashes before it is
used, so a damaged cache is rebuilt; files appear under their names only when complete; while one
process makes or compiles a module, others that need it wait; a directory that cannot be written is
replaced by a temporary one.
"""

import atexit
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from reduced_dynamics.core.errors import CacheWarning
from reduced_dynamics.io.locks import locked

log = logging.getLogger(__name__)

#: Overrides where generated modules are kept.
VARIABLE = "REDUCED_DYNAMICS_CACHE"

MODULE, MANIFEST = "module.py", "manifest.json"


def directory() -> Path:
    """Where generated modules are kept."""
    return _directory(*map(os.environ.get, (VARIABLE, "XDG_CACHE_HOME", "HOME")), os.getcwd())


@cache
def _directory(chosen: str | None, *_: str | None) -> Path:
    """The same, worked out once for each state of the environment: every run asks for it."""
    if chosen:
        return Path(os.path.expanduser(chosen)).absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("reduced-dynamics", appauthor=False))


def key(*parts: str) -> str:
    """Hash of the given parts, for the name of what follows from them."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _text(path: Path) -> str | None:
    """The module's source, or None if it is missing or not what was written."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        if head == b"# sha256 " + _sha(body).encode():
            return body.decode()
    except (OSError, UnicodeDecodeError):
        pass
    return None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While one process makes or compiles the module in `folder`, the others wait for its end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)  # which cannot be locked on Windows
    except OSError:  # nothing will be made here
        yield
        return
    try:
        try:
            locked(descriptor)
        except BlockingIOError:
            log.info("waiting for another process that compiles %s", folder.name.split("-")[0])
            locked(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def load(name: str, build: Callable[[], str]) -> types.ModuleType:
    """The module called `name` from the cache, made from ``build()`` where it is not there.

    Warns
    -----
    CacheWarning
        If the cache cannot be written: the module is then compiled for this process only.
    """
    folder = directory() / name
    with alone(folder):
        text = _text(folder / MODULE)
        usable = text is not None and _intact(folder)
        if text is None:
            text = build()
        kept = _writable(folder) and (usable or _renew(folder, text))
    if not kept:
        warnings.warn(
            f"the cache directory {folder.parent} cannot be written, so compiled code is kept for "
            f"this process only; set {VARIABLE} to a directory that can",
            CacheWarning,
            stacklevel=2,
        )
        try:
            folder = _temporary(folder if usable else None, text)
        except OSError:  # no room anywhere
            text = uncached(text)
    return execute(name, text, folder / MODULE)


def _renew(folder: Path, text: str) -> bool:
    """Keep the module and drop what was compiled from another or is damaged; False if refused."""
    try:
        discard_compiled(folder)
        if _text(folder / MODULE) != text:
            body = text.encode()
            _write(folder / MODULE, b"# sha256 " + _sha(body).encode() + b"\n" + body)
    except OSError:
        return False
    return True


def _temporary(source: Path | None, text: str) -> Path:
    """A directory for this process, with what is compiled already in `source`, if anything."""
    folder = Path(tempfile.mkdtemp(prefix="reduced-dynamics-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if source is not None:
        with suppress(OSError):  # modification times are kept; numba compares them
            shutil.copytree(source, folder, dirs_exist_ok=True)
    if (_text(folder / MODULE) != text or not _intact(folder)) and not _renew(folder, text):
        raise OSError("no room for temporary files")
    return folder


def uncached(text: str) -> str:
    """The module's source for a process that keeps nothing."""
    return text.replace("cache=True", "cache=False")


def execute(name: str, text: str, path: Path) -> types.ModuleType:
    """Run generated source as a module whose compiled code is kept beside `path`."""
    module = types.ModuleType("reduced_dynamics_generated." + name.replace("-", "_"))
    module.__file__ = str(path)
    module.SOURCE = text
    sys.modules[module.__name__] = module
    # The line that holds the hash shifts the text by one.
    exec(compile("\n" + text, str(path), "exec"), module.__dict__)
    return module


# ---------------------------------------------------------------- what numba compiled


def _compiled(folder: Path) -> list[Path]:
    return sorted([*folder.rglob("*.nbi"), *folder.rglob("*.nbc")])


def seal(folder: Path) -> None:
    """Record the hashes of what numba has compiled, so that damage is noticed."""
    try:
        hashes = {p.name: _sha(p.read_bytes()) for p in _compiled(folder)}
        _write(folder / MANIFEST, json.dumps(hashes, indent=0, sort_keys=True).encode())
    except OSError:
        pass  # unsealed code is compiled again: slower, not wrong


def _intact(folder: Path) -> bool:
    try:
        hashes = json.loads((folder / MANIFEST).read_bytes())
        return all(hashes.get(p.name) == _sha(p.read_bytes()) for p in _compiled(folder))
    except (OSError, ValueError, AttributeError):
        return not _compiled(folder)


def discard_compiled(folder: Path) -> None:
    """Remove compiled code, so that it is made anew."""
    for path in _compiled(folder):
        path.unlink(missing_ok=True)


def remember(name: str, data: bytes) -> None:
    """Keep `data` under a name, whole or not at all; without a cache that can be written, not."""
    folder = directory()
    if _writable(folder):
        with suppress(OSError):
            _write(folder / f"{name}.bin", _sha(data).encode() + b"\n" + data)


def recall(name: str) -> bytes | None:
    """What was kept under a name; None if that is missing or damaged."""
    try:
        head, _, data = (directory() / f"{name}.bin").read_bytes().partition(b"\n")
    except OSError:
        return None
    return data if head == _sha(data).encode() else None
