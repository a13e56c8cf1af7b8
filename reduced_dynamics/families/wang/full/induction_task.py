"""The in-context n-gram as a task to learn: Gaussian sequences, the teacher, and what is easy.

The target is IH_n (arXiv 2410.11474, `approximation.targets`), which compares the last n − 1 tokens
with every earlier stretch of n − 1 tokens. The paper's teacher was not at hand; here W* = w* ·
identity, a product of every token with the one that has its place.
"""

import numpy as np

from reduced_dynamics.core.errors import InputError, whole_numbers
from reduced_dynamics.families.wang.approximation.targets import induction_head

#: Over how many sequences `levels` averages.
SEQUENCES = 16384


def check_sizes(n: int, L: int, d: int) -> None:
    """Raise `InputError` unless such a target has at least two stretches to choose from."""
    whole_numbers(n=n, L=L, d=d)
    if n < 2:
        raise InputError("n = 1 compares no tokens; take n of 2 or more")
    if n + 2 > L:
        raise InputError(
            f"L = {L} leaves {max(L - n, 0)} stretches to choose from where n = {n} needs two; "
            f"take L ≥ {n + 2}"
        )


def sample(L: int, d: int, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens iid N(0, 1), shape (batch, L, d)."""
    return rng.standard_normal((batch, L, d))


def teacher(n: int, d: int, w_star: float) -> np.ndarray:
    """W* = w* · identity, shape ((n − 1) d, (n − 1) d)."""
    return w_star * np.eye((n - 1) * d)


def levels(
    n: int, L: int, d: int, w_star: float, seed: int = 0, count: int = SEQUENCES
) -> tuple[float, ...]:
    """What is left of IH_n, as a part of E ‖IH_n‖², if only m of the n − 1 tokens are compared.

    The best predictor h Σ_s softmax_s(w Σ_{i<m} x_{L−i}ᵀ x_{s−1−i}) x_s over its two numbers w and
    h, for m = 0 (a mean of the tokens), 1, … n − 1 (IH_n itself, so 0). Training stops near these
    levels on its way. An average over `count` seeded sequences.
    """
    from scipy.optimize import minimize_scalar

    x = sample(L, d, count, np.random.default_rng(seed))
    wanted = induction_head(x, teacher(n, d, w_star), n)
    size = np.vdot(wanted, wanted)

    def left(w, m):
        compared = np.repeat(np.arange(n - 1) < m, d)
        found = induction_head(x, np.diag(w * compared), n)
        return float(1.0 - np.vdot(found, wanted) ** 2 / (np.vdot(found, found) * size))

    def best(m):
        # Fewer tokens tell less, so that the best w is smaller than the teacher's.
        ends = sorted((0.0, 1.2 * w_star))
        return float(minimize_scalar(left, bounds=ends, args=(m,)).fun)

    return (left(0.0, 0), *(best(m) for m in range(1, n - 1)), 0.0)


def compared(error: float, levels: tuple[float, ...]) -> int:
    """How many tokens a model with this error compares: the number of the nearest level."""
    return int(np.abs(np.array(levels) - error).argmin())
