"""The two-layer, two-head network on the mixed target: six scalars, sampled Gaussian sequences.

arXiv 2410.11474, section 4. Of a sequence x_1..x_L of independent N(0, 1) tokens, with s = 2..L−2:

    target    f* = ( c₄ x_{L−2} ,  c Σ_s softmax_s(a* x_L x_{s−1}) x_s )
    layer 1   y_s = Σ_{τ<s} softmax_τ(−p₁(s−1−τ)) x_τ          p₁ = ∞ copies the token before
    layer 2   f = ( g Σ_s softmax_s(−p(L−2−s)) x_s ,  h Σ_s softmax_s(w_Q w_K x_L y_s) x_s )

with c₄ = α*/(1+α*), c = 1/(1+α*), and loss ½‖f − f*‖² averaged over the sequences. It is the sum of
a 4-gram part, of p and g alone, and an induction part, of the other four.

Arrays run over tokens first and over sequences last, and come in blocks of sequences that stay in
a core's cache.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from reduced_dynamics.core.errors import whole_numbers

#: The weights, in the order of the reduced system's coordinates.
SCALARS = ("p1", "p", "g", "w_Q", "w_K", "h")
#: The shortest sequence with two (key, value) pairs.
SHORTEST = 5

#: Numbers in one array of a block, a quarter of a megabyte.
_BLOCK = 1 << 15


class Scalars(NamedTuple):
    """The six weights, or a gradient with respect to them. p₁ may be infinite."""

    p1: float
    p: float
    g: float
    w_Q: float
    w_K: float
    h: float


@dataclass(frozen=True)
class Target:
    """The target f*.

    `alpha_star`, α*, is the weight of the 4-gram component over that of the in-context 2-gram; the
    teacher attends with a* = `w_star` to the power `teacher_exponent`.
    """

    alpha_star: float = 1.0
    w_star: float = 0.49
    teacher_exponent: int = 2

    @property
    def a(self) -> float:
        """a*."""
        return self.w_star**self.teacher_exponent

    @property
    def c4(self) -> float:
        """Coefficient of the 4-gram component."""
        return self.alpha_star / (1.0 + self.alpha_star)

    @property
    def c(self) -> float:
        """Coefficient of the in-context 2-gram component."""
        return 1.0 / (1.0 + self.alpha_star)


class Attention(NamedTuple):
    """Induction outputs and what their derivatives need, for one block of b sequences.

    `weights` is the softmax over s, not normalised, shape (N, b), and `total` its sum, shape (b,);
    `output` is o = Σ_s softmax_s(a k_s) x_s and `slope` ∂o/∂a, (b,) each.
    """

    weights: np.ndarray
    total: np.ndarray
    output: np.ndarray
    slope: np.ndarray


@dataclass(frozen=True, eq=False)
class Block:
    """Some sequences, `tokens` of shape (L, b), with their targets f*, shape (2, b)."""

    tokens: np.ndarray
    target: np.ndarray

    @cached_property
    def values(self) -> np.ndarray:
        """x_s for s = 2..L−2, shape (N, b)."""
        return self.tokens[1:-2]

    @cached_property
    def before(self) -> np.ndarray:
        """x_{s−1}, shape (N, b)."""
        return self.tokens[:-3]

    @cached_property
    def copied(self) -> np.ndarray:
        """x_L x_{s−1}, the query times what layer 1 copies at p₁ = ∞, shape (N, b)."""
        return self.tokens[-1] * self.before

    def keys(self, mixing: np.ndarray | None) -> np.ndarray:
        """x_L y_s, shape (N, b); `mixing` is layer 1's attention, None for a copy."""
        return self.copied if mixing is None else self.tokens[-1] * (mixing @ self.before)


@dataclass(frozen=True, eq=False)
class Sequences:
    """M sequences of L tokens and their targets, in blocks."""

    L: int
    target: Target
    blocks: tuple[Block, ...]

    @cached_property
    def count(self) -> int:
        """M."""
        return sum(block.tokens.shape[1] for block in self.blocks)

    @cached_property
    def saddle(self) -> tuple[float, float]:
        """h and the induction loss where it is least for w_Q w_K = 0: the plateau's."""
        wanted = np.concatenate([block.target[1] for block in self.blocks])
        # Equal attention gives the mean of the values.
        uniform = np.concatenate([block.values.mean(axis=0) for block in self.blocks])
        h = (wanted @ uniform) / (uniform @ uniform)
        return float(h), float(0.5 * np.mean((h * uniform - wanted) ** 2))


def sample(L: int, count: int, target: Target, rng: np.random.Generator) -> Sequences:
    """`count` fresh sequences of L tokens, with their targets.

    Raises
    ------
    InputError
        If L is below 5 or there is no sequence.
    """
    whole_numbers(SHORTEST, L=L)
    whole_numbers(count=count)
    return assemble(rng.standard_normal((count, L)), target)


def assemble(tokens: np.ndarray, target: Target) -> Sequences:
    """Given sequences, tokens of shape (M, L), with their targets."""
    M, L = tokens.shape
    size = max(1, _BLOCK // L)
    blocks = []
    for first in range(0, M, size):
        part = np.ascontiguousarray(tokens[first : first + size].T)
        wanted = np.empty((2, part.shape[1]))
        block = Block(part, wanted)
        wanted[0] = target.c4 * part[-3]
        wanted[1] = target.c * attend(block.copied, block.values, target.a).output
        blocks.append(block)
    return Sequences(L, target, tuple(blocks))


def recency(p: float, rows: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """softmax(−p·lag), attention by relative position, and its derivative by the parameter p.

    Of the last `rows` of `count` places, each over the places up to itself, which has lag 0: shape
    (rows, count) each, lower triangular at the right end.
    """
    lag = np.arange(count - rows, count)[:, None] - np.arange(count)
    if p == np.inf:
        return (lag == 0).astype(float), np.zeros((rows, count))
    scores = np.where(lag >= 0, -p * lag, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    mean_lag = (weights * lag).sum(axis=1, keepdims=True)
    return weights, weights * (mean_lag - lag)


def attend(keys: np.ndarray, values: np.ndarray, a: float) -> Attention:
    """The induction head's attention: scores a·keys over the values, shapes (N, b)."""
    weights = a * keys
    weights -= weights.max(axis=0)
    np.exp(weights, out=weights)
    total = weights.sum(axis=0)
    weighed = weights * values
    output = weighed.sum(axis=0) / total
    weighed *= keys
    mean_key = np.einsum("sb,sb->b", weights, keys) / total
    slope = weighed.sum(axis=0) / total - output * mean_key
    return Attention(weights, total, output, slope)


def loss_and_gradient(
    weights: Scalars, sequences: Sequences
) -> tuple[tuple[float, float], Scalars]:
    """The 4-gram and the induction loss, averaged over the sequences, and the sum's gradient.

    With p₁ = ∞ the first layer copies, and the derivative by p₁ is 0.
    """
    p1, p, g, w_Q, w_K, h = weights
    pairs, a = sequences.L - 3, w_Q * w_K
    look_back = np.concatenate(recency(p, 1, pairs))
    mix, mix_slope = (None, None) if p1 == np.inf else recency(p1, pairs, pairs)

    totals = np.zeros(7)  # two losses, then the derivatives by p, g, h, a, p₁
    for block in sequences.blocks:
        recent, recent_slope = look_back @ block.values
        error = g * recent - block.target[0]
        totals[0] += 0.5 * (error @ error)
        totals[2] += g * (error @ recent_slope)
        totals[3] += error @ recent

        head = attend(block.keys(mix), block.values, a)
        error = h * head.output - block.target[1]
        totals[1] += 0.5 * (error @ error)
        totals[4] += error @ head.output
        totals[5] += h * (error @ head.slope)
        if mix is not None:
            # ∂loss/∂y_s = error · h a x_L · softmax_s · (x_s − o)
            by_y = head.weights * (block.values - head.output)
            by_y *= error * block.tokens[-1] / head.total
            totals[6] += h * a * np.vdot(by_y @ block.before.T, mix_slope)
    four, induction, d_p, d_g, d_h, d_a, d_p1 = (totals / sequences.count).tolist()
    return (four, induction), Scalars(d_p1, d_p, d_g, w_K * d_a, w_Q * d_a, d_h)
