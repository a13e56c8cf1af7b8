"""What a sweep's points are: grids, samples, blocks, and what is refused."""

import json
import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from reduced_dynamics import InputError, catalogue, gradient_flow
from reduced_dynamics.sweeping.axes import axis, quantities, sampled
from reduced_dynamics.sweeping.run import planned
from reduced_dynamics.sweeping.settings import Settings

SYSTEM = catalogue.system("musat3")
KNOWN = quantities(SYSTEM, {c.name: c.meaning for c in SYSTEM.coordinates})
N, QUERY, ALPHA = KNOWN["N"], KNOWN["query"], KNOWN["start.alpha3"]


def plan(system="musat3", **options):
    system = catalogue.resolve(system)
    if options.get("full"):
        options["full"] = catalogue.full_model(system)
    return planned(system, **({"t_end": "20*N**2"} | options))


# Grids


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 200), st.booleans())
def test_ranges_are_what_numpy_makes_of_them(low, width, count, log):
    low = abs(low) + 1e-3 if log else low
    high = low + width
    found = axis(ALPHA, f"{low!r}:{high!r}:{'log' if log else 'lin'}:{count}")
    exact = (np.geomspace if log else np.linspace)(low, high, count)
    assert len(found.values) + found.dropped == count
    assert (found.values[0], found.values[-1]) == (low, high)
    assert (np.diff(found.values) > 0).all()
    if not found.dropped:
        np.testing.assert_allclose(found.values, exact, rtol=1e-12, atol=1e-9)
    assert np.array_equal(axis(ALPHA, found.spec).values, found.values)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(2, 300))
def test_integers_are_rounded_and_kept_once(low, width, count):
    found = axis(N, f"{low}:{low + width}:log:{count}")
    exact = np.unique(np.round(np.geomspace(low, low + width, count)))
    assert found.values.dtype == np.int64
    assert np.abs(np.sort(found.values)[[0, -1]] - exact[[0, -1]]).max() == 0
    assert len(np.unique(found.values)) == len(found.values) == count - found.dropped


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_lists_keep_their_order(values):
    found = axis(N, ",".join(map(str, values)))
    assert found.values.tolist() == list(dict.fromkeys(values))
    assert np.array_equal(found.values, axis(N, values).values)
    assert np.array_equal(found.values, axis(N, np.array(values)).values)


@given(st.text(max_size=30) | st.from_regex(r"[-0-9.e:,login]{0,20}"), st.sampled_from(list(KNOWN)))
@settings(max_examples=300)
def test_any_text_is_an_axis_or_a_sentence(text, name):
    for read in (axis, sampled):
        try:
            found = read(KNOWN[name], text)
        except InputError as error:
            assert "\n" not in str(error) or "\n" in text
        else:
            assert read is sampled or len(found.values) > 0


def test_words():
    assert axis(QUERY, "last, uniform,3").values.tolist() == ["last", "uniform", "3"]
    assert axis(KNOWN["self_attention"], [True, False]).values.tolist() == ["true", "false"]


@pytest.mark.parametrize(
    ("quantity", "spec", "message"),
    [
        (N, "", "is empty"),
        (N, "8,,9", "has an empty value"),
        (N, [], "is empty"),
        (N, "8:64:log", "a range is N=LOW:HIGH"),
        (N, "64:8:log:9", "must be the smaller one"),
        (N, "8:8:lin:3", "must be the smaller one"),
        (N, "0:8:log:3", "start above 0"),
        (N, "8:64:log:1", "from 2 to"),
        (N, "8:64:log:2.5", "whole number of values"),
        (N, "8:64:lgo:9", "did you mean 'log'"),
        (N, "8:nan:log:9", "finite"),
        (N, "8.5,9", "whole numbers"),
        (N, "8,abc", "finite numbers"),
        (N, "1:1e30:log:5", "too large"),
        (N, str(10**30), "too large"),
        (QUERY, "1:9:lin:3", "takes words"),
        (QUERY, "lst", "'last', 'uniform'"),
        (KNOWN["inputs"], "orthonormal,gausian", "did you mean 'gaussian'"),
        (ALPHA, "inf", "finite"),
    ],
)
def test_bad_grids(quantity, spec, message):
    with pytest.raises(InputError, match=message):
        axis(quantity, spec)


@pytest.mark.parametrize(
    ("quantity", "spec", "message"),
    [
        (N, "8:512:log:9", "--points for the count"),
        (N, "8", "a sample is"),
        (N, "9:8", "must be the smaller one"),
        (QUERY, "1:3", "cannot be sampled"),
    ],
)
def test_bad_samples(quantity, spec, message):
    with pytest.raises(InputError, match=message):
        sampled(quantity, spec)


# Plans


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_blocks_put_together_are_the_product(data):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    names = ["N", "start.alpha3", "D"][: len(sizes)]
    grid = {
        n: list(range(300 * (n == "D") + 20, 300 * (n == "D") + 20 + k))
        for n, k in zip(names, sizes, strict=True)
    }
    samples = data.draw(st.integers(0, 4))
    random = {"random": {"start.gamma3": "0:1"}, "points": samples} if samples else {}
    made = plan(grid=grid, block=data.draw(st.integers(1, 12)), **random)
    parts = [made.columns(*made.span(k)) for k in range(made.blocks)]
    whole = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    shape = (*sizes, *((samples,) if samples else ()))
    assert len(made) == math.prod(shape) == len(next(iter(whole.values())))
    axes = [np.array(v) for v in grid.values()] + ([np.arange(samples)] if samples else [])
    product = np.meshgrid(*axes, indexing="ij")
    for name, expected in zip(names, product, strict=False):
        assert np.array_equal(whole[name], expected.ravel())
    if samples:
        assert np.array_equal(
            whole["start.gamma3"], made.sampled["start.gamma3"][product[-1].ravel()]
        )


@pytest.mark.parametrize("sampling", ["random", "sobol", "halton", "lhs"])
def test_samples(sampling):
    options = {"random": {"N": "8:512:log", "start.alpha3": (0.0, 2.0)}, "sampling": sampling}
    made = plan(points=512, seed=3, **options)
    n, alpha = made.columns(0, 512).values()
    assert (n.min() >= 8) & (n.max() <= 512) & (alpha.min() >= 0) & (alpha.max() <= 2)
    assert np.mean(np.log(n)) == pytest.approx(math.log(64), abs=0.15)
    assert np.mean(alpha) == pytest.approx(1.0, abs=0.1)
    again = plan(points=512, seed=3, **options)
    assert np.array_equal(made.sampled["N"], again.sampled["N"])
    assert not np.array_equal(plan(points=512, seed=4, **options).sampled["start.alpha3"], alpha)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing is swept"),
        ({"grid": {"M": "1,2"}}, "unknown quantity of musat3 'M'"),
        ({"grid": {"qery": "last"}}, "did you mean 'query'"),
        ({"grid": {"start.alph3": "1,2"}}, "did you mean 'start.alpha3'"),
        ({"grid": {"N": "8,9"}, "parameters": {"N": 8}}, "both fixed and swept"),
        ({"grid": {"N": "8,9"}, "random": {"N": "8:9"}, "points": 3}, "both on the grid and"),
        ({"grid": {"start.alpha3": "1,2"}, "clamp": {"alpha3": 1}}, "is clamped"),
        ({"grid": {"start.alpha3": "1,2"}, "start": {"alpha3": 1}}, "both fixed and swept"),
        ({"random": {"N": "8:9"}}, "--points"),
        ({"grid": {"N": "8"}, "points": 3}, "counts samples"),
        ({"random": {"N": "8:9"}, "points": 0}, "at least 1"),
        ({"random": {"N": "8:9"}, "points": 2.5}, "whole number"),
        ({"random": {"N": "8:9"}, "points": 4, "sampling": "sobl"}, "did you mean 'sobol'"),
        ({"grid": {"query": "last,uniform"}, "parameters": {"N": 0}}, "out of range"),
        ({"grid": {"N": "8"}, "parameters": {"quer": 0}}, "did you mean 'query'"),
        ({"grid": {"N": "8"}, "t_end": "20*M"}, "unknown name 'M'"),
        ({"grid": {"N": "8"}, "at": ["M"]}, "unknown name 'M'"),
        ({"grid": {"N": "8"}, "keep": ["evnts"]}, "did you mean 'events'"),
        ({"grid": {"N": "8"}, "keep": ["at"]}, "give the times"),
        ({"grid": {"N": "8"}, "method": "LSODE"}, "did you mean 'LSODA'"),
        ({"grid": {"N": "8"}, "rtol": 1.0}, "rtol"),
        ({"grid": {"N": "8"}, "dynamics": "gd"}, "step"),
        ({"grid": {"N": "8"}, "dynamics": "gd", "step": 1, "method": "Radau"}, "drop --method"),
        ({"grid": {"N": "8"}, "dynamics": "gd", "step": 1, "max_step": 2}, "drop --max-step"),
        ({"grid": {"N": "8"}, "t_end": math.nan}, "positive finite number, not nan"),
        ({"grid": {"N": "8"}, "t_end": -5.0}, "positive finite number"),
        ({"grid": 3}, "grid takes a mapping"),
        ({"random": 3, "points": 3}, "random takes a mapping"),
        ({"grid": {"N": "8"}, "keep": "events"}, "keep takes a list"),
        ({"grid": {"N": "8"}, "parameters": 3}, "parameters takes a mapping"),
        ({"grid": {"N": "8"}, "clamp": {"alpa3": 1}}, "did you mean 'alpha3'"),
        ({"grid": {"N": "-1,0"}}, "no point of this sweep is possible"),
        ({"grid": {"N": "8"}, "block": 0}, "at least one point"),
        ({"grid": {"N": "8"}, "tend": 3}, "unknown option of sweep 'tend'"),
        (
            {"grid": {"start.alpha3": "1:2:lin:1100000", "start.beta2": "1:2:lin:1100000"}},
            "make it smaller",
        ),
        ({"grid": {"seed": "1,2"}, "full": True, "rtol": 1e-6}, "drop one"),
        ({"grid": {"seed": "1,2"}, "full": True, "keep": ["trajectory"]}, "validate"),
        ({"grid": {"optimiser": "sgd,adam"}, "full": True}, "optimiser"),
    ],
)
def test_contradictions(options, message):
    with pytest.raises(InputError, match=message) as raised:
        plan(**options)
    assert "\n" not in str(raised.value)


def test_what_is_computed_how():
    grid = {"grid": {"N": "8,9"}}
    for options, engine in (
        ({}, "ensemble"),
        ({"t_end": "auto"}, "ensemble"),
        ({"method": "LSODA"}, "single"),
        ({"dynamics": "gd", "step": 0.1}, "single"),
        ({"keep": ["trajectory"]}, "single"),
        ({"full": True}, "full"),
    ):
        assert plan(**grid, **options).settings.engine == engine
    assert plan("chen", grid={"a_init": "0.1,0.2"}, t_end=5).settings.engine == "single"


def test_forms_of_a_system_share_a_sweep():
    made = plan("chen", grid={"H": "2,3,1"}, t_end=1.0)
    assert [len(form.names) for form in made.forms] == [9, 17]  # one head copies no two parents
    names = [v.name for v in made.variables]
    assert "final_c_13" in names
    assert len(names) == len(set(names))


def test_names_that_meet():
    x, T = sp.symbols("x T")
    system = gradient_flow((x - T) ** 2 / 2, [x], parameters={T: 1.0}, events={"T": (x, 0.5)},
                           name="meeting")  # fmt: skip
    with pytest.raises(InputError, match="'T' is a result as well"):
        plan(system, grid={"T": "1,2"}, t_end=1.0)


def test_a_plan_says_what_it_is_in_one_form():
    one = plan(grid={"N": "8:64:log:9"}, rtol=1e-8).identity
    assert one == plan(grid={"N": " 8.0 : 6.4e1:log: 9"}, rtol=1e-8).identity
    assert one != plan(grid={"N": "8:64:lin:9"}, rtol=1e-8).identity
    assert json.loads(json.dumps(one)) == one
    assert plan(grid={"N": "8,8,9"}).remarks == [
        "N: 2 different values, 1 fewer than asked for (given twice)"
    ]


def test_a_block_is_no_larger_than_the_sweep():
    assert plan(grid={"N": "8,9"}, block=10**12).block == 2
    assert plan(grid={"N": "8,9"}, block=10**12).identity == plan(grid={"N": "8,9"}).identity


def test_settings_keep_times():
    assert Settings(SYSTEM, at=(1.0,)).keep[-1] == "at"
