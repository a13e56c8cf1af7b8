"""Item–label recall: batches of fresh sequences for the disentangled transformer.

N pairs (item aᵢ, label bᵢ) and a query that repeats item a_q; the target is b_q. A sequence has
T = 2N + 1 rows of width 2D, tokens beside positions (arXiv 2511.01033, the task):

    row 2i−1 : [aᵢ ; pᵢ]      row 2i : [bᵢ ; M pᵢ]      row 2N+1 : [a_q ; p_{N+1}]

R^D carries the complex structure of C^{D/2} as [real part ; imaginary part], and M is
multiplication by i: see `multiplication_by_i`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from reduced_dynamics.core.errors import InputError, unknown, whole_numbers

INPUTS = ("orthonormal", "gaussian")
QUERIES = ("last", "uniform")

#: Numbers drawn in one go by `normals`; larger blocks fall out of a core's cache.
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class Batch:
    """B sequences: their rows, shape (B, 2N + 1, 2D).

    `target` is the label b_q of the queried item, (B, D), and `query` q, between 1 and N, (B,).
    """

    rows: np.ndarray
    target: np.ndarray
    query: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice) -> Batch:
        """Some of the sequences, as a batch."""
        return Batch(self.rows[which], self.target[which], self.query[which])


def multiplication_by_i(D: int) -> np.ndarray:
    """M, shape (D, D): the rotation [re ; im] → [−im ; re], so that M² = −I."""
    half = D // 2
    M = np.zeros((D, D))
    M[:half, half:] = -np.eye(half)
    M[half:, :half] = np.eye(half)
    return M


def check_sizes(N: int, D: int, batch: int, inputs: str, query: str | int) -> None:
    """Raise `InputError` unless such sequences exist."""
    whole_numbers(N=N, D=D, batch=batch)
    if inputs not in INPUTS:
        raise unknown("kind of inputs", inputs, INPUTS)
    if isinstance(query, str):
        if query not in QUERIES:
            raise unknown("query", query, [*QUERIES, f"an integer from 1 to {N}"])
    elif not 1 <= query <= N:
        raise InputError(f"query {query} asks for a pair that is not there; N = {N} allows 1..{N}")
    if inputs == "orthonormal" and D < 2 * N + 2:
        raise InputError(
            f"D = {D} is too small for orthonormal inputs: N = {N} pairs need {N + 1} orthonormal "
            f"positions in C^(D/2); the smallest D that would do is {2 * N + 2}"
        )
    if D % 2:
        raise InputError(f"D = {D} is odd, but positions live in C^(D/2); use D = {D + 1} instead")


def sample_batch(
    N: int,
    D: int,
    batch: int,
    rng: np.random.Generator,
    inputs: str = "orthonormal",
    query: str | int = "last",
) -> Batch:
    """`batch` fresh, independent sequences.

    Parameters
    ----------
    N, D : int
        Pairs, and the width of tokens and of positions. D is even, and D ≥ 2N + 2 for
        orthonormal inputs.
    inputs : {"orthonormal", "gaussian"}
        Orthonormal: the 2N tokens are a Haar-random frame of R^D, the N + 1 positions one of
        C^{D/2} under U(D/2). Gaussian: every token and every position is iid N(0, 1/D).
    query : {"last", "uniform"} or int from 1 to N

    Raises
    ------
    InputError
        If there are no such sequences.
    """
    check_sizes(N, D, batch, inputs, query)
    tokens, positions = sample_vectors(N, D, batch, rng, inputs)
    return arrange(tokens, positions, sample_queries(N, batch, rng, query))


def sample_vectors(
    N: int, D: int, batch: int, rng: np.random.Generator, inputs: str
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens a₁, b₁, a₂, b₂, … and positions p₁ … p_{N+1}: shapes (B, 2N, D), (B, N + 1, D)."""
    if inputs == "gaussian":
        vectors = normals(rng, batch * (3 * N + 1) * D).reshape(batch, 3 * N + 1, D)
        vectors *= D**-0.5
        return vectors[:, : 2 * N], vectors[:, 2 * N :]
    return haar_real(batch, 2 * N, D, rng), haar_complex(batch, N + 1, D // 2, rng)


def sample_queries(
    N: int, batch: int, rng: np.random.Generator, query: str | int = "last"
) -> np.ndarray:
    """q for every sequence, shape (B,), integers from 1 to N."""
    if query == "uniform":
        return rng.integers(1, N + 1, batch)
    return np.full(batch, N if query == "last" else query)


def arrange(tokens: np.ndarray, positions: np.ndarray, query: np.ndarray) -> Batch:
    """The rows of the sequences, from what `sample_vectors` and `sample_queries` return."""
    batch, count, D = tokens.shape
    half = D // 2
    each = np.arange(batch)
    rows = np.empty((batch, count + 1, 2 * D))
    rows[:, :-1, :D] = tokens
    rows[:, -1, :D] = tokens[each, 2 * query - 2]
    rows[:, ::2, D:] = positions
    np.negative(positions[:, :-1, half:], out=rows[:, 1::2, D : D + half])
    rows[:, 1::2, D + half :] = positions[:, :-1, :half]
    return Batch(rows, tokens[each, 2 * query - 1], query)


def normals(rng: np.random.Generator, n: int) -> np.ndarray:
    """`n` iid standard normal numbers, shape (n,).

    Box and Muller's transform, three times as fast as numpy's ziggurat where numpy has vector
    instructions. Radii have double precision; angles lie on a grid of 2²⁴ with single-precision
    sines, a relative error of 10⁻⁷ that no average over fewer than 10¹⁴ numbers can see.
    """
    out = np.empty(n)
    for start in range(0, n, _BLOCK):
        block = out[start : start + _BLOCK]
        half = (len(block) + 1) // 2
        radius = rng.random(half)
        np.subtract(1.0, radius, out=radius)
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        angle = rng.random(half, dtype=np.float32)
        angle *= np.float32(2 * np.pi)
        np.multiply(radius, np.cos(angle), out=block[:half])
        rest = len(block) - half
        np.multiply(radius[:rest], np.sin(angle[:rest]), out=block[half:])
    return out


def haar_real(batch: int, k: int, D: int, rng: np.random.Generator) -> np.ndarray:
    """`batch` Haar-random frames of k ≤ D orthonormal vectors of R^D, shape (batch, k, D)."""
    count = k * D - k * (k - 1) // 2
    return _real_frames(normals(rng, batch * count).reshape(batch, count), k, D)


def haar_complex(batch: int, k: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """`batch` frames of k ≤ n orthonormal vectors of C^n, Haar-random under U(n).

    Every vector as [real part ; imaginary part]: shape (batch, k, 2n).
    """
    count = k * n - k * (k - 1) // 2
    return _complex_frames(normals(rng, 2 * batch * count).reshape(batch, 2, count), k, n)


# A Haar-random frame is G₁ (1 ⊕ G₂ (1 ⊕ G₃ …)), where Gⱼ is any orthogonal (unitary) matrix whose
# first column is uniform on its sphere (Stewart 1980). With v a gaussian vector of norm r and
# phase e = v₁/|v₁|, take Gⱼ = the reflection along u = v + r e e₁, but v/r as the first column.
# Both kernels work in place from the last vector to the first; entry c of a frame is zero in the
# coordinates before c until the reflections reach it. Loops run over all coordinates, zeros
# included, because loops of a constant length are what a compiler turns into vector instructions.


@njit(cache=True, fastmath=True)
def _real_frames(gaussian, k, D):  # pragma: no cover
    frames = np.zeros((gaussian.shape[0], k, D))
    for b in range(gaussian.shape[0]):
        used = 0
        for j in range(k - 1, -1, -1):
            v = frames[b, j]
            square = 0.0
            for d in range(j, D):
                v[d] = gaussian[b, used + d - j]
                square += v[d] * v[d]
            used += D - j
            r = np.sqrt(square)
            first = v[j]
            scale = 1.0 / (r * (r + abs(first)))
            v[j] = first + r if first >= 0.0 else first - r
            for c in range(j + 1, k):
                x = frames[b, c]
                along = 0.0
                for d in range(D):
                    along += v[d] * x[d]
                along *= scale
                for d in range(D):
                    x[d] -= along * v[d]
            v[j] = first
            for d in range(D):
                v[d] /= r
    return frames


@njit(cache=True, fastmath=True)
def _complex_frames(gaussian, k, n):  # pragma: no cover
    frames = np.zeros((gaussian.shape[0], k, 2 * n))
    for b in range(gaussian.shape[0]):
        used = 0
        for j in range(k - 1, -1, -1):
            v_re = frames[b, j, :n]
            v_im = frames[b, j, n:]
            square = 0.0
            for d in range(j, n):
                v_re[d] = gaussian[b, 0, used + d - j]
                v_im[d] = gaussian[b, 1, used + d - j]
                square += v_re[d] * v_re[d] + v_im[d] * v_im[d]
            used += n - j
            r = np.sqrt(square)
            first_re = v_re[j]
            first_im = v_im[j]
            modulus = np.sqrt(first_re * first_re + first_im * first_im)
            scale = 1.0 / (r * (r + modulus))
            v_re[j] *= 1.0 + r / modulus
            v_im[j] *= 1.0 + r / modulus
            for c in range(j + 1, k):
                x_re = frames[b, c, :n]
                x_im = frames[b, c, n:]
                re = 0.0
                im = 0.0
                for d in range(n):
                    re += v_re[d] * x_re[d] + v_im[d] * x_im[d]
                    im += v_re[d] * x_im[d] - v_im[d] * x_re[d]
                re *= scale
                im *= scale
                for d in range(n):
                    x_re[d] -= re * v_re[d] - im * v_im[d]
                    x_im[d] -= re * v_im[d] + im * v_re[d]
            v_re[j] = first_re
            v_im[j] = first_im
            for d in range(n):
                v_re[d] /= r
                v_im[d] /= r
    return frames
