"""What the integrator calls: the functions of a system, as generated modules define them.

`kernel` is written against these names. A generated module holds a system's own in their place;
here they belong to no system and say what they do.
"""

from __future__ import annotations

#: Number of coordinates.
SIZE = 1
#: Number of named parameters.
PARAMETERS = 0
#: Trajectories side by side: registers hide each other's latency; few enough for the cache.
LANES = 32
#: Rodas5P's γ.
GAMMA = 0.21193756319429014
#: Number of values: the loss and the observables.
VALUES = 1


def values(z, par, out):
    """Loss and observables into `out`."""


def rate_into(z, par, out, rate):
    """dz/dt into `rate`; loss, observables and ∂loss/∂z into `out`."""


def jacobian_into(z, par, matrix):
    """∂(dz/dt)/∂z into `matrix`."""


def stage(k, z, h, stages, base, right):
    """Where stage `k` looks at the flow into `base`, what is added to it there into `right`."""


def dense(stages, coefficients):
    """The dense output's three coefficient vectors from the stages."""


def lane_values(z, par, out):
    """`values` of every lane; number k of lane l stands at [k·LANES + l], here and below."""


def lane_rate(z, par, out, rate):
    """`rate_into` of every lane, with loss and observables in `out`."""


def lane_jacobian(z, par, matrix):
    """`jacobian_into` of every lane."""


def lane_stage(s, z, inverse, stages, base, right):
    """`stage` of every lane; `inverse` is 1/h, once for each coordinate."""


def lane_dense(stages, coefficients):
    """`dense` of every lane."""


def lane_factor(jacobian, inverse, matrix):
    """LU decomposition of 1/(hγ) − J of every lane, without pivoting."""


def lane_solve(matrix, x):
    """Solve in place with what `lane_factor` left, in every lane."""
