"""Versions of what computes."""

import platform
from functools import cache
from importlib.metadata import version

import numpy as np

from reduced_dynamics._version import __version__


def versions(*further: str) -> dict[str, str]:
    """Those of this package, Python, numpy, scipy, numba, and of `further` installed packages."""
    return _versions() | {package: version(package) for package in further}


@cache
def _versions() -> dict[str, str]:
    import numba
    import scipy

    return {
        "reduced_dynamics": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
    }
