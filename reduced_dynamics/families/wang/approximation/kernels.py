"""The kernels that a softmax over relative positions makes, over S tokens and over all of them.

A head of layer 1 that looks by position alone weighs the token at lag k = 1..S by

    κ_S(k) = e^{−p φ(k)} / Σ_{j=1}^S e^{−p φ(j)},     φ(k) = k or log k,

where S is the number of tokens before it: near the start of the sequence the same head has another
kernel. For the exponential kind it is κ_S(k) = Σ_{j≥0} κ_∞(k + jS), the kernel over all lags folded
to period S (proved in `derivations.wang.periodised_kernel`). Folding is linear, takes the shift
δ_i to itself as long as S ≥ i, and never increases an ℓ₁ norm; so coefficients c_h fitted on all
lags, Σ_h c_h κ_h ≈ δ_i, are at least as good over every S ≥ i tokens:

    f = Σ_h c_h κ_{h,∞} − δ_i,
    ‖Σ_h c_h κ_{h,S} − δ_i‖₁ = Σ_{k=1}^S |Σ_{j≥0} f(k + jS)| ≤ Σ_{k≥1} |f(k)| = ‖f‖₁.

With Σ_h α_h e^{−β_h k} ≈ δ_i from an approximation by plain exponentials, κ_∞(k) =
(e^{β} − 1) e^{−βk} gives c_h = α_h e^{−β_h} / (1 − e^{−β_h}); counting lags from 0, it is
c_h = α_h / (1 − e^{−β_h}).

The polynomial kind has no such identity: Σ_{j≤S} j^{−p} changes with S by another factor for each
head, and a cancellation between heads that was fitted for one S fails for another.
"""

from __future__ import annotations

import numpy as np

from reduced_dynamics.core.errors import unknown

KERNELS = ("exponential", "polynomial")


def cost(kind: str, lag: np.ndarray) -> np.ndarray:
    """φ of lags ≥ 1, less its value at lag 1, which a softmax does not see.

    Raises
    ------
    InputError
        If the kind is unknown.
    """
    if kind == "exponential":
        return lag - 1.0
    if kind == "polynomial":
        return np.log(lag)
    raise unknown("kernel", kind, KERNELS)


def kernel(kind: str, slopes: np.ndarray, S: int) -> np.ndarray:
    """κ_S of every head, shape (S, H): row k − 1 is lag k; columns sum to 1."""
    weights = np.exp(-np.asarray(slopes, float) * cost(kind, np.arange(1, S + 1))[:, None])
    return weights / weights.sum(axis=0)


def endless(slopes: np.ndarray, K: int) -> tuple[np.ndarray, np.ndarray]:
    """κ_∞ of the exponential kind: its first K lags, shape (K, H), and the mass beyond, (H,)."""
    slopes = np.asarray(slopes, float)
    decay = np.exp(-slopes * np.arange(K)[:, None])
    return -np.expm1(-slopes) * decay, np.exp(-slopes * K)


def error(kind: str, slopes: np.ndarray, coefficients: np.ndarray, i: int, S: int) -> float:
    """‖Σ_h c_h κ_{h,S} − δ_i‖₁ over S ≥ i tokens.

    For tokens in [−1, 1] this is the largest error of the shift by i, attained by the tokens
    sign(Σ_h c_h κ_{h,S}(k) − δ_i(k)).
    """
    found = kernel(kind, slopes, S) @ coefficients
    found[i - 1] -= 1.0
    return float(np.abs(found).sum())
