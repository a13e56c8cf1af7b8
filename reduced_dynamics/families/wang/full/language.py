"""A two-layer transformer that predicts the next token of a text, with its gradient by hand.

The language model of arXiv 2410.11474 in its smallest standard form: residual stream of width d,
H heads a layer, no layer norm and no MLP; E the token table, U the unembedding, and in layer ℓ

    S_h,ij = (W_Q x_i)·(W_K x_j)/√k − p_h (i − 1 − j),   j < i
    x ← x + W_O concat_h( softmax_j(S_h) W_V x )

so that a head attends by content, through the dot product of W_Q and W_K, and by position, through
one slope p_h, the paper's linear relative encoding: p_h → ∞ copies the previous token. As in the
paper's first layer a row does not attend to itself, and row 0 attends to nothing.

The loss is the mean cross-entropy of softmax(U x_i) on token i + 1, in nats, over all rows.
"""

from typing import NamedTuple

import numpy as np


class Layer(NamedTuple):
    """Weights of one layer: Q, K, V (d, H·k), O (H·k, d), applied to rows from the right; p (H,)"""

    Q: np.ndarray
    K: np.ndarray
    V: np.ndarray
    O: np.ndarray
    p: np.ndarray


class Weights(NamedTuple):
    """The weights or a gradient: `tokens`, `unembedding` (vocabulary, d), and both layers'."""

    tokens: np.ndarray
    Q1: np.ndarray
    K1: np.ndarray
    V1: np.ndarray
    O1: np.ndarray
    p1: np.ndarray
    Q2: np.ndarray
    K2: np.ndarray
    V2: np.ndarray
    O2: np.ndarray
    p2: np.ndarray
    unembedding: np.ndarray

    @property
    def layers(self) -> tuple[Layer, Layer]:
        return Layer(*self[1:6]), Layer(*self[6:11])


class Outcome(NamedTuple):
    """Mean cross-entropy in nats, and both layers' attention, shape (B, H, L, L)."""

    loss: float
    attention1: np.ndarray
    attention2: np.ndarray


class _Kept(NamedTuple):
    """What a layer's backward pass needs: its input, queries, keys, values, attention, heads."""

    x: np.ndarray
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    attention: np.ndarray
    heads: np.ndarray


def initial_weights(
    vocabulary: int,
    d: int,
    H: int,
    scale: float,
    slope: float,
    rng: np.random.Generator,
    dtype: type = np.float64,
) -> Weights:
    """Matrices with iid N(0, scale²/d) entries; all slopes p_h = `slope`. H divides d."""

    def draw(*shape):
        return (scale / np.sqrt(d) * rng.standard_normal(shape)).astype(dtype)

    def layer():
        return (*(draw(d, d) for _ in range(4)), np.full(H, slope, dtype))

    return Weights(draw(vocabulary, d), *layer(), *layer(), draw(vocabulary, d))


def forward(weights: Weights, tokens: np.ndarray) -> Outcome:
    """Predict token i + 1 from the tokens up to i.

    `tokens` are whole numbers, shape (B, L + 1); the last one is only ever a target.
    """
    loss, _, _, first, second = _run(weights, tokens)
    return Outcome(loss, first.attention, second.attention)


def loss_and_gradient(weights: Weights, tokens: np.ndarray) -> tuple[float, Weights]:
    """The loss of `forward` and its gradient with respect to every weight."""
    loss, x, d_logits, first, second = _run(weights, tokens)
    one, two = weights.layers
    V, d = weights.tokens.shape
    flat = d_logits.reshape(-1, V)
    d_unembedding = flat.T @ x.reshape(-1, d)
    d_x = d_logits @ weights.unembedding
    d_x, of_two = _backward(two, second, d_x)
    d_x, of_one = _backward(one, first, d_x)
    d_tokens = np.zeros_like(weights.tokens)
    np.add.at(d_tokens, tokens[:, :-1].ravel(), d_x.reshape(-1, d))
    return loss, Weights(d_tokens, *of_one, *of_two, d_unembedding)


def _run(weights, tokens):
    """Loss, output rows, derivative by the logits, and what both layers' backward passes need."""
    x = weights.tokens[tokens[:, :-1]]
    kept = []
    for layer in weights.layers:
        x, found = _layer(layer, x)
        kept.append(found)
    logits = x @ weights.unembedding.T
    logits -= logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
    np.exp(logits, out=logits)
    total = logits.sum(axis=-1, keepdims=True)
    loss = float(np.mean(np.log(total[..., 0]) - chosen, dtype=np.float64))
    logits /= total
    places = tokens[:, 1:, None]
    right = np.take_along_axis(logits, places, axis=-1) - 1.0
    np.put_along_axis(logits, places, right, axis=-1)
    logits /= tokens[:, 1:].size
    return loss, x, logits, *kept


def lags(length: int, dtype: type = np.float64) -> np.ndarray:
    """i − 1 − j for rows i and columns j, shape (L, L); negative where i does not see j."""
    i = np.arange(length, dtype=dtype)
    return i[:, None] - 1.0 - i


def _layer(layer: Layer, x: np.ndarray) -> tuple[np.ndarray, _Kept]:
    B, L, _ = x.shape
    H = len(layer.p)
    width = layer.Q.shape[1] // H

    def split(W):
        return (x @ W).reshape(B, L, H, width).swapaxes(1, 2)

    q, k, v = split(layer.Q), split(layer.K), split(layer.V)
    attention = q @ k.swapaxes(2, 3)
    attention *= x.dtype.type(1.0 / np.sqrt(width))
    lag = lags(L, x.dtype)
    attention -= layer.p[:, None, None] * lag
    attention[:, :, lag < 0.0] = -np.inf
    attention[:, :, 0] = 0.0
    attention -= attention.max(axis=-1, keepdims=True)
    np.exp(attention, out=attention)
    attention /= attention.sum(axis=-1, keepdims=True)
    attention[:, :, 0] = 0.0  # row 0 sees nothing
    heads = (attention @ v).swapaxes(1, 2).reshape(B, L, H * width)
    return x + heads @ layer.O, _Kept(x, q, k, v, attention, heads)


def _backward(layer: Layer, kept: _Kept, d_out: np.ndarray) -> tuple[np.ndarray, Layer]:
    """Derivatives by a layer's input and by its weights, from that by its output."""
    x, q, k, v, A, heads = kept
    B, H, L, width = q.shape
    d = x.shape[2]
    flat = x.reshape(-1, d)
    d_O = heads.reshape(-1, H * width).T @ d_out.reshape(-1, d)
    d_heads = (d_out @ layer.O.T).reshape(B, L, H, width).swapaxes(1, 2)
    d_v = A.swapaxes(2, 3) @ d_heads
    d_scores = d_heads @ v.swapaxes(2, 3)
    d_scores -= np.einsum("bhij,bhij->bhi", A, d_scores)[..., None]
    d_scores *= A
    d_p = -np.einsum("bhij,ij->h", d_scores, lags(L, x.dtype))
    d_scores *= x.dtype.type(1.0 / np.sqrt(width))
    parts = (d_scores @ k, d_scores.swapaxes(2, 3) @ q, d_v)
    parts = [part.swapaxes(1, 2).reshape(B, L, H * width) for part in parts]
    gradients = [flat.T @ part.reshape(-1, H * width) for part in parts]
    d_x = d_out.copy()
    for part, W in zip(parts, (layer.Q, layer.K, layer.V), strict=True):
        d_x += part @ W.T
    return d_x, Layer(*gradients, d_O, d_p.astype(layer.p.dtype))


def norms(weights: Weights) -> tuple[float, float, float, float]:
    """Norms of what each layer attends with: position ‖p‖, dot product √(‖W_Q‖² + ‖W_K‖²).

    In the order position 1, dot product 1, position 2, dot product 2; Frobenius norms.
    """
    norm = np.linalg.norm
    each = ((norm(layer.p), np.hypot(norm(layer.Q), norm(layer.K))) for layer in weights.layers)
    return tuple(float(found) for pair in each for found in pair)


def slopes(*layers: np.ndarray) -> dict[str, float]:
    """The positional slopes of every layer's heads by name: ``p1_1``, …, ``p2_1``, …"""
    return {
        f"p{layer}_{h}": float(slope)
        for layer, found in enumerate(layers, start=1)
        for h, slope in enumerate(found, start=1)
    }


def induction(outcome: Outcome, tokens: np.ndarray) -> tuple[float, float]:
    """How much the attention is that of an induction head; means over rows and the best head.

    Of an outcome and its tokens, shape (B, L + 1): copying, the attention of layer 1 on the
    previous token, of the head with most of it; and matching, the attention of layer 2 on rows
    whose previous token is the query's own, over what even attention would put there, of the head
    with most of it, over rows that have a match.
    """
    seen = tokens[:, :-1]
    copying = np.diagonal(outcome.attention1, offset=-1, axis1=2, axis2=3).mean(axis=(0, 2)).max()
    L = seen.shape[1]
    match = np.zeros((*seen.shape, L), dtype=bool)
    match[:, :, 1:] = seen[:, :, None] == seen[:, None, :-1]
    match &= lags(L) >= 0.0
    counts = match.sum(axis=2)
    rows = counts > 0
    even = (counts / np.maximum(np.arange(L), 1))[rows].mean()
    attended = np.where(match[:, None], outcome.attention2, 0.0).sum(axis=3)
    attended = attended.swapaxes(1, 2)[rows].mean(axis=0).max()
    return float(copying), float(attended / even)
