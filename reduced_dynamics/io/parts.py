"""A trajectory taken apart: a header that JSON can hold, and arrays of floats; and put together."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from reduced_dynamics._version import __version__
from reduced_dynamics.core.trajectory import NODES, Crossing, Trajectory
from reduced_dynamics.io.jsonable import exact

#: What marks a file as ours, and the number that grows whenever its layout changes.
FORMAT = "reduced_dynamics trajectory"
FORMAT_VERSION = 1

PLAIN = ("system", "source", "message", "loss_rise", "time_scale")
MAPPINGS = ("parameters", "solver", "invariants", "stats", "versions")
NAMES = ("coordinate_names", "observable_names", "event_names")


def disassemble(trajectory: Trajectory) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays t (n,), z (n, d), loss (n,), observables (k, n), crossing_t (m,),
    crossing_direction (m,), crossing_state (m, d) and, if there are any, nodes (n - 1, 9, d)."""
    n, d = trajectory.z.shape
    crossings = trajectory.crossings
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": f"reduced_dynamics {__version__}",
        **{key: getattr(trajectory, key) for key in PLAIN},
        "time_units": "dimensionless, the model's own training time divided by time_scale",
        "coordinate_names": list(trajectory.coordinates),
        "observable_names": list(trajectory.observables),
        "event_names": list(trajectory.event_names),
        "events": trajectory.events,
        **{key: dict(getattr(trajectory, key)) for key in MAPPINGS},
    }
    arrays = {
        "t": trajectory.t,
        "z": trajectory.z,
        "loss": trajectory.loss,
        "observables": stack(trajectory.observables.values(), n),
        "crossing_t": [c.t for c in crossings],
        "crossing_direction": [c.direction for c in crossings],
        "crossing_state": stack([c.state for c in crossings], d),
    }
    if trajectory.nodes is not None:
        arrays["nodes"] = trajectory.nodes
    return exact(header), {k: np.asarray(v, dtype=float) for k, v in arrays.items()}


def stack(rows, length: int) -> np.ndarray:
    """Rows as an array of shape (rows, length), even where there are none."""
    rows = list(rows)
    return np.array(rows, dtype=float).reshape(len(rows), length)


def assemble(
    header: dict[str, Any], names: list[str], arrays: Mapping[str, np.ndarray]
) -> Trajectory:
    """The trajectory of a header, the names of its crossings, and its arrays.

    Everything that comes out of a file is checked here, once for all formats.
    """
    recognise(header)
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
            raise Unreadable(f"its array '{key}' does not fit the rest")
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
        **{key: header[key] for key in PLAIN + MAPPINGS},
    )


class Unreadable(Exception):
    """Why the content of a file is not a trajectory, in a few words."""


def recognise(header) -> None:
    """Refuse a header that is not a trajectory's.

    Raises
    ------
    Unreadable
    """
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise Unreadable("it holds something else")
    if header["format_version"] > FORMAT_VERSION:
        raise Unreadable(f"it is of a newer version, {header['format_version']}")
    kinds = {
        **dict.fromkeys(("system", "source", "message"), str),
        **dict.fromkeys(("loss_rise", "time_scale"), float | int),
        **dict.fromkeys(NAMES, list),
        **dict.fromkeys(MAPPINGS, dict),
    }
    for key, kind in kinds.items():
        if not isinstance(header[key], kind):
            raise Unreadable(f"its entry '{key}' makes no sense")
