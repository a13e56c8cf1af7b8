"""The transformer of the approximation theorems, with its weights as explicit arrays.

arXiv 2410.11474, section 2: rows x_s ∈ R^D, s = 1..L. A layer of attention has H heads,

    (SA X)_s = Σ_h V_h Σ_{τ<s} softmax_τ((Q_h x_s)·(K_h x_τ) − p_h φ(s − τ)) x_τ,

with the relative positional encoding φ(z) = z (exponential kernel: ALiBi) or φ(z) = log z
(polynomial kernel). V_h holds the output matrix too. A row that sees nothing gets 0. Where `skip`
is set the layer adds to the rows it reads. A ReLU network may stand between two layers; it acts on
every row for itself and adds to it.

Nothing in the theorem's transformer tells the first rows that no stretch of n tokens ends there,
while the target's sum begins at s = n: `first` is that mask, the first row a layer may look at.
"""

from dataclasses import dataclass

import numpy as np

from reduced_dynamics.families.wang.approximation.kernels import cost


@dataclass(frozen=True)
class Attention:
    """A layer of attention: Q, K and V, shape (H, D, D), and p_h ≥ 0 in `slopes`, (H,).

    Q and K of zeros mean attention by position alone, a slope of 0 no positional encoding. `kernel`
    is "exponential" or "polynomial", `first` the first row, counted from 1, that may be looked at.
    """

    Q: np.ndarray
    K: np.ndarray
    V: np.ndarray
    slopes: np.ndarray
    kernel: str = "exponential"
    first: int = 1
    skip: bool = True

    def __call__(self, X: np.ndarray, last: bool = False) -> np.ndarray:
        """Rows out for rows in, shape (B, L, D); with `last` of the last row only, (B, 1, D)."""
        L = X.shape[1]
        rows = np.arange(1, L + 1)[-1 if last else 0 :]
        lag = rows[:, None] - np.arange(1, L + 1)
        seen = (lag > 0) & (np.arange(1, L + 1) >= self.first)
        distance = cost(self.kernel, np.where(seen, lag, 1))
        queries = X[:, rows[0] - 1 :]
        out = queries.copy() if self.skip else np.zeros_like(queries)
        for Q, K, V, slope in zip(self.Q, self.K, self.V, self.slopes, strict=True):
            scores = np.where(seen, -slope * distance, -np.inf)
            if Q.any() and K.any():
                scores = scores + (queries @ Q.T) @ (X @ K.T).transpose(0, 2, 1)
            out += _softmax(scores) @ X @ V.T
        return out


@dataclass(frozen=True)
class FeedForward:
    """A ReLU network on every row, added to it: x + B relu(A x + a) + b.

    Shapes (M, D), (M,), (D, M), (D,).
    """

    A: np.ndarray
    a: np.ndarray
    B: np.ndarray
    b: np.ndarray

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Rows out for rows in, any shape (…, D)."""
        return X + np.maximum(X @ self.A.T + self.a, 0.0) @ self.B.T + self.b


@dataclass(frozen=True)
class Transformer:
    """Embedding, two layers of attention, perhaps a ReLU network between them, and a read-out.

    The embedding has shape (D, d), the read-out (d, D).
    """

    embedding: np.ndarray
    layer1: Attention
    layer2: Attention
    readout: np.ndarray
    feed_forward: FeedForward | None = None

    @property
    def D(self) -> int:
        """The width."""
        return len(self.embedding)

    @property
    def H(self) -> int:
        """The number of heads in layer 1."""
        return len(self.layer1.slopes)

    def hidden(self, X: np.ndarray) -> np.ndarray:
        """What layer 2 reads, shape (B, L, D), for sequences of shape (B, L, d)."""
        rows = self.layer1(X @ self.embedding.T)
        return rows if self.feed_forward is None else self.feed_forward(rows)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """The output at the last position, shape (B, d), for sequences of shape (B, L, d)."""
        return self.layer2(self.hidden(X), last=True)[:, 0] @ self.readout.T


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis; 0 in rows where every score is −∞."""
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
