"""The record of the family `musat`."""

from reduced_dynamics.core.family import Family

FAMILY = Family(
    name="musat",
    title="The disentangled transformer on item–label recall",
    paper=(
        "Musat, Pimentel, Noci, Stolfo, Sachan, Hofmann, On the Emergence of Induction "
        "Heads for In-Context Learning, arXiv 2511.01033"
    ),
    systems={
        "musat19": "reduced_dynamics.families.musat.system:MUSAT19",
        "musat3": "reduced_dynamics.families.musat.system:MUSAT3",
    },
    reports={
        "musat19": "derivations.musat.report:MUSAT19",
        "musat3": "derivations.musat.report:MUSAT3",
    },
    full={
        "musat19": "reduced_dynamics.families.musat.full_model:MUSAT",
        "musat3": "reduced_dynamics.families.musat.full_model:MUSAT",
    },
    experiments={
        "order": "reduced_dynamics.families.musat.experiments.order:EXPERIMENT",
        "weights": "reduced_dynamics.families.musat.experiments.weights:EXPERIMENT",
        "nineteen": "reduced_dynamics.families.musat.experiments.nineteen:EXPERIMENT",
        "standard": "reduced_dynamics.families.musat.experiments.standard:EXPERIMENT",
        "batch": "reduced_dynamics.families.musat.experiments.batch:EXPERIMENT",
        "step": "reduced_dynamics.families.musat.experiments.step:EXPERIMENT",
        "perturbation": "reduced_dynamics.families.musat.experiments.perturbation:EXPERIMENT",
    },
)
