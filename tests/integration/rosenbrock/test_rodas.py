"""Rodas5P: its tableau, its order, its dense output, and single runs with it."""

import itertools
import math

import numpy as np
import pytest
import sympy as sp
from numba import njit

import reduced_dynamics as rd
from reduced_dynamics import gradient_flow
from reduced_dynamics.integration.rosenbrock import tableau
from reduced_dynamics.public import integrate

# ---------------------------------------------------------------- tableau


def trees(order):
    """Rooted trees with so many nodes, each the sorted tuple of its branches."""
    if order == 1:
        return [()]
    found = set()
    for split in partitions(order - 1):
        for branches in itertools.product(*map(trees, split)):
            found.add(tuple(sorted(branches)))
    return sorted(found)


def partitions(n, least=1):
    yield (n,)
    for first in range(least, n // 2 + 1):
        for rest in partitions(n - first, first):
            yield (first, *rest)


def size(tree):
    return 1 + sum(map(size, tree))


def density(tree):
    return size(tree) * math.prod(map(density, tree))


def stage_weights(tree, alpha, beta):
    """Φ at every stage: a node with one branch carries β = α + Γ, one with more carries α.

    Hairer and Wanner, Solving Ordinary Differential Equations II, section IV.7.
    """
    if not tree:
        return np.ones(len(alpha))
    matrix = beta if len(tree) == 1 else alpha
    return np.prod([matrix @ stage_weights(b, alpha, beta) for b in tree], axis=0)


#: Γ of the classical form, in which the order conditions are stated. There
#: k_i = h f(z + Σ α_ij k_j) + h J Σ_j Γ_ij k_j (Γ_ii = γ) and U = Γ k; so Γ⁻¹ = 1/γ − C.
SLOPES = np.linalg.inv(np.eye(tableau.STAGES) / tableau.GAMMA - tableau.C)


@pytest.fixture(scope="module")
def classical():
    """α, α + Γ and the weights of the classical form."""
    alpha = tableau.A @ SLOPES
    return alpha, alpha + SLOPES, tableau.B @ SLOPES


def test_there_are_as_many_trees_as_known():
    assert [len(trees(n)) for n in range(1, 6)] == [1, 1, 2, 4, 9]


@pytest.mark.parametrize("order", range(1, 6))
def test_order_conditions(order, classical):
    alpha, beta, weights = classical
    for tree in trees(order):
        # The coefficients are printed to 16 digits and as large as 150; so much is rounding.
        assert weights @ stage_weights(tree, alpha, beta) == pytest.approx(
            1 / density(tree), abs=1e-13
        ), tree


def test_the_embedded_method_has_order_four_and_not_five(classical):
    alpha, beta, _ = classical
    embedded = (tableau.B - np.eye(8)[7]) @ SLOPES
    residual = [
        max(abs(embedded @ stage_weights(t, alpha, beta) - 1 / density(t)) for t in trees(order))
        for order in range(1, 6)
    ]
    assert max(residual[:4]) < 1e-13
    assert residual[4] > 1e-4


@pytest.mark.parametrize("x", [0.25, 0.5, 0.9])
def test_dense_output_has_order_four(x, classical):
    alpha, beta, weights = classical
    inner = [row @ SLOPES for row in tableau.H]
    at = x * (weights + (1 - x) * (inner[0] + x * (inner[1] + x * inner[2])))
    for order in range(1, 5):
        for tree in trees(order):
            value = at @ stage_weights(tree, alpha, beta)
            assert value == pytest.approx(x**order / density(tree), abs=1e-12)


def test_it_is_stiffly_accurate_and_l_stable(classical):
    alpha, beta, weights = classical
    np.testing.assert_allclose(beta[7], weights, atol=1e-13)
    np.testing.assert_allclose(alpha[7], beta[6], atol=1e-13)
    np.testing.assert_allclose(SLOPES.diagonal(), tableau.GAMMA, rtol=1e-14)

    def stability(z):
        return 1 + z * weights @ np.linalg.solve(np.eye(8) - z * beta, np.ones(8))

    assert abs(stability(-1e12)) < 1e-9
    imaginary = [abs(stability(1j * y)) for y in np.geomspace(1e-2, 1e4, 400)]
    assert max(imaginary) < 1 + 1e-12  # A-stable: bounded on the axis, without poles to its left
    assert abs(stability(-2.0) - math.exp(-2.0)) < 1e-3


# ---------------------------------------------------------------- order, measured

x, y, k = sp.symbols("x y k", real=True)


@pytest.fixture(scope="module")
def rotated():
    """A nonlinear flow whose solution is known, in rotated axes.

    u = x + y decays like exp(−t); v = x − y obeys the logistic equation v' = k v (1 − v).
    """
    u, v = x + y, x - y
    loss = u**2 / 4 + k * (v**3 / 3 - v**2 / 2) / 2
    return gradient_flow(
        loss,
        [x, y],
        parameters={k: 1.0},
        start={x: 0.55, y: 0.45},
        observables={"u": u, "v": v},
        events={"T_v": (v, 0.5, 1), "T_x": (x, 0.55, -1)},
        name="logistic",
    )


def exact(t, rate=1.0):
    u, v = math.exp(-t), 1 / (1 + 9 * math.exp(-rate * t))
    return np.array([u + v, u - v]) / 2


def from_python(function):
    """What compiled code alone calls, to be called from a test."""
    return njit(lambda *arguments: function(*arguments))


def fixed_steps(system, count, end=2.0):
    """The state, and the dense output in the middle of the first step, after equal steps."""
    from reduced_dynamics.integration.problem import Options, Problem
    from reduced_dynamics.integration.rosenbrock.build import integrator

    problem = Problem(system, {}, Options(t_end=end, method="Rodas5P"))
    module = integrator(problem.system, problem.values, problem.compiled)._module
    z, h = problem.z0.copy(), end / count
    held, par = np.zeros(2, bool), problem.par
    attempt, dense, place = map(from_python, (module.attempt, module.dense, module.place))
    room = module.make_room()
    vectors, squares, stages, inner, outs, *_ = room
    rate, after, jacobian, out, middle = vectors[0], vectors[4], squares[0], outs[0], None
    for n in range(count):
        module.rate_into(z, par, out, rate)
        module.jacobian_into(z, par, jacobian)
        assert attempt(z, h, par, held, room)
        if n == count // 2:
            dense(stages, inner)
            middle = np.empty(2)
            place(0.5, z, after, inner, middle)
            middle = (n + 0.5) * h, middle
        z = after.copy()
    return z, middle


def test_the_measured_orders_are_five_and_four(rotated):
    counts = (8, 16, 32)
    ends, middles = [], []
    for count in counts:
        end, (t, middle) = fixed_steps(rotated, count)
        ends.append(np.abs(end - exact(2.0)).max())
        middles.append(np.abs(middle - exact(t)).max())
    orders = np.log2(np.array(ends[:-1]) / ends[1:])
    assert (orders > 4.6).all(), orders
    orders = np.log2(np.array(middles[:-1]) / middles[1:])
    assert (orders > 3.7).all(), orders


def test_a_run_keeps_its_tolerance_and_finds_its_events(rotated):
    for rtol in (1e-6, 1e-9, 1e-11):
        run = integrate(rotated, t_end=8.0, method="Rodas5P", rtol=rtol, atol=rtol * 1e-3)
        assert np.abs(run.z[-1] - exact(8.0)).max() < 10 * rtol
        assert run.events["T_v"] == pytest.approx(math.log(9.0), rel=10 * rtol)
        t = np.linspace(0, 8, 173)
        assert np.abs(run.at(t) - np.array([exact(s) for s in t])).max() < 30 * rtol


def test_stiffness_costs_no_steps(rotated):
    """v relaxes 10⁵ times faster than u; only the first stretch may be resolved."""
    run = integrate(rotated, {"k": 1e5}, t_end=8.0, method="Rodas5P")
    assert np.abs(run.z[-1] - exact(8.0, 1e5)).max() < 1e-8
    assert run.stats["steps"] < 500


# ---------------------------------------------------------------- single runs


@pytest.mark.parametrize(
    "name, n", [("musat3", 2), ("musat3", 64), ("musat3", 1024), ("musat19", 2), ("musat19", 64)]
)
def test_emergence_is_that_of_radau(name, n):
    own = integrate(name, {"N": n}, method="Rodas5P")
    radau = integrate(name, {"N": n}, method="Radau", rtol=1e-11, atol=1e-14)
    assert own.t_end == pytest.approx(radau.t_end, rel=1e-8)
    assert [c.name for c in own.crossings] == [c.name for c in radau.crossings]
    for event, t in radau.events.items():
        assert own.events[event] == (None if t is None else pytest.approx(t, rel=1e-8))
    assert own.loss_rise < 1e-15


def test_crossings_of_a_quantity_that_swings_within_a_step():
    """Steps of this flow are long; what is watched crosses its level many times in each."""
    system = gradient_flow(
        x**2 / 2, [x], start={x: 1.0},
        observables={"s": sp.sin(40 * x)}, events={"swing": ("s", 0.25)}, name="swing",
    )  # fmt: skip
    run = integrate(system, t_end=6.0, method="Rodas5P", rtol=1e-5, atol=1e-8)
    angles = [math.asin(0.25) + 2 * math.pi * j for j in range(7)]
    angles += [math.pi - math.asin(0.25) + 2 * math.pi * j for j in range(7)]
    expected = sorted(-math.log(a / 40) for a in angles if 40 * math.exp(-6) < a < 40)
    assert [c.t for c in run.crossings] == pytest.approx(expected, abs=2e-4)
    signs = [c.direction for c in run.crossings]
    assert all(a == -b for a, b in itertools.pairwise(signs))


def test_an_event_on_an_asymptote_and_one_held_cost_nothing():
    system = gradient_flow(
        (x - 1) ** 2 / 2 + y**2, [x, y], start={y: 0.25},
        events={"never": (x, 1.0), "at": (y, 0.25)}, name="asymptote",
    )  # fmt: skip
    run = integrate(system, t_end=200.0, method="Rodas5P", clamp={"y": 0.25})
    assert run.events["at"] is None
    assert (run["y"] == 0.25).all()
    assert run.stats["steps"] < 1000


def test_clamped_and_interrupted_runs():
    held = integrate("musat3", {"N": 8}, clamp={"alpha3": 1.5}, t_end=500, method="Rodas5P")
    other = integrate("musat3", {"N": 8}, clamp={"alpha3": 1.5}, t_end=500, method="Radau")
    assert (held["alpha3"] == 1.5).all()
    assert held.events["T_alpha3"] is None
    assert held.events["t_icl"] == pytest.approx(other.events["t_icl"], rel=1e-8)

    def stop(what, share):
        raise KeyboardInterrupt

    with pytest.raises(rd.Interrupted) as caught:
        integrate("musat3", {"N": 64}, method="Rodas5P", progress=stop)
    assert 1 < len(caught.value.trajectory) < 1000


def test_a_flow_that_blows_up_ends_in_one_sentence():
    system = gradient_flow(-(x**3) / 3, [x], start={x: 1.0}, name="blowup")
    with pytest.raises(rd.IntegrationError, match=r"Rodas5P failed at t = 1: .*--t-end") as caught:
        integrate(system, t_end=2.0, method="Rodas5P")
    assert caught.value.trajectory.t[-1] == pytest.approx(1.0, abs=1e-6)


def test_the_command_line_offers_it(capsys):
    import json

    from reduced_dynamics.commands.main import main

    arguments = ["run", "musat3", "--set", "N=8", "--json", "--method", "Rodas5P", "--at", "1,10"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["solver"]["method"] == "Rodas5P"
    assert told["stats"]["steps"] > 50
    radau = integrate("musat3", {"N": 8}, method="Radau", at=[1, 10])
    assert told["at"]["gamma3"][1] == pytest.approx(radau.at(10.0)[2], rel=1e-8)
    assert main(["run", "musat3", "--method", "Rodas5"]) == 2
    assert "did you mean 'Rodas5P'" in capsys.readouterr().err


# ---------------------------------------------------------------- narrow and quick features


@pytest.fixture(scope="module")
def ramp():
    """u = t, watched through what is narrower than the steps that u needs."""
    import sympy as sp

    u, k = sp.symbols("u k")
    return gradient_flow(
        -u,
        [u],
        parameters={k: 1000.0},
        start={u: 0.0},
        observables={
            "spike": sp.exp(-((200 * (u - sp.Rational(33, 10))) ** 2)),
            "wave": sp.sin(k * u),
        },
        events={"T": ("spike", 0.5), "up": ("wave", 0.5), "down": ("wave", -0.5, -1)},
        name="ramp",
    )


@pytest.mark.parametrize("method", ["Rodas5P", "Radau"])
def test_steps_keep_within_max_step_and_miss_nothing(ramp, method):
    run = integrate(ramp, t_end=10.0, method=method, max_step=0.05)
    assert np.diff(run.t).max() <= 0.05 * (1 + 1e-12)
    half = math.sqrt(math.log(2.0)) / 200
    found = [c.t for c in run.crossings if c.name == "T"]
    assert found == pytest.approx([3.3 - half, 3.3 + half], rel=1e-8)
    turns = 2 * math.pi * np.arange(1592)
    up = np.concatenate([math.asin(0.5) + turns, math.pi - math.asin(0.5) + turns])
    down = math.pi + math.asin(0.5) + turns
    for name, exact in (("up", up), ("down", down)):
        exact = np.sort(exact[exact < 10_000]) / 1000
        found = [c.t for c in run.crossings if c.name == name]
        assert len(found) == len(exact)
        np.testing.assert_allclose(found, exact, rtol=1e-8)
