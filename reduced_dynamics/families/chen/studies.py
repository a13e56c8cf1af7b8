"""Studies of `chen`: does the criterion predict the winner, does the order of stages matter, and
when does the flow describe gradient descent."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from reduced_dynamics.families.chen import population as markov
from reduced_dynamics.families.chen.system import CHEN, PARTS
from reduced_dynamics.integration.one import integrate

#: Dirichlet parameters, starts of W and losses of the criterion's study: twenty settings.
PRIORS = (0.03, 0.1, 0.3, 1.0, 3.0)
STARTS = (3.0, 1.0)
LOSSES = ("ce", "log")

Row = dict[str, Any]


def criterion_study(
    parameters: Mapping[str, Any] | None = None,
    *,
    priors: Sequence[float] = PRIORS,
    starts: Sequence[float] = STARTS,
    losses: Sequence[str] = LOSSES,
    t_end: float = 1e5,
    rtol: float = 1e-4,
    progress: Callable | None = None,
) -> Iterator[Row]:
    """The criterion's argmax against the winner of the joint flow, a row for every setting.

    Parameters
    ----------
    parameters : mapping
        Of `chen`, for all settings.
    t_end : float
        When a flow that has selected nothing by itself is given up.

    Yields
    ------
    dict
        ``dirichlet, w_plus, loss``; ``winner`` (None if no p has passed 1/2), ``T_selected``;
        ``predicted`` and ``gap`` by J with the actual W; ``saturated`` and ``saturated_gap`` by the
        modified χ² information; ``right``, ``saturated_right``. A gap is the first's lead over the
        second, as a part of the first.
    """
    for dirichlet, w_plus, loss in itertools.product(priors, starts, losses):
        values = {**(parameters or {}), "dirichlet": dirichlet, "w_plus": w_plus, "loss": loss}
        found = markov.criterion(values)
        trajectory = _until_selected(values, t_end, rtol, progress)
        won = markov.winner(trajectory)
        saturated, lead = _first(found.subsets, found.saturated)
        yield {
            "dirichlet": dirichlet,
            "w_plus": w_plus,
            "loss": loss,
            "winner": won,
            "T_selected": trajectory.events["T_selected"],
            "predicted": found.winner,
            "gap": found.gap,
            "right": won == found.winner,
            "saturated": saturated,
            "saturated_gap": lead,
            "saturated_right": won == saturated,
        }


def _until_selected(values, t_end: float, rtol: float, progress):
    """A flow long enough for a subset to win: horizons ten times as long until one does."""
    horizon = min(30.0, t_end)
    while True:
        trajectory = integrate(CHEN, values, t_end=horizon, rtol=rtol, progress=progress)
        if trajectory.events["T_selected"] is not None or horizon >= t_end:
            return trajectory
        horizon = min(10.0 * horizon, t_end)


def _first(names: Sequence[str], scores: np.ndarray) -> tuple[str, float]:
    order = np.argsort(-scores)
    lead = (scores[order[0]] - scores[order[1]]) / scores[order[0]] if len(scores) > 1 else 1.0
    return names[int(order[0])], float(lead)


def stage_study(
    parameters: Mapping[str, Any] | None = None,
    *,
    t_end: float = 3e4,
    rtol: float = 1e-4,
    progress: Callable | None = None,
) -> Iterator[Row]:
    """Joint training and all six orders of stages, each stage a third of `t_end`.

    Yields
    ------
    dict
        ``training``; ``winner``, ``T_selected``, ``a``, ``loss`` at the end, ``copier`` (attention
        of the winner's heads on their first lags, smallest), ``p``, the winner's share.
    """
    orders = ("joint", *("-".join(order) for order in itertools.permutations(PARTS)))
    for training in orders:
        values = {**(parameters or {}), "training": training}
        trajectory = integrate(CHEN, values, t_end=t_end, rtol=rtol, progress=progress)
        won = markov.winner(trajectory)
        heads = [int(h) for h in won] if won not in (None, "empty") else []
        yield {
            "training": training,
            "winner": won,
            "T_selected": trajectory.events["T_selected"],
            "a": float(trajectory["a"][-1]),
            "loss": float(trajectory.loss[-1]),
            "copier": min((first_lag(trajectory, h) for h in heads), default=float("nan")),
            "p": float(trajectory["p_top"][-1]),
        }


def first_lag(trajectory, head: int) -> float:
    """A head's attention on its first lag at the end."""
    H = trajectory.parameters["H"]
    logits = np.array([trajectory[f"W_{head}_{j}"][-1] for j in range(H)])
    weights = np.exp(logits - logits.max())
    return float(weights[0] / weights.sum())


def step_study(
    parameters: Mapping[str, Any] | None = None,
    *,
    steps: Sequence[float] = (1e-3, 5e-4, 2.5e-4, 1.25e-4),
    t_end: float = 0.5,
    rtol: float = 1e-8,
    progress: Callable | None = None,
) -> Iterator[Row]:
    """Gradient descent against the flow as the step goes to 0.

    Yields
    ------
    dict
        ``step``; ``error``, the largest difference of a and W from the flow at `t_end`;
        ``selector_error``, that of log c²; ``order``, of ``selector_error`` from the step before;
        ``growth``, by how much log Σ c² rose, which the flow conserves.
    """
    values = dict(parameters or {})
    flow = integrate(CHEN, values, t_end=t_end, rtol=rtol, progress=progress)
    selector = np.array([name.startswith("c_") for name in flow.coordinates])
    before: Row | None = None
    for step in steps:
        found = integrate(CHEN, values, t_end=t_end, dynamics="gd", step=step, progress=progress)
        difference = np.abs(found.z[-1] - flow.z[-1])
        row = {
            "step": step,
            "error": float(difference[~selector].max()),
            "selector_error": float(difference[selector].max()),
            "growth": float(found.invariants["log_sum_c2"]),
        }
        row["order"] = (
            float(
                np.log(before["selector_error"] / row["selector_error"])
                / np.log(before["step"] / step)
            )
            if before
            else None
        )
        before = row
        yield row
