"""Copier, selector, classifier on a finite set of n-gram Markov sequences, and its gradient.

arXiv 2409.10559 and the authors' published simulation. Over i = 0 … L − 1, with query L:

    copier      v_h(i) = Σ_j softmax_j(W[h]) e_{x_{i−h−j}},  j = 0 … H − 1,  i − h − j ≥ 0,
                divided by (‖·‖ + 10⁻⁷); 0 where no lag exists
    selector    κ(i) = Σ_𝒮 p_𝒮 Π_{h∈𝒮} ⟨v_h(L), v_h(i)⟩,  |𝒮| ≤ D,  p_𝒮 = c_𝒮² / Σ c²
    classifier  o = Σ_i A_i e_{x_i},  A = softmax(a κ)
    loss        log: −ln(o_y + ε);  ce: −o_y + ln Σ_k exp(o_k);  averaged over the sequences

The sums over positions run over the patterns of `markov_windows.compress`: forward, what each head
sees → κ → exp(aκ) → sequences, and backward through the same tables. That is exact.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from derivations.chen.selector import subsets
from reduced_dynamics.core.errors import unknown
from reduced_dynamics.families.chen.full.windows import Windows

LOSSES = ("log", "ce")
#: Added to the norm of a copier's output.
NORM_EPSILON = 1e-7
#: Patterns worked on at a time: their monomials stay in a core's cache.
_BLOCK = 256


class Weights(NamedTuple):
    """The weights, or a gradient: shapes (subsets,), (H, H), ()."""

    c: np.ndarray
    W: np.ndarray
    a: np.ndarray


def initial_weights(
    H: int, degree: int, w_plus: float, w_minus: float, c_init: float, a_init: float
) -> Weights:
    """The recorded run's start: W is `w_plus` at j = 0 and `w_minus` elsewhere."""
    W = np.full((H, H), float(w_minus))
    W[:, 0] = w_plus
    return Weights(np.full(len(subsets(H, degree)), float(c_init)), W, np.array(float(a_init)))


def selection(c: np.ndarray) -> np.ndarray:
    """p_𝒮 = c_𝒮² / Σ c², shape (subsets,)."""
    scaled = c / np.abs(c).max()  # squares of c itself may underflow
    return scaled**2 / np.vdot(scaled, scaled)


def outputs(weights: Weights, windows: Windows) -> np.ndarray:
    """o for every sequence, shape (N, S), in the order in which the sequences were given."""
    scores = _copy(weights.W, windows.head_tokens)
    kappa = _select(scores, windows.heads, selection(weights.c), *_chain(len(weights.c), windows.H))
    o = np.empty((len(windows), windows.S))
    o[windows.order] = _attend(np.exp(weights.a * kappa), windows)[0].T
    return o


def losses(o: np.ndarray, target: np.ndarray, loss: str, eps: float) -> np.ndarray:
    """The loss of every sequence, shape (N,).

    Parameters
    ----------
    o : ndarray, shape (N, S)
    target : ndarray of int, shape (N,)
    loss : {"log", "ce"}
    eps : float
        ε of loss `log`.
    """
    right = np.take_along_axis(o, target[:, None].astype(np.int64), axis=1)[:, 0]
    if loss == "log":
        with np.errstate(divide="ignore"):  # ε = 0 and a state never seen: infinite
            return -np.log(right + eps)
    if loss == "ce":
        top = o.max(axis=1)
        return top + np.log(np.exp(o - top[:, None]).sum(axis=1)) - right
    raise unknown("loss", loss, LOSSES)


def accuracy(o: np.ndarray, target: np.ndarray) -> float:
    """How often the largest output is the target's."""
    return float(np.mean(o.argmax(axis=1) == target))


def loss_and_gradient(
    weights: Weights, windows: Windows, loss: str = "ce", eps: float = 1e-8
) -> tuple[float, Weights]:
    """The loss averaged over all sequences, and its gradient by c, W and a; see `losses`."""
    a, p, chain = float(weights.a), selection(weights.c), _chain(len(weights.c), windows.H)
    scores = _copy(weights.W, windows.head_tokens)
    kappa = _select(scores, windows.heads, p, *chain)
    attention = np.exp(a * kappa)
    o, total = _attend(attention, windows)
    value, by_o = _classify(o, windows.target, loss, eps)
    by_o -= (by_o * o).sum(axis=0)
    by_o /= total
    by_attention = _scatter(by_o.ravel(), windows.owner, windows.count, windows.pattern, len(kappa))
    by_exponent = attention * by_attention
    by_scores, by_p = _select_back(scores, windows.heads, p, *chain, a * by_exponent)
    by_W = _copy_back(weights.W, windows.head_tokens, by_scores)
    # Σ c ∂c = 0: p depends on the direction of c alone.
    by_c = 2.0 * weights.c * (by_p - np.vdot(p, by_p)) / np.vdot(weights.c, weights.c)
    return value, Weights(by_c, by_W, np.array(np.vdot(by_exponent, kappa)))


def _attend(attention: np.ndarray, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """o, shape (S, N), and the sum of all exp(aκ), shape (N,)."""
    size = windows.S * len(windows)
    o = _scatter(attention, windows.pattern, windows.count, windows.owner, size)
    o = o.reshape(windows.S, -1)
    total = o.sum(axis=0)
    o /= total
    return o, total


def _classify(o: np.ndarray, target: np.ndarray, loss: str, eps: float) -> tuple[float, np.ndarray]:
    """The mean loss and its derivative by o, shape (S, N)."""
    each = np.arange(len(target))
    right = o[target, each]
    if loss == "log":
        by_o = np.zeros_like(o)
        by_o[target, each] = -1.0 / (right + eps)
        value = -np.log(right + eps).mean()
    elif loss == "ce":
        by_o = np.exp(o)  # outputs lie between 0 and 1
        partition = by_o.sum(axis=0)
        by_o /= partition
        by_o[target, each] -= 1.0
        value = (np.log(partition) - right).mean()
    else:
        raise unknown("loss", loss, LOSSES)
    by_o /= len(target)
    return float(value), by_o


@lru_cache(maxsize=8)
def _chain(count: int, H: int) -> tuple[np.ndarray, np.ndarray]:
    """Every subset's monomial as an earlier one times one head's product: (parents, heads)."""
    degree, found = 0, subsets(H, 0)
    while len(found) < count:
        degree += 1
        found = subsets(H, degree)
    index = {s: k for k, s in enumerate(found)}
    parent = np.array([index[s[:-1]] for s in found], dtype=np.int64)
    head = np.array([s[-1] - 1 if s else 0 for s in found], dtype=np.int64)
    return parent, head


@njit(cache=True, nogil=True)
def _scatter(values, source, count, target, size):
    """Σ of count · values[source] over the entries of every target, shape (size,)."""
    found = np.zeros(size)
    for e in range(len(count)):
        found[target[e]] += count[e] * values[source[e]]
    return found


@njit(cache=True, nogil=True)
def _shares(W):
    """softmax over the first m lags, shape (H, H + 1, H): [h, m, j]."""
    H = len(W)
    shares = np.zeros((H, H + 1, H))
    for h in range(H):
        for m in range(1, H + 1):
            part = np.exp(W[h, :m] - W[h, :m].max())
            shares[h, m, :m] = part / part.sum()
    return shares


@njit(cache=True, nogil=True)
def _gather(tokens, first, H, shares, v):
    """v ← Σ_j share_j e_{token_j} over the lags that exist: how many those are, and ‖v‖."""
    m = 0
    while m < H and tokens[first + m] >= 0:
        m += 1
    for label in range(2 * H):
        v[label] = 0.0
    for j in range(m):
        v[tokens[first + j]] += shares[m, j]
    square = 0.0
    for label in range(2 * H):
        square += v[label] * v[label]
    return m, np.sqrt(square)


@njit(cache=True, nogil=True)
def _product(u, v):
    found = 0.0
    for k in range(len(u)):
        found += u[k] * v[k]
    return found


@njit(cache=True, nogil=True)
def _copy(W, head_tokens):
    """⟨v_h(L), v_h(i)⟩ for every head and every pattern that a head may see, shape (H, K)."""
    H, K = len(W), len(head_tokens)
    shares = _shares(W)
    scores = np.zeros((H, K))
    query, key = np.empty(2 * H), np.empty(2 * H)
    for h in range(H):
        for k in range(K):
            m, of_key = _gather(head_tokens[k], H, H, shares[h], key)
            if m > 0:
                _, of_query = _gather(head_tokens[k], 0, H, shares[h], query)
                scale = (of_query + NORM_EPSILON) * (of_key + NORM_EPSILON)
                scores[h, k] = _product(query, key) / scale
    return scores


@njit(cache=True, nogil=True)
def _copy_back(W, head_tokens, by_scores):
    """∂loss/∂W, shape (H, H), from ∂loss/∂scores."""
    H, K = len(W), len(head_tokens)
    shares = _shares(W)
    by_W = np.zeros((H, H))
    by_shares = np.empty((H + 1, H))
    query, key = np.empty(2 * H), np.empty(2 * H)
    for h in range(H):
        by_shares[:] = 0.0
        for k in range(K):
            tokens = head_tokens[k]
            m, of_key = _gather(tokens, H, H, shares[h], key)
            if m == 0:
                continue
            _, of_query = _gather(tokens, 0, H, shares[h], query)
            slope = by_scores[h, k] / ((of_query + NORM_EPSILON) * (of_key + NORM_EPSILON))
            # Of ⟨q, k⟩ / (‖q‖ + ε)(‖k‖ + ε): by the product, and by the two norms.
            score = slope * _product(query, key)
            along_query = score / (of_query * (of_query + NORM_EPSILON))
            along_key = score / (of_key * (of_key + NORM_EPSILON))
            for j in range(H):
                label = tokens[j]
                by_shares[H, j] += slope * key[label] - along_query * query[label]
            for j in range(m):
                label = tokens[H + j]
                by_shares[m, j] += slope * query[label] - along_key * key[label]
        for m in range(1, H + 1):
            mean = _product(shares[h, m], by_shares[m])
            for j in range(m):
                by_W[h, j] += shares[h, m, j] * (by_shares[m, j] - mean)
    return by_W


@njit(cache=True, nogil=True)
def _monomials(scores, heads, start, stop, parent, head, out):
    """Π_{h∈𝒮} ⟨v_h(L), v_h(i)⟩ of the patterns from `start` to `stop`, into out[𝒮]."""
    size = stop - start
    out[0, :size] = 1.0
    for s in range(1, len(parent)):
        row, which, before, product = scores[head[s]], heads[head[s]], out[parent[s]], out[s]
        for k in range(size):
            product[k] = before[k] * row[which[start + k]]


@njit(cache=True, nogil=True)
def _select(scores, heads, p, parent, head):
    """κ of every pattern, shape (P,)."""
    P = heads.shape[1]
    kappa = np.full(P, p[0])
    monomials = np.empty((len(p), _BLOCK))
    for start in range(0, P, _BLOCK):
        stop = min(start + _BLOCK, P)
        _monomials(scores, heads, start, stop, parent, head, monomials)
        for s in range(1, len(p)):
            for k in range(stop - start):
                kappa[start + k] += p[s] * monomials[s, k]
    return kappa


@njit(cache=True, nogil=True)
def _select_back(scores, heads, p, parent, head, by_kappa):
    """∂loss/∂scores (H, K) and ∂loss/∂p (subsets,) from ∂loss/∂κ."""
    P, n = heads.shape[1], len(p)
    by_scores, by_p = np.zeros(scores.shape), np.zeros(n)
    monomials, slope = np.empty((n, _BLOCK)), np.empty((n, _BLOCK))
    for start in range(0, P, _BLOCK):
        stop = min(start + _BLOCK, P)
        size = stop - start
        _monomials(scores, heads, start, stop, parent, head, monomials)
        for s in range(n):
            found = 0.0
            for k in range(size):
                found += by_kappa[start + k] * monomials[s, k]
                slope[s, k] = p[s] * by_kappa[start + k]
            by_p[s] += found
        # Later subsets contain earlier ones: what reaches a monomial is complete when it is met.
        for s in range(n - 1, 0, -1):
            row, which, before = scores[head[s]], heads[head[s]], parent[s]
            to = by_scores[head[s]]
            for k in range(size):
                j = which[start + k]
                to[j] += slope[s, k] * monomials[before, k]
                if before > 0:
                    slope[before, k] += slope[s, k] * row[j]
    return by_scores, by_p
