"""Options shared by the commands that integrate, from the command line and from a TOML file."""

import argparse
import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.integration.problem import ATOL, DYNAMICS, METHODS, RTOL, THRESHOLD

#: Options of `integrate` by their name on the command line: numbers, and words.
_NUMBERS, _WORDS = ("rtol", "atol", "threshold", "step", "max-step"), ("method", "dynamics")
_TABLES = ("set", "clamp", "start")
_FILES = ("out", "plot", "json", "system")
#: Those that are words, not numbers.
_TEXTS = ("system", "out", "plot", *_WORDS)
#: How an option that may be given several times is declared.
REPEATABLE: dict[str, Any] = {"action": "append", "default": []}


def add_options(command) -> None:
    """The options of `run`, each with what it means."""
    add = command.add_argument
    add("--set", **REPEATABLE, metavar="K=V", help="a parameter (repeatable)")
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
    emerged = f"level at which a coordinate counts as emerged ({THRESHOLD:g})"
    add("--threshold", metavar="X", help=emerged)
    add("--clamp", **REPEATABLE, metavar="NAME=X", help="hold a coordinate fixed (repeatable)")
    add("--start", **REPEATABLE, metavar="NAME=X", help="start a coordinate elsewhere (repeatable)")
    dynamics = "gradient flow (default), or gradient descent with --step"
    add("--dynamics", metavar="|".join(DYNAMICS), help=dynamics)
    add("--step", metavar="X", help="step of gradient descent, in reduced training time")
    add("--max-step", metavar="X", help="longest step of the integrator (as long as it likes)")


def gather(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Parameters, integration options and file options from the command line and the file.

    Raises
    ------
    InputError
        For anything malformed or unknown.
    """
    values, tables = given(options, ("t-end", "at", *_NUMBERS, *_WORDS), _TABLES, _FILES)
    integration = integration_options(values)
    if values["at"] is not None:
        integration["at"] = times(values["at"])
    integration |= {k: tables[k] for k in ("clamp", "start") if tables[k]}
    return tables["set"], integration, {k: values[k] for k in _FILES}


def given(
    options: argparse.Namespace, plain: Sequence[str], tables=(), files=(), flags=("json",)
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Options and files by name, None where not given, and tables; see `read_config`.

    They are from the command line and from the file that its --config names; the former wins.

    Raises
    ------
    InputError
        For anything malformed or unknown, and an empty name of a file.
    """
    config = read_config(options.config, plain, tables, files, flags) if options.config else {}
    values = {k: getattr(options, k.replace("-", "_"), None) for k in (*plain, *files)}
    values = {k: config.get(k) if v in (None, False) else v for k, v in values.items()}
    for name in ("checkpoint", "out", "plot"):
        if values.get(name) == "":
            raise InputError(f"--{name} needs the name of a file")
    return values, {k: {**config.get(k, {}), **pairs(k, getattr(options, k))} for k in tables}


def integration_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `integrate` among those of `given`, but for times, starts and clamps."""
    found = {k: values[k] for k in (*_NUMBERS, *_WORDS) if values[k] is not None}
    found = {k: number(k, v) if k in _NUMBERS else str(v) for k, v in found.items()}
    if (t_end := values["t-end"]) is not None:
        found["t-end"] = t_end if isinstance(t_end, str) else number("t-end", t_end)
    return {k.replace("-", "_"): v for k, v in found.items()}


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


def whole(
    name: str, value: Any, least=-math.inf, most=math.inf, kind: str = "a whole number"
) -> int:
    """A whole number from `least` to `most`, from text, for option `name`."""
    found = number(name, value)
    if found != int(found) or not least <= found <= most:
        raise InputError(f"--{name} takes {kind}, not {value}")
    return int(found)


def times(value: Any, option: str = "at") -> list[float]:
    """Times, or other numbers that `option` takes, from ``"1,2,3"`` or a list."""
    parts = value.split(",") if isinstance(value, str) else value
    parts = parts if isinstance(parts, list) else [parts]
    result = [number(option, p) for p in parts]
    if not result:
        raise InputError(f"--{option} takes numbers separated by commas: --{option} 10,100,1e3")
    return result


def read_config(
    path: str, plain: Sequence[str], tables: Sequence[str], files: Sequence[str], flags
) -> Mapping[str, Any]:
    """Options from a TOML file, of which a command has these; tables such as ``[set]``.

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
