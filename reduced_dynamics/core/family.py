"""A family: what one paper is about, as a record that loads nothing until it is asked.

A family is a folder. Its record, ``FAMILY`` in ``family.py``, names everything that the rest of
the package may ask of it by references, ``"module:OBJECT"``, so that listing families imports none
of their code. `reduced_dynamics.catalogue` is the one list of records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


def load(reference: str) -> Any:
    """The object that a reference ``"module:OBJECT"`` names, importing its module."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class Family:
    """What a family offers; every value of the mappings is a reference ``"module:OBJECT"``.

    Attributes
    ----------
    name, title, paper : str
        Short name (that of its folder), one line, and the citation with its arXiv number.
    systems : mapping of str to str
        Reduced systems (`core.system.ReducedSystem`) by name.
    full : mapping of str to str
        Full models that are laid over a reduced flow (`experiments.full.FullModel`), by the name
        under which ``validate`` knows them: that of the reduced system.
    experiments : mapping of str to str
        Experiments (`experiments.experiment.Experiment`) by name, ``"order"`` for
        ``"FAMILY.order"``.
    reports : mapping of str to str
        What ``derive`` prints (`derivations.core.report.Report`), by the name of the system.
    pictures : mapping of str to str
        How a system's trajectory is drawn (trajectory → figure) where the general figure does not
        do, by the name of the system.
    remarks : mapping of str to str
        Further lines of a run's report (trajectory → lines), by the name of the system.
    """

    name: str
    title: str
    paper: str
    systems: Mapping[str, str] = field(default_factory=dict)
    full: Mapping[str, str] = field(default_factory=dict)
    experiments: Mapping[str, str] = field(default_factory=dict)
    reports: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
