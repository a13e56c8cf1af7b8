"""A sweep's identity follows what its numbers depend on, and nothing else."""

from dataclasses import replace

import pytest

from reduced_dynamics import catalogue
from reduced_dynamics.sweeping.run import planned
from reduced_dynamics.sweeping.settings import Settings
from reduced_dynamics.sweeping.work import derivation

PACKAGE = "reduced_dynamics/"


def of(name, full=False):
    """The identity of a sweep of a system, as another process would find it."""
    system = catalogue.system(name)
    settings = Settings(system, full=catalogue.full_model(system) if full else None)
    return lambda: derivation(settings.homes)


@pytest.mark.parametrize(
    ("path", "follows"),
    [
        (PACKAGE + "compilation/dense.py", True),
        (PACKAGE + "compilation/decorators.py", True),
        (PACKAGE + "integration/rosenbrock/lanes.py", True),
        (PACKAGE + "integration/horizons.py", True),
        (PACKAGE + "sweeping/work.py", True),
        (PACKAGE + "families/musat/system.py", True),
        ("derivations/core/differentiate.py", True),
        ("derivations/musat/derive.py", True),
        (PACKAGE + "sweeping/figures.py", False),
        (PACKAGE + "sweeping/laws.py", False),
        (PACKAGE + "sweeping/store.py", False),
        (PACKAGE + "plotting/style.py", False),
        (PACKAGE + "commands/sweep.py", False),
        (PACKAGE + "plotting/trajectories.py", False),
        (PACKAGE + "families/musat/full/disentangled.py", False),
        (PACKAGE + "families/wang/system.py", False),
        (PACKAGE + "families/chen/population.py", False),
        (PACKAGE + "training/loop.py", False),
        ("derivations/core/latex.py", False),
        ("derivations/wang/derive.py", False),
    ],
)
def test_an_edit_renews_the_sweeps_that_follow_from_it(changes, path, follows):
    assert changes(path, of("musat3")) == follows


def test_trainings_follow_from_the_full_model_too(changes):
    for path in ("families/musat/full/disentangled.py", "training/loop.py", "sweeping/full.py"):
        assert changes(PACKAGE + path, of("musat3", full=True))
    assert not changes(PACKAGE + "families/wang/full/mixed_target.py", of("musat3", full=True))
    assert changes(PACKAGE + "families/wang/full/mixed_target.py", of("wang", full=True))


def test_versions_count(monkeypatch):
    from reduced_dynamics.core import identity

    now, known = of("musat3")(), identity._version
    with monkeypatch.context() as patch:
        patch.setattr("reduced_dynamics.sweeping.work.version", lambda _: "0")
        assert of("musat3")() != now
    for package in ("sympy", "numba", "numpy", "python"):
        monkeypatch.setattr(
            identity, "_version", lambda p, package=package: "0" if p == package else known(p)
        )
        assert of("musat3")() != now, package


def test_a_plan_says_what_its_numbers_follow_from():
    system = catalogue.system("musat3")
    plan = planned(system, grid={"N": "8,9"}, t_end=1.0)
    assert plan.identity["derivation"] == of("musat3")()
    assert plan.identity["full"] is False
    trained = planned(system, grid={"seed": "0,1"}, full=catalogue.full_model(system))
    assert trained.identity["derivation"] == of("musat3", full=True)()
    assert trained.identity["full"] is True
    # A copy of a system is another one only by its key; its home's sources count all the same.
    assert Settings(replace(system, key="x")).homes == Settings(system).homes
