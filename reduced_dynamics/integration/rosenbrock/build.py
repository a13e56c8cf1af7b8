"""The module that holds a system and the integrator compiled together, from the cache or made."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from reduced_dynamics.compilation import cache
from reduced_dynamics.compilation.compiled import CompiledModule, CompiledSystem
from reduced_dynamics.core.identity import identity
from reduced_dynamics.core.system import ReducedSystem

log = logging.getLogger(__name__)

#: What makes the module from a system's.
SOURCES = ("reduced_dynamics.compilation.lanes", "reduced_dynamics.integration.rosenbrock.source")

_STATE, _TABLE, _CUBE = "float64[::1]", "float64[:, ::1]", "float64[:, :, ::1]"
_INTS, _FLAGS, _INT_TABLE = "int64[::1]", "boolean[::1]", "int64[:, ::1]"

_TIMES = f"Tuple(({_STATE}, {_TABLE}))"
#: What is watched, and results of an ensemble; see `kernel.march_points`.
_EVENTS = f"Tuple(({_INTS}, {_STATE}, {_FLAGS}, {_INTS}, {_FLAGS}))"
_LIMITS = f"Tuple(({_STATE}, float64, float64, int64))"
_RESULTS = f"Tuple(({_TABLE}, {_TABLE}, {_TABLE}, {_INT_TABLE}, {_INTS}, {_STATE}))"

SIGNATURES = {
    "march": (
        _STATE, _STATE, _INTS, _STATE, _FLAGS,
        f"Tuple(({_INTS}, {_STATE}, {_INTS}, {_STATE}, boolean))",
        "Tuple((float64, float64, float64, float64, int64))",
        _TIMES, f"Tuple(({_STATE}, {_CUBE}, {_TABLE}))",
        f"Tuple(({_INTS}, {_STATE}, {_INTS}, {_TABLE}))",
    ),
    "march_points": (
        _INTS, _TABLE, _STATE, _INTS, _FLAGS, _EVENTS, _LIMITS, _STATE, _CUBE, _RESULTS,
    ),
    "march_lanes": (_INTS, _TABLE, _STATE, _INTS, _EVENTS, _LIMITS, _RESULTS),
}  # fmt: skip


class Integrator(CompiledModule):
    """The functions of `kernel`, and where possible `lanes`, compiled together with a system.

    With `chart`, states are those of the chart (`chart`), there are no lanes, and
    what is watched and recorded as values are loss, observables and coordinates.

    Attributes
    ----------
    lane_applies : callable or None
        Whether packed parameters allow `march_lanes`; None where no parameters do.
    lane_shared : callable or None
        Of packed parameters, what points that share lanes must have in common; None if nothing.
    """

    signatures = SIGNATURES

    def __init__(
        self,
        system: ReducedSystem,
        values: Mapping[str, Any],
        compiled: CompiledSystem,
        chart: bool = False,
    ):
        key = cache.key(identity(*SOURCES), str(chart))
        name = f"{compiled.name}-rodas5p-{key[:8]}"

        def build() -> str:
            log.info("making the integrator of %s (once; kept in the cache)", system.name)
            from reduced_dynamics.compilation.lanes import lane_source
            from reduced_dynamics.integration.rosenbrock.source import in_chart, module_source

            size, n_values = len(system.names), 1 + len(compiled.observables)
            if chart:
                inserted = in_chart(n_values)
                return module_source(compiled.text, size, n_values + size, chart=inserted)
            derivation = system.derive(values)
            return module_source(
                compiled.text, size, n_values, lane_source(derivation), len(derivation.parameters)
            )

        super().__init__(name, build)
        self.lane_applies = getattr(self._module, "lane_applies", None)
        self.lane_shared = getattr(self._module, "lane_shared", None)


_INTEGRATORS: dict[str, Integrator] = {}


def integrator(
    system: ReducedSystem, values: Mapping[str, Any], compiled: CompiledSystem, chart: bool = False
) -> Integrator:
    """The integrator of a compiled system, or of its chart, shared within the process."""
    key = f"{compiled.source}\0{chart}\0{cache.directory()}"
    if key not in _INTEGRATORS:
        _INTEGRATORS[key] = Integrator(system, values, compiled, chart)
    return _INTEGRATORS[key]
