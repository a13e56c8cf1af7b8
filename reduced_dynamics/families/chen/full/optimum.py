"""What the trained copier–selector–classifier tends to, and what could be done at best.

The generalised induction head (arXiv 2409.10559) attends to the positions whose n − 1 parents are
the query's, all alike: the model in the limit W[h, 0] → ∞, p_{1…n−1} = 1, a → ∞. Where no position
matches, κ is 0 everywhere and the limit attends to all L positions alike.

The Bayes-optimal predictor knows the order of the chain and δ; the oracle knows the kernel.
"""

import math

import numpy as np

from reduced_dynamics.core.errors import unknown
from reduced_dynamics.families.chen.full.model import LOSSES
from reduced_dynamics.families.chen.full.task import Sequences

#: Steps of projected descent in `best_output`; the error falls by 1 − 1/e in each.
_STEPS = 90


def transitions(sequences: Sequences) -> np.ndarray:
    """How often each state followed the query's n − 1 parents, shape (N, S)."""
    states, n, L = sequences.inputs, sequences.n, sequences.L
    match = np.ones((len(sequences), L - n + 1), dtype=bool)
    for h in range(1, n):
        match &= states[:, n - 1 - h : L - h] == states[:, L - h, None]
    return _counts(states[:, n - 1 :], match, sequences.S)


def induction_head(sequences: Sequences) -> np.ndarray:
    """o of the generalised induction head, shape (N, S)."""
    counts = transitions(sequences)
    unmatched = counts.sum(axis=1) == 0
    rest = sequences.inputs[unmatched]
    counts[unmatched] = _counts(rest, np.ones(rest.shape, dtype=bool), sequences.S)
    return counts / counts.sum(axis=1, keepdims=True)


def unmatched(sequences: Sequences) -> float:
    """Part of the sequences in which the query's parents never occurred before."""
    return float(np.mean(transitions(sequences).sum(axis=1) == 0))


def posterior(sequences: Sequences) -> np.ndarray:
    """Probabilities of the target given the input, shape (N, S): the posterior mean.

    Rows of a kernel are independent, so only what followed the same parents tells anything.
    """
    counts = transitions(sequences) + sequences.dirichlet
    return counts / counts.sum(axis=1, keepdims=True)


def best_output(probabilities: np.ndarray, loss: str) -> np.ndarray:
    """The output on the simplex with the least expected loss, shape (N, S).

    For `log` (ε → 0) the probabilities themselves. For `ce`, where outputs serve as logits but
    remain a mean of one-hot vectors, the minimiser of −q·o + ln Σ exp(o): convex, with a Hessian
    between 1/(e + S − 1) and e/(e + S − 1) along the simplex.
    """
    if loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    if loss == "log":
        return probabilities
    S = probabilities.shape[1]
    step = (math.e + S - 1) / math.e
    o = probabilities
    for _ in range(_STEPS):
        softmax = np.exp(o)
        softmax /= softmax.sum(axis=1, keepdims=True)
        o = _onto_simplex(o + step * (probabilities - softmax))
    return o


def _onto_simplex(points: np.ndarray) -> np.ndarray:
    """The nearest points with entries ≥ 0 and sum 1, shape (N, S)."""
    S = points.shape[1]
    falling = -np.sort(-points, axis=1)
    excess = (np.cumsum(falling, axis=1) - 1.0) / np.arange(1, S + 1)
    support = np.count_nonzero(falling > excess, axis=1)
    return np.maximum(points - np.take_along_axis(excess, support[:, None] - 1, axis=1), 0.0)


def _counts(states: np.ndarray, chosen: np.ndarray, S: int) -> np.ndarray:
    """How often each state is among the chosen ones of a row, shape (N, S)."""
    return np.stack([(chosen & (states == k)).sum(axis=1) for k in range(S)], axis=1).astype(float)
