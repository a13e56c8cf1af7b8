"""`chen`: bank, loss and gradient against plain computations; flow, descent, stages, reports."""

import itertools
import json
import math

import numpy as np
import pytest

import reduced_dynamics as rd
from reduced_dynamics import catalogue
from reduced_dynamics.commands.main import main
from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.chen import bank as markov_bank
from reduced_dynamics.families.chen import population as markov
from reduced_dynamics.families.chen.bank import HEAD, LANES

SMALL = {"S": 2, "n": 2, "H": 2, "degree": 2, "L": 6, "kernels": 40, "dirichlet": 0.7}

#: The authors' recorded run: t, a (population flow and descent are held against it).
RECORDED = {100: 4.2781, 1000: 7.2811, 10000: 9.6901, 50000: 11.3512}
EARLY = {10: 0.7011, 30: 2.1110}


def prepared(parameters):
    system = catalogue.system("chen")
    values = system.values(parameters)
    system = system.adapted(values)
    return system, values, compile_system(system, values), np.array(system.pack(values))


def somewhere(system, values, seed=0):
    """A state at which everything matters."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=len(system.names))
    z[-1] = 1.7
    return z


# ---------------------------------------------------------------- the bank


@pytest.mark.parametrize("parents", [1, 2])
def test_stationary_law(parents):
    kernels = markov_bank.draw_kernels(np.random.default_rng(0), 5, 3, parents + 1, 0.4)
    law = markov_bank.stationary(kernels)
    again = markov_bank.window_law(kernels, law, parents + 1).sum(axis=-1)
    np.testing.assert_allclose(again, law, atol=1e-14)
    np.testing.assert_allclose(law.reshape(5, -1).sum(axis=1), 1.0)


def test_stationary_law_keeps_its_precision_where_chains_hardly_move():
    e, f = 1e-30, 3e-33
    kernels = np.array([[[1 - e, e], [f, 1 - f]]])
    np.testing.assert_allclose(markov_bank.stationary(kernels)[0], [f / (e + f), e / (e + f)])


def test_counts_of_a_sequence():
    found = markov_bank.counts(np.array([[0, 1, 1, 0, 1, 1, 0]]), 2, 2)[0]
    # (lag 1, lag 2; next): 10;1, 11;0, 01;1, 10;1, 11;0
    assert found[1, 0, 1] == found[1, 1, 0] == pytest.approx(0.4)
    assert found[0, 1, 1] == pytest.approx(0.2) and found.sum() == pytest.approx(1.0)


# ---------------------------------------------------------------- loss and gradient


def slow_loss(bank, z, values):
    """The model at a bank of sequences' windows: loops over samples, windows, heads."""
    S, H, degree = values["S"], values["H"], values["degree"]
    found = markov.subsets(H, degree)
    squares = np.exp(z[: len(found)])
    p = squares / squares.sum()
    logits = z[len(found) : -1].reshape(H, H)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    a = z[-1]

    def copied(window, h):
        v = np.zeros(S)
        for j in range(H):
            v[window[h + j - 1]] += softmax[h - 1, j]
        return v / (np.linalg.norm(v) + 1e-7)

    total = 0.0
    for b, query in enumerate(bank.queries):
        output, mass = np.zeros(S), 0.0
        for window in itertools.product(range(S), repeat=2 * H - 1):
            match = [copied(query, h) @ copied(window, h) for h in range(1, H + 1)]
            kappa = sum(
                w * math.prod(match[h - 1] for h in s) for w, s in zip(p, found, strict=True)
            )
            if "F" in bank.tables:
                law = bank.tables["F"][(b, *window)]
            else:
                parents = window[: values["n"] - 1]
                law = bank.tables["rho"][(b, *window)] * bank.kernels[(b, *parents)]
            output += math.exp(a * kappa) * law
            mass += math.exp(a * kappa) * law.sum()
        o, y = output / mass, bank.targets[b]
        if values["loss"] == "log":
            sample = -(y * np.log(o + values["eps"])).sum()
        else:
            sample = math.log(np.exp(o).sum()) - (y * o).sum()
        total += bank.shares[b] * sample
    return total


@pytest.mark.parametrize(
    ("limit", "loss"), [("infinite", "ce"), ("infinite", "log"), ("finite", "ce")]
)
def test_loss_against_the_model_and_gradient_against_differences(limit, loss):
    system, values, compiled, par = prepared({**SMALL, "limit": limit, "loss": loss})
    z = somewhere(system, values)
    out = np.empty(1 + len(compiled.observables) + len(z))
    found = compiled.gradient(z, par, out)
    assert found == pytest.approx(slow_loss(markov_bank.draw(values), z, values), rel=1e-13)
    few = np.empty(1 + len(compiled.observables))
    for k, slope in enumerate(out[-len(z) :]):
        h = 1e-4
        values_at = [
            compiled.values(z + m * h * (np.arange(len(z)) == k), par, few) for m in (-2, -1, 1, 2)
        ]
        difference = (values_at[0] - 8 * values_at[1] + 8 * values_at[2] - values_at[3]) / (12 * h)
        assert slope == pytest.approx(difference, abs=1e-10)
    jacobian = compiled.jacobian(0.0, z, par)
    ahead, behind = z.copy(), z.copy()
    ahead[-1] += 1e-4
    behind[-1] -= 1e-4
    column = (compiled.flow(0.0, ahead, par) - compiled.flow(0.0, behind, par)) / 2e-4
    np.testing.assert_allclose(jacobian[:, -1], column, atol=1e-6 * np.abs(column).max())


def test_counts_of_sequences_give_their_own_loss():
    system, values, compiled, _ = prepared({**SMALL, "limit": "finite"})
    rng = np.random.default_rng(3)
    kernels = markov_bank.draw_kernels(rng, 5, 2, 2, 0.7)
    bank = markov_bank.from_sequences(kernels, markov_bank.draw_sequences(rng, kernels, 9), 2)
    par = markov_bank.layout(bank, [1e-8, 1.0, 1.0, 1.0])
    z = somewhere(system, values)
    found = compiled.values(z, par, np.empty(1 + len(compiled.observables)))
    assert found == pytest.approx(slow_loss(bank, z, values), rel=1e-13)


def test_losses_of_samples_make_up_the_bank_s():
    system, values, compiled, par = prepared(SMALL)
    z = somewhere(system, values)
    each = markov_bank.losses(values, compiled, par, z)
    assert len(each) == 40 > LANES
    whole = compiled.values(z, par, np.empty(1 + len(compiled.observables)))
    assert markov_bank.shares(values, par) @ each == pytest.approx(whole)
    assert 0 < markov_bank.loss_error(values, compiled, par, z) < 0.2


# ---------------------------------------------------------------- dynamics


def test_the_flow_keeps_the_sum_of_squares_and_never_raises_the_loss():
    trajectory = rd.integrate("chen", SMALL, t_end=200)
    assert trajectory.invariants["log_sum_c2"] < 1e-8
    assert trajectory.loss_rise < 1e-12


def test_a_step_of_descent_is_the_weights_own():
    _, _, compiled, par = prepared(SMALL)
    z = np.array([-9.2, -9.0, -9.5, -9.1, 3.0, 0.1, 2.5, 0.3, 0.05])
    out = np.empty(1 + len(compiled.observables) + len(z))
    compiled.gradient(z, par, out)
    slopes, step = out[-len(z) :], 1.0
    moved = compiled.descend(z, par, step, 1, np.zeros(len(z), dtype=bool))[1]
    c = np.exp(z[:4] / 2)
    change = -step * slopes[:4] * 2 / c
    np.testing.assert_allclose(moved[:4], np.log((c + change) ** 2), rtol=1e-12)
    np.testing.assert_allclose(moved[4:], z[4:] - step * slopes[4:], rtol=1e-13)
    # Σ c² grows by |Δc|² exactly.
    grown = np.exp(moved[:4]).sum() - (c**2).sum()
    assert grown == pytest.approx((change**2).sum(), rel=1e-9)


def test_descent_becomes_the_flow_at_first_order():
    steps = {"steps": (1e-3, 5e-4, 2.5e-4), "t_end": 0.3, "kernels": 64, "long": 0.1}
    found = rd.experiment("chen.step-size", size="tiny", **steps)
    assert found.numbers["orders"] == [pytest.approx(1.0, abs=0.05)] * 2


def test_no_subset_freezes():
    """The rate of log c² does not depend on how little is left of a subset."""
    system, values, compiled, par = prepared(SMALL)
    z = somewhere(system, values)
    rates = []
    for depth in (-100.0, -590.0, -610.0, -1e6):
        z[0] = depth
        rates.append(compiled.flow(0.0, z, par))
    np.testing.assert_allclose(rates, rates[0][None].repeat(4, axis=0), rtol=1e-12)
    assert abs(rates[0][0]) > 1e-3
    moved = compiled.descend(z, par, 1e-3, 1, np.zeros(len(z), dtype=bool))[1]
    assert moved[0] - z[0] == pytest.approx(1e-3 * rates[0][0], rel=1e-3)


#: A bank whose noise (about half a percent of a with 2000 kernels) does not decide.
LARGE = 8192


@pytest.mark.parametrize("limit", ["infinite", "finite"])
def test_the_population_flow_follows_the_recorded_run(limit):
    values = {"limit": limit, "kernels": LARGE}
    trajectory = rd.integrate("chen", values, t_end=50_000, rtol=1e-3)
    for t, a in RECORDED.items():
        assert trajectory.at(t)[-1] == pytest.approx(a, rel=0.03), t
    assert markov.winner(trajectory) == "12"


def test_descent_with_the_recorded_step_has_the_early_stage_that_the_flow_does_not():
    """|c| grows from .026 to .37, which the flow keeps: it selects six times too early."""
    values = {"limit": "finite", "kernels": LARGE}
    descent = rd.integrate("chen", values, dynamics="gd", step=1.0, t_end=30)
    for t, a in EARLY.items():
        assert descent.at(t)[-1] == pytest.approx(a, rel=0.03), t
    for name, recorded in {"empty": -2.81, "2": -5.37, "23": -2.62, "13": -3.78}.items():
        assert math.log10(descent[f"p_{name}"][10]) == pytest.approx(recorded, rel=0.15), name
    size = math.sqrt(7) * 0.01 * math.exp(descent.invariants["log_sum_c2"] / 2)
    assert size == pytest.approx(0.37, abs=0.02)
    flow = rd.integrate("chen", values, t_end=3, rtol=1e-3)
    assert descent.events["T_selected"] > 5 * flow.events["T_selected"]


# ---------------------------------------------------------------- stages


def test_what_is_not_trained_stays():
    trajectory = rd.integrate("chen", {**SMALL, "training": "a"}, t_end=5)
    assert (trajectory.z[:, :-1] == trajectory.z[0, :-1]).all()
    assert trajectory["a"][-1] > trajectory["a"][0]


def test_stages_go_on_where_the_last_ended():
    values = {**SMALL, "training": "C-a"}
    trajectory = rd.integrate("chen", values, t_end=40, rtol=1e-6)
    first = rd.integrate("chen", {**SMALL, "training": "C"}, t_end=20, rtol=1e-6)
    assert trajectory.parameters["training"] == "C-a" and trajectory.t_end == 40
    np.testing.assert_allclose(trajectory.at(20.0), first.z[-1])
    np.testing.assert_allclose(trajectory.at(13.0), first.at(13.0))
    assert trajectory.at(20.0)[-1] == trajectory.at(0.0)[-1] < trajectory.at(40.0)[-1]
    assert (np.diff(trajectory.t) > 0).all()


# ---------------------------------------------------------------- criterion


def test_the_information_is_the_gradient_s():
    """At small a, with heads that copy one lag, loss=log and eps = 0."""
    parameters = {**SMALL, "loss": "log", "eps": 0.0, "w_plus": 40.0, "w_minus": 0.0}
    system, values, compiled, _ = prepared(parameters)
    kernels = markov_bank.draw_kernels(np.random.default_rng(4), 6, 2, 2, 0.7)
    rho = markov_bank.window_law(kernels, markov_bank.stationary(kernels), 3)
    queries = np.array(list(itertools.product(range(2), repeat=3)))
    bank = markov_bank.Bank(
        np.repeat(kernels, 8, axis=0),
        np.tile(queries, (6, 1)),
        {"rho": np.repeat(rho, 8, axis=0), "pi": np.repeat(kernels, 8, axis=0)},
        rho.reshape(6, 8).ravel() / 6,
    )
    par = markov_bank.layout(bank, [0.0, 1.0, 1.0, 1.0])
    z = np.array(system.origin(values))
    out = np.empty(1 + len(compiled.observables) + len(z))
    found = markov.subsets(2, 2)
    z[-1] = 0.0
    for k, subset in enumerate(found):
        z[: len(found)] = -700.0
        z[k] = 0.0
        compiled.gradient(z, par, out)
        assert -out[-1] == pytest.approx(markov.information(kernels, subset), rel=1e-5, abs=1e-9)


def test_the_criterion_predicts_the_recorded_winner():
    found = markov.criterion({"kernels": 512})
    assert found.winner == "12" and 0 < found.gap < 1
    assert found.subsets[np.argmax(found.saturated)] == "12"


def test_report_of_a_run(capsys, tmp_path):
    options = [f"--set={k}={v}" for k, v in SMALL.items()]
    plot = tmp_path / "run.png"
    assert main(["run", "chen", *options, "--t-end", "50", "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    assert "information criterion" in text and "<- predicted" in text
    assert plot.stat().st_size > 10_000
    assert main(["run", "chen", *options, "--t-end", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["events"]) == {"T_selected"} and "c_12" in found["state"]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"H": 1}, "H = 1 heads cannot copy the 2 parents of n = 3; set H to at least 2"),
        ({"degree": 4}, "degree = 4 asks for subsets of more heads than there are"),
        ({"dirichlet": 0}, "dirichlet = 0 is no Dirichlet parameter; it must be positive"),
        ({"dirichlet": -1}, "it must be positive"),
        ({"L": 5}, "L = 5 is shorter than the query's window of 5 lags"),
        ({"kernels": 10**7, "H": 6, "S": 4}, "set aside; set kernels to at most"),
        ({"training": "C-C"}, "unknown value of training 'C-C'"),
    ],
)
def test_bad_input(parameters, sentence):
    with pytest.raises(InputError, match=None) as error:
        catalogue.system("chen").values(parameters)
    assert sentence in str(error.value)


def test_header_of_the_parameter_vector():
    _, values, _, par = prepared({**SMALL, "training": "W"})
    assert list(par[: HEAD - 1]) == [values["eps"], 0.0, 1.0, 0.0]


def test_drawn_queries_stand_for_their_law():
    """Shares and queries of one kernel, many times over, make up the law of the last states."""
    kernels = markov_bank.draw_kernels(np.random.default_rng(5), 1, 2, 2, 0.3)
    many = np.repeat(kernels, 40_000, axis=0)
    law = markov_bank.window_law(many, markov_bank.stationary(many), 3)
    queries, shares = markov_bank._draw_queries(np.random.default_rng(6), law, 1)
    found = np.zeros((2, 2, 2))
    np.add.at(found, tuple(queries.T), shares)
    np.testing.assert_allclose(found, law[0], atol=0.01)


def test_the_criterion_knows_where_the_run_starts():
    """With weak first lags of heads 1 and 2 another subset is predicted, and wins."""
    weak = {"W_1_0": 0.1, "W_2_0": 0.1}
    found = markov.criterion({"kernels": 64}, weak)
    run = rd.integrate("chen", {"kernels": 64}, t_end=20, start=weak, rtol=1e-6)
    assert found.winner == markov.winner(run) == "13"
    assert any("as predicted" in line for line in markov.forecast(run))


def test_below_zero_the_least_informed_subset_grows():
    found = markov.criterion({"kernels": 64, "a_init": -1.0})
    run = rd.integrate("chen", {"kernels": 64, "a_init": -1.0}, t_end=20, rtol=1e-6)
    assert found.winner == markov.winner(run) == "empty"


def test_a_held_subset_cannot_win():
    assert markov.criterion({"kernels": 64}, held=["c_12"]).winner != "12"


def test_squares_that_cannot_be_told_apart_are_refused():
    names = [n for n in catalogue.system("chen").names if n.startswith("c_")]
    with pytest.raises(InputError, match="above -550"):
        rd.integrate("chen", {"kernels": 8}, t_end=1.0, start=dict.fromkeys(names, -650.0))
