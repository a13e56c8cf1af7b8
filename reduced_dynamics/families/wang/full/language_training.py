"""Training the two-layer language model on a text, character by character.

By default on the text that Python's own library ships for its interactive help
(`pydoc_data.topics`, 600 thousand characters of technical English). Its wording changes with the
version of Python, so numbers are comparable within one version only; it is recorded with them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from reduced_dynamics.core.errors import InputError, whole_numbers
from reduced_dynamics.core.progress import Progress, silent
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.families.wang.full import language
from reduced_dynamics.families.wang.full.language import Weights
from reduced_dynamics.io import files
from reduced_dynamics.training import hold, loop
from reduced_dynamics.training.model import Model
from reduced_dynamics.training.optimisers import OPTIMISERS
from reduced_dynamics.training.recorder import Recorder
from reduced_dynamics.training.settings import PRECISIONS, Settings, told
from reduced_dynamics.training.source import Fresh

#: Norms of what the layers attend with: see `language.norms`.
COORDINATES = ("position_1", "dot_product_1", "position_2", "dot_product_2")

#: Characters rarer than one in so many share one token.
RARE = 10_000
#: The last tenth of the text is never trained on.
HELD_OUT = 0.1
#: Windows of it on which the loss is evaluated.
_WINDOWS = 128
#: A text shorter than so many windows teaches nothing that could be told from chance.
_FEWEST = 200


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(Settings):
    """How to train the two-layer language model; what all trainings share is in `Settings`.

    Its time is the number of steps. A minibatch is of windows of L + 1 tokens.
    """

    text: str | None = told(
        None, "file to train on, UTF-8; without one what Python ships", kind="text"
    )
    d: int = told(64, "width of the stream", low=1)
    H: int = told(2, "heads a layer; H divides d", low=1)
    L: int = told(64, "characters that a prediction may look back on", low=2)
    batch: int = told(16, "windows a step", low=1)
    learning_rate: float = told(0.5, "", low=0)
    steps: int | None = told(12_000, "of training", low=1)
    optimiser: str = told("sgd", "", choices=tuple(OPTIMISERS))
    init_scale: float = told(0.1, "matrices start with N(0, init_scale²/d) entries", low=0)
    slope: float = told(0.01, "start of every positional slope")
    precision: str = told("single", "", choices=tuple(PRECISIONS))

    PARAMETERS = ("text", "d", "H", "L")

    def __post_init__(self):
        whole_numbers(d=self.d, H=self.H, L=self.L, batch=self.batch)
        if self.d % self.H:
            raise InputError(f"H must divide d; {self.H} heads do not divide a width of {self.d}")
        if self.L < 2:
            raise InputError("L must be at least 2: with one token there is nothing to attend to")
        super().__post_init__()
        corpus(self.text, self.L)

    @property
    def time_step(self) -> float:
        return 1.0

    @property
    def parameters(self) -> dict[str, Any]:
        text = corpus(self.text, self.L)
        return super().parameters | {"text": text.name, "vocabulary": text.vocabulary}


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as tokens, whole numbers, in `train` and `held_out`.

    `characters` has one for every token but the last, which stands for all rare characters.
    """

    name: str
    train: np.ndarray
    held_out: np.ndarray
    characters: str

    @property
    def vocabulary(self) -> int:
        return len(self.characters) + 1

    def entropy(self) -> float:
        """Of single characters, in nats: the loss of the best model that sees no context."""
        p = np.bincount(self.train, minlength=self.vocabulary) / len(self.train)
        return float(-np.sum(p[p > 0] * np.log(p[p > 0])))

    def conditional_entropy(self) -> float:
        """Cross-entropy of held-out characters given the one before, counted in training."""
        counts = np.ones((self.vocabulary, self.vocabulary))
        np.add.at(counts, (self.train[:-1], self.train[1:]), 1.0)
        p = counts / counts.sum(axis=1, keepdims=True)
        return float(-np.mean(np.log(p[self.held_out[:-1], self.held_out[1:]])))


@lru_cache(maxsize=2)
def corpus(path: str | None, L: int) -> Corpus:
    """A text file, or Python's own text, as tokens.

    Raises
    ------
    InputError
        If the file cannot be read, is not UTF-8 text, or is too short.
    """
    if path is None:
        name, text = "pydoc_data.topics", _shipped()
    else:
        name = path
        content = files.read(path)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InputError(f"'{path}' is not UTF-8 text; convert it, or name another") from None
        if "\0" in text:
            raise InputError(f"'{path}' holds zero bytes: it is not text; name another file")
    least = int(_FEWEST * (L + 1))
    if len(text) < least:
        raise InputError(
            f"the text in '{name}' has {len(text)} characters; at least {least} are needed"
        )
    common = [c for c, n in Counter(text).most_common() if n * RARE >= len(text)]
    if len(common) < 2:
        raise InputError(f"the text in '{name}' has one character only; there is nothing to learn")
    number = dict(zip(common, range(len(common)), strict=True))
    tokens = np.array([number.get(c, len(common)) for c in text])
    cut = round((1.0 - HELD_OUT) * len(tokens))
    return Corpus(name, tokens[:cut], tokens[cut:], "".join(common))


def _shipped() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise InputError(
            "this Python comes without pydoc_data; name a text to train on with --text FILE"
        ) from None
    return "\n\n".join(topics[name] for name in sorted(topics))


def train_language(
    config: LanguageConfig, progress: Progress = silent, checkpoint=None
) -> tuple[Trajectory, Weights]:
    """Train on next-character prediction: a trajectory over the steps, and the last weights.

    It has the norms `COORDINATES` and the minibatch loss in nats a character; as observables
    `held_out_loss`, `copying` and `matching` (`language.induction`) on 128 windows of the text's
    last tenth, and the slopes ``p1_1`` … ``p2_H``. `progress`, `checkpoint` and the errors are
    those of `training.loop.train`.
    """
    text = corpus(config.text, config.L)
    of_weights, of_batches, of_tests = config.streams(3)
    start = language.initial_weights(
        text.vocabulary, config.d, config.H, config.init_scale, config.slope,
        np.random.default_rng(of_weights), PRECISIONS[config.precision],
    )  # fmt: skip
    held_out = windows(text.held_out, config.L, _WINDOWS, np.random.default_rng(of_tests))
    return loop.train(
        Model("language", start, language.loss_and_gradient, language.__name__),
        Fresh(partial(windows, text.train, config.L), config.batch, of_batches),
        config.method,
        config.rates,
        hold.nothing,
        Recorder(partial(_measure, held_out), COORDINATES),
        config,
        progress,
        checkpoint,
    )


def _measure(held_out: np.ndarray, weights: Weights) -> dict[str, float]:
    outcome = language.forward(weights, held_out)
    copying, matching = language.induction(outcome, held_out)
    return {
        "held_out_loss": outcome.loss,
        "copying": copying,
        "matching": matching,
        **language.slopes(weights.p1, weights.p2),
        **dict(zip(COORDINATES, language.norms(weights), strict=True)),
    }


def windows(tokens: Sequence[int], L: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` random stretches of L + 1 tokens, shape (count, L + 1)."""
    starts = rng.integers(0, len(tokens) - L, count)
    return np.asarray(tokens)[starts[:, None] + np.arange(L + 1)]
