"""The two-layer language model: its gradient, its attention, its texts."""

import numpy as np
import pytest

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.wang.full import language
from reduced_dynamics.families.wang.full.language_training import (
    COORDINATES,
    LanguageConfig,
    corpus,
    train_language,
)


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    weights = language.initial_weights(7, 8, 2, 1.0, 0.3, rng)
    weights = weights._replace(p2=np.array([-0.4, 1.7]))
    return weights, rng.integers(0, 7, (3, 10)), rng


@pytest.mark.parametrize("name", language.Weights._fields)
def test_gradient_against_finite_differences(case, name):
    weights, tokens, rng = case
    loss, gradient = language.loss_and_gradient(weights, tokens)
    assert loss == pytest.approx(language.forward(weights, tokens).loss, rel=1e-14)
    W = getattr(weights, name)
    for _ in range(3):
        along, h = rng.standard_normal(W.shape), 1e-4

        def at(x, along=along, W=W):
            return language.forward(weights._replace(**{name: W + x * along}), tokens).loss

        # Fourth order: the error left is rounding, some 1e-12.
        slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        assert np.vdot(getattr(gradient, name), along) == pytest.approx(slope, abs=1e-10)


def test_forward_by_loops(case):
    weights, tokens, _ = case
    outcome = language.forward(weights, tokens)
    H, width, losses = 2, 4, []
    for sequence in tokens:
        x = weights.tokens[sequence[:-1]]
        for layer in weights.layers:
            out = x.copy()
            for i in range(1, len(x)):
                heads = []
                for h in range(H):
                    part = slice(h * width, (h + 1) * width)
                    q = x[i] @ layer.Q[:, part]
                    scores = [
                        q @ (x[j] @ layer.K[:, part]) / np.sqrt(width) - layer.p[h] * (i - 1 - j)
                        for j in range(i)
                    ]
                    weight = np.exp(scores) / np.exp(scores).sum()
                    heads.append(sum(w * (x[j] @ layer.V[:, part]) for j, w in enumerate(weight)))
                out[i] = x[i] + np.concatenate(heads) @ layer.O
            x = out
        logits = x @ weights.unembedding.T
        chosen = logits[np.arange(len(x)), sequence[1:]]
        losses.append(np.log(np.exp(logits).sum(axis=1)) - chosen)
    assert outcome.loss == pytest.approx(np.mean(losses), rel=1e-12)


def test_attention_looks_back_only_and_a_steep_slope_copies(case):
    weights, tokens, _ = case
    steep = weights._replace(p1=np.full(2, 50.0), Q1=np.zeros_like(weights.Q1))
    first = language.forward(steep, tokens).attention1
    np.testing.assert_allclose(first[..., 1:, :].sum(axis=-1), 1.0)
    assert not np.triu(first).any()
    assert language.induction(language.forward(steep, tokens), tokens)[0] == pytest.approx(1.0)
    even = language.Outcome(0.0, first, np.tril(np.ones_like(first), -1))
    counts = np.maximum(np.arange(tokens.shape[1] - 1), 1)
    even = even._replace(attention2=even.attention2 / counts[:, None])
    assert language.induction(even, tokens)[1] == pytest.approx(1.0)


def test_training_learns_and_is_reproducible(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat, and then the dog did. " * 60)
    config = LanguageConfig(
        text=str(path), d=16, L=12, batch=8, steps=300, learning_rate=1.0, init_scale=0.5, record=30
    )
    (first, _), (again, _) = train_language(config), train_language(config)
    assert np.array_equal(first.z, again.z) and first.coordinates == COORDINATES
    text = corpus(str(path), 12)
    assert first["held_out_loss"][0] == pytest.approx(np.log(text.vocabulary), rel=0.1)
    assert first["held_out_loss"][-1] < text.entropy() < first["held_out_loss"][0]
    assert text.conditional_entropy() < text.entropy()
    assert np.all(np.isfinite(first.z)) and first["position_1"][-1] > first["position_1"][0]


def test_rare_characters_share_a_token(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("ab" * 20_000 + "é")
    text = corpus(str(path), 8)
    assert text.vocabulary == 3 and text.characters in ("ab", "ba") and text.held_out[-1] == 2


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"H": 3}, "divide"),
        ({"L": 1}, "at least 2"),
        ({"d": 0}, "positive integer"),
        ({"steps": True}, "positive integer"),
        ({"optimiser": "adan"}, "did you mean 'adam'"),
        ({"text": "/no/such/file"}, "there is no file"),
    ],
)
def test_settings_that_cannot_be(setting, said):
    with pytest.raises(InputError, match=said):
        LanguageConfig(**setting)
