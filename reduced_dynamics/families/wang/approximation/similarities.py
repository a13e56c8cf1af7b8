"""Similarities g(u, v) on [−1, 1]^m, and their best expansions of low rank.

g(u, v) = Σ_k σ_k φ_k(u) ψ_k(v), with orthonormal φ_k and ψ_k: the singular value decomposition of g
as an integral operator, on a product of Gauss–Legendre nodes (the theorem's proper orthogonal
decomposition). Off the nodes φ_k(u) = ∫ g(u, v) ψ_k(v) dv / σ_k.
"""

from dataclasses import dataclass

import numpy as np

from reduced_dynamics.core.errors import unknown
from reduced_dynamics.families.wang.approximation.targets import Similarity

#: cos(OSCILLATION u·v) has about 2·OSCILLATION/π singular values that do not matter yet.
OSCILLATION = 12.0


#: All within [−1, 1].
SIMILARITIES: dict[str, Similarity] = {
    "smooth": lambda u, v: np.exp(-((u - v) ** 2).sum(axis=-1)),
    "kinked": lambda u, v: 1.0 - np.sqrt(((u - v) ** 2).sum(axis=-1) / u.shape[-1]),
    "oscillating": lambda u, v: np.cos(OSCILLATION * (u * v).sum(axis=-1)),
}


def similarity(name: str, strength: float) -> Similarity:
    """One of `SIMILARITIES` times `strength`.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if name not in SIMILARITIES:
        raise unknown("similarity", name, SIMILARITIES)
    shape = SIMILARITIES[name]
    return lambda u, v: strength * shape(u, v)


@dataclass(frozen=True)
class Expansion:
    """The singular value decomposition of g.

    On P nodes, shape (P, m), with their weights, (P,): singular values `sigma`, (P,), falling, and
    singular functions `phi` and `psi` at the nodes, one a column, (P, P) each.
    """

    g: Similarity
    nodes: np.ndarray
    weights: np.ndarray
    sigma: np.ndarray
    phi: np.ndarray
    psi: np.ndarray

    def left(self, u: np.ndarray, rank: int) -> np.ndarray:
        """√σ_k φ_k(u) for k < rank, shape (…, rank), at u of shape (…, m)."""
        values = self.g(u[..., None, :], self.nodes)
        return values @ (self.weights[:, None] * self.psi[:, :rank] / np.sqrt(self.sigma[:rank]))

    def right(self, v: np.ndarray, rank: int) -> np.ndarray:
        """√σ_k ψ_k(v) for k < rank, shape (…, rank), at v of shape (…, m)."""
        values = self.g(self.nodes, v[..., None, :])
        return values @ (self.weights[:, None] * self.phi[:, :rank] / np.sqrt(self.sigma[:rank]))

    def usable(self, rank: int) -> int:
        """`rank`, or fewer where what is left is rounding."""
        return min(rank, int((self.sigma > 1e-12 * self.sigma[0]).sum()))


def decompose(g: Similarity, m: int) -> Expansion:
    """The decomposition on 400 nodes (m = 1), 24² (m = 2), 9³ (m = 3), fewer a side beyond."""
    side = {1: 400, 2: 24, 3: 9}.get(m, max(2, int(700 ** (1 / m))))
    x, w = np.polynomial.legendre.leggauss(side)
    nodes = np.stack(np.meshgrid(*[x] * m, indexing="ij"), axis=-1).reshape(-1, m)
    weights = np.prod(np.meshgrid(*[w] * m, indexing="ij"), axis=0).ravel()
    root = np.sqrt(weights)
    values = g(nodes[:, None], nodes[None])
    phi, sigma, psi = np.linalg.svd(root[:, None] * values * root)
    return Expansion(g, nodes, weights, sigma, phi / root[:, None], psi.T / root[:, None])
