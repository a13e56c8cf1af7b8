"""The targets of arXiv 2410.11474, section 3: induction heads of three kinds.

For X = (x_1..x_L), x_s ∈ R^d, with the last n − 1 tokens u = (x_L, x_{L−1}, …, x_{L−n+2}) and the
n − 1 tokens before position s, v_s = (x_{s−1}, …, x_{s−n+1}), both newest first,

    GIH_n(X) = Σ_{s=n}^{L−1} softmax_s(g(u, v_s)) x_s.

IH_n is g(u, v) = uᵀ W v, and IH₂ = Σ_{s=2}^{L−1} softmax_s(x_Lᵀ W x_{s−1}) x_s.
"""

from collections.abc import Callable

import numpy as np

from reduced_dynamics.core.errors import InputError

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]


def windows(X: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """u, shape (B, (n−1)d), and v_s for s = n..L−1, shape (B, L−n, (n−1)d).

    Raises
    ------
    InputError
        If the sequences are shorter than n + 1, or n < 2.
    """
    L = X.shape[1]
    if n < 2 or n + 1 > L:
        raise InputError(f"IH_{n} needs n ≥ 2 and L ≥ n + 1 = {n + 1} tokens, not L = {L}")
    u = np.concatenate([X[:, L - 1 - j] for j in range(n - 1)], axis=-1)
    v = np.concatenate([X[:, n - 2 - j : L - 2 - j] for j in range(n - 1)], axis=-1)
    return u, v


def generalised_induction_head(X: np.ndarray, n: int, g: Similarity) -> np.ndarray:
    """GIH_n, shape (B, d), of sequences X, shape (B, L, d).

    `g` takes arrays u and v that broadcast, shape (…, (n−1)d), to shape (…).
    """
    u, v = windows(X, n)
    scores = g(u[:, None], v)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("bs,bsd->bd", weights, X[:, n - 1 : -1])


def induction_head(X: np.ndarray, W: np.ndarray, n: int = 2) -> np.ndarray:
    """IH_n, shape (B, d), of sequences X, shape (B, L, d), with W of shape ((n−1)d, (n−1)d)."""
    return generalised_induction_head(X, n, lambda u, v: ((u @ W) * v).sum(axis=-1))
