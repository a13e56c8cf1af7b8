"""wang-5: a two-layer transformer trained on text: norms of position and dot product, the loss."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from reduced_dynamics.core.crossings import first_reach
from reduced_dynamics.experiments.caption import Finding
from reduced_dynamics.experiments.request import WANG, About, Drawn, Request
from reduced_dynamics.families.wang.experiments.plateau import SHOULDER, SLOW, plateaus
from reduced_dynamics.families.wang.full.language_training import (
    COORDINATES,
    LanguageConfig,
    corpus,
    train_language,
)
from reduced_dynamics.plotting.style import BRIGHT, REST_INK, finish, grid, style

ABOUT = About(
    "a two-layer, two-head transformer on text: position before dot product",
    WANG,
    "in a two-layer, two-head standard transformer trained on natural language, too, the "
    "positional parameters are learned first and the dot-product parameters later, and between "
    "them the loss has a plateau (Figure 5).",
)
#: Colour, dash and label of each norm: colours for the kind of parameter, dashes for the layer.
LOOKS = {
    "position_1": (BRIGHT[1], "-", r"$\|p^{(1)}\|$"),
    "position_2": (BRIGHT[1], (0, (4, 1.5)), r"$\|p^{(2)}\|$"),
    "dot_product_1": (BRIGHT[0], "-", r"$\|W_{QK}^{(1)}\|$"),
    "dot_product_2": (BRIGHT[0], (0, (4, 1.5)), r"$\|W_{QK}^{(2)}\|$"),
}


def draw(request: Request) -> Drawn:
    base = LanguageConfig(text=request.text, seed=request.seed)
    config = request.of(
        base,
        replace(base, d=32, L=32, learning_rate=0.6, init_scale=0.15, steps=7000),
        replace(base, d=8, L=8, batch=4, steps=40),
    )
    steps = {0.0, *np.unique(np.rint(np.geomspace(1, config.steps, 220))).tolist()}
    config = replace(config, record=tuple(sorted(steps)))
    full, _ = train_language(config, request.training("training"))
    text = corpus(config.text, config.L)
    grown = {name: full[name] - full[name][0] for name in COORDINATES}
    half = {name: first_reach(full.t, g, 0.5 * g.max()) for name, g in grown.items()}
    onset = {name: first_reach(full.t, g, 0.1 * g.max()) for name, g in grown.items()}
    kinds = {kind: [f"{kind}_{layer}" for layer in (1, 2)] for kind in ("position", "dot_product")}
    last_position = max(half[name] for name in kinds["position"])
    first_product = min(onset[name] for name in kinds["dot_product"])
    found = plateaus(full.t, full["held_out_loss"])
    # Between the two kinds of parameters: from when the positions have half grown.
    slower = plateaus(full.t, full["held_out_loss"], SHOULDER)
    between = [one for one in slower if one.end >= last_position]
    plateau = min(between, key=lambda one: one.slowing) if between else None
    flat = plateau is not None and plateau.slowing <= SLOW
    numbers = {
        # The name alone: folders say nothing, and a caption is not for them.
        "text": os.path.basename(text.name), "characters": len(text.train) + len(text.held_out),
        "vocabulary": text.vocabulary, "d": config.d, "H": config.H, "L": config.L,
        "batch": config.batch, "optimiser": config.optimiser.upper(),
        "learning_rate": config.learning_rate, "steps": config.steps,
        "init_scale": config.init_scale, "slope": config.slope,
        "half_step": half, "onset_step": onset,
        "norm_start": {name: float(full[name][0]) for name in COORDINATES},
        "norm_largest": {name: float(full[name].max()) for name in COORDINATES},
        "norm_end": {name: float(full[name][-1]) for name in COORDINATES},
        "last_position": last_position, "first_dot_product": first_product,
        "separation": first_product / last_position if last_position else None,
        "slow": SLOW, "plateaus": [one.as_dict() for one in found], "plateau_count": len(found),
        "plateau_losses": [one.loss for one in found] or None,
        "plateau": plateau.as_dict() if plateau else dict.fromkeys(
            ("start", "step", "end", "loss", "rate", "before", "after", "slowing")),
        "loss_start": float(full["held_out_loss"][0]),
        "loss_end": float(full["held_out_loss"][-1]),
        "uniform": float(np.log(text.vocabulary)), "entropy": text.entropy(),
        "bigram": text.conditional_entropy(),
        "copying_end": float(full["copying"][-1]),
        "matching": {"start": float(full["matching"][0]), "end": float(full["matching"][-1])},
    }  # fmt: skip
    return Drawn(
        _figure(full, numbers, found, plateau),
        numbers,
        "additive stream of width {d}, {H} heads a layer, no layer norm, no MLP; scores are the "
        "dot product plus −p·(lag − 1), one slope p a head, both in either layer. Trained with "
        "plain {optimiser} (learning rate {learning_rate:g}, batch {batch}, {steps} steps; start: "
        "entries of size {init_scale:g}/√d, p = {slope:g}) on the next character of {text} "
        "({characters} characters, {vocabulary} tokens, windows of {L}). ‖p‖ and ‖W_QK‖ = "
        "√(‖W_Q‖² + ‖W_K‖²) are norms over a layer's heads. Left: held-out loss, and that of "
        "predictors which count characters and pairs; middle: the norms; right: how much of an "
        "induction head the attention is. Shaded, the plateau or shoulder.",
        [
            Finding(
                "position first: half of their growth is reached by ‖p¹‖ at step "
                "{half_step[position_1]:.0f} and ‖p²‖ at {half_step[position_2]:.0f}, by ‖W_QK¹‖ "
                "at {half_step[dot_product_1]:.0f} and ‖W_QK²‖ at {half_step[dot_product_2]:.0f}",
                max(half[k] for k in kinds["position"])
                < min(half[k] for k in kinds["dot_product"]),
            ),
            Finding(
                "the dot products begin to grow (a tenth of their growth) at steps "
                "{onset_step[dot_product_1]:.0f} and {onset_step[dot_product_2]:.0f}, "
                "{separation:.1f} times as late as the last ‖p‖ has reached half",
                first_product > last_position,
            ),
            Finding(
                (
                    ("a plateau" if flat else "not quite a plateau, but a shoulder")
                    + " after the positions: the loss falls most slowly at step "
                    "{plateau[step]:.0f} ({plateau[loss]:.3f} nats), at {plateau[slowing]:.0%} of "
                    "the fastest rate before or after (the slower of the two; −d loss/d ln step; "
                    "a plateau would be {slow:.0%} or less)"
                )
                if plateau
                else "no plateau after the positions have been learned: the loss falls ever more "
                "slowly, or evenly",
                flat,
            ),
            Finding(
                "held-out loss {loss_start:.3f} → {loss_end:.3f} nats a character; counting "
                "characters gives {entropy:.3f}, counting pairs {bigram:.3f}; plateaus "
                "in all: {plateau_count}, at losses of {plateau_losses:.2f}"
            ),
            Finding(
                "at the end layer 1 puts {copying_end:.2f} of a head's attention on the previous "
                "token, and layer 2 {matching[end]:.2f} times what even attention would put on "
                "tokens that followed the current one before ({matching[start]:.2f} at the start)"
            ),
        ],
    )


def _figure(full, numbers, found, plateau):
    with style():
        title = (
            f"two-layer transformer on text: {numbers['text']}, {numbers['optimiser']}, "
            f"width {numbers['d']}, {numbers['H']} heads, windows of {numbers['L']}"
        )
        figure, axes = grid(1, 3, title, gap=0.66, right=0.12, above=0.26)
        left, middle, right = axes[0]
        t = full.t[1:]
        left.plot(t, full["held_out_loss"][1:], color="black")
        for name, label in (("uniform", "uniform"), ("entropy", "characters"), ("bigram", "pairs")):
            left.axhline(numbers[name], color=REST_INK, linewidth=0.6, linestyle=(0, (1, 2)))
            left.annotate(
                label, (0.02, numbers[name]), (0.0, -1.5), xycoords=left.get_yaxis_transform(),
                textcoords="offset points", va="top", fontsize=7.0, color=REST_INK,
            )  # fmt: skip
        left.set_ylabel("held-out loss (nats / character)")
        for name in COORDINATES:
            colour, dash, label = LOOKS[name]
            middle.plot(t, full[name][1:], color=colour, linestyle=dash, label=label)
        middle.set_ylabel("norm")
        middle.set_ylim(bottom=0.0)
        right.plot(t, full["copying"][1:], color=BRIGHT[2], label="layer 1: previous token")
        share = full["matching"][1:] / full["matching"].max()
        right.plot(t, share, color=BRIGHT[3], label="layer 2: matches / largest")
        right.set_ylim(0.0, 1.05)
        right.set_ylabel("attention")
        for ax in axes[0]:
            ax.set_xscale("log")
            ax.set_xlim(1.0, t[-1])
            ax.set_xlabel("training step")
            if plateau is not None:
                ax.axvspan(plateau.start, plateau.end, color="#E3E3E3", linewidth=0, zorder=0)
        place = {"loc": "lower left", "borderaxespad": 0.2, "handlelength": 1.6}
        middle.legend(ncols=2, columnspacing=1.0, labelspacing=0.2, fontsize=7.5,
                      bbox_to_anchor=(-0.08, 1.0), **place)  # fmt: skip
        right.legend(labelspacing=0.2, fontsize=7.5, bbox_to_anchor=(-0.08, 1.0), **place)
        finish(figure, axes, "")
    return figure
