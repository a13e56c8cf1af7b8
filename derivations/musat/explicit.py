"""The disentangled transformer executed literally with SymPy at small N, against its staged loss.

An independent execution of the model of Musat et al., arXiv 2511.01033: rows, weight matrices,
causal softmaxes and concatenation, on unit vectors, at N = 1, 2, 3, ... and every query position.
No step is shared with `derivations.musat.recall`, whose program must agree with it stage by stage:

- layer 1's attention weights as rational functions of the exponentials of the α's,
- layer 2's scores as linear forms in the β's over those,
- read-out and loss as polynomials in the γ's and in layer 2's attention weights, which are free
  symbols there (they are softmaxes of scores already compared).

All residuals are computed in a field of rational functions, where equal things have one form
(`normal`); they are exactly 0, not small.
"""

from dataclasses import dataclass, replace

import sympy as sp

from derivations.core.residuals import normal
from derivations.core.staged import Pair, Program, Scalar, Softmax, Stage, i, unroll
from derivations.musat.recall import ARCHITECTURE, TASKS, Recall
from derivations.subspace.coordinates import embed

#: A row of the sequence: its kind ("a" item, "b" label, "T" query) and its pair (0 for the query).
Row = tuple[str, int]


@dataclass(frozen=True)
class Execution:
    """What the transformer computes on one sequence.

    Attributes
    ----------
    rows : tuple of Row
        The T = 2N + 1 rows in their order.
    attention : Matrix
        Layer 1, T × T; row i is 0 where it may not look.
    scores : dict of Row to Expr
        Layer 2, of the query's row with every row it sees.
    error : dict of Row to Expr
        y − b_q on the tokens a_i and b_i; y has no other component.
    loss : Expr
        ½‖y − b_q‖², with layer 2's attention weights as the free symbols of `free_weight`.
    """

    rows: tuple[Row, ...]
    attention: sp.Matrix
    scores: dict[Row, sp.Expr]
    error: dict[Row, sp.Expr]
    loss: sp.Expr


def free_weight(row: Row) -> sp.Expr:
    """Layer 2's attention of the query on a row, as a symbol."""
    kind, pair = row
    name = f"A_{kind}"
    return sp.Function(name, real=True)(pair) if pair else sp.Symbol(name, real=True)


def execute(n: int, query: int, self_attention: bool = False, cue: str = "rotated") -> Execution:
    """Run the model on N = n pairs in the frame of unit vectors, D = 2N + 2."""
    D = 2 * n + 2
    unit, zero = sp.eye(D).row, sp.zeros(1, D)
    a, b = [unit(k) for k in range(n)], [unit(n + k) for k in range(n)]
    p = [unit(2 * k) for k in range(n + 1)]
    M = sp.diag(*[sp.Matrix([[0, -1], [1, 0]])] * (n + 1))
    label_position = {"rotated": [(M * x.T).T for x in p], "same": p, "none": [zero] * (n + 1)}[cue]

    rows: list[Row] = [(kind, k) for k in range(1, n + 1) for kind in "ab"] + [("T", 0)]
    vectors = [
        half for k in range(n) for half in (a[k].row_join(p[k]), b[k].row_join(label_position[k]))
    ]
    x1 = sp.Matrix.vstack(*vectors, a[query - 1].row_join(p[n]))
    T = len(rows)
    sees = [range(t + 1) if self_attention else range(t) for t in range(T)]

    values = {c.name: c.symbol for c in Recall(self_attention, cue).coordinates}
    W1, W2, W3 = embed(TASKS[cue], ARCHITECTURE, D, values).values()

    score1 = x1 * W1 * x1.T
    attention = sp.zeros(T, T)
    for t in range(T):
        total = sp.Add(*(sp.exp(score1[t, s]) for s in sees[t]))
        for s in sees[t]:
            attention[t, s] = sp.exp(score1[t, s]) / total
    x2 = x1.row_join(attention * x1)

    score2 = x2[-1, :] * W2 * x2.T
    weights = sp.Matrix([[free_weight(r) if t in sees[-1] else 0 for t, r in enumerate(rows)]])
    x3 = x2[-1, :].row_join(weights * x2)

    error = W3 * x3.T - b[query - 1].T
    return Execution(
        rows=tuple(rows),
        attention=attention,
        scores={rows[s]: score2[s] for s in sees[-1]},
        error={("ab"[k // n], k % n + 1): error[k] for k in range(2 * n)},
        loss=(error.T * error)[0] / 2,
    )


def _layer1_name(row: Row, key: Row, query: int) -> str:
    """What the staged program calls a row's attention on an earlier row."""
    if row == key:
        return f"s_{row[0]}"
    if row[0] == "T":
        return "u" if key == ("a", query) else "v"
    if row[0] == "a":
        return "c"
    return "w" if key[1] == row[1] else "r"


def _with_free_weights(program: Program) -> Program:
    """The program whose layer-2 attention weights are free symbols instead of softmaxes."""
    stages: list[Stage] = []
    for stage in program.stages:
        if isinstance(stage, Softmax) and stage.pairs:
            stages += [Scalar(w.name, w.name) for w in stage.classes]
            by_name: dict[sp.Symbol, dict[str, sp.Expr]] = {}
            for region, weights in stage.pairs.items():
                for w in weights:
                    value = sp.Function(str(w.name), real=True)(i)
                    by_name.setdefault(w.name, {})[region] = value
            stages += [Pair(name, exprs) for name, exprs in by_name.items()]
        else:
            stages.append(stage)
    return replace(program, stages=tuple(stages))


def residuals(
    n: int,
    query: int,
    self_attention: bool = False,
    cue: str = "rotated",
    program: Program | None = None,
) -> dict[str, sp.Expr]:
    """Explicit execution minus staged program, stage by stage; every value must be exactly 0.

    Parameters
    ----------
    n, query : int
        N and q, 1 ≤ q ≤ N.
    self_attention, cue
        As of `Recall`.
    program : Program, optional
        The staged loss to examine; by default the one that `Recall` derives for this q.
    """
    recipe = Recall(self_attention, cue)
    program = program or recipe.program(query_first=query == 1)
    literal = execute(n, query, self_attention, cue)
    staged, free = unroll(program, n, query), unroll(_with_free_weights(program), n, query)

    found: dict[str, sp.Expr] = {}

    def value(values, name, pair=0):
        known = values.get(recipe.symbol(name))
        return known.get(pair) if isinstance(known, dict) else known

    def label(name, pair):
        return f"{name}[{pair}]" if pair else name

    def compare(name, explicit, derived):
        found[name] = normal(sp.sympify(explicit - derived))

    # Layer 1. A row whose keys all share one score has no named weight: its scores show it.
    for t, row in enumerate(literal.rows):
        for s, key in enumerate(literal.rows[: t + 1]):
            name = _layer1_name(row, key, query)
            derived = value(staged, name, row[1])
            if derived is not None and (s < t or self_attention):
                arrow = f"{label(*row)} → {label(*key)}: {name}"
                compare(arrow, literal.attention[t, s], derived)

    # Layer 2: scores, then that its weights are their softmax over exactly the rows seen.
    scores = {row: value(staged, f"S_{row[0]}", row[1]) for row in literal.scores}
    total = sp.Add(*map(sp.exp, scores.values()))
    for row, score in literal.scores.items():
        compare(label(f"S_{row[0]}", row[1]), score, scores[row])
        weight = value(staged, f"A_{row[0]}", row[1])
        found[label(f"A_{row[0]}", row[1])] = weight * total - sp.exp(scores[row])

    # Read-out.
    for (family, pair), error in literal.error.items():
        compare(label(f"e_{family}", pair), error, value(free, f"e_{family}", pair))
    compare("loss", literal.loss, free[sp.Symbol("loss")])
    compare("A", free_weight(("b", query)), free[sp.Symbol("A")])
    own = literal.rows.index(("b", query)), literal.rows.index(("a", query))
    compare("w", literal.attention[own], free[sp.Symbol("w")])
    return found
