"""wang.language: a two-layer transformer trained on text: positions, dot products, the loss."""

import os

import numpy as np

from reduced_dynamics.core.crossings import first_reach
from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting, of_parameters
from reduced_dynamics.families.wang.full.language_training import (
    COORDINATES,
    LanguageConfig,
    corpus,
    train_language,
)
from reduced_dynamics.families.wang.plateau import SHOULDER, SLOW, plateaus
from reduced_dynamics.plotting.style import BRIGHT, REST_INK, finish, grid, style

#: Colour, dash and label of each norm: colours for the kind of parameter, dashes for the layer.
LOOKS = {
    "position_1": (BRIGHT[1], "-", r"$\|p^{(1)}\|$"),
    "position_2": (BRIGHT[1], (0, (4, 1.5)), r"$\|p^{(2)}\|$"),
    "dot_product_1": (BRIGHT[0], "-", r"$\|W_{QK}^{(1)}\|$"),
    "dot_product_2": (BRIGHT[0], (0, (4, 1.5)), r"$\|W_{QK}^{(2)}\|$"),
}
#: Rows that are recorded, evenly on a logarithmic axis of steps.
ROWS = 220

SETTINGS = (
    *of_parameters(
        LanguageConfig.settable(
            *("text", "d", "H", "L", "batch", "learning_rate", "steps", "optimiser"),
            *("init_scale", "slope", "precision"),
        ),
        d=(64, 32, 8), L=(64, 32, 8), batch=(16, 16, 4), learning_rate=(0.5, 0.6, 0.6),
        steps=(12_000, 7000, 40), init_scale=(0.1, 0.15, 0.15),
    ),
    Setting("seed", 0, "of weights and windows", kind="int", low=0),
)  # fmt: skip


def parts(settings):
    steps = {0.0, *np.unique(np.rint(np.geomspace(1, settings.steps, ROWS))).tolist()}
    return {"training": LanguageConfig(**settings, record=tuple(sorted(steps)))}


def work(settings, config, context):
    """The training, and what predictors that count characters and pairs leave."""
    full, _ = train_language(config, context.progress, context.checkpoint)
    text = corpus(config.text, config.L)
    return {
        "full": full,
        # The name alone: folders say nothing, and a caption is not for them.
        "text": os.path.basename(text.name),
        "characters": len(text.train) + len(text.held_out),
        "vocabulary": text.vocabulary,
        "uniform": float(np.log(text.vocabulary)),
        "entropy": text.entropy(),
        "bigram": text.conditional_entropy(),
    }


def conclude(settings, outcomes):
    done = outcomes["training"]
    full = done.pop("full")
    grown = {name: full[name] - full[name][0] for name in COORDINATES}
    half = {name: first_reach(full.t, g, 0.5 * g.max()) for name, g in grown.items()}
    onset = {name: first_reach(full.t, g, 0.1 * g.max()) for name, g in grown.items()}
    last_position = max(half["position_1"], half["position_2"])
    first_product = min(onset["dot_product_1"], onset["dot_product_2"])
    found = plateaus(full.t, full["held_out_loss"])
    # Between the two kinds of parameters: from when the positions have half grown.
    slower = plateaus(full.t, full["held_out_loss"], SHOULDER)
    between = [one for one in slower if one.end >= last_position]
    plateau = min(between, key=lambda one: one.slowing) if between else None
    numbers = dict(settings) | done | {
        "optimiser": settings.optimiser.upper(),
        "half_step": half,
        "onset_step": onset,
        "norm_start": {name: full[name][0] for name in COORDINATES},
        "norm_largest": {name: full[name].max() for name in COORDINATES},
        "norm_end": {name: full[name][-1] for name in COORDINATES},
        "last_position": last_position,
        "first_dot_product": first_product,
        "separation": first_product / last_position if last_position else None,
        "slow": SLOW,
        "plateaus": [one.as_dict() for one in found],
        "plateau_count": len(found),
        "plateau_losses": [one.loss for one in found] or None,
        "plateau": plateau and plateau.as_dict(),
        "loss_start": full["held_out_loss"][0],
        "loss_end": full["held_out_loss"][-1],
        "copying_end": full["copying"][-1],
        "matching": {"start": full["matching"][0], "end": full["matching"][-1]},
    }  # fmt: skip
    data = {"step": (("step",), full.t, "training steps")} | {
        name: (("step",), full[name], meaning)
        for name, meaning in {
            "held_out_loss": "nats a character, on the last tenth of the text",
            "copying": "attention of layer 1 on the previous token, mean over heads",
            "matching": "attention of layer 2 on followers of the same token, over even attention",
            **dict.fromkeys(COORDINATES, "norm over the heads of a layer"),
        }.items()
    }
    return Conclusion(numbers, data, {"training": full})


def judge(numbers):
    half, plateau = numbers["half_step"], numbers["plateau"]
    kinds = {kind: [half[f"{kind}_{layer}"] for layer in (1, 2)]
             for kind in ("position", "dot_product")}  # fmt: skip
    flat = plateau is not None and plateau["slowing"] <= numbers["slow"]
    slowest = (
        " after the positions: the loss falls most slowly at step {plateau[step]:.0f} "
        "({plateau[loss]:.3f} nats), at {plateau[slowing]:.0%} of the fastest rate before or "
        "after (the slower of the two; −d loss/d ln step)"
    )
    if plateau is None:
        said = "no plateau after the positions have been learned: the loss falls ever more slowly, "
        said += "or evenly"
    else:
        said = ("a plateau" if flat else "not quite a plateau, but a shoulder") + slowest
    return [
        Finding(
            "position first: half of their growth is reached by ‖p¹‖ at step "
            "{half_step[position_1]:.0f} and ‖p²‖ at {half_step[position_2]:.0f}, by ‖W_QK¹‖ "
            "at {half_step[dot_product_1]:.0f} and ‖W_QK²‖ at {half_step[dot_product_2]:.0f}",
            holds(max(kinds["position"]) < min(kinds["dot_product"])),
        ),
        Finding(
            "the dot products begin to grow (a tenth of their growth) at steps "
            "{onset_step[dot_product_1]:.0f} and {onset_step[dot_product_2]:.0f}, "
            "{separation:.1f} times as late as the last ‖p‖ has reached half",
            holds(numbers["first_dot_product"] > numbers["last_position"]),
        ),
        Finding(said, holds(flat), why="a plateau would be {slow:.0%} or less"),
        Finding(
            "held-out loss {loss_start:.3f} → {loss_end:.3f} nats a character; counting "
            "characters gives {entropy:.3f}, counting pairs {bigram:.3f}; plateaus in all: "
            "{plateau_count}, at losses of {plateau_losses:.2f}"
        ),
        Finding(
            "at the end layer 1 puts {copying_end:.2f} of a head's attention on the previous "
            "token, and layer 2 {matching[end]:.2f} times what even attention would put on "
            "tokens that followed the current one before ({matching[start]:.2f} at the start)"
        ),
    ]


def draw(result):
    numbers, data = result.numbers, result.data.isel(step=slice(1, None))
    t = data["step"].values
    with style():
        title = (
            "two-layer transformer on text: {text}, {optimiser}, width {d}, {H} heads, windows of "
            "{L}"
        ).format(**numbers)
        figure, axes = grid(1, 3, title, gap=0.66, right=0.12, above=0.26)
        left, middle, right = axes[0]
        left.plot(t, data["held_out_loss"], color="black")
        for name, label in (("uniform", "uniform"), ("entropy", "characters"), ("bigram", "pairs")):
            left.axhline(numbers[name], color=REST_INK, linewidth=0.6, linestyle=(0, (1, 2)))
            left.annotate(
                label, (0.02, numbers[name]), (0.0, -1.5), xycoords=left.get_yaxis_transform(),
                textcoords="offset points", va="top", fontsize=7.0, color=REST_INK,
            )  # fmt: skip
        left.set_ylabel("held-out loss (nats / character)")
        for name, (colour, dash, label) in LOOKS.items():
            middle.plot(t, data[name], color=colour, linestyle=dash, label=label)
        middle.set(ylabel="norm", ylim=(0.0, None))
        right.plot(t, data["copying"], color=BRIGHT[2], label="layer 1: previous token")
        share = data["matching"] / result.data["matching"].values.max()
        right.plot(t, share, color=BRIGHT[3], label="layer 2: matches / largest")
        right.set(ylim=(0.0, 1.05), ylabel="attention")
        for ax in axes[0]:
            ax.set(xscale="log", xlim=(1.0, t[-1]), xlabel="training step")
            if numbers["plateau"]:
                ends = numbers["plateau"]["start"], numbers["plateau"]["end"]
                ax.axvspan(*ends, color="#E3E3E3", linewidth=0, zorder=0)
        place = {"loc": "lower left", "borderaxespad": 0.2, "handlelength": 1.6}
        middle.legend(ncols=2, columnspacing=1.0, labelspacing=0.2, fontsize=7.5,
                      bbox_to_anchor=(-0.08, 1.0), **place)  # fmt: skip
        right.legend(labelspacing=0.2, fontsize=7.5, bbox_to_anchor=(-0.08, 1.0), **place)
        finish(figure, axes, "")
    return figure


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.language",
    question="on text, too: are positions learned before dot products, with a plateau in between?",
    title="a two-layer, two-head transformer on text: position before dot product",
    claim="in a two-layer, two-head standard transformer trained on natural language, too, the "
    "positional parameters are learned first and the dot-product parameters later, and between "
    "them the loss has a plateau.",
    source="Wang et al., arXiv 2410.11474, Figure 5",
    caption="additive stream of width {d}, {H} heads a layer, no layer norm, no MLP; scores are "
    "the dot product plus −p·(lag − 1), one slope p a head, both in either layer. Trained with "
    "plain {optimiser} (learning rate {learning_rate:g}, batch {batch}, {steps} steps; start: "
    "entries of size {init_scale:g}/√d, p = {slope:g}) on the next character of {text} "
    "({characters} characters, {vocabulary} tokens, windows of {L}). ‖p‖ and ‖W_QK‖ = "
    "√(‖W_Q‖² + ‖W_K‖²) are norms over a layer's heads. Left: held-out loss, and that of "
    "predictors which count characters and pairs; middle: the norms; right: how much of an "
    "induction head the attention is. Shaded, the plateau or shoulder.",
    cost={"full": 190, "quick": 31},
)
