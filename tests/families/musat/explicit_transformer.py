"""The disentangled transformer written out literally, as an oracle: plain loops, no structure used.

Definition: arXiv 2511.01033, with all 28 D² weights. One sequence at a time and slow on purpose;
nothing here is shared with the package.
"""

import numpy as np


def explicit_rows(a, b, p, M, q):
    """The T = 2N + 1 rows of one sequence, shape (T, 2D): tokens beside positions.

    Parameters
    ----------
    a, b : ndarray, shape (N, D)
        Items and labels.
    p : ndarray, shape (N + 1, D)
        Positions of the items and of the query.
    M : ndarray, shape (D, D)
        The rotation that leads from an item's position to its label's.
    q : int, 1 ≤ q ≤ N
        Which pair is asked for; the target is ``b[q - 1]``.
    """
    rows = []
    for i in range(len(a)):
        rows.append(np.concatenate([a[i], p[i]]))
        rows.append(np.concatenate([b[i], M @ p[i]]))
    rows.append(np.concatenate([a[q - 1], p[len(a)]]))
    return np.array(rows)


def explicit_output(W1, W2, W3, rows, self_attention=False):
    """The prediction y for the query's label, shape (D,)."""
    T = len(rows)

    stream = []
    for i in range(T):
        seen = range(i + 1) if self_attention else range(i)
        weights = _softmax([rows[i] @ W1 @ rows[j] for j in seen])
        attended = np.zeros(rows.shape[1])
        for weight, j in zip(weights, seen, strict=True):
            attended = attended + weight * rows[j]
        stream.append(np.concatenate([rows[i], attended]))

    last = stream[T - 1]
    seen = range(T) if self_attention else range(T - 1)
    weights = _softmax([last @ W2 @ stream[s] for s in seen])
    attended = np.zeros(2 * rows.shape[1])
    for weight, s in zip(weights, seen, strict=True):
        attended = attended + weight * stream[s]
    return W3 @ np.concatenate([last, attended])


def explicit_loss(W1, W2, W3, rows, target, self_attention=False):
    """½‖y − target‖² for one sequence.

    Parameters
    ----------
    W1, W2, W3 : ndarray, shapes (2D, 2D), (4D, 4D), (D, 8D)
    rows : ndarray, shape (T, 2D)
    target : ndarray, shape (D,)
    self_attention : bool
        Whether a row attends to itself as well; if not, the first row attends to nothing and
        its attention output is 0.
    """
    error = explicit_output(W1, W2, W3, rows, self_attention) - target
    return 0.5 * np.sum(error * error)


def _softmax(scores):
    if not scores:
        return []
    exponentials = [np.exp(score - max(scores)) for score in scores]
    return [e / sum(exponentials) for e in exponentials]
