"""The largest error over sequences in the cube [−1, 1]^{d×L}, from below: sampled, then searched.

The theorems bound a supremum over all sequences of bounded tokens. A sample of random ones says
little about it, so a search takes over from the sample's worst: mutants of the worst sequences, in
a few tokens each, replace them as long as they are worse. What it returns is attained, hence
a lower bound of the supremum; the constructions' bounds hold it from above.
"""

from collections.abc import Callable

import numpy as np

#: How many sequences survive a round of the search, and how many mutants each has.
PARENTS, CHILDREN = 16, 8


def sample(count: int, L: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Half of them uniform in the cube, half at its corners; shape (count, L, d)."""
    half = count // 2
    inside = rng.uniform(-1.0, 1.0, (count - half, L, d))
    return np.concatenate([inside, rng.choice([-1.0, 1.0], (half, L, d))])


def largest(
    model: Callable[[np.ndarray], np.ndarray],
    target: Callable[[np.ndarray], np.ndarray],
    sequences: np.ndarray,
    rounds: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """The largest |model − target| in any coordinate: over the sample, and after the search.

    Model and target make outputs, shape (B, d), of sequences, shape (B, L, d). The search has so
    many rounds; 0 leaves it out.
    """

    def errors(X: np.ndarray) -> np.ndarray:
        return np.abs(model(X) - target(X)).max(axis=1)

    parts = [errors(part) for part in np.array_split(sequences, max(1, len(sequences) // 250))]
    found = np.concatenate(parts)
    order = np.argsort(-found)[:PARENTS]
    pool, worst = sequences[order], found[order]
    for _ in range(rounds):
        children = _mutants(np.repeat(pool, CHILDREN, axis=0), rng)
        pool = np.concatenate([pool, children])
        worst = np.concatenate([worst, errors(children)])
        order = np.argsort(-worst)[:PARENTS]
        pool, worst = pool[order], worst[order]
    return float(found.max()), float(worst[0])


def _mutants(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same with a few entries redrawn: flipped, moved to a corner, or anywhere in between."""
    B, L, d = X.shape
    count = 2.0 ** rng.uniform(0.0, 4.0, (B, 1, 1))
    hit = rng.random(X.shape) < count / (L * d)
    drawn = np.where(rng.random(X.shape) < 0.5, -X, rng.choice([-1.0, 1.0], X.shape))
    drawn = np.where(rng.random(X.shape) < 0.15, rng.uniform(-1.0, 1.0, X.shape), drawn)
    return np.where(hit, drawn, X)
