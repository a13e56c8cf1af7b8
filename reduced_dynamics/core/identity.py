"""What results follow from, as a hash: sources, found by their imports, and versions.

`identity` reads modules and never imports them: running a compiled system loads no SymPy. Imports
inside functions count, and so do modules that stand in strings (generated code imports by name);
nothing is asked of how a file is called or where it lies. A package's own file counts where
something is imported from it, not for every module inside.
"""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

#: Packages whose modules are followed, besides those of the roots.
FOLLOWED = ("reduced_dynamics", "derivations")
#: Whose versions count.
VERSIONS = ("sympy", "numba", "numpy", "python")

#: Names after ``import``, and what stands before it where they come from a module. Patterns that
#: begin with a word are found fast: every process reads some 200 kB.
_IMPORT = re.compile(r"import\b[ \t]*(\([^)]*\)|[^\n\\;\"'()]*)")
_FROM = re.compile(r"from[ \t]+(\.*[\w.]*)[ \t]+$")
_COMMENT = re.compile(r"#[^\n]*")
_NAME = re.compile(r"([\w.]+)(?:[ \t]+as[ \t]+\w+)?")


def identity(*roots: str | Callable) -> str:
    """Hash of all sources that the roots depend on, and of versions.

    Parameters
    ----------
    roots : str or callable
        Names of modules; or functions, which stand for their own code and what it imports.

    Returns
    -------
    str

    Raises
    ------
    ModuleNotFoundError
        If a root, given by name, is no module of a package that can be found.
    """
    digest = hashlib.sha256()
    names = [root for root in roots if isinstance(root, str)]
    for root in roots:
        if not isinstance(root, str):
            said, more = _of_function(root, set())
            digest.update("\0".join(said).encode() + b"\0")
            names += more
    digest.update(_of_modules(tuple(sorted({*names}))).encode())
    for package in VERSIONS:
        digest.update(f"{package} {_version(package)}\0".encode())
    return digest.hexdigest()


def modules(*roots: str) -> dict[str, Path]:
    """The files of the roots and of every module that they import, by the modules' names.

    Raises
    ------
    ModuleNotFoundError
        If a root is no module of a package that can be found.
    """
    packages = tuple(sorted({*FOLLOWED, *(root.partition(".")[0] for root in roots)}))
    found: dict[str, Path] = {}
    ahead = [*roots]
    for root in roots:
        if _file(root) is None:
            raise ModuleNotFoundError(f"no module named '{root}'")
    while ahead:
        name = ahead.pop()
        if name not in found:
            found[name] = Path(_file(name))
            ahead += _imports(name, packages)
    return dict(sorted(found.items()))


@cache
def _of_modules(names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name, path in modules(*names).items():
        digest.update(name.encode() + b"\0" + _read(str(path)) + b"\0")
    return digest.hexdigest()


@cache
def _version(package: str) -> str:
    if package == "python":
        return sys.version
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


# ---------------------------------------------------------------- modules


@cache
def location(package: str) -> str | None:
    """The folder of a package, or the file of a module at the top; not imported."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if folders := spec.submodule_search_locations:  # also of a package without __init__.py
        return str(Path(next(iter(folders))))
    return spec.origin if spec.has_location else None


@cache
def _file(name: str) -> str | None:
    """The source of a module, None if there is no such module."""
    top, _, rest = name.partition(".")
    if not top or (place := location(top)) is None:
        return None
    if place.endswith(".py"):
        return None if rest else place
    path = os.path.join(place, *rest.split(".")) if rest else place
    for candidate in (f"{path}.py", os.path.join(path, "__init__.py")):
        if os.path.isfile(candidate):
            return candidate
    return None


@cache
def _read(path: str) -> bytes:
    return Path(path).read_bytes()


@cache
def _imports(name: str, packages: tuple[str, ...]) -> tuple[str, ...]:
    """The modules of the packages that a module's source names in an import or in a string."""
    path = _file(name)
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    text = _read(path).decode()
    named = []
    for match in _IMPORT.finditer(text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        given = _NAME.findall(_COMMENT.sub("", match[1]))
        if origin := _FROM.search(line):
            home = _absolute(origin[1], package)
            named += [f"{home}.{n}" for n in given] or [home]
        else:
            named += given
    for top in packages:
        mentions = re.finditer(rf"{top}(?:\.\w+)+", text)
        named += [m[0] for m in mentions if text[m.start() - 1] in "\"'"]
    within = {n for n in named if n.partition(".")[0] in packages}
    return tuple(sorted({*map(_module, within)} - {name, None}))


def _absolute(origin: str, package: str) -> str:
    """A module's full name from that in an import, which may begin with dots."""
    name = origin.lstrip(".")
    if name == origin:
        return name
    above = package.split(".")
    above = above[: len(above) + 1 - (len(origin) - len(name))]
    return ".".join([*above, name] if name else above)


@cache
def _module(name: str) -> str | None:
    """The module that a dotted name names, or in which it lies one deep; None if there is none."""
    home = name.rpartition(".")[0]
    return next((m for m in (name, home) if m and _file(m)), None)


# ---------------------------------------------------------------- functions


def _of_function(function: Any, seen: set) -> tuple[list[str], list[str]]:
    """What a function's own code says, and the modules that it depends on.

    Functions beside it, in the same module, are followed; of another module all counts. What it
    reads of its own module that is no function makes that module count.
    """
    if isinstance(function, partial):
        said, names = _of_function(function.func, seen)
        return [*said, repr(function.args), repr(sorted(function.keywords.items()))], names
    if isinstance(function, MethodType):
        function = function.__func__
    if not isinstance(function, FunctionType):
        kind = function if isinstance(function, type) else type(function)
        return [kind.__qualname__], [kind.__module__] if _file(kind.__module__) else []
    if function in seen:
        return [], []
    seen.add(function)
    said, names = [], []
    words = set()
    for code in _codes(function.__code__):
        plain = [_plain(c) for c in code.co_consts if not isinstance(c, CodeType)]
        plain = plain[function.__doc__ is not None and code is function.__code__ :]
        said += [code.co_code.hex(), repr(plain), repr(code.co_names)]
        words |= {*code.co_names}
    used = [function.__globals__[w] for w in sorted(words & function.__globals__.keys())]
    for cell in function.__closure__ or ():
        if isinstance(cell.cell_contents, FunctionType):
            used.append(cell.cell_contents)
    names += [word for word in sorted(words) if "." in word and _file(word)]
    for value in used:
        if isinstance(value, ModuleType):
            names += [value.__name__] if _file(value.__name__) else []
        elif isinstance(value, FunctionType) and value.__module__ == function.__module__:
            more, further = _of_function(value, seen)
            said, names = said + more, names + further
        else:
            home = getattr(value, "__module__", None) or function.__module__
            names += [home] if _file(home) else []
    return said, names


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _plain(constant: Any) -> Any:
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
