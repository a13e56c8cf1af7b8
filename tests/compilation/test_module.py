"""From derivations to modules: kinds of programs, statements, what lanes can compute."""

from dataclasses import dataclass

import numpy as np
import pytest
import sympy as sp

import reduced_dynamics as rd
from derivations.core.derivation import Derivation
from derivations.core.staged import Program
from reduced_dynamics.compilation import module
from reduced_dynamics.compilation.decorators import PLAIN
from reduced_dynamics.compilation.lanes import lane_source
from reduced_dynamics.compilation.lowered import Lowered
from reduced_dynamics.compilation.module import module_source
from reduced_dynamics.compilation.printing import source
from reduced_dynamics.compilation.statements import (
    Assign,
    Block,
    Comment,
    lines,
    name,
    replaced,
    used,
)

x, y, k = sp.symbols("x y k", real=True)


@dataclass(frozen=True)
class Spring:
    """A kind of program that nobody knows yet: k x²/2."""

    stiffness: sp.Symbol


def lower_spring(derivation):
    ((_, program),) = derivation.variants
    stiff = f"par[{derivation.parameters.index(program.stiffness)}]"
    value, slope = f"out[0] = 0.5 * {stiff} * z[0] ** 2", f"out[1] = {stiff} * z[0]"
    return Lowered(
        [
            f"{PLAIN}\ndef _values(z, par, out):\n    {value}\n",
            f"{PLAIN}\ndef _gradient(z, par, out):\n    {value}\n    {slope}\n",
            f"{PLAIN}\ndef _hessian(z, par, matrix):\n    matrix[0, 0] -= {stiff}\n",
        ]
    )


def test_a_new_kind_of_program_needs_a_lowering_and_its_registration_alone(monkeypatch):
    spring = Derivation("spring", (x,), (k,), ((None, Spring(k)),))
    with pytest.raises(TypeError, match="no lowering for the programs of spring: Spring"):
        module_source(spring)
    monkeypatch.setitem(module.LOWERINGS, Spring, lower_spring)
    scope = {}
    exec(module_source(spring).replace("cache=True", "cache=False"), scope)
    par, z = np.array([3.0]), np.array([2.0])
    assert scope["flow"](0.0, z, par).tolist() == [-6.0]
    assert scope["jacobian"](0.0, z, par).tolist() == [[-3.0]]


def test_variants_are_of_one_kind():
    plain = Program((x,), (k,), (), (), {"loss": k * x**2})
    mixed = Derivation("mixed", (x,), (k,), (("{k} > 1", plain), (None, Spring(k))))
    with pytest.raises(TypeError, match="mixed: Program, Spring"):
        module_source(mixed)


def test_names_are_replaced_whole_and_wherever_they_stand():
    made = [
        Assign("a", source(x * sp.exp(-x) + y**2)),
        Comment("x is not read here"),
        Block("for i in range(n):", [Assign("row", f"2.0 * {name('a')}", "+=", entry=True)]),
    ]
    assert used(made) == {"x", "y", "math.exp", "a", "row"}
    assert [*lines(made)] == [
        "a = x*math.exp(-x) + (y*y)",
        "# x is not read here",
        "for i in range(n):",
        "    row += 2.0 * a",
    ]
    new = {"x": "z[0]", "math.exp": "fast", "row": "row[i]"}
    assert [*lines(made, replaced(new))][::3] == [
        "a = z[0]*fast(-z[0]) + (y*y)",
        "    row[i] += 2.0 * a",
    ]


@pytest.mark.parametrize(
    ("loss", "possible"),
    [
        (x**4 + sp.exp(-x * y), True),
        (sp.Max(x, y) + sp.sqrt(1 + x**2), True),
        (x**2 + sp.sin(y), False),
        (sp.Abs(x) + y**2, False),  # its derivative is a sign
        (sp.log(1 + y**2), False),
        (sp.Piecewise((x, x > 0), (x**2, True)) + y**2, True),
    ],
)
def test_lanes_compute_what_needs_no_call(loss, possible):
    derivation = rd.gradient_flow(loss, [x, y], name="lanes").derive({})
    assert bool(lane_source(derivation)) == possible
