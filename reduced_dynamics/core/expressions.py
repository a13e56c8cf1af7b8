"""Arithmetic over parameters, such as a horizon of ``8*N**2``: parsed, but never executed."""

import ast
import math
import operator
import re
from collections.abc import Mapping
from functools import lru_cache
from numbers import Integral, Real

from reduced_dynamics.core.errors import InputError, unknown

#: Far more than any horizon needs, and little enough that no nesting exhausts the stack.
MAX_LENGTH = 200
#: Integers stay exact up to here; what is larger would not fit a float by far.
MAX_BITS = 4096

FUNCTIONS = {"sqrt": math.sqrt, "log": math.log, "exp": math.exp}

# A number directly followed by a letter is no number, so that "2N" is refused here with a remedy.
_TOKEN = re.compile(
    r"(?P<number>([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?(?![\w.]))"
    r"|(?P<name>[A-Za-z_]\w*)|\*\*|[-+*/()]| ",
    re.ASCII,
)


def _power(base, exponent):
    # 9**9**9 is to be refused, not computed.
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(base) > 1 and base.bit_length() * exponent > MAX_BITS:
        raise OverflowError
    return base**exponent


_OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def evaluate(text: str, names: Mapping[str, float]) -> float:
    """The value of an arithmetic expression over named numbers.

    Parameters
    ----------
    text : str
        Numbers, names, ``+ - * / **``, parentheses and the functions ``sqrt``, ``log``, ``exp``,
        with Python's precedence; at most 200 characters.
    names : mapping of str to number
        The names that may appear. Values that are no numbers may be in it, but not be used.

    Returns
    -------
    float
        Finite. Integers are exact until the last step, so ``(10**20 + 1) - 10**20`` is 1.

    Raises
    ------
    InputError
        If the text is anything else, uses an unknown name (answered with the nearest), divides
        by zero, or has no finite real value.

    >>> evaluate("8*N**2", {"N": 64})
    32768.0
    """
    try:
        return _finite(float(_value(_parse(text), names)), text)
    except OverflowError:
        raise InputError(f"{_quote(text)} is too large for a number; make it smaller") from None
    except (RecursionError, MemoryError):
        raise InputError(f"{_quote(text)} is nested too deeply; simplify it") from None


def _parse(text: str) -> ast.expr:
    """The syntax tree of `text`, which is made of the tokens of arithmetic only."""
    if not isinstance(text, str):
        raise InputError(f"an expression must be text such as '8*N**2', not {_quote(text)}")
    return _tree(text)


@lru_cache(maxsize=256)
def _tree(text: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"the expression {_quote(text)} has {len(text)} characters; use at most {MAX_LENGTH}"
        )
    text = " ".join(text.split())
    if not text:
        raise InputError("the expression is empty; write arithmetic such as '8*N**2'")
    # Beyond these tokens Python's parser could warn or raise all sorts of things.
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise InputError(_unexpected(text, position))
        position = token.end()
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        rest = text[max((error.offset or 1) - 1, 0) :]
        place = f" at {_quote(rest)}" if rest not in ("", text) else ""
        raise InputError(
            f"cannot read {_quote(text)}{place}; write arithmetic such as '8*N**2'"
        ) from None


def _unexpected(text: str, position: int) -> str:
    """What is wrong with the character at `position`, where no token begins."""
    glued = re.match(r"([0-9.]+)([A-Za-z_]\w*)", text[position:], re.ASCII)
    if glued:
        return f"{_quote(glued[0])} is not a number; write a product as '{glued[1]}*{glued[2]}'"
    remedy = {"^": "write powers with **", ",": "write numbers without commas"}.get(
        text[position], "use numbers, names, + - * / ** and parentheses"
    )
    return f"unexpected {_quote(text[position:])} in {_quote(text)}; {remedy}"


def _value(node: ast.expr, names: Mapping[str, float]) -> int | float:
    match node:
        case ast.Constant(value=value) if type(value) in (int, float):
            return _finite(value, node)
        case ast.Name(id=name):
            return _named(name, names)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_value(operand, names))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            operation = _OPERATIONS[type(op)]
            return _apply(operation, node, _value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            return _apply(FUNCTIONS[name], node, _value(argument, names))
        case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
            raise unknown("function", name, FUNCTIONS)
    raise InputError(
        f"{_quote(node)} is not arithmetic; use numbers, names, + - * / ** and parentheses"
    )


def _apply(operation, node: ast.expr, *operands) -> int | float:
    """`operation` on `operands`, with what can go wrong blamed on the piece of text `node`."""
    try:
        value = operation(*operands)
    except ZeroDivisionError:
        raise InputError(f"{_quote(node)} divides by zero; change the divisor") from None
    except OverflowError:
        raise InputError(f"{_quote(node)} is too large for a number; make it smaller") from None
    except ValueError:
        raise InputError(
            f"{_quote(node)} is not a real number; give {node.func.id} a positive argument"
        ) from None
    return _finite(value, node)


def _named(name: str, names: Mapping[str, float]) -> int | float:
    if name in FUNCTIONS and name not in names:
        raise InputError(f"'{name}' is a function; give it an argument, as in '{name}(2)'")
    if name not in names:
        raise unknown("name", name, [*names, *FUNCTIONS])
    value = names[name]
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"'{name}' is {value!r}, not a number; leave it out of the expression")
    # Python's own numbers: numpy's wrap around or warn where these are exact or raise.
    return _finite(int(value) if isinstance(value, Integral) else float(value), name)


def _finite(value, piece):
    if isinstance(value, complex):
        raise InputError(f"{_quote(piece)} is not a real number; give the power a positive base")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{_quote(piece)} is not a finite number; keep it below 1e308")
    return value


def _quote(piece) -> str:
    """A piece of the expression, short enough for a sentence."""
    text = ast.unparse(piece) if isinstance(piece, ast.AST) else str(piece)
    return f"'{text}'" if len(text) <= 40 else f"'{text[:37]}...'"
