"""Families of other packages: found by their entry points, and harmless where they are broken."""

import logging
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

import reduced_dynamics as rd
from reduced_dynamics import catalogue
from reduced_dynamics.core.family import Family

WELL = Family("well", "a family", "a paper")
WELL_SYSTEM = replace(rd.system("musat3"), name="well", title="a system of another package")


@pytest.fixture
def others(monkeypatch, caplog):
    """Registers families, given by what a module holds, until the test ends; see `caplog`."""
    catalogue.registered.cache_clear()
    module = type(sys)("another_package")
    monkeypatch.setitem(sys.modules, "another_package", module)
    found = []

    def register(name, what, value=None):
        setattr(module, name, what)
        found.append(EntryPoint(name, value or f"another_package:{name}", catalogue.GROUP))

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found)
    module.SYSTEM = WELL_SYSTEM
    caplog.set_level(logging.WARNING, "reduced_dynamics")
    yield register
    catalogue.registered.cache_clear()


def family(**changes):
    return replace(WELL, **{"systems": {"well": "another_package:SYSTEM"}} | changes)


def said(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_family_of_another_package_is_one_of_them(others, caplog):
    others("well", family())
    assert rd.system("well") is WELL_SYSTEM
    assert [*catalogue.everything("systems")][-1] is WELL_SYSTEM
    assert not said(caplog)


def test_one_that_fails_to_import_is_named_in_a_line_and_the_rest_works(others, caplog):
    others("absent", None, "no_such_module:FAMILY")
    others("well", family())
    assert rd.system("well") is WELL_SYSTEM
    (line,) = said(caplog)
    assert "the family absent (no_such_module:FAMILY) is left out: ModuleNotFoundError" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"systems": {}}, "declared by a Family, not by dict"),
        (family(name="musat"), "there is a family 'musat' already"),
        (family(systems={"wang": "another_package:SYSTEM"}), "there is a system 'wang' already"),
    ],
)
def test_one_that_is_none_or_takes_a_name_is_left_out(what, why, others, caplog):
    others("odd", what)
    others("well", family())
    assert rd.system("well") is WELL_SYSTEM and rd.system("wang") is not WELL_SYSTEM
    (line,) = said(caplog)
    assert why in line


def test_a_system_that_fails_to_import_is_named_in_a_line_and_the_rest_works(others, caplog):
    others("well", family(systems={"well": "another_package:GONE"}))
    names = [system.name for system in catalogue.everything("systems")]
    assert names == list(catalogue.offered("systems"))[:-1]
    (line,) = said(caplog)
    assert line.startswith("well of the family well (another_package:GONE) is left out: Attribute")
    with pytest.raises(rd.InputError, match=r"another_package:GONE of the family well cannot be"):
        rd.system("well")


def test_what_a_family_offers_for_a_system_is_asked_of_that_family_only(others):
    others("well", family(pictures={"well": "another_package:SYSTEM"}))
    assert catalogue.find("pictures", "well") is WELL_SYSTEM
    assert catalogue.find("remarks", "well") is None
    assert catalogue.find("pictures", "musat3") is None
    assert catalogue.find("pictures", "no such system") is None


def test_a_system_of_ours_is_found_without_looking_for_those_of_others():
    """Which takes longer than everything else that is done to find it."""
    catalogue.registered.cache_clear()
    assert rd.system("musat3") and catalogue.find("remarks", "musat3") is None
    assert catalogue.experiment("musat.order")
    assert catalogue.registered.cache_info().currsize == 0
