"""musat.weights: the learned weights of the full model, block by block, beside the prediction."""

import numpy as np

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.musat.experiments import studies
from reduced_dynamics.families.musat.full.disentangled import (
    COORDINATES,
    LAYOUT,
    Weights,
    embed,
    norms,
    project,
)
from reduced_dynamics.plotting.style import HEAD, INK, finish, style, symbol

#: The structure is there if what does not belong to it is below this part of the norm.
STRUCTURED = 0.05
#: What the block rows and columns stand for: token, position, attended by layer 1, by layer 2.
BLOCKS = ("t", "p", "t'", "p'", "t''", "p''", "t'''", "p'''")
MATRICES = Weights._fields

SETTINGS = (
    Setting("N", 4, "pairs", 4, 2, kind="int", low=1, high=64),
    Setting("D", 16, "width of tokens and positions", 12, 6, kind="int", low=2, high=4096),
    Setting("batch", 1024, "fresh sequences a step", 256, 16, kind="int", low=1, high=10**9),
    Setting("t_end", 160.0, "horizon, reduced training time", 130.0, 1.0, low=0.0),
    Setting("seed", 0, "of the training", kind="int", low=0, high=2**62),
)


def parts(settings):
    return {"training": settings.seed}


def work(settings, seed, context):
    """The learned weights, and where the reduced flow ends."""
    sizes = {"N": settings.N, "D": settings.D}
    found, learned, config = studies.beside_flow(settings, sizes, context)
    return {"steps": config.steps, "learned": learned._asdict(), "predicted": found.reduced.final}


def conclude(settings, outcomes):
    found, D = outcomes["training"], settings.D
    learned = Weights(*(found["learned"][name] for name in MATRICES))
    reduced = {name: found["predicted"][name] for name in COORDINATES}
    predicted = embed(np.array([*reduced.values()]), D)
    residual = [one - other for one, other in zip(learned, predicted, strict=True)]
    _, outside = norms(learned)
    own = dict(zip(COORDINATES, project(learned).tolist(), strict=True))
    total = np.sqrt(sum(np.vdot(W, W) for W in learned))
    elsewhere = np.sqrt(sum(_unpredicted(W, k, D) for k, W in enumerate(learned)))
    numbers = {
        **settings,
        "steps": found["steps"],
        "weights": 28 * D**2,
        "learned": own,
        "predicted": reduced,
        "norm": float(total),
        "outside_part": float(outside / total),
        "off_diagonal_part": float(elsewhere / total),
        "difference_part": float(np.sqrt(sum(np.vdot(W, W) for W in residual)) / total),
        "largest_coordinate_error": max(abs(own[k] - reduced[k]) for k in COORDINATES),
        "by_matrix": {
            name: float(np.linalg.norm(W) / np.linalg.norm(V))
            for name, W, V in zip(MATRICES, residual, learned, strict=True)
        },
        "three_largest": sorted(COORDINATES, key=lambda name: -abs(own[name]))[:3],
    }
    data = {
        f"{what}_{name}": ((f"row_{name}", f"column_{name}"), W, f"{what} weights")
        for what, matrices in (("learned", learned), ("predicted", predicted))
        for name, W in zip(MATRICES, matrices, strict=True)
    }
    return Conclusion(numbers, data)


def judge(numbers):
    off = max(numbers["outside_part"], numbers["off_diagonal_part"])
    return [
        Finding(
            "the part of the norm outside the 19-dimensional subspace is {outside_part:.4f}; in "
            "blocks that should vanish {off_diagonal_part:.4f}",
            holds(off < STRUCTURED),
            why="minibatches of {batch} are noise, which leaves the subspace",
        ),
        Finding(
            "learned minus predicted is {difference_part:.4f} of the norm (W¹ "
            "{by_matrix[W1]:.4f}, W² {by_matrix[W2]:.4f}, W³ {by_matrix[W3]:.4f}); no coordinate "
            "is off by more than {largest_coordinate_error:.4f}"
        ),
        Finding(
            "the three largest coordinates are {three_largest}; learned and predicted: α3 "
            "{learned[alpha3]:.3f} and {predicted[alpha3]:.3f}, β2 {learned[beta2]:.3f} and "
            "{predicted[beta2]:.3f}, γ3 {learned[gamma3]:.3f} and {predicted[gamma3]:.3f}",
            holds(set(numbers["three_largest"]) == set(HEAD)),
            claim="α3, β2 and γ3 account for the emergence of the induction head",
        ),
    ]


def _unpredicted(W: np.ndarray, which: int, D: int) -> float:
    """Squared norm of the blocks in which no coordinate lives."""
    taken = {(row, column) for matrix, row, column, _ in LAYOUT.values() if matrix == which}
    blocks = W.reshape(W.shape[0] // D, D, W.shape[1] // D, D)
    squares = (blocks**2).sum(axis=(1, 3))
    return float(sum(s for place, s in np.ndenumerate(squares) if place not in taken))


def draw(result):
    from matplotlib.figure import Figure

    N, D = result.settings["N"], result.settings["D"]
    learned, predicted = (
        [result.data[f"{what}_{name}"].values for name in MATRICES]
        for what in ("learned", "predicted")
    )
    residual = [one - other for one, other in zip(learned, predicted, strict=True)]
    rows = (("learned", learned), ("predicted", predicted), ("difference", residual))
    with style():
        figure = Figure(figsize=(7.0, 7.4))
        outer = figure.add_gridspec(
            3, 3, left=0.055, right=0.905, top=0.915, bottom=0.02, wspace=0.16, hspace=0.34,
            width_ratios=(1, 2, 2.9), height_ratios=(1, 1, 1),
        )  # fmt: skip
        figure.text(
            0.012, 0.995, f"disentangled transformer, N = {N}, D = {D}: blocks of the weights",
            va="top", color=INK,
        )  # fmt: skip
        for r, (label, matrices) in enumerate(rows):
            scale = max(np.abs(W).max() for W in (residual if r == 2 else learned))
            image = None
            for c, W in enumerate(matrices):
                ax = figure.add_subplot(outer[r, c])
                image = _matrix(ax, W, D, scale)
                ax.set_title(f"$W^{c + 1}$ {label}", fontsize=9.0, pad=9.0)
                if r == 1:
                    _name_blocks(ax, c, D)
            box = figure.axes[-1].get_position()
            bar = figure.add_axes((0.925, box.y0, 0.012, box.height))
            figure.colorbar(image, cax=bar, format="%g")
            bar.tick_params(labelsize=7.0)
        finish(figure, np.array([[figure.axes[0], figure.axes[1]]]), "")
    return figure


def _matrix(ax, W, D, scale):
    """A matrix in colours, blue below 0 and orange above, with lines between its blocks."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("sign", ("#0072B2", "#FFFFFF", "#D55E00"))
    image = ax.imshow(
        W, cmap=colours, vmin=-scale, vmax=scale, interpolation="nearest", aspect="auto"
    )
    for axis, length in ((ax.axhline, W.shape[0]), (ax.axvline, W.shape[1])):
        for k in range(1, length // D):
            axis(k * D - 0.5, color="#B0B0B0", linewidth=0.5)
    height, width = W.shape[0] // D, W.shape[1] // D
    named = {"labelsize": 7.0, "length": 0.0}
    ax.set_xticks(
        [(k + 0.5) * D - 0.5 for k in range(width)], [f"${BLOCKS[k]}$" for k in range(width)]
    )
    rows = [f"${BLOCKS[k]}$" for k in range(height)] if height > 1 else ["out"]
    ax.set_yticks([(k + 0.5) * D - 0.5 for k in range(height)], rows)
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, pad=1.0, **named)
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)
    return image


def _name_blocks(ax, which, D):
    """Which coordinates live in which block."""
    places: dict[tuple[int, int], list[str]] = {}
    for name, (matrix, row, column, _) in LAYOUT.items():
        if matrix == which:
            places.setdefault((row, column), []).append(name)
    for (row, column), names in places.items():
        corner = (column + 0.97) * D - 0.5, (row + 0.04) * D - 0.5
        box = {"boxstyle": "square,pad=0.1", "color": "white", "alpha": 0.75, "linewidth": 0}
        look = {"ha": "right", "va": "top", "fontsize": 6.0, "color": INK}
        ax.text(*corner, ",".join(map(symbol, names)), bbox=box, **look)


EXPERIMENT = Experiment.of(
    __name__,
    name="musat.weights",
    question="do the learned weights have the block structure that 19 numbers describe?",
    title="learned weight blocks beside those that the theory predicts",
    claim="the weights learned from zero have an interpretable structure: every D × D block is a "
    "multiple of the identity, or a combination of it and the rotation M, and all token–position "
    "blocks vanish; 19 numbers describe all 28 D² weights.",
    source="Musat et al., arXiv 2511.01033, Theorem 1",
    caption="all {weights} weights after {steps} steps (N = {N}, D = {D}, orthonormal inputs, last "
    "item queried, batch {batch}, learning rate 1, t = {t_end:g}); beside them the weights that "
    "the reduced flow of 19 coordinates predicts for that time, without any fit, and the "
    "difference of the two, on a colour scale of its own.",
    cost={"full": 40, "quick": 9},
)
