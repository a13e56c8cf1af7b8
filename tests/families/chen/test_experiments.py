"""Verdicts of chen's experiments follow from the numbers: each with numbers on both sides."""

import numpy as np
import pytest

from reduced_dynamics import catalogue


def verdicts(name, numbers):
    return [f.filled(numbers).verdict for f in catalogue.experiment(name).judge(numbers)]


def row(winner="12", predicted="12", saturated="12", **more):
    return {
        "dirichlet": 0.1, "w_plus": 3.0, "loss": "ce", "winner": winner, "predicted": predicted,
        "saturated": saturated, "gap": 0.1, "saturated_gap": 0.2, **more,
    }  # fmt: skip


def test_criterion():
    assert (
        verdicts("chen.criterion", {"rows": [row(), row("13", "13", "13")]})[:2] == ["agrees"] * 2
    )
    missed = {"rows": [row(), row("13", "13", "12")]}
    assert verdicts("chen.criterion", missed)[:2] == ["agrees", "differs"]
    missed = {"rows": [row(), row(None, "13", "12")]}
    assert verdicts("chen.criterion", missed)[:2] == ["differs", "differs"]
    (_, second, _) = catalogue.experiment("chen.criterion").judge(missed)
    assert "none won, not 12, which led by 20.00%" in second.why


ORDERS = ("joint", "C-W-a", "C-a-W", "W-C-a", "W-a-C", "a-C-W", "a-W-C")


def order(training, winner="12", a=10.0):
    return {"training": training, "winner": winner, "predicted": "12", "a": a, "copier": 0.9}


def test_staged():
    rows = [order(name, a=16.0 if name.find("a") < name.find("C") else 10.0) for name in ORDERS]
    found = catalogue.experiment("chen.staged").judge({"rows": rows})
    assert found[0].verdict == "agrees" and "does not depend on the order" in found[0].text
    assert (
        "10.00 … 10.00 where the selector C is trained before a, at 16.00 … 16.00" in found[1].text
    )
    rows[3] = order(ORDERS[3], winner="13")
    found = catalogue.experiment("chen.staged").judge({"rows": rows})
    assert found[0].verdict == "differs" and "depends on the order" in found[0].text
    rows[3] = order(ORDERS[3], winner=None)
    assert catalogue.experiment("chen.staged").judge({"rows": rows})[0].verdict == "differs"


def stages(selected=1.0, copier=(5.0, 6.0), a_half=9.0, winner="12"):
    return {
        "T_selected": {"flow": selected, "finite": 2.0}, "copier_half": list(copier),
        "a_half": a_half, "winner": winner, "predicted": "12", "attention_start": [0.9],
        "attention_end": [0.99], "finite_attention_end": [0.9], "late_slope": 1.0,
        "returned": {"finite": ["none"], "flow": ["none"]}, "p_end": {"finite": 1.0, "flow": 1.0},
        "loss_end": {"finite": 0.6},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (stages(), ["agrees", "agrees"]),
        (stages(a_half=5.5), ["differs", "agrees"]),
        (stages(selected=5.5), ["differs", "agrees"]),
        (stages(copier=(5.0, None)), ["differs", "agrees"]),
        (stages(winner="13"), ["agrees", "differs"]),
        (stages(winner=None), ["agrees", "differs"]),
    ],
)
def test_stages(numbers, said):
    assert verdicts("chen.stages", numbers)[:2] == said


def recorded(*scores, a=4.3):
    summary = [{"quantity": "loss", "t": 100.0, "z": z} for z in scores]
    of_a = {"quantity": "a", "t": 100.0, "z": None, "mean": a, "sd": 0.02, "count": 5,
            "recorded": 4.2781}  # fmt: skip
    return {
        "summary": [*summary, of_a], "a": [of_a], "model_minus_head": [1e-4],
        "population": {"flow": {"t": [10.0, 100.0], "a": [0.7, 2 * 4.2781]}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "said"),
    [((0.1, -2.3), "agrees"), ((0.1, 3.5), "not decided"), ((0.1, -9.0), "differs"), ((), "")],
)
def test_recorded(scores, said):
    found = catalogue.experiment("chen.recorded").judge(recorded(*scores))
    assert found[0].verdict == said
    if scores:
        within = sum(abs(z) <= 2 for z in scores)
        assert f"{within} of {len(scores)} numbers" in found[0].text
        assert f"z = {max(scores, key=abs):+.2f}" in found[0].text
    assert "population, flow +100.0%" in found[1].text


def test_step_size():
    numbers = {"orders": [1.2, 1.01], "rows": [{}] * 3, "long_growth": np.log(171.0), "long": 1.0}
    assert verdicts("chen.step-size", numbers)[0] == "agrees"
    assert "by a factor of 171" in catalogue.experiment("chen.step-size").judge(numbers)[1].text
    assert verdicts("chen.step-size", numbers | {"orders": [1.0, 1.2]})[0] == "differs"
    assert verdicts("chen.step-size", numbers | {"orders": []})[0] == "not decided"


def late(slope, before):
    return {"t_end": 1e8, "rows": {"ce": {"slope": slope, "slope_before": before, "offset": 0.5}}}


def test_late():
    assert verdicts("chen.late", late(1.001, 1.002)) == ["agrees"]
    assert verdicts("chen.late", late(1.04, 1.2)) == ["not decided"]
    assert verdicts("chen.late", late(1.2, 1.201)) == ["differs"]


def test_transfer_says_where_the_model_loses():
    worst = {"excess": 0.001, "error": 0.002, "L": 10, "dirichlet": 0.1}
    numbers = {"worst": worst, "trained": None, "tested": 100}
    judge = catalogue.experiment("chen.transfer").judge
    assert "what is learned is the head" in judge(numbers)[0].text
    numbers["worst"] = worst | {"excess": 0.1}
    assert "loses +0.1000 ± 0.0020" in judge(numbers)[0].text
