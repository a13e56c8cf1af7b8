"""`chen`: the copier, selector and classifier on n-gram Markov chains, from the model's definition.

Chen, Sheen, Wang, Yang, arXiv 2409.10559. Head h = 1..H copies from the lags h..h+H-1, with one
logit W_h_j a lag and its output normalised; a subset s of heads has the weight p_s = c_s²/Σ c²;
the classifier attends with exp(a κ), κ = Σ_s p_s Π_{h∈s} ⟨v_h(query), v_h(i)⟩. The population loss
reads the chain through the window of 2H-1 lags only, so it is a sum over windows (`windows`):

- limit "infinite": windows and next states under the stationary law of each kernel;
- limit "finite": under any joint law of windows and next states, such as the counts of a sequence
  at the positions from 2H-1 on, whose windows are complete.

Coordinates are l_s = log c_s² (they fall by hundreds), named c_…, then W_h_j, then a.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import sympy as sp

from derivations.chen.selector import label, subsets
from derivations.core.derivation import Derivation, slope, step
from derivations.core.windows import (
    BANK,
    SAME,
    Constant,
    Exponential,
    Stage,
    Windows,
    at,
    cell,
    ordered,
)

#: What is added to the norm by which a head's output is divided.
NORM_EPSILON = sp.Rational(1, 10**7)
#: The least log c² of which exponentials are taken: far below it they would underflow.
DEEPEST = -600

epsilon = sp.Symbol("eps", nonnegative=True)
a = sp.Symbol("a", real=True)
#: 1 for what is trained, 0 for what is held: the selector, the copier, the classifier.
train_C, train_W, train_a = sp.symbols("train_C train_W train_a", nonnegative=True)


def selector(heads: int, degree: int) -> dict[tuple[int, ...], sp.Symbol]:
    """log c² of every subset."""
    return {s: sp.Symbol(f"c_{label(s)}", real=True) for s in subsets(heads, degree)}


def copier(heads: int) -> dict[tuple[int, int], sp.Symbol]:
    """The logit of head h for its lag h + j."""
    return {
        (h, j): sp.Symbol(f"W_{h}_{j}", real=True)
        for h in range(1, heads + 1)
        for j in range(heads)
    }


def coordinates(heads: int, degree: int) -> tuple[sp.Symbol, ...]:
    return (*selector(heads, degree).values(), *copier(heads).values(), a)


def lag(k: int) -> str:
    """The place of the state k steps back."""
    return f"c{k}"


def _softmax(scores: Mapping[str, sp.Expr], tag: str, lifted: bool = False) -> Iterator[Stage]:
    """Stages for a softmax over few numbers; it does not depend on the shift.

    Lifted, what lies deeper than `DEEPEST` counts as if it lay there.
    """
    top = Constant(f"top_{tag}", (), sp.Max(*scores.values()))
    yield top
    for name, score in scores.items():
        exponent = score - top.cell
        if lifted:
            raised = Constant(f"lift_{name}", (), lift(score))
            yield raised
            exponent += raised.cell
        yield Stage(f"exp_{name}", (), sp.exp(exponent))
    yield Stage(f"sum_{tag}", (), sp.Add(*(at(f"exp_{name}") for name in scores)))
    for name in scores:
        yield Stage(name, (), at(f"exp_{name}") / at(f"sum_{tag}"))


def weight(h: int, j: int) -> sp.Symbol:
    """softmax_j of head h's logits."""
    return at(f"w_{h}_{j}")


def share(subset: tuple[int, ...]) -> sp.Symbol:
    """p_s."""
    return at(f"p_{label(subset)}")


def lift(l: sp.Expr) -> sp.Expr:
    """What raises log c² to `DEEPEST` where it lies lower; else 0."""
    return sp.Max(0, DEEPEST - l)


def _weights(heads: int, degree: int) -> Iterator[Stage]:
    """p from log c², and every head's softmax.

    The lift of log c² changes no p by more than rounding where p is a number, and it keeps
    -4 exp(-l) ∂loss/∂l, in which c_s² cancels, a number.
    """
    yield from _softmax({f"p_{label(s)}": l for s, l in selector(heads, degree).items()}, "c", True)
    logits = copier(heads)
    for h in range(1, heads + 1):
        yield from _softmax({f"w_{h}_{j}": logits[h, j] for j in range(heads)}, f"W_{h}")


def _query(heads: int) -> Iterator[Stage]:
    """The heads at the query: the vector before normalisation, and one over its norm."""
    for h in range(1, heads + 1):
        terms = (weight(h, j) * at(f"m{h + j}", "s", BANK) for j in range(heads))
        u = Stage(f"u{h}", ("s", BANK), sp.Add(*terms))
        square = Stage(f"square{h}", (BANK,), u.cell**2, ("s",))
        yield from (u, square)
        yield Stage(f"scale{h}", (BANK,), 1 / (sp.sqrt(square.cell) + NORM_EPSILON))


def _window(heads: int, degree: int, rho: sp.Expr = sp.S.One) -> Iterator[Stage]:
    """exp(a(κ - 1))·rho of every window; κ ≤ 1, and a softmax knows no shift."""
    match: dict[int, sp.Symbol] = {}
    for h in range(1, heads + 1):
        seen = {j: lag(h + j) for j in range(heads)}
        square = sp.Add(*(weight(h, j) ** 2 for j in seen))
        for i, j in itertools.combinations(seen, 2):
            square += 2 * weight(h, i) * weight(h, j) * at(SAME, seen[i], seen[j])
        norm = Stage(f"norm{h}", (*seen.values(),), 1 / (sp.sqrt(square) + NORM_EPSILON))
        copied = sp.Add(*(weight(h, j) * at(f"u{h}", place, BANK) for j, place in seen.items()))
        q = Stage(f"q{h}", (*seen.values(), BANK), copied * at(f"scale{h}", BANK) * norm.cell)
        yield from (norm, q)
        match[h] = q.cell
    # κ is linear in the last head's match: κ = rest + lead·match.
    rest, lead = sp.S.Zero, sp.S.Zero
    for s in subsets(heads, degree):
        product = share(s) * sp.Mul(*(match[h] for h in s if h != heads))
        if heads in s:
            lead += product
        else:
            rest += product
    stages = [Stage(n, _places(e), e) for n, e in (("rest", rest), ("lead", lead))]
    yield from stages
    kappa = stages[0].cell + stages[1].cell * match[heads]
    window = tuple(lag(k) for k in range(1, window_length(heads) + 1))
    yield Exponential("f", (*window, BANK), a * (kappa - 1), weight=rho)


def _places(expr: sp.Expr) -> tuple[str, ...]:
    """All places at which an expression reads something."""
    return ordered(p for symbol in expr.free_symbols for p in cell(symbol)[1])


def window_length(heads: int) -> int:
    """Lags that the heads see together: 1..2H-1."""
    return 2 * heads - 1


def data(n: int, heads: int, limit: str) -> dict[str, tuple[str, ...]]:
    """The tables of a sample and their indices.

    ``m1``…: 1 at the query's state at that lag. ``y``: law of the target. ``share``: the sample's
    part of the mean. Infinite: ``rho``, law of the windows, ``pi``, the kernel. Finite: ``F``, law
    of windows and next states together.
    """
    length = window_length(heads)
    window = tuple(lag(k) for k in range(1, length + 1))
    tables = {f"m{k}": ("s", BANK) for k in range(1, length + 1)}
    tables |= {"y": ("k", BANK), "share": (BANK,)}
    if limit == "infinite":
        return tables | {"rho": (*window, BANK), "pi": (*window[: n - 1], "k", BANK)}
    return tables | {"F": (*window, "k", BANK)}


def program(S: int, n: int, H: int, degree: int, limit: str = "infinite", loss: str = "ce"):
    """The population loss over a bank.

    Parameters
    ----------
    S, n, H, degree : int
        States; order of the grams (n-1 parents); heads; largest subset.
    limit : {"infinite", "finite"}
    loss : {"ce", "log"}
        ``-o_y + log Σ_k exp(o_k)``, or ``-log(o_y + eps)``.
    """
    tables = data(n, H, limit)
    stages = [*_weights(H, degree), *_query(H)]
    if limit == "infinite":
        window, parents = tables["rho"][:-1], tables["pi"][: n - 1]
        stages += _window(H, degree, at("rho", *tables["rho"]))
        matched = Stage("matched", (*parents, BANK), at("f", *window, BANK), window[n - 1 :])
        total = Stage("total", (BANK,), matched.cell, parents)
        seen = Stage("seen", ("k", BANK), matched.cell * at("pi", *tables["pi"]), parents)
        stages += [matched, total, seen]
    else:
        window = tables["F"][:-2]
        stages += _window(H, degree)
        both = at("F", *tables["F"]) * at("f", *window, BANK)
        seen = Stage("seen", ("k", BANK), both, window)
        total = Stage("total", (BANK,), seen.cell, ("k",))
        stages += [seen, total]
    o = Stage("o", ("k", BANK), seen.cell / total.cell)
    stages.append(o)
    y, part = at("y", "k", BANK), at("share", BANK)
    if loss == "log":
        stages.append(Stage("sample", (BANK,), -y * sp.log(o.cell + epsilon), ("k",)))
    else:
        partition = Stage("partition", (BANK,), sp.exp(o.cell), ("k",))
        hit = Stage("hit", (BANK,), y * o.cell, ("k",))
        stages += [partition, hit]
        stages.append(Stage("sample", (BANK,), sp.log(partition.cell) - hit.cell))
    stages.append(Stage("loss", (), part * at("sample", BANK), (BANK,)))
    # Without the lift: what is too small to be a number is 0.
    logs = selector(H, degree)
    shares = {f"p_{label(s)}": sp.exp(l - at("top_c")) / at("sum_c") for s, l in logs.items()}
    outputs = {"loss": at("loss"), **shares, "p_top": sp.Max(*map(share, logs))}
    return Windows(
        coordinates(H, degree),
        (epsilon, train_C, train_W, train_a),
        tables,
        S,
        tuple(stages),
        outputs,
    )


# ---------------------------------------------------------------- dynamics


def log_norm(H: int, degree: int) -> sp.Expr:
    """log Σ c², which the flow conserves."""
    return sp.log(sp.Add(*(sp.exp(l) for l in selector(H, degree).values())))


def motion(H: int, degree: int) -> tuple[dict, dict]:
    """Mobilities of the flow, and one step of gradient descent of c, W and a.

    With l = log c²: dl/dt = (2/c)·dc/dt = -(2/c)²·∂loss/∂l. A step c ← c - step·∂loss/∂c, where
    ∂loss/∂c = (2/c)·∂loss/∂l, is l ← l + log(1 - 2 step exp(-l) ∂loss/∂l)². In both c² is lifted
    as it is in ∂loss/∂l, which is proportional to it: no subset freezes, however small its p.
    """
    c = sp.Symbol("c", positive=True)
    logs = selector(H, degree).values()
    mobility, update = {}, {}
    for l in logs:
        rate = sp.diff(sp.log(c**2), c)
        back = {c: sp.exp((l + lift(l)) / 2)}
        mobility[l] = train_C * (rate**2).subs(back)
        shift = 1 - train_C * (step * rate * slope(l) / c).subs(back)
        # A weight that a step happens to put on 0 exactly would stay there at -infinity.
        update[l] = l + 2 * sp.log(sp.Max(sp.Abs(shift), sp.Rational(1, 10**100)))
    for w in copier(H).values():
        mobility[w] = train_W
        update[w] = w - step * train_W * slope(w)
    mobility[a] = train_a
    update[a] = a - step * train_a * slope(a)
    return mobility, update


def derive_chen(values: Mapping[str, Any]) -> Derivation:
    """The reduced system for S, n, H, degree, limit and loss."""
    H, degree = values["H"], values["degree"]
    found = program(values["S"], values["n"], H, degree, values["limit"], values["loss"])
    mobility, update = motion(H, degree)
    return Derivation(
        name="chen",
        coordinates=found.coordinates,
        parameters=found.parameters,
        variants=((None, found),),
        observables=tuple(name for name in found.outputs if name != "loss"),
        invariants={"log_sum_c2": log_norm(H, degree)},
        mobility=mobility,
        update=update,
        summary="Copier, selector and classifier on n-gram Markov chains (arXiv 2409.10559).",
    )
