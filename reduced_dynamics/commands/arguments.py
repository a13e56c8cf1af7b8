"""Options shared by the commands that integrate, from the command line and from a TOML file."""

import argparse
import math
import tomllib
from collections.abc import Mapping
from typing import Any

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.integration.problem import ATOL, DYNAMICS, METHODS, RTOL, THRESHOLD

#: Options of `integrate` by their name on the command line.
_PLAIN = ("t-end", "method", "rtol", "atol", "threshold", "dynamics", "step", "max-step", "at")
_TABLES = ("set", "clamp", "start")
_FILES = ("out", "plot", "json", "system")
#: Those that are words, not numbers.
_TEXTS = ("system", "method", "dynamics", "out", "plot")


def add_options(command) -> None:
    """The options of `run`, each with what it means."""
    add = command.add_argument
    add("--set", action="append", default=[], metavar="K=V", help="a parameter (repeatable)")
    add("--config", metavar="FILE.toml", help="the same options from a file; these here win")
    add(
        "--t-end",
        metavar="EXPR",
        help="horizon in reduced training time, arithmetic over the parameters such as 8*N**2, "
        "or 'auto' (default): until the head has formed and the loss has settled",
    )
    add("--at", metavar="T1,T2,...", help="report the state at these times")
    add(
        "--method",
        metavar="|".join(METHODS),
        help="scipy's stiff integrators (LSODA), or Rodas5P, compiled with the system",
    )
    add("--rtol", metavar="X", help=f"relative tolerance of the trajectory ({RTOL:g})")
    add("--atol", metavar="X", help=f"absolute tolerance of the trajectory ({ATOL:g})")
    add(
        "--threshold",
        metavar="X",
        help=f"level at which a coordinate counts as emerged ({THRESHOLD:g})",
    )
    add(
        "--clamp",
        action="append",
        default=[],
        metavar="NAME=X",
        help="hold a coordinate fixed (repeatable)",
    )
    add(
        "--start",
        action="append",
        default=[],
        metavar="NAME=X",
        help="start a coordinate elsewhere (repeatable)",
    )
    add(
        "--dynamics",
        metavar="|".join(DYNAMICS),
        help="gradient flow (default), or gradient descent with --step",
    )
    add("--step", metavar="X", help="step of gradient descent, in reduced training time")
    add("--max-step", metavar="X", help="longest step of the integrator (as long as it likes)")


def gather(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Parameters, integration options and file options from the command line and the file.

    Raises
    ------
    InputError
        For anything malformed or unknown.
    """
    config = read_config(options.config) if options.config else {}
    given = {k: getattr(options, k.replace("-", "_"), None) for k in (*_PLAIN, *_FILES)}
    merged = {k: v for k, v in config.items() if k not in _TABLES}
    for name in ("out", "plot"):
        if given[name] == "":
            raise InputError(f"--{name} needs the name of a file")
    merged |= {k: v for k, v in given.items() if v not in (None, False)}
    tables = {k: dict(config.get(k, {})) | pairs(k, getattr(options, k)) for k in _TABLES}
    integration: dict[str, Any] = {}
    for name in _PLAIN:
        if name not in merged:
            continue
        value = merged[name]
        key = name.replace("-", "_")
        if name == "at":
            integration[key] = times(value)
        elif name in ("rtol", "atol", "threshold", "step", "max-step"):
            integration[key] = number(name, value)
        elif name == "t-end":
            integration[key] = value if isinstance(value, str) else number(name, value)
        else:
            integration[key] = str(value)
    integration |= {k: tables[k] for k in ("clamp", "start") if tables[k]}
    return tables["set"], integration, {k: merged.get(k) for k in _FILES}


def pairs(option: str, texts: list[str]) -> dict[str, str]:
    """``["N=8", ...]`` as a mapping; a name given twice must agree with itself."""
    result: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not (name and equals and value):
            raise InputError(f"--{option} takes NAME=VALUE, not '{text}'")
        if result.get(name, value) != value:
            raise InputError(f"--{option} {name} is given twice, as {result[name]} and {value}")
        result[name] = value
    return result


def number(name: str, value: Any) -> float:
    """A finite number from text, for option `name`."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"--{name} takes a number, not '{str(value)[:40]}'") from None
    if not math.isfinite(result) or isinstance(value, bool):
        raise InputError(f"--{name} takes a finite number, not {value}")
    return result


def times(value: Any, option: str = "at") -> list[float]:
    """Times, or other numbers that `option` takes, from ``"1,2,3"`` or a list."""
    parts = value.split(",") if isinstance(value, str) else value
    parts = parts if isinstance(parts, list) else [parts]
    result = [number(option, p) for p in parts]
    if not result:
        raise InputError(f"--{option} takes numbers separated by commas: --{option} 10,100,1e3")
    return result


def read_config(
    path: str, plain=_PLAIN, tables=_TABLES, files=_FILES, flags=("json",)
) -> Mapping[str, Any]:
    """Options from a TOML file; ``[set]``, ``[clamp]`` and ``[start]`` are tables.

    Another command than `run` says which options, tables, files and flags it has.

    Raises
    ------
    InputError
        If the file cannot be read, is not TOML or holds an unknown option.
    """
    try:
        with open(path, "rb") as file:
            config = tomllib.load(file)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise InputError(f"{path} is not valid TOML: nested too deeply") from None
    known = (*plain, *tables, *files)
    result = {}
    for key, value in config.items():
        name = key.replace("_", "-")
        if name not in known:
            raise unknown(f"option in {path}", key, known)
        if (name in tables) != isinstance(value, dict):
            kind = "a table" if name in tables else "a value"
            raise InputError(f"in {path}, {key} must be {kind}")
        if name in result:
            raise InputError(f"in {path}, {name} is given twice; keep one")
        expected = bool if name in flags else str if name in _TEXTS else None
        if expected and not isinstance(value, expected):
            kind = "true or false" if expected is bool else "text in quotes"
            raise InputError(f"in {path}, {key} must be {kind}, not {value!r}")
        result[name] = value
    return result
