"""Whole trajectories of a sweep: one group of the store for every block, rows end to end.

CF's contiguous ragged arrays: the rows of a point follow those of the point before, and
``row_size`` says how many each has. With ``xarray.open_zarr(store, group="trajectories/0",
consolidated=False)`` any reader can take them apart; `reading.sweep_trajectory` gives a
`Trajectory`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.io.jsonable import dumps, loads
from reduced_dynamics.io.parts import assemble, disassemble
from reduced_dynamics.sweeping import damage, disk

FOLDER = "trajectories"
#: Ragged arrays by their rows: what counts them, and their further dimensions.
_ROWS = {
    "t": ("sample", ()),
    "loss": ("sample", ()),
    "z": ("sample", ("coordinate",)),
    "observables": ("sample", ("observable",)),
    "nodes": ("step", ("node", "coordinate")),
    "crossing_t": ("crossing", ()),
    "crossing_direction": ("crossing", ()),
    "crossing_state": ("crossing", ("coordinate",)),
}
_COUNTS = {"sample": "row_size", "step": "step_row_size", "crossing": "crossing_row_size"}
_MEANINGS = {
    "t": "training time",
    "loss": "loss",
    "z": "coordinates",
    "observables": "observables",
    "nodes": "coordinates at the Chebyshev-Lobatto points of every step",
    "crossing_t": "training time of an event",
    "crossing_direction": "1 rising, -1 falling",
    "crossing_state": "coordinates at an event",
}


def write_trajectories(
    path: Path, block: int, first: int, trajectories: Sequence[Trajectory | None]
) -> None:
    """Keep a block's trajectories; one that is None has no rows."""
    import zarr

    parts = [_parts(run) for run in trajectories]
    names = {
        "coordinate": _union(run.coordinates for run in trajectories if run is not None),
        "observable": _union(run.observables for run in trajectories if run is not None),
    }
    store = disk.durable_store()(path)
    group = zarr.open_group(
        store, path=f"{FOLDER}/{block}", mode="w", zarr_format=3,
        attributes={"featureType": "trajectory", "first_point": first},
    )  # fmt: skip

    def put(name: str, values: np.ndarray, dims: tuple[str, ...], text: str, **more: Any) -> None:
        dtype = str if values.dtype == object else values.dtype
        array = group.create_array(
            name, shape=values.shape, chunks=tuple(max(1, n) for n in values.shape), dtype=dtype,
            fill_value="" if dtype is str else 0, dimension_names=dims,
            config={"write_empty_chunks": True}, compressors=damage.codecs(),
            attributes={"long_name": text, **more},
        )  # fmt: skip
        array[...] = values

    points = np.arange(first, first + len(trajectories))
    put("point", points, ("point",), "number of the point in the sweep")
    put("header", _texts(header for header, _, _ in parts), ("point",), "how it was made, in JSON")
    for rows, counter in _COUNTS.items():
        counted = next(name for name, (kind, _) in _ROWS.items() if kind == rows)
        sizes = np.array([len(arrays.get(counted, ())) for _, arrays, _ in parts], dtype=np.int64)
        put(counter, sizes, ("point",), f"rows of each point along {rows}", sample_dimension=rows)
    for label, known in names.items():
        put(label, _texts(known), (label,), f"name of the {label}")
    crossings = _texts(name for _, _, crossed in parts for name in crossed)
    put("crossing_name", crossings, ("crossing",), "event")
    for name, (rows, dims) in _ROWS.items():
        pieces = [
            _spread(arrays[name], dims, trajectory, names)
            for trajectory, (_, arrays, _) in zip(trajectories, parts, strict=True)
            if name in arrays
        ]
        shape = [9 if dim == "node" else len(names[dim]) for dim in dims]
        values = np.concatenate([*pieces, np.empty((0, *shape))])
        put(name, values, (rows, *dims), _MEANINGS[name], units="1")


def intact(path: Path, block: int) -> bool:
    """Whether a block's trajectories are all there, undamaged."""
    import zarr

    try:
        group = zarr.open_group(str(path), path=f"{FOLDER}/{block}", mode="r")
        for name in ("point", "header", "coordinate", "observable", "crossing_name",
                     *_COUNTS.values(), *_ROWS):  # fmt: skip
            array = group[name]
            if array.size:
                chunk = (
                    path
                    / FOLDER
                    / str(block)
                    / name
                    / array.metadata.encode_chunk_key((0,) * array.ndim)
                )
                if not damage.checked(chunk):
                    return False
            if name in _ROWS and array.shape[0] != group[_COUNTS[_ROWS[name][0]]][:].sum():
                return False
    except Exception:  # Zarr and its codecs raise all kinds
        return False
    return True


def read(path: Path, block: int, place: int) -> Trajectory | None:
    """The trajectory at a place of its block; None if there is none."""
    import zarr

    group = zarr.open_group(str(path), path=f"{FOLDER}/{block}", mode="r")
    header = str(group["header"][place])
    return _assembled(group, loads(header), place) if header else None


def _assembled(group, header, place: int) -> Trajectory:
    """The trajectory at a place of its block."""
    labels = {k: group[k][:].tolist() for k in ("coordinate", "observable")}
    arrays, names = {}, []
    for name, (rows, dims) in _ROWS.items():
        sizes = group[_COUNTS[rows]][: place + 1]
        last = int(sizes.sum())
        values = group[name][last - int(sizes[-1]) : last]
        if dims and dims[-1] in labels:
            own = header[f"{dims[-1]}_names"]
            values = values[..., [labels[dims[-1]].index(n) for n in own]]
        # In the order in which they were computed: sums over them round in that order.
        arrays[name] = np.ascontiguousarray(values.T if name == "observables" else values)
        if name == "crossing_t":
            names = group["crossing_name"][last - int(sizes[-1]) : last].tolist()
    if not len(arrays["nodes"]) and len(arrays["t"]) > 1:
        del arrays["nodes"]
    return assemble(header, names, arrays)


def _parts(run: Trajectory | None) -> tuple[str, dict[str, np.ndarray], list[str]]:
    """Header, arrays and names of crossings, without what differs from run to run."""
    if run is None:
        return "", {}, []
    stats = {k: v for k, v in run.stats.items() if k != "wall_s"}
    header, arrays = disassemble(run.with_(stats=stats))
    arrays["observables"] = arrays["observables"].T
    return dumps(header), arrays, [c.name for c in run.crossings]


def _union(names) -> list[str]:
    return list(dict.fromkeys(name for some in names for name in some))


def _texts(texts) -> np.ndarray:
    found = list(texts)
    array = np.empty(len(found), dtype=object)
    array[:] = found
    return array


def _spread(values: np.ndarray, dims, run: Trajectory, names: dict[str, list[str]]) -> np.ndarray:
    """Columns by the names of the block; nan where this point lacks one."""
    if not dims or dims[-1] not in names:
        return values
    own = run.coordinates if dims[-1] == "coordinate" else tuple(run.observables)
    wide = np.full((*values.shape[:-1], len(names[dims[-1]])), np.nan)
    wide[..., [names[dims[-1]].index(name) for name in own]] = values
    return wide
