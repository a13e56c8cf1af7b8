"""The authors' recorded run of the copier–selector–classifier, to be compared with.

From the simulation published with arXiv 2409.10559: joint gradient descent with step 1 on the
cross-entropy of its outputs taken as logits, 9000 sequences, S = 3, n = 3, H = 3, D = 2, L = 100,
δ = 0.1, W from 3 (j = 0) and 0.1, every c and a from .01. The numbers are kept with the digits in
which they were recorded. Nothing here is a result of this package.
"""

from collections.abc import Mapping
from types import MappingProxyType

#: Parameters of the run, by their names in `MarkovConfig`.
SETTING: Mapping[str, int | float | str] = MappingProxyType({
    "S": 3, "n": 3, "H": 3, "degree": 2, "L": 100, "dirichlet": 0.1, "loss": "ce",
    "sequences": 9000, "w_plus": 3.0, "w_minus": 0.1, "c_init": 0.01, "a_init": 0.01,
    "training": "joint", "learning_rate": 1.0,
})  # fmt: skip

#: Steps, which at learning rate 1 are times.
TIMES = (0, 10, 30, 100, 1000, 10_000, 50_000)

_a = (".0100", ".7011", "2.1110", "4.2781", "7.2811", "9.6901", "11.3512")
_loss = (".90310", ".84869", ".74690", ".66897", ".65074", ".64969", ".64960")
#: log10 p_𝒮 at the first four times; {3} at t = 100 lies where single precision ends
#: (c = 1.4·10⁻⁴⁵ at |c| = .37 is −88.8), so it may be a bound.
_log10_p = {
    "empty": ("-.85", "-2.81", "-10.0", "-73"),
    "3": ("-.85", "-11.31", "-29.7", "-89"),
    "2": ("-.85", "-5.37", "-16.0", "-46"),
    "23": ("-.85", "-2.62", "-8.4", "-29"),
    "1": ("-.85", "-9.30", "-27.8", "-62"),
    "13": ("-.85", "-3.78", "-11.4", "-36"),
    "12": ("-.85", "-.00", "0", "0"),
}
_COLUMNS = {"a": _a, "loss": _loss} | {f"log10_p_{k}": v for k, v in _log10_p.items()}


def recorded(quantity: str, t: float) -> tuple[float, float] | None:
    """What was recorded, and the unit of its last digit; None where nothing was.

    Parameters
    ----------
    quantity : str
        "a", "loss" (on the training set) or "log10_p_12" and the like.
    t : float
    """
    column = dict(zip(TIMES, _COLUMNS.get(quantity, ()), strict=False))
    text = column.get(t)
    if text is None:
        return None
    return float(text), 10.0 ** -len(text.partition(".")[2])


def points(quantity: str, t_end: float) -> list[tuple[float, float]]:
    """Times after the start, up to `t_end`, and what was recorded of a quantity then."""
    found = ((t, recorded(quantity, t)) for t in TIMES if 0 < t <= t_end)
    return [(t, said[0]) for t, said in found if said is not None]
