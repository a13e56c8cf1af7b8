"""The system `wang`: its losses, flow, phases and laws."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reduced_dynamics as rd
from derivations.core.report import Check
from derivations.wang.report import WANG as REPORT
from reduced_dynamics import catalogue
from reduced_dynamics.core.fits import line, power_law
from reduced_dynamics.families.wang.experiments.scaling import unstable_rate
from reduced_dynamics.integration.problem import Options, Problem

ROOT = Path(__file__).resolve().parents[3]
WANG = rd.system("wang")
PAPER = {
    "T_g4": 205,
    "T_plateau_in": 135,
    "T_plateau_out": 856,
    "T_half": 2242,
    "T_converged": 3101,
}


def problem(parameters=None, **options):
    return Problem(WANG, parameters or {}, Options(**options))


# ---------------------------------------------------------------- the 4-gram


def direct(p, n, c4, g):
    """L_G4, its slopes and second slopes by summation over the N weights, each sum exact.

    The second slopes are second moments about the mean lag, so that nothing cancels.
    """
    k = np.arange(n, dtype=float)
    r = np.exp(-p * k) if p >= 0 else np.exp(-p * (k - (n - 1)))
    total = math.fsum(r)
    pi = r / total
    first = pi[0]
    mean = math.fsum(k * pi)
    variance = math.fsum((k - mean) ** 2 * pi)
    squares = math.fsum(pi**2)
    # R' = Σ 2 π π', π' = (mean − k) π, of which the mean over π² would cancel: twice the share's.
    weights = pi**2 / squares
    mean2 = math.fsum(k * weights)
    variance2 = math.fsum((k - mean2) ** 2 * weights)
    rate = 2 * (mean - mean2)
    loss = 0.5 * (c4**2 - 2 * c4 * g * first + g**2 * squares)
    d_p = -c4 * g * first * mean + 0.5 * g**2 * squares * rate
    d_g = -c4 * first + g * squares
    d_pp = -c4 * g * first * (mean**2 - variance) + 0.5 * g**2 * squares * (
        rate**2 + 2 * (2 * variance2 - variance)
    )
    sizes = (c4**2 + g**2, c4 * g * first * mean + g**2 * squares * mean, c4 * first + g * squares)
    return (loss, d_p, d_g, d_pp), sizes


@pytest.mark.parametrize("length", [5, 6, 40, 1000, 100_000])
def test_four_gram_against_direct_summation(length):
    system = problem({"L": length, "engine": "asymptotic"})
    out, n_values = np.empty(9), 4
    for p in (
        0.0,
        1e-12,
        1e-9,
        1e-6,
        1e-4,
        0.003,
        0.05,
        0.3,
        0.9,
        2.0,
        9.0,
        60.0,
        700.0,
        -1e-6,
        -0.4,
    ):
        for g in (0.2, 0.77):
            state = np.array([p, g, 0.01, 0.01, 0.3])
            system.compiled.gradient(state, system.par, out)
            (loss, d_p, d_g, d_pp), sizes = direct(p, length - 3, 0.5, g)
            assert out[1] == pytest.approx(loss, rel=1e-13), p
            assert abs(out[n_values] - d_p) <= 1e-13 * sizes[1], p
            assert abs(out[n_values + 1] - d_g) <= 1e-13 * sizes[2], p
            second = -system.compiled.jacobian(0.0, state, system.par)[0, 0]
            assert np.isfinite(second)
            assert abs(second - d_pp) <= 1e-11 * max(abs(d_pp), sizes[1] * (length - 3)), p


def test_no_overflow_far_out():
    system = problem({"L": 10**6, "engine": "asymptotic"})
    for p in (-700.0, -30.0, -1e-12, 0.0, 1e-300, 1500.0):
        state = np.array([p, 0.3, 0.1, 0.1, 0.2])
        assert np.isfinite(system.rate(0.0, state)).all()
        assert np.isfinite(system.jacobian(0.0, state)).all()


# ---------------------------------------------------------------- flow and Jacobian

FORMS = [
    {"engine": "exact"},
    {"engine": "asymptotic"},
    {"engine": "asymptotic", "teacher_exponent": 1, "w_star": 0.6, "alpha_star": 3},
    {"training": "joint"},
]


@pytest.mark.parametrize("parameters", FORMS, ids=str)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_flow_and_jacobian_against_differences(parameters, seed):
    system = problem(parameters)
    random = np.random.default_rng(seed)
    z = random.uniform(0.05, 0.6, len(system.z0)) * random.choice([-1, 1], len(system.z0))
    matrix = system.jacobian(0.0, z)
    assert matrix == pytest.approx(matrix.T, abs=1e-13)
    step = 1e-6
    for k in range(len(z)):
        ahead, behind = z.copy(), z.copy()
        ahead[k] += step
        behind[k] -= step
        losses = system.compiled.value_table(np.array([ahead, behind]), system.par)[:, 0]
        assert system.rate(0.0, z)[k] == pytest.approx(
            -np.diff(losses[::-1])[0] / (2 * step), abs=2e-9
        )
        column = (system.rate(0.0, ahead) - system.rate(0.0, behind)) / (2 * step)
        assert matrix[:, k] == pytest.approx(column, abs=3e-8)


def test_the_two_engines_meet_at_large_L():
    parameters = {"L": 100_003, "w_star": 0.3}
    a, b = (problem(parameters | {"engine": e}) for e in ("asymptotic", "exact"))
    z = np.array([0.3, 0.2, 0.2, 0.25, 0.3])
    exact = b.compiled.value_table(z[None], b.par)[0]
    assert a.compiled.value_table(z[None], a.par)[0] == pytest.approx(exact, rel=1e-4)


def test_stage1_moves_p1_only_and_grows_logarithmically():
    parameters = {"training": "stage1", "L": 2000}
    start = {"h": 0.2, "w_Q": 0.4, "w_K": 0.4, "p1": 1.0}
    run = rd.integrate("wang", parameters, t_end=1e11, start=start)
    assert np.ptp(np.delete(run.z, 0, axis=1), axis=0).max() == 0.0
    assert (np.diff(run["p1"]) > 0).all()
    a, b, h, c, n = 0.16, 0.2401, 0.2, 0.5, 1997
    k = a * h / n * (b * c * (1 - 2 * a * b) ** -1.5 - a * h * (1 - 2 * a * a) ** -1.5)
    assert math.exp(run["p1"][-1]) / (k * run.t_end) == pytest.approx(1.0, rel=2e-3)


def test_finite_p1_against_sampling():
    """Q(a, a) and Q(a, a*) of the joint loss, L = 200, from its values at three h."""
    n, p1, a, b = 197, 1.2, 0.5, 0.2401
    system = problem({"training": "joint", "L": n + 3, "alpha_star": 0})
    rows = np.array([[p1, 1.0, 0.0, a, 1.0, h] for h in (0.0, 1.0, -1.0)])
    table = system.compiled.value_table(rows, system.par)
    zero, plus, minus = table[:, list(system.columns).index("L_IH")]
    cross, own = (minus - plus) / 2, plus + minus - 2 * zero
    random, draws = np.random.default_rng(11), 20_000
    x, z = random.standard_normal((draws, n + 1)), random.standard_normal((draws, 1))
    y = np.empty((draws, n))
    y[:, 0] = top = x[:, 0]
    norm = 1.0
    for k in range(1, n):
        top, norm = x[:, k] + math.exp(-p1) * top, 1.0 + math.exp(-p1) * norm
        y[:, k] = top / norm
    o = []
    for s, keys in ((a, y), (b, x[:, :-1])):
        e = np.exp(s * z * keys)
        o.append((e * x[:, 1:]).sum(1) / e.sum(1))
    for sample, value in ((o[0] * o[0], own), (o[0] * o[1], cross)):
        # 1/N is what the leading order leaves out.
        error = sample.std() / math.sqrt(draws)
        assert abs(sample.mean() - value) < 3.5 * error + value / n


# ---------------------------------------------------------------- phases


def test_the_papers_run_has_its_four_phases():
    run = rd.integrate("wang")
    for name, expected in PAPER.items():
        assert round(run.events[name]) == expected, name
    assert run.invariants["balance"] < 1e-10
    assert run.loss_rise <= 1e-16
    assert run.message.startswith("the loss has settled")
    # L_IH drops at w = 0, before the plateau.
    start = run["L_IH"][0] / run["L_IH_over_L_sad"][0]
    assert start / run["L_IH"][0] == pytest.approx(0.0594, abs=1e-3)


def test_the_asymptotic_engine_is_a_little_early():
    run = rd.integrate("wang", {"engine": "asymptotic"})
    found = {k: float(f"{t:.4g}") for k, t in run.events.items()}
    assert found == {
        "T_g4": 205.4, "T_plateau_in": 133.7, "T_plateau_out": 832.3, "T_half": 2166.0,
        "T_converged": 2960.0,
    }  # fmt: skip


def test_unequal_starts_keep_their_balance():
    run = rd.integrate("wang", start={"w_Q": 0.3, "w_K": -0.05}, t_end=20_000)
    assert run.invariants["balance"] < 1e-10
    assert run.final["w_Q"] * run.final["w_K"] == pytest.approx(0.2401, abs=1e-3)


@pytest.mark.parametrize("parameters", [{}, {"alpha_star": 4.0, "L": 12}], ids=str)
def test_four_gram_tends_to_a_quarter_over_t(parameters):
    run = rd.integrate("wang", parameters, t_end=3e7)
    c4 = WANG.values(parameters)["alpha_star"] / (1 + WANG.values(parameters)["alpha_star"])
    assert run["L_G4"][-1] * run.t_end == pytest.approx(0.25, rel=3e-3)
    assert run.final["p"] == pytest.approx(0.5 * math.log(1 + 2 * c4**2 * run.t_end), rel=1e-3)


@pytest.mark.parametrize("engine", ["exact", "asymptotic"])
def test_late_decay_at_the_linearised_rate(engine):
    """L_IH falls with twice the slowest rate of the flow's Jacobian at the minimum."""
    parameters = {"engine": engine}
    run = rd.integrate("wang", parameters, t_end=9000 if engine == "exact" else 5000)
    system = problem(parameters)
    root = math.sqrt(0.2401)
    matrix = system.jacobian(0.0, np.array([3.0, 0.5, root, root, 0.5]))[2:, 2:]
    rates = np.sort(-np.linalg.eigvalsh(matrix))
    assert abs(rates[0]) < 1e-12  # the balance
    early, late = (8000, 8900) if engine == "exact" else (4300, 4900)
    states = np.ascontiguousarray(run.at([early, late]))
    losses = system.compiled.value_table(states, system.par)[:, 2]
    assert math.log(losses[0] / losses[1]) / (2 * (late - early)) == pytest.approx(
        rates[1], rel=1e-3
    )


def test_long_sequences_run_to_their_end():
    run = rd.integrate("wang", {"L": 10**6, "engine": "asymptotic"})
    assert run.events["T_converged"] < run.t_end
    assert run.events["T_half"] / 10**6 == pytest.approx(58.5, rel=0.01)


# ---------------------------------------------------------------- scaling


def test_fits():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    exact = power_law(x, 3 * x**1.5)
    assert exact.slope == pytest.approx(1.5) and exact.interval == pytest.approx((1.5, 1.5))
    assert exact.local == pytest.approx([1.5] * 3)
    # Slope and interval of a textbook example: x = 1..5, y = 2, 4, 5, 4, 5.
    found = line([1, 2, 3, 4, 5], [2, 4, 5, 4, 5])
    assert found.slope == pytest.approx(0.6)
    assert found.interval == pytest.approx((-0.3001317, 1.5001317), abs=1e-6)
    for bad in (([1], [1]), ([1, 1], [2, 3]), ([1, 2], [1, math.nan])):
        with pytest.raises(rd.InputError):
            line(*bad)
    with pytest.raises(rd.InputError, match="positive"):
        power_law([1, 2], [0, 1])


def test_unstable_rate_of_the_saddle():
    for L in (40, 160, 640):
        rate = unstable_rate({"engine": "asymptotic", "L": L})
        assert rate == pytest.approx(0.25 * 0.2401 / (L - 3), rel=1e-12)


# ---------------------------------------------------------------- bad input, derive, figure


@pytest.mark.parametrize(
    "parameters, options, words",
    [
        ({"w_star": 0.9, "engine": "asymptotic"}, {}, "engine=exact"),
        ({"engine": "asymptotic"}, {"start": {"w_Q": 1.0, "w_K": 0.8}}, "engine=exact"),
        ({}, {"start": {"w_Q": 2.0, "w_K": 2.0}}, "outside the exact engine's table"),
        ({"L": 4}, {}, "5 .. 1000000"),
        ({"w_star": -0.5}, {}, "out of range"),
        ({"w_star": 1.8}, {}, "at most 2"),
        ({"sigma_init": 0}, {}, "fixed point"),
        ({"sigma_init": -1}, {}, "out of range"),
        ({"training": "joint", "engine": "exact"}, {}, "engine=asymptotic"),
        ({"training": "joint"}, {"start": {"p1": "inf"}}, "p1 infinite.* is training=stage2"),
        ({"training": "joint", "L": 10**6}, {}, "lower L to at most"),
        ({"training": "stage1"}, {}, "how long to train, e.g. --t-end"),
        ({}, {"start": {"w_Q": -0.9, "w_K": 0.9}}, "-0.25 .. 1; start"),
        ({"training": "both"}, {}, "unknown value"),
    ],
    ids=str,
)
def test_bad_input_ends_in_a_sentence(parameters, options, words):
    with pytest.raises(rd.InputError, match=words):
        rd.integrate("wang", parameters, **options)


@pytest.mark.parametrize("engine", ["asymptotic", "exact"])
def test_descent_ends_where_the_equations_cease_to_hold(engine):
    """A step too long for h = 20 throws w_Q and w_K to the other side of the saddle."""
    start = {"h": 20.0, "w_Q": 0.6, "w_K": 0.6}
    with pytest.raises(rd.IntegrationError, match=r"w_Q w_K = ") as found:
        rd.integrate("wang", {"engine": engine}, dynamics="gd", step=1.0, t_end=50, start=start)
    assert found.value.trajectory.t[-1] < 50


def test_report_says_how_little_is_left_for_the_plateau():
    run = rd.integrate("wang")
    assert any("5.9 % of its start" in line for line in catalogue.find("remarks", "wang")(run))


def test_every_check_of_the_derivation_holds():
    found = [told for told in REPORT.steps() if isinstance(told, Check)]
    assert len(found) == 41
    assert all(check.residual == 0 for check in found)


def test_figure_shades_the_phases(tmp_path):
    run = rd.integrate("wang", {"engine": "asymptotic"})
    figure = rd.trajectory_figure(run)
    texts = [t.get_text().replace("\n", " ") for t in figure.axes[0].texts]
    assert {"partial learning", "plateau", "emergent learning", "convergence"} <= {*texts}
    rd.save_figure(figure, tmp_path / "phases.svg")


def test_command_line():
    run = subprocess.run(
        [sys.executable, "simulate.py", "run", "wang", "--set", "engine=asymptotic", "--json"],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    assert round(json.loads(run.stdout)["events"]["T_half"]) == 2166
