"""What to say when the steps of a training were too long."""

from collections.abc import Callable

import numpy as np

from reduced_dynamics.training.optimisers import Arrays, Optimiser


def curvature(gradient: Callable[[Arrays], Arrays], weights: Arrays, iterations: int = 20) -> float:
    """The eigenvalue of largest modulus of a loss's Hessian, by power iteration.

    Hessian-vector products are central differences of the gradient.
    """
    rng = np.random.default_rng(0)
    along = tuple(rng.standard_normal(w.shape) for w in weights)
    size = np.sqrt(sum(np.vdot(w, w) for w in weights))
    h = 1e-4 * (1.0 + float(size))

    def moved(scale):
        return gradient(tuple(w + scale * v for w, v in zip(weights, along, strict=True)))

    eigenvalue = 0.0
    for _ in range(iterations):
        norm = np.sqrt(sum(np.vdot(v, v) for v in along))
        if norm == 0.0:
            return 0.0
        along = tuple(v / norm for v in along)
        along = tuple((p - m) / (2.0 * h) for p, m in zip(moved(h), moved(-h), strict=True))
        eigenvalue = float(np.sqrt(sum(np.vdot(v, v) for v in along)))
    return eigenvalue


def advice(
    optimiser: Optimiser, rate: float, gradient: Callable[[Arrays], Arrays], calm: Arrays, step: int
) -> str:
    """A learning rate to try instead of `rate`, in words.

    `gradient` is that of the loss, on the same data every time; `calm` are the weights at the
    lowest loss so far, before step `step`.
    """
    with np.errstate(all="ignore"):
        bound = optimiser.stable_learning_rate(curvature(gradient, calm))
    if bound is not None and bound < rate:
        return (
            f"by the curvature at its lowest loss, step {step}, learning rates below {bound:.2g} "
            f"are stable there; try half of that, {bound / 2:.2g}, instead of {rate:g}"
        )
    return f"try a learning rate of {rate / 10:.2g} instead of {rate:g} (a rule of thumb)"
