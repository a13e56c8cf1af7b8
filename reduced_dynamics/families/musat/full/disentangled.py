"""The two-layer attention-only transformer on a concatenated residual stream, all 28 D² weights.

arXiv 2511.01033, the disentangled transformer:

    X¹ = [X , A¹ X]                       A¹ = softmax(X W¹ Xᵀ),  row i over rows j < i
    x² = [x¹_T , Σ_s A²_s x¹_s]           A² = softmax_s(x¹_Tᵀ W² x¹_s),  s < T
    y  = W³ x²                            loss ½‖y − b_q‖², averaged over the batch

The first row attends to nothing and its attention output is 0. With ``self_attention`` a row
attends to itself as well (j ≤ i, s ≤ T).

Attended rows A¹X are needed one by one for the last row only: elsewhere they enter through their
products with one vector, and A¹(X v) costs a D-th of (A¹X) v.

The 19 coordinates of its Theorem 1 (`LAYOUT`) span a subspace that the population gradient never
leaves. Every basis matrix has squared Frobenius norm D, so gradient flow of the weights in time τ
is gradient flow of the coordinates in the reduced time t = τ/D.
"""

from typing import NamedTuple

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.musat.full.recall_task import Batch, multiplication_by_i


class Weights(NamedTuple):
    """The weights, or a gradient with respect to them: shapes (2D, 2D), (4D, 4D), (D, 8D)."""

    W1: np.ndarray
    W2: np.ndarray
    W3: np.ndarray


#: Coordinate: weight matrix, block row, block column, and whether the basis matrix is M or I.
#: Blocks are D × D, in the order token, position, attended token, attended position, …;
#: in W¹ and W² the row is the query's side.
LAYOUT = {
    "alpha1": (0, 0, 0, "I"),
    "alpha2": (0, 1, 1, "I"),
    "alpha3": (0, 1, 1, "M"),
    "beta1": (1, 0, 0, "I"),
    "beta2": (1, 0, 2, "I"),
    "beta3": (1, 2, 0, "I"),
    "beta4": (1, 2, 2, "I"),
    "beta5": (1, 1, 1, "I"),
    "beta6": (1, 1, 1, "M"),
    "beta7": (1, 1, 3, "I"),
    "beta8": (1, 1, 3, "M"),
    "beta9": (1, 3, 1, "I"),
    "beta10": (1, 3, 1, "M"),
    "beta11": (1, 3, 3, "I"),
    "beta12": (1, 3, 3, "M"),
    "gamma1": (2, 0, 0, "I"),
    "gamma2": (2, 0, 2, "I"),
    "gamma3": (2, 0, 4, "I"),
    "gamma4": (2, 0, 6, "I"),
}
COORDINATES = tuple(LAYOUT)


class Intermediates(NamedTuple):
    """What the backward pass needs of the forward pass; B sequences of T rows.

    `attention1` has shape (B, T, T), `attention2`, of the query's row, (B, T). `query` is x¹_T,
    (B, 4D), and `key_scores`, (B, T, 2), are the rows times the half of W²ᵀ x¹_T that meets rows
    and the half that meets attended rows. `stream` is x², (B, 8D); `error` y − b_q, (B, D).
    """

    attention1: np.ndarray
    attention2: np.ndarray
    query: np.ndarray
    key_scores: np.ndarray
    stream: np.ndarray
    error: np.ndarray


def zeros(D: int) -> Weights:
    """All weights 0, the paper's initialisation."""
    return Weights(np.zeros((2 * D, 2 * D)), np.zeros((4 * D, 4 * D)), np.zeros((D, 8 * D)))


def check_shapes(weights: Weights, batch: Batch) -> None:
    """Raise `InputError` unless the weights fit the rows of the batch."""
    D = batch.rows.shape[-1] // 2
    found = tuple(np.shape(W) for W in weights)
    expected = ((2 * D, 2 * D), (4 * D, 4 * D), (D, 8 * D))
    if found != expected:
        raise InputError(
            f"rows of width {2 * D} (D = {D}) need weights of shapes {expected}, not {found}"
        )


def forward(
    weights: Weights, batch: Batch, self_attention: bool = False
) -> tuple[float, Intermediates]:
    """The loss, averaged over the batch, and what the backward pass needs.

    With `self_attention` rows attend to themselves as well.

    Raises
    ------
    InputError
        If the weights do not fit the batch.
    """
    check_shapes(weights, batch)
    W1, W2, W3 = weights
    x = batch.rows
    B, T, width = x.shape

    # Without self-attention row i sees the rows before it: the same triangle, one row further down.
    skip = 0 if self_attention else 1
    seen = T - skip
    scores = (x.reshape(-1, width) @ W1).reshape(x.shape)[:, skip:] @ x[:, :seen].swapaxes(1, 2)
    scores[:, ~np.tri(seen, dtype=bool)] = -np.inf
    attention1 = np.zeros((B, T, T))
    attention1[:, skip:, :seen] = softmax(scores)

    query = np.concatenate([x[:, -1], (attention1[:, -1:] @ x)[:, 0]], axis=1)
    key = (query @ W2).reshape(B, 2, width)
    key_scores = x @ key.swapaxes(1, 2)
    attention2 = np.zeros((B, T))
    attention2[:, :seen] = softmax(_through(attention1, key_scores)[:, :seen])

    stream = np.concatenate([query, _collect(attention2, attention1, x)], axis=1)
    error = stream @ W3.T - batch.target
    loss = 0.5 * np.einsum("bd,bd->", error, error) / B
    return loss, Intermediates(attention1, attention2, query, key_scores, stream, error)


def loss_and_gradient(
    weights: Weights, batch: Batch, self_attention: bool = False
) -> tuple[float, Weights]:
    """The loss, as of `forward`, and its gradient with respect to all 28 D² weights."""
    loss, kept = forward(weights, batch, self_attention)
    return loss, backward(weights, batch, kept)


def backward(weights: Weights, batch: Batch, kept: Intermediates) -> Weights:
    """The gradient of the loss, from the intermediates of `forward`."""
    _, W2, W3 = weights
    x = batch.rows
    B, _, width = x.shape
    A1, A2 = kept.attention1, kept.attention2

    d_output = kept.error / B
    dW3 = d_output.T @ kept.stream
    d_stream = d_output @ W3
    d_query, d_attended = d_stream[:, : 2 * width], d_stream[:, 2 * width :].reshape(B, 2, width)

    value_scores = x @ d_attended.swapaxes(1, 2)
    d_A2 = _through(A1, value_scores)
    d_scores2 = A2 * (d_A2 - np.einsum("bs,bs->b", A2, d_A2)[:, None])
    d_key = _collect(d_scores2, A1, x)
    dW2 = kept.query.T @ d_key
    d_query += d_key @ W2.T

    query_scores = (x @ d_query[:, width:, None])[:, :, 0]
    d_scores1 = by_first_scores(
        A1, (A2, d_scores2), (value_scores[:, :, 1], kept.key_scores[:, :, 1], query_scores)
    )
    dW1 = x.reshape(-1, width).T @ (d_scores1 @ x).reshape(-1, width)
    return Weights(dW1, dW2, dW3)


def by_first_scores(A1: np.ndarray, weights, products) -> np.ndarray:
    """The derivative by layer 1's scores, shape (B, T, T).

    That by A¹ has rank 3: through the values and the keys of layer 2, which weigh its rows by A²
    and by the derivative of layer 2's scores (`weights`, (B, T) each), and through the query, which
    is its last row alone. `products`, (B, T) each, are the rows times what of these three is
    attended.
    """
    B, T, _ = A1.shape
    left = np.zeros((B, T, 3), A1.dtype)
    left[:, :, 0], left[:, :, 1], left[:, -1, 2] = *weights, 1.0
    d_scores = left @ np.stack(products, axis=1)
    d_scores -= np.einsum("bij,bij->bi", A1, d_scores)[:, :, None]
    d_scores *= A1
    return d_scores


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in place; scores of −inf get no weight."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _through(attention1: np.ndarray, products: np.ndarray) -> np.ndarray:
    """[x_s , (A¹x)_s]·v for every row s, shape (B, T), from x_s times the two halves of v."""
    return products[:, :, 0] + (attention1 @ products[:, :, 1:])[:, :, 0]


def _collect(weight: np.ndarray, attention1: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Σ_s weight_s [x_s , (A¹x)_s], shape (B, 4D)."""
    both = np.stack([weight, (weight[:, None] @ attention1)[:, 0]], axis=1)
    return (both @ x).reshape(len(x), -1)


def embed(z: np.ndarray, D: int, M: np.ndarray | None = None) -> Weights:
    """The weights at a point of the invariant subspace, shape (19,), in the order of `COORDINATES`.

    M, shape (D, D), is the rotation from items' to labels' positions; `multiplication_by_i` unless
    given.
    """
    if np.shape(z) != (len(LAYOUT),):
        raise InputError(
            f"a point of the subspace has {len(LAYOUT)} coordinates, not {np.shape(z)}"
        )
    weights = zeros(D)
    basis = _basis(D, M)
    for value, (which, row, column, kind) in zip(z, LAYOUT.values(), strict=True):
        _block(weights[which], row, column, D)[...] += value * basis[kind]
    return weights


def project(weights: Weights, M: np.ndarray | None = None) -> np.ndarray:
    """The 19 coordinates of weights, shape (19,): inner products with the basis, over D.

    Applied to a gradient of the full model it gives 1/D times the gradient by the coordinates:
    the right-hand side of the reduced flow, up to its sign.
    """
    D = len(weights.W3)
    basis = _basis(D, M)
    return np.array(
        [
            np.vdot(basis[kind], _block(weights[which], row, column, D)) / D
            for which, row, column, kind in LAYOUT.values()
        ]
    )


def norms(weights: Weights, M: np.ndarray | None = None) -> tuple[float, float]:
    """Frobenius norms of the parts inside and outside the subspace, in that order."""
    inside = np.sqrt(len(weights.W3)) * np.linalg.norm(project(weights, M))
    outside = np.sqrt(sum(np.vdot(W, W) for W in off_subspace(weights, M)))
    return float(inside), float(outside)


def off_subspace(weights: Weights, M: np.ndarray | None = None) -> Weights:
    """The weights less their part in the subspace."""
    inside = embed(project(weights, M), len(weights.W3), M)
    return Weights(*(W - V for W, V in zip(weights, inside, strict=True)))


def _basis(D: int, M: np.ndarray | None) -> dict[str, np.ndarray]:
    return {"I": np.eye(D), "M": multiplication_by_i(D) if M is None else M}


def _block(W: np.ndarray, row: int, column: int, D: int) -> np.ndarray:
    return W[row * D : (row + 1) * D, column * D : (column + 1) * D]
