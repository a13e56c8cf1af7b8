"""A two-layer transformer with relative positions, as it learns the in-context n-gram IH_n.

The transformer of arXiv 2410.11474, section 2, without a feed-forward network: H heads in layer 1
and H' in layer 2, with matrices of D × D numbers (W_O and W_V enter as one product) and a relative
positional encoding R_h(k) of every head's own, k = 0, 1, … tokens back from the nearest one seen:

    y⁰_s = E x_s
    y_s  = y⁰_s + Σ_h V¹_h Σ_{τ<s} softmax_τ( (Q¹_h y⁰_s)·(K¹_h y⁰_τ) + R¹_h(s−1−τ) ) y⁰_τ
    out  = U ( ρ y_L + Σ_h V²_h Σ_{s=n}^{L−1} softmax_s( (Q²_h y_L)·(K²_h y_s) + R²_h(L−1−s) ) y_s )

with the loss ½ ‖out − IH_n(X)‖². R_h(k) is −p_h k (``linear``, the paper's), −p_h log(1 + k)
(``log``: polynomial kernels), or a parameter for every k (``free``). Layer 2 sees the positions of
the target's sum, s = n … L−1, and no others. ρ = 1 with a skip connection around layer 2, else 0:
the D = nd of Theorem 3.3 leaves no room for y_L beside keys and values.
`approximation.transformer` applies given weights; this module learns them.

Only the last row's output is read, so layer 2 has one query. Layer 1 attends to tokens of R^d, not
to rows of R^D: E is taken out of its sums, which makes it cheap where d is small.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from reduced_dynamics.core.errors import unknown

ENCODINGS = ("linear", "log", "free")


class Weights(NamedTuple):
    """The weights, or a gradient.

    `embedding` (D, d) and `readout` (d, D); a head's matrices in `Q1`, `K1`, `V1` (H, D, D) and
    `Q2`, `K2`, `V2` (H', D, D), applied to columns; `p1` and `p2`, the relative positional
    encodings: (H,) and (H',) slopes, or for ``free`` (H, L − 1) and (H', L − n) scores.
    """

    embedding: np.ndarray
    Q1: np.ndarray
    K1: np.ndarray
    V1: np.ndarray
    p1: np.ndarray
    Q2: np.ndarray
    K2: np.ndarray
    V2: np.ndarray
    p2: np.ndarray
    readout: np.ndarray


class Outcome(NamedTuple):
    """What the model makes of B sequences: `output`, shape (B, d).

    `attention1` of the rows s = n … L, over all tokens, has shape (B, H, L − n + 1, L), `first`,
    layer 1's output y_s there, (B, L − n + 1, D), and `attention2` of row L, over s = n … L − 1,
    (B, H', L − n).
    """

    output: np.ndarray
    attention1: np.ndarray
    first: np.ndarray
    attention2: np.ndarray


def initial_weights(
    sizes: tuple[int, int, int],
    heads: tuple[int, int],
    width: int,
    encoding: str,
    init_scale: float,
    slopes: tuple[float, float],
    rng: np.random.Generator,
    content: bool = True,
) -> Weights:
    """A random start, of sizes (n, L, d), heads (H, H') and width D.

    Matrices have iid N(0, init_scale²/D) entries; E has N(0, 1/d). Layer 1's slopes are uniform in
    the interval `slopes` (of ``free``: the slope of the line at which its scores start); those of
    layer 2 start at 0. Without `content` Q1 and K1 are 0, where their gradients vanish, so that
    they stay 0.
    """
    n, L, d = sizes
    H, second = heads
    std = init_scale / np.sqrt(width)

    def normal(*shape):
        return std * rng.standard_normal(shape)

    embedding = rng.standard_normal((width, d)) / np.sqrt(d)
    slope = rng.uniform(*slopes, H)
    p1, p2 = slope, np.zeros(second)
    if encoding == "free":
        p1, p2 = -slope[:, None] * np.arange(L - 1.0), np.zeros((second, L - n))
    square = [normal(heads, width, width) for heads in (H,) * 3 + (second,) * 3]
    if not content:
        square[:2] = np.zeros_like(square[:2])
    return Weights(embedding, *square[:3], p1, *square[3:], p2, normal(d, width))


def forward(
    weights: Weights, x: np.ndarray, n: int, encoding: str = "linear", skip: bool = True
) -> Outcome:
    """The model's output and all that leads to it, for x of shape (B, L, d); `skip` is ρ.

    Raises
    ------
    InputError
        If the encoding is unknown.
    """
    return _forward(weights, x, n, encoding, skip)[0]


def loss_and_gradient(
    weights: Weights,
    x: np.ndarray,
    target: np.ndarray,
    n: int,
    encoding: str = "linear",
    skip: bool = True,
) -> tuple[float, Weights]:
    """½ ‖output − target‖², averaged over the sequences, and its gradient; see `forward`."""
    outcome, kept = _forward(weights, x, n, encoding, skip)
    error = outcome.output - target
    loss = 0.5 * float(np.mean((error * error).sum(axis=1)))
    return loss, _backward(weights, x, n, encoding, skip, outcome, kept, error / len(x))


def _scores(p: np.ndarray, encoding: str, count: int) -> np.ndarray:
    """R_h(k) for k < count, shape (heads, count)."""
    if encoding == "free":
        return p[:, :count]
    return -p[:, None] * _distance(encoding, count)


def _distance(encoding: str, count: int) -> np.ndarray:
    if encoding not in ENCODINGS:
        raise unknown("encoding", encoding, ENCODINGS)
    k = np.arange(float(count))
    return np.log1p(k) if encoding == "log" else k


def _scores_gradient(d_scores: np.ndarray, p: np.ndarray, encoding: str) -> np.ndarray:
    """The gradient by p from the one by R, shape (heads, count)."""
    if encoding == "free":
        return d_scores
    return -d_scores @ _distance(encoding, d_scores.shape[1])


def _forward(weights, x, n, encoding, skip):
    """The outcome, and what `_backward` needs beside it, under the same names there."""
    B, L, d = x.shape
    E = weights.embedding
    H, D = len(weights.Q1), len(E)

    M = E.T @ weights.Q1.swapaxes(1, 2) @ weights.K1 @ E
    C = (weights.V1 @ E).swapaxes(0, 1).reshape(D, H * d)
    R1 = _scores(weights.p1, encoding, L - 1)
    A1, attended = _attend(x, M, R1, n - 1)
    first = x[:, n - 1 :] @ E.T + attended.reshape(B, L - n + 1, H * d) @ C.T

    G = weights.Q2.swapaxes(1, 2) @ weights.K2
    last, seen = first[:, -1], first[:, :-1]
    key = (last @ G).swapaxes(0, 1)
    scores = key @ seen.swapaxes(1, 2)
    scores += _scores(weights.p2, encoding, L - n)[:, ::-1]
    scores -= scores.max(axis=2, keepdims=True)
    A2 = np.exp(scores, out=scores)
    A2 /= A2.sum(axis=2, keepdims=True)
    through = A2 @ seen
    m = (through.swapaxes(0, 1) @ weights.V2.swapaxes(1, 2)).sum(axis=0)
    if skip:
        m += last
    outcome = Outcome(m @ weights.readout.T, A1, first, A2)
    return outcome, (C, G, attended, key, through, m)


def _backward(weights, x, n, encoding, skip, outcome, kept, d_output):
    d = x.shape[2]
    E = weights.embedding
    H, D = len(weights.Q1), len(E)
    C, G, attended, key, through, m = kept
    A2, first = outcome.attention2, outcome.first
    last, seen = first[:, -1], first[:, :-1]

    d_readout = d_output.T @ m
    d_m = d_output @ weights.readout
    d_V2 = (through.transpose(1, 2, 0) @ d_m).swapaxes(1, 2)
    d_through = (d_m @ weights.V2).swapaxes(0, 1)
    d_scores = d_through @ seen.swapaxes(1, 2)
    d_scores -= (A2 * d_scores).sum(axis=2, keepdims=True)
    d_scores *= A2
    d_p2 = _scores_gradient(d_scores.sum(axis=0)[:, ::-1], weights.p2, encoding)
    d_key = (d_scores @ seen).swapaxes(0, 1)
    d_G = last.T @ d_key
    d_first = np.empty_like(first)
    d_first[:, :-1] = A2.swapaxes(1, 2) @ d_through + d_scores.swapaxes(1, 2) @ key
    d_first[:, -1] = (d_key @ G.swapaxes(1, 2)).sum(axis=0)
    if skip:
        d_first[:, -1] += d_m

    rows = d_first.reshape(-1, D)
    d_E = rows.T @ x[:, n - 1 :].reshape(-1, d)
    d_C = rows.T @ attended.reshape(-1, H * d)
    d_attended = (rows @ C).reshape(attended.shape)
    d_M, d_R1 = _attend_gradient(x, outcome.attention1, attended, d_attended, n - 1)
    d_p1 = _scores_gradient(d_R1, weights.p1, encoding)

    d_VE = d_C.reshape(D, H, d).swapaxes(0, 1)
    QE, KE = weights.Q1 @ E, weights.K1 @ E
    d_QE, d_KE = KE @ d_M.swapaxes(1, 2), QE @ d_M
    d_E += (
        weights.V1.swapaxes(1, 2) @ d_VE
        + weights.Q1.swapaxes(1, 2) @ d_QE
        + weights.K1.swapaxes(1, 2) @ d_KE
    ).sum(axis=0)
    return Weights(
        d_E,
        d_QE @ E.T,
        d_KE @ E.T,
        d_VE @ E.T,
        d_p1,
        weights.K2 @ d_G.swapaxes(1, 2),
        weights.Q2 @ d_G,
        d_V2,
        d_p2,
        d_readout,
    )


@njit(cache=True, nogil=True)
def _attend(x, M, R, first):
    """Layer 1's attention of rows `first` … L − 1 (from 0) to the tokens before each.

    For x of shape (B, L, d), M (H, d, d) and R (H, L − 1): the attention, (B, H, L − first, L), and
    what is attended, (B, L − first, H, d).
    """
    B, L, d = x.shape
    H = len(M)
    A = np.zeros((B, H, L - first, L))
    attended = np.zeros((B, L - first, H, d))
    query = np.empty(d)
    for b in range(B):
        for h in range(H):
            for s in range(first, L):
                row = A[b, h, s - first]
                for i in range(d):
                    query[i] = 0.0
                    for j in range(d):
                        query[i] += x[b, s, j] * M[h, j, i]
                largest = -np.inf
                for t in range(s):
                    score = R[h, s - 1 - t]
                    for i in range(d):
                        score += query[i] * x[b, t, i]
                    row[t] = score
                    largest = max(largest, score)
                total = 0.0
                for t in range(s):
                    row[t] = np.exp(row[t] - largest)
                    total += row[t]
                for t in range(s):
                    row[t] /= total
                    for i in range(d):
                        attended[b, s - first, h, i] += row[t] * x[b, t, i]
    return A, attended


@njit(cache=True, nogil=True)
def _attend_gradient(x, A, attended, d_attended, first):
    """The gradients by M and R, from the one by `attended`."""
    B, L, d = x.shape
    H = A.shape[1]
    d_M = np.zeros((H, d, d))
    d_R = np.zeros((H, L - 1))
    inner = np.empty(d)
    for b in range(B):
        for h in range(H):
            for s in range(first, L):
                row = A[b, h, s - first]
                mean = 0.0
                for i in range(d):
                    inner[i] = 0.0
                    mean += d_attended[b, s - first, h, i] * attended[b, s - first, h, i]
                for t in range(s):
                    score = -mean
                    for i in range(d):
                        score += d_attended[b, s - first, h, i] * x[b, t, i]
                    score *= row[t]
                    d_R[h, s - 1 - t] += score
                    for i in range(d):
                        inner[i] += score * x[b, t, i]
                for j in range(d):
                    for i in range(d):
                        d_M[h, j, i] += x[b, s, j] * inner[i]
    return d_M, d_R
