"""Arithmetic over parameters: exact where it is arithmetic, one sentence where it is not."""

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.expressions import evaluate

NAMES = {"N": 64, "D": 130, "rate": 0.25, "query": "last", "self_attention": False}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8*N**2", 32768.0),
        ("20*N", 1280.0),
        (" 2e3 ", 2000.0),
        ("sqrt(N)*log(N)", 8 * math.log(64)),
        ("-N**2 + (D - 1)/2", -4096 + 64.5),
        ("2**-1**2", 0.5),
        ("2**3**2", 512.0),
        ("--1 - +1", 0.0),
        ("exp(-rate)", math.exp(-0.25)),
        (".5e1+1.", 6.0),
        ("(10**20 + 1) - 10**20", 1.0),
        ("1**9**9", 1.0),
        ("N\n* 2", 128.0),
        ("10**400/10**399", 10.0),
    ],
)
def test_arithmetic(text, value):
    result = evaluate(text, NAMES)
    assert type(result) is float
    assert result == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("M**2", "unknown name 'M'"),
        ("8*n**2", "did you mean 'N'"),
        ("8*N^2", r"write powers with \*\*"),
        ("2N", r"write a product as '2\*N'"),
        ("1,000", "without commas"),
        ("N²", "unexpected '²'"),
        ("8*", r"cannot read '8\*'; write"),
        ("8*(N", r"cannot read '8\*\(N' at '\(N'"),
        ("N 2", "cannot read"),
        ("* N", "cannot read"),
        ("N//2", "'N // 2' is not arithmetic"),
        ("N % 2", "unexpected '% 2'"),
        ("True", "'True' is not arithmetic"),
        ("not N", "not arithmetic"),
        ("N if N else D", "not arithmetic"),
        ("lambda", "cannot read"),
        ("10j", "'10j' is not a number"),
        ("0x10", "'0x10' is not a number"),
        ("1_000", "'1_000' is not a number"),
        ("1.2.3", "unexpected '1.2.3'"),
        ("007", "cannot read"),
        ("__import__('os').getcwd()", "unexpected"),
        ("sqrt", "'sqrt' is a function"),
        ("sqr(N)", "unknown function 'sqr'; did you mean 'sqrt'"),
        ("sqrt()", "not arithmetic"),
        ("sqrt(*N)", "not arithmetic"),
        ("2(N)", "not arithmetic"),
        ("sqrt(N)(2)", "not arithmetic"),
        ("sqrt(-N)", r"'sqrt\(-N\)' is not a real number"),
        ("log(N - 64)", r"'log\(N - 64\)' is not a real number"),
        ("(0-8)**0.5", "is not a real number"),
        ("1/(N - 64)", r"'1 / \(N - 64\)' divides by zero"),
        ("0**-1", "divides by zero"),
        ("0.0**-1", "divides by zero"),
        ("9**9**9**9", "too large"),
        ("9**9**9", "too large"),
        ("(9**999)**999", "too large"),
        ("10**400", "too large"),
        ("2.0**5000", "too large"),
        ("exp(1000)", r"'exp\(1000\)' is too large"),
        ("1e999", "not a finite number"),
        ("1e308*10", r"'1e\+308 \* 10' is not a finite number"),
        ("query", "'query' is 'last', not a number"),
        ("self_attention", "'self_attention' is False, not a number"),
        ("1" * 201, "201 characters"),
        ("(" * 100 + "1" + ")" * 99, "cannot read"),
    ],
)
def test_anything_else_is_one_sentence(text, says):
    with pytest.raises(InputError, match=says) as caught:
        evaluate(text, NAMES)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_not_text():
    with pytest.raises(InputError, match="must be text"):
        evaluate(8, {})


def test_a_parameter_without_a_finite_value():
    for bad in (math.nan, math.inf, np.float64("-inf")):
        with pytest.raises(InputError, match="'N' is not a finite number"):
            evaluate("8*N", {"N": bad})


def test_numpy_numbers_neither_wrap_around_nor_warn():
    assert evaluate("N**3", {"N": np.int32(2**20)}) == 2.0**60
    with pytest.raises(InputError):
        evaluate("x*x", {"x": np.float64(1e300)})


def test_hopeless_powers_are_refused_at_once():
    begin = time.perf_counter()
    for text in ("9**9**9**9", "-9**9**9**9", "(" * 60 + "9" + "**9)" * 30, "1e300**9**9"):
        with pytest.raises(InputError):
            evaluate(text, {})
    assert time.perf_counter() - begin < 1


def grow(inner):
    """Well-formed expressions as (text, exact value), whatever `inner` draws inside them."""

    def binary(left, op, right):
        value = {"+": Fraction.__add__, "-": Fraction.__sub__, "*": Fraction.__mul__}[op]
        return f"({left[0]} {op} {right[0]})", value(left[1], right[1])

    def power(base, exponent):
        return f"({base[0]})**{exponent}", base[1] ** exponent

    return (
        st.builds(binary, inner, st.sampled_from("+-*"), inner)
        | st.builds(lambda x: (f"-{x[0]}", -x[1]), inner)
        | st.builds(power, inner, st.integers(0, 3))
    )


LEAVES = st.integers(0, 10**6).map(lambda n: (str(n), Fraction(n))) | st.sampled_from(
    [("N", Fraction(64)), ("D", Fraction(130))]
)


@given(st.recursive(LEAVES, grow, max_leaves=8))
def test_integer_arithmetic_is_exact(drawn):
    # The leading minus of a power's base is inside parentheses, so Fraction knows best.
    text, value = drawn
    try:
        expected = float(value)
    except OverflowError:
        expected = None
    if expected is None or len(text) > 200:
        with pytest.raises(InputError):
            evaluate(text, NAMES)
    else:
        assert evaluate(text, NAMES) == expected


TOKENS = st.lists(
    st.sampled_from(["N", "rate", "3", "0.5", "+", "-", "*", "/", "**", "(", ")", " ", "sqrt("]),
    max_size=12,
).map("".join)


@given(TOKENS)
@example("3-N**0.5")
def test_what_python_calls_a_number_is_that_number(text):
    """Agreement with Python itself wherever Python finds a finite real number."""
    python = {"__builtins__": {}, "sqrt": math.sqrt, "N": 64, "rate": 0.25}
    # Python would spend a lifetime on towers of powers, and warns of calls such as "3(N)".
    if text.count("**") > 1 or any(f"{c}(" in text.replace(" ", "") for c in "35)N"):
        return
    try:
        expected = eval(" ".join(text.split()), python)
        good = type(expected) in (int, float) and "//" not in text and math.isfinite(expected)
    except Exception:
        good = False
    try:
        assert evaluate(text, NAMES) == expected
    except InputError as error:
        # Python can divide by integers that no float could hold; we refuse to compute them.
        assert not good or ("**" in text and "too large" in str(error))


@given(st.text(max_size=250) | st.text("N0.9*+-/()e^ \n\\'\"_", max_size=250))
def test_arbitrary_text_raises_nothing_else(text):
    try:
        assert math.isfinite(evaluate(text, NAMES))
    except InputError as error:
        assert "\n" not in str(error)
