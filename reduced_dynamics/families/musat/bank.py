"""Gaussian inputs by their Gram matrices: a fixed, seeded bank of draws, and its sampling error.

Tokens and positions have iid N(0, 1/D) entries (Musat et al., arXiv 2511.01033, Theorem 1). On the
invariant subspace the loss depends on them only through

- G[j, k] = t_j · t_k, the 2N tokens a_1, b_1, a_2, …: real Wishart, D degrees of freedom, over D;
- H[j, k] = ⟨p_j, p_k⟩ = Σ conj(p_j) p_k, the N + 1 positions as vectors of C^(D/2), so that
  p_j·p_k = Re H and p_j·Mp_k = −Im H: complex Wishart, D/2 degrees of freedom, over D/2.

Bartlett's decomposition draws them without any vector: a triangular factor with independent
normal entries below the diagonal and chi-distributed ones on it (Bartlett 1933; Goodman 1963 for
complex matrices). With fewer degrees of freedom than vectors the matrix is singular and its factor
trapezoidal. The cost does not depend on D, and D → ∞ gives the identity: orthonormal inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.core.errors import InputError

if TYPE_CHECKING:
    from reduced_dynamics.compilation.compiled import CompiledSystem
    from reduced_dynamics.core.system import ReducedSystem
    from reduced_dynamics.core.trajectory import Trajectory

#: Numbers ahead of the data in a parameter vector: N, the query (0 for all), the number of draws.
HEAD = 3

#: Numbers drawn at a time.
_CHUNK = 1 << 20


def size(N: int) -> int:
    """Numbers that one draw takes: G (2N × 2N), then Re H and Im H (N + 1 × N + 1)."""
    return (2 * N) ** 2 + 2 * (N + 1) ** 2


def bartlett_real(k: int, D: int, draws: int, normals, chi_squares) -> np.ndarray:
    """Gram matrices of k vectors of R^D with iid N(0, 1/D) entries, shape (draws, k, k).

    `normals` and `chi_squares` are the generators of the factor's two kinds of entries.
    """
    columns = min(k, D)
    factor = np.tril(normals.standard_normal((draws, k, columns)), -1)
    freedom = np.broadcast_to(float(D) - np.arange(columns), (draws, columns))
    diagonal = np.arange(columns)
    factor[:, diagonal, diagonal] = np.sqrt(chi_squares.chisquare(freedom))
    return factor @ factor.swapaxes(1, 2) / D


def bartlett_complex(k: int, n: int, draws: int, normals, gammas) -> np.ndarray:
    """Gram matrices of k vectors of C^n, whose real and imaginary parts have iid N(0, 1/(2n))
    entries: complex, shape (draws, k, k)."""
    columns = min(k, n)
    parts = normals.standard_normal((draws, k, columns, 2)) * math.sqrt(0.5)
    factor = np.tril(parts[..., 0] + 1j * parts[..., 1], -1)
    freedom = np.broadcast_to(float(n) - np.arange(columns), (draws, columns))
    diagonal = np.arange(columns)
    factor[:, diagonal, diagonal] = np.sqrt(gammas.standard_gamma(freedom))
    return factor @ factor.conj().swapaxes(1, 2) / n


def sample(N: int, D: int, draws: int, seed: int = 0) -> np.ndarray:
    """`draws` independent draws for N pairs and the width D, even: shape (draws, size(N)).

    The first draws are the same whatever the number of draws, and for D ≥ 2N + 2 those of
    different D come from the same random normal numbers.
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]
    data = np.empty((draws, size(N)))
    step = max(1, _CHUNK // size(N))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        tokens = bartlett_real(2 * N, D, count, *streams[:2])
        positions = bartlett_complex(N + 1, D // 2, count, *streams[2:])
        data[start : start + count] = flatten(tokens, positions)
    return data


def flatten(tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Draws, shapes (draws, 2N, 2N) and, complex, (draws, N + 1, N + 1), as rows of numbers."""
    draws = len(tokens)
    parts = (tokens, positions.real, positions.imag)
    return np.concatenate([part.reshape(draws, -1) for part in parts], axis=1)


@lru_cache(maxsize=2)
def parameter_vector(N: int, q: int, D: int, bank: int, seed: int) -> np.ndarray:
    """What the compiled functions take: N, q (0 for the mean over all), bank, and the draws."""
    par = np.concatenate([[N, q, bank], sample(N, D, bank, seed).ravel()])
    par.setflags(write=False)
    return par


def split(par: np.ndarray, parts: int) -> list[np.ndarray]:
    """Parameter vectors of `parts` banks of (almost) equal size that make up the given one."""
    draws = par[HEAD:].reshape(int(par[2]), -1)
    return [
        np.concatenate([par[:2], [len(part)], part.ravel()])
        for part in np.array_split(draws, parts)
    ]


# ---------------------------------------------------------------- sampling error


def standard_errors(compiled: CompiledSystem, par: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Standard errors of the bank's mean loss, observables and gradient at the state `z`.

    From the spread between draws: they fall as bank^(-1/2). NaN for a bank of one draw. Shape
    (1 + observables + coordinates,), in the order of the compiled function ``gradient``.
    """
    bank = int(par[2])
    table = np.empty((bank, 1 + len(compiled.observables) + len(z)))
    for draw, row in zip(split(par, bank), table, strict=True):
        compiled.gradient(z, draw, row)
    if bank < 2:
        return np.full(table.shape[1], np.nan)
    return table.std(axis=0, ddof=1) / math.sqrt(bank)


@dataclass(frozen=True)
class SamplingError:
    """What the draws of the bank leave uncertain, from a trajectory for each of its parts."""

    trajectories: tuple[Trajectory, ...]

    def _error(self, values: np.ndarray) -> np.ndarray:
        return values.std(axis=0, ddof=1) / math.sqrt(len(self.trajectories))

    @property
    def events(self) -> dict[str, float | None]:
        """Standard errors of the emergence times; None where a part never got there."""
        result: dict[str, float | None] = {}
        for name in self.trajectories[0].event_names:
            times = [t.events[name] for t in self.trajectories]
            result[name] = None if None in times else float(self._error(np.array(times)))
        return result

    def at(self, t: float | Sequence[float]) -> np.ndarray:
        """Standard errors of the coordinates at time(s) `t`, shape (d,) or (m, d)."""
        return self._error(np.array([one.at(t) for one in self.trajectories]))


def sampling_error(
    system: ReducedSystem, parameters: Mapping[str, Any], parts: int = 8, **options: Any
) -> SamplingError:
    """Standard errors of a trajectory's events and coordinates that are due to the bank.

    The bank is split into `parts` independent banks and each is integrated by itself; their spread,
    over √parts, is the error of the whole. That takes about as long as the trajectory did. Errors
    fall as bank^(-1/2), and the time grows as bank.

    Parameters
    ----------
    system, parameters, options
        As of `reduced_dynamics.integration.one.integrate`; give `t_end`, that all parts reach.
    parts : int
        At least 2, at most the bank's number of draws.

    Raises
    ------
    InputError
        If the inputs are not gaussian or the bank cannot be split like that.
    """
    from reduced_dynamics.integration.one import integrate

    values = system.values(parameters)
    if values.get("inputs") != "gaussian":
        raise InputError(
            "only gaussian inputs are sampled: orthonormal ones have no sampling error"
        )
    if not 2 <= parts <= values["bank"]:
        raise InputError(f"a bank of {values['bank']} cannot be split into {parts} parts")
    banks = split(np.asarray(system.pack(values)), parts)
    return SamplingError(
        tuple(
            integrate(replace(system, pack=lambda _, par=par: par), parameters, **options)
            for par in banks
        )
    )
