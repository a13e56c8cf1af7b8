"""The derivation of `chen`: stages against the model written out, conservation, limits."""

import pytest
import sympy as sp

from derivations.chen import derive, limits
from derivations.chen.report import against_the_model
from derivations.core.windows import BANK, Exponential, Stage, Windows, at, gradient, unroll


@pytest.mark.parametrize(("limit", "loss"), [("infinite", "ce"), ("finite", "log")])
def test_stages_against_the_model_written_out(limit, loss):
    assert against_the_model(limit, loss, seed=1) == (0, 0)


def test_gradient_of_a_program_read_at_other_places():
    x = sp.Symbol("x", real=True)
    stages = (
        Stage("u", ("s", BANK), x**2 * at("m", "s", BANK)),
        Stage("both", ("c1", "c2", BANK), at("u", "c1", BANK) * at("u", "c2", BANK) ** 2),
        Exponential("f", ("c1", BANK), x * at("u", "c1", BANK), weight=at("m", "c1", BANK)),
        Stage("total", (), at("both", "c1", "c2", BANK) + at("f", "c2", BANK), ("c1", "c2", BANK)),
    )
    program = Windows((x,), (), {"m": ("s", BANK)}, 2, stages, {"loss": at("total")})
    m = {(s, b): sp.Symbol(f"m{s}{b}", positive=True) for s in range(2) for b in range(2)}
    found = unroll(gradient(program), {"m": m}, {}, samples=2)
    assert sp.simplify(found["d_x"] - sp.diff(found["loss"], x)) == 0


def test_conservation():
    assert set(limits.conservation().values()) == {0}


def test_information_for_any_two_state_chain():
    chain = limits.two_state_chain()
    for subset, j in limits.first_order(chain, 2, 2, 1).items():
        assert sp.cancel(sp.together(j - limits.information(chain, 2, subset))) == 0


def test_unmodified_information_ties_where_the_modified_does_not():
    """χ² grows with every lag added: the modified one need not."""
    chain = limits.rational_chain(2, 1)
    one = limits.information(chain, 2, (1,))
    both = limits.information(chain, 2, (1, 2))
    assert one > both > 0


def test_late_law():
    found = limits.late_law()
    residuals = [v for k, v in found.items() if " - " in k or k == "log first"]
    assert len(residuals) == 3 and set(residuals) == {0}


def test_mobility_is_the_square_of_the_slope_of_the_coordinate():
    mobility, _ = derive.motion(2, 1)
    l = derive.selector(2, 1)[()]
    value = mobility[l].subs(dict.fromkeys(derive.selector(2, 1).values(), 0))
    assert value.subs(derive.train_C, 1) == 4
