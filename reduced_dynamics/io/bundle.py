"""Nested numbers, arrays and trajectories as bytes, and back: what parts of an experiment leave."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.io.jsonable import dumps, exact, loads
from reduced_dynamics.io.parts import assemble, disassemble

_FORMAT = "reduced_dynamics bundle 1"


def encode(value: Any) -> bytes:
    """A value of mappings (with texts for keys), lists, numbers, texts, None, numpy arrays and
    trajectories as the content of an ``.npz`` file; nothing is pickled.

    Raises
    ------
    InputError
        If there is something else in it.
    """
    arrays: list[np.ndarray] = []

    def held(array) -> dict[str, int]:
        arrays.append(np.asarray(array))
        return {"$array": len(arrays) - 1}

    def taken_apart(value):
        match value:
            case Trajectory():
                header, parts = disassemble(value)
                named = {k: held(v) for k, v in parts.items()}
                names = [c.name for c in value.crossings]
                return {"$trajectory": {"header": header, "names": names, "arrays": named}}
            case np.ndarray():
                return held(value)
            case Mapping():
                return {str(k): taken_apart(v) for k, v in value.items()}
            case list() | tuple():
                return [taken_apart(v) for v in value]
        return exact(value)

    tree = dumps(taken_apart(value))
    content = io.BytesIO()
    columns = {f"a{k}": array for k, array in enumerate(arrays)}
    np.savez(content, format=_FORMAT, tree=tree, **columns)
    return content.getvalue()


def decode(content: bytes) -> Any:
    """What `encode` was given; lists for tuples.

    Raises
    ------
    InputError
        If these bytes are damaged or something else.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            saved = dict(file)
        if str(saved["format"]) != _FORMAT:
            raise ValueError

        def together(value):
            match value:
                case {"$array": int(k)}:
                    return saved[f"a{k}"]
                case {"$trajectory": found}:
                    arrays = {k: saved[f"a{v['$array']}"] for k, v in found["arrays"].items()}
                    return assemble(found["header"], found["names"], arrays)
                case dict():
                    return {k: together(v) for k, v in value.items()}
                case list():
                    return [together(v) for v in value]
            return value

        return together(loads(str(saved["tree"])))
    except Exception:
        # Whatever numpy and zipfile raise on bytes that are not what they expect.
        raise InputError("this is no bundle of results, or it is damaged") from None
