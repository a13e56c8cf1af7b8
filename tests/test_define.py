"""Systems of a user's own, from one SymPy expression."""

from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import reduced_dynamics as rd
from reduced_dynamics.compiled import compile_system

x, y, k = sp.symbols("x y k")


@pytest.mark.parametrize("method", ["LSODA", "Radau", "BDF"])
def test_exponential_decay_is_exact(method):
    system = rd.gradient_flow(k * x**2 / 2, [x], parameters={k: 2.0}, start={x: 1.0}, name="decay")
    for rate in (0.5, 2.0):
        trajectory = rd.integrate(system, {"k": rate}, t_end=3, method=method)
        t = np.linspace(0, 3, 50)
        np.testing.assert_allclose(trajectory.at(t)[:, 0], np.exp(-rate * t), rtol=1e-7)


def test_factorisation_conserves_its_balance_and_finds_its_event():
    system = rd.gradient_flow(
        (x * y - 1) ** 2 / 2, [x, y], start={x: 0.01, y: 0.01}, name="factor",
        invariants={"balance": x**2 - y**2}, events={"half": (x * y, 0.5), "x": (x, 0.3)},
        observables={"product": x * y},
    )  # fmt: skip
    trajectory = rd.integrate(system, t_end=20)
    assert trajectory.invariants["balance"] < 1e-12
    # p = xy obeys dp/dt = 2p(1 − p) from p₀ = 10⁻⁴.
    assert trajectory.events["half"] == pytest.approx(np.log(1e4 - 1) / 2, rel=1e-8)
    assert trajectory["product"][-1] == pytest.approx(1.0, abs=1e-8)
    assert [c.name for c in trajectory.crossings] == ["x", "half"]


def test_every_crossing_is_found_in_order():
    """A clock: x grows at rate 1, and what is watched oscillates."""
    system = rd.gradient_flow(
        -x, [x], events={"sine": (sp.sin(10 * x), 0.25), "x": (x, 1.0)}, name="clock"
    )
    trajectory = rd.integrate(system, t_end=3)
    first = np.arcsin(0.25) / 10
    expected = [(first + 2 * np.pi * n / 10, 1) for n in range(10)]
    expected += [(np.pi / 10 - first + 2 * np.pi * n / 10, -1) for n in range(10)]
    expected = sorted((t, d) for t, d in expected if t <= 3)
    found = [(c.t, c.direction) for c in trajectory.crossings if c.name == "sine"]
    assert [d for _, d in found] == [d for _, d in expected]
    np.testing.assert_allclose([t for t, _ in found], [t for t, _ in expected], rtol=1e-9)
    times = [c.t for c in trajectory.crossings]
    assert times == sorted(times)


EXPRESSIONS = st.recursive(
    st.sampled_from([x, y, k, sp.Integer(2), sp.Rational(1, 3)]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        inner.map(sp.tanh),
        inner.map(lambda e: sp.exp(-(e**2))),
        inner.map(lambda e: 1 / (1 + e**2)),
    ),
    max_leaves=5,
)


@settings(max_examples=4, deadline=None)
@given(EXPRESSIONS)
def test_compiled_derivatives_equal_sympys(expr):
    expr = expr + (x**2 + y**2) / 2
    system = rd.gradient_flow(expr, [x, y], parameters={k: 0.7}, name="random")
    compiled = compile_system(system, system.values())
    point = {x: 0.3, y: -0.8, k: 0.7}
    z, par = np.array([0.3, -0.8]), np.array([0.7])
    slopes = [float(-sp.diff(expr, s).subs(point)) for s in (x, y)]
    np.testing.assert_allclose(compiled.flow(0.0, z, par), slopes, rtol=1e-11, atol=1e-12)
    second = [[float(-sp.diff(expr, a, b).subs(point)) for a in (x, y)] for b in (x, y)]
    np.testing.assert_allclose(compiled.jacobian(0.0, z, par), second, rtol=1e-11, atol=1e-12)


def test_many_coordinates_take_the_directional_hessian():
    many = sp.symbols("w0:12")
    loss = sum((a * b - n) ** 2 for n, (a, b) in enumerate(pairwise(many)))
    system = rd.gradient_flow(loss, many, name="many")
    compiled = compile_system(system, {})
    z = np.random.default_rng(0).normal(size=12)
    at = dict(zip(many, z, strict=True))
    expected = -np.array(sp.hessian(loss, many).subs(at), dtype=float)
    np.testing.assert_allclose(compiled.jacobian(0.0, z, np.empty(0)), expected, rtol=1e-12)


def test_awkward_names():
    names = ["lambda", "x1", "z", "α", "i", "N", "par", "out", "x_i", "w Q"]
    symbols = [sp.Symbol(n) for n in names]
    loss = sum((s - n) ** 2 / 2 for n, s in enumerate(symbols))
    system = rd.gradient_flow(loss, symbols[:5], parameters=dict.fromkeys(symbols[5:], 1.0))
    final = rd.integrate(system, t_end=40).final
    assert list(final) == names[:5]
    np.testing.assert_allclose(list(final.values()), range(5), atol=1e-9)


def test_kinks_run():
    system = rd.gradient_flow(sp.Max(x, 0) ** 2 + abs(y - 1), [x, y], start={x: 1.0}, name="kink")
    final = rd.integrate(system, t_end=0.5).final
    assert final["x"] == pytest.approx(np.exp(-1), rel=1e-7)
    assert final["y"] == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((x * y, [x]), {}, "neither a coordinate nor a parameter"),
        ((x, []), {}, "at least one"),
        ((x, [x, x]), {}, "a name of its own"),
        ((sp.I * x, [x]), {}, "real"),
        ((sp.Matrix([x]), [x]), {}, "scalar"),
        ((x > 0, [x]), {}, "scalar"),
        ((sp.besselj(0, x), [x]), {}, "cannot be compiled"),
        ((sp.Sum((x - k) ** 2, (k, 1, 3)), [x]), {}, "doit"),
        ((x**2, [x]), {"start": {y: 1.0}}, "unknown coordinate"),
        ((x**2, [x]), {"events": {"e": x}}, "pair"),
        ((x**2, [x]), {"events": {"e": ("z", 1.0)}}, "unknown name to watch"),
        ((sp.Symbol("t") ** 2, [sp.Symbol("t")]), {}, "rename"),
        ((x**2, ["x", 3]), {}, "SymPy symbols"),
    ],
)
def test_bad_systems_are_refused_in_a_sentence(arguments, options, message):
    with pytest.raises(rd.InputError, match=message) as caught:
        rd.gradient_flow(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_a_system_without_horizon_needs_one():
    system = rd.gradient_flow(x**2, [x], start={x: 1.0})
    with pytest.raises(rd.InputError, match="t_end"):
        rd.integrate(system)
