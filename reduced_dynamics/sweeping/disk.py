"""Writing that survives a kill and a power cut: every file is whole, or not there.

A Zarr store on this disk whose objects reach the disk before they take their names; a lock that
dies with the process that holds it.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from functools import cache
from pathlib import Path

from reduced_dynamics.errors import InputError

#: Files that were being written when a process died end in this.
PARTIAL = ".partial"


def put(path: Path, data) -> None:
    """Write `data` to `path`, whole and on the disk, or not at all.

    Raises
    ------
    OSError
        If the disk is full, or refuses.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Let the names in a directory reach the disk, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep_up(path: Path) -> None:
    """Remove what processes that were killed had begun to write."""
    for left in path.rglob(f".*{PARTIAL}"):
        with suppress(OSError):
            left.unlink()


@cache
def durable_store() -> type:
    """Zarr's store on a local disk, with `put` in place of its own way to write."""
    from zarr.storage import LocalStore

    class DurableStore(LocalStore):
        async def set(self, key, value) -> None:
            self._check_writable()
            put(self.root / key, value.as_buffer_like())

        async def set_if_not_exists(self, key, value) -> None:
            if not (self.root / key).exists():
                await self.set(key, value)

        def set_sync(self, key, value) -> None:
            self._check_writable()
            put(self.root / key, value.as_buffer_like())

    return DurableStore


class Lock:
    """One process at a time; the lock ends with the process, however that ends.

    Raises
    ------
    InputError
        If another process holds it.
    """

    def __init__(self, path: Path):
        self._descriptor = None
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            return
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise InputError(
                f"another process is writing to '{path}'; wait for its end, or choose another --out"
            ) from None
        except OSError:  # a file system without locks
            self.release()

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
