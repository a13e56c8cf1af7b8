"""The record of the family `chen`."""

from reduced_dynamics.core.family import Family

FAMILY = Family(
    name="chen",
    title="Copier, selector and classifier on n-gram Markov chains",
    paper=("Chen, Sheen, Wang, Yang, Unveiling Induction Heads, arXiv 2409.10559"),
    systems={
        "chen": "reduced_dynamics.families.chen.system:CHEN",
    },
    full={
        "chen": "reduced_dynamics.families.chen.full_model:CHEN",
    },
    pictures={
        "chen": "reduced_dynamics.families.chen.selection_figure:selection_figure",
    },
    remarks={
        "chen": "reduced_dynamics.families.chen.population:forecast",
    },
)
