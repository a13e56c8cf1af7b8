"""How a sweep lies on the disk: what the files of a store hold before any result is in it."""

import warnings
from typing import Any

import numpy as np

from reduced_dynamics._version import __version__
from reduced_dynamics.io.jsonable import dumps
from reduced_dynamics.io.versions import versions
from reduced_dynamics.sweeping import damage
from reduced_dynamics.sweeping.plan import Plan
from reduced_dynamics.sweeping.variables import Variable

FORMAT = "reduced_dynamics sweep"
#: 1 had no checksums.
FORMAT_VERSION = 2
#: Points in a chunk of what is swept, which is written at once.
CHUNK = 1 << 17
TIME_UNITS = "dimensionless, reduced training time: step x learning rate over the time scale"


def empty(plan: Plan) -> dict[str, bytes]:
    """The files of a store without results, by their names in it."""
    import zarr
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(
            MemoryStore(files),
            mode="w",
            zarr_format=3,
            attributes={**_described(plan), "variables": dumps([v.name for v in plan.variables])},
        )
        _write_points(group, plan)
        for variable in plan.variables:
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


def _attributes(variable: Variable) -> dict[str, Any]:
    found = {"long_name": variable.meaning, "kind": variable.kind}
    if variable.dtype == "i1":
        found["flag_values"] = [0, 1, 2, 3]
        found["flag_meanings"] = "missing complete failed refused"
    return found if variable.dtype == "str" else found | {"units": "1"}


def _write_points(group, plan: Plan) -> None:
    """What is swept, at every point, and the times."""
    columns = plan.columns(0, len(plan))
    for name, swept in plan.swept.items():
        column, text = columns[name], swept.quantity.kind == "text"
        array = group.create_array(
            name,
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
    system = settings.system
    return {
        "Conventions": "CF-1.11",
        "title": f"Sweep of {system.name} over {', '.join(plan.swept)}",
        "coordinates": " ".join(plan.swept),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": f"reduced_dynamics {__version__}",
        "system": system.name,
        "system_source": system.source,
        "source": settings.derivation,
        "plan": dumps(plan.identity),
        "dims": dumps(dict(zip(plan.dims, plan.shape, strict=True))),
        "scales": dumps(_scales(plan)),
        "parameters": dumps(settings.identity["parameters"]),
        "solver": dumps(settings.identity["solver"]),
        "t_end": str(settings.t_end),
        "seed": plan.seed,
        "sampling": plan.sampling if plan.ranges else "",
        "time_units": TIME_UNITS,
        "versions": dumps(versions("zarr")),
    }


def _scales(plan: Plan) -> dict[str, str]:
    """How every swept quantity is spaced: log, lin, list or text."""
    found = {r.name: r.scale for r in plan.ranges}
    for axis in plan.axes:
        parts = axis.spec.split(":")
        kind = "text" if axis.quantity.kind == "text" else "list"
        found[axis.name] = parts[2] if len(parts) == 4 else kind
    return found
