"""``simulate.py figure``: the registry, every figure, captions, the folder, bad input."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reduced_dynamics.commands.main import main
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments import caption, folder, registry
from reduced_dynamics.experiments.caption import Finding
from reduced_dynamics.experiments.request import Request
from reduced_dynamics.families.wang.experiments.plateau import plateaus
from reduced_dynamics.plotting.style import log_ticks, save_figure

ROOT = Path(__file__).resolve().parents[2]


def test_the_registry_is_complete():
    families = ROOT / "reduced_dynamics" / "families"
    here = {f"{p.parts[-3]}.experiments.{p.stem}" for p in families.glob("*/experiments/[a-z]*.py")}
    assert here - {"wang.experiments.plateau"} == set(registry.MODULES.values())
    for name in registry.MODULES:
        about = registry.about(name)
        assert about.title and about.claim and "arXiv" in about.paper
    readme = (ROOT / "README.md").read_text()
    assert all(f"figure {name}" in readme for name in registry.MODULES)


@pytest.mark.parametrize("name", registry.MODULES)
def test_every_figure_end_to_end(name, tmp_path):
    made = registry.make(name, Request("tiny"))
    numbers = json.loads(json.dumps(made.numbers, allow_nan=False))
    assert numbers == made.numbers and numbers
    assert made.caption.startswith(f"{name}: ")
    assert "The paper: " in made.caption and "Here: " in made.caption
    assert sum(made.verdicts.values()) == len(re.findall(r"^  \[", made.caption, re.M)) >= 2
    assert not re.search(r"\{[a-z_]+[\[:}]", made.caption)  # no field was left unfilled
    for ending in (".svg", ".pdf"):
        save_figure(made.figure, tmp_path / f"a{ending}")
        assert (tmp_path / f"a{ending}").stat().st_size > 5000
    enough_ticks(made.figure)


def enough_ticks(figure):
    """At least two labelled ticks on every logarithmic axis, whatever it spans."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if axis.get_scale() != "log" or not axis.get_visible():
                continue
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in axis.get_majorticklocs() if low <= t <= high]
            assert len(ticks) >= 2, (ax.get_ylabel(), low, high)


def test_the_numbers_of_a_caption_are_those_of_the_run():
    drawn = {}
    module = registry._module("musat-3")
    original = module.draw

    def draw(request):
        drawn["it"] = original(request)
        return drawn["it"]

    module.draw = draw
    try:
        made = registry.make("musat-3", Request("tiny"))
    finally:
        module.draw = original
    # The captions' numbers follow the JSON: another number there is another number in the text.
    finding = drawn["it"].findings[0]
    before = caption.fill(finding.text, made.numbers)
    assert f"{made.numbers['events']['T_beta2']:.1f}" in before
    assert " ".join(before.split()) in " ".join(made.caption.split())
    made.numbers["events"]["T_beta2"] = 12345.0
    assert "12345.0" in caption.fill(finding.text, made.numbers)


@pytest.mark.parametrize("name", registry.MODULES)
def test_no_finding_types_its_numbers_in(name):
    """Measured numbers stand in fields: what is left outside of them is few and fixed."""
    path = ROOT / "reduced_dynamics" / "families" / f"{registry.MODULES[name].replace('.', '/')}.py"
    for text in re.findall(r"Finding\(\s*((?:f?\"[^\"]*\"\s*)+)", path.read_text()):
        bare = re.sub(r"\{+[^{}]*\}+|\{\{[^}]*\}\}", "", text)
        assert not re.search(r"\d\.\d{2,}|\de-\d", bare), bare


def test_captions_answer_for_what_does_not_exist():
    numbers = {"a": None, "b": [1.0, None], "c": float("nan"), "ok": True, "d": {"e": 2.5}}
    text = caption.fill("{a:.3f} {b:.1f} {c:.2e} {ok} {d[e]:.2f}", numbers)
    assert text == "– 1.0, – – yes 2.50"
    with pytest.raises(KeyError):
        caption.fill("{unknown}", numbers)
    found = [Finding("x", np.bool_(True)), Finding("y", np.bool_(False)), Finding("z")]
    assert caption.tally(found) == {"agrees": 1, "differs": 1, "measured": 1}


@given(st.floats(-8, 8), st.floats(0.02, 6))
def test_log_axes_always_show_ticks(low, decades):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    ax.set_yscale("log")
    ax.set_ylim(10.0**low, 10.0 ** (low + decades))
    log_ticks(ax.yaxis)
    bottom, top = ax.get_ylim()
    ticks = [t for t in ax.yaxis.get_majorticklocs() if bottom <= t <= top]
    assert 2 <= len(ticks) <= 14
    assert all(ax.yaxis.get_major_formatter()(t) for t in ticks)


def test_plateaus_of_a_staircase():
    x = np.linspace(0.0, 9.0, 300)
    loss = 3.0 - 1.0 / (1 + np.exp(-4 * (x - 2))) - 1.5 / (1 + np.exp(-4 * (x - 6)))
    (found,) = plateaus(np.exp(x), loss)
    assert np.exp(2) < found.start < found.step < found.end < np.exp(6)
    assert found.slowing < 0.05 and found.loss == pytest.approx(2.0, abs=0.02)
    assert plateaus(np.exp(x), -x) == []  # an even fall has none
    assert plateaus(np.exp(x), -(x**2)) == []


def test_a_folder_is_taken_up_again_and_survives_a_failure(tmp_path, monkeypatch):
    module = registry._module("musat-3")
    names = ["chen-criterion", "musat-3"]

    def fail(request):
        raise InputError("no figure today; come back tomorrow")

    with monkeypatch.context() as patch:
        patch.setattr(registry._module("chen-criterion"), "draw", fail)
        first = folder.make_all(tmp_path, Request("tiny"), names)
    assert [e.state for e in first] == ["failed", "made"] and first[0].exit_code == 2
    page = (tmp_path / "index.html").read_text()
    assert "come back tomorrow" in page and "data:image/svg+xml;base64," in page
    assert (tmp_path / "musat-3.caption.txt").read_text().startswith("musat-3: ")

    monkeypatch.setattr(module, "draw", fail)  # what is there is not made again
    again = folder.make_all(tmp_path, Request("tiny"), names)
    assert [e.state for e in again] == ["made", "kept"]
    page = (tmp_path / "index.html").read_text()
    assert page.count("<img ") == 2 and 'src="http' not in page and 'href="http' not in page
    other = folder.make_all(tmp_path, Request("tiny", seed=1), names[1:])
    assert other[0].state == "failed"  # another seed is another figure
    (tmp_path / "chen-criterion.json").write_text("half a file")
    assert folder._kept(tmp_path, "chen-criterion", {}) is None


def test_an_interruption_keeps_what_was_made(tmp_path, monkeypatch):
    def stop(request):
        raise KeyboardInterrupt

    monkeypatch.setattr(registry._module("wang-2"), "draw", stop)
    with pytest.raises(KeyboardInterrupt):
        folder.make_all(tmp_path, Request("tiny"), ["musat-3", "wang-2", "wang-3"])
    page = (tmp_path / "index.html").read_text()
    assert page.count("<img ") == 1 and page.count("interrupted before") == 2


BAD = {
    "unknown": (["musat-33"], "did you mean 'musat-3'"),
    "no id": ([], "ID"),
    "folder missing": (["musat-3", "--out", "no/such/x.svg"], "mkdir -p"),
    "ending": (["musat-3", "--out", "x.svgg"], "did you mean '.svg'"),
    "out empty": (["musat-3", "--out", ""], "name of a file"),
    "seed": (["musat-3", "--seed", "x"], "number"),
    "seed negative": (["musat-3", "--seed", "-2"], "positive"),
    "text elsewhere": (["musat-3", "--text", "a.txt"], "wang-5"),
    "no text": (["wang-5", "--text", "missing.txt"], "there is no file"),
    "short text": (["wang-5", "--quick", "--text", "short.txt"], "at least"),
    "one letter": (["wang-5", "--quick", "--text", "one.txt"], "one character"),
    "binary": (["wang-5", "--quick", "--text", "binary.txt"], "UTF-8"),
    "zeros": (["wang-5", "--quick", "--text", "zeros.txt"], "zero bytes"),
    "all into a file": (["all", "--out", "short.txt"], "is a file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "one.txt").write_text("a" * 20_000)
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "zeros.txt").write_bytes(bytes(20_000))
    arguments, said = BAD[case]
    before = sorted(tmp_path.iterdir())
    try:
        code = main(["figure", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "Traceback" not in error
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_line(tmp_path):
    text = tmp_path / "phases.txt"
    text.write_text("mine")

    def run(*words):
        return subprocess.run(
            [sys.executable, str(ROOT / "simulate.py"), "figure", *words],
            capture_output=True, text=True, cwd=tmp_path, timeout=300,
        )  # fmt: skip

    listed = run("list")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()][:-1] == list(registry.MODULES)
    done = run("wang-2", "--quick", "--out", "phases.pdf", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["id"] == "wang-2" and found["settings"]["size"] == "quick"
    assert found["numbers"]["events"]["T_half"] == pytest.approx(2242.49, rel=1e-4)
    assert f"{found['numbers']['events']['T_half']:.1f}" in found["caption"]
    assert (tmp_path / "phases.caption.txt").read_text().strip() == found["caption"]
    assert text.read_text() == "mine"  # a caption overwrites no other text
    assert (tmp_path / "phases.pdf").read_bytes().startswith(b"%PDF")
