"""The theorems' constructions: weights of the two-layer transformer, arXiv 2410.11474, section 3.

The width is made of n blocks of size d, and 2r coordinates more in Theorem 3.4. The embedding
writes x_s into block 0; head h of layer 1 reads block 0 and writes c_{i,h} times it into block i,
so that block i of row s is Σ_h c_{i,h} Σ_k κ_{h,S}(k) x_{s−k} ≈ x_{s−i}. Layer 2 compares blocks
0..n−2 of the last row with blocks 1..n−1 of row s, by W or by the r features that the ReLU network
has written, and reads out block 0.

Where every error of a shift is at most ε over tokens in [−1, 1]^d, and every score's error at most
η, the output differs from the target by at most 2 tanh(η/2) (`score_bound`).
"""

import numpy as np

from reduced_dynamics.families.wang.approximation.relu import Network
from reduced_dynamics.families.wang.approximation.shifts import Shifts, copy
from reduced_dynamics.families.wang.approximation.transformer import (
    Attention,
    FeedForward,
    Transformer,
)


def theorem_3_1(W: np.ndarray, kind: str, p: float) -> Transformer:
    """One head a layer, D = 2d: layer 1 copies the previous token, layer 2 compares by W (d, d)."""
    return theorem_3_3(W, copy(kind, p, 2), len(W))


def theorem_3_3(W: np.ndarray, shifts: Shifts, d: int) -> Transformer:
    """H heads in layer 1, D = nd, for IH_n with W of shape ((n−1)d, (n−1)d)."""
    n = shifts.n
    D, m = n * d, (n - 1) * d
    query, key = np.zeros((D, D)), np.zeros((D, D))
    query[:m, :m] = W.T
    key[:m, d:] = np.eye(m)
    return _assemble(shifts, d, D, query, key)


def theorem_3_4(shifts: Shifts, d: int, left: Network, right: Network) -> Transformer:
    """D = nd + 2r, for GIH_n: a ReLU network writes features of the query and of the key.

    `left` and `right` are networks from R^{(n−1)d} to R^r; g(u, v) ≈ left(u)·right(v).
    """
    n, r = shifts.n, left.outputs
    m, blocks = (n - 1) * d, n * d
    D, M = blocks + 2 * r, left.width + right.width
    A, B, b = np.zeros((M, D)), np.zeros((D, M)), np.zeros(D)
    A[: left.width, :m] = left.directions
    A[left.width :, d:blocks] = right.directions
    a = np.concatenate([left.offsets, right.offsets])
    B[blocks : blocks + r, : left.width] = left.weights
    B[blocks + r :, left.width :] = right.weights
    b[blocks : blocks + r], b[blocks + r :] = left.constant, right.constant
    query, key = np.zeros((D, D)), np.zeros((D, D))
    query[:r, blocks : blocks + r] = np.eye(r)
    key[:r, blocks + r :] = np.eye(r)
    return _assemble(shifts, d, D, query, key, FeedForward(A, a, B, b))


def score_bound(score_error: float) -> float:
    """2 tanh(η/2): how far the output over tokens in [−1, 1]^d can move (in every coordinate)
    when every score moves by at most η.

    A softmax whose scores move by differences of at most 2η moves by at most tanh(η/2) in total
    variation, and an average of values in [−1, 1] by twice that.
    """
    return float(2 * np.tanh(score_error / 2))


def shift_bound(W: np.ndarray, error: float, exact: int) -> float:
    """η for IH_n from the largest error ε of a shift, over tokens in [−1, 1]^d.

    uᵀ W v with v off by ε in every entry, and u in all but its first `exact` (the query's own
    token needs no shift).
    """
    size = np.abs(W)
    own, copied = size[:exact].sum(), size[exact:].sum()
    return float(own * error + copied * (2 * error + error**2))


def _assemble(shifts, d, D, query, key, feed_forward=None) -> Transformer:
    n, H = shifts.n, len(shifts.slopes)
    zeros = np.zeros((H, D, D))
    values = np.zeros((H, D, D))
    for i in range(1, n):
        values[:, i * d : (i + 1) * d, :d] = shifts.coefficients[i - 1][:, None, None] * np.eye(d)
    block = np.eye(D, d)
    layer1 = Attention(zeros, zeros, values, shifts.slopes, shifts.kind)
    layer2 = Attention(
        query[None],
        key[None],
        (block @ block.T)[None],
        np.zeros(1),
        shifts.kind,
        first=n,
        skip=False,
    )
    return Transformer(block, layer1, layer2, block.T, feed_forward)
