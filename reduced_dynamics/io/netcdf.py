"""Trajectories as datasets of xarray, and in NetCDF files."""

import re

import numpy as np

from reduced_dynamics.core.trajectory import NODES, Trajectory, lobatto
from reduced_dynamics.io.jsonable import dumps, exact, loads
from reduced_dynamics.io.parts import MAPPINGS, NAMES, PLAIN, disassemble, recognise, stack


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


def encode(trajectory: Trajectory) -> bytes:
    dataset = to_dataset(trajectory)
    # Missing values do not occur, so none needs to be declared; checksums betray damaged numbers.
    encoding = {
        name: {"_FillValue": None} | ({"fletcher32": True} if variable.size else {})
        for name, variable in dataset.variables.items()
    }
    return dataset.to_netcdf(engine="netcdf4", encoding=encoding)


def decode(content: bytes):
    import xarray

    data = xarray.load_dataset(content, engine="netcdf4", decode_cf=False)
    texts = ("format", "system", "source", "message")
    header = {
        key: value if key in texts or not isinstance(value, str) else loads(value)
        for key in ("format", "format_version", *PLAIN, *MAPPINGS, *NAMES)
        if (value := exact(data.attrs.get(key))) is not None
    }
    recognise(header)
    names = _variable_names(header)
    d = len(header["coordinate_names"])
    t = data["t"].values
    columns = [data[name].values for name in names.values()]
    arrays = {
        "t": t,
        "z": np.column_stack(columns[:d]),
        "loss": data["loss"].values,
        "observables": stack(columns[d:], len(t)),
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
