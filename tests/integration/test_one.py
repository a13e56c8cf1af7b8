"""Trajectories: emergence, the sharp constants, methods against each other, invariants, loss."""

import math

import numpy as np
import pytest

import reduced_dynamics as rd
from reduced_dynamics import catalogue
from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.integration.one import Interrupted
from reduced_dynamics.integration.problem import METHODS
from reduced_dynamics.public import integrate, report_at


@pytest.fixture(scope="module")
def constants():
    """Limits of T_γ/N, T_β/N², T_α/N², t_ICL/N², from the derivation."""
    from derivations.musat.limits import sharp_constants

    return {name: float(value) for name, value in sharp_constants().items()}


@pytest.mark.parametrize("n", [8, 64, 512, 4096, 10**5, 10**6])
def test_musat3_emerges_in_the_papers_order(n):
    trajectory = integrate("musat3", {"N": n})
    events = trajectory.events
    assert events["T_gamma3"] < events["T_beta2"] < events["T_alpha3"] < events["t_icl"]
    assert trajectory.invariants["first_integral"] < 1e-8
    assert trajectory.loss_rise < 1e-15


def test_musat3_approaches_the_sharp_constants(constants):
    power = {"T_gamma3": 1, "T_beta2": 2, "T_alpha3": 2, "t_icl": 2}
    errors = {}
    for n in (1024, 4096, 16384):
        events = integrate("musat3", {"N": n}).events
        errors[n] = [abs(events[k] / n ** power[k] / c - 1) for k, c in constants.items()]
    assert max(errors[4096]) < 1e-3
    for near, far in ((4096, 1024), (16384, 4096)):
        # The corrections fall at least like log N / N; γ's are exhausted by rounding.
        for e_near, e_far in zip(errors[near], errors[far], strict=True):
            assert e_near < 0.4 * e_far or e_near < 1e-7


@pytest.mark.parametrize("n", [8, 64, 1024])
@pytest.mark.parametrize("name", ["musat3", "musat19"])
def test_methods_agree_on_emergence_times(name, n):
    times = {
        m: [t for t in integrate(name, {"N": n}, method=m).events.values() if t] for m in METHODS
    }
    for method in METHODS:
        np.testing.assert_allclose(times[method], times["LSODA"], rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"query": "uniform"}, {"self_attention": True}])
def test_musat19_does_not_move_with_ten_times_tighter_tolerances(options):
    parameters = {"N": 12, **options}
    loose = integrate("musat19", parameters)
    tight = integrate("musat19", parameters, rtol=1e-10, atol=1e-13)
    assert loose.t_end == pytest.approx(tight.t_end, rel=1e-6)
    assert [k for k, t in loose.events.items() if t] == [k for k, t in tight.events.items() if t]
    for name, time in loose.events.items():
        assert time is None or time == pytest.approx(tight.events[name], rel=1e-6)
    for name, value in loose.final.items():
        assert value == pytest.approx(tight.final[name], rel=1e-6, abs=1e-9)
    assert max(loose.invariants.values()) < 1e-12
    assert loose.loss_rise < 1e-14


def test_alpha3_emerges_before_beta2_in_musat19():
    events = integrate("musat19", {"N": 64}).events
    assert events["T_gamma3"] < events["T_alpha3"] < events["T_beta2"]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", ["musat3", "musat19"])
@pytest.mark.parametrize("query", ["last", "uniform", 1])
def test_smallest_sizes(name, n, query):
    trajectory = integrate(name, {"N": n, "query": query})
    assert np.isfinite(trajectory.z).all()
    assert trajectory.loss[-1] < trajectory.loss[0]
    assert trajectory.loss_rise < 1e-14


def test_musat3_at_a_billion_pairs(constants):
    n = 10**9
    trajectory = integrate("musat3", {"N": n})
    assert np.isfinite(trajectory.z).all()
    assert trajectory.events["t_icl"] / n**2 == pytest.approx(constants["t_icl"], rel=1e-6)


def test_flow_follows_minus_the_gradient_everywhere():
    system = catalogue.system("musat19")
    trajectory = integrate(system, {"N": 8})
    compiled = compile_system(system, trajectory.parameters)
    par = np.array(system.pack(trajectory.parameters))
    t = np.linspace(0.1, 0.9, 50) * trajectory.t_end
    h = 1e-5 * t
    slopes = (trajectory.at(t + h) - trajectory.at(t - h)) / (2 * h)[:, None]
    rates = np.array([compiled.flow(0.0, z, par) for z in trajectory.at(t)])
    np.testing.assert_allclose(slopes, rates, atol=1e-6 * np.abs(rates).max())


def test_dense_output_is_as_good_as_the_solver():
    loose = integrate("musat3", {"N": 32}, t_end="6*N**2")
    tight = integrate("musat3", {"N": 32}, t_end="6*N**2", method="Radau", rtol=1e-12, atol=1e-14)
    t = np.linspace(0, 6 * 32**2, 997)
    np.testing.assert_allclose(loose.at(t), tight.at(t), rtol=2e-7, atol=2e-7)


def test_gradient_descent_approaches_the_flow_at_first_order():
    flow = integrate("musat3", {"N": 4}, t_end=100)
    errors = []
    for step in (0.1, 0.05, 0.025):
        descent = integrate("musat3", {"N": 4}, t_end=100, dynamics="gd", step=step)
        errors.append(np.abs(descent.z[-1] - flow.z[-1]).max())
    ratios = np.array(errors[:-1]) / errors[1:]
    np.testing.assert_allclose(ratios, 2.0, atol=0.1)


def test_diverging_descent_names_a_step_that_works():
    with pytest.raises(rd.IntegrationError, match="a step under") as caught:
        integrate("musat3", {"N": 8}, dynamics="gd", step=50.0)
    partial = caught.value.trajectory
    assert len(partial) > 1
    assert np.isfinite(partial.z).all()


def test_clamped_coordinates_stay():
    others = [
        k for k in catalogue.system("musat19").names if k not in catalogue.system("musat3").names
    ]
    clamped = integrate("musat19", {"N": 16}, clamp=dict.fromkeys(others, 0.0), t_end="6*N**2")
    three = integrate("musat3", {"N": 16}, t_end="6*N**2")
    for name in others:
        assert (clamped[name] == 0.0).all()
    for name, time in three.events.items():
        assert clamped.events[name] == pytest.approx(time, rel=1e-7)
    held = integrate("musat3", {"N": 8}, clamp={"alpha3": 1.5}, t_end=500)
    assert (held["alpha3"] == 1.5).all()
    assert "first_integral" not in held.invariants
    assert held.events["T_alpha3"] is None  # it was put there, and did not emerge


def test_report_at_times():
    trajectory = integrate("musat3", {"N": 8}, t_end=1000)
    at = report_at(catalogue.system("musat3"), trajectory, [0.0, 10.0, 1000.0])
    assert at["loss"][0] == 0.5
    assert at["gamma3"][2] == pytest.approx(trajectory.final["gamma3"], rel=1e-14)
    with pytest.raises(rd.InputError, match="outside the trajectory"):
        trajectory.at(1001.0)


def test_interruption_keeps_what_was_done():
    def stop(what, share):
        if ", 20 steps" in what:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        integrate("musat3", {"N": 64}, progress=stop)
    assert len(caught.value.trajectory) == 21


def test_loose_tolerances_do_not_bias_emergence():
    """Tolerances are the trajectory's: at 1e-6 emergence times are right to about as much."""
    strict = integrate("musat3", {"N": 100}).events
    loose = integrate("musat3", {"N": 100}, rtol=1e-6, atol=1e-9).events
    for name, time in strict.items():
        assert loose[name] == pytest.approx(time, rel=2e-6)


def test_work_budget():
    """An integration that suddenly takes many more steps has lost something."""
    assert integrate("musat3", {"N": 1000}).stats["rhs"] < 30_000
    assert integrate("musat19", {"N": 256}).stats["rhs"] < 30_000


def test_the_first_integral_is_the_one_in_closed_form():
    trajectory = integrate("musat3", {"N": 20})
    alpha, beta = trajectory["alpha3"], trajectory["beta2"]
    value = alpha + np.expm1(alpha) / (2 * 20 - 2) - beta**2 / 2
    assert np.abs(value).max() < 1e-8
    assert math.isclose(np.abs(value).max(), trajectory.invariants["first_integral"], rel_tol=0.5)


def test_ctrl_c_within_a_compiled_function_is_an_interruption(monkeypatch):
    """numba hands on a KeyboardInterrupt as the cause of a SystemError."""

    def stop(*_):
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()

    monkeypatch.setattr("reduced_dynamics.integration.one.run_flow", stop)
    with pytest.raises(Interrupted):
        integrate("musat3", {"N": 4})

    def fail(*_):
        raise SystemError("something else")

    monkeypatch.setattr("reduced_dynamics.integration.one.run_flow", fail)
    with pytest.raises(SystemError, match="something else"):
        integrate("musat3", {"N": 4})


def test_where_lsoda_crawls_the_run_goes_on_with_bdf():
    """LSODA would step explicitly to the end, at the limit of its stability."""
    run = integrate("musat3", {"N": 64})
    assert run.solver["method"] == "LSODA"
    assert 0.0 < run.stats["BDF_from_t"] < run.t_end


def test_a_run_tells_how_far_it_is_where_that_is_known():
    told = []
    integrate("musat3", {"N": 4}, t_end=10.0, progress=lambda what, share: told.append(share))
    assert told == sorted(told) and told[-1] == 1.0 and len(told) > 10
    told.clear()
    integrate("musat3", {"N": 4}, progress=lambda what, share: told.append(share))
    assert told and np.isnan(told).all()
