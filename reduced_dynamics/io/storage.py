"""Trajectories in files: NetCDF, npz, csv or json by the file's ending, each describing itself.

Every format holds the same two things, a header of names and settings and a few arrays of
floats, and gives both back as they were; only csv has no room for the dense `nodes`. Nothing is
pickled, and a file half written never bears the final name.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import NODES, Trajectory
from reduced_dynamics.io import files, netcdf
from reduced_dynamics.io.jsonable import exact, layout, loads
from reduced_dynamics.io.parts import FORMAT, Unreadable, assemble, disassemble, recognise, stack


def save(trajectory: Trajectory, path) -> None:
    """Write a trajectory to a file, whole or not at all; an existing file is replaced.

    Parameters
    ----------
    trajectory : Trajectory
    path : str or os.PathLike
        Its ending decides the format: ``.nc`` (NetCDF, see `netcdf.to_dataset`), ``.npz``, ``.csv``
        (without the dense `nodes`) or ``.json``.

    Raises
    ------
    InputError
        If the ending is unknown, the file cannot be written, or a parameter or setting is of a
        kind that does not travel in a file.
    """
    writer = _FORMATS[files.ending(path, _FORMATS)].encode
    files.write(path, writer(trajectory))


def load(path) -> Trajectory:
    """Read back what `save` wrote.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    Trajectory
        Equal to the one saved, floats to the last bit; from csv with ``nodes=None``.

    Raises
    ------
    InputError
        If there is no such file, or it is damaged, truncated or holds something else.
    """
    reader = _FORMATS[files.ending(path, _FORMATS)].decode
    content = files.read(path)
    try:
        return assemble(*reader(content))
    except Unreadable as error:
        reason = str(error)
    except Exception:
        # The libraries below raise nearly everything on bytes that are not what they expect.
        reason = "it is damaged or of another kind"
    raise InputError(
        f"'{os.fspath(path)}' cannot be read as a trajectory ({reason}); "
        "make sure that the file is complete and was written by this program, or run it again"
    )


def check_target(path) -> None:
    """Make sure that a trajectory can be saved to `path`, before it is computed.

    Raises
    ------
    InputError
        If the ending is unknown, the directory is missing or cannot be written to, or `path` is
        a directory or write-protected.
    """
    files.check_target(path, _FORMATS)


# The formats besides NetCDF: bytes from a trajectory, and what `assemble` takes from bytes


def _numbers(array: np.ndarray):
    """An array as nested lists for JSON."""
    return array.tolist() if np.isfinite(array).all() else exact(array)


def _crossing_records(trajectory: Trajectory) -> list[dict]:
    return exact(
        [
            {"name": c.name, "t": c.t, "direction": c.direction, "state": c.state}
            for c in trajectory.crossings
        ]
    )


def _crossing_arrays(records: list[dict], d: int) -> tuple[list[str], dict[str, np.ndarray]]:
    return [r["name"] for r in records], {
        "crossing_t": np.array([r["t"] for r in records]),
        "crossing_direction": np.array([r["direction"] for r in records]),
        "crossing_state": stack([r["state"] for r in records], d),
    }


def _encode_npz(trajectory: Trajectory) -> bytes:
    header, arrays = disassemble(trajectory)
    header["crossing_names"] = [c.name for c in trajectory.crossings]
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, metadata=np.array(layout(header)), **arrays)
    return buffer.getvalue()


def _decode_npz(content: bytes):
    archive = np.load(io.BytesIO(content), allow_pickle=False)
    if not isinstance(archive, Mapping) or "metadata" not in archive:
        raise Unreadable("it holds something else")
    header = loads(str(archive["metadata"]))
    recognise(header)
    return header, header["crossing_names"], dict(archive)


def _encode_csv(trajectory: Trajectory) -> bytes:
    header, arrays = disassemble(trajectory)
    header |= {"rows": len(trajectory), "crossings": _crossing_records(trajectory)}
    out = io.StringIO()
    out.write(f"# {FORMAT}; in Python: pandas.read_csv(..., comment='#')\n")
    out.writelines(f"# {line}\n" for line in layout(header).rstrip().split("\n"))
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["t", *trajectory.coordinates, "loss", *trajectory.observables])
    columns = [arrays["t"], arrays["z"], arrays["loss"], arrays["observables"].T]
    table.writerows(np.column_stack(columns).tolist())
    return out.getvalue().encode()


def _decode_csv(content: bytes):
    text = content.decode()
    comments = re.match(r"(#[^\n]*\n)*", text)[0]
    if not comments.startswith(f"# {FORMAT}"):
        raise Unreadable("it holds something else")
    header = loads("\n".join(line[2:] for line in comments.split("\n")[1:]))
    recognise(header)
    rows = list(csv.reader(io.StringIO(text[len(comments) :], newline="")))[1:]
    if len(rows) != header["rows"] or not text.endswith("\n"):
        raise Unreadable("its last rows are missing")
    d = len(header["coordinate_names"])
    names, arrays = _crossing_arrays(header["crossings"], d)
    t, z, loss, observables = np.split(np.array(rows, dtype=float).T, [1, 1 + d, 2 + d])
    arrays |= {"t": t[0], "z": z.T, "loss": loss[0], "observables": observables}
    return header, names, arrays


def _encode_json(trajectory: Trajectory) -> bytes:
    document, arrays = disassemble(trajectory)

    def by_name(names, rows):
        return dict(zip(names, map(_numbers, rows), strict=True))

    document |= {
        "crossings": _crossing_records(trajectory),
        "t": _numbers(arrays["t"]),
        "loss": _numbers(arrays["loss"]),
        "state": by_name(trajectory.coordinates, arrays["z"].T),
        "observables": by_name(trajectory.observables, arrays["observables"]),
    }
    if "nodes" in arrays:
        document["nodes"] = _numbers(arrays["nodes"])
    return layout(document).encode()


def _decode_json(content: bytes):
    document = loads(content.decode())
    recognise(document)
    coordinates, observables = document["coordinate_names"], document["observable_names"]
    names, arrays = _crossing_arrays(document["crossings"], len(coordinates))
    t = np.array(document["t"])
    arrays |= {
        "t": t,
        "loss": np.array(document["loss"]),
        "z": stack([document["state"][name] for name in coordinates], len(t)).T,
        "observables": stack([document["observables"][name] for name in observables], len(t)),
    }
    if "nodes" in document:
        arrays["nodes"] = np.array(document["nodes"]).reshape(-1, NODES, len(coordinates))
    return document, names, arrays


class _Format(NamedTuple):
    encode: Callable[[Trajectory], bytes]
    decode: Callable[[bytes], tuple[dict, list[str], dict[str, np.ndarray]]]


_FORMATS = {
    ".nc": _Format(netcdf.encode, netcdf.decode),
    ".npz": _Format(_encode_npz, _decode_npz),
    ".csv": _Format(_encode_csv, _decode_csv),
    ".json": _Format(_encode_json, _decode_json),
}
