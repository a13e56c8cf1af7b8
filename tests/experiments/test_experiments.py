"""Every experiment: declared in full, performed at size tiny, kept, drawn again from its file."""

import json
import os

import numpy as np
import pytest

from reduced_dynamics import catalogue
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments.experiment import Context
from reduced_dynamics.experiments.finding import VERDICTS, Finding, Measured, fill, near
from reduced_dynamics.experiments.perform import perform
from reduced_dynamics.experiments.result import Result
from reduced_dynamics.experiments.setting import SIZES, Setting, collect, seeds
from reduced_dynamics.io import bundle

EXPERIMENTS = {e.name: e for e in catalogue.experiments()}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_declared_in_full(name):
    one = EXPERIMENTS[name]
    assert catalogue.experiment(name) is one
    assert one.question.endswith("?") and one.title and one.caption
    assert bool(one.claim) == bool(one.source)
    assert {"full", "quick"} <= one.cost.keys()
    for size in SIZES:
        settings = collect(one.settings, {}, size, name)
        assert one.parts(settings)
        for setting in one.settings:  # what is declared is itself allowed
            if settings[setting.name] is not None:
                assert setting.parse(settings[setting.name]) == settings[setting.name]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_at_tiny(name, tmp_path):
    from reduced_dynamics.plotting.style import save_figure

    result = perform(EXPERIMENTS[name], {}, Context("tiny", keep=tmp_path / "parts"))
    assert result.findings and all(f.verdict in VERDICTS for f in result.findings)
    assert not os.listdir(tmp_path / "parts")  # nothing is left once it is done
    json.dumps(result.as_json(), allow_nan=False)
    path = tmp_path / "r.nc"
    result.save(path)
    again = Result.load(path, EXPERIMENTS[name])
    assert again.findings == result.findings and again.numbers == result.numbers
    assert again.data.identical(result.data.assign_attrs(again.data.attrs))
    save_figure(result.plot(), tmp_path / "a.svg")
    save_figure(again.plot(), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_settings_are_checked():
    known = (
        Setting("N", 64, "pairs", 32, 8, kind="int", low=2, high=100),
        Setting("sizes", (8, 16), "pairs", kind="int", many=True, low=2),
    )
    assert collect(known, {}, "tiny", "x").N == 8
    assert collect(known, {"sizes": "8:32:log:3"}, "quick", "x").sizes == (8, 16, 32)
    assert collect(known, {"sizes": "4,"[:1]}, "full", "x").sizes == (4,)
    with pytest.raises(InputError, match="did you mean 'sizes'"):
        collect(known, {"size": 1}, "full", "x")
    with pytest.raises(InputError, match="out of range"):
        collect(known, {"N": 1}, "full", "x")
    with pytest.raises(InputError, match="did you mean 'quick'"):
        collect(known, {}, "quik", "x")
    with pytest.raises(AttributeError):
        collect(known, {}, "full", "x").N = 3
    assert seeds("seeds", "3") == (0, 1, 2) and seeds("seeds", "3,") == (3,)
    assert seeds("seeds", 2) == seeds("seeds", (0, 1)) == (0, 1)


def test_a_claimed_number_agrees_differs_or_is_not_decided():
    assert near(2.01, 2.0, 0.05) == "agrees"
    assert near(2.06, 2.0, 0.05) == "differs"
    assert near(2.01, 2.0, 0.05, error=0.1) == "not decided"
    assert near(2.5, 2.0, 0.05, error=0.1) == "differs"
    assert near(None, 2.0, 0.05) == near(float("nan"), 2.0, 0.05) == "not decided"


def test_sentences_are_filled_from_the_numbers():
    assert (
        fill("{a:.2f}, {b[c]}, {d:.1f}", {"a": 1.0, "b": {"c": True}, "d": None}) == "1.00, yes, –"
    )
    with pytest.raises(KeyError):
        fill("{no}", {})
    one = Finding("x {a}", "differs", "c", Measured(1.0, interval=(0.5, 1.5), n=3), "because {a}")
    filled = one.filled({"a": 2})
    assert str(filled) == "[differs] x 2 (because 2)"
    assert Finding.from_json(json.loads(json.dumps(filled.as_json()))) == filled
    with pytest.raises(ValueError):
        Finding("x", "perhaps")


def test_a_bundle_comes_back_as_it_was():
    value = {"a": [1, 2.5, None, "é", float("inf")], "b": {"c": np.arange(6.0).reshape(2, 3)}}
    again = bundle.decode(bundle.encode(value))
    assert again["a"] == value["a"] and np.array_equal(again["b"]["c"], value["b"]["c"])
    damaged = bytearray(bundle.encode(value))
    damaged[len(damaged) // 2] ^= 255
    for content in (bytes(damaged), b"", b"PK"):
        with pytest.raises(InputError):
            bundle.decode(content)
    with pytest.raises(InputError):
        bundle.encode({"a": object()})
