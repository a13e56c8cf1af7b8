"""The record of the family `chen`."""

from reduced_dynamics.core.family import Family

FAMILY = Family(
    name="chen",
    title="Copier, selector and classifier on n-gram Markov chains",
    paper=("Chen, Sheen, Wang, Yang, Unveiling Induction Heads, arXiv 2409.10559"),
    systems={"chen": "reduced_dynamics.families.chen.system:CHEN"},
    reports={"chen": "derivations.chen.report:CHEN"},
    pictures={"chen": "reduced_dynamics.families.chen.selection_figure:selection_figure"},
    remarks={"chen": "reduced_dynamics.families.chen.population:forecast"},
    full={"chen": "reduced_dynamics.families.chen.full_model:CHEN"},
    experiments={
        "criterion": "reduced_dynamics.families.chen.experiments.criterion:EXPERIMENT",
        "stages": "reduced_dynamics.families.chen.experiments.stages:EXPERIMENT",
        "staged": "reduced_dynamics.families.chen.experiments.staged:EXPERIMENT",
        "recorded": "reduced_dynamics.families.chen.experiments.recorded:EXPERIMENT",
        "transfer": "reduced_dynamics.families.chen.experiments.transfer:EXPERIMENT",
        "step-size": "reduced_dynamics.families.chen.experiments.step_size:EXPERIMENT",
        "late": "reduced_dynamics.families.chen.experiments.late:EXPERIMENT",
    },
)
