"""What notebooks call, by names: systems and full models are looked up here."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING

from reduced_dynamics import catalogue
from reduced_dynamics.core.system import ReducedSystem
from reduced_dynamics.sweeping import run

if TYPE_CHECKING:
    import xarray


@wraps(run.sweep)
def sweep(system: ReducedSystem | str, *, full: bool = False, **arguments) -> xarray.Dataset:
    system = catalogue.resolve(system)
    return run.sweep(system, full=catalogue.full_model(system) if full else None, **arguments)
