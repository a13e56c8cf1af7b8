"""Figures: the right ink in the right place, nothing on top of anything else, no surprises."""

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import NODES, Crossing, Trajectory, lobatto
from reduced_dynamics.plotting import style as figure_style
from reduced_dynamics.plotting import trajectories as plotting

NINETEEN = (
    *(f"alpha{k}" for k in range(1, 4)),
    *(f"beta{k}" for k in range(1, 13)),
    *(f"gamma{k}" for k in range(1, 5)),
)
HEAD = ("alpha3", "beta2", "gamma3")
EVENTS = ("T_alpha3", "T_beta2", "T_gamma3", "t_icl", "t_half_loss")


def induction(N=64, coordinates=HEAD, moving=HEAD, **changes):
    """Sigmoids at the times of emergence of `musat3`, from N to 5 N²."""
    times = dict(zip(moving, np.geomspace(5 * N * N, N, len(moving)), strict=True))

    def state(t):
        columns = [
            2 / (1 + (times[name] / np.maximum(t, 1e-30)) ** 3) if name in times else 0 * t
            for name in coordinates
        ]
        return np.stack(columns, axis=-1)

    t = np.r_[0.0, np.geomspace(N / 100, 8 * N * N, 60)]
    fine = t[:-1, None] + np.diff(t)[:, None] * lobatto(NODES)
    happened = (5.1 * N * N, 5 * N * N, 3.5 * N * N, 1.9 * N * N, 1.4 * N)
    events = ("t_half_loss", "t_icl", "T_alpha3", "T_beta2", "T_gamma3")
    crossings = zip(events, happened, strict=True)
    trajectory = Trajectory(
        system="musat",
        coordinates=coordinates,
        t=t,
        z=state(t),
        loss=0.5 / (1 + (t / (5 * N * N)) ** 8),
        parameters={"N": N, "D": 2 * N + 2, "query": "last", "price": "5 $"},
        crossings=tuple(Crossing(e, s, 1, (0.0,) * len(coordinates)) for e, s in crossings),
        event_names=EVENTS,
        nodes=state(fine),
    )
    return trajectory.with_(**changes)


def boxes(figure):
    """Every text that drawing the figure puts on the canvas, with the rectangle it covers."""
    drawn = {}
    draw = Text.draw

    def record(text, renderer, *args, **kwargs):
        if text.get_visible() and text.get_text().strip():
            drawn[text] = Text.get_window_extent(text, renderer)
        return draw(text, renderer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        FigureCanvasAgg(figure).draw()
    return [(text.get_text(), box) for text, box in drawn.items()]


def assert_no_overlap(figure):
    for (a, one), (b, other) in itertools.combinations(boxes(figure), 2):
        shared = Bbox.intersection(one, other)
        # Half a pixel of the box around a glyph is no ink.
        assert shared is None or min(shared.width, shared.height) < 1, (a, b)


def assert_every_panel_has_data(figure):
    for ax in figure.axes:
        curves = [line for line in ax.lines if len(line.get_xdata()) != 2]
        assert any(np.isfinite(line.get_ydata()).any() for line in curves)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alpha3", r"$\alpha_{3}$"),
        ("beta12", r"$\beta_{12}$"),
        ("w_Q", "$w_{Q}$"),
        ("p", "$p$"),
        ("p1", "$p_{1}$"),
        ("c_empty", r"$c_{\emptyset}$"),
        ("c_123", "$c_{123}$"),
        ("W_2_1", "$W_{2,1}$"),
        ("T_gamma3", r"$T_{\gamma_{3}}$"),
        ("T_g4", "$T_{g_{4}}$"),
        ("t_icl", r"$t_{\mathrm{ICL}}$"),
        ("t_half_loss", r"$t_{\mathrm{half}\ \mathrm{loss}}$"),
        ("alpha_star", r"$\alpha^{*}$"),
        ("outside_over_inside", "outside over inside"),
        ("cost in $", r"cost in \$"),
        ("γ/1", "γ/1"),
    ],
)
def test_symbols(name, text):
    assert figure_style.symbol(name) == text


def test_colours_belong_to_coordinates():
    styles = figure_style.line_styles(NINETEEN)
    assert {name: styles[name] for name in HEAD} == figure_style.line_styles(HEAD)
    assert figure_style.line_styles(("gamma3", "beta2"))["gamma3"] == styles["gamma3"]
    looks = {(style["color"], style["linestyle"]) for style in styles.values()}
    assert len(looks) == 19
    # In other systems, too, the first ones stand out and all are different.
    many = figure_style.line_styles([f"c_{k}" for k in range(20)])
    assert len({(s["color"], s["linestyle"]) for s in many.values()}) == 20


@pytest.mark.parametrize("N", [4, 64, 10**6])
def test_trajectory_figure(N):
    figure = plotting.trajectory_figure(induction(N))
    assert len(figure.axes) == 4
    assert_every_panel_has_data(figure)
    assert_no_overlap(figure)
    texts = [text for text, _ in boxes(figure)]
    assert texts.count(r"$T_{\gamma_{3}}$") == texts.count(r"$t_{\mathrm{ICL}}$") == 2
    assert sum("step × learning rate / $D$" in text for text in texts) == 1
    linear, logarithmic = figure.axes[0], figure.axes[1]
    assert linear.get_xlim() == (0.0, 8.0 * N * N)
    assert logarithmic.get_xscale() == "log"
    # It begins before the first event, and not so long before that nothing could be seen.
    assert 1e-3 * N < logarithmic.get_xlim()[0] < N


def test_nineteen_coordinates_are_not_a_mess():
    trajectory = induction(64, NINETEEN)
    assert set(plotting.noticeable(trajectory)) == set(HEAD)
    figure = plotting.trajectory_figure(trajectory)
    texts = [text for text, _ in boxes(figure)]
    assert texts.count("16 others (≈ 0)") == 1
    assert r"$\beta_{5}$" not in texts
    assert_no_overlap(figure)
    # And if all of them moved, there would be room for all the names.
    figure = plotting.trajectory_figure(induction(64, NINETEEN, NINETEEN))
    texts = [text for text, _ in boxes(figure)]
    assert {figure_style.symbol(name) for name in NINETEEN} <= set(texts)
    assert_no_overlap(figure)


def test_many_coordinates_and_events():
    names = tuple(f"c_{k}" for k in range(40))
    trajectory = induction(64, names, names)
    crossings = tuple(Crossing(f"T_{name}", 99.0 * (k + 1), 1, ()) for k, name in enumerate(names))
    figure = plotting.trajectory_figure(trajectory.with_(crossings=crossings))
    texts = [text for text, _ in boxes(figure)]
    assert "$T_{c_0}$" not in texts and r"$T_{c,0}$" in texts
    assert any(text.endswith(" more") for text in texts)
    assert_no_overlap(figure)


def test_curves_go_through_the_dense_output():
    trajectory = induction()
    figure = Figure()
    ax = figure.add_subplot()
    (line,) = plotting.plot_coordinates(trajectory, ax, names=["beta2"], xscale="log")
    x, y = line.get_data()
    assert len(x) > 500
    np.testing.assert_array_equal(y, trajectory.at(x)[:, 1])
    # Of discrete dynamics, or of a file without dense output, only the recorded times are known.
    discrete = trajectory.with_(nodes=None)
    (line,) = plotting.plot_coordinates(discrete, figure.add_subplot(), names=["beta2"])
    np.testing.assert_array_equal(line.get_xydata(), np.c_[discrete.t, discrete["beta2"]])


def test_legends_work():
    trajectory = induction(64, NINETEEN, observables={"A": np.linspace(0, 1, 61)})
    ax = Figure().add_subplot()
    plotting.plot_coordinates(trajectory, ax)
    assert [text.get_text() for text in ax.legend().get_texts()] == [
        "16 others (≈ 0)",
        r"$\gamma_{3}$",
        r"$\beta_{2}$",
        r"$\alpha_{3}$",
    ]
    (line,) = plotting.plot_coordinates(trajectory, ax, names=["A"])
    assert line.get_label() == "$A$"


def test_loss():
    ax = Figure().add_subplot()
    (line,) = plotting.plot_loss(induction(), ax, "log", "log", color="red")
    assert (ax.get_xscale(), ax.get_yscale(), line.get_color()) == ("log", "log", "red")
    # Where rounding leaves a loss of nothing or less, the logarithm shows nothing.
    trajectory = induction()
    loss = np.where(trajectory.t > 1000, -1e-18, trajectory.loss)
    (line,) = plotting.plot_loss(trajectory.with_(loss=loss), ax, "log", "log")
    assert np.nanmin(line.get_ydata()) > 0


def test_unknown_names_are_answered_with_the_nearest():
    ax = Figure().add_subplot()
    with pytest.raises(InputError, match="unknown coordinate 'alpha'; did you mean 'alpha3'"):
        plotting.plot_coordinates(induction(), ax, names=["alpha"])
    with pytest.raises(InputError, match="unknown axis scale 'logg'; did you mean 'log'"):
        plotting.plot_coordinates(induction(), ax, xscale="logg")
    with pytest.raises(InputError, match="unknown axis scale"):
        plotting.plot_loss(induction(), ax, yscale="symlog")


def powers(base, n):
    with np.errstate(over="ignore"):
        return np.cumprod(np.full(n, base))


T = np.linspace(0.0, 100.0, 200)


@pytest.mark.parametrize(
    "trajectory",
    [
        Trajectory("start", ("x",), np.zeros(1), np.zeros((1, 1)), np.ones(1)),
        Trajectory("start", ("x",), np.zeros(1), np.zeros((1, 1)), np.zeros(1)),
        Trajectory("still", ("x", "y"), T, np.ones((200, 2)), np.zeros(200)),
        Trajectory("diverging", ("x", "y"), T, np.c_[powers(40.0, 200), T], powers(-1e3, 200)),
        Trajectory("nan", ("x",), T, np.full((200, 1), np.nan), np.full(200, np.nan)),
        Trajectory("huge", ("x",), T, np.full((200, 1), 1e308), np.full(200, -1e308)),
        Trajectory("saturated", ("x", "y"), T * 1e12, np.c_[7 * T, -7 * T], 1e-300 * T),
        Trajectory("late", ("x",), T + 5, T[:, None], T),
        Trajectory("early", ("x",), T - 50, T[:, None], T),
    ],
    ids=lambda trajectory: trajectory.system,
)
def test_strange_trajectories_are_drawn_without_a_warning(trajectory):
    figure = plotting.trajectory_figure(trajectory)
    boxes(figure)
    boxes(plotting.overlay_figure(trajectory, trajectory))


def full_model(reduced, **observables):
    t = np.arange(0.0, reduced.t_end / 2, reduced.t_end / 900)
    z = reduced.at(t) * 1.01
    return Trajectory(
        "disentangled", reduced.coordinates, t, z, np.ones(len(t)),
        parameters={"N": 64, "batch": 256}, time_scale=130.0,
        observables={name: value * np.ones(len(t)) for name, value in observables.items()},
    )  # fmt: skip


@pytest.mark.parametrize("xscale", ["linear", "log"])
def test_overlay(xscale):
    reduced = induction(64, NINETEEN)
    figure = plotting.overlay_figure(reduced, full_model(reduced, outside_over_inside=0.1), xscale)
    assert [ax.get_ylabel() for ax in figure.axes] == [
        r"$\alpha$",
        r"$\beta$",
        r"$\gamma$",
        "norm outside / inside",
    ]
    assert_every_panel_has_data(figure)
    assert_no_overlap(figure)
    (head,) = [
        line
        for line in figure.axes[0].lines
        if line.get_color() == "#D55E00" and line.get_linestyle() == "-"
    ]
    (points,) = [
        line
        for line in figure.axes[0].lines
        if line.get_color() == "#D55E00" and line.get_marker() == "o"
    ]
    assert len(head.get_xdata()) > 500
    assert 10 < len(points.get_xdata()) <= 32
    # The comparison ends where the shorter of the two does.
    assert figure.axes[0].get_xlim()[1] < reduced.t_end * 0.51
    assert any("learning rate / 130" in text for text, _ in boxes(figure))


def test_overlay_of_three_and_of_strangers():
    reduced = induction(64)
    figure = plotting.overlay_figure(reduced, full_model(induction(64, NINETEEN)))
    assert len(figure.axes) == 3
    assert_no_overlap(figure)
    with pytest.raises(InputError, match="'musat' and 'other' share no coordinate"):
        plotting.overlay_figure(reduced, induction(64, ("x",), ("x",), system="other"))


@pytest.mark.parametrize("ending", [".png", ".pdf", ".svg"])
def test_saving_twice_gives_the_same_bytes(tmp_path, ending):
    contents = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}{ending}"
        figure_style.check_target(path)
        figure_style.save_figure(plotting.trajectory_figure(induction()), path)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert len(os.listdir(tmp_path)) == 2
    assert b"CreationDate" not in contents[0] and b"dc:date" not in contents[0]


def test_targets(tmp_path):
    for call in (figure_style.check_target, lambda path: figure_style.save_figure(Figure(), path)):
        with pytest.raises(InputError, match=r"'\.pngg'; did you mean '\.png'\? \(known: \.png"):
            call(tmp_path / "a.pngg")
        (tmp_path / "folder.png").mkdir(exist_ok=True)
        with pytest.raises(InputError, match="directory"):
            call(tmp_path / "folder.png")
    assert os.listdir(tmp_path) == ["folder.png"]


def test_no_global_state_is_touched(tmp_path):
    code = (
        "import sys, matplotlib, numpy as np\n"
        # Asking for the backend would import pyplot.
        "keys = [k for k in matplotlib.rcParams if k != 'backend']\n"
        "before = [matplotlib.rcParams[k] for k in keys]\n"
        "from reduced_dynamics.core import trajectory\n"
        "from reduced_dynamics.plotting import style as figure_style, trajectories as plotting\n"
        "t = np.arange(3.0)\n"
        "one = trajectory.Trajectory('s', ('x',), t, t[:, None], t)\n"
        "figure_style.save_figure(plotting.trajectory_figure(one), sys.argv[1])\n"
        "assert [matplotlib.rcParams[k] for k in keys] == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.png")]
    assert subprocess.run(command, env=environment).returncode == 0


@given(
    st.lists(st.tuples(st.floats(-50, 150), st.floats(1, 20)), min_size=1, max_size=12),
    st.floats(-10, 10),
)
def test_labels_are_spread_without_overlap(labels, low):
    wanted = np.sort([w for w, _ in labels])
    sizes = np.array([s for _, s in labels])
    high = low + 100.0
    places = figure_style.spread(wanted, sizes, low, high)
    gaps = np.diff(places) - (sizes[1:] + sizes[:-1]) / 2
    assert (gaps > -1e-9).all()
    assert places[0] - sizes[0] / 2 >= low - 1e-9
    if sizes.sum() <= 100.0:
        assert places[-1] + sizes[-1] / 2 <= high + 1e-9
    # Those that fit where they want to be are left there.
    free = np.diff(wanted) >= (sizes[1:] + sizes[:-1]) / 2
    inside = wanted[0] - sizes[0] / 2 >= low and wanted[-1] + sizes[-1] / 2 <= high
    if free.all() and inside:
        assert math.isclose(np.abs(places - wanted).max(), 0.0, abs_tol=1e-9)
