"""Gaussian inputs through sampled Gram matrices: the equations, the sampling, its error."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from derivations.core.conserved import linear_invariants
from derivations.core.dense import CAUSAL, ROWS, Dense, Each, RowSum, Softmax, Total, at, substitute
from derivations.musat.derive import derive_musat19
from reduced_dynamics import catalogue
from reduced_dynamics.commands.main import main
from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.musat import bank as gaussian
from reduced_dynamics.families.musat.full.disentangled import embed
from reduced_dynamics.families.musat.full.disentangled_training import TrainingConfig, train
from reduced_dynamics.families.musat.full.recall_task import multiplication_by_i, sample_vectors
from reduced_dynamics.public import integrate
from tests.families.musat.explicit_transformer import explicit_loss, explicit_rows

MUSAT19, MUSAT3 = catalogue.system("musat19"), catalogue.system("musat3")
attention = pytest.mark.parametrize("self_attention", [False, True], ids=["strict", "self"])


def compiled(inputs="gaussian", self_attention=False, system=MUSAT19):
    return compile_system(
        system, system.values({"N": 2, "inputs": inputs, "self_attention": self_attention})
    )


def packed(system=MUSAT19, **parameters):
    return np.array(system.pack(system.values({"inputs": "gaussian", **parameters})), dtype=float)


def evaluate(functions, z, par):
    """Loss, observables and gradient."""
    out = np.empty(1 + len(functions.observables) + len(z))
    assert functions.gradient(z, par, out) == out[0]
    return out


def from_vectors(tokens, positions):
    """Draws from explicit vectors, as rows of numbers.

    Tokens a_1, b_1, a_2, … have shape (draws, 2N, D); positions, each as [real part ; imaginary
    part], (draws, N + 1, D).
    """
    half = positions.shape[-1] // 2
    p = positions[..., :half] + 1j * positions[..., half:]
    return gaussian.flatten(tokens @ tokens.swapaxes(1, 2), p.conj() @ p.swapaxes(1, 2))


def with_query(par, q):
    return np.concatenate([par[:1], [q], par[2:]])


# ---------------------------------------------------------------- the equations


@attention
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_identity_gram_matrices_give_the_orthonormal_system(n, self_attention):
    ours, theirs = compiled("gaussian", self_attention), compiled("orthonormal", self_attention)
    one = gaussian.flatten(np.eye(2 * n)[None], np.eye(n + 1, dtype=complex)[None])[0]
    rng = np.random.default_rng(n)
    for q in range(n + 1):  # 0: the mean over all queries
        z = rng.standard_normal(19)
        par, plain = np.concatenate([[n, q, 1], one]), np.array([n, q], dtype=float)
        table = ours.value_table(z[None], par)
        np.testing.assert_allclose(table, theirs.value_table(z[None], plain), rtol=0, atol=1e-13)
        expected = evaluate(theirs, z, plain)
        np.testing.assert_allclose(evaluate(ours, z, par), expected, rtol=0, atol=1e-12)
        expected = theirs.jacobian(0.0, z, plain)
        np.testing.assert_allclose(ours.jacobian(0.0, z, par), expected, rtol=0, atol=1e-12)


@attention
@pytest.mark.parametrize("n, D", [(1, 2), (2, 4), (3, 4), (4, 16)])  # fewer dimensions than vectors
def test_loss_equals_the_explicit_transformer(n, D, self_attention):
    rng = np.random.default_rng(10 * n + D)
    tokens, positions = sample_vectors(n, D, 1, rng, "gaussian")
    one = from_vectors(tokens, positions)[0]
    M = multiplication_by_i(D)
    for q in range(1, n + 1):
        z = rng.standard_normal(19)
        rows = explicit_rows(tokens[0, ::2], tokens[0, 1::2], positions[0], M, q)
        expected = explicit_loss(*embed(z, D), rows, tokens[0, 2 * q - 1], self_attention)
        found = evaluate(compiled("gaussian", self_attention), z, np.r_[n, q, 1, one])[0]
        assert found == pytest.approx(expected, rel=1e-12)


@attention
def test_derivatives_against_differences(self_attention):
    functions = compiled("gaussian", self_attention)
    rng = np.random.default_rng(1)
    for q in (0, 1, 3):
        par = with_query(packed(N=3, D=6, bank=3, self_attention=self_attention), q)
        z = rng.standard_normal(19)
        step = 1e-5
        jacobian = functions.jacobian(0.0, z, par)
        for k in range(19):
            shift = step * np.eye(19)[k]
            above, below = (evaluate(functions, z + s, par) for s in (shift, -shift))
            slope = (above[0] - below[0]) / (2 * step)
            assert evaluate(functions, z, par)[3 + k] == pytest.approx(slope, rel=1e-7, abs=1e-8)
            bend = -(above - below)[3:] / (2 * step)
            np.testing.assert_allclose(jacobian[k], bend, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(jacobian, jacobian.T, rtol=0, atol=1e-12)
        assert functions.flow(0.0, z, par) == pytest.approx(-evaluate(functions, z, par)[3:])


def test_a_bank_is_the_mean_of_its_draws_and_uniform_the_mean_of_the_queries():
    functions = compiled()
    z = np.random.default_rng(2).standard_normal(19)
    par = packed(N=3, D=8, bank=5, query="uniform")
    whole = evaluate(functions, z, par)
    singles = [
        evaluate(functions, z, with_query(one, q))
        for one in gaussian.split(par, 5)
        for q in (1, 2, 3)
    ]
    np.testing.assert_allclose(whole, np.mean(singles, axis=0), rtol=0, atol=1e-13)


def test_large_scores_do_not_overflow():
    z = np.full(19, 300.0)
    par = packed(N=3, D=8, bank=4)
    assert np.isfinite(evaluate(compiled(), z, par)).all()
    assert np.isfinite(compiled().jacobian(0.0, z, par)).all()


def test_no_linear_first_integral_survives():
    assert linear_invariants(derive_musat19(inputs="gaussian").variants[0][1]) == ()
    par = packed(N=3, D=8, bank=50)
    rng = np.random.default_rng(3)
    slopes = [evaluate(compiled(), rng.standard_normal(19), par)[3:] for _ in range(60)]
    values = np.linalg.svd(np.array(slopes), compute_uv=False)
    assert values[-1] > 1e-4 * values[0]  # rank 19: the gradient spans all directions
    assert integrate(MUSAT19, {"N": 2, "inputs": "gaussian", "bank": 2}, t_end=1).invariants == {}


def test_musat3_is_musat19_clamped():
    par = packed(N=4, D=16, bank=8)
    head = [MUSAT19.index(name) for name in MUSAT3.names]
    for z in np.random.default_rng(4).standard_normal((3, 3)):
        full = np.zeros(19)
        full[head] = z
        expected = evaluate(compiled(), full, par)
        found = evaluate(compiled(system=MUSAT3), z, par)
        np.testing.assert_allclose(found, expected[[0, 1, 2, *(3 + k for k in head)]], atol=1e-13)
        expected = compiled().jacobian(0.0, full, par)[np.ix_(head, head)]
        found = compiled(system=MUSAT3).jacobian(0.0, z, par)
        np.testing.assert_allclose(found, expected, atol=1e-13)


def test_dense_programs_by_hand():
    x, y = at("A", "r, s"), at("u")
    program = Dense(
        coordinates=derive_musat19().coordinates[:2],
        spaces=(),
        tables=(),
        rows=None,
        layout={},
        marks={},
        self_attention=True,
        stages=(
            Each("score", CAUSAL, derive_musat19().coordinates[0]),
            Softmax("A", CAUSAL, at("score", "r, s")),
            Each("nothing", ROWS, derive_musat19().coordinates[1]),
            RowSum("u", CAUSAL, x * at("nothing", "s")),
            Total("loss", ROWS, y**2),
        ),
        outputs={"loss": derive_musat19().coordinates[0]},
    )
    assert substitute(program, {}).stages == ()  # the output reads no stage
    alpha1, alpha2 = program.coordinates
    reads = replace(program, outputs={"loss": at("loss", "").func("loss", real=True)})
    assert len(substitute(reads, {}).stages) == 5
    zero = substitute(reads, {alpha2: 0})
    assert (zero.stages, zero.outputs, zero.coordinates) == ((), {"loss": 0}, (alpha1,))
    # A softmax of zeros is not zero: its scores stay.
    assert len(substitute(reads, {alpha1: 0}).stages) == 5


# ---------------------------------------------------------------- the sampling


def bank(N, D, draws, seed=0):
    """G and H of every draw."""
    data = gaussian.sample(N, D, draws, seed)
    tokens = data[:, : 4 * N**2].reshape(-1, 2 * N, 2 * N)
    re, im = data[:, 4 * N**2 :].reshape(-1, 2, N + 1, N + 1).swapaxes(0, 1)
    return tokens, re + 1j * im


@pytest.mark.parametrize("D", [2, 4, 6, 8, 32, 1000, 10**6])
def test_moments_of_the_wishart_matrices(D):
    draws, N = 20_000, 3
    G, H = bank(N, D, draws)
    error = 6 / np.sqrt(draws)  # six standard errors
    for matrix, parts in ((G, (G,)), (H, (H.real, H.imag))):
        np.testing.assert_allclose(matrix, matrix.conj().swapaxes(1, 2), atol=1e-12)
        identity = np.eye(matrix.shape[1])
        assert np.abs(matrix.mean(axis=0) - identity).max() < error * np.sqrt(2 / D)
        off = ~identity.astype(bool)
        for part in parts:  # also Re H and Im H are inner products, of p_j with p_k and M p_k
            spread = part.var(axis=0) * D
            assert np.abs(spread[off] - 1).max() < error * np.sqrt(2 + 12 / D)
        assert np.abs(matrix.real.var(axis=0).diagonal() * D / 2 - 1).max() < error * np.sqrt(
            2 + 12 / (D / 2)
        )


@pytest.mark.parametrize("D", [2, 4, 6, 10, 16])
def test_distribution_is_that_of_explicit_vectors(D):
    draws, N = 3_000, 3
    G, H = bank(N, D, draws, seed=5)
    tokens, positions = sample_vectors(N, D, draws, np.random.default_rng(6), "gaussian")
    data = from_vectors(tokens, positions)
    assert data.shape[1] == gaussian.size(N)
    E = tokens @ tokens.swapaxes(1, 2)
    half = D // 2
    p = positions[..., :half] + 1j * positions[..., half:]
    F = p.conj() @ p.swapaxes(1, 2)
    for ours, theirs in ((G, E), (H, F)):
        rank = min(D if ours is G else half, ours.shape[1])
        assert (np.linalg.matrix_rank(ours, tol=1e-9) == rank).all()
        statistics = [
            lambda m: np.linalg.eigvalsh(m)[:, -1],
            lambda m, rank=rank: np.linalg.eigvalsh(m)[:, -rank],
            lambda m: (m[:, 0, 1] * m[:, 1, 2] * m[:, 2, 0]).real,
            lambda m: m[:, -1, 0].real + m[:, -1, 1].imag,
            lambda m: np.abs(m[:, -1, -2]) / m[:, -1, -1].real,
        ]
        for statistic in statistics:
            assert ks_2samp(statistic(ours), statistic(theirs)).pvalue > 1e-3


def test_the_mean_loss_is_that_of_explicit_vectors():
    z = 0.7 * np.random.default_rng(7).standard_normal(19)
    functions, draws = compiled(), 20_000
    for D in (4, 16):
        tokens, positions = sample_vectors(3, D, draws, np.random.default_rng(8), "gaussian")
        explicit = np.r_[3, 2, draws, from_vectors(tokens, positions).ravel()]
        sampled = np.r_[3, 2, draws, gaussian.sample(3, D, draws, seed=9).ravel()]
        errors = np.hypot(*(gaussian.standard_errors(functions, p, z) for p in (explicit, sampled)))
        differences = evaluate(functions, z, explicit) - evaluate(functions, z, sampled)
        assert np.abs(differences / errors).max() < 4.5
        assert np.sqrt(np.mean((differences / errors) ** 2)) < 1.6


def test_banks_are_seeded_and_nested():
    few, many = gaussian.sample(3, 10, 7), gaussian.sample(3, 10, 3000)
    np.testing.assert_array_equal(few, many[:7])
    assert np.abs(few - gaussian.sample(3, 10, 7, seed=1)).max() > 0.1
    np.testing.assert_array_equal(packed(N=3, bank=4), packed(N=3, bank=4, D=12))  # D's default
    first, second = gaussian.split(packed(N=3, bank=5), 2)
    assert (first[2], second[2]) == (3, 2)
    np.testing.assert_array_equal(np.r_[first[3:], second[3:]], packed(N=3, bank=5)[3:])


# ---------------------------------------------------------------- D to infinity, and the error


def test_wide_embeddings_agree_with_orthonormal_inputs():
    reference = integrate(MUSAT19, {"N": 4}, t_end=100)
    shifts = []
    for D in (10**2, 10**4, 10**6):
        run = integrate(MUSAT19, {"N": 4, "inputs": "gaussian", "D": D, "bank": 64}, t_end=100)
        names = [name for name, t in reference.events.items() if t is not None]
        shifts.append([abs(run.events[name] / reference.events[name] - 1) for name in names])
    assert len(names) == 4
    assert np.max(shifts[-1]) < 2e-3
    # With a fixed bank the leading difference is the bank's error, D^(-1/2).
    slopes = np.log(np.array(shifts[2]) / np.array(shifts[0])) / np.log(1e4)
    assert ((slopes > -0.65) & (slopes < -0.35)).all(), slopes
    assert integrate(MUSAT19, {"N": 2, "inputs": "gaussian", "D": 2**62, "bank": 2}, t_end=5).t[-1]


def test_standard_errors_say_how_seeds_differ():
    z = 0.5 * np.random.default_rng(10).standard_normal(19)
    functions = compiled()
    banks = [packed(N=3, D=8, bank=200, seed=s) for s in range(40)]
    spread = np.std([evaluate(functions, z, par) for par in banks], axis=0, ddof=1)
    claimed = gaussian.standard_errors(functions, banks[0], z)
    np.testing.assert_allclose(claimed, spread, rtol=0.6)
    larger = gaussian.standard_errors(functions, packed(N=3, D=8, bank=3200), z)
    np.testing.assert_allclose(larger, claimed / 4, rtol=0.5)
    assert np.isnan(gaussian.standard_errors(functions, packed(N=3, D=8, bank=1), z)).all()


def test_sampling_error_of_events_and_coordinates():
    parameters = {"N": 3, "D": 32, "inputs": "gaussian", "bank": 200}
    options = {"t_end": 25.0, "rtol": 1e-6}
    runs = [integrate(MUSAT19, parameters | {"seed": s}, **options) for s in range(8)]
    error = gaussian.sampling_error(MUSAT19, parameters, parts=8, **options)
    assert error.trajectories[0].t[-1] == 25.0
    spread = np.std([r.events["T_gamma3"] for r in runs], ddof=1)
    assert 0.4 < error.events["T_gamma3"] / spread < 2.5
    assert error.events["t_icl"] is None
    spread = np.std([r.at([10.0, 25.0]) for r in runs], axis=0, ddof=1)
    ratio = error.at([10.0, 25.0]) / spread
    assert ratio.shape == (2, 19)
    assert 0.6 < np.sqrt(np.mean(ratio**2)) < 1.6
    with pytest.raises(InputError, match="no sampling error"):
        gaussian.sampling_error(MUSAT19, {"N": 3})
    with pytest.raises(InputError, match="cannot be split"):
        gaussian.sampling_error(MUSAT19, parameters, parts=201)


# ---------------------------------------------------------------- end to end


def test_from_the_command_line(capsys):
    settings = ["--set", "N=4", "--set", "inputs=gaussian", "--set", "D=16", "--t-end", "40"]
    assert main(["run", "musat19", *settings]) == 0
    assert "sampling error of the loss at the end" in capsys.readouterr().out
    assert main(["run", "musat19", *settings, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["loss_rise"] == 0.0
    assert 0 < result["loss"] < 0.4
    assert 0 < result["stats"]["bank_error_loss"] < 0.02
    assert result["invariants"] == {}
    assert result["parameters"]["bank"] == 256


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"N": 64, "bank": 10**5}, "set bank to at most 3004"),
        ({"N": 64, "query": "uniform", "bank": 256}, "set bank to at most 46"),
        ({"N": 10**5, "bank": 1}, "smaller N"),
        ({"N": 4, "D": 15}, "odd"),
        ({"N": 4, "bank": 0}, "out of range"),
        ({"N": 4, "query": 5}, "beyond the last"),
        ({"N": 4, "inputs": "gausian"}, "did you mean 'gaussian'"),
    ],
)
def test_what_cannot_be(parameters, message):
    with pytest.raises(InputError, match=message):
        MUSAT19.values({"inputs": "gaussian", **parameters})


def test_narrow_embeddings_are_allowed():
    for D in (2, 4):
        run = integrate(MUSAT19, {"N": 4, "inputs": "gaussian", "D": D, "bank": 16}, t_end=20)
        assert np.isfinite(run.z).all()
        assert run.loss_rise < 1e-12


def test_the_full_model_agrees_within_the_two_sampling_errors(capsys):
    times = (2.0, 4.0, 8.0)
    common = {"N": 4, "D": 16, "inputs": "gaussian"}
    runs = [
        train(TrainingConfig(**common, batch=256, t_end=8.0, record=times, seed=s))[0]
        for s in (0, 1)
    ]
    parameters, options = common | {"bank": 2048}, {"t_end": 8.0, "rtol": 1e-6}
    reduced = integrate(MUSAT19, parameters, **options).at(times)
    of_bank = gaussian.sampling_error(MUSAT19, parameters, parts=8, **options).at(times)
    full = np.array([run.z[1:] for run in runs])
    # Two runs say their own error only together: one number for all coordinates.
    of_batches = np.sqrt(np.mean(full.var(axis=0, ddof=1)) / 2)
    difference = full.mean(axis=0) - reduced
    score = np.sqrt(np.mean(difference**2) / (np.mean(of_bank**2) + of_batches**2))
    with capsys.disabled():
        print(
            f"\nfull − reduced: max {np.abs(difference).max():.1e}, "
            f"rms {np.sqrt(np.mean(difference**2)):.1e}; sampling errors, rms: bank "
            f"{np.sqrt(np.mean(of_bank**2)):.1e}, batches {of_batches:.1e}; ratio {score:.2f}"
        )
    assert score < 2
