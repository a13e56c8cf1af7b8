"""Statements of generated functions, before they are text.

In their source, names stand between marks (`name`): what transforms a function finds and replaces
them without reading Python. A name may come to stand for any text, such as an array's entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_MARK = "\0"


def name(text: object) -> str:
    """Source that is this name."""
    return f"{_MARK}{text}{_MARK}"


def names(source: str) -> list[str]:
    """The names in a piece of source, as often as they stand there."""
    return source.split(_MARK)[1::2]


def text(source: str, new: Callable[[str], str] = str) -> str:
    """The text of a piece of source, ``new(name)`` for every name."""
    parts = source.split(_MARK)
    parts[1::2] = map(new, parts[1::2])
    return "".join(parts)


@dataclass(frozen=True)
class Assign:
    """``target = value``, or with another `sign`; an `entry` is the cell of an array."""

    target: str
    value: str
    sign: str = "="
    entry: bool = False

    @property
    def reads(self) -> set[str]:
        return {*names(self.value)} | ({self.target} if self.sign != "=" else set())

    def text(self, new: Callable[[str], str] = str) -> str:
        return f"{new(self.target)} {self.sign} {text(self.value, new)}"


@dataclass(frozen=True)
class Comment:
    said: str


@dataclass(frozen=True)
class Block:
    """A loop, or what a condition holds back, under its first line."""

    header: str
    body: Sequence[Statement]


Statement = Assign | Block | Comment


def lines(statements: Iterable[Statement], new: Callable[[str], str] = str) -> Iterator[str]:
    """The statements' text, ``new(name)`` for every name."""
    for statement in statements:
        match statement:
            case Assign():
                yield statement.text(new)
            case Block(header, body):
                yield text(header, new)
                yield from indent(lines(body, new))
            case Comment(said):
                yield f"# {text(said, new)}"


def used(statements: Iterable[Statement]) -> set[str]:
    """Every name that the statements read."""
    found: set[str] = set()
    for statement in statements:
        match statement:
            case Assign():
                found |= statement.reads
            case Block(header, body):
                found |= {*names(header)} | used(body)
    return found


def replaced(by: Mapping[str, str]) -> Callable[[str], str]:
    """For `lines`: other text for some names."""
    return lambda name: by.get(name, name)


def indent(given: Iterable[str], depth: int = 1) -> list[str]:
    return ["    " * depth + line for line in given]
