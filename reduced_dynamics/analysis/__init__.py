"""What a dynamical-systems tool is asked for, of every reduced system.

Fixed points with their eigenvalues, two-dimensional slices with nullclines, the spectrum of the
Jacobian along a trajectory, sensitivities of emergence times, and the phases of a run. All of it
works on a system's compiled functions; nothing here knows one family from another.
"""

from reduced_dynamics.analysis.fixed_points import FixedPoint, fixed_points
from reduced_dynamics.analysis.phases import Phase, phases
from reduced_dynamics.analysis.plane import Plane, plane
from reduced_dynamics.analysis.sensitivity import Sensitivities, sensitivities
from reduced_dynamics.analysis.spectrum import Spectrum, spectrum

__all__ = [
    "FixedPoint",
    "Phase",
    "Plane",
    "Sensitivities",
    "Spectrum",
    "fixed_points",
    "phases",
    "plane",
    "sensitivities",
    "spectrum",
]
