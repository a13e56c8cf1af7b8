"""Banks of Markov kernels for `chen`: stationary laws, laws of windows, and their layout in memory.

A sample of the bank is a transition kernel with n - 1 parents, its rows from a symmetric Dirichlet
distribution, and one query: the window of the last 2H - 1 states. The target is not drawn; the loss
takes its mean over the kernel's row. What the model attends to enters
by the law of windows only:

- limit=infinite: stationary, of a sequence without end;
- limit=finite: the windows that one sequence of length L holds, which begins with n - 1 uniform
  states and ends with the query; those at the positions from 2H - 1 on, which are complete. Their
  expected counts would not do: late in training they would let a model attend to a thousandth of
  an occurrence, where a sequence has none.

The positions before 2H - 1, which the finite model attends to as well, are left out. At the
recorded run's setting (L = 100, dirichlet = .1) this changes the mean cross-entropy, measured on
20 000 sequences, by -.0046 at the start (a = .5, all p alike), by less than .0002 at a = 4.3 and
by +.0006 at a = 11.4 with {1,2} selected; at L = 20 by -.020, +.002 and +.005.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from reduced_dynamics.compilation.exponential import LANES
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.memory import available

#: Numbers ahead of the data in a parameter vector: eps, what is trained (3), the number of blocks.
HEAD = 5
#: The smallest probability in a kernel: far below any that matters, and no chain falls apart.
SMALLEST = 1e-40


def window_length(H: int) -> int:
    """Lags that the heads see together."""
    return 2 * H - 1


def sizes(S: int, n: int, H: int, limit: str) -> dict[str, int]:
    """The tables of a sample, in the order of the derivation, and their sizes."""
    length = window_length(H)
    tables = {f"m{k}": S for k in range(1, length + 1)} | {"y": S, "share": 1}
    if limit == "infinite":
        return tables | {"rho": S**length, "pi": S**n}
    return tables | {"F": S ** (length + 1)}


def memory(values: Mapping[str, Any]) -> int:
    """Bytes that a bank takes while it is made and used."""
    each = sum(sizes(values["S"], values["n"], values["H"], values["limit"]).values())
    blocks = -(-values["kernels"] // LANES)
    # The tables, their layout in blocks, and the copy that a run holds; then what a block is
    # computed in: about three numbers for every window of a sample.
    return 8 * LANES * (3 * each * blocks + 3 * values["S"] ** window_length(values["H"]))


def check_memory(values: Mapping[str, Any]) -> None:
    """Refuse a bank that does not fit.

    Raises
    ------
    InputError
        With the largest bank that does.
    """
    needed, room = memory(values), available()
    if needed > room:
        most = int(values["kernels"] * room / needed) // LANES * LANES
        remedy = f"set kernels to at most {most}" if most else "lower H or S"
        raise InputError(
            f"a bank of {values['kernels']} kernels over windows of "
            f"{window_length(values['H'])} lags with S = {values['S']} takes "
            f"{needed / 1e9:.3g} GB, more than the {room / 1e9:.3g} GB set aside; {remedy}"
        )


# ---------------------------------------------------------------- kernels


def draw_kernels(rng, count: int, S: int, n: int, dirichlet: float) -> np.ndarray:
    """Kernels, shape (count, S, …, S, S): one axis a parent, lag 1 first; then the next state."""
    kernels = rng.dirichlet(np.full(S, dirichlet), (count, *[S] * (n - 1)))
    kernels = np.maximum(np.nan_to_num(kernels), SMALLEST)
    return kernels / kernels.sum(axis=-1, keepdims=True)


def stationary(kernels: np.ndarray) -> np.ndarray:
    """Stationary law of the n - 1 last states, shape (count, S, …, S), lag 1 first.

    By elimination without subtractions (Grassmann, Taksar, Heyman 1985), so that every entry is
    accurate relative to its own size also where a chain hardly ever leaves some states.
    """
    count, S = len(kernels), kernels.shape[-1]
    parents = kernels.ndim - 2
    states = S**parents
    matrix = np.zeros((count, states, states))
    rows = kernels.reshape(count, states, S)
    # From (x_{i-1}, …, x_{i-n+1}) to (x_i, x_{i-1}, …, x_{i-n+2}).
    for state in range(states):
        for new in range(S):
            matrix[:, state, new * S ** (parents - 1) + state // S] += rows[:, state, new]
    for k in range(states - 1, 0, -1):
        leave = matrix[:, k, :k].sum(axis=1)
        matrix[:, :k, k] /= np.maximum(leave, np.finfo(float).tiny)[:, None]
        matrix[:, :k, :k] += matrix[:, :k, k, None] * matrix[:, k, None, :k]
    law = np.zeros((count, states))
    law[:, 0] = 1.0
    for k in range(1, states):
        law[:, k] = (law[:, :k] * matrix[:, :k, k]).sum(axis=1)
        # Weights between states that hardly meet may overflow their sum.
        law /= law.max(axis=1, keepdims=True)
    return (law / law.sum(axis=1, keepdims=True)).reshape(kernels.shape[:-1])


def window_law(kernels: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """Law of `length` successive states, lag 1 first, if those that come first follow `start`."""
    law = start
    parents = kernels.ndim - 2
    while law.ndim - 1 < length:
        # The new state becomes lag 1; its parents are the newest states so far.
        extra = law.ndim - 1 - parents
        rows = kernels.reshape(*kernels.shape[:-1], *[1] * extra, kernels.shape[-1])
        law = np.moveaxis(law[..., None] * rows, -1, 1)
    return law


def _choose(rng, weights: np.ndarray) -> np.ndarray:
    """An index of every row, drawn with these weights."""
    steps = np.cumsum(weights, axis=1)
    return (rng.random(len(weights))[:, None] * steps[:, -1:] > steps).sum(axis=1)


def draw_sequences(rng, kernels: np.ndarray, length: int) -> np.ndarray:
    """A sequence of every kernel, shape (count, length): the first n - 1 states are uniform."""
    count, S = len(kernels), kernels.shape[-1]
    parents = kernels.ndim - 2
    sequences = np.empty((count, length), dtype=np.int64)
    sequences[:, :parents] = rng.integers(S, size=(count, parents))
    every = np.arange(count)
    for i in range(parents, length):
        past = tuple(sequences[:, i - k] for k in range(1, parents + 1))
        sequences[:, i] = _choose(rng, kernels[(every, *past)])
    return sequences


# ---------------------------------------------------------------- finite length


def counts(sequences: np.ndarray, S: int, length: int) -> np.ndarray:
    """How often windows (lag 1 first) and next states (last) occur, as parts of 1.

    Parameters
    ----------
    sequences : ndarray of int, shape (count, L)

    Returns
    -------
    ndarray, shape (count, S, …, S)
        Over the positions `length` .. L - 1.
    """
    count, L = sequences.shape
    total = np.zeros((count, *[S] * (length + 1)))
    every = np.arange(count)
    for i in range(length, L):
        past = tuple(sequences[:, i - lag] for lag in range(1, length + 1))
        total[(every, *past, sequences[:, i])] += 1.0 / (L - length)
    return total


# ---------------------------------------------------------------- banks


@dataclass(frozen=True)
class Bank:
    """Kernels with one query each, and the laws of windows.

    Attributes
    ----------
    kernels : ndarray, shape (count, S, …, S)
        One axis a parent, lag 1 first; then the next state.
    queries : ndarray of int, shape (count, 2H - 1)
        The last states, lag 1 first.
    tables : dict of str to ndarray
        ``rho`` and ``pi``, or ``F``, as the derivation names them.
    shares : ndarray, shape (count,)
        The samples' parts of the mean; they sum to about 1.
    """

    kernels: np.ndarray
    queries: np.ndarray
    tables: Mapping[str, np.ndarray]
    shares: np.ndarray

    @property
    def targets(self) -> np.ndarray:
        """Law of the target, shape (count, S)."""
        parents = self.kernels.ndim - 2
        return self.kernels[(np.arange(len(self.kernels)), *self.queries[:, :parents].T)]


def draw(values: Mapping[str, Any]) -> Bank:
    """The bank for these parameters; the same seed gives the same kernels for both limits."""
    S, n, H, count = (values[k] for k in ("S", "n", "H", "kernels"))
    length = window_length(H)
    for_kernels, for_queries = map(
        np.random.default_rng, np.random.SeedSequence(values["seed"]).spawn(2)
    )
    kernels = draw_kernels(for_kernels, count, S, n, values["dirichlet"])
    if values["limit"] == "finite":
        return from_sequences(kernels, draw_sequences(for_queries, kernels, values["L"]), H)
    law = window_law(kernels, stationary(kernels), length)
    queries, shares = _draw_queries(for_queries, law, n - 1)
    return Bank(kernels, queries, {"rho": law, "pi": kernels}, shares)


def _draw_queries(rng, law: np.ndarray, parents: int) -> tuple[np.ndarray, np.ndarray]:
    """A window of every law, and its part of the mean.

    Late in training a query weighs as one over the probability of its parents: rare ones are drawn
    more often than they occur, half of all from the uniform law, and count for less. The parts
    are made to sum to 1: a ratio estimate, whose error was measured to be up to five times smaller
    and which gives a constant loss exactly.
    """
    count, every = len(law), np.arange(len(law))
    newest = law.sum(axis=tuple(range(parents + 1, law.ndim)))
    proposal = 0.5 * newest + 0.5 / newest[0].size
    place = _choose(rng, proposal.reshape(count, -1))
    queries = np.array(np.unravel_index(place, newest.shape[1:])).T
    shares = (newest / proposal)[(every, *queries.T)]
    shares /= shares.sum()
    while (known := queries.shape[1]) < law.ndim - 1:
        older = law.sum(axis=tuple(range(known + 2, law.ndim)))[(every, *queries.T)]
        queries = np.column_stack([queries, _choose(rng, older)])
    return queries, shares


def from_sequences(kernels: np.ndarray, sequences: np.ndarray, H: int) -> Bank:
    """The bank of explicit sequences, shape (count, L), for ``limit=finite``."""
    length, count = window_length(H), len(sequences)
    queries = sequences[:, : -length - 1 : -1]
    tables = {"F": counts(sequences, kernels.shape[-1], length)}
    return Bank(kernels, queries, tables, np.full(count, 1.0 / count))


def layout(bank: Bank, head: Sequence[float]) -> np.ndarray:
    """What the compiled functions take: `head`, the number of blocks, the tables block by block.

    The last block is filled up with copies of the first sample that weigh nothing.
    """
    count, S = len(bank.kernels), bank.kernels.shape[-1]
    states = np.arange(S)
    tables = [(bank.queries[:, k, None] == states) for k in range(bank.queries.shape[1])]
    tables += [bank.targets, bank.shares, *bank.tables.values()]
    blocks = -(-count // LANES)
    widths = [t[0].size for t in tables]
    par = np.empty(len(head) + 1 + blocks * LANES * sum(widths))
    par[: len(head)], par[len(head)] = head, blocks
    data = par[len(head) + 1 :].reshape(blocks, -1)
    start = 0
    for number, (table, width) in enumerate(zip(tables, widths, strict=True)):
        filled = np.empty((blocks * LANES, width))
        filled[:count] = table.reshape(count, width)
        filled[count:] = 0.0 if number == len(bank.queries[0]) + 1 else filled[0]
        part = filled.reshape(blocks, LANES, width).swapaxes(1, 2)
        data[:, start : start + width * LANES] = part.reshape(blocks, -1)
        start += width * LANES
    return par


def masks(training: str) -> tuple[float, ...]:
    """1 for every part (selector C, copier W, classifier a) that moves, 0 for the others."""
    moved = "CWa" if training == "joint" else training
    return tuple(float(part in moved) for part in "CWa")


@lru_cache(maxsize=2)
def _bank_vector(settings: tuple[tuple[str, Any], ...]) -> np.ndarray:
    par = layout(draw(dict(settings)), [0.0] * (HEAD - 1))
    par.setflags(write=False)
    return par


#: The parameters that a bank depends on.
SETTINGS = ("S", "n", "H", "L", "dirichlet", "limit", "kernels", "seed")


def parameter_vector(values: Mapping[str, Any]) -> np.ndarray:
    """What the compiled functions take, for these parameters."""
    par = _bank_vector(tuple((k, values[k]) for k in SETTINGS)).copy()
    par[: HEAD - 1] = values["eps"], *masks(values["training"])
    return par


# ---------------------------------------------------------------- sampling error


def losses(values: Mapping[str, Any], compiled, par: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The loss of every sample at the state `z`, shape (kernels,)."""
    S, count = values["S"], values["kernels"]
    at = (window_length(values["H"]) + 1) * S * LANES  # the table `share`
    head, data = par[: HEAD - 1], par[HEAD:].reshape(int(par[HEAD - 1]), -1)
    out = np.empty(1 + len(compiled.observables))
    found = np.empty((len(data), LANES))
    for block, row in zip(data, found, strict=True):
        single = np.concatenate([head, [1.0], block])
        for lane in range(LANES):
            single[HEAD + at : HEAD + at + LANES] = np.arange(LANES) == lane
            row[lane] = compiled.values(z, single, out)
    return found.ravel()[:count]


def shares(values: Mapping[str, Any], par: np.ndarray) -> np.ndarray:
    """The samples' parts of the mean, shape (kernels,)."""
    at = (window_length(values["H"]) + 1) * values["S"] * LANES
    data = par[HEAD:].reshape(int(par[HEAD - 1]), -1)
    return data[:, at : at + LANES].ravel()[: values["kernels"]]


def loss_error(values: Mapping[str, Any], compiled, par: np.ndarray, z: np.ndarray) -> float:
    """Standard error of the bank's mean loss at the state `z`: it falls as kernels^(-1/2)."""
    found = losses(values, compiled, par, z)
    mean = shares(values, par) @ found
    return float(np.linalg.norm(shares(values, par) * (found - mean)))
