"""Coordinates that are functions of the weight that descends: mobility, exact descent, starts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import solve_ivp

from derivations.core.derivation import Derivation, slope, step
from derivations.core.staged import Program
from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.system import Coordinate, Parameter, ReducedSystem
from reduced_dynamics.public import integrate

l, u, k = sp.symbols("l u k", real=True)


def derive(_):
    """½(wu − k)² for weights w = e^(l/2) > 0 and u."""
    w = sp.exp(l / 2)
    return Derivation(
        "chart",
        (l, u),
        (k,),
        ((None, Program((l, u), (k,), (), (), {"loss": (w * u - k) ** 2 / 2})),),
        invariants={"balance": sp.exp(l) - u**2},
        mobility={l: 1 / sp.diff(w, l) ** 2},
        update={l: sp.log((w - step * slope(l) / sp.diff(w, l)) ** 2)},
    )


SYSTEM = ReducedSystem(
    name="chart",
    title="product",
    source="a test",
    coordinates=(Coordinate("l", "log w²", "log(k**2 / 4)"), Coordinate("u", "u", 0.3)),
    derive=derive,
    parameters=(Parameter("k", 1.0, "target"),),
    pack=lambda values: (values["k"],),
    key="test_chart",
)


def descent(w, u, steps, size):
    for _ in range(steps):
        w, u = w - size * (w * u - 1) * u, u - size * (w * u - 1) * w
    return w, u


def test_flow_of_the_logarithm_is_the_flow_of_the_weight():
    found = integrate(SYSTEM, t_end=5)
    assert found.z[0, 0] == pytest.approx(math.log(0.25))
    flow = lambda _, y: (1 - y[0] * y[1]) * y[::-1]  # noqa: E731
    plain = solve_ivp(flow, (0, 5), [0.5, 0.3], rtol=1e-12, atol=1e-13)
    w, v = plain.y[:, -1]
    assert found.final == pytest.approx({"l": math.log(w * w), "u": v}, abs=1e-8)
    assert found.invariants["balance"] < 1e-10


def test_descent_is_that_of_the_weight():
    found = integrate(SYSTEM, t_end=5, dynamics="gd", step=0.1)
    w, v = descent(0.5, 0.3, 50, 0.1)
    assert found.final == pytest.approx({"l": math.log(w * w), "u": v}, abs=1e-13)


def test_descent_holds_what_is_clamped():
    found = integrate(SYSTEM, t_end=1, dynamics="gd", step=0.1, clamp={"l": 0.2})
    assert np.all(found["l"] == 0.2)


def test_jacobian_equals_finite_differences():
    compiled = compile_system(SYSTEM, SYSTEM.values())
    rng = np.random.default_rng(0)
    for z in rng.normal(size=(20, 2)):
        par = rng.normal(size=1)
        shifts = 1e-5 * np.eye(2)
        rows = [compiled.flow(0.0, z + h, par) - compiled.flow(0.0, z - h, par) for h in shifts]
        exact = compiled.jacobian(0.0, z, par)
        np.testing.assert_allclose(exact, np.array(rows).T / 2e-5, rtol=1e-6, atol=1e-6)


def test_a_system_takes_the_form_its_parameters_ask_for():
    def adapt(values):
        extra = (Coordinate("u", "u", "k"),) if values["k"] > 1 else SYSTEM.coordinates[1:]
        return replace(SYSTEM, coordinates=(SYSTEM.coordinates[0], *extra))

    system = replace(SYSTEM, adapt=adapt)
    assert integrate(system, {"k": 2.0}, t_end=1)["u"][0] == 2.0
    assert integrate(system, {"k": 1.0}, t_end=1)["u"][0] == 0.3
