"""Values as JSON has them: numpy's as Python's own; the three floats that JSON does not know."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError


def plain(value: Any) -> Any:
    """What a program reads: null for infinities and NaN, [real, imaginary] for complex numbers.

    Raises
    ------
    InputError
        For what is neither number nor text, nor a list or mapping of these.
    """
    return _walk(value, lambda _: None, lambda z: [plain(z.real), plain(z.imag)])


def exact(value: Any) -> Any:
    """What `loads` gives back as it was: infinities and NaN become ``{"$float": "inf"}``.

    Raises
    ------
    InputError
        As `plain`, and for complex numbers.
    """
    return _walk(value, lambda x: {"$float": repr(float(x))}, _refused)


def printed(value: Any) -> str:
    """The one object that a command prints with ``--json``."""
    return json.dumps(plain(value), indent=1, allow_nan=False)


def dumps(value: Any) -> str:
    """JSON that people can read: a lone surrogate is the only character that needs an escape."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def loads(text: str | bytes) -> Any:
    """What `dumps` was given, if that was `exact`."""

    def revive(found):
        return float(found["$float"]) if found.keys() == {"$float"} else found

    return json.loads(text, object_hook=revive)


def layout(document: Mapping[str, Any]) -> str:
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


def _walk(value: Any, special: Callable[[float], Any], compound: Callable[[complex], Any]) -> Any:
    match value:
        case np.generic() | np.ndarray():
            return _walk(value.tolist(), special, compound)
        case Mapping():
            return {str(k): _walk(v, special, compound) for k, v in value.items()}
        case list() | tuple():
            return [_walk(v, special, compound) for v in value]
        case complex():
            return compound(value)
        case float() if not math.isfinite(value):
            return special(value)
        case None | bool() | int() | float() | str():
            return value
    return _refused(value)


def _refused(value: Any) -> None:
    raise InputError(
        f"{value!r} ({type(value).__name__}) cannot be stored in a file; "
        "use numbers, text, lists and mappings for parameters and settings"
    )
