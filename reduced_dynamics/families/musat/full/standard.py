"""A standard two-layer transformer on item–label recall: additive stream, separate Q, K, V, O.

arXiv 2511.01033, the standard model: residual stream of width d, one head a layer, no layer norm
and no MLP; E and P are the token and the position table, U the unembedding,

    h_i  = E[token i] + P[i]
    h¹_i = h_i + W_O¹ W_V¹ Σ_{j≤i} A¹_ij h_j          A¹ = softmax((W_Q¹ h_i)·(W_K¹ h_j))
    y    = U (h¹_T + W_O² W_V² Σ_s A²_s h¹_s)          A² = softmax((W_Q² h¹_T)·(W_K² h¹_s))

and the loss is the cross-entropy of softmax(y) on the label of the queried item.

Attention is causal. Only the last row's output is read, so layer 2 has one query, and layer 1's
outputs enter through their products with single vectors, as in `disentangled`.

The sequences are a₁ b₁ a₂ b₂ … a_N b_N a_q, with 2N different tokens drawn anew from the
vocabulary for every sequence: which label belongs to an item can be learnt from the sequence only.
T = 2N + 1 is odd, so 32 positions hold N = 15 pairs and one is never used.
"""

from typing import NamedTuple

import numpy as np

from reduced_dynamics.core.errors import InputError, unknown, whole_numbers
from reduced_dynamics.families.musat.full.disentangled import by_first_scores, softmax


class Weights(NamedTuple):
    """The weights, or a gradient: `tokens` and `unembedding` (vocabulary, d), `positions`
    (positions, d), and four (d, d) matrices a layer, applied to columns as in the paper."""

    tokens: np.ndarray
    positions: np.ndarray
    Q1: np.ndarray
    K1: np.ndarray
    V1: np.ndarray
    O1: np.ndarray
    Q2: np.ndarray
    K2: np.ndarray
    V2: np.ndarray
    O2: np.ndarray
    unembedding: np.ndarray


class Sequences(NamedTuple):
    """Token numbers, shape (B, 2N + 1), and the number of the right label, shape (B,)."""

    tokens: np.ndarray
    target: np.ndarray


class Outcome(NamedTuple):
    """Loss and accuracy averaged over the sequences, and both attention maps.

    `attention1` has shape (B, T, T); `attention2`, of the query row, shape (B, T).
    """

    loss: float
    accuracy: float
    attention1: np.ndarray
    attention2: np.ndarray


def initial_weights(
    vocabulary: int,
    positions: int,
    d: int,
    scale: float,
    rng: np.random.Generator,
    dtype: type = np.float64,
) -> Weights:
    """All weights iid N(0, scale²)."""
    shapes = [(vocabulary, d), (positions, d), *[(d, d)] * 8, (vocabulary, d)]
    return Weights(*((scale * rng.standard_normal(shape)).astype(dtype) for shape in shapes))


def check_sizes(N: int, vocabulary: int, positions: int, query: str) -> None:
    """Raise `InputError` unless such sequences exist."""
    whole_numbers(N=N, vocabulary=vocabulary, positions=positions)
    if vocabulary < 2 * N:
        raise InputError(
            f"N = {N} pairs need {2 * N} different tokens, more than the vocabulary of "
            f"{vocabulary}; take N ≤ {vocabulary // 2}"
        )
    if positions < 2 * N + 1:
        raise InputError(
            f"N = {N} pairs and a query need {2 * N + 1} positions, more than {positions}; "
            f"take N ≤ {(positions - 1) // 2}"
        )
    if query not in ("last", "uniform"):
        raise unknown("query", query, ["last", "uniform"])


def sample_sequences(
    N: int, vocabulary: int, batch: int, rng: np.random.Generator, query: str = "last"
) -> Sequences:
    """`batch` fresh sequences whose 2N tokens differ; the query is a_N or a uniform a_q."""
    pairs = rng.random((batch, vocabulary)).argsort(axis=1)[:, : 2 * N]
    q = rng.integers(0, N, batch) if query == "uniform" else np.full(batch, N - 1)
    each = np.arange(batch)
    tokens = np.concatenate([pairs, pairs[each, 2 * q, None]], axis=1)
    return Sequences(tokens, pairs[each, 2 * q + 1])


def forward(weights: Weights, sequences: Sequences, scaled: bool = True) -> Outcome:
    """Loss, accuracy and attention maps; `scaled` divides attention scores by √d.

    Raises
    ------
    InputError
        If a token or a position is not in its table.
    """
    return _forward(weights, sequences, scaled)[0]


def loss_and_gradient(
    weights: Weights, sequences: Sequences, scaled: bool = True
) -> tuple[Outcome, Weights]:
    """The outcome, as of `forward`, and the gradient of the loss with respect to all weights."""
    outcome, kept = _forward(weights, sequences, scaled)
    return outcome, _backward(weights, sequences, scaled, outcome, kept)


def measures(weights: Weights, T: int) -> tuple[float, float, float]:
    """The progress measures α̃3, β̃2, γ̃3 (arXiv 2511.01033, Eqs. 20–22).

    Previous-row attention of layer 1 by position, matching in layer 2 of the query's token with
    attended tokens, copying of attended tokens by layer 2:

        α̃3 = Σ_i (W_K¹ p_{i−1})·(W_Q¹ p_i)      over the T positions in use
        β̃2 = Σ_i (W_K² W_O¹ W_V¹ t_i)·(W_Q² t_i)      over the vocabulary
        γ̃3 = tr(U W_O² W_V² Eᵀ)      rows of E are the tokens t_i
    """
    E, P = weights.tokens, weights.positions[:T]
    alpha = np.vdot(P[:-1] @ weights.K1.T, P[1:] @ weights.Q1.T)
    attended = E @ weights.V1.T @ weights.O1.T
    beta = np.vdot(attended @ weights.K2.T, E @ weights.Q2.T)
    gamma = np.vdot(weights.unembedding, E @ weights.V2.T @ weights.O2.T)
    return float(alpha), float(beta), float(gamma)


def _merged(weights: Weights, scaled: bool):
    """W_QᵀW_K (with the scale) and W_O W_V of both layers: attention sees only these products."""
    scale = weights.Q1.dtype.type(len(weights.Q1) ** -0.5 if scaled else 1.0)
    G1 = scale * (weights.Q1.T @ weights.K1)
    G2 = scale * (weights.Q2.T @ weights.K2)
    return scale, G1, weights.O1 @ weights.V1, G2, weights.O2 @ weights.V2


def _forward(weights, sequences, scaled):
    """The outcome, and what `_backward` needs beside it, under the same names there."""
    tokens, target = sequences
    B, T = tokens.shape
    vocabulary, positions = len(weights.tokens), len(weights.positions)
    if positions < T:
        raise InputError(f"sequences of {T} rows need a table of {T} positions, not {positions}")
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < vocabulary):
        raise InputError(f"tokens must be numbers from 0 to {vocabulary - 1}, the vocabulary")
    _, G1, C1, G2, C2 = _merged(weights, scaled)
    d = len(G1)

    h = weights.tokens[tokens] + weights.positions[:T]
    left = (h.reshape(-1, d) @ G1).reshape(h.shape)
    scores = left @ h.swapaxes(1, 2)
    scores[:, ~np.tri(T, dtype=bool)] = -np.inf
    A1 = softmax(scores)

    z = (A1[:, -1:] @ h)[:, 0]
    u = h[:, -1] + z @ C1.T
    key = u @ G2
    f = key @ C1
    key_scores = h @ np.stack([key, f], axis=2)
    A2 = softmax(key_scores[:, :, 0] + (A1 @ key_scores[:, :, 1:])[:, :, 0])
    through = np.stack([A2, (A2[:, None] @ A1)[:, 0]], axis=1)
    mh, mz = (through @ h).swapaxes(0, 1)
    m = mh + mz @ C1.T
    out = u + m @ C2.T

    logits = out @ weights.unembedding.T
    logits -= logits.max(axis=1, keepdims=True)
    each = np.arange(B)
    accuracy = float(np.mean(logits.argmax(axis=1) == target))
    right = logits[each, target]
    probability = np.exp(logits)
    total = probability.sum(axis=1)
    loss = float(np.mean(np.log(total) - right))
    probability /= total[:, None]
    probability[each, target] -= 1.0
    probability /= B
    kept = h, left, u, z, key, f, key_scores, through, m, mz, out, probability
    return Outcome(loss, accuracy, A1, A2), kept


def _backward(weights, sequences, scaled, outcome, kept):
    scale, G1, C1, G2, C2 = _merged(weights, scaled)
    A1, A2 = outcome.attention1, outcome.attention2
    h, left, u, z, key, f, key_scores, through, m, mz, out, d_logits = kept
    B, T, d = h.shape

    d_unembedding = d_logits.T @ out
    d_out = d_logits @ weights.unembedding
    d_C2 = d_out.T @ m
    d_m = d_out @ C2
    e = d_m @ C1
    value_scores = h @ np.stack([d_m, e], axis=2)
    d_A2 = value_scores[:, :, 0] + (A1 @ value_scores[:, :, 1:])[:, :, 0]
    d_s = A2 * (d_A2 - (A2 * d_A2).sum(axis=1, keepdims=True))

    key_through = np.stack([d_s, (d_s[:, None] @ A1)[:, 0]], axis=1)
    kh, kz = (key_through @ h).swapaxes(0, 1)
    d_key = kh + kz @ C1.T
    d_G2 = u.T @ d_key
    d_u = d_out + d_key @ G2.T
    d_z = d_u @ C1
    d_C1 = d_m.T @ mz + key.T @ kz + d_u.T @ z

    query_scores = (h @ d_z[:, :, None])[:, :, 0]
    d_scores = by_first_scores(
        A1, (A2, d_s), (value_scores[:, :, 1], key_scores[:, :, 1], query_scores)
    )
    d_left = d_scores @ h
    d_G1 = h.reshape(-1, d).T @ d_left.reshape(-1, d)
    d_h = d_scores.swapaxes(1, 2) @ left
    d_h += (d_left.reshape(-1, d) @ G1.T).reshape(h.shape)
    weight = np.concatenate([through, key_through, A1[:, -1:]], axis=1)
    d_h += weight.swapaxes(1, 2) @ np.stack([d_m, e, key, f, d_z], axis=1)
    d_h[:, -1] += d_u

    one_hot = np.zeros((B * T, len(weights.tokens)), h.dtype)
    one_hot[np.arange(B * T), sequences.tokens.ravel()] = 1.0
    d_positions = np.zeros_like(weights.positions)
    d_positions[:T] = d_h.sum(axis=0)
    return Weights(
        one_hot.T @ d_h.reshape(-1, d), d_positions,
        scale * (weights.K1 @ d_G1.T), scale * (weights.Q1 @ d_G1),
        weights.O1.T @ d_C1, d_C1 @ weights.V1.T,
        scale * (weights.K2 @ d_G2.T), scale * (weights.Q2 @ d_G2),
        weights.O2.T @ d_C2, d_C2 @ weights.V2.T, d_unembedding,
    )  # fmt: skip
