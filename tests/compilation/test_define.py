"""A user's own gradient flow: exact solutions, generated code against SymPy, awkward input."""

import math
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

import reduced_dynamics as rd
from reduced_dynamics.compilation import cache
from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.compilation.functions import WHOLE_HESSIAN
from reduced_dynamics.compilation.module import module_source
from reduced_dynamics.core.system import Hints
from reduced_dynamics.integration.problem import METHODS

x, y, k, s = sp.symbols("x y k s", real=True)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


def test_ten_lines():
    u, v, target = sp.symbols("u v s", real=True)
    system = rd.gradient_flow(
        (u * v - target) ** 2 / 2,
        [u, v],
        parameters={target: 1.0},
        start={u: 0.02, v: 0.01},
        observables={"product": u * v},
        invariants={"balance": u**2 - v**2},
        events={"learned": ("product", 0.5)},
    )
    trajectory = rd.integrate(system, {"s": 2.0}, t_end=20)
    assert trajectory["product"][-1] == pytest.approx(2.0, abs=1e-9)
    assert trajectory.parameters == {"s": 2.0}
    assert 0 < trajectory.events["learned"] < 20
    assert trajectory.invariants["balance"] < 1e-10
    assert trajectory.loss_rise < 1e-15


# Exact solutions


def close(found, exact, floor=1e-12):
    np.testing.assert_allclose(found, exact, rtol=3e-8, atol=floor)


@pytest.mark.parametrize("method", ["LSODA", "BDF", "Radau"])
def test_steps_in_log_time(method):
    """x = log(1 + t): the same solution from fewer steps, with the times of events in t."""
    system = rd.gradient_flow(sp.exp(-x), [x], start={x: 0.0}, events={"five": (x, 5.0)})
    found = {}
    for tempo in (None, 2.0):
        trajectory = rd.integrate(
            replace(system, hints=Hints(local=0.01, tempo=tempo)), t_end=1e6, method=method
        )
        t = np.geomspace(1e-3, 1e6, 200)
        close(trajectory.at(t)[:, 0], np.log1p(t), floor=1e-9)
        assert trajectory.events["five"] == pytest.approx(math.exp(5) - 1, rel=1e-7)
        assert trajectory.t_end == 1e6
        found[tempo] = trajectory.stats["steps"]
    assert found[2.0] < 0.8 * found[None]
    held = rd.integrate(
        replace(system, hints=Hints(local=0.01, tempo=2.0)), t_end=100, method=method, max_step=1.0
    )
    assert np.diff(held.t).max() <= 1.0 + 1e-12


@pytest.fixture(scope="module")
def decay():
    fast = sp.Symbol("fast", real=True)
    return rd.gradient_flow(k * x**2 / 2 + fast * (y - 1) ** 2 / 2, [x, y], name="decay",
                            parameters={k: 1.0, fast: 1000.0}, start={x: 1.0, "y": -1.0},
                            events={"half": (x, 0.5), "loss": ("loss", 0.125)})  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_quadratic_loss_decays_exponentially(decay, method, rate):
    trajectory = rd.integrate(decay, {"k": rate}, t_end="12/k", method=method)
    t = np.linspace(0, 12 / rate, 301)
    close(trajectory.at(t)[:, 0], np.exp(-rate * t))
    close(trajectory.at(t)[:, 1], 1 - 2 * np.exp(-1000 * t))
    assert trajectory.events["half"] == pytest.approx(math.log(2) / rate, rel=1e-8)
    loss = math.log(rate / 2 / 0.125) / 2 / rate
    assert trajectory.events["loss"] == pytest.approx(loss, rel=1e-8)
    assert trajectory.stats["rhs"] < 20_000


@pytest.mark.parametrize("method", METHODS)
def test_factorisation_is_logistic(method):
    system = rd.gradient_flow((x * y - s) ** 2 / 2, [x, y], parameters={s: 1.0}, name="uv",
                              start={x: 1e-4, y: 1e-4}, invariants={"c": x**2 - y**2},
                              events={"half": (x * y / s, 0.5)})  # fmt: skip
    for target in (1.0, 3.0):
        trajectory = rd.integrate(system, {"s": target}, t_end="20/s", method=method)
        t = np.linspace(0, 20 / target, 301)
        exact = target / (1 + (target / 1e-8 - 1) * np.exp(-2 * target * t))
        close(trajectory.at(t).prod(axis=1), exact, floor=1e-11)
        half = math.log(target / 1e-8 - 1) / (2 * target)
        assert trajectory.events["half"] == pytest.approx(half, rel=1e-8)
        assert trajectory.invariants["c"] < 1e-14  # rounding


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("begin", [1e-8, -0.3, 1.5])
def test_bistable_flow(method, begin):
    system = rd.gradient_flow((x**2 - 1) ** 2 / 4, [x], name="bistable", start={x: 1e-8},
                              events={"up": (x, 0.5), "down": (x, -0.5)})  # fmt: skip
    trajectory = rd.integrate(system, start={"x": begin}, t_end=30, method=method)
    t = np.linspace(0, 30, 301)
    exact = begin / np.sqrt(begin**2 + (1 - begin**2) * np.exp(-2 * t))
    # The plateau multiplies errors by e^t; relative to the state there they stay what they were.
    np.testing.assert_allclose(trajectory.at(t)[:, 0], exact, rtol=2e-6, atol=1e-12)
    if abs(begin) < 0.5:
        time = math.log((0.25 / 0.75) * (1 - begin**2) / begin**2) / 2
        assert trajectory.events["up" if begin > 0 else "down"] == pytest.approx(time, rel=1e-7)
    else:
        assert trajectory.events == {"up": None, "down": None}  # above it is not across it


def test_gradient_descent_is_the_discrete_map(decay):
    trajectory = rd.integrate(decay, {"fast": 1.0}, t_end=5000, dynamics="gd", step=0.1,
                              at=[0.35, 123.4, 4999.9])  # fmt: skip
    n = np.round(trajectory.t / 0.1)
    np.testing.assert_allclose(trajectory["x"], 0.9**n, rtol=1e-10, atol=1e-300)
    # 50 000 steps are not all kept, but those asked for are.
    assert len(trajectory) < 10_000
    for t, steps in ((0.35, 3), (123.4, 1234), (4999.9, 49_999)):
        assert trajectory.at(t)[1] == pytest.approx(1 - 2 * 0.9**steps, rel=1e-10)


# Events of every kind


@pytest.fixture(scope="module")
def rise_and_fall():
    """x = e^-t − e^-5t, y = e^-t + e^-5t."""
    return rd.gradient_flow(
        (3 * x**2 - 4 * x * y + 3 * y**2) / 2,
        [x, y],
        name="rise_and_fall",
        start={y: 2.0},
        observables={"sum": x + y},
        events={
            "both": (x, 0.3),
            "up": ("x", 0.3, 1),
            "down": (x, 0.3, -1),
            "sum": ("sum", 1.0),
            "ratio": (x / y, 0.5),
            "loss": ("loss", 1.0),
            "never": (x, 5),
            "wrong way": (y, 1.0, +1),
        },
    )


@pytest.mark.parametrize("method", METHODS)
def test_events_of_every_kind(rise_and_fall, method):
    trajectory = rd.integrate(rise_and_fall, t_end=10, method=method)

    def at(f, low, high):
        return brentq(f, low, high, xtol=1e-14)

    up = at(lambda t: math.exp(-t) - math.exp(-5 * t) - 0.3, 0, 0.4)
    down = at(lambda t: math.exp(-t) - math.exp(-5 * t) - 0.3, 0.4, 10)
    expected = {
        "both": up,
        "up": up,
        "down": down,
        "sum": math.log(2),
        "ratio": math.log(3) / 4,
        "loss": at(lambda t: math.exp(-2 * t) + 5 * math.exp(-10 * t) - 1, 0, 1),
        "never": None,
        "wrong way": None,
    }
    assert trajectory.events == {
        name: t if t is None else pytest.approx(t, rel=1e-8) for name, t in expected.items()
    }
    both = [(c.t, c.direction) for c in trajectory.crossings if c.name == "both"]
    assert both == [(pytest.approx(up), 1), (pytest.approx(down), -1)]
    assert [c.t for c in trajectory.crossings] == sorted(c.t for c in trajectory.crossings)
    for crossing in trajectory.crossings:
        np.testing.assert_allclose(trajectory.at(crossing.t), crossing.state, rtol=1e-7)


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


def test_clamping(rise_and_fall):
    trajectory = rd.integrate(rise_and_fall, t_end=1, clamp={"y": 0.5})
    t = np.linspace(0, 1, 20)
    close(trajectory.at(t)[:, 0], (1 - np.exp(-3 * t)) / 3)
    assert (trajectory["y"] == 0.5).all()


def test_drift_is_not_reported_for_what_a_clamp_breaks():
    alpha = sp.Symbol("α", real=True)  # generated code calls it otherwise
    system = rd.gradient_flow((x * alpha - 1) ** 2, [x, alpha], start={x: 1, alpha: 0.5},
                              invariants={"balance": x**2 - alpha**2})  # fmt: skip
    assert rd.integrate(system, t_end=1).invariants["balance"] < 1e-9
    assert rd.integrate(system, t_end=1, clamp={"α": 0.5}).invariants == {}


def test_without_a_horizon_one_must_be_given(decay):
    with pytest.raises(rd.InputError, match="t_end"):
        rd.integrate(decay)
    system = rd.gradient_flow(k * x**2, [x], parameters={k: 1}, start={x: 1}, horizon="100/k")
    trajectory = rd.integrate(system, {"k": 2.0})
    assert trajectory.t_end <= 50
    assert "head" not in trajectory.message


# Generated code against SymPy

#: Names that are Python's, the code generator's, another coordinate's derived ones, or no names.
AWKWARD = ("lambda", "x1", "z", "α", "i", "N", "par", "out", "symbol0", "symbol1", "symbol2", "max",
           "bar_x1", "v_z", "dot0_bar_x1", "x_i", "None", "w Q", "β₂", "_", "exp_", "math", "d_z",
           "h_z", "matrix", "__debug__", "v", "t_")  # fmt: skip


def interpreted(system):
    """The generated functions, run by Python itself."""
    source = module_source(system.derive({}))
    namespace = {}
    exec(source.replace("from numba import njit", "njit = lambda **_: lambda f: f"), namespace)
    return namespace


@st.composite
def losses(draw, symbols):
    """A smooth real expression, finite for coordinates and parameters in [-1, 1]."""
    leaf = st.sampled_from(symbols) | st.sampled_from(
        [sp.Integer(2), sp.Rational(-1, 3), sp.Float("0.7"), sp.pi, sp.E, sp.sqrt(2)]
    )

    def grow(children):
        unary = st.sampled_from(
            [
                sp.exp,
                sp.tanh,
                sp.sin,
                sp.cos,
                sp.atan,
                lambda e: sp.log(1 + e**2),
                lambda e: sp.sqrt(1 + e**2),
                lambda e: (2 + e**2) ** sp.Rational(-3, 2),
                lambda e: 1 / (1 + e**2),
                lambda e: e**2,
                lambda e: e**3,
                lambda e: e**5,
            ]
        )
        return (
            st.builds(lambda f, e: f(sp.tanh(e)), unary, children)
            | st.builds(sp.Add, children, children)
            | st.builds(sp.Mul, children, children)
        )

    return draw(st.recursive(leaf, grow, max_leaves=8))


@st.composite
def problems(draw):
    names = draw(st.permutations(AWKWARD))
    count = draw(st.sampled_from([1, 2, 3, WHOLE_HESSIAN + 1]))
    coordinates = [sp.Symbol(name, real=True) for name in names[:count]]
    parameters = [sp.Symbol(name, real=True) for name in names[count : count + 2]]
    loss = draw(losses([*coordinates, *parameters]))
    numbers = st.floats(-1, 1, allow_subnormal=False)
    point = draw(st.lists(numbers, min_size=count, max_size=count))
    values = draw(st.lists(numbers, min_size=2, max_size=2))
    return loss, coordinates, parameters, point, values


def sympy_values(exprs, at):
    exact = {symbol: sp.Float(value, 40) for symbol, value in at.items()}
    return np.array([float(e.xreplace(exact).evalf(25)) for e in exprs])


@given(problems())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@example(
    (sp.Symbol("x1", real=True) ** 2 * sp.Symbol("bar_x1", real=True) ** 3,
     [sp.Symbol("bar_x1", real=True), sp.Symbol("x1", real=True)], [], [0.5, -0.25], [])
)  # fmt: skip
@example(
    (sp.Symbol("symbol1", real=True) * sp.Symbol("α", real=True) ** 2,
     [sp.Symbol("symbol1", real=True), sp.Symbol("α", real=True)], [], [0.5, -0.25], [])
)  # fmt: skip
@example(
    (sp.Symbol("p", real=True), [sp.Symbol(f"x{k}", real=True) for k in range(WHOLE_HESSIAN + 1)],
     [sp.Symbol("p", real=True)], [0.0] * (WHOLE_HESSIAN + 1), [0.5])
)  # fmt: skip
def test_generated_derivatives_equal_sympys(problem):
    loss, coordinates, parameters, point, values = problem
    system = rd.gradient_flow(
        loss, coordinates, parameters=dict(zip(parameters, values, strict=True))
    )
    code = interpreted(system)
    z = np.array(point)
    par = np.array(system.pack(system.values({})))
    at = dict(zip([*coordinates, *parameters], [*point, *values], strict=True))
    gradient = [sp.diff(loss, c) for c in coordinates]
    close = {"rtol": 1e-12, "atol": 1e-13}
    value = code["value_table"](z[None], par)[0, 0]
    np.testing.assert_allclose(value, sympy_values([loss], at)[0], **close)
    np.testing.assert_allclose(code["flow"](0.0, z, par), -sympy_values(gradient, at), **close)
    jacobian = [-sp.diff(g, c) for g in gradient for c in coordinates]
    expected = sympy_values(jacobian, at).reshape(len(z), len(z))
    np.testing.assert_allclose(code["jacobian"](0.0, z, par), expected, **close)


@pytest.mark.parametrize("count", [2, WHOLE_HESSIAN + 2])
def test_compiled_derivatives_equal_sympys(count):
    """The same through numba, for both ways of making the Hessian and with hostile names."""
    coordinates = [sp.Symbol(name, real=True) for name in AWKWARD[:count]]
    a, b = coordinates[:2]
    loss = sp.exp(sp.tanh(k * a * b)) + sum(c**2 * sp.cos(a) for c in coordinates)
    system = rd.gradient_flow(loss, coordinates, parameters={k: 1.0}, name="awkward/../names")
    values = system.values({"k": 0.3})
    functions = compile_system(system, values)
    assert functions.path.parent.parent == cache.directory()
    z, par = np.linspace(-0.5, 0.7, count), np.array(system.pack(values))
    at = {k: 0.3, **dict(zip(coordinates, z, strict=True))}
    gradient = [sp.diff(loss, c) for c in coordinates]
    np.testing.assert_allclose(
        functions.flow(0.0, z, par), -sympy_values(gradient, at), rtol=1e-13, atol=1e-15
    )
    hessian = sympy_values([sp.diff(g, c) for g in gradient for c in coordinates], at)
    np.testing.assert_allclose(
        functions.jacobian(0.0, z, par), -hessian.reshape(count, count), rtol=1e-13, atol=1e-15
    )


def test_piecewise_and_special_functions_run():
    loss = sp.erf(x) + sp.Piecewise((y**2, y > 0), (y**4, True)) + sp.EulerGamma * x**2
    system = rd.gradient_flow(loss, [x, y], start={x: 0.2, y: -0.5})
    trajectory = rd.integrate(system, t_end=1)
    assert trajectory["y"][-1] == pytest.approx(-0.5 / math.sqrt(1 + 8 * 0.25), rel=1e-8)
    assert trajectory.loss_rise < 1e-15


def test_kinks_run():
    system = rd.gradient_flow(sp.Max(x, 0) ** 2 + abs(y - 1), [x, y], start={x: 1.0}, name="kink")
    final = rd.integrate(system, t_end=0.5).final
    assert final["x"] == pytest.approx(np.exp(-1), rel=1e-7)
    assert final["y"] == pytest.approx(0.5, rel=1e-9)


def test_numbers_of_any_kind_are_exact():
    big = sp.Rational(10**30 + 1, 10**30 + 7)
    system = rd.gradient_flow(big * x**7 + sp.Float("1e-300") * x, [x])
    flow = interpreted(system)["flow"](0.0, np.array([0.5]), np.array([]))
    assert flow[0] == pytest.approx(-7 * 0.5**6, rel=1e-15)


def test_systems_that_differ_never_share_a_module():
    def key(**options):
        return rd.gradient_flow(x**2 * k, [x], parameters={k: 1}, **options).key

    keys = [
        key(),
        key(observables={"a": x}),
        key(invariants={"a": x}),
        key(observables={"a": x}, invariants={"a": x**2}),
        key(observables={"a": x**3}, invariants={"a": x**2}),
        key(observables={"b": x}),
        key(events={"a": (x**2, 1)}),
        rd.gradient_flow(x**2 * k, [k], parameters={x: 1}).key,
        rd.gradient_flow(x**2 * k, [x, k]).key,
    ]
    assert len(set(keys)) == len(keys)
    assert key(events={"a": (x, 1)}) == key(start={x: 3.0}) == key()


# Bad input

X = sp.Symbol("x")  # not the real x
f = sp.Function("f")

BAD = {
    "unknown symbol": (lambda: rd.gradient_flow(x * y, [x]), "'y' in the loss is neither"),
    "other assumptions": (lambda: rd.gradient_flow(X**2, [x]), "other assumptions"),
    "no coordinates": (lambda: rd.gradient_flow(x, []), "at least one coordinate"),
    "one symbol": (lambda: rd.gradient_flow(x**2, x), "list of SymPy symbols"),
    "text": (lambda: rd.gradient_flow(x**2, "x"), "list of SymPy symbols"),
    "no symbols": (lambda: rd.gradient_flow(x**2, [x**2]), "not x\\*\\*2"),
    "imaginary": (lambda: rd.gradient_flow(sp.I * x, [x]), "real"),
    "infinite": (lambda: rd.gradient_flow(sp.oo * x, [x]), "real, finite"),
    "nan": (lambda: rd.gradient_flow(float("nan"), [x]), "real, finite"),
    "matrix": (lambda: rd.gradient_flow(sp.Matrix([[x]]), [x]), "scalar"),
    "matrix expression": (lambda: rd.gradient_flow(sp.Identity(2), [x]), "scalar"),
    "equation": (lambda: rd.gradient_flow(sp.Eq(x, 1), [x]), "scalar"),
    "tuple": (lambda: rd.gradient_flow((x, x), [x]), "scalar"),
    "none": (lambda: rd.gradient_flow(None, [x]), "scalar"),
    "syntax": (lambda: rd.gradient_flow("x**", [x]), "not a SymPy expression"),
    "undefined function": (lambda: rd.gradient_flow(f(x), [x]), "'f'.* cannot be compiled"),
    "integral": (lambda: rd.gradient_flow(sp.Integral(sp.exp(-y**2), (y, 0, x)), [x]), "integral"),
    "sum": (lambda: rd.gradient_flow(sp.Sum(x**y, (y, 0, k)), [x], parameters={k: 3}), "sum"),
    "bessel": (lambda: rd.gradient_flow(sp.besselj(0, x), [x]), "besselj"),
    "factorial": (
        lambda: rd.gradient_flow(x**2, [x], observables={"a": sp.factorial(x)}), "factorial",
    ),
    "twice": (lambda: rd.gradient_flow(x**2, [x, x]), "name of its own"),
    "twice by name": (lambda: rd.gradient_flow(x**2, [x, X]), "name of its own"),
    "also parameter": (lambda: rd.gradient_flow(x**2, [x], parameters={x: 1}), "name of its own"),
    "called t": (lambda: rd.gradient_flow(sp.Symbol("t"), [sp.Symbol("t")]), "'t'"),
    "parameter": (lambda: rd.gradient_flow(k * x, [x], parameters={k: "a"}), "must be a number"),
    "parameter nan": (lambda: rd.gradient_flow(k * x, [x], parameters={k: math.nan}), "finite"),
    "start": (lambda: rd.gradient_flow(x**2, [x], start={y: 1}), "unknown coordinate"),
    "start name": (lambda: rd.gradient_flow(x**2, [x], start={"z": 1}), "unknown coordinate"),
    "start nan": (lambda: rd.gradient_flow(x**2, [x], start={x: math.nan}), "finite"),
    "observable loss": (lambda: rd.gradient_flow(x**2, [x], observables={"loss": x}), "taken"),
    "observable x": (lambda: rd.gradient_flow(x**2, [x], observables={"x": x}), "'x' cannot name"),
    "quotes": (lambda: rd.gradient_flow(x**2, [x], observables={'a"""b': x}), "quotation"),
    "newline": (lambda: rd.gradient_flow(x**2, [x], invariants={"a\nb": x}), "letters"),
    "name": (lambda: rd.gradient_flow(x**2, [x], name=""), "letters"),
    "watch": (lambda: rd.gradient_flow(x**2, [x], events={"e": ("xx", 1)}), "did you mean 'x'"),
    "watch parameter": (
        lambda: rd.gradient_flow(k * x, [x], parameters={k: 1}, events={"e": ("k", 1)}), "unknown",
    ),
    "level": (lambda: rd.gradient_flow(x**2, [x], events={"e": (x, "a")}), "must be a number"),
    "level nan": (lambda: rd.gradient_flow(x**2, [x], events={"e": (x, math.nan)}), "finite"),
    "no level": (lambda: rd.gradient_flow(x**2, [x], events={"e": (x,)}), "what to watch"),
    "direction": (lambda: rd.gradient_flow(x**2, [x], events={"e": (x, 1, 2)}), "direction"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_definitions_are_refused_in_one_sentence(case):
    define, message = BAD[case]
    with pytest.raises(rd.InputError, match=message) as caught:
        define()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_bad_values_are_refused(decay):
    for options, message in (
        ({"parameters": {"K": 1}}, "did you mean 'k'"),
        ({"parameters": {"k": "many"}}, "must be a number"),
        ({"parameters": {"k": math.inf}}, "finite"),
        ({"clamp": {"X": 1}}, "did you mean 'x'"),
        ({"start": {"x": 1e4}}, "out of range"),
        ({"t_end": "x"}, "unknown name"),
        ({"t_end": math.nan}, "positive time"),
    ):
        with pytest.raises(rd.InputError, match=message):
            rd.integrate(decay, **({"t_end": 1} | options))


@pytest.mark.parametrize("method", METHODS)
def test_flows_that_cannot_go_on_say_so(method):
    blow_up = rd.gradient_flow(x**3, [x], start={x: -1})
    with pytest.raises(rd.IntegrationError, match=r"t = 0\.33333.*try --method") as caught:
        rd.integrate(blow_up, t_end=5, method=method, rtol=1e-5, atol=1e-8)
    partial = caught.value.trajectory
    assert np.isfinite(partial.z).all()
    assert partial.z[-1, 0] < -100
    root = rd.gradient_flow(x + sp.sqrt(x), [x], start={x: 1.0})
    with pytest.raises(rd.IntegrationError, match=r"no longer finite|too small"):
        rd.integrate(root, t_end=50, method=method)
    with pytest.raises(rd.InputError, match="gradient is not finite at the start"):
        rd.integrate(root, t_end=50, method=method, start={"x": 0})
    with pytest.raises(rd.InputError, match="loss is not finite at the start"):
        rd.integrate(root, t_end=50, method=method, start={"x": -1})


def test_descent_that_blows_up_names_its_step():
    system = rd.gradient_flow(-sp.exp(x), [x])
    with pytest.raises(rd.IntegrationError, match="diverged at step"):
        rd.integrate(system, t_end=50, dynamics="gd", step=1.0)
    with pytest.raises(rd.InputError, match="too many"):
        rd.integrate(system, t_end=1e30, dynamics="gd", step=1e-300)


def test_a_solver_that_steps_over_a_singularity_is_caught():
    """The flow of x²/2 + x + √x + y²/2 ends at x = 0, at t = .4187."""
    x, y = sp.symbols("x y")
    loss = x**2 / 2 + x + sp.sqrt(x) + y**2 / 2
    system = rd.gradient_flow(loss, [x, y], start={x: 1.0, y: 1.0}, name="end")
    for method in ("Radau", "LSODA", "BDF", "Rodas5P"):
        with pytest.raises(rd.IntegrationError) as caught:
            rd.integrate(system, t_end=2.0, method=method)
        assert caught.value.trajectory.t[-1] <= 0.4188


def test_steps_that_memory_cannot_hold_are_refused():
    for method in ("Rodas5P", "LSODA"):
        with pytest.raises(rd.InputError, match="raise --max-step or lower --t-end"):
            rd.integrate("musat3", {"N": 8}, t_end=200.0, max_step=1e-9, method=method)
