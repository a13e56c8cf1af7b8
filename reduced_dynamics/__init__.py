"""Reduced dynamics: how transformers learn induction heads, as equations you can integrate.

    import reduced_dynamics as rd

    trajectory = rd.integrate("musat3", {"N": 1000})
    trajectory.events["t_icl"], trajectory["alpha3"], trajectory.at(1e6)

Names are loaded when first used, so that importing the package stays cheap.
"""

from importlib import import_module

from reduced_dynamics._version import __version__

_HOMES = {
    "integrate": "reduced_dynamics.integration.one",
    "report_at": "reduced_dynamics.integration.one",
    "Interrupted": "reduced_dynamics.integration.one",
    "integrate_many": "reduced_dynamics.integration.many",
    "gradient_flow": "reduced_dynamics.compilation.define",
    "ReducedSystem": "reduced_dynamics.core.system",
    "Trajectory": "reduced_dynamics.core.trajectory",
    "Crossing": "reduced_dynamics.core.trajectory",
    "SYSTEMS": "reduced_dynamics.catalogue",
    "get": "reduced_dynamics.catalogue",
    "save": "reduced_dynamics.io.storage",
    "load": "reduced_dynamics.io.storage",
    "to_dataset": "reduced_dynamics.io.netcdf",
    "sweep": "reduced_dynamics.public",
    "open_sweep": "reduced_dynamics.sweeping.reading",
    "sweep_trajectory": "reduced_dynamics.sweeping.reading",
    "trajectory_figure": "reduced_dynamics.plotting.trajectories",
    "save_figure": "reduced_dynamics.plotting.style",
    "laws": "reduced_dynamics.sweeping.laws",
    "regimes": "reduced_dynamics.sweeping.regimes",
    "fixed_points": "reduced_dynamics.analysis.fixed_points",
    "plane": "reduced_dynamics.analysis.plane",
    "spectrum": "reduced_dynamics.analysis.spectrum",
    "sensitivities": "reduced_dynamics.analysis.sensitivity",
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
