"""The record of a system's derivation: what `derive` prints, typesets and counts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import sympy as sp


class Heading(str):
    """The title of a step of a derivation. Steps are numbered as they come."""


class Check(NamedTuple):
    """Something that must vanish, and what it came to."""

    name: str
    residual: sp.Expr


class Equation(NamedTuple):
    """A named equation: the name of what it defines, what that is, and its LaTeX."""

    name: str
    text: str
    tex: str


class Part(NamedTuple):
    """A part of an article: its heading, a text and equations."""

    heading: str
    text: str
    equations: list[Equation]


class Article(NamedTuple):
    """What is typeset; everything but `Equation.name` is LaTeX."""

    title: str
    introduction: str
    parts: list[Part]


@dataclass(frozen=True)
class Report:
    """How a system is derived, told step by step.

    Attributes
    ----------
    title : str
        One line, with the source.
    steps : callable
        Makes the derivation and yields what there is to say of it as it is made: a `Heading` for
        every step, lines of text, and a `Check` of everything that is proved. Nothing is stored:
        a line is written from the objects it is about.
    article : callable
        The `Article` with every derived equation.
    closing : str
        What is said of the checks at the end.
    options : tuple of str
        Parameters of the system, true or false, on which the derivation depends; `steps` and
        `article` take them by name.
    """

    title: str
    steps: Callable[..., Iterator[Heading | Check | str]]
    article: Callable[..., Article]
    closing: str = "residuals exactly 0"
    options: tuple[str, ...] = ()
