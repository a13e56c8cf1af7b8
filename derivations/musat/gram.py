"""The disentangled transformer on item–label recall, executed on Gram matrices.

Any inputs at all: every score and the loss are bilinear in the rows of the sequence, so on the
invariant subspace the model reads them through inner products x_rᵀ x_s and x_rᵀ M x_s alone. Tokens
enter by their real Gram matrix; positions by their complex one, for M is multiplication by i:
x·y = Re⟨x, y⟩ and x·My = Re(i⟨x, y⟩). With gaussian inputs these matrices are Wishart, whatever
the width (`reduced_dynamics.families.musat.bank` samples them).

Source of the model: Musat et al., arXiv 2511.01033. As in `recall`, attention, the
residual stream by concatenation and the squared loss are typed in, and nothing of the result.
"""

import sympy as sp

from derivations.core.dense import (
    CAUSAL,
    PAIRS,
    ROWS,
    SEEN,
    ColumnSum,
    Dense,
    Each,
    RowSum,
    Softmax,
    Space,
    Stage,
    Table,
    Total,
    at,
)
from derivations.core.staged import N, i, q
from derivations.musat.recall import CUES, UNIT, Recall

_ONE = sp.S.One

#: The feature spaces in the order of a row's halves; pairs and vectors are counted from 0 here.
SPACES = (
    Space(
        "token",
        2 * N,
        False,
        {"item": 2 * i, "label": 2 * i + 1, "query": 2 * q - 2},
        {"item": _ONE, "label": _ONE, "query": _ONE},
    ),
    Space(
        "position",
        N + 1,
        True,
        {"item": i, "label": i, "query": N},
        {"item": _ONE, "label": CUES["rotated"], "query": _ONE},
    ),
)

#: Rows of pair i and of the query.
LAYOUT = {"item": 2 * i, "label": 2 * i + 1, "query": 2 * N}

#: The query's row, the queried item's and the right label's.
MARKS = {"query": 2 * N, "item": 2 * q - 2, "target": 2 * q - 1}


def gram_program(self_attention: bool = False) -> Dense:
    """The loss on one sequence as a function of the coordinates and of its Gram matrices.

    Parameters
    ----------
    self_attention : bool
        Whether a row may attend to itself.

    Returns
    -------
    Dense
        Outputs: ``loss``, ``A`` (the query's attention on the right label), ``w`` (layer 1: that
        label's attention on its own item).
    """
    coordinates = Recall().coordinates
    tables: dict[tuple[int, str], Table] = {}
    stages: list[Stage] = []

    def table(block: int, word: str) -> sp.Symbol:
        space = SPACES[block % 2]
        known = tables.setdefault(
            (block % 2, word), Table(f"{space.name}_{word}", space, UNIT[word])
        )
        return at(known.name, "r, s")

    # Layer 1.
    score1 = sp.Add(*(e.symbol * table(e.row, e.word) for e in coordinates if e.weight == "W1"))
    stages += [Each("score1", CAUSAL, score1), Softmax("A1", CAUSAL, at("score1", "r, s"))]
    # What the query collects, as coefficients of the rows.
    stages.append(ColumnSum("collected", CAUSAL, at("A1", "r, s") * at("query")))

    # Layer 2. The query's side of a block, times the map, read on every row: its own half or what
    # it collected. The key's side: the row's own half, or what the row collected.
    halves = {False: sp.S.Zero, True: sp.S.Zero}
    for e in coordinates:
        if e.weight == "W2":
            source = "query" if e.row < 2 else "collected"
            vector = f"{source}_{str(table(e.row, e.word)).partition('[')[0]}"
            if vector not in {s.name for s in stages}:
                stages.append(ColumnSum(vector, PAIRS, table(e.row, e.word) * at(source)))
            halves[e.column >= 2] += e.symbol * at(vector)
    stages += [
        Each("through", ROWS, halves[True]),
        RowSum("passed", CAUSAL, at("A1", "r, s") * at("through", "s")),
        Each("score2", ROWS, halves[False] + at("passed")),
        Softmax("A2", SEEN, at("score2")),
        ColumnSum("twice", CAUSAL, at("A1", "r, s") * at("A2")),
    ]

    # The read-out y − b_q, as coefficients of the rows' tokens, and its squared length.
    blocks = {0: at("query"), 2: at("collected"), 4: at("A2"), 6: at("twice")}
    error = sp.Add(*(e.symbol * blocks[e.column] for e in coordinates if e.weight == "W3"))
    stages += [
        Each("error", ROWS, error - at("target")),
        ColumnSum("error_token", PAIRS, table(0, "I") * at("error")),
        Total("loss", ROWS, at("error") * at("error_token") / 2),
        Total("A", ROWS, at("A2") * at("target")),
        Total("w_q", CAUSAL, at("A1", "r, s") * at("target") * at("item", "s")),
    ]
    return Dense(
        coordinates=tuple(e.symbol for e in coordinates),
        spaces=SPACES,
        tables=tuple(tables.values()),
        rows=2 * N + 1,
        layout=LAYOUT,
        marks=MARKS,
        self_attention=self_attention,
        stages=tuple(stages),
        outputs={
            "loss": sp.Symbol("loss", real=True),
            "A": sp.Symbol("A", real=True),
            "w": sp.Symbol("w_q", real=True),
        },
    )
