"""`musat19` and `musat3`, compiled, against the explicit 28D²-weight transformer and each other."""

import numpy as np
import pytest

from reduced_dynamics import catalogue
from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.families.musat.full.disentangled import embed, loss_and_gradient, project
from reduced_dynamics.families.musat.full.recall_task import (
    multiplication_by_i,
    sample_batch,
    sample_vectors,
)
from tests.families.musat.explicit_transformer import explicit_loss, explicit_rows


def compiled(name, **parameters):
    system = catalogue.system(name)
    values = system.values(parameters)
    return compile_system(system, values), np.array(system.pack(values), dtype=float)


def loss(name, z, **parameters):
    functions, par = compiled(name, **parameters)
    return functions.value_table(np.ascontiguousarray(z)[None], par)[0, 0]


def gradient(name, z, **parameters):
    functions, par = compiled(name, **parameters)
    return -functions.flow(0.0, z, par)


def central(f, z, h):
    return np.array([(f(z + h * e) - f(z - h * e)) / (2 * h) for e in np.eye(len(z))])


def explicit(z, n, query, self_attention, rng):
    """The loss of the explicit transformer on a Haar-random frame."""
    D = 2 * n + 2
    M = multiplication_by_i(D)
    tokens, positions = (v[0] for v in sample_vectors(n, D, 1, rng, "orthonormal"))
    rows = explicit_rows(tokens[0::2], tokens[1::2], positions, M, query)
    weights = embed(z, D, M)
    target = tokens[1::2][query - 1]
    return explicit_loss(*weights, rows, target, self_attention)


CASES = [(n, q) for n in range(1, 7) for q in range(1, n + 1)]


@pytest.mark.parametrize("self_attention", [False, True])
@pytest.mark.parametrize(("n", "query"), CASES)
def test_loss_equals_the_explicit_transformer(n, query, self_attention):
    rng = np.random.default_rng(100 * n + query)
    for _ in range(3):
        z = rng.normal(size=19) * rng.choice([0.3, 1.0, 3.0])
        ours = loss("musat19", z, N=n, query=query, self_attention=self_attention)
        theirs = explicit(z, n, query, self_attention, rng)
        assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("self_attention", [False, True])
@pytest.mark.parametrize("n", range(1, 7))
def test_uniform_query_is_the_mean(n, self_attention):
    z = np.random.default_rng(n).normal(size=19)
    single = [
        gradient("musat19", z, N=n, query=q, self_attention=self_attention) for q in range(1, n + 1)
    ]
    mean = gradient("musat19", z, N=n, query="uniform", self_attention=self_attention)
    np.testing.assert_allclose(mean, np.mean(single, axis=0), rtol=1e-12, atol=1e-15)


def explicit_gradient(z, n, query, self_attention, rng):
    """Derivatives of the explicit transformer along the 19 basis matrices, by Richardson."""

    def f(at):
        return explicit(at, n, query, self_attention, np.random.default_rng(0))

    coarse, fine = central(f, z, 2e-3), central(f, z, 1e-3)
    return (4 * fine - coarse) / 3


@pytest.mark.parametrize("self_attention", [False, True])
@pytest.mark.parametrize(("n", "query"), [(1, 1), (2, 1), (3, 2), (4, 4), (6, 3)])
def test_gradient_equals_the_explicit_transformer_by_differences(n, query, self_attention):
    rng = np.random.default_rng(7 * n + query)
    z = rng.normal(size=19)
    ours = gradient("musat19", z, N=n, query=query, self_attention=self_attention)
    theirs = explicit_gradient(z, n, query, self_attention, rng)
    np.testing.assert_allclose(ours, theirs, atol=2e-10)


@pytest.mark.parametrize("self_attention", [False, True])
@pytest.mark.parametrize(("n", "query"), CASES)
def test_gradient_equals_the_backward_pass_of_the_full_model(n, query, self_attention):
    """The full model's hand-written gradient, projected: two independent derivations, to 1e-12."""
    rng = np.random.default_rng(31 * n + query)
    D = 2 * n + 2
    batch = sample_batch(n, D, 2, rng, inputs="orthonormal", query=query)
    z = rng.normal(size=19)
    value, weights = loss_and_gradient(embed(z, D), batch, self_attention=self_attention)
    ours = gradient("musat19", z, N=n, query=query, self_attention=self_attention)
    # A basis matrix has squared norm D, so an inner product with it is D times a projection.
    np.testing.assert_allclose(ours, D * project(weights), rtol=1e-11, atol=1e-12)
    assert value == pytest.approx(
        loss("musat19", z, N=n, query=query, self_attention=self_attention), rel=1e-12
    )


@pytest.mark.parametrize("name", ["musat3", "musat19"])
@pytest.mark.parametrize("self_attention", [False, True])
@pytest.mark.parametrize("query", ["last", "uniform", 1, 2, 5])
def test_gradient_and_jacobian_equal_finite_differences(name, query, self_attention):
    options = {"N": 7, "query": query, "self_attention": self_attention}
    functions, par = compiled(name, **options)
    rng = np.random.default_rng(3)
    for _ in range(3):
        z = rng.normal(size=len(catalogue.system(name).names))
        slopes = central(lambda at: loss(name, at, **options), z, 1e-5)
        np.testing.assert_allclose(gradient(name, z, **options), slopes, atol=1e-9)
        jacobian = functions.jacobian(0.0, z, par)
        differences = -central(lambda at: gradient(name, at, **options), z, 1e-5).T
        np.testing.assert_allclose(jacobian, differences, atol=1e-9)
        np.testing.assert_allclose(jacobian, jacobian.T, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("self_attention", [False, True])
@pytest.mark.parametrize("query", ["last", "uniform", 1, 3, 6])
def test_musat3_is_musat19_with_the_other_16_at_zero(query, self_attention):
    names = catalogue.system("musat19").names
    head = [names.index(k) for k in catalogue.system("musat3").names]
    rng = np.random.default_rng(11)
    for _ in range(5):
        z3 = rng.normal(size=3) * 3
        z19 = np.zeros(19)
        z19[head] = z3
        options = {"N": 6, "query": query, "self_attention": self_attention}
        assert loss("musat3", z3, **options) == pytest.approx(
            loss("musat19", z19, **options), rel=1e-13
        )
        np.testing.assert_allclose(
            gradient("musat3", z3, **options),
            gradient("musat19", z19, **options)[head],
            rtol=1e-11,
            atol=1e-15,
        )


@pytest.mark.parametrize("n", [1, 2, 5, 64, 10**4])
@pytest.mark.parametrize("query", ["last", 1])
def test_extreme_coordinates_give_finite_numbers(n, query):
    rng = np.random.default_rng(5)
    for name in ("musat3", "musat19"):
        functions, par = compiled(name, N=n, query=query)
        size = len(catalogue.system(name).names)
        points = [np.full(size, s * 700.0) for s in (-1, 0, 1)]
        points += [700.0 * rng.choice([-1.0, 0.0, 1.0], size) for _ in range(20)]
        for z in points:
            assert np.isfinite(functions.value_table(z[None], par)).all()
            assert np.isfinite(functions.flow(0.0, z, par)).all()
            if n <= 64 or name == "musat3":
                assert np.isfinite(functions.jacobian(0.0, z, par)).all()


@pytest.mark.parametrize("n", [10**9, 10**12])
def test_musat3_at_enormous_n(n):
    functions, par = compiled("musat3", N=n)
    for z in np.array([[0.0, 0, 0], [700, 700, 700], [-700, 700, -700], [25, 30, 1]]):
        assert np.isfinite(functions.flow(0.0, z, par)).all()
        assert np.isfinite(functions.jacobian(0.0, z, par)).all()


def test_the_work_of_one_evaluation_is_linear_in_n():
    """Counted, not timed: the generated module loops over pairs, never over pairs of pairs."""
    functions, _ = compiled("musat19", N=8)
    text = functions.path.read_text()
    depth = [
        (len(line) - len(line.lstrip())) for line in text.splitlines() if "for i in range" in line
    ]
    assert depth
    assert set(depth) == {4}
