"""`chen`: which subset of heads will win, from the data alone; and training in stages.

For small a the selector's gradient is a·J_s (`derivations.chen.limits`), so the subset with the
largest J grows fastest. With heads that copy one lag each, the log loss and eps → 0, J is the
modified χ² mutual information between a subset's states and the next one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.chen.selector import label, subsets
from reduced_dynamics.compilation.compiled import compile_system
from reduced_dynamics.families.chen import bank as markov_bank
from reduced_dynamics.families.chen.system import CHEN, SELECTED

#: log c² of subsets that are absent.
_ABSENT = -700.0


@dataclass(frozen=True)
class Criterion:
    """How fast every subset grows at the start of training.

    Attributes
    ----------
    subsets : tuple of str
        As in names: ``"empty"``, ``"1"``, ``"12"``.
    actual : ndarray
        J_s = -∂²loss/∂a∂p_s at a = 0, with the copier's weights and the loss of the run.
    saturated : ndarray
        The modified χ² mutual information: heads that copy one lag each, log loss, eps → 0.
    growth : ndarray
        How fast log c² grows but for a common factor: J, with the sign that a starts with; −inf
        for subsets that are held.
    """

    subsets: tuple[str, ...]
    actual: np.ndarray
    saturated: np.ndarray
    growth: np.ndarray

    @property
    def winner(self) -> str | None:
        """The subset that should win; None where no subset is ahead of all others."""
        first = int(np.argmax(self.growth))
        others = np.delete(self.growth, first)
        ahead = np.isfinite(self.growth[first]) and (others < self.growth[first]).all()
        return self.subsets[first] if ahead else None

    @property
    def gap(self) -> float:
        """By how much the winner's J exceeds the next, as a part of the larger of the two."""
        if len(self.growth) < 2:
            return 1.0
        second, first = np.sort(self.growth)[-2:]
        size = max(abs(first), abs(second))
        return float((first - second) / size) if 0.0 < size < np.inf else 1.0


def information(kernels: np.ndarray, subset: tuple[int, ...]) -> float:
    """The modified χ² mutual information of the lags in `subset`, mean over kernels.

    Σ_z μ(z)² [Σ_k μ(k|z)²/μ(k) - 1] with z the states at these lags under the stationary law;
    derived in derivations/chen/limits.py.

    Parameters
    ----------
    kernels : ndarray, shape (count, S, …, S)
        One axis a parent, lag 1 first; then the next state.
    """
    parents = kernels.ndim - 2
    lags = max([parents, *subset])
    law = markov_bank.window_law(kernels, markov_bank.stationary(kernels), lags + 1)
    joint = np.moveaxis(law, 1, -1)  # the newest of these states is the next one
    others = tuple(k for k in range(1, lags + 1) if k not in subset)
    joint = joint.sum(axis=others).reshape(len(kernels), -1, kernels.shape[-1])
    of_next, of_states = joint.sum(axis=1), joint.sum(axis=2)
    found = (joint**2 / of_next[:, None]).sum(axis=(1, 2)) - (of_states**2).sum(axis=1)
    return float(found.mean())


def criterion(
    parameters: Mapping[str, Any] | None = None,
    start: Mapping[str, float] | None = None,
    held: Sequence[str] = (),
) -> Criterion:
    """The information criterion of every subset, at the start of a run with these parameters.

    Parameters
    ----------
    parameters : mapping, optional
    start : mapping of str to float
        Coordinates that start elsewhere than the system says; the copier's W matter, and a's sign.
    held : sequence of str
        Coordinates that do not move: a subset whose c is held cannot win.

    Raises
    ------
    InputError
        For unknown names and values out of range.
    """
    values = CHEN.values(parameters or {})
    system = CHEN.adapted(values)
    compiled, par = compile_system(system, values), np.array(system.pack(values))
    found = subsets(values["H"], values["degree"])
    z = np.array(system.origin(values))
    for name, value in (start or {}).items():
        z[system.index(name)] = value
    # The flow leaves a = 0 upwards.
    sign = -1.0 if z[-1] < 0.0 else 1.0
    z[-1] = 0.0
    out = np.empty(1 + len(compiled.observables) + len(z))
    actual = []
    for chosen in range(len(found)):
        z[: len(found)] = np.where(np.arange(len(found)) == chosen, 0.0, _ABSENT)
        compiled.gradient(z, par, out)
        actual.append(round(-out[-1], 15))
    kernels = markov_bank.draw(values).kernels
    saturated = [information(kernels, s) for s in found]
    names = tuple(map(label, found))
    # Rounding leaves the empty subset at ±0.
    growth = np.where([f"c_{n}" in held for n in names], -np.inf, sign * np.array(actual)) + 0.0
    return Criterion(names, np.array(actual) + 0.0, np.maximum(saturated, 0.0), growth)


def log10_p(logs: np.ndarray) -> np.ndarray:
    """log10 p_𝒮 from log c², shape (…, subsets), where p itself would underflow too."""
    shifted = logs - logs.max(axis=-1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return (shifted - total) / np.log(10.0)


def winner(trajectory) -> str | None:
    """The subset with p above .99 at the end of a trajectory, reduced or full, if there is one."""
    labels = [k.removeprefix("p_") for k in trajectory.observables if k.startswith("p_")]
    final = {label: trajectory[f"p_{label}"][-1] for label in labels if label != "top"}
    best = max(final, key=final.get)
    return best if final[best] > SELECTED else None


def copier_heads(won: str | None) -> list[int]:
    """The heads of a subset that `winner` names; none of no subset."""
    return [int(h) for h in won] if won not in (None, "empty") else []


def forecast(trajectory) -> list[str]:
    """Lines that hold the criterion, known before training, against what the run selected."""
    start = dict(zip(trajectory.coordinates, trajectory.z[0], strict=True))
    held = [name.removeprefix("clamp.") for name in trajectory.solver if name.startswith("clamp.")]
    found, won = criterion(trajectory.parameters, start, held), winner(trajectory)
    lines = ["", "information criterion, before training"]
    lines += [f"  {'subset':10} {'J':>12} {'modified chi2':>14} {'log10 p at the end':>19}"]
    final = log10_p(trajectory.z[-1, : len(found.subsets)])
    for k, name in enumerate(found.subsets):
        mark = "  <- predicted" if name == found.winner else ""
        lines.append(
            f"  {name:10} {found.actual[k]:12.6f} {found.saturated[k]:14.6f} {final[k]:19.2f}{mark}"
        )
    lines.append(
        "  J: with the copier's start and this loss; modified chi2: heads that copy one lag"
    )
    if won is None:
        return [*lines, "  no subset has won yet"]
    if found.winner is None:
        return [*lines, f"  selected: {won}; no subset was ahead of all others"]
    if start["a"] < 0.0:
        lines.append("  a starts below 0, where the subset with the least J grows")
    verdict = "as predicted" if won == found.winner else f"where {found.winner} was predicted"
    return [*lines, f"  selected: {won}, {verdict} (gap to the second {found.gap:.1%})"]
