"""The systems that come with the package, by name."""

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.families.chen.system import CHEN
from reduced_dynamics.families.musat.system import MUSAT3, MUSAT19
from reduced_dynamics.families.wang.system import WANG

SYSTEMS: dict[str, ReducedSystem] = {s.name: s for s in (MUSAT19, MUSAT3, WANG, CHEN)}


def get(name: str) -> ReducedSystem:
    """A system by name.

    Raises
    ------
    InputError
        If there is none of that name (with the nearest one).
    """
    if name not in SYSTEMS:
        raise unknown("system", name, SYSTEMS)
    return SYSTEMS[name]


def resolve(system: ReducedSystem | str) -> ReducedSystem:
    """A system, or the built-in one of that name.

    Raises
    ------
    InputError
        For anything else.
    """
    if isinstance(system, str):
        return get(system)
    if not isinstance(system, ReducedSystem):
        raise InputError(f"a system is a ReducedSystem or the name of one, not {system!r}")
    return system
