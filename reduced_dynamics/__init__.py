"""Reduced dynamics: how transformers learn induction heads, as equations you can integrate.

    import reduced_dynamics as rd

    trajectory = rd.integrate("musat3", {"N": 1000})
    trajectory.events["t_icl"], trajectory["alpha3"], trajectory.at(1e6)

Names are loaded when first used, so that importing the package stays cheap.
"""

from importlib import import_module

from reduced_dynamics._version import __version__

#: Where what is public stands.
_HOMES = {
    "integrate": "reduced_dynamics.public",
    "integrate_many": "reduced_dynamics.public",
    "report_at": "reduced_dynamics.public",
    "Interrupted": "reduced_dynamics.integration.one",
    "gradient_flow": "reduced_dynamics.compilation.define",
    "ReducedSystem": "reduced_dynamics.core.system",
    "Trajectory": "reduced_dynamics.core.trajectory",
    "Crossing": "reduced_dynamics.core.trajectory",
    "system": "reduced_dynamics.catalogue",
    "save": "reduced_dynamics.io.storage",
    "load": "reduced_dynamics.io.storage",
    "to_dataset": "reduced_dynamics.io.netcdf",
    "sweep": "reduced_dynamics.public",
    "open_sweep": "reduced_dynamics.sweeping.reading",
    "sweep_trajectory": "reduced_dynamics.sweeping.reading",
    "experiment": "reduced_dynamics.public",
    "load_result": "reduced_dynamics.public",
    "laws": "reduced_dynamics.sweeping.laws",
    "regimes": "reduced_dynamics.sweeping.regimes",
    "trajectory_figure": "reduced_dynamics.public",
    "save_figure": "reduced_dynamics.plotting.style",
    "fixed_points": "reduced_dynamics.public",
    "plane": "reduced_dynamics.public",
    "spectrum": "reduced_dynamics.public",
    "sensitivities": "reduced_dynamics.public",
    "phases": "reduced_dynamics.analysis.phases",
    "InputError": "reduced_dynamics.core.errors",
    "IntegrationError": "reduced_dynamics.core.errors",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'reduced_dynamics' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
