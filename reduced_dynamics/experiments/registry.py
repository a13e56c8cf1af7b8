"""Which figures there are, and one function that makes any of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.experiments import caption
from reduced_dynamics.experiments.request import SIZES, About, Request
from reduced_dynamics.io.jsonable import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Module of every figure, in the order of the papers. Each has ABOUT and draw(Request) -> Drawn.
MODULES = {
    "musat-19": "musat.experiments.nineteen",
    "musat-3": "musat.experiments.three",
    "musat-weights": "musat.experiments.weights",
    "musat-standard": "musat.experiments.standard",
    "wang-2": "wang.experiments.figure_2",
    "wang-3": "wang.experiments.figure_3",
    "wang-4": "wang.experiments.figure_4",
    "wang-5": "wang.experiments.figure_5",
    "wang-approximation": "wang.experiments.approximation",
    "chen-stages": "chen.experiments.stages",
    "chen-criterion": "chen.experiments.criterion",
}
#: Figures that take a text.
TAKES_TEXT = ("wang-5",)


@dataclass(frozen=True, eq=False)
class Made:
    """A figure with its caption.

    Attributes
    ----------
    id : str
    figure : matplotlib.figure.Figure
    caption : str
        Several lines; every number in it is one of `numbers`.
    numbers : dict
        JSON.
    verdicts : dict of str to int
        How many findings agree, differ, or stand beside the paper.
    command : str
        That makes the figure again.
    wall_s : float
    """

    id: str
    figure: Figure
    caption: str
    numbers: dict[str, Any]
    verdicts: dict[str, int]
    command: str
    wall_s: float


def check(name: str) -> str:
    """`name` if there is such a figure.

    Raises
    ------
    InputError
        If not; the nearest is named.
    """
    if name not in MODULES:
        raise unknown("figure", name, MODULES)
    return name


def about(name: str) -> About:
    """Title, paper and claim of a figure."""
    return _module(check(name)).ABOUT


def make(name: str, request: Request | None = None) -> Made:
    """Run what a figure shows, draw it and write its caption.

    Parameters
    ----------
    name : str
        A key of `MODULES`.
    request : Request, optional

    Raises
    ------
    InputError
        If there is no such figure or the request does not suit it.
    ReducedDynamicsError
        If an integration or a training fails.
    """
    request = request or Request()
    known = about(name)
    if request.size not in SIZES:
        raise unknown("size of a figure", request.size, SIZES)
    if isinstance(request.seed, bool) or not isinstance(request.seed, int) or request.seed < 0:
        raise InputError(f"the seed must be 0 or a positive integer, not {request.seed!r}")
    if request.text is not None and name not in TAKES_TEXT:
        raise InputError(f"--text is for {', '.join(TAKES_TEXT)}; {name} trains on no text")
    began = time.monotonic()
    drawn = _module(name).draw(request)
    numbers = plain(drawn.numbers)
    made_by = command(name, request)
    text = caption.compose(
        f"{name}: {known.title}",
        f"({known.paper}) {known.claim}",
        drawn.setting,
        drawn.findings,
        numbers,
        made_by,
    )
    verdicts = caption.tally(drawn.findings)
    return Made(name, drawn.figure, text, numbers, verdicts, made_by, time.monotonic() - began)


def command(name: str, request: Request) -> str:
    """The command line that makes a figure."""
    words = ["python simulate.py figure", name]
    if request.size == "tiny":
        return f"registry.make({name!r}, Request({request.size!r}, seed={request.seed}))"
    if request.size == "quick":
        words.append("--quick")
    if request.seed:
        words.append(f"--seed {request.seed}")
    if request.text is not None:
        words.append(f"--text {request.text}")
    return " ".join(words)


def _module(name: str):
    return import_module(f"reduced_dynamics.families.{MODULES[name]}")
