"""Verdicts of musat's experiments: pure functions of numbers, with numbers on both sides."""

import pytest

from reduced_dynamics.families.musat.experiments import (
    batch,
    nineteen,
    order,
    perturbation,
    standard,
    step,
    weights,
)


def verdicts(experiment, numbers) -> list[str]:
    return [found.filled(numbers).verdict for found in experiment.judge(numbers)]


def power(exponent, error=0.01):
    return {"exponent": exponent, "error": error, "interval": None, "factor": 1.0}


# ------------------------------------------------------------------------------------- order


def ordered(times=(1.0, 2.0, 3.0, 4.0), exponents=(1.0, 2.0, 2.0, 2.0)):
    names = order.ORDER
    return {
        "N": 8, "largest_N": 8, "first_integral_drift": 1e-9,
        "events": dict(zip(names, times, strict=True)),
        "times": {name: [t] for name, t in zip(names, times, strict=True)},
        "ratio": dict.fromkeys(names, 1.0), "limits": dict.fromkeys(names, 1.0),
        "off_limit": dict.fromkeys(names, 0.0),
        "local_exponent": dict(zip(names, exponents, strict=True)),
    }  # fmt: skip


def test_the_order_of_three():
    assert verdicts(order, ordered())[:2] == ["agrees", "agrees"]
    assert verdicts(order, ordered(times=(2.0, 1.0, 3.0, 4.0)))[0] == "differs"
    assert verdicts(order, ordered(exponents=(1.0, 1.9, 2.0, 2.0)))[1] == "differs"


# ------------------------------------------------------------------------------------- weights


def blocks(outside=0.01, elsewhere=0.01, three=("gamma3", "beta2", "alpha3")):
    return {
        "outside_part": outside, "off_diagonal_part": elsewhere, "three_largest": list(three),
        "difference_part": 0.01, "by_matrix": dict.fromkeys(weights.MATRICES, 0.01),
        "largest_coordinate_error": 0.01, "batch": 16,
        "learned": dict.fromkeys(weights.COORDINATES, 1.0),
        "predicted": dict.fromkeys(weights.COORDINATES, 1.0),
    }  # fmt: skip


def test_the_structure_of_the_weights():
    assert verdicts(weights, blocks()) == ["agrees", "", "agrees"]
    assert verdicts(weights, blocks(outside=0.06))[0] == "differs"
    assert verdicts(weights, blocks(elsewhere=0.06))[0] == "differs"
    assert verdicts(weights, blocks(three=("gamma3", "beta2", "gamma2")))[2] == "differs"


# ------------------------------------------------------------------------------------- nineteen


def trained(confined=0.09, reached=("gamma3", "beta2", "alpha3")):
    return {
        "outside_over_inside_largest": confined, "outside_over_inside_end": confined, "batch": 16,
        "order": list(reached), "largest_error": 0.1, "worst_coordinate": "beta2",
        "relative_error": 0.1, "largest_coordinate": 1.0, "rms_error": 0.1, "moving": 12,
        "largest_other": "beta4", "largest_other_size": 1.0, "smallest_of_head": 0.5,
        "emergence": {n: {"full": 1.0, "reduced": None} for n in ("gamma3", "beta2", "alpha3")},
        "loss_start": 1.0, "loss_end": 0.1, "reduced_loss_end": 0.1,
    }  # fmt: skip


def test_nineteen_dimensions_and_their_order():
    assert verdicts(nineteen, trained()) == ["agrees", "", "", "agrees", ""]
    assert verdicts(nineteen, trained(confined=0.11))[0] == "differs"
    assert verdicts(nineteen, trained(reached=("gamma3", "alpha3", "beta2")))[3] == "differs"
    assert verdicts(nineteen, trained(reached=("gamma3", "beta2")))[3] == "not decided"


# ------------------------------------------------------------------------------------- standard


def emerged(kept=3, complete=3, spread=0.2):
    one = {
        "count": 3, "papers_order": kept, "complete": complete, "spread": [spread] * 3,
        "half_step": {n: [1.0] * 3 for n in ("alpha3", "beta2", "gamma3")},
        "orders": {"0.5": ["a"], "0.1": ["b"]}, "accuracy": [1.0] * 3, "learnt_step": [9.0] * 3,
        "held_out_loss": [0.1] * 3, "common_order": None, "gamma_over_learnt": [0.5] * 3,
    }  # fmt: skip
    return {"sgd": one}


def test_the_order_in_a_standard_transformer():
    assert verdicts(standard, emerged()) == ["agrees", "", ""]
    assert verdicts(standard, emerged(kept=2))[0] == "differs"
    assert verdicts(standard, emerged(kept=0, complete=2))[0] == "not decided"
    together = standard.judge(emerged(kept=0, spread=0.04))[0]
    apart = standard.judge(emerged(kept=0, spread=0.06))[0]
    assert together.why == "the three rise together" != apart.why


# ------------------------------------------------------------------------------------- studies


def means(**changed):
    names = ("error", "discretisation", "sampling", "scatter", "outside_start", "outside_end",
             "outside_largest", "shift")  # fmt: skip
    return {name: [0.2, 0.1] for name in names} | changed


@pytest.mark.parametrize(
    "outside, sampling, said",
    [
        (power(-0.51), power(-1.02), ["agrees", "agrees"]),
        (power(-0.7), power(-0.5), ["differs", "differs"]),
        (power(-0.51, 0.2), power(-1.0, 0.4), ["not decided", "not decided"]),
        (power(None, None), power(None, None), ["not decided", "not decided"]),
    ],
)
def test_powers_of_the_batch(outside, sampling, said):
    numbers = {
        "values": [16, 64],
        "laws": {"outside": outside, "sampling": sampling, "scatter": power(-0.9)},
        "means": means(sampling=[0.2, 0.01]),
    }
    assert verdicts(batch, numbers) == [*said, "agrees", ""]
    numbers["means"] = means(sampling=[0.2, 0.11])
    assert verdicts(batch, numbers)[2] == "differs"


@pytest.mark.parametrize(
    "law, said",
    [
        (power(1.02), "agrees"),
        (power(1.3), "differs"),
        (power(1.05, 0.05), "not decided"),
        (power(1.0, None), "not decided"),
    ],
)
def test_powers_of_the_step(law, said):
    numbers = {
        "values": [1.0, 2.0],
        "laws": {"discretisation": law, "error": power(1.0), "outside": power(0.5)},
        "means": means(sampling=[0.1, 0.05]),
    }
    first, second, _ = verdicts(step, numbers)
    assert first == said and second == ("agrees" if law["error"] else "not decided")
    numbers["means"] = means(sampling=[0.1, 0.15])
    assert verdicts(step, numbers)[1] != "agrees"


@pytest.mark.parametrize(
    "starts, ends, said",
    [
        ([0.0, 0.5], [0.1, 0.3], "agrees"),
        ([0.0, 0.5], [0.1, 0.6], "differs"),
        ([0.0, 0.05], [0.1, 0.11], "not decided"),  # below what minibatches bring about
        ([0.0, 0.05, 0.5], [0.1, 0.11, 0.3], "agrees"),
    ],
)
def test_whether_the_subspace_attracts(starts, ends, said):
    numbers = {
        "values": [0.0, 0.01, 0.1][: len(starts)],
        "laws": {"shift": power(2.0)},
        "means": means(outside_start=starts, outside_end=ends),
    }
    assert verdicts(perturbation, numbers) == [said, "agrees", ""]
    numbers["laws"]["shift"] = power(1.0)
    assert verdicts(perturbation, numbers)[1] == "differs"
