"""A sweep on disk: a Zarr directory that any reader of Zarr opens, written block by block.

Every variable has one chunk a block. The chunk of `status` is written last, after all others of
its block have reached the disk; a block is done when it is there, and only then. So a process may
die at any moment, and what it leaves is a store with fewer blocks.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from reduced_dynamics._version import __version__
from reduced_dynamics.core.errors import InputError, ReducedDynamicsError
from reduced_dynamics.io.versions import versions
from reduced_dynamics.sweeping import damage, disk
from reduced_dynamics.sweeping.plan import Plan
from reduced_dynamics.sweeping.variables import STATUS, Variable

FORMAT = "reduced_dynamics sweep"
#: 1 had no checksums.
FORMAT_VERSION = 2
#: Points in a chunk of what is swept, which is written at once.
CHUNK = 1 << 17
TIME_UNITS = "dimensionless, reduced training time: step x learning rate over the time scale"


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

    def __init__(self, path: Path, plan: Plan, variables: tuple[Variable, ...]):
        import zarr

        self.path, self.plan, self.variables = path, plan, variables
        self.lock = disk.Lock(path)
        try:
            disk.sweep_up(path)
            damage.mend(path, _empty(plan, variables))
            with zarr.config.set({"array.write_empty_chunks": True}):
                group = zarr.open_group(
                    disk.durable_store()(path), mode="r+", use_consolidated=False
                )
                self.arrays = {v.name: group[v.name] for v in variables}
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
        names = [v.name for v in self.variables]
        found = np.zeros(self.plan.blocks, dtype=bool)
        for block in damage.stored_blocks(self.path):
            if block >= self.plan.blocks or not damage.sound(self.path, names, block):
                continue
            if "trajectory" in self.plan.settings.keep:
                from reduced_dynamics.sweeping.ragged import intact

                if not intact(self.path, block):
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
            if "trajectory" in results:
                from reduced_dynamics.sweeping.ragged import write_trajectories

                write_trajectories(self.path, block, first, results["trajectory"])
            for variable in sorted(self.variables, key=lambda v: v.name == STATUS):
                self.arrays[variable.name][first:last] = results[variable.name]
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
        if found["format"] != FORMAT:
            raise InputError(f"'{path}' is something other than a sweep; choose another name")
        if found["format_version"] > FORMAT_VERSION:
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
    return next(_differences(stored, json.loads(_dumps(plan.identity))), "")


def _differences(stored, wanted, prefix: str = "") -> Iterator[str]:
    for name in dict.fromkeys([*stored, *wanted]):
        one, other = stored.get(name), wanted.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{name} ")
        else:
            shown = ["nothing" if v is None else v if isinstance(v, str) else _dumps(v)
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


def create(path: Path, plan: Plan, variables: tuple[Variable, ...]) -> None:
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
        for key, content in _empty(plan, variables).items():
            disk.put(made / key, content)
        os.rename(made, path)
        disk.sync_directory(path.parent)
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


def _empty(plan: Plan, variables: tuple[Variable, ...]) -> dict[str, bytes]:
    """The files of a store without results, by their names in it."""
    import zarr
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(
            MemoryStore(files),
            mode="w",
            zarr_format=3,
            attributes={**_described(plan), "variables": _dumps([v.name for v in variables])},
        )
        _write_points(group, plan)
        for variable in variables:
            shape, dims = (len(plan),), ("point",)
            if variable.timed:
                shape, dims = (*shape, len(plan.settings.at)), (*dims, "at")
            group.create_array(
                variable.name,
                shape=shape,
                chunks=(plan.block, *shape[1:]),
                dtype=str if variable.dtype == "str" else variable.dtype,
                compressors=damage.codecs(),
                fill_value=variable.fill,
                dimension_names=dims,
                attributes=_attributes(variable),
            )
        with warnings.catch_warnings():  # that other programs may not know consolidated metadata
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(group.store, zarr_format=3)
    return {key: content.to_bytes() for key, content in files.items()}


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


def _attributes(variable: Variable) -> dict[str, Any]:
    found = {"long_name": variable.meaning, "kind": variable.kind}
    if variable.dtype == "i1":
        found["flag_values"] = [0, 1, 2, 3]
        found["flag_meanings"] = "missing complete failed refused"
    return found if variable.dtype == "str" else found | {"units": "1"}


def _write_points(group, plan: Plan) -> None:
    """What is swept, at every point, and the times."""
    columns = plan.columns(0, len(plan))
    for swept in (*plan.axes, *plan.ranges):
        column, text = columns[swept.name], swept.quantity.kind == "text"
        array = group.create_array(
            swept.name,
            shape=column.shape,
            chunks=(min(len(plan), CHUNK),),
            dtype=str if text else column.dtype,
            compressors=damage.codecs(),
            fill_value="" if text else 0,
            dimension_names=("point",),
            attributes={"long_name": swept.quantity.meaning, "kind": "swept"}
            | ({} if text else {"units": "1"}),
        )
        array[:] = column
    times = plan.settings.at
    if times:
        text = any(isinstance(t, str) for t in times)
        values = np.array(
            [str(t) for t in times] if text else times, dtype=object if text else "f8"
        )
        array = group.create_array(
            "at", shape=values.shape, chunks=values.shape, dtype=str if text else "f8",
            compressors=damage.codecs(), fill_value="" if text else np.nan, dimension_names=("at",),
            attributes={"long_name": "training time", "kind": "swept"},
        )  # fmt: skip
        array[:] = values


def _described(plan: Plan) -> dict[str, Any]:
    """The attributes of the store: how it was made, all that figures and readers need."""
    settings = plan.settings
    system = settings.resolved
    swept = [a.name for a in (*plan.axes, *plan.ranges)]
    return {
        "Conventions": "CF-1.11",
        "title": f"Sweep of {system.name} over {', '.join(swept)}",
        "coordinates": " ".join(swept),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": f"reduced_dynamics {__version__}",
        "system": system.name,
        "system_source": system.source,
        "source": settings.derivation,
        "plan": _dumps(plan.identity),
        "dims": _dumps(dict(zip(plan.dims, plan.shape, strict=True))),
        "scales": _dumps(_scales(plan)),
        "parameters": _dumps(settings.identity["parameters"]),
        "solver": _dumps(settings.identity["solver"]),
        "t_end": str(settings.t_end),
        "seed": plan.seed,
        "sampling": plan.sampling if plan.ranges else "",
        "time_units": TIME_UNITS,
        "versions": _dumps(versions() | {"zarr": _zarr_version()}),
    }


def _scales(plan: Plan) -> dict[str, str]:
    """How every swept quantity is spaced: log, lin, list or text."""
    found = {r.name: r.scale for r in plan.ranges}
    for axis in plan.axes:
        parts = axis.spec.split(":")
        kind = "text" if axis.quantity.kind == "text" else "list"
        found[axis.name] = parts[2] if len(parts) == 4 else kind
    return found


def _zarr_version() -> str:
    import zarr

    return zarr.__version__


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
