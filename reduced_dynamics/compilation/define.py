"""Your own system: a gradient flow from one SymPy expression."""

import ast
import builtins
import hashlib
import keyword
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.system import (
    Coordinate,
    Event,
    Horizon,
    Invariant,
    Observable,
    Parameter,
    ReducedSystem,
    _finite,
)

#: Names that generated code uses for itself, and those that stand in for names it cannot use.
_RESERVED = re.compile(
    r"x\d+|symbol\d+|[ivzt]|par|out|top|single|part|math|np|njit|.*_|_.*"
    r"|(x|n|v|d|h|s|acc|bar|dot\w*|exp|inv|mean|pairmean|scan|score|sum|top)_.*"
    + "".join(f"|{name}" for name in dir(builtins))
)

#: What generated code may call: the functions that numba compiles.
_CALLED = {"range", "max", "min", "abs", "int", "float", "njit", "np.empty", "np.zeros"} | {
    f"math.{name}"
    for name in dir(math)
    if name not in ("comb", "dist", "factorial", "fsum", "isclose", "isqrt", "perm", "prod")
}


def gradient_flow(
    loss,
    coordinates: Iterable,
    *,
    parameters: Mapping[Any, float] | None = None,
    start: Mapping[Any, float] | None = None,
    observables: Mapping[str, Any] | None = None,
    invariants: Mapping[str, Any] | None = None,
    events: Mapping[str, tuple] | None = None,
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
    start : mapping of sympy.Symbol or name to float
        Where coordinates start (0 otherwise).
    observables, invariants : mapping of str to sympy.Expr
        What to record besides the loss; what the flow should conserve (its drift is reported).
    events : mapping of str to (sympy.Expr or name, float) or (..., float, int)
        What to watch (a coordinate, an observable's name, ``"loss"`` or an expression) and the
        level whose crossings are located: all of them, or with +1 or -1 as a third entry only
        rising or falling ones. Being beyond the level at the start is no crossing.
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

    Source: derived with SymPy by `derivations.core.differentiate` from the expression given.
    """
    import sympy as sp

    _label("the system", name)
    coordinates = _symbols("coordinates", coordinates)
    given = dict(parameters or {})
    defaults = dict(zip(_symbols("parameters", given), given.values(), strict=True))
    if not coordinates:
        raise InputError("a system needs at least one coordinate")
    named = {c.name: c for c in coordinates}
    if len({*named, *(p.name for p in defaults)}) < len(coordinates) + len(defaults):
        raise InputError("every coordinate and parameter needs a name of its own")
    taken = {"", "t", "loss", *(observables or {})}
    clash = sorted(taken & {*named, *(p.name for p in defaults)})
    if clash:
        raise InputError(
            f"'{clash[0]}' cannot name a coordinate or parameter: results use t, loss and the "
            "observables' names themselves; rename the symbol"
        )
    begin = {}
    for c, value in (start or {}).items():
        c = named.get(c, c) if isinstance(c, str) else c
        if c not in coordinates:
            raise unknown("coordinate in start", str(c), named)
        begin[c] = _finite(f"the start of {c}", value)

    loss = _expression("the loss", loss)
    recorded = {k: _expression(f"the observable {k}", e) for k, e in (observables or {}).items()}
    conserved = {k: _expression(f"the invariant {k}", e) for k, e in (invariants or {}).items()}
    declared = []
    for event, what in (events or {}).items():
        if not (isinstance(what, tuple | list) and len(what) in (2, 3)):
            raise InputError(
                f"event '{event}' must be a pair (what to watch, level), or with +1 or -1 as third"
            )
        watch, level, direction = (*what, 0)[:3]
        level = _finite(f"the level of the event {event}", level)
        if direction not in (-1, 0, 1):
            raise InputError(f"the direction of the event {event} is +1, -1 or 0 (both)")
        if not isinstance(watch, str):
            watch = _expression(f"the event {event}", watch)
            if watch in coordinates:
                watch = watch.name
            else:
                if f"{event}_watched" in recorded:
                    raise InputError(f"'{event}_watched' is taken by the event {event}; rename it")
                recorded[f"{event}_watched"] = watch
                watch = f"{event}_watched"
        elif watch not in (*recorded, "loss", *named):
            raise unknown("name to watch", watch, (*recorded, "loss", *named))
        meaning = f"{watch} reaches {level:g}"
        declared.append(Event(event, meaning, watch, level, direction=direction, from_start=False))
    for key in (*recorded, *conserved, *(e.name for e in declared)):
        _label("an observable, invariant or event", key)
    for key in recorded:
        if key in ("t", "loss"):
            raise InputError(f"an observable cannot be called '{key}'; that name is taken")
    safe = {
        s: sp.Symbol(_safe(k, s.name), real=True) for k, s in enumerate([*coordinates, *defaults])
    }
    _check("the loss", loss, safe)
    for what, expr in (recorded | conserved).items():
        _check(what, expr, safe)
    outputs = {k: e.xreplace(safe) for k, e in ({"loss": loss} | recorded).items()}
    integrals = {k: e.xreplace(safe) for k, e in conserved.items()}
    state = tuple(safe[c] for c in coordinates)
    extra = tuple(safe[p] for p in defaults)

    def derive(values):
        from derivations.core.derivation import Derivation
        from derivations.core.staged import Program

        program = Program(state, extra, (), (), outputs)
        return Derivation(
            name=name,
            coordinates=state,
            parameters=extra,
            variants=((None, program),),
            observables=tuple(recorded),
            invariants=integrals,
            summary=f"loss = {sp.sstr(outputs['loss'])}",
        )

    identity = sp.srepr((state, extra, tuple(outputs.items()), tuple(integrals.items())))
    system = ReducedSystem(
        name=name,
        title=f"gradient flow of a loss in {len(coordinates)} coordinates",
        source="the given loss, differentiated by derivations/core/differentiate.py",
        coordinates=tuple(Coordinate(c.name, "coordinate", begin.get(c, 0.0)) for c in coordinates),
        parameters=tuple(
            Parameter(p.name, _finite(f"the parameter {p}", v), "parameter")
            for p, v in defaults.items()
        ),
        observables=tuple(Observable(k, str(e)) for k, e in recorded.items()),
        events=tuple(declared),
        invariants=tuple(Invariant(k, str(e)) for k, e in conserved.items()),
        derive=derive,
        pack=lambda values: tuple(values[p.name] for p in defaults),
        horizon=Horizon(horizon),
        key=hashlib.sha256(identity.encode()).hexdigest(),
    )
    _check_printable(derive)
    return system


def _symbols(what: str, given) -> list:
    import sympy as sp

    if isinstance(given, str | sp.Basic) or not isinstance(given, Iterable):
        raise InputError(f"{what} come as a list of SymPy symbols, not as {given!r}")
    symbols = [sp.Symbol(s) if isinstance(s, str) else s for s in given]
    for symbol in symbols:
        if not isinstance(symbol, sp.Symbol):
            raise InputError(f"{what} are SymPy symbols, not {symbol!r}")
    return symbols


def _label(what: str, name) -> None:
    """Names end up in files, also in the generated module."""
    usable = isinstance(name, str) and name.strip() and name.isprintable()
    if not usable or set(name) & {'"', "\\"}:
        raise InputError(
            f"{what} cannot be called {name!r}; use letters, no quotation marks or backslashes"
        )


def _expression(what: str, given):
    import sympy as sp

    try:
        expr = sp.sympify(given)
    except (sp.SympifyError, TypeError, AttributeError):
        raise InputError(f"{what} is not a SymPy expression: {given!r}") from None
    if not isinstance(expr, sp.Expr) or getattr(expr, "is_Matrix", False):
        raise InputError(f"{what} must be a scalar SymPy expression, not {type(expr).__name__}")
    return expr


def _safe(k: int, name: str) -> str:
    """A name that generated code can use; its place decides where it is not one already."""
    plain = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
    return name if plain and not _RESERVED.fullmatch(name) else f"symbol{k}"


def _check(what: str, expr, known: Mapping) -> None:
    import sympy as sp

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
    """Refuse now what numba would refuse at the first run."""
    from sympy.printing.codeprinter import PrintMethodNotImplementedError

    from reduced_dynamics.compilation.module import module_source

    try:
        tree = ast.parse(module_source(derive({})))
    except PrintMethodNotImplementedError as error:
        # "Unsupported by <class ...>: name" or "...: <class 'sympy.....Name'>", and more lines.
        what = str(error).split("\n")[0].split(": ")[-1]
        raise _uncompilable(what.strip("<>'").split(".")[-1]) from None
    except SyntaxError as error:
        raise _uncompilable((error.text or "").strip()[:60]) from None
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.GeneratorExp | ast.ListComp):
            raise _uncompilable(ast.unparse(node)[:60])
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called not in _CALLED | own and not called.endswith((".copy", ".reshape")):
                raise _uncompilable(called.removeprefix("math."))


def _uncompilable(what: str) -> InputError:
    return InputError(
        f"'{what}' in the expression or its derivatives cannot be compiled; rewrite it with "
        "elementary functions or Piecewise"
    )
