"""Trajectories in files: NetCDF, npz, csv or json by the file's ending, each describing itself.

Every format holds the same two things, a header of names and settings and a few arrays of
floats, and gives both back as they were; only csv has no room for the dense `nodes`. Nothing is
pickled, and a file half written never bears the final name.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from reduced_dynamics._version import __version__
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import NODES, Crossing, Trajectory, lobatto
from reduced_dynamics.io import files

#: What marks a file as ours, and the number that grows whenever its layout changes.
FORMAT = "reduced_dynamics trajectory"
FORMAT_VERSION = 1

_PLAIN = ("system", "source", "message", "loss_rise", "time_scale")
_MAPPINGS = ("parameters", "solver", "invariants", "stats", "versions")
_NAMES = ("coordinate_names", "observable_names", "event_names")


def save(trajectory: Trajectory, path) -> None:
    """Write a trajectory to a file, whole or not at all; an existing file is replaced.

    Parameters
    ----------
    trajectory : Trajectory
    path : str or os.PathLike
        Its ending decides the format: ``.nc`` (NetCDF, see `to_dataset`), ``.npz``, ``.csv``
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
    except _Unreadable as error:
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


def to_dataset(trajectory: Trajectory):
    """The trajectory as a dataset that xarray, and through it much else, knows how to handle.

    Parameters
    ----------
    trajectory : Trajectory

    Returns
    -------
    xarray.Dataset
        One variable (t,) for every coordinate and observable and for `loss`; `crossing_name`,
        `crossing_t`, `crossing_direction` (crossing,) and `crossing_state` (crossing,
        coordinate); `nodes` (step, node, coordinate) if there are any. The attributes say how
        the trajectory was made, nested ones in JSON. All numbers are dimensionless.
    """
    import xarray

    header, arrays = disassemble(trajectory)
    columns = np.vstack([arrays["z"].T, arrays["observables"]])

    def variable(dims, values, text, **attributes):
        return (dims, values, {"long_name": text, **attributes})

    def number(dims, values, text):
        return variable(dims, values, text, units="1")

    data = {
        variable_name: number("t", column, f"{kind} {name}")
        for ((kind, name), variable_name), column in zip(
            _variable_names(header).items(), columns, strict=True
        )
    }
    data["loss"] = number("t", arrays["loss"], "loss")
    data["crossing_name"] = variable(
        "crossing", np.array([c.name for c in trajectory.crossings], dtype=str), "event"
    )
    data["crossing_t"] = number("crossing", arrays["crossing_t"], "training time of the event")
    data["crossing_direction"] = number(
        "crossing",
        arrays["crossing_direction"].astype(np.int8),
        "direction of the crossing: 1 rising, -1 falling",
    )
    data["crossing_state"] = number(
        ("crossing", "coordinate"), arrays["crossing_state"], "state at the event"
    )
    if "nodes" in arrays:
        data["nodes"] = number(
            ("step", "node", "coordinate"),
            arrays["nodes"],
            "state at the Chebyshev-Lobatto points of every step",
        )
    coordinates = {
        "t": number("t", arrays["t"], f"training time, {header['time_units']}"),
        "node": number("node", lobatto(NODES), "position within a step, from 0 to 1"),
        "coordinate": variable(
            "coordinate", np.array(trajectory.coordinates, dtype=str), "name of the coordinate"
        ),
    }
    attributes = {
        "Conventions": "CF-1.11",
        "title": f"Training dynamics of {trajectory.system}",
        **{
            key: value if isinstance(value, str | int | float) else dumps(value)
            for key, value in header.items()
        },
    }
    return xarray.Dataset(data, coordinates, attributes)


# A trajectory taken apart: a header that JSON can hold, and arrays of floats


def disassemble(trajectory: Trajectory) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays t (n,), z (n, d), loss (n,), observables (k, n), crossing_t (m,),
    crossing_direction (m,), crossing_state (m, d) and, if there are any, nodes (n - 1, 9, d)."""
    n, d = trajectory.z.shape
    crossings = trajectory.crossings
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": f"reduced_dynamics {__version__}",
        **{key: getattr(trajectory, key) for key in _PLAIN},
        "time_units": "dimensionless, the model's own training time divided by time_scale",
        "coordinate_names": list(trajectory.coordinates),
        "observable_names": list(trajectory.observables),
        "event_names": list(trajectory.event_names),
        "events": trajectory.events,
        **{key: dict(getattr(trajectory, key)) for key in _MAPPINGS},
    }
    arrays = {
        "t": trajectory.t,
        "z": trajectory.z,
        "loss": trajectory.loss,
        "observables": _stack(trajectory.observables.values(), n),
        "crossing_t": [c.t for c in crossings],
        "crossing_direction": [c.direction for c in crossings],
        "crossing_state": _stack([c.state for c in crossings], d),
    }
    if trajectory.nodes is not None:
        arrays["nodes"] = trajectory.nodes
    return _jsonable(header), {k: np.asarray(v, dtype=float) for k, v in arrays.items()}


def _stack(rows, length: int) -> np.ndarray:
    rows = list(rows)
    return np.array(rows, dtype=float).reshape(len(rows), length)


def assemble(
    header: dict[str, Any], names: list[str], arrays: Mapping[str, np.ndarray]
) -> Trajectory:
    """The trajectory of a header, the names of its crossings, and its arrays.

    Everything that comes out of a file is checked here, once for all formats.
    """
    _recognise(header)
    coordinates, observables = header["coordinate_names"], header["observable_names"]
    n, d, m = len(arrays["t"]), len(coordinates), len(names)
    shapes = {
        "t": (n,),
        "z": (n, d),
        "loss": (n,),
        "observables": (len(observables), n),
        "crossing_t": (m,),
        "crossing_direction": (m,),
        "crossing_state": (m, d),
        "nodes": (n - 1, NODES, d),
    }
    checked = {}
    for key, shape in shapes.items():
        if key == "nodes" and arrays.get(key) is None:
            continue
        values = np.asarray(arrays[key])
        if values.shape != shape or (values.dtype.kind not in "iuf" and values.size):
            raise _Unreadable(f"its array '{key}' does not fit the rest")
        checked[key] = values.astype(float)
    crossings = zip(
        names,
        checked["crossing_t"].tolist(),
        map(int, checked["crossing_direction"]),
        map(tuple, checked["crossing_state"].tolist()),
        strict=True,
    )
    return Trajectory(
        coordinates=tuple(coordinates),
        event_names=tuple(header["event_names"]),
        t=checked["t"],
        z=checked["z"],
        loss=checked["loss"],
        nodes=checked.get("nodes"),
        observables=dict(zip(observables, checked["observables"], strict=True)),
        crossings=tuple(Crossing(*crossing) for crossing in crossings),
        **{key: header[key] for key in _PLAIN + _MAPPINGS},
    )


class _Unreadable(Exception):
    """Why the content of a file is not a trajectory, in a few words."""


def _recognise(header) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise _Unreadable("it holds something else")
    if header["format_version"] > FORMAT_VERSION:
        raise _Unreadable(f"it is of a newer version, {header['format_version']}")
    kinds = {
        **dict.fromkeys(("system", "source", "message"), str),
        **dict.fromkeys(("loss_rise", "time_scale"), float | int),
        **dict.fromkeys(_NAMES, list),
        **dict.fromkeys(_MAPPINGS, dict),
    }
    for key, kind in kinds.items():
        if not isinstance(header[key], kind):
            raise _Unreadable(f"its entry '{key}' makes no sense")


# JSON, with numpy's scalars as Python's and with the three floats that JSON does not know


def _jsonable(value):
    """`value` from Python's own types; infinities and NaN become ``{"$float": "inf"}``."""
    match value:
        case np.generic() | np.ndarray():
            return _jsonable(value.tolist())
        case Mapping():
            return {str(k): _jsonable(v) for k, v in value.items()}
        case list() | tuple():
            return [_jsonable(v) for v in value]
        case float() if not math.isfinite(value):
            return {"$float": repr(float(value))}
        case None | bool() | int() | float() | str():
            return value
    raise InputError(
        f"{value!r} ({type(value).__name__}) cannot be stored in a file; "
        "use numbers, text, lists and mappings for parameters and settings"
    )


def dumps(value) -> str:
    """JSON that people can read: a lone surrogate is the only character that needs an escape."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def loads(text):
    def revive(found):
        return float(found["$float"]) if found.keys() == {"$float"} else found

    return json.loads(text, object_hook=revive)


def _layout(document: dict) -> str:
    """JSON with one line for every entry, and for every item of an entry that is itself nested."""

    def entry(value):
        if isinstance(value, dict):
            items = [f"{dumps(k)}: {dumps(v)}" for k, v in value.items()]
        elif isinstance(value, list) and value and isinstance(value[0], dict | list):
            items = [dumps(v) for v in value]
        else:
            return dumps(value)
        left, right = "{}" if isinstance(value, dict) else "[]"
        return f"{left}\n " + ",\n ".join(items) + f"\n{right}" if items else left + right

    return "{\n" + ",\n".join(f"{dumps(k)}: {entry(v)}" for k, v in document.items()) + "\n}\n"


def _numbers(array: np.ndarray):
    """An array as nested lists for JSON."""
    return array.tolist() if np.isfinite(array).all() else _jsonable(array)


def _crossing_records(trajectory: Trajectory) -> list[dict]:
    return _jsonable(
        [
            {"name": c.name, "t": c.t, "direction": c.direction, "state": c.state}
            for c in trajectory.crossings
        ]
    )


def _crossing_arrays(records: list[dict], d: int) -> tuple[list[str], dict[str, np.ndarray]]:
    return [r["name"] for r in records], {
        "crossing_t": np.array([r["t"] for r in records]),
        "crossing_direction": np.array([r["direction"] for r in records]),
        "crossing_state": _stack([r["state"] for r in records], d),
    }


# The four formats: `encode` a trajectory into bytes, `decode` bytes into what `assemble` takes


def _encode_nc(trajectory: Trajectory) -> bytes:
    dataset = to_dataset(trajectory)
    # Missing values do not occur, so none needs to be declared; checksums betray damaged numbers.
    encoding = {
        name: {"_FillValue": None} | ({"fletcher32": True} if variable.size else {})
        for name, variable in dataset.variables.items()
    }
    return dataset.to_netcdf(engine="netcdf4", encoding=encoding)


def _decode_nc(content: bytes):
    import xarray

    data = xarray.load_dataset(content, engine="netcdf4", decode_cf=False)
    texts = ("format", "system", "source", "message")
    header = {
        key: value if key in texts or not isinstance(value, str) else loads(value)
        for key in ("format", "format_version", *_PLAIN, *_MAPPINGS, *_NAMES)
        if (value := _jsonable(data.attrs.get(key))) is not None
    }
    _recognise(header)
    names = _variable_names(header)
    d = len(header["coordinate_names"])
    t = data["t"].values
    columns = [data[name].values for name in names.values()]
    arrays = {
        "t": t,
        "z": np.column_stack(columns[:d]),
        "loss": data["loss"].values,
        "observables": _stack(columns[d:], len(t)),
        **{k: data[k].values for k in ("crossing_t", "crossing_direction", "crossing_state")},
        "nodes": data["nodes"].values if "nodes" in data else None,
    }
    return header, [str(name) for name in data["crossing_name"].values], arrays


def _variable_names(header: dict) -> dict[tuple[str, str], str]:
    """A NetCDF variable for every (kind, name): letters, digits and underscores, all different."""
    taken = {"t", "loss", "nodes", "step", "node", "coordinate", "crossing", "crossing_name"}
    taken |= {"crossing_t", "crossing_direction", "crossing_state"}
    names = {}
    for kind in ("coordinate", "observable"):
        for name in header[f"{kind}_names"]:
            plain = re.sub(r"\W", "_", name, flags=re.ASCII)
            if not plain[:1].isalpha():
                plain = f"{kind}_{plain}"
            while plain in taken:
                plain += "_"
            taken.add(plain)
            names[kind, name] = plain
    return names


def _encode_npz(trajectory: Trajectory) -> bytes:
    header, arrays = disassemble(trajectory)
    header["crossing_names"] = [c.name for c in trajectory.crossings]
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, metadata=np.array(_layout(header)), **arrays)
    return buffer.getvalue()


def _decode_npz(content: bytes):
    archive = np.load(io.BytesIO(content), allow_pickle=False)
    if not isinstance(archive, Mapping) or "metadata" not in archive:
        raise _Unreadable("it holds something else")
    header = loads(str(archive["metadata"]))
    _recognise(header)
    return header, header["crossing_names"], dict(archive)


def _encode_csv(trajectory: Trajectory) -> bytes:
    header, arrays = disassemble(trajectory)
    header |= {"rows": len(trajectory), "crossings": _crossing_records(trajectory)}
    out = io.StringIO()
    out.write(f"# {FORMAT}; in Python: pandas.read_csv(..., comment='#')\n")
    out.writelines(f"# {line}\n" for line in _layout(header).rstrip().split("\n"))
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["t", *trajectory.coordinates, "loss", *trajectory.observables])
    columns = [arrays["t"], arrays["z"], arrays["loss"], arrays["observables"].T]
    table.writerows(np.column_stack(columns).tolist())
    return out.getvalue().encode()


def _decode_csv(content: bytes):
    text = content.decode()
    comments = re.match(r"(#[^\n]*\n)*", text)[0]
    if not comments.startswith(f"# {FORMAT}"):
        raise _Unreadable("it holds something else")
    header = loads("\n".join(line[2:] for line in comments.split("\n")[1:]))
    _recognise(header)
    rows = list(csv.reader(io.StringIO(text[len(comments) :], newline="")))[1:]
    if len(rows) != header["rows"] or not text.endswith("\n"):
        raise _Unreadable("its last rows are missing")
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
    return _layout(document).encode()


def _decode_json(content: bytes):
    document = loads(content.decode())
    _recognise(document)
    coordinates, observables = document["coordinate_names"], document["observable_names"]
    names, arrays = _crossing_arrays(document["crossings"], len(coordinates))
    t = np.array(document["t"])
    arrays |= {
        "t": t,
        "loss": np.array(document["loss"]),
        "z": _stack([document["state"][name] for name in coordinates], len(t)).T,
        "observables": _stack([document["observables"][name] for name in observables], len(t)),
    }
    if "nodes" in document:
        arrays["nodes"] = np.array(document["nodes"]).reshape(-1, NODES, len(coordinates))
    return document, names, arrays


class _Format(NamedTuple):
    encode: Callable[[Trajectory], bytes]
    decode: Callable[[bytes], tuple[dict, list[str], dict[str, np.ndarray]]]


_FORMATS = {
    ".nc": _Format(_encode_nc, _decode_nc),
    ".npz": _Format(_encode_npz, _decode_npz),
    ".csv": _Format(_encode_csv, _decode_csv),
    ".json": _Format(_encode_json, _decode_json),
}
