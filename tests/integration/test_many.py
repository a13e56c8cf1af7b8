"""Many trajectories at once: against single runs and Radau, lanes against scalars, failures."""

import math
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from reduced_dynamics import InputError, catalogue, gradient_flow
from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.system import Horizon
from reduced_dynamics.integration.rosenbrock.build import integrator
from reduced_dynamics.public import integrate, integrate_many

SIZES = np.unique(np.round(np.geomspace(8, 512, 50)).astype(int))


@pytest.fixture(scope="module")
def module():
    """The generated module that integrates musat3."""
    system = catalogue.system("musat3")
    values = system.values({})
    return integrator(system, values, compile_system(system, values))._module


@pytest.mark.parametrize("name, sizes", [("musat3", (2, 8, 64, 512)), ("musat19", (2, 5, 16))])
def test_emergence_times_are_radaus(name, sizes):
    ensemble = integrate_many(name, {"N": sizes}, t_end="20*N**2")
    assert ensemble.done.all()
    for k, n in enumerate(sizes):
        run = integrate(name, {"N": n}, t_end="20*N**2", method="Radau", rtol=1e-12, atol=1e-15)
        for event, t in run.events.items():
            found = ensemble[event][k]
            assert math.isnan(found) if t is None else found == pytest.approx(t, rel=5e-9), event
        assert ensemble.final[k] == pytest.approx(run.z[-1], rel=1e-8, abs=1e-11)
        assert ensemble.loss[k] == pytest.approx(run.loss[-1], rel=1e-7)
        assert ensemble["A"][k] == pytest.approx(run["A"][-1], rel=1e-8)


def test_tolerances_are_the_trajectorys():
    """Emergence times are right to ten times the tolerance asked for, loose or strict."""
    exact = integrate_many("musat3", {"N": SIZES}, t_end="8*N**2", rtol=1e-12, atol=1e-15)
    for rtol in (1e-6, 1e-8, 1e-10):
        for lanes in (True, False):
            found = integrate_many(
                "musat3", {"N": SIZES}, t_end="8*N**2", rtol=rtol, atol=rtol * 1e-3, lanes=lanes
            )
            assert np.abs(found.events / exact.events - 1).max() < 10 * rtol


def test_lanes_are_the_scalar_integrator():
    options = {"t_end": "20*N**2", "threshold": 0.1}
    lanes = integrate_many("musat3", {"N": SIZES}, lanes=True, **options)
    alone = integrate_many("musat3", {"N": SIZES}, lanes=False, **options)
    np.testing.assert_allclose(lanes.events, alone.events, rtol=2e-9)
    np.testing.assert_allclose(lanes.final, alone.final, rtol=2e-9)
    # Their steps differ by the precision of a logarithm in the step control only.
    assert abs(lanes.stats["steps"].sum() / alone.stats["steps"].sum() - 1) < 0.05
    for stats in (lanes.stats, alone.stats):
        attempts = stats["steps"] + stats["rejected"]
        assert (stats["rhs"] == 1 + 8 * attempts).all()


def test_lanes_of_a_system_with_loops_are_the_scalar_integrator():
    """Points of two sizes and several queries: those with equal loops go together."""
    points = [{"N": n, "query": q} for n in (5, 6) for q in ("last", 3)] * 5
    options = {"t_end": "4*N**2", "rtol": 1e-8, "starts": {"alpha3": np.linspace(0, 0.1, 20)}}
    lanes = integrate_many("musat19", points, lanes=True, **options)
    alone = integrate_many("musat19", points, lanes=False, **options)
    assert lanes.done.all()
    np.testing.assert_allclose(lanes.events, alone.events, rtol=1e-7)
    np.testing.assert_allclose(lanes.final, alone.final, rtol=1e-6, atol=1e-8)
    assert lanes.stats["steps"].mean() == pytest.approx(alone.stats["steps"].mean(), rel=0.1)


def test_results_depend_on_neither_threads_nor_neighbours():
    sizes = np.concatenate([SIZES, SIZES[::-1], np.arange(8, 40)])
    one = integrate_many("musat3", {"N": sizes}, t_end="6*N**2", threads=1)
    two = integrate_many("musat3", {"N": sizes}, t_end="6*N**2", threads=2)
    np.testing.assert_array_equal(one.events, two.events)
    np.testing.assert_array_equal(one.final, two.final)
    few = integrate_many("musat3", {"N": sizes[7:9]}, t_end="6*N**2")
    np.testing.assert_array_equal(few.events, one.events[7:9])
    np.testing.assert_array_equal(few.final, one.final[7:9])


def test_points_without_a_closed_form_go_alone():
    points = [{"N": 8, "query": q} for q in ("last", "uniform", 3, 1)]
    mixed = integrate_many("musat3", points, t_end=500.0)
    for k, point in enumerate(points):
        run = integrate("musat3", point, t_end=500.0)
        assert mixed.final[k] == pytest.approx(run.z[-1], rel=1e-8)
        assert mixed["T_gamma3"][k] == pytest.approx(run.events["T_gamma3"], rel=1e-8)
    with pytest.raises(InputError, match="share vector registers"):
        integrate_many("musat3", points, t_end=500.0, lanes=True)


def test_starts_clamps_and_times():
    starts = {"gamma3": [0.0, 0.5, 1.0]}
    ensemble = integrate_many(
        "musat3", {"N": 16}, t_end=800.0, starts=starts, clamp={"alpha3": 1.0}, at=[0, 10, 800]
    )
    for k, gamma in enumerate(starts["gamma3"]):
        run = integrate(
            "musat3", {"N": 16}, t_end=800.0, start={"gamma3": gamma}, clamp={"alpha3": 1.0}
        )
        np.testing.assert_allclose(ensemble.states[k], run.at([0.0, 10.0, 800.0]), rtol=1e-8)
        for event, t in run.events.items():
            found = ensemble[event][k]
            assert math.isnan(found) if t is None else found == pytest.approx(t, rel=1e-8)
    assert (ensemble["alpha3"] == 1.0).all()


def test_automatic_horizons_are_those_of_single_runs():
    """Found for all points at once, they end where `integrate` ends each, for all its reasons."""
    u, v = sp.symbols("u v", real=True)
    plateau = gradient_flow(
        (u * v - 1) ** 2 / 2, [u, v], start={u: 1e-8, v: 2e-8}, events={"T": (u * v, 0.5)},
        name="plateau",
    )  # fmt: skip
    plateau = replace(plateau, horizon=Horizon("1000", formed=("T",)))
    ends = set()
    for system, points, options in (
        ("musat3", [{"N": 4, "query": 2}, {"N": 2}, {"N": 64}, {"N": 0}], {}),
        ("musat3", [{"N": 2}], {"clamp": {"gamma3": 0.0}}),
        ("musat19", [{"N": 4}], {}),
        (plateau, [{}], {}),
        (plateau, [{}], {"at": [900.0]}),
    ):
        many = integrate_many(system, points, t_end="auto", **options)
        for k, point in enumerate(points):
            if point.get("N") == 0:
                assert "out of range" in many.reasons[k]
                continue
            run = integrate(system, point, method="Rodas5P", **options)
            ends.add(run.message.split(":")[0])
            # Both are right to ten times the tolerance.
            assert many.t[k] == pytest.approx(run.t_end, rel=2e-8), run.message
            assert many.final[k] == pytest.approx(run.z[-1], rel=1e-7)
            for event, t in run.events.items():
                found = many[event][k]
                assert math.isnan(found) if t is None else found == pytest.approx(t, rel=2e-8)
    assert [message[:8] for message in sorted(ends)] == ["the boun", "the loss", "the loss"]
    x, y = sp.symbols("x y", real=True)
    endless = gradient_flow((x - y) ** 2 / 2, [x, y], start={x: 1.0}, name="endless")
    with pytest.raises(InputError, match="declares no automatic horizon"):
        integrate_many(endless, {}, t_end="auto")


def test_failures_are_recorded_with_their_reason():
    x, a = sp.symbols("x a", real=True)
    system = gradient_flow(
        -a * x**3 / 3 + sp.log(1 + x**2) * 0, [x], parameters={a: 1.0}, start={x: 1.0},
        events={"high": (x, 10.0, 1)}, name="explosion",
    )  # fmt: skip
    ensemble = integrate_many(system, {"a": [-1.0, 1.0, math.inf, 0.5]}, t_end=3.0)
    assert ensemble.done.tolist() == [True, False, False, False]
    assert ensemble.reasons[1].startswith("failed at t = 1:")
    assert "finite" in ensemble.reasons[2]
    assert ensemble.reasons[3].startswith("failed at t = 2:")
    assert ensemble["high"][1] == pytest.approx(0.9, rel=1e-8)
    assert ensemble.final[0] == pytest.approx(0.25, rel=1e-8)
    assert np.isnan(ensemble.final[2]).all()
    ensemble = integrate_many("musat3", {"N": [8, 0, 2.5, 8], "query": ["last", 1, 1, 9]}, t_end=9)
    assert [bool(r) for r in ensemble.reasons] == [False, True, True, True]
    assert "beyond the last" in ensemble.reasons[3]


def test_bad_input():
    for parameters, options, message in (
        ({"M": [1, 2]}, {}, "unknown parameter of musat3 'M'"),
        ({"N": [8, 9], "D": [18]}, {}, "equally many values"),
        ({"N": [8]}, {"rtol": 1.0}, "rtol"),
        ({"N": [8]}, {"threads": 0}, "whole number from 1"),
        ({"N": [8]}, {"threads": "2"}, "whole number from 1"),
        ({"N": [8]}, {"lanes": "yes"}, "lanes is True"),
        ({"N": [8]}, {"progress": 3}, "callable"),
        ({"N": [8]}, {"starts": [1, 2]}, "starts takes a mapping"),
        ({"N": [8]}, {"clamp": {"gamma3": [1, 2]}}, "one number for all points"),
        ({"N": [8]}, {"at": "12"}, "list of times"),
        ({"N": [8]}, {"at": None}, "list of times"),
        (5, {}, "not 5"),
        ([5], {}, "list of mappings"),
        ({"N": [8]}, {"at": [2.0, 1.0]}, "sort them"),
        ({"N": [8, 9]}, {"t_end": [1.0, 2.0, 3.0]}, "one for each of 2 points"),
    ):
        with pytest.raises(InputError, match=message):
            integrate_many("musat3", parameters, **({"t_end": 5.0} | options))
    with pytest.raises(InputError, match="a system is"):
        integrate_many(4, {"N": [8]}, t_end=1.0)
    bad = integrate_many("musat3", {"N": [8]}, t_end=-1.0)
    assert "positive time" in bad.reasons[0]
    assert len(integrate_many("musat3", {"N": []}, t_end=1.0)) == 0
    with pytest.raises(InputError, match="did you mean 't_icl'"):
        integrate_many("musat3", {"N": [8]}, t_end=1.0)["t_icll"]


def test_a_users_system_shares_registers_too():
    x, y, a = sp.symbols("x y a", real=True)
    loss = (x - a) ** 2 / 2 + sp.exp(-x * y) + y**2
    system = gradient_flow(
        loss, [x, y], parameters={a: 1.0}, start={y: 0.1},
        observables={"xy": x * y}, events={"T": ("xy", 0.2), "X": (x, 0.5, 1)}, name="pair",
    )  # fmt: skip
    values = np.linspace(0.6, 3.0, 77)
    lanes = integrate_many(system, {"a": values}, t_end=20.0, lanes=True)
    for k in (0, 38, 76):
        run = integrate(system, {"a": values[k]}, t_end=20.0, method="Radau", rtol=1e-11)
        for event, t in run.events.items():
            found = lanes[event][k]
            assert math.isnan(found) if t is None else found == pytest.approx(t, rel=1e-8)
        assert lanes.final[k] == pytest.approx(run.z[-1], rel=1e-8)


# ---------------------------------------------------------------- what lanes compute


@given(st.floats(-708.0, 709.0))
@settings(max_examples=500, deadline=None)
def test_the_exponential_is_right_to_an_ulp(module, x):
    assert module.exponential(x) == pytest.approx(math.exp(x), rel=2.3e-16)


def test_the_exponential_on_many_arguments(module):
    exponential = module.exponential

    @njit
    def table(xs):
        return np.array([exponential(x) for x in xs])

    xs = np.concatenate([np.linspace(-708, 709, 100_001), np.linspace(-1, 1, 100_001)])
    exact = np.exp(xs.astype(np.longdouble))
    ulps = np.abs((table(xs) - exact) / np.spacing(exact.astype(float)))
    assert ulps.max() < 1.0
    assert table(np.array([0.0]))[0] == 1.0
    assert table(np.array([-1e9, -math.inf]))[1] < 1e-300
    assert math.isnan(table(np.array([math.nan]))[0])


def test_lane_functions_are_the_scalar_ones(module):
    generator = np.random.default_rng(0)
    lanes = module.LANES
    z = generator.normal(size=(3, lanes)) * 3
    par = np.repeat(generator.integers(2, 500, lanes)[None].astype(float), 2, axis=0)
    rate, out, matrix = np.empty(3 * lanes), np.empty(3 * lanes), np.empty(9 * lanes)
    module.lane_rate(z.ravel(), par.ravel(), out, rate)
    module.lane_jacobian(z.ravel(), par.ravel(), matrix)
    one, gradient, jacobian = np.empty(3), np.empty(6), np.empty((3, 3))
    for k in range(lanes):
        module.rate_into(z[:, k].copy(), par[:, k].copy(), gradient, one)
        module.jacobian_into(z[:, k].copy(), par[:, k].copy(), jacobian)
        scale = np.abs(one).max()
        np.testing.assert_allclose(rate.reshape(3, -1)[:, k], one, rtol=1e-12, atol=1e-13 * scale)
        np.testing.assert_allclose(out.reshape(3, -1)[:, k], gradient[:3], rtol=1e-13)
        np.testing.assert_allclose(
            matrix.reshape(9, -1)[:, k],
            jacobian.ravel(),
            rtol=1e-11,
            atol=1e-13 * np.abs(jacobian).max(),
        )


def test_lane_loops_become_vector_instructions(module):
    """On processors with vector registers, divisions of lanes come several at a time."""
    import platform

    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("looks for this machine's own instructions")
    rate = njit(module.lane_rate.py_func, error_model="numpy", fastmath={"contract"})
    rate(np.zeros(96), np.ones(64), np.zeros(96), np.zeros(96))
    (assembly,) = rate.inspect_asm().values()
    assert assembly.count("divpd") >= 2


def test_mobilities_in_lanes_and_alone():
    """A coordinate that is the logarithm of a weight: its flow is that of the weight."""
    from derivations.core.derivation import Derivation
    from derivations.core.staged import Program
    from reduced_dynamics.core.system import Coordinate, Event, Parameter, ReducedSystem

    l, u, k = sp.symbols("l u k", real=True)
    w = sp.exp(l / 2)
    program = Program((l, u), (k,), (), (), {"loss": (w * u - k) ** 2 / 2})
    mobility = {l: 1 / sp.diff(w, l) ** 2}
    system = ReducedSystem(
        name="logarithm",
        title="product",
        source="a test",
        coordinates=(Coordinate("l", "log w²", "log(k**2 / 4)"), Coordinate("u", "u", 0.3)),
        derive=lambda _: Derivation(
            "logarithm", (l, u), (k,), ((None, program),), (), {}, mobility
        ),
        parameters=(Parameter("k", 1.0, "target"),),
        events=(Event("T", "u reaches 0.6", "u", 0.6),),
        pack=lambda values: (values["k"],),
        key="test_ensemble",
    )
    for lanes in (True, False):
        found = integrate_many(system, {"k": [0.8, 1.0, 1.2]}, t_end=5.0, lanes=lanes)
        for n, value in enumerate((0.8, 1.0, 1.2)):
            run = integrate(system, {"k": value}, t_end=5.0, method="Radau", rtol=1e-11)
            assert found.final[n] == pytest.approx(run.z[-1], rel=1e-8)
            assert found["T"][n] == pytest.approx(run.events["T"], rel=1e-8)


def test_an_ensemble_tells_how_many_points_are_done_and_which_were_not_begun():
    told = []
    found = integrate_many(
        "musat3", {"N": [4, -1, 5]}, t_end=9.0, progress=lambda *now: told.append(now)
    )
    assert told[-1] == ("3 of 3 points", 1.0)
    assert found.refused.tolist() == [False, True, False] == (~found.done).tolist()
