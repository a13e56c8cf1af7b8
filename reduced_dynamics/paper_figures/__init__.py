"""Figures of the three papers, each made by one function that also measures what its caption says.

`registry.make` makes any of them; `folder.make_all` makes all, with an index page. One file a
figure: it runs what the figure shows (public functions of this package), draws it, and compares
with the claim of the paper.
"""
