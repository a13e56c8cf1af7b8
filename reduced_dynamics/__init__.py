"""Reduced dynamics: how transformers learn induction heads, as equations you can integrate.

    import reduced_dynamics as rd

    trajectory = rd.integrate("musat3", {"N": 1000})
    trajectory.events["t_icl"], trajectory["alpha3"], trajectory.at(1e6)

Names are loaded when first used, so that importing the package stays cheap.
"""

from importlib import import_module

from reduced_dynamics._version import __version__

_HOMES = {
    "integrate": "reduced_dynamics.integration",
    "report_at": "reduced_dynamics.integration",
    "Interrupted": "reduced_dynamics.integration",
    "integrate_many": "reduced_dynamics.ensemble",
    "gradient_flow": "reduced_dynamics.define",
    "ReducedSystem": "reduced_dynamics.system",
    "Trajectory": "reduced_dynamics.trajectory",
    "Crossing": "reduced_dynamics.trajectory",
    "SYSTEMS": "reduced_dynamics.systems",
    "get": "reduced_dynamics.systems",
    "save": "reduced_dynamics.storage",
    "load": "reduced_dynamics.storage",
    "to_dataset": "reduced_dynamics.storage",
    "sweep": "reduced_dynamics.sweeping.run",
    "open_sweep": "reduced_dynamics.sweeping.reading",
    "sweep_trajectory": "reduced_dynamics.sweeping.ragged",
    "trajectory_figure": "reduced_dynamics.plotting",
    "save_figure": "reduced_dynamics.figure_style",
    "laws": "reduced_dynamics.sweeping.laws",
    "regimes": "reduced_dynamics.sweeping.regimes",
    "fixed_points": "reduced_dynamics.analysis.fixed_points",
    "plane": "reduced_dynamics.analysis.plane",
    "spectrum": "reduced_dynamics.analysis.spectrum",
    "sensitivities": "reduced_dynamics.analysis.sensitivity",
    "phases": "reduced_dynamics.analysis.phases",
    "InputError": "reduced_dynamics.errors",
    "IntegrationError": "reduced_dynamics.errors",
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
