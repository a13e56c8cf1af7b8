"""The training loop, on the example of its docstring: a line through noisy points."""

import re
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from reduced_dynamics.core.errors import InputError, IntegrationError
from reduced_dynamics.core.progress import silent
from reduced_dynamics.training import hold, loop, optimisers
from reduced_dynamics.training.divergence import curvature
from reduced_dynamics.training.loop import DivergedError, TrainingInterrupted, train
from reduced_dynamics.training.model import Model
from reduced_dynamics.training.recorder import Event, Recorder
from reduced_dynamics.training.schedule import Cosine
from reduced_dynamics.training.settings import Settings
from reduced_dynamics.training.source import Fixed, Fresh
from tests.training.interruption import before

#: What the example needs to be imported.
IMPORTS = {
    "np": np, "hold": hold, "train": train, "Model": Model, "Event": Event, "Recorder": Recorder,
    "Settings": Settings, "Fresh": Fresh, "__name__": __name__,
}  # fmt: skip


def example():
    """The names that the example of `train` defines."""
    code = train.__doc__[train.__doc__.index("        @dataclass") :].split("\n    Parameters")[0]
    names = dict(IMPORTS)
    exec("from dataclasses import dataclass\n" + textwrap.dedent(code), names)
    return names


LINE = example()
LONG = LINE["settings"]
SMALL = replace(LONG, batch=8, t_end=None, steps=60, record=20)


def fit(settings=SMALL, progress=silent, checkpoint=None, **parts):
    """Train the line; `parts` are other arguments of `train`."""
    model = Model("line", (np.zeros(3),), LINE["loss_and_gradient"], "here")
    recorder = Recorder(lambda w: {f"w{i}": x for i, x in enumerate(w[0])}, ("w0", "w1"))
    given = {
        "model": model,
        "source": Fresh(LINE["sample"], settings.batch, settings.seed, parts=2),
        "optimiser": settings.method,
        "schedule": settings.rates,
        "hold": hold.nothing,
        "recorder": recorder,
    } | parts
    return train(**given, settings=settings, progress=progress, checkpoint=checkpoint)


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in ("t", "w0", "w1", "w2", "loss"))


def test_the_example_of_the_docstring():
    trajectory, (w,) = LINE["trajectory"], LINE["weights"]
    assert w == pytest.approx([1.0, 1.0, 1.0], abs=0.05)
    assert trajectory.coordinates == ("w0", "w1", "w2") and len(trajectory) == 51
    assert trajectory.t_end == 20.0 and trajectory.stats["steps"] == 200
    assert np.array_equal(trajectory.z[-1], w) and trajectory.parameters == {"d": 3}
    assert trajectory.solver == {
        "method": "sgd", "learning_rate": 0.1, "batch": 64, "steps": 200, "seed": 0
    }  # fmt: skip
    t = trajectory.events["T_half"]
    assert np.interp(t, trajectory.t, trajectory["w0"]) == pytest.approx(0.5)
    assert t == pytest.approx(np.log(2.0), abs=0.15)  # dw/dt = 1 − w
    assert 0.0 < trajectory.stats["sampling_share"] < 1.0


def test_what_is_no_coordinate_is_an_observable():
    trajectory, _ = fit()
    assert trajectory.coordinates == ("w0", "w1") and list(trajectory.observables) == ["w2"]
    assert trajectory.system == "line" and trajectory.source == "here"


def test_parts_of_a_minibatch_are_the_whole():
    def drawn(parts):
        source = Fresh(lambda count, rng: rng.standard_normal(count), 10, 0, parts)
        return list(source.draw(np.random.default_rng(3)))

    for count in (1, 3, 10, 12):
        parts = drawn(count)
        assert len(parts) == min(count, 10)
        assert sum(share for share, _ in parts) == pytest.approx(1.0)
        assert np.array_equal(np.concatenate([x for _, x in parts]), drawn(1)[0][1])
    whole, halves = fit(source=Fresh(LINE["sample"], 8, 0)), fit()
    assert not np.array_equal(whole[1][0], halves[1][0])  # x and noise are drawn in turns
    data = LINE["sample"](6, np.random.default_rng(0))
    model = Model("line", (np.ones(3),), LINE["loss_and_gradient"])
    cut = [(1 / 3, tuple(a[:2] for a in data)), (2 / 3, tuple(a[2:] for a in data))]
    loss, (gradient,) = model.average(model.start, cut)
    expected, (slope,) = LINE["loss_and_gradient"](model.start, data)
    assert loss == pytest.approx(expected, rel=1e-14)
    assert gradient == pytest.approx(slope, rel=1e-13)


def test_a_fixed_set_is_the_same_at_every_step():
    data = LINE["sample"](8, np.random.default_rng(0))
    trajectory, (w,) = fit(replace(SMALL, batch=None), source=Fixed(data))
    assert trajectory.loss_rise == 0.0 and trajectory.solver["batch"] == "full"
    expected = np.zeros(3)
    for _ in range(60):
        expected = expected - 0.1 * data[0].T @ (data[0] @ expected - data[1]) / 8
    assert w == pytest.approx(expected, rel=1e-12)


def test_weights_keep_their_type():
    from collections import namedtuple

    Weights = namedtuple("Weights", ["slope"])
    seen = []

    def loss_and_gradient(weights, data):
        seen.append(type(weights))
        return LINE["loss_and_gradient"]((weights.slope,), data)

    def measure(weights):
        seen.append(type(weights))
        return {"w": weights.slope[0]}

    def held(step, old, new):
        seen.extend([type(old), type(new)])
        return tuple(new)

    model = Model("line", Weights(np.zeros(3)), loss_and_gradient)
    _, weights = fit(model=model, recorder=Recorder(measure, ("w",)), hold=held)
    assert set(seen) == {Weights} == {type(weights)}


def test_progress_says_step_loss_and_share():
    calls = []
    trajectory, _ = fit(progress=lambda *call: calls.append(call))
    assert calls[-1] == (f"step 60 of 60, loss {trajectory.loss[-1]:.4g}", 1.0)
    assert calls[0][1] == 0.0 and [share for _, share in calls] == sorted(s for _, s in calls)


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(tmp_path, optimiser):
    settings = replace(SMALL, optimiser=optimiser, learning_rate=0.02)
    parts = {"schedule": Cosine(0.02, 60), "hold": hold.Weights((np.array([True, False, False]),))}
    whole, weights = fit(settings, **parts)
    assert not whole["w0"].any() and whole["w1"][1:].all()
    path = tmp_path / "run.npz"
    for stop in (12, 36):
        with pytest.raises(TrainingInterrupted, match="take it up again") as caught:
            fit(settings, before(stop), path, **parts)
        kept = caught.value.trajectory
        assert caught.value.step == stop + 1 and caught.value.checkpoint == path
        assert np.array_equal(kept.z, whole.z[: len(kept)]) and len(kept) == stop // 3 + 1
    resumed, again = fit(settings, checkpoint=path, **parts)
    assert same(resumed, whole) and np.array_equal(again[0], weights[0])
    finished, _ = fit(settings, checkpoint=path, **parts)
    assert same(finished, whole)


def test_an_interruption_inside_a_step_leaves_a_whole_state(tmp_path, monkeypatch):
    whole, _ = fit()
    path = tmp_path / "run.npz"
    step = optimisers.SGD.step
    calls = iter(range(1000))

    def interrupted(self, *arguments):
        if next(calls) == 30:  # the minibatch has been drawn, the weights not yet moved
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(optimisers.SGD, "step", interrupted)
        with pytest.raises(TrainingInterrupted):
            fit(checkpoint=path)
    assert same(fit(checkpoint=path)[0], whole)


def test_checkpoints_are_written_on_the_way_and_only_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    path = tmp_path / "run.npz"
    written = []

    def fail(what, share):
        written.append(path.exists())
        if share >= 0.5:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError):
        fit(progress=fail, checkpoint=path)
    assert all(written) and [file.name for file in tmp_path.iterdir()] == ["run.npz"]
    assert same(fit(checkpoint=path)[0], fit()[0])


def test_a_full_disk_takes_no_result_away(tmp_path, monkeypatch):
    def full(path, content):
        raise InputError(f"cannot write '{path}' (no space left on device)")

    monkeypatch.setattr(loop.files, "write", full)
    assert "no space left" in fit(checkpoint=tmp_path / "run.npz")[0].message
    with pytest.raises(TrainingInterrupted, match="no space left") as caught:
        fit(SMALL, before(30), tmp_path / "run.npz")
    assert len(caught.value.trajectory) == 11


def test_foreign_checkpoints_are_refused(tmp_path):
    path = tmp_path / "run.npz"
    fit(checkpoint=path)
    content = path.read_bytes()
    with pytest.raises(InputError, match=r"made with batch = 8, not 32"):
        fit(replace(SMALL, batch=32), checkpoint=path)
    with pytest.raises(InputError, match=r"made with model = 'line', not 'curve'"):
        fit(checkpoint=path, model=Model("curve", (np.zeros(3),), LINE["loss_and_gradient"]))
    assert path.read_bytes() == content
    for damaged in (b"", b"not a file of numpy's", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="not a checkpoint of this package, or is damaged"):
            fit(checkpoint=path)
    np.savez(path, format="something else")
    with pytest.raises(InputError, match="not a checkpoint"):
        fit(checkpoint=path)
    with pytest.raises(InputError, match="directory does not exist"):
        fit(checkpoint=tmp_path / "nowhere" / "run.npz")


@pytest.mark.parametrize("optimiser, rate", [("sgd", 5.0), ("momentum", 5.0), ("adam", 1e3)])
def test_a_diverging_step_is_named_with_one_that_would_do(optimiser, rate):
    settings = replace(SMALL, batch=64, steps=200, optimiser=optimiser, learning_rate=rate)
    with pytest.raises(DivergedError, match=r"diverged at step \d+: the loss went from") as caught:
        fit(replace(settings, record=200))
    error = caught.value
    assert isinstance(error, IntegrationError) and error.exit_code == 3
    assert len(error.trajectory) == error.step and np.isfinite(error.trajectory.z).all()
    better = float(re.search(r"try (?:.*?)([\d.e+-]+)(?:,| instead)", str(error))[1])
    assert 0 < better < rate
    if optimiser != "adam":  # whose advice is a rule of thumb
        assert fit(replace(settings, learning_rate=better))[0].loss[-1] < 0.1


def test_advice_is_for_what_is_free():
    """Along held weights a loss may be as steep as it likes: they do not move there."""

    def steep(weights, data):
        (w,) = weights
        return 0.5 * (w[0] ** 2 + 1e4 * (w[1] - 1.0) ** 2), (w * [1.0, 1e4] - [0.0, 1e4],)

    held = hold.Weights((np.array([False, True]),))
    model = Model("steep", (np.array([1.0, 1.1]),), steep)
    settings = replace(SMALL, learning_rate=100.0)
    with pytest.raises(DivergedError, match=r"learning rates below 2 are stable"):
        fit(settings, model=model, hold=held, recorder=Recorder(lambda w: {"w": w[0][0]}, ("w",)))


def test_a_start_that_has_no_loss_is_named():
    model = Model("line", (np.full(3, 1e200),), LINE["loss_and_gradient"])
    with pytest.raises(DivergedError, match="start from smaller weights"):
        fit(model=model)


def test_curvature_of_a_quadratic():
    def gradient(weights):
        return (np.diag([3.0, -5.0, 1.0]) @ weights[0],)

    assert curvature(gradient, (np.ones(3),), 60) == pytest.approx(5.0, rel=1e-6)
