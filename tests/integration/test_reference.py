"""Runs and sweeps against stored numbers, made before the systems moved into rooms of their own.

One processor repeats them to the last bit; on others a step may be taken that was not, so results
agree to what the integration promises.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import reduced_dynamics as rd

REFERENCE = json.loads((Path(__file__).parent / "reference.json").read_text())

RUNS = {
    "musat3": ("musat3", {"N": 16}, {}),
    "musat3, Radau": ("musat3", {"N": 16}, {"method": "Radau"}),
    "musat3, Rodas5P": ("musat3", {"N": 16}, {"method": "Rodas5P"}),
    "musat3, steps": ("musat3", {"N": 4}, {"dynamics": "gd", "step": 0.5, "t_end": 400.0}),
    "musat3, clamped": ("musat3", {"N": 8}, {"clamp": {"beta2": 1.0}, "t_end": 200.0}),
    "musat19": ("musat19", {"N": 6}, {}),
    "wang": ("wang", {"L": 16}, {}),
    "chen": ("chen", {"kernels": 32, "n": 2, "H": 2}, {}),
}
SWEEPS = {
    "musat3": ("musat3", {"grid": {"N": "4,8,16", "start.alpha3": "0,0.5"}}),
    "musat3, sampled": (
        "musat3", {"random": {"N": "4:64:log"}, "points": 4, "seed": 1, "t_end": 300.0}
    ),
    "wang": ("wang", {"grid": {"alpha_star": "0.5,1", "w_star": "0.3,0.49"}, "t_end": 300.0}),
}  # fmt: skip


def of_run(name):
    system, parameters, options = RUNS[name]
    found = rd.integrate(system, parameters, **options)
    return {"loss": found.loss[-1], **found.final, **found.events}


def of_sweep(name, store):
    system, options = SWEEPS[name]
    found = rd.sweep(system, out=store, **options)
    return {k: v.values.ravel().tolist() for k, v in found.data_vars.items() if v.dtype == float}


def agree(found, expected):
    """To ten times the tolerance at which these were integrated."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        at = np.array(value, dtype=float)
        np.testing.assert_allclose(
            np.array(found[name], dtype=float), at, rtol=1e-7, atol=1e-7, err_msg=name
        )


@pytest.mark.parametrize("name", RUNS)
def test_runs(name):
    agree(of_run(name), REFERENCE["runs"][name])


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps(name, tmp_path):
    agree(of_sweep(name, tmp_path / "s.zarr"), REFERENCE["sweeps"][name])
