"""Scaling laws and regime maps: what is known of synthetic sweeps, and of the built-in systems."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import reduced_dynamics as rd
from reduced_dynamics.commands.main import main
from reduced_dynamics.commands.sweep_results import _exponent, _law_text, _map_text
from reduced_dynamics.sweeping.figures import regimes_figure
from reduced_dynamics.sweeping.laws import NOISE, ROUNDING, extrapolate, law, laws, noise_of, parse
from reduced_dynamics.sweeping.regimes import regimes

ROOT = Path(__file__).resolve().parents[2]


@settings(deadline=None)
@given(st.floats(0.1, 5.0), st.floats(-3.0, 3.0), st.floats(-0.5, 2.0), st.floats(0.4, 2.0))
def test_limits_of_power_law_corrections(limit, factor, exponent, q):
    """y = C x^k (1 + b x^-q): the prefactor's limit is C, for any q and any spacing."""
    assume(abs(factor) > 1e-3)
    x = np.array([8.0, 13.0, 40.0, 90.0, 300.0, 1000.0])
    found = law(x, limit * x**exponent * (1.0 + factor * 0.3 * x**-q), exponent=exponent)
    assert found.prefactor.value == pytest.approx(limit, rel=1e-5)


def test_a_pure_power_law_has_no_residual():
    x = np.geomspace(1, 100, 7)
    found = law(x, 3.0 * x**1.5)
    assert found.fit.slope == pytest.approx(1.5) and found.simple == 1.5
    assert np.abs(found.residual).max() < 1e-12
    assert found.prefactor.value == pytest.approx(3.0)


def test_what_does_not_settle_has_no_limit():
    assert not extrapolate(np.arange(1.0, 6.0), np.array([1.0, 2.0, 4.0, 8.0, 16.0])).known
    assert not extrapolate(np.array([1.0, 2.0]), np.array([1.0, 2.0])).known


def test_noise_is_not_taken_for_a_law_that_does_not_settle():
    """Pure laws with noise of the tolerance, and one with a correction above it."""
    x = np.geomspace(64, 1e6, 9)
    rng = np.random.default_rng(0)
    for _ in range(100):
        noisy = 1.0 + 1e-9 * rng.uniform(-1, 1, 9)
        found = law(x, 3.0 * x**1.5 * noisy, noise=1e-9)
        assert found.exponent.known and abs(found.exponent.value - 1.5) <= found.exponent.error
        assert found.exponent.error < 2e-9 and found.simple == 1.5
        assert abs(found.prefactor.value - 3.0) <= found.prefactor.error < 1e-8
    assert not law(x, 3.0 * x**1.5 * noisy, noise=0.0).exponent.known
    bent = law(x, x * (1.0 + x**-0.5), noise=1e-9)
    assert bent.exponent.value == pytest.approx(1.0, abs=1e-5)
    assert abs(bent.fit.local[-1] - 1.0) > 1e-4


def test_points_close_to_each_other_hide_a_correction_in_their_noise():
    x = np.linspace(1000.0, 1010.0, 7)
    found = law(x, x**2 * (1.0 + 3.0 / np.sqrt(x)), noise=1e-7)
    assert abs(found.exponent.value - 2.0) < found.exponent.error


def test_the_noise_of_a_sweep_is_that_of_its_tolerance(musat3):
    assert noise_of(musat3) == NOISE * 1e-9
    assert noise_of(musat3.drop_attrs()) == ROUNDING


def test_what_is_printed_of_a_clean_law_and_of_too_few_points():
    x = np.geomspace(64, 1e6, 9)
    lines = "\n".join(_law_text(law(x, 2.0 * x**2 * (1.0 + 1e-4 / x), of="y", noise=1e-9)))
    assert "its limit     2 ± " in lines and "y/x^2 at 1e+06 is 2; its limit 2 ± " in lines
    few = np.geomspace(64, 1e6, 5)
    bent = law(few, few * (1.0 + few**-0.5), exponent=1.0)
    text = "\n".join(_law_text(bent))
    assert "not to be told from 5 points: sweep more points, at least 6" in text
    text = "\n".join(_law_text(law(few[:4], few[:4] * (1.0 + few[:4] ** -0.5), exponent=1.0)))
    assert "; sweep more points for its limit" in text and "settle" not in text
    never = law(x, np.exp(np.log(x) ** 2))
    assert "do not settle" in "\n".join(_law_text(never))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2.000001, "2.000001"),
        (1.9999984, "1.999998"),
        (0.99999991, "0.9999999"),
        (1.92345678, "1.92346"),
        (2.0 + 1e-10, "2"),
        (-1.5, "-1.5"),
        (math.nan, "nan"),
    ],
)
def test_exponents_are_told_from_simple_ones(value, shown):
    assert _exponent(value, SimpleNamespace(noise=1e-8)) == shown


def test_points_that_were_not_reached_are_left_out():
    found = law([1, 2, 4, 8], [1.0, np.nan, 4.0, 8.0])
    assert found.left_out == 1 and found.fit.slope == pytest.approx(1.0)
    assert law([1, 2], [np.nan, 1.0]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t_icl~N", ("t_icl", "N", None)),
        (" T_half ~ w_star**-2 ", ("T_half", "w_star", -2.0)),
        ("y~start.gamma3^3/2", ("y", "start.gamma3", 1.5)),
    ],
)
def test_laws_are_written(text, expected):
    assert parse(text) == expected


@given(st.text(max_size=12))
def test_other_text_is_refused_in_a_sentence(text):
    try:
        of, over, _ = parse(text)
    except rd.InputError:
        return
    assert of and over


@pytest.fixture(scope="module")
def musat3():
    return rd.sweep("musat3", grid={"N": "64:4096:log:7"}, t_end="20*N**2")


def test_the_sharp_constants_of_musat3(musat3):
    expected = {"T_gamma3": (1, 2 * math.log(2)), "t_icl": (2, 2 * math.sqrt(2 * math.pi))}
    assert laws(musat3, "T_gamma3~N")[0].exponent.known
    for name, (exponent, constant) in expected.items():
        (found,) = laws(musat3, f"{name}~N")
        assert found.simple == exponent
        assert found.prefactor.value == pytest.approx(constant, rel=1e-3)
        assert abs(found.prefactor.value - constant) < 3 * found.prefactor.error + 1e-6


def test_one_law_for_each_point_of_the_other_dimensions():
    grid = {"N": "16,32,64", "query": "last,uniform"}
    found = laws(rd.sweep("musat3", grid=grid, t_end="40*N**2"), "T_gamma3~N")
    assert [f.at for f in found] == [{"query": "last"}, {"query": "uniform"}]


@pytest.mark.parametrize("spec", ["t_icl~M", "t_ic~N", "t_icl", "reason~N", "t_icl~N**x"])
def test_bad_laws(musat3, spec):
    with pytest.raises(rd.InputError):
        laws(musat3, spec)


@pytest.fixture(scope="module")
def two():
    grid = {"N": "4,16,64", "start.alpha3": "0:1:lin:5"}
    return rd.sweep("musat3", grid=grid, t_end="20*N**2")


def test_maps_of_times_and_orders(two):
    found = regimes(two, "t_icl")
    assert found.names == ("N", "start.alpha3") and found.values.shape == (5, 3)
    np.testing.assert_array_equal(found.values, two["t_icl"].values.T)
    order = regimes(two, "order", events=["T_alpha3", "T_gamma3"])
    for k, start in enumerate(two["start.alpha3"].values):
        for j in range(3):
            times = [float(two[n].values[j, k]) for n in ("T_alpha3", "T_gamma3")]
            first = "T_alpha3" if times[0] < times[1] else "T_gamma3"
            assert order.orders[order.values[k, j]].startswith(first), start
    assert sum(order.counts) == 15


def test_failed_points_of_a_map_are_shown_as_failed():
    """Descent with a step of 60 diverges at three of the points, after events of some of them."""
    sampled = rd.sweep("musat3", random={"N": "2:100:log", "start.gamma3": "0.6:0.8"}, points=12,
                       dynamics="gd", step=60.0, t_end="20*N**2")  # fmt: skip
    grid = rd.sweep("musat3", grid={"N": "2,4,16,100", "start.gamma3": "0.6,0.8"}, dynamics="gd",
                    step=60.0, t_end="20*N**2")  # fmt: skip
    for dataset in (grid, sampled):
        failed = (dataset.status != 1).values.T
        assert failed.any() and not failed.all()
        order = regimes(dataset, "order")
        np.testing.assert_array_equal(order.failed, failed)
        np.testing.assert_array_equal(order.values < 0, failed)
        assert order.incomplete == {"failed": failed.sum()}
        assert sum(order.counts) + failed.sum() == failed.size
        times = regimes(dataset, "t_icl")
        np.testing.assert_array_equal(times.failed, failed & np.isnan(dataset.t_icl.values.T))
        assert not regimes(dataset, "T_gamma3").failed.any()  # reached before it failed
        lines = _map_text(order)
        assert lines[-1].endswith("%  failed")
        assert sum(float(line.split("%")[0]) for line in lines[1:]) == pytest.approx(100, abs=0.5)
        assert f"; {times.failed.sum()} failed" in _map_text(times)[0]
        for found in (order, times):
            figure = regimes_figure(found)
            texts = [t.get_text() for t in figure.legends[0].get_texts()] if figure.legends else [
                figure.axes[1].get_ylabel()]  # fmt: skip
            assert any("failed" in text for text in texts)


def test_bad_maps(two, musat3):
    for dataset, of in ((musat3, "t_icl"), (two, "t_icll"), (two, "orders")):
        with pytest.raises(rd.InputError):
            regimes(dataset, of)
    with pytest.raises(rd.InputError, match="did you mean"):
        regimes(two, "order", events=["T_gama3"])


def test_the_order_of_named_events(two):
    one, other = (
        regimes(two, "order:T_alpha3, T_gamma3"),
        regimes(two, "order", events=["T_alpha3", "T_gamma3"]),
    )
    assert one.orders == other.orders and one.of == "order"
    with pytest.raises(rd.InputError, match="did you mean"):
        regimes(two, "order:T_gama3")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fit", "t_icl~M"], "unknown dimension of this sweep 'M'"),
        (["--fit", "t_ic~N"], "did you mean 't_icl'"),
        (["--fit", "reason~N"], "unknown result"),
        (["--fit", "t_icl~query"], "is not a number"),
        (["--fit", "t_icl~at"], "is not kept at times"),
        (["--map", "t_icl"], "two numbers for its axes"),
        (["--map", "t_ic"], "did you mean 't_icl'"),
        (["--map", "order:T_gama3"], "did you mean 'T_gamma3'"),
        (["--map", "at_loss"], "kept at several times"),
        (["--map", ""], "unknown result"),
        (["--fit", "t_icl~D", "--grid", "D=30"], "at least two values"),
    ],
)
def test_names_are_checked_before_anything_is_computed(monkeypatch, capsys, words, message):
    monkeypatch.setattr("reduced_dynamics.sweeping.runners.compute", None)
    second = (
        "query=1,last" if "two numbers" in message or "query" in words[1] else "start.beta2=0,1"
    )
    grids = ["--grid", "N=8,9", "--grid", second]
    arguments = ["sweep", "musat3", *grids, "--at", "1,2", "--t-end", "9", *words]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_two_points_tell():
    run = command("musat3", "--grid", "N=8,16", "--t-end", "20*N**2", "--fit", "t_icl~N")
    assert run.returncode == 0, run.stderr
    assert "two points have no interval" in run.stdout and "inf" not in run.stdout


def command(*words):
    return subprocess.run(
        [sys.executable, str(ROOT / "simulate.py"), "sweep", *words],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_command_line(tmp_path):
    plot = tmp_path / "laws.svg"
    points = ["musat3", "--grid", "N=16:256:log:6", "--t-end", "20*N**2"]
    run = command(*points, "--fit", "T_gamma3~N", "--fit", "t_icl~N**2", "--plot", str(plot))
    assert run.returncode == 0, run.stderr
    assert "T_gamma3/N^1 at 256 is 1.3862" in run.stdout and plot.stat().st_size > 1000
    run = command(*points[:-2], "--grid", "start.beta2=0,1", *points[-2:], "--map", "order",
                  "--plot", str(tmp_path / "map.png"), "--json")  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert len(json.loads(run.stdout)["map"]["orders"]) >= 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fit", "t_icl"], "RESULT~PARAMETER"),
        (["--fit", "t_icl~M"], "unknown dimension"),
        (["--plot", "x.png"], "--fit or --map"),
        (["--map", "t_icl"], "exactly two parameters"),
    ],
)
def test_bad_input(words, message):
    run = command("musat3", "--grid", "N=4,8,16", "--t-end", "20*N**2", *words)
    assert run.returncode == 2 and message in run.stderr and "Traceback" not in run.stderr


def test_one_map_at_a_time(tmp_path, capsys):
    words = ["sweep", "musat3", "--grid", "N=4,8", "--grid", "start.gamma3=0,.1", "--t-end", "20"]
    words += ["--out", str(tmp_path / "s.zarr"), "--map", "t_icl", "--map", "order"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "one map at a time" in capsys.readouterr().err


def test_cells_meet_half_way_as_the_axis_measures():
    from reduced_dynamics.sweeping.figures import _between

    np.testing.assert_allclose(
        _between(np.array([1.0, 10.0, 100.0]), "log"), 10.0 ** np.array([-0.5, 0.5, 1.5, 2.5])
    )
    np.testing.assert_allclose(_between(np.array([0.0, 1.0, 3.0]), "linear"), [-0.5, 0.5, 2, 4])
    np.testing.assert_allclose(_between(np.array([0.0]), "linear"), [-0.5, 0.5])


def test_a_prefactor_of_another_exponent_has_no_limit():
    x = np.geomspace(1.0, 100.0, 9)
    assert law(x, 3.0 * x**2, exponent=2.0).prefactor.value == pytest.approx(3.0)
    assert not law(x, 3.0 * x**2, exponent=0.0).prefactor.known
