"""The experiments of `wang`: every verdict with numbers on both sides; what they refuse."""

import copy
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from reduced_dynamics import catalogue
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments.experiment import Context
from reduced_dynamics.experiments.perform import ExperimentInterrupted, perform
from reduced_dynamics.experiments.setting import collect
from reduced_dynamics.families.wang.approximation.tables import Table, slope
from reduced_dynamics.families.wang.experiments import (
    early_drop,
    heads,
    language,
    needed,
    phases,
    probing,
    scaling,
    sequences,
    step,
    theorem_3_1,
    theorem_3_3,
    theorem_3_4,
)
from reduced_dynamics.io.jsonable import plain


def verdicts(module, numbers):
    """The verdicts; that every field of every finding is there is checked as well."""
    numbers = plain(numbers)
    found = module.judge(numbers)
    for one in found:
        one.filled(numbers)
    return [one.verdict for one in found]


def changed(numbers, **changes):
    """A copy with other numbers at ``a__b`` = ["a"]["b"]; integers are places of lists."""
    found = copy.deepcopy(numbers)
    for path, value in changes.items():
        *way, last = [int(k) if k.isdigit() else k for k in path.split("__")]
        place = found
        for k in way:
            place = place[k]
        place[last] = value
    return found


# ---------------------------------------------------------------- the mixed target

PHASES = {
    "events": {"T_g4": 205.0, "T_plateau_in": 135.0, "T_plateau_out": 856.0, "T_half": 2242.0,
               "T_converged": 3101.0},
    "events_full": {"T_half": 2225.0, "T_converged": 3104.0},
    "lateness": {"T_half": -0.008, "T_converged": 0.001},
    "L_IH_part_at_plateau": 0.059, "balance_drift": 1e-16, "four_t_L_G4": 1.01, "t_end": 3680.0,
    "largest_error": {"value": 0.02, "coordinate": "w_Q", "t": 2500.0},
}  # fmt: skip


def test_phases():
    assert verdicts(phases, PHASES) == ["agrees", "differs", "agrees", "", ""]
    order = changed(PHASES, events__T_half=4000.0)
    assert verdicts(phases, order)[0] == "differs"
    missing = changed(PHASES, events__T_plateau_in=None, L_IH_part_at_plateau=None)
    assert verdicts(phases, missing)[:2] == ["differs", "not decided"]
    stays = changed(PHASES, L_IH_part_at_plateau=0.995, balance_drift=1e-5)
    assert verdicts(phases, stays)[1:3] == ["agrees", "differs"]


DROP = {
    "T_plateau_in": 135.0, "T_plateau_out": 856.0, "stays": 0.99, "within": 0.02,
    "left": {"free": 0.06, "w_held": 0.06, "h_held": 1.0}, "moved": {"h": 49.0, "w_Q": 1.2},
    "limit": 0.0623, "longest": 1280, "left_longest": 0.0624,
    "over": {"w_star": {"values": [0.3, 0.5], "left": [0.01, 0.06]}},
}  # fmt: skip


def test_early_drop():
    assert verdicts(early_drop, DROP) == ["differs", "", "agrees", ""]
    assert "the cause is h:" in early_drop.judge(DROP)[1].text
    other = changed(DROP, left__h_held=0.06, left__free=0.995, left_longest=0.07)
    assert verdicts(early_drop, other) == ["agrees", "", "differs", ""]
    assert "not h alone" in early_drop.judge(other)[1].text
    assert verdicts(early_drop, changed(DROP, limit=None))[2] == ""


def test_the_limit_of_the_early_drop_is_the_derived_one():
    from derivations.wang import derive

    part = float(derive.early_drop()["part"].subs(derive.a_star, 0.2401))
    values = {"w_star": 0.49, "teacher_exponent": 2, "sigma_init": 0.0, "alpha_star": 1.0, "L": 40}
    assert early_drop.limit(values) == pytest.approx(1.01 * part, rel=1e-12)
    assert part == pytest.approx(1 - math.sqrt(1 - 2 * 0.2401**2), rel=1e-12)
    assert early_drop.limit(values | {"w_star": 0.9}) is None


LAW = {
    "said": "exponent of L", "measured": 1.02, "interval": [1.0, 1.04], "predicted": 1.03,
    "local": [1.02, 1.02], "values": [40, 80, 160], "linear": False,
}  # fmt: skip


def test_scaling():
    numbers = {"laws": {"L": LAW}, "level": 0.95, "within": 0.1}
    assert verdicts(scaling, numbers) == ["agrees"]
    assert verdicts(scaling, changed(numbers, laws__L__measured=1.3)) == ["differs"]
    wide = changed(numbers, laws__L__interval=[0.8, 1.2])
    assert verdicts(scaling, wide) == ["not decided"]
    # A slope is compared as a part of itself.
    linear = {"measured": 620.0, "interval": [619.0, 621.0], "predicted": 616.0, "linear": True}
    numbers["laws"]["L"] = LAW | linear
    assert verdicts(scaling, numbers) == ["agrees"]
    assert verdicts(scaling, changed(numbers, laws__L__measured=700.0)) == ["differs"]
    two = changed(numbers, laws__L__interval=[-math.inf, math.inf])
    assert verdicts(scaling, two) == ["agrees"]


def test_scaling_of_the_emergence_time(tmp_path):
    """Against the integrations of before: T_half ∝ L^1.02, and λ of the derived saddle."""
    given = {"lengths": "40,160,640", "engine": "asymptotic", "alphas": "1,2", "ws": "0.4,0.49"}
    found = perform(catalogue.experiment("wang.scaling"), given, Context("tiny", keep=tmp_path))
    laws = found.numbers["laws"]
    assert laws["L"]["measured"] == pytest.approx(1.02, abs=0.01)
    rates = 0.25 * 0.2401 / (np.array(laws["L"]["values"]) - 3)
    assert laws["L"]["rate"] == pytest.approx(rates, rel=1e-12)
    assert laws["L"]["T_half"][0] == pytest.approx(2166.0, rel=1e-3)
    sigma, rate = laws["sigma_init"], 0.25 * 0.2401 / 37
    assert sigma["measured"] == pytest.approx(1 / rate, rel=1e-3)
    assert sigma["predicted"] == pytest.approx(1 / rate, rel=1e-12)


STUDY = {"largest_error": 0.1, "seeds": 5, "sequences": 1024}


def power(exponent, error, values=(1.0, 2.0, 4.0)):
    return {"exponent": exponent, "error": error, "interval": None, "factor": 1.0}, list(values)


@pytest.mark.parametrize(
    ("module", "names", "expected", "off"),
    [(sequences, ("error", "half"), -0.5, 0.3), (step, ("stepping", "discretisation"), 1.0, 0.3)],
)
def test_powers_of_studies(module, names, expected, off):
    def numbers(exponent, error):
        law, values = power(exponent, error)
        means = {key: [0.1, 0.2, 0.3] for key in [*names, "error"]}
        return STUDY | {"laws": dict.fromkeys(names, law), "means": means, "values": values}

    assert verdicts(module, numbers(expected + 0.02, 0.01))[:2] == ["agrees"] * 2
    assert verdicts(module, numbers(expected + off, 0.01))[:2] == ["differs"] * 2
    assert verdicts(module, numbers(expected + 0.02, off))[:2] == ["not decided"] * 2
    # Of two values no error is known: draws of sequences then decide nothing.
    alone = "not decided" if module is sequences else "agrees"
    assert verdicts(module, numbers(expected, None))[:2] == [alone] * 2


# ---------------------------------------------------------------- trainings on IH_n


def point(H, learnt, runs=3, **more):
    lists = {k: [0.1] * runs for k in ("error", "probing", "oldest", "compared")}
    return {"n": 4, "H": H, "D": H, "value": H, "learnt": learnt, "runs": runs,
            "median_error": 0.1, **lists, **more}  # fmt: skip


def test_heads():
    def numbers(*points, vary="heads"):
        return {"vary": vary, "varied": "H = D", "points": list(points), "least": points[0],
                "most": points[-1], "needed": 3, "gap": 9.0}  # fmt: skip

    assert verdicts(heads, numbers(point(2, 0), point(8, 3))) == ["agrees", "agrees"]
    assert verdicts(heads, numbers(point(2, 1), point(8, 2))) == ["differs", "differs"]
    assert verdicts(heads, numbers(point(1, 0), point(2, 0))) == ["not decided", "agrees"]
    assert verdicts(heads, numbers(point(4, 1), point(8, 3))) == ["agrees", "not decided"]
    three = numbers(point(2, 0), point(4, 1), point(8, 3))
    assert "not enough for training" in heads.judge(three)[2].text
    assert verdicts(heads, three)[2] == ""
    assert verdicts(heads, numbers(point(8, 0), point(8, 3), vary="w_star")) == ["", ""]


def test_needed():
    target = {"n": 4, "needed": 3, "some": 3, "all": None, "learnt": [0, 0, 1], "of": [3, 3, 3],
              "median_error": [0.5, 0.4, 0.1]}  # fmt: skip
    numbers = {"below": 0, "below_runs": 6, "targets": [target]}
    assert verdicts(needed, numbers) == ["agrees", ""]
    assert verdicts(needed, numbers | {"below": 1}) == ["differs", ""]
    assert verdicts(needed, numbers | {"below_runs": 0}) == ["not decided", ""]
    said = needed.judge(numbers)[1].text
    assert "some seeds learn it with H ≥ 3, all with none" in said


def test_the_heads_needed_are_those_from_which_on_it_is_learnt():
    assert needed.fewest({1: True, 2: True, 3: True}) == 1
    assert needed.fewest({1: True, 2: False, 3: True, 4: True}) == 3
    assert needed.fewest({1: True, 2: False}) is None


def test_probing():
    numbers = {"learnt": 2, "of": 2, "steps": 100, "probing_start": [0.3, 0.2], "read": 0.05,
               "probing_end": [0.01, 0.02], "probing_largest_end": 0.02, "least_fall": 10.0,
               "error_end": [0.01, 0.01], "last_level": 0.2, "oldest": 0.01}  # fmt: skip
    assert verdicts(probing, numbers) == ["agrees", "agrees", ""]
    other = numbers | {"learnt": 1, "probing_largest_end": 0.06}
    assert verdicts(probing, other) == ["differs", "differs", ""]


def test_parts_of_trainings():
    settings = collect(heads.SETTINGS, {"seeds": 2}, "full", "wang.heads")
    made = list(heads.parts(settings).values())
    assert [(c.H, c.D, c.seed) for c in made] == [(h, h, s) for h in (2, 4, 8) for s in (0, 1)]
    settings = collect(heads.SETTINGS, {"over": "1,3", "width": 8}, "tiny", "wang.heads")
    assert [(c.H, c.D) for c in heads.parts(settings).values()] == [(1, 8), (3, 8)]
    settings = collect(heads.SETTINGS, {"vary": "w_star", "over": 0.5}, "tiny", "wang.heads")
    assert next(iter(heads.parts(settings).values())).w_star == 0.5
    settings = collect(needed.SETTINGS, {"n": "2,3", "seeds": "7,"}, "full", "wang.needed")
    found = needed.parts(settings)
    assert [(c.n, c.H) for c in found.values()] == [(n, H) for n in (2, 3) for H in range(1, n + 2)]
    assert "n3-H4-seed7" in found


# ---------------------------------------------------------------- language

TEXT = {
    "half_step": {"position_1": 10.0, "position_2": 20.0, "dot_product_1": 100.0,
                  "dot_product_2": 200.0},
    "onset_step": {"dot_product_1": 50.0, "dot_product_2": 60.0}, "separation": 2.5,
    "first_dot_product": 50.0, "last_position": 20.0, "slow": 0.5, "entropy": 3.2, "bigram": 2.3,
    "plateau": {"start": 20.0, "step": 30.0, "end": 40.0, "loss": 2.5, "slowing": 0.3},
    "loss_start": 4.4, "loss_end": 2.0, "plateau_count": 1, "plateau_losses": [2.5],
    "copying_end": 0.9, "matching": {"start": 1.0, "end": 4.0},
}  # fmt: skip


def test_language():
    assert verdicts(language, TEXT) == ["agrees"] * 3 + ["", ""]
    other = changed(TEXT, half_step__position_2=150.0, first_dot_product=15.0)
    other["plateau"]["slowing"] = 0.7
    assert verdicts(language, other) == ["differs"] * 3 + ["", ""]
    assert "shoulder" in language.judge(other)[2].text
    assert verdicts(language, changed(TEXT, plateau=None, plateau_losses=None))[2] == "differs"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"too short", "at least"),
        (b"a" * 20_000, "one character"),
        (bytes(range(256)) * 100, "UTF-8"),
        (bytes(20_000), "zero bytes"),
        (None, "there is no file"),
    ],
)
def test_texts_that_cannot_be_trained_on(content, said, tmp_path):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        perform(catalogue.experiment("wang.language"), {"text": str(path)}, Context("tiny"))


# ---------------------------------------------------------------- theorems


def table(*rates, searched=0.1, bound=0.2):
    rates = [{"name": "d", "measured": m, "expected": e, "points": 3} for m, e in rates]
    return {"title": "", "columns": ["searched", "bound"], "rows": [[searched, bound]],
            "rates": rates, "note": ""}  # fmt: skip


def test_theorem_3_1():
    numbers = {"rounding": 1e-13, "copy": {"exponential": {"p": [1.0, 2.0], "errors": [0.2, 0.1]}},
               "tables": {"p": table((-1.02, -1.0)), "L": table((0.05, 0.0))}}  # fmt: skip
    assert verdicts(theorem_3_1, numbers) == ["agrees"] * 4
    other = changed(numbers, copy__exponential__errors=[0.1, 0.2])
    other["tables"] = {"p": table((-0.5, -1.0)), "L": table((0.5, 0.0), searched=0.3)}
    assert verdicts(theorem_3_1, other) == ["differs"] * 4
    one = changed(numbers, copy__exponential={"p": [1.0], "errors": [0.1]})
    one["tables"] = {"p": table(), "L": table((-2.0, None))}
    assert verdicts(theorem_3_1, one) == ["not decided", "", "agrees"]


START = {"error": 1e-3, "largest": 1e-3, "largest_unnormalised": 1.0, "n": 3, "H": 4,
         "longest": 64, "polynomial": 0.01, "largest_polynomial": 0.1,
         "largest_polynomial_every": 0.01}  # fmt: skip
HEADS = {
    "below": 1.0, "curves": [{"n": 3, "bound": 100.0, "first": 0.1, "last": 0.01}],
    "best": {"n": 3, "bound": 100.0, "H": 6, "error": 0.01}, "largest_n": 3, "least_bound": 100.0,
    "floor": 1e-4,
}  # fmt: skip


def test_theorem_3_3():
    tables = {"bound": table((-1.0, -1.0)), "L": table((0.0, 0.0)), "H": table((-3.0, None)),
              "total": table()}  # fmt: skip
    numbers = {"heads": HEADS, "start": START, "tables": tables, "rounding": 1e-13}
    good = ["agrees", "agrees", "", "agrees", "agrees", "", "agrees", "", "agrees"]
    assert verdicts(theorem_3_3, numbers) == good
    assert "suffers near" in theorem_3_3.judge(numbers)[7].text
    calm = changed(numbers, start__largest_polynomial=0.01)
    assert "does not suffer" in theorem_3_3.judge(calm)[7].text
    other = changed(numbers, heads__below=0.5, start__largest=2e-3)
    other["heads"]["curves"][0]["last"] = 0.2
    other["tables"] |= {"bound": table((-0.5, -1.0)), "total": table(searched=0.3)}
    bad = ["differs", "differs", "", "differs", "agrees", "", "differs", "", "differs"]
    assert verdicts(theorem_3_3, other) == bad
    few = changed(numbers, heads__below=None, heads__curves=[], heads__best=None)
    assert verdicts(theorem_3_3, few)[:2] == ["not decided"] * 2


def test_theorem_3_4():
    features = {"name": "smooth", "ranks": [1, 2], "rank_errors": [0.2, 0.1], "widths": [8, 16],
                "width_errors": [0.2, 0.1]}  # fmt: skip
    tables = {"rank": table((-1.05, -1.0)), "width": table((-2.1, -2.0)), "total": table()}
    numbers = {"features": features, "tables": tables, "rounding": 1e-13}
    assert verdicts(theorem_3_4, numbers) == ["agrees"] * 4
    other = changed(numbers, features__width_errors=[0.1, 0.2])
    other["tables"] = {"rank": table((-2.0, -1.0)), "width": table((-1.0, -2.0)),
                       "total": table(searched=0.3)}  # fmt: skip
    assert verdicts(theorem_3_4, other) == ["differs"] * 4
    one = changed(numbers, features__ranks=[1], features__rank_errors=[0.1])
    assert verdicts(theorem_3_4, one)[0] == "not decided"


def test_theorem_3_3_measures_the_necessity_of_heads(tmp_path):
    given = {"H": "1,2,3", "bound": 100, "power_bounds": "100,1000"}
    found = perform(catalogue.experiment("wang.theorem-3-3"), given, Context("tiny", keep=tmp_path))
    rows = found.numbers["tables"]["H"]["rows"]
    assert [row[3] == pytest.approx(1, abs=1e-6) for row in rows[:3]] == [True, False, False]
    assert rows[3][2] is None and 0 < rows[3][4] < rows[2][3]  # any number of heads
    assert found.data["H_error"].values[:3] == pytest.approx([row[3] for row in rows[:3]])


def test_the_same_seed_gives_the_same_tables(tmp_path):
    one = catalogue.experiment("wang.theorem-3-1")
    found = [
        perform(one, {"seed": seed, "p": 8}, Context("tiny", keep=tmp_path)).numbers["tables"]
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]
    row = next(r for r in found[0]["p"]["rows"] if r[0] == "exponential")
    assert row[5] == pytest.approx(2 * np.tanh(2 * np.exp(-8)), rel=1e-3)


def test_tables():
    assert slope("a", [1.0], [2.0], None) == []
    (rate,) = slope("a", [1, 2, 3], [2, np.nan, 6], 2.0)
    assert (rate.measured, rate.points) == (pytest.approx(2), 2)
    found = Table("", ("a", "b"), [[1, 2.0], [1, None], [2, 3.0]])
    assert found.where(a=1).values("b") == [2.0, None] and found.values("a") == [1, 2]
    assert np.isnan(found.column("b")[1]) and len(found.values("a", "b")) == 3


# ---------------------------------------------------------------- bad input, interruption


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("theorem-3-1", {"heads": 3}, "unknown setting"),
        ("theorem-3-1", {"p": "1,x"}, "number"),
        ("theorem-3-3", {"H": "1.5"}, "H"),
        ("theorem-3-3", {"n": 1}, "out of range"),
        ("theorem-3-1", {"p": 1000}, "out of range"),
        ("theorem-3-1", {"kernel": "polynomal"}, "did you mean 'polynomial'"),
        ("theorem-3-4", {"similarity": "rough"}, "unknown value"),
        ("theorem-3-4", {"L": 4}, "out of range"),
        ("heads", {"vary": "head"}, "did you mean 'heads'"),
        ("heads", {"over": [2, 2]}, "twice"),
        ("heads", {"over": "2.5"}, "positive integer"),
        ("heads", {"skip": "perhaps"}, "true or false"),
        ("heads", {"optimiser": "adan"}, "did you mean 'adam'"),
        ("heads", {"L": 5, "n": 4}, "take L ≥ 6"),
        ("needed", {"n": 1}, "out of range"),
        ("needed", {"seeds": "0"}, "seed"),
        ("phases", {"w_star": 0.9, "engine": "asymptotic"}, "engine=exact"),
        ("phases", {"sigma_init": 0}, "fixed point"),
        ("scaling", {"lengths": "40"}, "at least two different values"),
        ("sequences", {"sequences": "0.5"}, "sequences"),
        ("step", {"t_end": "L +"}, "L +"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_computed(name, given, said):
    one = catalogue.experiment(f"wang.{name}")

    def never(*arguments):
        pytest.fail("it began")

    with pytest.raises(InputError, match=re.escape(said)):
        perform(replace(one, work=never), given, Context("tiny"))


def test_an_interrupted_training_is_taken_up_again(tmp_path):
    one, given = catalogue.experiment("wang.heads"), {"over": "1,2"}

    def interrupt(what, share):
        if re.search(r"heads2-seed0: step [3-5]\d", what):
            raise KeyboardInterrupt

    with pytest.raises(ExperimentInterrupted, match="1 of 2 parts"):
        perform(one, given, Context("tiny", progress=interrupt, keep=tmp_path / "a"))
    (folder,) = (tmp_path / "a").iterdir()
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == ["heads1-seed0.npz", "heads2-seed0.checkpoint.npz"]
    begun = []
    resumed = perform(
        one, given, Context("tiny", progress=lambda w, s: begun.append(w), keep=tmp_path / "a")
    )
    assert not any("heads1" in what for what in begun)
    whole = perform(one, given, Context("tiny", keep=tmp_path / "b"))
    assert resumed.numbers == whole.numbers and resumed.findings == whole.findings
