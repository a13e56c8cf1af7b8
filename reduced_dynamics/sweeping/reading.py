"""Opening a sweep: the grid's dimensions, what is missing, and a summary in bounded memory."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.sweeping import damage, layout, ragged, store
from reduced_dynamics.sweeping.variables import COMPLETE, FAILED, MISSING, REASON, REFUSED, STATUS

if TYPE_CHECKING:
    import xarray

#: Datasets below this size (bytes) are read at once, larger ones piece by piece as needed.
AT_ONCE = 64 << 20


class IncompleteSweep(UserWarning):
    """Some points of a sweep have not been computed yet."""


def open_sweep(path) -> xarray.Dataset:
    """The results of a sweep, along the dimensions of its grid.

    Parameters
    ----------
    path : str or os.PathLike
        A directory ``NAME.zarr``.

    Returns
    -------
    xarray.Dataset
        Events bear their names, the state at the end is ``final_NAME``, its loss ``final_loss``;
        the attribute `kind` of every variable says which of these it is. A grid gives one
        dimension for every axis, samples the dimension "sample" (or "point" without a grid).
        Training times are reduced and dimensionless. Large results are dask arrays, read when
        they are used. As it lies on the disk, with all points along one dimension, it is opened
        by ``xarray.open_zarr(path)``.

    Warns
    -----
    IncompleteSweep
        If points are missing; they are nan, and ``attrs["missing"]`` says which.

    Raises
    ------
    InputError
        If there is no sweep at `path`, or something in it is damaged. Of large results, checksums
        are verified only as they are read (and Zarr then raises a ValueError).
    """
    import xarray

    path = path_of(path)
    about = store.attributes(path)
    names = json.loads(about["variables"])
    if about["format_version"] > 1:
        damage.check(path, (), _coordinates(about), contents=True)
    with damage.reading(path, damage.ROOT):
        found = xarray.open_zarr(path, chunks=None, consolidated=True)[names]
        at_once = found.nbytes < AT_ONCE
    if about["format_version"] > 1:
        damage.check(path, names, {}, contents=at_once)
    if at_once:
        for name in found.variables:
            with damage.reading(path, str(name)):
                found[name].load()
    else:
        found = xarray.open_zarr(path, consolidated=True)[names]
    dims = json.loads(about["dims"])
    if list(dims) != ["sample"]:
        found = _along(found, dims, {n for n in dims if n != "sample"})
    missing = _missing(path, found)
    if missing:
        found.attrs["missing"] = missing
        warnings.warn(
            f"'{path}' is incomplete: {missing}; the command that made it, with --resume, "
            "computes the rest",
            IncompleteSweep,
            stacklevel=2,
        )
    return found


def _coordinates(about) -> dict[str, int]:
    """What is swept, and in how many chunks it lies on the disk."""
    points = math.prod(json.loads(about["dims"]).values())
    found = dict.fromkeys(about["coordinates"].split(), -(-points // layout.CHUNK))
    return found | ({"at": 1} if json.loads(about["plan"])["at"] else {})


def sweep_trajectory(path, point: int) -> Trajectory:
    """The trajectory of one point of a sweep that kept them.

    Parameters
    ----------
    path : str or os.PathLike
        The store.
    point : int
        Its number, in the order of the dimension "point" of the store.

    Raises
    ------
    InputError
        If there is none: not kept, not computed yet, refused, damaged, or out of range.
    """
    path = path_of(path)
    about = store.attributes(path)
    identity, sizes = json.loads(about["plan"]), json.loads(about["dims"]).values()
    if "trajectory" not in identity["keep"]:
        raise InputError(f"'{path}' has no trajectories; keep them with --keep events,trajectory")
    if not 0 <= point < math.prod(sizes):
        raise InputError(f"'{path}' has no point {point}; they are numbered from 0")
    block, place = divmod(point, identity["block"])
    name = f"{ragged.FOLDER}/{block}"
    if not (path / name).is_dir():
        raise InputError(f"point {point} of '{path}' has not been computed")
    if about["format_version"] > 1 and not ragged.intact(path, block):
        raise damage.refusal(path, name)
    with damage.reading(path, name):
        found = ragged.read(path, block, place)
    if found is None:
        raise InputError(f"point {point} of '{path}' has no trajectory; see its `reason`")
    return found


def path_of(path) -> Path:
    """A path, of whatever kind paths are."""
    try:
        return Path(path)
    except TypeError:
        raise InputError(f"a sweep is a directory NAME.zarr, not {path!r}") from None


def _along(flat, dims: dict[str, int], axes: set[str]) -> xarray.Dataset:
    """The flat dataset with its points laid out along the axes of the grid."""
    import xarray

    shape = tuple(dims.values())
    coordinates, data = {}, {}
    for name, variable in flat.variables.items():
        if "point" not in variable.dims:
            coordinates[name] = variable
            continue
        values = variable.data.reshape((*shape, *variable.shape[1:]))
        if name in axes:
            at = list(dims).index(name)
            index = tuple(slice(None) if k == at else 0 for k in range(len(shape)))
            coordinates[name] = ((name,), np.asarray(values[index]), variable.attrs)
        elif name in flat.coords:  # sampled, and the same at every point of the grid
            index = (*(0,) * (len(shape) - 1), slice(None))
            coordinates[name] = (("sample",), np.asarray(values[index]), variable.attrs)
        else:
            data[name] = ((*dims, *variable.dims[1:]), values, variable.attrs)
    return xarray.Dataset(data, coordinates, flat.attrs)


def _missing(path: Path, found) -> str:
    status = np.asarray(found[STATUS].values).ravel()
    gaps = np.flatnonzero(status == MISSING)
    if not len(gaps):
        return ""
    edges = np.flatnonzero(np.diff(gaps) > 1)
    first, last = gaps[np.r_[0, edges + 1]], gaps[np.r_[edges, len(gaps) - 1]]
    spans = [f"{a}..{b}" for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    shown = ", ".join(spans[:3]) + (f" and {len(spans) - 3} more ranges" if len(spans) > 3 else "")
    return f"{len(gaps)} of {len(status)} points are missing, numbers {shown}"


def stored(path) -> str:
    """How much of a sweep is stored, in words."""
    import zarr

    with damage.reading(Path(path), STATUS):
        status = zarr.open_group(str(path), mode="r")[STATUS][:]
    done = int((status != MISSING).sum())
    return "complete" if done == len(status) else f"{done} of {len(status)} points"


@dataclass
class Summary:
    """Counts of a sweep.

    Attributes
    ----------
    points, complete, failed, refused, missing : int
    reasons : Counter
        How many points are incomplete for which reason. Reasons that differ in numbers only are
        one, and the first of them stands for all.
    events : dict of str to dict
        For every event (or other number of kind "events"): how many points reached it, and its
        least and largest time.
    """

    points: int = 0
    complete: int = 0
    failed: int = 0
    refused: int = 0
    missing: int = 0
    reasons: Counter = field(default_factory=Counter)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)


_NUMBER = re.compile(r"(?<![A-Za-z_\d])-?\d+(\.\d+)?(e[+-]?\d+)?")


def summary(path) -> Summary:
    """What came of a sweep, read block by block.

    Raises
    ------
    InputError
        If there is no sweep at `path`, or what is counted is damaged.
    """
    import zarr

    path = path_of(path)
    about = store.attributes(path)
    names = json.loads(about["variables"])
    with damage.reading(path, damage.ROOT):
        group = zarr.open_group(str(path), mode="r")
        status = group[STATUS]
        events = [n for n in names if group[n].attrs["kind"] == "events"]
    if about["format_version"] > 1:
        damage.check(path, [*events, REASON], {}, contents=False)
    found = Summary(points=status.shape[0])
    first_of: dict[str, str] = {}
    lows, highs = dict.fromkeys(events, np.inf), dict.fromkeys(events, -np.inf)
    reached = dict.fromkeys(events, 0)
    size = max(status.chunks[0], 1 << 16) // status.chunks[0] * status.chunks[0]
    for first in range(0, found.points, size):
        part = slice(first, first + size)
        with damage.reading(path, STATUS):
            states = status[part]
        found.complete += int((states == COMPLETE).sum())
        found.failed += int((states == FAILED).sum())
        found.refused += int((states == REFUSED).sum())
        found.missing += int((states == MISSING).sum())
        if ((states == FAILED) | (states == REFUSED)).any():
            bad = (states == FAILED) | (states == REFUSED)
            with damage.reading(path, REASON):
                texts = np.asarray(group[REASON][part], dtype=object)[bad]
            for text in map(str, texts):
                found.reasons[first_of.setdefault(_NUMBER.sub("…", text), text)] += 1
        for name in events:
            with damage.reading(path, name):
                times = group[name][part]
            times = times[np.isfinite(times)]
            if len(times):
                reached[name] += len(times)
                lows[name] = min(lows[name], float(times.min()))
                highs[name] = max(highs[name], float(times.max()))
    for name in events:
        known = reached[name] > 0
        found.events[name] = {
            "reached": reached[name],
            "min": lows[name] if known else None,
            "max": highs[name] if known else None,
        }
    return found
