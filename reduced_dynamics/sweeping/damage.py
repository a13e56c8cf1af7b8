"""What is damaged in a store, by the checksum at the end of every chunk.

Empty chunks are written as well, so one that is missing is damage where its block is said to be
done. Metadata and what is swept follow from the plan; they are compared with that.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reduced_dynamics.core.errors import InputError, ReducedDynamicsError
from reduced_dynamics.sweeping import disk
from reduced_dynamics.sweeping.variables import STATUS

ROOT = "zarr.json"
#: Bytes of a checksum (CRC32C, as Zarr's codec of this name writes it).
CHECKSUM = 4


def codecs() -> tuple:
    """How the bytes of chunks are written: compressed, with a checksum."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    return ZstdCodec(level=0, checksum=False), Crc32cCodec()


def checked(path: Path) -> bool:
    """Whether a chunk is there, and its checksum is right."""
    import google_crc32c

    try:
        content = path.read_bytes()
    except OSError:
        return False
    data, written = content[:-CHECKSUM], content[-CHECKSUM:]
    return bool(data) and google_crc32c.value(data).to_bytes(CHECKSUM, "little") == written


def stored_blocks(path: Path) -> list[int]:
    """Blocks that are said to be done, ascending."""
    try:
        names = os.listdir(path / STATUS / "c")
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isdecimal())


def chunk(path: Path, name: str, block: int) -> Path:
    """The file of a block of a variable; one over times has a single chunk along them."""
    folder = path / name / "c" / str(block)
    return folder / "0" if folder.is_dir() else folder


def sound(path: Path, names: Iterable[str], block: int) -> bool:
    """Whether every variable of a block is there, undamaged."""
    return all(checked(chunk(path, name, block)) for name in names)


def check(path: Path, names: Iterable[str], coordinates: Mapping[str, int], contents: bool) -> None:
    """Refuse a store of which something is missing or damaged, in blocks that are done.

    Parameters
    ----------
    names : iterable of str
        Of results, and `coordinates` of what is swept, with their numbers of chunks.
    contents : bool
        Whether checksums are verified too, for which everything is read.

    Raises
    ------
    InputError
        Which names the variable.
    """
    test = checked if contents else Path.is_file
    blocks = stored_blocks(path)
    for name in names:
        if not all(test(chunk(path, name, block)) for block in blocks):
            raise refusal(path, name)
    for name, chunks in coordinates.items():
        if not all(test(chunk(path, name, k)) for k in range(chunks)):
            raise refusal(path, name)


def refusal(path: Path, name: str) -> InputError:
    return InputError(
        f"'{name}' is damaged in '{path}'; the command that made it, with --resume, computes what "
        "is damaged again"
    )


@contextmanager
def reading(path: Path, name: str) -> Iterator[None]:
    """Whatever a damaged store brings about in Zarr is one sentence."""
    try:
        yield
    except (ReducedDynamicsError, MemoryError):
        raise
    except Exception:  # Zarr and its codecs raise all kinds
        raise refusal(path, name) from None


def mend(path: Path, files: Mapping[str, bytes]) -> None:
    """Write those of `files` again that the store at `path` lacks, or has differently.

    What the store says of itself stays as it is: versions of that time belong there.

    Raises
    ------
    OSError
        If the disk is full, or refuses.
    """
    for key, content in files.items():
        target = path / key
        try:
            found = target.read_bytes()
        except OSError:
            found = b""
        if key == ROOT and found:
            wanted = json.loads(content)
            attributes = json.loads(found)["attributes"]
            if json.loads(found) == wanted | {"attributes": attributes}:
                continue
            content = json.dumps(wanted | {"attributes": attributes}, indent=2).encode()
        if found != content:
            disk.put(target, content, path)
