"""The edge: public functions take systems and names of systems, and say so."""

import inspect
from dataclasses import replace

import numpy as np
import pytest

import reduced_dynamics as rd
from reduced_dynamics import public

MUSAT3 = rd.system("musat3")


@pytest.mark.parametrize("name", public.OF_SYSTEMS)
def test_signature_and_documentation_are_those_of_the_function_below(name):
    edge = getattr(rd, name)
    below = inspect.unwrap(edge)
    assert edge is getattr(public, name) and below is not edge
    assert list(inspect.signature(edge).parameters) == list(inspect.signature(below).parameters)
    assert "ReducedSystem | str" in str(inspect.signature(edge))
    assert (
        edge.__doc__.split("\n")[0] == below.__doc__.split("\n")[0]
        and "system : ReducedSystem\n" not in edge.__doc__
    )


def test_a_name_gives_what_the_system_gives():
    named, given = (rd.integrate(s, {"N": 4}, t_end=10.0) for s in ("musat3", MUSAT3))
    assert np.array_equal(named.z, given.z) and named.source == given.source
    named, given = (rd.report_at(s, given, [1.0]) for s in ("musat3", MUSAT3))
    assert named == given
    named, given = (rd.integrate_many(s, {"N": [4, 5]}, t_end=9.0) for s in ("musat3", MUSAT3))
    assert np.array_equal(named.final, given.final)


def test_a_spectrum_needs_no_system_for_a_trajectory_of_one_with_a_name():
    run = rd.integrate("musat3", {"N": 4}, t_end=10.0)
    found = [rd.spectrum(run, *more, at=[5.0]) for more in ((), ("musat3",), (MUSAT3,))]
    assert all(np.array_equal(f.eigenvalues, found[0].eigenvalues) for f in found)
    other = run.with_(system="a system of my own")
    with pytest.raises(rd.InputError, match="unknown system"):
        rd.spectrum(other, at=[5.0])
    same = rd.spectrum(other, replace(MUSAT3, name="a system of my own"), at=[5.0])
    assert np.array_equal(same.eigenvalues, found[0].eigenvalues)


@pytest.mark.parametrize(
    "system, said",
    [
        ("musat4", "unknown system 'musat4'; did you mean 'musat3'"),
        (3, "not 3"),
        (None, "not None"),
    ],
)
def test_what_is_no_system_is_refused(system, said):
    for function in (rd.integrate, rd.fixed_points, rd.sensitivities):
        with pytest.raises(rd.InputError, match=said):
            function(system)


def test_every_public_name_is_there():
    assert all(getattr(rd, name) is not None for name in rd.__all__)
    with pytest.raises(AttributeError, match="no attribute 'integrat'"):
        rd.integrat  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'integrat'"):
        public.integrat  # noqa: B018
