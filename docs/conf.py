"""Sphinx: the documentation from docs/*.md and the docstrings; built by `make docs`."""

from importlib.metadata import version as installed

project = "Reduced dynamics"
author = "the authors of Reduced dynamics"
release = version = installed("reduced-dynamics")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas without a network
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "Reduced dynamics"
