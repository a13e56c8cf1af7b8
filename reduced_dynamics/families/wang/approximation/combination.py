"""The bounded combination of kernels nearest to a shift: a linear program and its dual.

Over tokens in [−1, 1] the error of Σ_h c_h κ_h ≈ δ_i is an ℓ₁ norm, so the best c with
Σ_h |c_h| ≤ B is a linear program. Its dual is the smaller one,

    max  y_i − B λ    over |y_k| ≤ 1, λ ≥ 0    with  |Σ_k y_k κ_h(k)| ≤ λ  for every h;

c are its multipliers, and its value at any y is a lower bound for every choice of c.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

#: Kernels of the same H heads over K lags, shape (K, H), and their mass beyond, shape (H,).
System = tuple[np.ndarray, np.ndarray]

#: Tried in turn: the solver gives up where a strict one meets rounding.
_TOLERANCES = (1e-10, 1e-9, 1e-8, 1e-7)
#: Seconds for one try; a program of this size takes milliseconds unless the solver cycles.
_PATIENCE = 5.0


class Combination(NamedTuple):
    """The best combination of given kernels.

    `coefficients` has shape (H,). `error` is the largest ℓ₁ error over the systems, computed from
    the coefficients, with the mass beyond the last lag counted as error. `lower` is what no
    coefficients within the bound can beat: the dual program's value at its solution, made feasible
    beyond the solver's tolerance. `witness` is that solution's y, one array a system.
    """

    coefficients: np.ndarray
    error: float
    lower: float
    witness: tuple[np.ndarray, ...]


def combine(systems: list[System], i: int, bound: float) -> Combination:
    """The combination with Σ|c| ≤ `bound` nearest to δ_i in the worst of several systems.

    There is a system for each number of tokens that is to be served; i is at most the smallest K.
    """
    H = systems[0][0].shape[1]
    sizes = [len(kernels) for kernels, _ in systems]
    count, weights = sum(sizes), len(systems)
    # Unknowns: y of every system, its weight w (|y| ≤ w, Σ w = 1), and λ; rows: ± for every head.
    matrix = np.concatenate([kernels for kernels, _ in systems]).T
    beyond = np.stack([mass for _, mass in systems], axis=1)
    ones = np.ones((H, 1))
    upper = np.block([[matrix, -beyond, -ones], [-matrix, -beyond, -ones]])
    if weights > 1:
        member = np.repeat(np.eye(weights), sizes, axis=0)
        zero = np.zeros((count, 1))
        each = np.eye(count)
        upper = np.block([[upper], [each, -member, zero], [-each, -member, zero]])
    objective = np.zeros(count + weights + 1)
    objective[np.cumsum([0, *sizes[:-1]]) + i - 1] = -1.0
    objective[-1] = bound
    total = np.zeros((1, count + weights + 1))
    total[0, count:-1] = 1.0
    bounds = [(-1.0, 1.0)] * count + [(0.0, 1.0)] * weights + [(0.0, None)]
    for tolerance in _TOLERANCES:
        options = {f"{side}_feasibility_tolerance": tolerance for side in ("primal", "dual")}
        options["time_limit"] = _PATIENCE
        solution = linprog(
            objective, upper, np.zeros(len(upper)), total, [1.0], bounds, "highs-ds",
            options=options,
        )  # fmt: skip
        if solution.status == 0:
            break
    else:  # c = 0 is always a choice
        return Combination(np.zeros(H), 1.0, 0.0, tuple(np.zeros(size) for size in sizes))
    multipliers = solution.ineqlin.marginals
    c = multipliers[H : 2 * H] - multipliers[:H]
    c *= min(1.0, bound / max(np.abs(c).sum(), bound))
    largest = max(_error(c, i, *system) for system in systems)
    if largest > 1.0:
        c, largest = np.zeros(H), 1.0
    witness = _feasible(solution.x, sizes)
    return Combination(c, largest, _lower(witness, systems, i, bound), witness)


def _error(c, i, kernels, beyond) -> float:
    found = kernels @ c
    found[i - 1] -= 1.0
    return float(np.abs(found).sum() + np.abs(c) @ beyond)


def _feasible(solution, sizes) -> tuple[np.ndarray, ...]:
    """The solver's y within its bounds, exactly."""
    count = sum(sizes)
    weights = np.clip(solution[count : count + len(sizes)], 0.0, 1.0)
    weights = weights / weights.sum()
    parts = np.split(solution[:count], np.cumsum(sizes)[:-1])
    return tuple(np.clip(y, -w, w) for y, w in zip(parts, weights, strict=True))


def _lower(witness, systems, i, bound) -> float:
    """y_i − B λ, with the λ that y needs."""
    value = sum(y[i - 1] for y in witness)
    products = sum(y @ kernels for y, (kernels, _) in zip(witness, systems, strict=True))
    mass = sum(np.abs(y).max() * beyond for y, (_, beyond) in zip(witness, systems, strict=True))
    needed = np.max(np.abs(products) - mass, initial=0.0)
    return float(max(value - bound * needed, 0.0))
