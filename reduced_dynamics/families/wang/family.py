"""The record of the family `wang`."""

from reduced_dynamics.core.family import Family

FAMILY = Family(
    name="wang",
    title="The mixed target: four phases driven by alpha* and w*",
    paper=(
        "Wang, Yu, E, Wu, How Transformers Get Rich: Approximation and Dynamics Analysis, "
        "arXiv 2410.11474"
    ),
    systems={
        "wang": "reduced_dynamics.families.wang.system:WANG",
    },
    full={
        "wang": "reduced_dynamics.families.wang.full_model:WANG",
    },
    pictures={
        "wang": "reduced_dynamics.families.wang.phase_figures:trajectory_figure",
    },
    remarks={
        "wang": "reduced_dynamics.families.wang.remarks:remarks",
    },
)
