"""The state of a training, whole and frozen, and its file."""

import dataclasses
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.io import files
from reduced_dynamics.training.optimisers import Arrays
from reduced_dynamics.training.recorder import Row
from reduced_dynamics.training.settings import Settings

_FORMAT = "reduced_dynamics checkpoint 2"


@dataclass(frozen=True, eq=False)
class State:
    """Everything that the rest of training depends on, before step `step`."""

    step: int
    weights: Arrays
    memory: Arrays
    rng: dict[str, Any]
    rows: tuple[Row, ...] = ()


def save(path, name: str, settings: Settings, state: State) -> None:
    """Write the state of a training of model `name`, whole or not at all.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    content = io.BytesIO()
    np.savez(
        content,
        format=_FORMAT,
        config=json.dumps(_identity(name, settings)),
        step=state.step,
        rng=json.dumps(state.rng),
        columns=np.array(list(state.rows[0]) if state.rows else [], dtype=str),
        rows=np.array([list(row.values()) for row in state.rows], dtype=float),
        **{f"weights{i}": w for i, w in enumerate(state.weights)},
        **{f"memory{i}": m for i, m in enumerate(state.memory)},
    )
    files.write(path, content.getvalue())


def load(path, name: str, settings: Settings) -> State:
    """The state in a file, its weights as a plain tuple.

    Raises
    ------
    InputError
        If the file is no checkpoint, or one of another model or of other settings.
    """
    content = files.read(path)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            saved = dict(file)
        if str(saved["format"]) != _FORMAT:
            raise ValueError
        config = json.loads(str(saved["config"]))
        columns = saved["columns"].tolist()
        state = State(
            int(saved["step"]),
            _numbered(saved, "weights"),
            _numbered(saved, "memory"),
            json.loads(str(saved["rng"])),
            tuple(dict(zip(columns, row, strict=True)) for row in saved["rows"].tolist()),
        )
    except Exception:
        # Whatever numpy and zipfile raise on bytes that are not what they expect.
        raise InputError(
            f"'{path}' is not a checkpoint of this package, or is damaged; name another file, or "
            "delete it to start anew"
        ) from None
    for setting, value in _identity(name, settings).items():
        if config.get(setting) != value:
            raise InputError(
                f"the checkpoint '{path}' was made with {setting} = {config.get(setting)!r}, not "
                f"{value!r}; use the same settings, or another file to start anew"
            )
    return state


def _identity(name: str, settings: Settings) -> dict[str, Any]:
    """Model and settings as they come back from a file."""
    found = {"model": name, **dataclasses.asdict(settings)}
    return json.loads(json.dumps(found, default=lambda number: number.item()))


def _numbered(arrays: dict[str, np.ndarray], name: str) -> Arrays:
    count = sum(key.startswith(name) for key in arrays)
    return tuple(arrays[f"{name}{i}"] for i in range(count))
