"""The chart that a solver is given for musat3 at large N: the same flow, without cancellation."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from reduced_dynamics import catalogue, integrate, integrate_many
from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.system import Hints
from reduced_dynamics.integration.chart import Charted, chart_of
from reduced_dynamics.integration.problem import Options, Problem

METHODS = ("LSODA", "Radau", "BDF", "Rodas5P")


def compiled(n):
    system = catalogue.system("musat3")
    values = system.values({"N": n})
    return compile_system(system, values), np.array(system.pack(values), dtype=float)


def states(n, count, seed=0):
    """Random states from before to after emergence."""
    rng = np.random.default_rng(seed)
    alpha, gamma = rng.uniform(-2, 3 * np.log(n), count), rng.uniform(0, 4, count)
    return np.column_stack([alpha, rng.uniform(-2, 2.5 * np.log(n), count), gamma])


def exact_loss(alpha, beta, gamma, n):
    """The closed form of musat3's loss (query last), in mpmath's precision."""
    w = mpmath.exp(alpha) / (mpmath.exp(alpha) + 2 * n - 2)
    right, wrong = mpmath.exp(beta * w), mpmath.mpf(2 * n - 1)
    a, b = right / (right + wrong), wrong / (right + wrong)
    return ((1 - gamma * a) ** 2 + gamma**2 * b**2 / wrong) / 2


def exact_h(alpha, beta, n):
    w = mpmath.exp(alpha) / (mpmath.exp(alpha) + 2 * n - 2)
    right, wrong = mpmath.exp(beta * w), mpmath.mpf(2 * n - 1)
    a, b = right / (right + wrong), wrong / (right + wrong)
    return a / (a**2 + b**2 / wrong + mpmath.exp(-200 * a))


def slopes(f, at):
    """Derivatives by central differences, with 80 digits good to some 50."""
    step = mpmath.mpf(10) ** -30
    for k in range(len(at)):
        ahead, behind = ([c + s * (j == k) for j, c in enumerate(at)] for s in (step, -step))
        yield (f(*ahead) - f(*behind)) / (2 * step)


def exact_rate(y, n):
    """dy/dt from the loss alone, by the chain rule."""
    alpha, beta, v = map(mpmath.mpf, y)
    z = (alpha, beta, v + exact_h(alpha, beta, n))
    rate = [-d for d in slopes(lambda *z: exact_loss(*z, n), z)]
    turned = list(slopes(lambda *z: exact_h(*z, n), (alpha, beta)))
    return [rate[0], rate[1], rate[2] - turned[0] * rate[0] - turned[1] * rate[1]]


def test_the_derived_chart_has_the_flow_of_the_loss():
    import sympy as sp

    from derivations.core.differentiate import softmax_rule
    from derivations.core.staged import N
    from derivations.musat.chart import A, B, attention_loss, checks, w, wrong
    from derivations.musat.head import alpha, beta, gamma, musat3_loss

    assert set(checks().values()) == {0}
    assert softmax_rule() == 0
    first = sp.exp(alpha) / (sp.exp(alpha) + 2 * N - 2)
    right = sp.exp(beta * w) / (sp.exp(beta * w) + wrong)
    loss = attention_loss().subs({A: right, B: 1 - right}).subs(w, first)
    at = {alpha: sp.Rational(3, 2), beta: sp.Rational(7, 3), gamma: sp.Rational(4, 5), N: 9}
    assert sp.N((loss - musat3_loss()).subs(at), 40, chop=True) == 0


@pytest.mark.parametrize("n", [2, 3, 16, 64])
def test_the_chart_flow_is_the_flow(n):
    functions, par = compiled(n)
    zs = states(n, 40)
    ys = functions.to_chart(zs, par)
    np.testing.assert_allclose(functions.from_chart(ys, par), zs, rtol=1e-13, atol=1e-13)
    for y, z in zip(ys, zs, strict=True):
        rate, flow = functions.chart_flow(0.0, y, par), functions.flow(0.0, z, par)
        with mpmath.workdps(80):
            at = tuple(map(mpmath.mpf, z[:2]))
            turned = np.array([float(d) for d in slopes(lambda *z: exact_h(*z, n), at)])
        parts = turned * flow[:2]
        scale = max(np.abs(flow).max(), np.abs(parts).max())
        np.testing.assert_allclose(
            rate, [*flow[:2], flow[2] - parts.sum()], rtol=0, atol=1e-12 * scale
        )


@pytest.mark.parametrize("n", [64, 10**6, 10**12])
def test_the_chart_flow_keeps_its_digits(n):
    """On the trajectory from plateau to long after emergence, where 1 − γA is 0 in float64."""
    functions, par = compiled(n)
    path = integrate(charted(n), {"N": n}, method="Radau", rtol=1e-6)
    ys = functions.to_chart(np.ascontiguousarray(path.z[1 :: max(len(path) // 40, 1)]), par)
    with mpmath.workdps(80):
        for y in ys:
            rate, exact = functions.chart_flow(0.0, y, par), exact_rate(y, n)
            for found, wanted in zip(rate[:2], exact[:2], strict=True):
                assert found == pytest.approx(float(wanted), rel=1e-11)
            # dv/dt relaxes: it is small where v rests, as a difference of these two.
            size = abs(float(y[2])) + abs(float(exact[2]))
            assert rate[2] == pytest.approx(float(exact[2]), rel=1e-11, abs=1e-13 * size)


@pytest.mark.parametrize("n", [2, 64, 10**6, 10**12])
def test_the_chart_jacobian_is_the_derivative(n):
    functions, par = compiled(n)
    for y in functions.to_chart(states(n, 12, seed=1), par):
        jacobian = functions.chart_jacobian(0.0, y, par)
        with mpmath.workdps(80):
            step = mpmath.mpf(10) ** -12
            columns = []
            for k in range(3):
                ahead, behind = (
                    exact_rate([c + s * (j == k) for j, c in enumerate(map(mpmath.mpf, y))], n)
                    for s in (step, -step)
                )
                columns.append(
                    [float((a - b) / (2 * step)) for a, b in zip(ahead, behind, strict=True)]
                )
        exact = np.array(columns).T
        np.testing.assert_allclose(jacobian, exact, rtol=1e-8, atol=1e-12 * np.abs(exact).max())


def charted(n, use=True):
    return replace(catalogue.system("musat3"), hints=Hints(precise=True, chart=lambda _: use))


@pytest.mark.parametrize("method", METHODS)
def test_events_do_not_depend_on_the_chart(method):
    found = [integrate(charted(64, use), {"N": 64}, method=method) for use in (False, True)]
    tight = 1e-9 if method != "Radau" else 1e-8
    for name, time in found[0].events.items():
        assert found[1].events[name] == pytest.approx(time, rel=tight)
    assert found[1].coordinates == ("alpha3", "beta2", "gamma3")
    t = np.linspace(0.0, 0.99, 50) * found[0].t_end
    np.testing.assert_allclose(found[1].at(t), found[0].at(t), rtol=1e-7, atol=1e-9)


def test_a_start_is_taken_in_the_coordinates():
    start = {"alpha3": 1.0, "beta2": 2.0, "gamma3": 0.7}
    runs = [
        integrate(charted(64, use), {"N": 64}, start=start, t_end=2000) for use in (False, True)
    ]
    assert list(runs[1].z[0]) == list(start.values())
    np.testing.assert_allclose(runs[1].z[-1], runs[0].z[-1], rtol=1e-9)


def problem(parameters, **options):
    return Problem(catalogue.system("musat3"), parameters, Options(**options))


def test_where_the_chart_is_used():
    large = {"N": 10**8}
    assert isinstance(chart_of(problem(large)), Charted)
    assert not isinstance(chart_of(problem({"N": 64})), Charted)
    assert not isinstance(chart_of(problem(large, clamp={"beta2": 0.5})), Charted)
    system = catalogue.system("musat3")
    assert system.hints.chart(system.values(large | {"query": 10**8}))
    for other in (
        {"query": 10**8 - 1},
        {"self_attention": True},
        {"N": 10**4, "query": "uniform"},
        {"N": 200, "inputs": "gaussian"},
    ):
        assert not system.hints.chart(system.values(large | other))


def test_a_clamped_run_falls_back():
    trajectory = integrate("musat3", {"N": 10**6}, clamp={"alpha3": 0.25}, t_end=1e8)
    assert (trajectory.z[:, 0] == 0.25).all()
    assert "chart" not in trajectory.stats


#: By Radau IIA of order 15 with 45 digits on the gradient flow of that loss in alpha, beta, gamma;
#: tolerances 1e-14 and 1e-16 agree to 1e-15.
REFERENCE = {
    10**6: {
        "T_gamma3": 1386294.36111985090,
        "T_beta2": 1919702456139.58676,
        "T_alpha3": 3422498932013.1283,
        "t_half_loss": 5013224259656.46451,
        "t_icl": 5013227777981.68985,
    },
    10**9: {
        "T_gamma3": 1386294361.11989062,
        "T_beta2": 1.91970087741983599e18,
        "T_alpha3": 3.42249756893303633e18,
        "t_half_loss": 5.0132564948988666069e18,
        "t_icl": 5.0132564989544713564e18,
    },
}


@pytest.mark.parametrize(
    ("n", "method"), [(10**6, "Radau"), (10**6, "Rodas5P"), *((10**9, m) for m in METHODS)]
)
def test_large_sizes(n, method):
    trajectory = integrate("musat3", {"N": n}, method=method)
    for name, time in REFERENCE[n].items():
        assert trajectory.events[name] == pytest.approx(time, rel=1e-9)
    # Of β²/2, some hundred at the end. Multistep methods are given stricter tolerances a step.
    size = trajectory["beta2"][-1] ** 2 / 2
    assert trajectory.invariants["first_integral"] < 10 * trajectory.solver["rtol"] * size
    if method != "Rodas5P":
        assert trajectory.invariants["first_integral"] < 2e-8
    assert trajectory.loss_rise < 1e-14
    assert trajectory.stats["chart"] == 1
    # Without the chart: Radau 8544 at N = 10⁶ and 135 811 at 10⁸, Rodas5P 6471 and 27 549.
    if method in ("Radau", "Rodas5P"):
        assert trajectory.stats["steps"] < (5000 if method == "Radau" else 2000)


def test_an_ensemble_of_all_sizes():
    """Lanes, chart and, where a coordinate is held, neither; each point as alone."""
    sizes = [64, 10**5, 10**9, 1000, 10**6]
    at = ["0.5*N", "N**2", "4*N**2"]
    given = {"N": sizes, "query": "last"}
    start = {"gamma3": 0.3}
    many = integrate_many("musat3", given, t_end="20*N**2", starts=start)
    alone = integrate_many("musat3", given, t_end="20*N**2", starts=start, at=at, lanes=False)
    assert many.done.all() and alone.done.all()
    np.testing.assert_allclose(many.events, alone.events, rtol=1e-9)
    np.testing.assert_allclose(many.final, alone.final, rtol=1e-8)
    for k, n in enumerate(sizes):
        times = [0.5 * n, n**2, 4 * n**2]
        own = {"t_end": 20.0 * n**2, "method": "Rodas5P", "start": start}
        run = integrate("musat3", {"N": n}, at=times, **own)
        assert list(run.events.values()) == list(alone.events[k])
        np.testing.assert_allclose(alone.states[k], run.at(times), rtol=1e-9)
        assert alone.loss[k] == run.loss[-1] and alone.observables["A"][k] == run["A"][-1]
        assert list(alone.final[k]) == list(run.z[-1])
        assert run.stats.get("chart", 0) == (n >= 10**5)
    held = integrate_many("musat3", given, t_end="N", clamp={"beta2": 0.5})
    assert held.done.all() and (held.final[:, 1] == 0.5).all()


def test_events_on_a_coordinate_that_the_chart_replaces():
    """gamma3 is none of the chart's; crossings either way, and the states there."""
    system = charted(10**6)
    falling = replace(system.events[0], name="falls", watch="gamma3", level=1.2, direction=-1)
    system = replace(system, events=(*system.events, falling))
    run = integrate(system, {"N": 10**6}, start={"gamma3": 3.0}, method="Rodas5P", t_end=1e13)
    plain = integrate(
        replace(system, hints=replace(system.hints, chart=None)),
        {"N": 10**6},
        start={"gamma3": 3.0},
        method="Radau",
        t_end=1e13,
    )
    found = [c for c in run.crossings if c.name == "falls"]
    assert run.events["falls"] == pytest.approx(plain.events["falls"], rel=1e-8)
    assert [c.state[2] for c in found] == pytest.approx([1.2] * len(found), rel=1e-9)


def test_a_start_at_its_level_is_one_crossing():
    """On the way into the chart and back the start loses its last digit."""
    for level in (1e-6, 0.1, 1 / 3, 0.7):
        start = {"gamma3": level}
        run = integrate(
            "musat3", {"N": 10**5}, start=start, threshold=level, t_end=1e6, method="Rodas5P"
        )
        assert [c.t for c in run.crossings if c.name == "T_gamma3"] == [0.0]


def test_the_largest_size():
    trajectory = integrate("musat3", {"N": 10**12}, method="Radau")
    assert "has fallen below" in trajectory.message
    assert trajectory.stats["steps"] < 6000
    assert trajectory.events["t_icl"] == pytest.approx(2 * (2 * np.pi) ** 0.5 * 1e24, rel=1e-9)
