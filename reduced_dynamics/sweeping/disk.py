"""Writing that survives a kill and a power cut: every file is whole, or not there.

A Zarr store on this disk whose objects reach the disk before they take their names; a lock that
dies with the process that holds it.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.io import files
from reduced_dynamics.io.locks import locked


def put(path: Path, data, within: Path | None = None) -> None:
    """Write `data` to `path`, whole and on the disk, or not at all.

    A directory of that name, or a file where a directory above has to be, is damage of the store
    `within` which it lies, and goes; outside of it nothing is touched.

    Raises
    ------
    OSError
        If the disk is full, or refuses.
    """
    if within is not None:
        _make_room(path, within)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.put(path, data)


def _make_room(path: Path, store: Path) -> None:
    if path == store or not path.is_relative_to(store):
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    for above in path.parents:
        if above == store:
            return
        if above.exists() and not above.is_dir():
            above.unlink()


def sweep_up(path: Path) -> None:
    """Remove what processes that were killed had begun to write."""
    for left in path.rglob(f".*{files.PARTIAL}"):
        with suppress(OSError):
            left.unlink()


@cache
def durable_store() -> type:
    """Zarr's store on a local disk, with `put` in place of its own way to write."""
    from zarr.storage import LocalStore

    class DurableStore(LocalStore):
        async def set(self, key, value) -> None:
            self._check_writable()
            put(self.root / key, value.as_buffer_like(), self.root)

        async def set_if_not_exists(self, key, value) -> None:
            if not (self.root / key).exists():
                await self.set(key, value)

        def set_sync(self, key, value) -> None:
            self._check_writable()
            put(self.root / key, value.as_buffer_like(), self.root)

    return DurableStore


def _busy(path: Path) -> InputError:
    return InputError(
        f"another process is writing to '{path}'; wait for its end, or choose another --out"
    )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """While one process looks for `path`, makes it and locks it, no other does any of these.

    A file beside it is locked, which is there only meanwhile; that a process was killed and left
    it does not matter.

    Raises
    ------
    InputError
        If another process is about it.
    """
    beside = path.absolute().with_name(f".{path.name}.lock")
    while True:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            locked(descriptor)
            # The process before us may have removed the file that we opened.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(beside)):
                    break
        except BlockingIOError:
            os.close(descriptor)
            raise _busy(path) from None
        os.close(descriptor)
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(beside)  # before the lock ends: nobody else's file goes
        os.close(descriptor)


class Lock:
    """One process at a time; the lock ends with the process, however that ends.

    Attributes
    ----------
    held : bool
        False on systems and disks that have no locks.

    Raises
    ------
    InputError
        If another process holds it.
    """

    def __init__(self, path: Path):
        self._descriptor, self.held = None, False
        if os.name != "posix":  # a directory cannot be opened there
            return
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            self.held = locked(self._descriptor)
        except BlockingIOError:
            self.release()
            raise _busy(path) from None
        if not self.held:
            self.release()

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self.held = None, False
