"""Reduced dynamics: how transformers learn induction heads, as equations you can integrate."""

from reduced_dynamics._version import __version__

__all__ = ["__version__"]
