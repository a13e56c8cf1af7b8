"""Trainings on IH_n as parts of experiments: their settings, a run, what it learnt, the figure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.experiments.experiment import Context
from reduced_dynamics.experiments.setting import Setting, Settings, of_parameters
from reduced_dynamics.families.wang.full import induction_task as task
from reduced_dynamics.families.wang.full.induction_training import InductionConfig, train_induction
from reduced_dynamics.plotting.style import finish, grid, heading, key_above, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reduced_dynamics.experiments.result import Result

levels = lru_cache(task.levels)

#: What an experiment can be told of model and training.
_TOLD = InductionConfig.settable(
    *("n", "H", "D", "H2", "L", "d", "w_star", "encoding", "content", "skip", "training"),
    *("schedule", "slope", "optimiser", "learning_rate", "batch", "steps", "init_scale", "record"),
)
_NAMES = tuple(p.name for p in _TOLD)
#: The numbers among them.
NUMBERS = tuple(p.name for p in _TOLD if p.kind in ("int", "float"))
_COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#000000")
#: Smaller errors and distances would only stretch the axes.
_FLOOR = 1e-8


def settings(without: Collection[str] = (), **sizes: tuple) -> tuple[Setting, ...]:
    """The model's and the training's settings, `without` those that the experiment varies.

    `sizes` are values at full, quick and tiny; by default those of `InductionConfig`.
    """
    return of_parameters([p for p in _TOLD if p.name not in without], **sizes)


def config(settings: Settings, **changes: Any) -> InductionConfig:
    """The configuration that settings describe, with changes; whole numbers where it has them.

    `InputError` if it is impossible.
    """
    given = {name: settings[name] for name in _NAMES if name in settings}
    base = InductionConfig()
    for name, value in changes.items():
        whole = isinstance(getattr(base, name), int) and float(value).is_integer()
        given[name] = int(value) if whole else value
    given["record"] = min(given["record"], given["steps"])
    return replace(base, **given)


def train(_: Settings, config: InductionConfig, context: Context) -> dict[str, Any]:
    """One part: a trajectory, and the errors of predictors that compare 0, 1, … n − 1 tokens."""
    full, _ = train_induction(config, context.progress, context.checkpoint)
    return {"full": full, "levels": levels(config.n, config.L, config.d, config.w_star)}


def row(key: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What became of one run.

    `error`: at the end, on held-out sequences, over that of the answer 0; `compared`: how many
    tokens a model with this error compares (the nearest level); `learnt`: all n − 1 of them;
    `probing`: of the last n − 1 tokens; `oldest`: of x_{s−n+1}, which keys need beside them.
    """
    full = outcome["full"]
    error, parameters = float(full["error"][-1]), full.parameters
    compared = task.compared(error, tuple(outcome["levels"]))
    return {
        "key": key,
        **{name: parameters[name] for name in ("n", "H", "D")},
        "seed": full.solver["seed"],
        "steps": int(full.t[-1]),
        "levels": list(outcome["levels"]),
        "error": error,
        "compared": compared,
        "learnt": compared == parameters["n"] - 1,
        "probing": float(full["probing_distance"][-1]),
        "oldest": float(full.z[-1, -1]),
    }


def points(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[dict[str, Any]]:
    """The runs of every value of `by` together: lists over the seeds, how many have learnt."""
    found = []
    for place in dict.fromkeys(tuple(one[name] for name in by) for one in rows):
        here = [one for one in rows if tuple(one[name] for name in by) == place]
        lists = ("seed", "error", "compared", "probing", "oldest")
        found.append(
            {name: here[0][name] for name in ("n", "H", "D", "levels")}
            | dict(zip(by, place, strict=True))
            | {name: [one[name] for one in here] for name in lists}
            | {"runs": len(here), "learnt": sum(one["learnt"] for one in here)}
            | {"median_error": float(np.median([one["error"] for one in here]))}
        )
    return found


def shared(settings: Settings) -> dict[str, Any]:
    """The settings as numbers of a caption."""
    return {name: settings[name] for name in settings if name in _NAMES} | {
        "optimiser": settings.optimiser.capitalize(),
        "seeds": list(settings.seeds),
    }


def columns(rows: Sequence[Mapping[str, Any]], *more: str) -> dict[str, tuple]:
    """The runs as labelled arrays."""
    meaning = {
        "n": "the target IH_n compares n − 1 tokens",
        "H": "heads of layer 1",
        "D": "width",
        "seed": "",
        "error": "at the end, on held-out sequences, over that of the answer 0",
        "compared": "tokens that a model with this error compares",
        "probing": "part of the last n − 1 tokens that no linear map reads off layer 1's output",
        "oldest": "the same of token x_(s-n+1)",
    } | dict.fromkeys(more, "what is varied")
    return {name: (("run",), [one[name] for one in rows], what) for name, what in meaning.items()}


def runs_figure(result: Result, names: Sequence[str], labels: Mapping[str, str]) -> Figure:
    """Error and probing distance of all runs during training, and how the error ends.

    The result has ``runs`` (of `row`) among its numbers, and their trajectories. `names` say what
    is varied: the first gives the colours, the last the right panel's axis; `labels` are names as
    figures have them.

    Left: the error, a line for every run; dotted, what the best predictors leave that compare only
    so many of the tokens. Middle: the probing distance of layer 1. Right: the error at the end.
    """
    runs = result.numbers["runs"]
    first = result.trajectories[runs[0]["key"]]
    colours = _colours(list(dict.fromkeys(one[names[0]] for one in runs)))
    same = {k: v for k, v in first.parameters.items()
            if all(result.trajectories[one["key"]].parameters[k] == v for one in runs)}  # fmt: skip
    with style():
        title = heading(first.with_(parameters=same), "two-layer transformer on IH")
        figure, axes = grid(1, 3, title, gap=0.62, right=0.12, above=0.3)
        left, middle, right = axes[0]
        for one in runs:
            full, colour = result.trajectories[one["key"]], colours[one[names[0]]]
            for ax, name in ((left, "error"), (middle, "probing_distance")):
                ax.plot(full.t, np.maximum(full[name], _FLOOR), color=colour, linewidth=0.9)
            look = {"color": colour, "markersize": 3.5}
            right.plot(one[names[-1]], max(one["error"], _FLOOR), "o", **look)
        for ax in (left, right):
            if len({tuple(one["levels"]) for one in runs}) == 1:
                draw_levels(ax, runs[0]["levels"][:-1], named=ax is left)
        left.set_ylabel("error / that of the answer 0")
        middle.set_ylabel("probing distance of layer 1")
        for ax in axes[0]:
            ax.set_yscale("log")
        # Two decades at least: on less, a logarithmic axis has no round numbers to show.
        left.set_ylim(min(0.02, left.get_ylim()[0]), 2.0)
        middle.set_ylim(min(0.009, middle.get_ylim()[0]), 1.2)
        for ax in (left, middle):
            ax.set(xlabel="training step", xlim=(0.0, None))
        right.set_xlabel(labels[names[-1]])
        right.set_xticks(sorted({one[names[-1]] for one in runs}))
        right.set_ylim(left.get_ylim())
        key_above(left, colours, labels[names[0]], -0.05)
        finish(figure, axes, "")
    return figure


def draw_levels(ax: Axes, levels: Sequence[float], named: bool = True) -> None:
    """What predictors leave that compare 0, 1, … tokens, dotted."""
    for m, level in enumerate(levels):
        ax.axhline(level, color="#808080", linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5)
        if named:
            ax.annotate(f"{m}", (0.99, level), (0.0, 1.0), xycoords=ax.get_yaxis_transform(),
                        textcoords="offset points", ha="right", fontsize=6.5,
                        color="#808080")  # fmt: skip


def _colours(values: Sequence[float]) -> dict[float, Any]:
    """Of the values of what is varied, in their order."""
    if len(values) <= len(_COLOURS):
        return dict(zip(values, _COLOURS, strict=False))
    from matplotlib import colormaps

    shades = colormaps["viridis"]
    return {value: shades(0.95 * k / (len(values) - 1)) for k, value in enumerate(values)}
