"""Sequences compressed to what the copier–selector–classifier can tell apart, without any loss.

A position i enters the model through its window alone, the states at the lags 1 … 2H − 1 that any
head sees, and there only through products with the query's window. Renaming states changes no
product, so that all pairs (query window, key window) with the same pattern of equalities have the
same κ: for S = 3 and H = 3 there are some 10⁴ of them however many sequences there are, and a head
by itself sees some 200. κ and exp(aκ) are computed once for each pattern; a sequence is a short
list of (pattern, state, how often).
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from reduced_dynamics.core import memory
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.chen.full.task import Sequences

#: Bytes, at most, while windows are compressed: for every position of every sequence; and for
#: every pattern and head, beside the labels that the head sees.
_BYTES, _BYTES_HEAD = 64, 40
#: Label of a lag that reaches back beyond the first state.
MISSING = -1


@dataclass(frozen=True, eq=False)
class Windows:
    """N sequences as patterns and counts.

    Attributes
    ----------
    head_tokens : ndarray of int8, shape (K, 2H)
        The K patterns that a head may see: labels of the states at the query's H lags, then at
        the key's, in the order of their first appearance; −1 where a lag does not exist.
    heads : ndarray of uint32, shape (H, P)
        For each of the P patterns of whole windows, what every head sees of it.
    pattern, owner : ndarray of uint32, shape (E,)
    count : ndarray of float32, shape (E,)
        Entries: a pattern, the sequence b and the state k before which it occurs as k N + b, and
        how often.
    target : ndarray of int64, shape (N,)
    order : ndarray of int64, shape (N,)
        Which of the given sequences is here the b-th: neighbours have the same query window.
    S, H : int
    """

    head_tokens: np.ndarray
    heads: np.ndarray
    pattern: np.ndarray
    owner: np.ndarray
    count: np.ndarray
    target: np.ndarray
    order: np.ndarray
    S: int
    H: int

    def __len__(self) -> int:
        return len(self.target)


def check_windows(count: int, S: int, L: int, H: int) -> None:
    """Raise `InputError` unless `count` sequences can be compressed for H heads."""
    if L < 2 * H - 1:
        raise InputError(
            f"L = {L} is shorter than the window of {H} heads, the {2 * H - 1} states before the "
            f"query; L must be at least {2 * H - 1}, or H smaller"
        )
    if _numbers(2 * H - 1, S) > 2**63:
        raise InputError(
            f"windows of H = {H} heads over S = {S} states have too many patterns to be numbered "
            "in 64 bits; lower H or S"
        )
    patterns = min(count * L, _numbers(2 * H - 1, S))
    memory.require(
        float(_BYTES) * count * L + float(4 * H + H * (_BYTES_HEAD + 2 * H)) * patterns,
        f"the windows of {count} sequences of length {L}",
        "lower the number of sequences or L",
    )


def compress(sequences: Sequences, H: int) -> Windows:
    """What H heads can tell apart of sequences.

    Raises
    ------
    InputError
        If the sequences are shorter than a window, or their windows do not fit into memory.
    """
    count, S, L = len(sequences), sequences.S, sequences.L
    check_windows(count, S, L, H)
    R = 2 * H - 1
    codes, inverse = np.unique(_codes(sequences.states, R, _radix(R, S)), return_inverse=True)
    inverse = inverse.astype(np.int32).reshape(count, L)
    tokens = _decode(codes, _radix(R, S), R)
    seen = _seen_by_heads(tokens, H)
    head_codes, heads = np.unique(_code_rows(seen, H, _radix(H, S)), return_inverse=True)
    heads = np.ascontiguousarray(heads.astype(np.uint32).reshape(-1, H).T)

    order = np.argsort(inverse[:, 0], kind="stable")
    pattern, owner, number = _tally(inverse[order], sequences.inputs[order])
    return Windows(
        head_tokens=_decode(head_codes, _radix(H, S), H),
        heads=heads,
        pattern=pattern,
        owner=owner,
        count=number,
        target=sequences.target[order].astype(np.int64),
        order=order,
        S=S,
        H=H,
    )


def _radix(R: int, S: int) -> np.ndarray:
    """How many values each of 2R labels can take: R of the query, R of the key, which may miss."""
    labels = np.minimum(np.arange(1, 2 * R + 1), S)
    labels[R:] += 1
    return labels


def _numbers(R: int, S: int) -> int:
    return math.prod(_radix(R, S).tolist())


@njit(cache=True, nogil=True)
def _code(tokens, R, radix, names):
    """The number of a pattern: labels by first appearance, in mixed radix. `names` is scratch."""
    names[:] = -1
    known, code = 0, 0
    for r in range(2 * R):
        token = tokens[r]
        if token < 0:
            digit = 0
        else:
            if names[token] < 0:
                names[token] = known
                known += 1
            digit = names[token] + (1 if r >= R else 0)
        code = code * radix[r] + digit
    return code


@njit(cache=True, nogil=True)
def _codes(states, R, radix):
    """Numbers of all pairs (query window, key window), shape (N · L,)."""
    count, L = states.shape[0], states.shape[1] - 1
    codes = np.empty(count * L, dtype=np.int64)
    tokens = np.empty(2 * R, dtype=np.int64)
    names = np.empty(128, dtype=np.int64)
    for b in range(count):
        for r in range(R):
            tokens[r] = states[b, L - 1 - r]
        for i in range(L):
            for r in range(R):
                tokens[R + r] = states[b, i - 1 - r] if r < i else MISSING
            codes[b * L + i] = _code(tokens, R, radix, names)
    return codes


@njit(cache=True, nogil=True)
def _code_rows(rows, R, radix):
    codes = np.empty(len(rows), dtype=np.int64)
    names = np.empty(128, dtype=np.int64)
    for k in range(len(rows)):
        codes[k] = _code(rows[k], R, radix, names)
    return codes


def _decode(codes: np.ndarray, radix: np.ndarray, R: int) -> np.ndarray:
    """The labels of numbered patterns, shape (patterns, 2R)."""
    tokens = np.empty((len(codes), 2 * R), dtype=np.int8)
    rest = codes.copy()
    for r in range(2 * R - 1, -1, -1):
        rest, digit = np.divmod(rest, radix[r])
        tokens[:, r] = digit - (r >= R)
    return tokens


def _seen_by_heads(tokens: np.ndarray, H: int) -> np.ndarray:
    """What head h = 1 … H sees of whole windows, lags h … h + H − 1: shape (P · H, 2H)."""
    R = 2 * H - 1
    parts = [
        np.concatenate([tokens[:, h : h + H], tokens[:, R + h : R + h + H]], axis=1)
        for h in range(H)
    ]
    return np.stack(parts, axis=1).reshape(-1, 2 * H)


@njit(cache=True, nogil=True)
def _tally(inverse, inputs):
    """How often every pattern occurs before every state, sequence by sequence: the entries."""
    N, L = inverse.shape
    pattern = np.empty(N * L, dtype=np.uint32)
    owner = np.empty(N * L, dtype=np.uint32)
    count = np.empty(N * L, dtype=np.float32)
    top = np.int64(inverse.max()) + 1
    e = 0
    for b in range(N):
        keys = np.sort(inputs[b].astype(np.int64) * top + inverse[b])
        for i in range(L):
            if i > 0 and keys[i] == keys[i - 1]:
                count[e - 1] += 1.0
            else:
                pattern[e], owner[e], count[e] = keys[i] % top, keys[i] // top * N + b, 1.0
                e += 1
    return pattern[:e].copy(), owner[:e].copy(), count[:e].copy()
