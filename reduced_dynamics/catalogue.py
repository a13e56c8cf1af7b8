"""The one list of families: those of this package, and those that others register.

Another package adds a family by an entry point of the group `GROUP` that names its record:

    [options.entry_points]
    reduced_dynamics.families =
        toy = toy_family.family:FAMILY
"""

from __future__ import annotations

import logging
from functools import cache

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
    """The families of other packages; one that fails to import is named in a line and left out."""
    from importlib.metadata import entry_points  # which takes as long as all families of ours

    found = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name in OWN:
            continue
        try:
            found.append(entry.load())
        except Exception as error:  # whatever another package's code raises
            log.warning(
                "the family %s (%s) cannot be imported and is left out: %s: %s",
                entry.name, entry.value, type(error).__name__, error,
            )  # fmt: skip
    return tuple(found)


def families() -> tuple[Family, ...]:
    """All families."""
    return own() + registered()


def _offering(kind: str, name: str) -> Family | None:
    """The family that offers something; other packages are asked only if none of ours does."""
    for group in (own, registered):
        for family in group():
            if name in getattr(family, kind):
                return family
    return None


def offered(kind: str) -> dict[str, str]:
    """References to all that families offer of a kind ("systems", "full", …), by name."""
    return {k: v for family in families() for k, v in getattr(family, kind).items()}


def find(kind: str, name: str):
    """What a family offers of a kind under a name; None if no family does."""
    family = _offering(kind, name)
    return None if family is None else load(getattr(family, kind)[name])


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


def full_model(system: ReducedSystem):
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


def experiments() -> list:
    """All experiments, family by family."""
    return [load(reference) for f in families() for reference in f.experiments.values()]


def experiment(name: str):
    """An experiment by the name of its family and its own, ``"musat.order"``.

    Raises
    ------
    InputError
        If there is none of that name (with the nearest one).
    """
    first, _, second = name.partition(".")
    for family in families():
        if family.name == first and second in family.experiments:
            return load(family.experiments[second])
    known = [f"{f.name}.{short}" for f in families() for short in f.experiments]
    raise unknown("experiment", name, [*known, "all"])
