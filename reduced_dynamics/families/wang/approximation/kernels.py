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

import math
from decimal import Context, Decimal, localcontext

import numpy as np

from reduced_dynamics.core.errors import unknown

KERNELS = ("exponential", "polynomial")

#: Large coefficients cancel in an error: in doubles Σ|c| = 10⁴ leaves its tenth digit to rounding,
#: and to the processor. In this many digits the inequality above holds for the numbers themselves.
_EXACT = Context(prec=40)


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
    """‖Σ_h c_h κ_{h,S} − δ_i‖₁ over S ≥ i tokens, correct to the last digit.

    For tokens in [−1, 1] this is the largest error of the shift by i, attained by the tokens
    sign(Σ_h c_h κ_{h,S}(k) − δ_i(k)).
    """
    with localcontext(_EXACT):
        weights = _weights(kind, slopes, S)
        return float(_distance(weights, _exact(coefficients) / weights.sum(axis=0), i))


def error_everywhere(slopes: np.ndarray, coefficients: np.ndarray, i: int, K: int) -> float:
    """‖Σ_h c_h κ_h − δ_i‖₁ over all lags, exponential kind, rounded up.

    The mass of every head beyond K ≥ i lags is counted in full, so `error` over S ≥ i tokens is
    never larger, whatever S, K and the coefficients.
    """
    with localcontext(_EXACT):
        c, decay = _exact(coefficients), np.exp(-_exact(slopes))
        head = _distance(_weights("exponential", slopes, K), c * (1 - decay), i)
        total = head + np.abs(c) @ decay**K
        nearest = float(total)
        return nearest if nearest >= total else math.nextafter(nearest, math.inf)


def _exact(values) -> np.ndarray:
    return np.array([Decimal(float(value)) for value in values])


def _weights(kind: str, slopes: np.ndarray, S: int) -> np.ndarray:
    """e^{−p φ(k)}, shape (S, H), in decimals."""
    lags = range(1, S + 1)
    if kind == "exponential":
        return np.exp(-_exact(slopes)) ** np.array([k - 1 for k in lags], object)[:, None]
    return np.exp(-_exact(slopes) * np.array([Decimal(k).ln() for k in lags])[:, None])


def _distance(kernels: np.ndarray, c: np.ndarray, i: int) -> Decimal:
    found = kernels @ c
    found[i - 1] -= 1
    return np.abs(found).sum()
