"""Fixed points, planes, spectra, sensitivities and phases against what is known in closed form."""

import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import reduced_dynamics as rd
from reduced_dynamics.analysis.phases import phases
from reduced_dynamics.plotting.style import save_figure
from reduced_dynamics.public import fixed_points, plane, sensitivities, spectrum

ROOT = Path(__file__).resolve().parents[2]
U, V, TARGET = sp.symbols("u v target")


@pytest.fixture(scope="module")
def product():
    """u v fits a target: a saddle at the origin, a hyperbola of minima."""
    return rd.gradient_flow(
        (U * V - TARGET) ** 2 / 2, [U, V], parameters={TARGET: 1.0}, start={U: 1e-3, V: 2e-3},
        events={"T_half": (U * V, 0.5)}, name="product",
    )  # fmt: skip


def test_fixed_points_of_a_product(product):
    found = fixed_points(product, {"target": 2.0}, tries=16)
    saddle = next(p for p in found if p.kind == "saddle")
    assert abs(saddle.state["u"]) < 1e-9 and abs(saddle.state["v"]) < 1e-9
    np.testing.assert_allclose(saddle.eigenvalues, [2.0, -2.0], rtol=1e-9)
    minima = [p for p in found if p.kind == "stable, degenerate"]
    assert len(minima) + 1 == len(found) > 3
    for p in minima:
        u, v = p.state["u"], p.state["v"]
        assert math.isclose(u * v, 2.0, rel_tol=1e-9)
        np.testing.assert_allclose(p.eigenvalues, [0.0, -(u * u + v * v)], rtol=1e-7, atol=1e-9)


def test_saddle_of_wang_grows_at_the_derived_rate():
    """The unstable eigenvalue at w = 0 is the rate that the loss's own curvature gives."""
    found = fixed_points("wang", hold={"p": 30.0}, within={"g": (-1, 2), "h": (-1, 2)}, tries=16)
    saddle = next(p for p in found if p.kind == "saddle")
    assert abs(saddle.state["w_Q"]) < 1e-9 and saddle.unstable == 1
    run = rd.integrate(
        "wang", start=saddle.state | {"w_Q": 1e-6, "w_K": 1e-6, "p": 30.0}, t_end=3e3
    )
    growth = math.log(run.at(2e3)[2] / run.at(1e3)[2]) / 1e3
    assert math.isclose(growth, saddle.eigenvalues[0], rel_tol=1e-5)


def test_slow_valleys_are_not_fixed_points():
    assert fixed_points("musat3", {"N": 8}, tries=8) == []


def test_plane_holds_rates_and_loss(product):
    found = plane(product, x=("u", -1, 2), y=("v", 0, 3), points=7)
    u, v = np.meshgrid(found.x, found.y)
    np.testing.assert_allclose(found.u, -(u * v - 1) * v, atol=1e-14)
    np.testing.assert_allclose(found.v, -(u * v - 1) * u, atol=1e-14)
    np.testing.assert_allclose(found.loss, (u * v - 1) ** 2 / 2, atol=1e-14)
    assert np.nanmax(found.across) == 0.0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (("u", 0, 1), ("u", 0, 1), "two different"),
        (("u", 1, 0), ("v", 0, 1), "empty"),
        (("w", 0, 1), ("v", 0, 1), "unknown coordinate"),
    ],
)
def test_bad_planes(product, x, y, message):
    with pytest.raises(rd.InputError, match=message):
        plane(product, x=x, y=y)


def test_spectrum_along_a_run(product):
    run = rd.integrate(product, t_end=30)
    found = spectrum(run, product, at=[0.0, 30.0])
    np.testing.assert_allclose(found.eigenvalues[0], [1.0, -1.0], rtol=1e-5)
    u, v = run.at(30.0)
    np.testing.assert_allclose(found.eigenvalues[1], [0.0, -(u * u + v * v)], atol=1e-7)
    assert found.growth.shape == found.stiffness.shape == (2,)


def test_spectrum_leaves_out_what_is_clamped():
    run = rd.integrate("musat3", {"N": 8}, clamp={"alpha3": 1.0}, t_end=100)
    assert spectrum(run).eigenvalues.shape[1] == 2


def test_spectrum_refuses_another_system(product):
    with pytest.raises(rd.InputError, match="not of musat3"):
        spectrum(rd.integrate(product, t_end=1), "musat3")


@pytest.mark.parametrize(("system", "values"), [("musat3", {"N": 16}), ("wang", {})])
def test_start_sensitivities_agree_with_runs_beside(system, values):
    found = sensitivities(system, values, of=[])
    origin = rd.integrate(system, values, t_end=1e-9).z[0]
    shift = 1e-5
    for k, name in enumerate(rd.system(system).names):
        low, high = (
            rd.integrate(system, values, start={name: origin[k] + s * shift}, rtol=1e-11).events
            for s in (-1, 1)
        )
        for event, time in found.times.items():
            there = (high[event] - low[event]) / (2 * shift)
            assert found.start[event][name] == pytest.approx(there, rel=1e-4, abs=1e-7 * time)


def test_parameter_sensitivities_are_exponents():
    """Of a loss c x²/2 ... the time to fall scales as 1/c; of a threshold on a line, as given."""
    x, c = sp.symbols("x c")
    decay = rd.gradient_flow(
        c * x**2 / 2, [x], parameters={c: 3.0}, start={x: 1.0}, events={"T": (x, 0.25)}, name="d"
    )
    found = sensitivities(decay, t_end="10/c")
    assert found.times["T"] == pytest.approx(math.log(4) / 3)
    assert found.parameter["T"]["c"] == pytest.approx(-1.0, abs=1e-9)
    assert found.start["T"]["x"] == pytest.approx(1.0 / 3.0)


def test_phases_of_wang():
    run = rd.integrate("wang")
    found = phases(run, "L_IH")
    assert [p.kind for p in found] == ["plateau", "drop", "plateau", "drop", "end"]
    plateau = found[2]
    assert plateau.start < run.events["T_plateau_out"] < plateau.end < run.events["T_half"]
    assert all(a.end == b.start for a, b in pairwise(found))
    assert found[0].start == 0.0 and found[-1].end == pytest.approx(run.t_end)


def test_phases_need_a_fall(product):
    with pytest.raises(rd.InputError, match="never falls"):
        phases(rd.integrate(product, start={"u": 0.0, "v": 0.0}, t_end=1))


def command(*words):
    return subprocess.run(
        [sys.executable, str(ROOT / "simulate.py"), "analyse", *words],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_command_line(tmp_path):
    path = tmp_path / "plane.svg"
    plane_words = ["--x", "w_Q=-1:1", "--y", "w_K=-1:1", "--start", "p=20", "--run"]
    run = command("wang", "plane", *plane_words, "--plot", str(path), "--json")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert np.shape(result["u"]) == (61, 61) and path.stat().st_size > 1000
    run = command("wang", "phases", "--of", "L_IH", "--json")
    assert [p["kind"] for p in json.loads(run.stdout)["phases"]][2] == "plateau"
    run = command("wang", "fixed-points", "--clamp", "p=20", "--tries", "16")
    assert "saddle" in run.stdout and run.returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wang"], "name a system and a study"),
        (["wang", "plan"], "did you mean 'plane'"),
        (["wang", "plane"], "needs --x"),
        (["wang", "plane", "--x", "w_Q", "--y", "h=0:1"], "NAME=LOW:HIGH"),
        (["wang", "phases", "--tries", "3"], "no meaning"),
        (["wang", "phases", "--of", "L_HI"], "did you mean 'L_IH'"),
        (["musat3", "fixed-points", "--box", "beta2=1:0"], "empty"),
        (["musat3", "fixed-points", "--plot", "x.png"], "draws nothing"),
        (["musat3", "sensitivities", "--dynamics", "gd", "--step", "1"], "flow"),
    ],
)
def test_bad_input(words, message):
    run = command(*words)
    assert run.returncode == 2 and message in run.stderr and "Traceback" not in run.stderr


def test_figures_are_made(product):
    from reduced_dynamics.analysis.figures import sensitivity_figure, spectrum_figure

    run = rd.integrate(product, t_end=10)
    for figure in (
        spectrum_figure(spectrum(run, product), "product"),
        sensitivity_figure(sensitivities(product, t_end=10), "product"),
    ):
        assert len(figure.axes) in (1, 2)
        with pytest.raises(rd.InputError):
            save_figure(figure, "x.bmp")


def test_sensitivities_of_an_event_at_the_start_are_unknown():
    """The neighbour degree = 0 has one subset, which is selected from the start."""
    values = {"S": 2, "n": 2, "H": 1, "degree": 1, "kernels": 8}
    found = sensitivities("chen", values, of=["a_init"], t_end=50.0, rtol=1e-6)
    assert np.isfinite(found.parameter["T_selected"]["a_init"])
    assert "degree" not in sensitivities("musat3", {"N": 8}).parameter["t_icl"]


def test_too_many_tries_are_refused():
    with pytest.raises(rd.InputError, match="tries"):
        fixed_points("musat3", tries=10**9)


def test_roots_of_higher_order_are_found():
    """Of x⁴/4 + y²/2 the origin; of 10⁻⁸ (x² − 1)²/4 + y²/2 a saddle between two minima."""
    x, y, k = sp.symbols("x y k")
    quartic = rd.gradient_flow(x**4 / 4 + y**2 / 2, [x, y], start={x: 1.0, y: 1.0}, name="quartic")
    (origin,) = fixed_points(quartic, tries=16)
    assert abs(origin.state["x"]) < 1e-5 and origin.state["y"] == pytest.approx(0, abs=1e-9)
    well = rd.gradient_flow(
        k * (x**2 - 1) ** 2 / 4 + y**2 / 2, [x, y], parameters={k: 1e-8}, start={x: 0.5, y: 0.5},
        name="well",
    )  # fmt: skip
    kinds = {round(p.state["x"], 6) + 0.0: p.kind for p in fixed_points(well, tries=32)}
    assert kinds == {-1.0: "stable", 0.0: "saddle", 1.0: "stable"}


def test_nothing_is_said_where_the_equations_do_not_hold():
    """The exact engine's table ends at w_Q w_K = -.25 and 1, the asymptotic one at 2 a² = 1."""
    for engine in ("exact", "asymptotic"):
        found = fixed_points("wang", {"engine": engine}, hold={"p": 20.0}, tries=24)
        assert found and all(p.loss >= -1e-18 for p in found)
        products = [p.state["w_Q"] * p.state["w_K"] for p in found]
        assert max(products) <= 1.0 and min(products) >= -1.0
    grid = plane("wang", x=("w_Q", -1.5, 1.5), y=("w_K", -1.5, 1.5), at={"p": 20.0}, points=7)
    product = np.outer(grid.y, grid.x)
    np.testing.assert_array_equal(np.isnan(grid.u), (product < -0.25) | (product > 1.0))


def test_a_plane_at_rest_says_so():
    assert plane("musat3", {"N": 8}, x=("alpha3", 0, 1), y=("beta2", 0, 1), points=5).at_rest


def test_bad_arguments(product):
    for wrong in ({"tries": 1.5}, {"seed": -1}, {"within": {"u": (1,)}},
                  {"hold": {"u": 0.0}, "within": {"u": (0, 1)}}):  # fmt: skip
        with pytest.raises(rd.InputError):
            fixed_points(product, **wrong)
    for wrong in ({"x": ("u", 0)}, {"points": 2.5}, {"points": 10**6}):
        with pytest.raises(rd.InputError):
            plane(product, **{"x": ("u", 0, 1), "y": ("v", 0, 1)} | wrong)
    with pytest.raises(rd.InputError):
        spectrum(rd.integrate(product, t_end=1), product, at=[])


def test_a_fixed_point_at_zero_is_zero_on_every_processor(monkeypatch):
    """Newton's steps end at what rounding leaves: 6·10⁻³²⁰ on one processor, 0 on another."""
    from reduced_dynamics.analysis.vector_field import VectorField

    module = sys.modules["reduced_dynamics.analysis.fixed_points"]
    monkeypatch.setattr(module, "POLISH", 0)
    x, y = sp.symbols("x y", real=True)
    box = np.full(2, -3.0), np.full(2, 3.0)
    for rest in (0, sp.Float(1e-14)):  # the second is not 0, and stays
        system = rd.gradient_flow((x - rest) ** 2 + (y - 1) ** 2, [x, y], start={x: 0.5, y: 0.5})
        ended = np.array([5.88136e-320 if rest == 0 else 1e-14, 1.0])
        assert module._polish(VectorField(system), ended, *box).tolist() == [float(rest), 1.0]
