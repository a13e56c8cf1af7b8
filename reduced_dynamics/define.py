"""Your own system: a gradient flow from one SymPy expression."""

from __future__ import annotations

import hashlib
import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any

from reduced_dynamics.errors import InputError, unknown
from reduced_dynamics.system import (
    Coordinate,
    Event,
    Invariant,
    Observable,
    Parameter,
    ReducedSystem,
)

#: Names that generated code uses for itself.
_RESERVED = re.compile(
    r"x\d+|x_i|[ivzt]|n_.*|par|out|top|math|np|njit|.*_|(acc|exp|sum|top|inv)_.*"
)


def gradient_flow(
    loss,
    coordinates: Iterable,
    *,
    parameters: Mapping[Any, float] | None = None,
    start: Mapping[Any, float] | None = None,
    observables: Mapping[str, Any] | None = None,
    invariants: Mapping[str, Any] | None = None,
    events: Mapping[str, tuple[Any, float]] | None = None,
    horizon: str = "",
    name: str = "custom",
) -> ReducedSystem:
    """The gradient flow dz/dt = −∂loss/∂z of a scalar SymPy expression.

    Gradient and Jacobian are derived from the expression, compiled, and kept in the cache; the
    system then runs like the built-in ones (`integrate`, events, dense output, files, plots).

    Parameters
    ----------
    loss : sympy.Expr
        A real expression in the coordinates and parameters.
    coordinates : iterable of sympy.Symbol
        The state, in this order.
    parameters : mapping of sympy.Symbol to float
        Further symbols of the loss, with their defaults; changing them never recompiles.
    start : mapping of sympy.Symbol to float
        Where coordinates start (0 otherwise).
    observables, invariants : mapping of str to sympy.Expr
        What to record besides the loss; what the flow should conserve (its drift is reported).
    events : mapping of str to (sympy.Expr or name, float)
        What to watch (a coordinate, an observable's name, ``"loss"`` or an expression) and the
        level whose crossings are located.
    horizon : str
        Bound of an automatic horizon, as arithmetic over the parameters; without it a run needs
        ``t_end``.
    name : str

    Returns
    -------
    ReducedSystem

    Raises
    ------
    InputError
        If a symbol is neither coordinate nor parameter, something is not real, or a function of
        the expression cannot be compiled.

    Source: derived with SymPy by `derivations.differentiate` from the expression given.
    """
    import sympy as sp

    coordinates = [_symbol(c) for c in coordinates]
    defaults = {_symbol(p): v for p, v in (parameters or {}).items()}
    start = {_symbol(c): v for c, v in (start or {}).items()}
    if not coordinates:
        raise InputError("a system needs at least one coordinate")
    names = [c.name for c in [*coordinates, *defaults]]
    if len(set(names)) < len(names):
        raise InputError("every coordinate and parameter needs a name of its own")
    taken = {"", "t", "loss", *(str(k) for k in observables or {})}
    clash = sorted(taken & set(names))
    if clash:
        raise InputError(
            f"'{clash[0]}' cannot name a coordinate or parameter: results use t, loss and the "
            "observables' names themselves; rename the symbol"
        )
    for c in start:
        if c not in coordinates:
            raise unknown("coordinate in start", c.name, [c.name for c in coordinates])
    watched, declared = {}, []
    exprs = {str(k): sp.sympify(e) for k, e in (observables or {}).items()}
    for event, pair in (events or {}).items():
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise InputError(f"event '{event}' must be a pair (what to watch, level)")
        watch, level = pair
        watch = watch if isinstance(watch, str) else sp.sympify(watch)
        if watch in coordinates:
            watch = watch.name
        elif not isinstance(watch, str):
            watched[f"{event}_watched"] = watch
            watch = f"{event}_watched"
        elif watch not in [*exprs, "loss", *names]:
            raise unknown("name to watch", watch, [*exprs, "loss", *names])
        declared.append(Event(event, f"{watch} reaches {level:g}", watch, float(level)))
    conserved = {str(k): sp.sympify(e) for k, e in (invariants or {}).items()}
    safe = {
        s: sp.Symbol(_safe(k, s.name), real=True) for k, s in enumerate([*coordinates, *defaults])
    }
    everything = {"the loss": _scalar(loss), **exprs, **watched, **conserved}
    for what, expr in everything.items():
        _check(what, expr, safe)
    outputs = {k: e.xreplace(safe) for k, e in (exprs | watched).items()}
    integrals = {k: e.xreplace(safe) for k, e in conserved.items()}
    state = tuple(safe[c] for c in coordinates)
    extra = tuple(safe[p] for p in defaults)

    def derive(values):
        from derivations.derivation import Derivation
        from derivations.staged import Program

        program = Program(
            state, extra, (), (), {"loss": everything["the loss"].xreplace(safe)} | outputs
        )
        return Derivation(
            name=name,
            coordinates=state,
            parameters=extra,
            variants=((None, program),),
            observables=tuple(outputs),
            invariants=integrals,
            summary=f"loss = {sp.sstr(program.outputs['loss'])}",
        )

    identity = [sp.srepr(e) for e in (*everything.values(), *state, *extra)] + list(everything)
    system = ReducedSystem(
        name=name,
        title=f"gradient flow of a loss in {len(coordinates)} coordinates",
        source="the given loss, differentiated by derivations/differentiate.py",
        coordinates=tuple(
            Coordinate(c.name, "coordinate", float(start.get(c, 0.0))) for c in coordinates
        ),
        parameters=tuple(Parameter(p.name, float(v), "parameter") for p, v in defaults.items()),
        observables=tuple(Observable(k, str(e)) for k, e in (exprs | watched).items()),
        events=tuple(declared),
        invariants=tuple(Invariant(k, str(e)) for k, e in conserved.items()),
        derive=derive,
        pack=lambda values: tuple(values[p.name] for p in defaults),
        horizon=horizon,
        key=hashlib.sha256("\0".join(identity).encode()).hexdigest(),
    )
    _check_printable(derive)
    return system


def _symbol(symbol):
    import sympy as sp

    if isinstance(symbol, str):
        return sp.Symbol(symbol)
    if not isinstance(symbol, sp.Symbol):
        raise InputError(f"coordinates and parameters are SymPy symbols, not {symbol!r}")
    return symbol


def _scalar(loss):
    import sympy as sp

    expr = sp.sympify(loss)
    if not isinstance(expr, sp.Expr) or getattr(expr, "is_Matrix", False):
        raise InputError(f"the loss must be a scalar SymPy expression, not {type(expr).__name__}")
    return expr


def _safe(k: int, name: str) -> str:
    """A name that generated code can use; its place decides where it is not one already."""
    plain = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
    return name if plain and not _RESERVED.fullmatch(name) else f"symbol{k}"


def _check(what: str, expr, known: Mapping) -> None:
    import sympy as sp

    if not isinstance(expr, sp.Expr):
        raise InputError(f"{what} must be a scalar SymPy expression, not {type(expr).__name__}")
    free = sorted(s.name for s in expr.free_symbols - known.keys())
    if free:
        raise InputError(
            f"'{free[0]}' in {what} is neither a coordinate nor a parameter; "
            "list it among one of them (a symbol of equal name but other assumptions is another)"
        )
    if expr.has(sp.Sum, sp.Product, sp.Integral, sp.Derivative, sp.Limit):
        raise InputError(
            f"{what} holds an unevaluated sum, product, integral or derivative; "
            "evaluate it with .doit() first"
        )
    if expr.has(sp.I, sp.nan, sp.zoo, sp.oo):
        raise InputError(f"{what} must be a real, finite expression")


def _check_printable(derive) -> None:
    from sympy.printing.codeprinter import PrintMethodNotImplementedError

    from reduced_dynamics.codegen import module_source

    try:
        source = module_source(derive({}))
    except PrintMethodNotImplementedError as error:
        what = str(error).splitlines()[0].split(":")[-1].strip()
        raise InputError(
            f"the expression or its derivatives need {what}, which cannot be compiled; use "
            "elementary functions"
        ) from None
    if "Not supported" in source or "Derivative(" in source:
        lines = [line for line in source.splitlines() if "Derivative(" in line]
        what = f" ({lines[0].strip()[:60]})" if lines else ""
        raise InputError(f"a function in the expression cannot be compiled{what}; rewrite it")
