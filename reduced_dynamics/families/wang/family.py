"""The record of the family `wang`."""

from reduced_dynamics.core.family import Family

FAMILY = Family(
    name="wang",
    title="The mixed target: four phases driven by alpha* and w*",
    paper=(
        "Wang, Yu, E, Wu, How Transformers Get Rich: Approximation and Dynamics Analysis, "
        "arXiv 2410.11474"
    ),
    systems={"wang": "reduced_dynamics.families.wang.system:WANG"},
    reports={"wang": "derivations.wang.report:WANG"},
    pictures={"wang": "reduced_dynamics.families.wang.phase_figures:trajectory_figure"},
    remarks={"wang": "reduced_dynamics.families.wang.remarks:remarks"},
    full={"wang": "reduced_dynamics.families.wang.full_model:WANG"},
    experiments={
        "phases": "reduced_dynamics.families.wang.experiments.phases:EXPERIMENT",
        "early-drop": "reduced_dynamics.families.wang.experiments.early_drop:EXPERIMENT",
        "scaling": "reduced_dynamics.families.wang.experiments.scaling:EXPERIMENT",
        "sequences": "reduced_dynamics.families.wang.experiments.sequences:EXPERIMENT",
        "step": "reduced_dynamics.families.wang.experiments.step:EXPERIMENT",
        "probing": "reduced_dynamics.families.wang.experiments.probing:EXPERIMENT",
        "heads": "reduced_dynamics.families.wang.experiments.heads:EXPERIMENT",
        "needed": "reduced_dynamics.families.wang.experiments.needed:EXPERIMENT",
        "language": "reduced_dynamics.families.wang.experiments.language:EXPERIMENT",
        "theorem-3-1": "reduced_dynamics.families.wang.experiments.theorem_3_1:EXPERIMENT",
        "theorem-3-3": "reduced_dynamics.families.wang.experiments.theorem_3_3:EXPERIMENT",
        "theorem-3-4": "reduced_dynamics.families.wang.experiments.theorem_3_4:EXPERIMENT",
    },
)
