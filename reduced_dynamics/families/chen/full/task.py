"""n-gram Markov chains: sequences, each from a transition kernel of its own.

Task of arXiv 2409.10559 with uniform first states: for every context of n − 1 states
π(·|context) ~ Dirichlet(δ, …, δ); the first n − 1 states are uniform, then
x_i ~ π(·|x_{i−1}, …, x_{i−n+1}). The input is x_0 … x_{L−1}, the target x_L.
"""

from dataclasses import dataclass

import numpy as np

from reduced_dynamics.core import memory
from reduced_dynamics.core.errors import InputError, whole_numbers

#: Transition probabilities drawn at a time.
_CHUNK = 1 << 20
#: States are kept in a byte each.
MOST_STATES = 100


@dataclass(frozen=True, eq=False)
class Sequences:
    """N sequences of one task.

    Attributes
    ----------
    states : ndarray of int8, shape (N, L + 1)
        x_0 … x_L, between 0 and S − 1; the last is the target.
    truth : ndarray, shape (N, S)
        π(·|x_{L−1}, …), from which each target was drawn.
    S, n : int
        Number of states; order of the chain plus one.
    dirichlet : float
        δ.
    """

    states: np.ndarray
    truth: np.ndarray
    S: int
    n: int
    dirichlet: float

    def __len__(self) -> int:
        return len(self.states)

    @property
    def L(self) -> int:
        """Length of the input."""
        return self.states.shape[1] - 1

    @property
    def inputs(self) -> np.ndarray:
        """x_0 … x_{L−1}, shape (N, L)."""
        return self.states[:, :-1]

    @property
    def target(self) -> np.ndarray:
        """x_L, shape (N,)."""
        return self.states[:, -1]


def check_task(S: int, n: int, L: int, dirichlet: float) -> None:
    """Raise `InputError` unless there are such sequences."""
    whole_numbers(2, S=S, n=n)
    whole_numbers(L=L)
    if S > MOST_STATES:
        raise InputError(f"S = {S} states are too many; at most {MOST_STATES} are provided for")
    if not 0.0 < dirichlet < np.inf:
        raise InputError(
            f"dirichlet must be a positive number, not {dirichlet!r}: it is the concentration of "
            "the prior on transition probabilities"
        )
    if n > L:
        raise InputError(
            f"L = {L} is too short for a chain with {n - 1} parents: there is no transition to "
            f"learn from; L must be at least {n}"
        )
    memory.require(8.0 * S**n, f"one kernel of {S}^{n} transition probabilities", "lower S or n")


def sample_sequences(
    count: int, S: int, n: int, L: int, dirichlet: float, rng: np.random.Generator
) -> Sequences:
    """`count` independent sequences, each from a kernel of its own.

    `S`, `n`, `L` and `dirichlet` are those of `Sequences`: S ≥ 2, n ≥ 2, L ≥ n, δ > 0.

    Raises
    ------
    InputError
        If there are no such sequences, or they do not fit into memory.
    """
    check_task(S, n, L, dirichlet)
    whole_numbers(count=count)
    memory.require(
        count * (L + 1.0 + 8.0 * S), f"{count} sequences of length {L}", "take fewer or shorter"
    )
    states = np.empty((count, L + 1), dtype=np.int8)
    truth = np.empty((count, S))
    step = max(1, _CHUNK // S**n)
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        _sample_into(states[part], truth[part], n, dirichlet, rng)
    return Sequences(states, truth, int(S), int(n), float(dirichlet))


def _sample_into(states, truth, n: int, dirichlet: float, rng: np.random.Generator) -> None:
    """Fill `states` and `truth` with fresh sequences and the kernels' last rows."""
    count, S = truth.shape
    contexts = S ** (n - 1)
    kernel = rng.dirichlet(np.full(S, dirichlet), size=(count, contexts))
    upper = np.cumsum(kernel[:, :, :-1], axis=2)  # the last bound is 1
    states[:, : n - 1] = rng.integers(0, S, (count, n - 1))
    context = np.zeros(count, dtype=np.int64)
    for i in range(n - 1):
        context = context * S + states[:, i]
    each = np.arange(count)
    for i in range(n - 1, states.shape[1]):
        if i == states.shape[1] - 1:
            truth[...] = kernel[each, context]
        states[:, i] = (rng.random(count)[:, None] >= upper[each, context]).sum(axis=1)
        context = (context * S + states[:, i]) % contexts
