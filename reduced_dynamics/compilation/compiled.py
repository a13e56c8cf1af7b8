"""A system's compiled functions, from the cache or derived and compiled on the spot."""

import logging
import re
import types
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from reduced_dynamics.compilation import cache
from reduced_dynamics.core.errors import CacheWarning, InputError
from reduced_dynamics.core.identity import identity
from reduced_dynamics.core.system import ReducedSystem

log = logging.getLogger(__name__)

#: The module that makes modules; what it depends on lowers, prints and decorates.
PRINTER = "reduced_dynamics.compilation.module"

_STATE = "float64[::1]"
_TABLE = "float64[:, ::1]"

#: The signature under which each generated function is compiled.
SIGNATURES = {
    "values": (_STATE, _STATE, _STATE),
    "gradient": (_STATE, _STATE, _STATE),
    "flow": ("float64", _STATE, _STATE),
    "jacobian": ("float64", _STATE, _STATE),
    "value_table": (_TABLE, _STATE),
    "invariants": (_TABLE, _STATE),
    "descend": (_STATE, _STATE, "float64", "int64", "boolean[::1]"),
    # Of a derivation with a chart.
    "chart_flow": ("float64", _STATE, _STATE),
    "chart_jacobian": ("float64", _STATE, _STATE),
    "to_chart": (_TABLE, _STATE),
    "from_chart": (_TABLE, _STATE),
}


class CompiledModule:
    """A generated module in the cache; what is in `signatures` is compiled when it is first used.

    Attributes
    ----------
    name : str
        Under which the module is kept.
    """

    #: The signature under which each function is compiled.
    signatures: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, name: str, build: Callable[[], str]):
        self.name = name
        self._module = cache.load(name, build)

    @property
    def text(self) -> str:
        """The module's source."""
        return self._module.SOURCE

    @property
    def path(self) -> Path:
        """The generated module, to be read."""
        return Path(self._module.__file__)

    def __getattr__(self, name: str) -> types.FunctionType:
        """A function of `signatures`, compiled once."""
        if name not in self.signatures:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        function = self._function(name)
        setattr(self, name, function)
        return function

    def _function(self, name: str) -> types.FunctionType:
        from numba import config
        from numba.core.sigutils import normalize_signature

        if config.DISABLE_JIT:
            raise InputError("NUMBA_DISABLE_JIT is set, and this package compiles; unset it")
        arguments, _ = normalize_signature(f"({', '.join(self.signatures[name])})")
        with cache.alone(self.path.parent):
            return self._compile(name, arguments)

    def _compile(self, name: str, arguments: tuple) -> types.FunctionType:
        """Compiled for these types, or read from the cache."""
        if not any(self.path.parent.glob(f"__pycache__/module.{name}-*.nbi")):
            log.info("compiling %s of %s (once; kept in the cache)", name, self.name.split("-")[0])

        def compiled() -> types.FunctionType:
            function = getattr(self._module, name)
            function.compile(arguments)
            function.disable_compile()
            return function

        text = self._module.SOURCE
        try:
            function = compiled()
        except Exception:
            # numba cannot read what lies in the cache: once more, from nothing.
            with suppress(OSError):
                cache.discard_compiled(self.path.parent)
            self._module = cache.execute(self.name, text, self.path)
            try:
                function = compiled()
            except OSError as error:
                warnings.warn(
                    f"the cache {self.path.parent} cannot be used ({error}); compiling for this "
                    "process only",
                    CacheWarning,
                    stacklevel=3,
                )
                self._module = cache.execute(self.name, cache.uncached(text), self.path)
                return compiled()
        if function.stats.cache_misses:
            cache.seal(self.path.parent)
        return function


class CompiledSystem(CompiledModule):
    """The compiled functions of a system with given structure.

    Each attribute named in `SIGNATURES` is a numba function, compiled (or read from the cache) at
    its first use; see `module` for what they compute. Parameters are an
    argument: one compiled system serves every value.

    Attributes
    ----------
    source : str
        Hash of the derivation, and of what makes a module of it.
    observables : tuple of str
        What `value_table` holds after the loss, by column.
    invariant_coordinates : dict of str to tuple of str
        What `invariants` holds, by column, and which coordinates each first integral involves.
    """

    signatures = SIGNATURES

    def __init__(self, system: ReducedSystem, values: Mapping[str, Any]):
        structure = "-".join(f"{k}={values[k]}" for k in system.structure)
        follows_from = identity(system.derive, PRINTER)
        self.source = cache.key(system.name, structure, system.key, follows_from)
        name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', system.name)[:40]}-{self.source}"

        def build() -> str:
            log.info("deriving %s with SymPy (once; kept in the cache)", system.name)
            from reduced_dynamics.compilation.module import module_source

            return module_source(system.derive(values))

        super().__init__(name, build)
        self.observables: tuple[str, ...] = self._module.OBSERVABLES
        # Generated code calls some coordinates otherwise, where their names are not Python's.
        names = dict(zip(self._module.COORDINATES, system.names, strict=True))
        involved = [tuple(names[c] for c in cs) for cs in self._module.INVARIANT_COORDINATES]
        self.invariant_coordinates: dict[str, tuple[str, ...]] = dict(
            zip(self._module.INVARIANTS, involved, strict=True)
        )


_COMPILED: dict[str, CompiledSystem] = {}


def compile_system(system: ReducedSystem, values: Mapping[str, Any]) -> CompiledSystem:
    """The compiled functions for these parameter values, shared within the process."""
    structure = ",".join(f"{k}={values[k]}" for k in system.structure)
    key = f"{system.name}\0{structure}\0{system.key}\0{cache.directory()}"
    if key not in _COMPILED:
        _COMPILED[key] = CompiledSystem(system, values)
    return _COMPILED[key]
