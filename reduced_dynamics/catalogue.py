"""The one list of families: those of this package, and those that others register.

Another package adds a family by an entry point of the group `GROUP` that names its record:

    [options.entry_points]
    reduced_dynamics.families =
        toy = toy_family.family:FAMILY

Such families are asked only where none of ours has the answer: to find them takes longer than to
start this package. One that fails to import is named in a line and left out.
"""

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.family import Family, load
from reduced_dynamics.core.system import ReducedSystem

log = logging.getLogger(__name__)

#: The entry point group in which other packages name their families.
GROUP = "reduced_dynamics.families"
#: The families of this package, in the order of lists.
OWN = {
    name: f"reduced_dynamics.families.{name}.family:FAMILY" for name in ("musat", "wang", "chen")
}


@cache
def own() -> tuple[Family, ...]:
    """The families of this package."""
    return tuple(map(load, OWN.values()))


@cache
def registered() -> tuple[Family, ...]:
    """The families of other packages."""
    from importlib.metadata import entry_points

    found: list[Family] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            found.append(_accepted(entry.load(), (*own(), *found)))
        except Exception as error:  # whatever another package's code raises
            _leave_out(f"the family {entry.name} ({entry.value})", error)
    return tuple(found)


def _accepted(family: Any, others: tuple[Family, ...]) -> Family:
    if not isinstance(family, Family):
        raise TypeError(f"a family is declared by a Family, not by {type(family).__name__}")
    if family.name in {other.name for other in others}:
        raise ValueError(f"there is a family '{family.name}' already")
    for name in family.systems:
        if any(name in other.systems for other in others):
            raise ValueError(f"there is a system '{name}' already")
    return family


def _leave_out(what: str, error: Exception) -> None:
    log.warning("%s is left out: %s: %s", what, type(error).__name__, error)


def families() -> Iterator[Family]:
    """All families, ours first; the others are looked for when it is their turn."""
    yield from own()
    yield from registered()


def offered(kind: str) -> dict[str, str]:
    """References to all that families offer of a kind ("systems", "full", …), by name."""
    return {k: v for family in families() for k, v in getattr(family, kind).items()}


def everything(kind: str) -> Iterator[Any]:
    """All that families offer of a kind; what cannot be imported is named in a line."""
    for family in families():
        for name, reference in getattr(family, kind).items():
            try:
                yield load(reference)
            except Exception as error:
                if family in own():
                    raise
                _leave_out(f"{name} of the family {family.name} ({reference})", error)


def find(kind: str, name: str) -> Any:
    """What there is of a kind ("full", "pictures", …) for the system of a name; None if nothing."""
    for family in families():
        if name in family.systems or name in getattr(family, kind):
            reference = getattr(family, kind).get(name)
            return None if reference is None else _loaded(family, reference)
    return None


def _loaded(family: Family, reference: str) -> Any:
    try:
        return load(reference)
    except Exception as error:
        if family in own():
            raise
        raise InputError(
            f"{reference} of the family {family.name} cannot be imported "
            f"({type(error).__name__}: {error}); mend or uninstall the package that registers it"
        ) from error


def system(name: str) -> ReducedSystem:
    """A system by name.

    Raises
    ------
    InputError
        If there is none of that name (with the nearest one).
    """
    found = find("systems", name) if isinstance(name, str) else None
    if found is None:
        raise unknown("system", str(name), offered("systems"))
    return found


def resolve(given: ReducedSystem | str) -> ReducedSystem:
    """A system, or that of a name.

    Raises
    ------
    InputError
        For anything else.
    """
    if isinstance(given, str):
        return system(given)
    if not isinstance(given, ReducedSystem):
        raise InputError(f"a system is a ReducedSystem or the name of one, not {given!r}")
    return given


def full_model(system: ReducedSystem) -> Any:
    """The full model of a system.

    Raises
    ------
    InputError
        If there is none.
    """
    found = find("full", system.name)
    if found is None:
        raise InputError(
            f"there is no full model of {system.name}, but of {', '.join(offered('full'))}"
        )
    return found


def experiment(name: str) -> Any:
    """An experiment by the name of its family and its own, ``"musat.order"``.

    Raises
    ------
    InputError
        If there is none of that name (with the nearest one).
    """
    first, _, second = name.partition(".")
    for family in families():
        if family.name == first and second in family.experiments:
            return _loaded(family, family.experiments[second])
    known = [f"{f.name}.{short}" for f in families() for short in f.experiments]
    raise unknown("experiment", name, [*known, "all"])


def experiments() -> list[Any]:
    """All experiments, family by family."""
    return list(everything("experiments"))
