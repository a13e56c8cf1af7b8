"""Declarations of systems: how they travel to other processes."""

import pickle
from dataclasses import replace

import pytest
import sympy as sp

import reduced_dynamics as rd
from reduced_dynamics import catalogue


@pytest.mark.parametrize("name", catalogue.offered("systems"))
def test_a_system_of_a_family_is_pickled_as_a_reference(name):
    system = catalogue.system(name)
    assert system.home == catalogue.offered("systems")[name] and system.at_home
    sent = pickle.dumps(system)
    assert pickle.loads(sent) is system
    assert len(sent) < 200


def test_a_changed_copy_is_not_taken_for_the_original():
    changed = replace(catalogue.system("musat3"), title="changed")
    assert not changed.at_home
    came = pickle.loads(pickle.dumps(changed))
    assert came == changed and came.title == "changed"


def test_the_form_of_a_system_for_its_parameters_travels_by_its_parts():
    system = catalogue.system("chen")
    form = system.adapted(system.values({"H": 2, "S": 2}))
    came = pickle.loads(pickle.dumps(form))
    assert came.names == form.names != system.names


def test_a_system_made_on_the_spot_has_no_home():
    x = sp.Symbol("x")
    assert not rd.gradient_flow(x**2, [x]).at_home
