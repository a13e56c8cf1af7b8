"""The selector's subsets of heads and what they are called: for the derivation and for numbers."""

import itertools


def subsets(heads: int, degree: int) -> tuple[tuple[int, ...], ...]:
    """The subsets of 1..heads with at most `degree` elements: (), (1,), (2,), …, (1, 2), …"""
    sizes = range(degree + 1)
    return tuple(s for size in sizes for s in itertools.combinations(range(1, heads + 1), size))


def label(subset: tuple[int, ...], heads: int = 9) -> str:
    """``"empty"``, ``"1"``, ``"12"``; with underscores from ten heads on."""
    return ("" if heads < 10 else "_").join(map(str, subset)) or "empty"
