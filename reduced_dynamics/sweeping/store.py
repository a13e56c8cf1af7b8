"""A sweep on disk: a Zarr directory that any reader of Zarr opens, written block by block.

Every variable has one chunk a block. The chunk of `status` is written last, after all others of
its block have reached the disk; a block is done when it is there, and only then. So a process may
die at any moment, and what it leaves is a store with fewer blocks.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError, ReducedDynamicsError
from reduced_dynamics.io import files
from reduced_dynamics.io.jsonable import dumps
from reduced_dynamics.sweeping import damage, disk, layout, ragged
from reduced_dynamics.sweeping.plan import Plan
from reduced_dynamics.sweeping.variables import STATUS


class StoreError(ReducedDynamicsError):
    """The store cannot be written any further (exit 2); what is in it stays, and can be resumed."""

    exit_code = 2


class Store:
    """An open sweep, locked against other processes.

    What is damaged of its metadata and of what is swept is written again as it is opened.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, path: Path, plan: Plan):
        import zarr

        self.path, self.plan = path, plan
        self._trajectories = "trajectory" in plan.settings.keep
        self.lock = disk.Lock(path)
        try:
            disk.sweep_up(path)
            damage.mend(path, layout.empty(plan))
            with zarr.config.set({"array.write_empty_chunks": True}):
                group = zarr.open_group(
                    disk.durable_store()(path), mode="r+", use_consolidated=False
                )
                self.arrays = {v.name: group[v.name] for v in plan.variables}
            self._done = self._found()
        except BaseException as error:
            self.lock.release()
            if isinstance(error, OSError):
                raise _refused(path, error) from None
            raise

    def close(self) -> None:
        self.lock.release()

    def done(self) -> np.ndarray:
        """Which blocks are stored, whole and undamaged, shape (blocks,)."""
        return self._done.copy()

    def _found(self) -> np.ndarray:
        names = list(self.arrays)
        found = np.zeros(self.plan.blocks, dtype=bool)
        for block in damage.stored_blocks(self.path):
            if block >= self.plan.blocks or not damage.sound(self.path, names, block):
                continue
            if self._trajectories and not ragged.intact(self.path, block):
                continue
            first, last = self.plan.span(block)
            with suppress(Exception):  # whatever it is, the block is computed again
                found[block] = (self.arrays[STATUS][first:last] != 0).all()
        return found

    def write(self, block: int, results: dict[str, Any]) -> None:
        """Keep a block: its variables, and then that it is done.

        Raises
        ------
        StoreError
            If the disk is full, or refuses.
        """
        first, last = self.plan.span(block)
        try:
            if self._trajectories:
                ragged.write_trajectories(self.path, block, first, results["trajectory"])
            for name in sorted(self.arrays, key=STATUS.__eq__):
                self.arrays[name][first:last] = results[name]
            self._done[block] = True
        except OSError as error:
            raise _refused(self.path, error) from None


def _refused(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write to '{path}' any more ({(error.strerror or str(error)).lower()}); what is "
        "stored is kept: make room, and the same command with --resume goes on"
    )


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def exists(path: Path) -> bool:
    """Whether there is a sweep at `path`.

    Raises
    ------
    InputError
        If there is something else.
    """
    if not path.exists() and not path.is_symlink():
        return False
    if path.is_dir() and not _names(path):
        return False  # an empty directory may become one
    attributes(path)
    return True


def attributes(path: Path) -> dict[str, Any]:
    """What the store at `path` says of itself.

    Raises
    ------
    InputError
        If there is no sweep there.
    """
    try:
        whole = json.loads((path / "zarr.json").read_bytes())
        found = whole["attributes"]
        if found["format"] != layout.FORMAT:
            raise InputError(f"'{path}' is something other than a sweep; choose another name")
        if found["format_version"] > layout.FORMAT_VERSION:
            raise InputError(
                f"'{path}' is of a newer version, {found['format_version']}; use a newer program"
            )
        for name in ("plan", "dims", "variables"):
            json.loads(found[name])
        return found
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        if path.is_symlink() and not path.exists():
            raise InputError(
                f"'{path}' is a link to '{os.readlink(path)}', which does not exist; remove the "
                "link, or choose another name"
            ) from None
        if not path.exists():
            raise InputError(f"there is no sweep at '{path}'; check its name") from None
        if not (path / STATUS).is_dir():
            raise InputError(
                f"'{path}' is something other than a sweep; choose another name"
            ) from None
        raise InputError(
            f"'{path / 'zarr.json'}' is damaged or missing, and nothing else says which sweep "
            "this is; remove the store, or choose another name"
        ) from None


def difference(path: Path, plan: Plan) -> str:
    """What tells the sweep at `path` from this one; empty if they are the same."""
    stored = json.loads(attributes(path)["plan"])
    return next(_differences(stored, json.loads(dumps(plan.identity))), "")


def _differences(stored, wanted, prefix: str = "") -> Iterator[str]:
    for name in dict.fromkeys([*stored, *wanted]):
        one, other = stored.get(name), wanted.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{name} ")
        else:
            shown = ["nothing" if v is None else v if isinstance(v, str) else dumps(v)
                     for v in (one, other)]  # fmt: skip
            yield f"{prefix}{name} is {shown[0]} there and {shown[1]} here"


def check_target(path: Path) -> None:
    """Make sure that a store can be made at `path`, before anything is computed.

    Raises
    ------
    InputError
    """
    if re.match(r"[A-Za-z][\w+.-]+:/", str(path)) and not path.parent.exists():
        raise InputError(
            f"a sweep is kept on this machine's disks, and '{path}' is elsewhere; name a directory"
        )
    if path.suffix != ".zarr":
        raise InputError(f"a sweep is kept in a Zarr directory: end '{path}' in .zarr")
    parent = path.absolute().parent
    for above in (parent, *parent.parents):
        if above.exists() and not above.is_dir():
            raise InputError(
                f"cannot write '{path}' because '{above.name}' is a file, not a directory; choose "
                "another place"
            )
    if not parent.is_dir():
        raise InputError(
            f"cannot write '{path}' because its directory does not exist; create it with: "
            f"mkdir -p {path.parent}"
        )
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise InputError(
            f"cannot write '{path}' ({(error.strerror or '').lower()}); choose another place"
        ) from None


def create(path: Path, plan: Plan) -> None:
    """Make an empty store: it bears its name once everything but the results is in it.

    Raises
    ------
    StoreError
        If the disk is full, or refuses.
    """
    path = path.absolute()
    _clear_away(path)
    made = lock = None
    try:
        made = Path(tempfile.mkdtemp(prefix=_beginning(path), suffix=_NEW, dir=path.parent))
        lock = disk.Lock(made)
        os.chmod(made, 0o777 & ~_umask())
        for key, content in layout.empty(plan).items():
            disk.put(made / key, content)
        os.rename(made, path)
        files.sync_directory(path.parent)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise InputError(
                f"another process has just written to '{path}'; choose another --out"
            ) from None
        raise _refused(path, error) from None
    finally:
        if lock is not None:
            lock.release()
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _clear_away(path: Path) -> None:
    """Remove the beginnings of this store that killed processes have left."""
    name = re.compile(re.escape(_beginning(path)) + r"\w{8}" + re.escape(_NEW))
    for left in _names(path.parent):
        if name.fullmatch(left):
            with suppress(InputError, OSError):
                lock = disk.Lock(path.parent / left)
                if lock.held:  # nobody is at work there
                    shutil.rmtree(path.parent / left, ignore_errors=True)
                lock.release()


#: What the directory ends in that becomes a store.
_NEW = ".new"


def _beginning(path: Path) -> str:
    return f".{path.name[:100]}-"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
