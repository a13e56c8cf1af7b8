"""`chen` in its limits: what Σ c² does, which subset grows for small a, how a grows at late times.

`explicit_loss` is the model written out once more, straight from its definition, with nothing
shared with the stages of `derivations.chen.derive`: position by position, vectors and all.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import sympy as sp

from derivations.chen.selector import subsets

Subset = tuple[int, ...]


# ---------------------------------------------------------------- chains


def stationary(kernel: Mapping[tuple[int, ...], Sequence[sp.Expr]], S: int) -> dict:
    """Stationary law of the parents (lag 1 first) of a kernel given by rows."""
    states = list(kernel)
    law = {state: sp.Symbol(f"mu{k}") for k, state in enumerate(states)}
    flows = []
    for state in states:
        into = (law[(*state[1:], old)] * kernel[(*state[1:], old)][state[0]] for old in range(S))
        flows.append(sp.Add(*into) - law[state])
    equations = [*flows[1:], sp.Add(*law.values()) - 1]
    (solution,) = sp.linsolve(equations, list(law.values()))
    return {state: sp.factor(v) for state, v in zip(states, solution, strict=True)}


def windows(kernel: Mapping, S: int, length: int) -> dict[tuple[int, ...], sp.Expr]:
    """Stationary law of the last `length` states, lag 1 first."""
    law = stationary(kernel, S)
    while len(next(iter(law))) < length:
        parents = len(next(iter(kernel)))
        law = {
            (new, *past): p * kernel[past[:parents]][new]
            for past, p in law.items()
            for new in range(S)
        }
    return law


def dot(x: Iterable[sp.Expr], y: Iterable[sp.Expr]) -> sp.Expr:
    return sp.Add(*(a * b for a, b in zip(x, y, strict=True)))


# ---------------------------------------------------------------- the model, written out


def explicit_loss(
    kernel: Mapping[tuple[int, ...], Sequence[sp.Expr]],
    S: int,
    heads: int,
    share: Mapping[Subset, sp.Expr],
    weights: Mapping[tuple[int, int], sp.Expr],
    a: sp.Expr,
    loss: str,
    epsilon: sp.Expr = sp.S.Zero,
    norm_epsilon: sp.Expr = sp.S.Zero,
) -> sp.Expr:
    """The stationary population loss of one kernel, from the model's definition.

    Parameters
    ----------
    kernel : mapping
        Row of every tuple of parents, lag 1 first.
    share : mapping
        p_s of every subset.
    weights : mapping of (h, j)
        Head h's attention on lag h + j.
    """
    length = 2 * heads - 1
    parents = len(next(iter(kernel)))
    law = windows(kernel, S, length)

    def copied(window, h):
        vector = [sp.S.Zero] * S
        for j in range(heads):
            vector[window[h + j - 1]] += weights[h, j]
        norm = sp.sqrt(sp.Add(*(v**2 for v in vector))) + norm_epsilon
        return [v / norm for v in vector]

    heads_at = {w: {h: copied(w, h) for h in range(1, heads + 1)} for w in law}
    total = sp.S.Zero
    for query, weight in law.items():
        scores = {}
        for window in law:
            match = {h: dot(heads_at[query][h], v) for h, v in heads_at[window].items()}
            scores[window] = sp.Add(*(p * sp.Mul(*(match[h] for h in s)) for s, p in share.items()))
        attention = {w: p * sp.exp(a * scores[w]) for w, p in law.items()}
        whole = sp.Add(*attention.values())
        output = [
            sp.Add(*(v * kernel[w[:parents]][k] for w, v in attention.items())) / whole
            for k in range(S)
        ]
        target = kernel[query[:parents]]
        if loss == "log":
            total -= weight * dot(target, (sp.log(o + epsilon) for o in output))
        else:
            total += weight * (sp.log(sp.Add(*map(sp.exp, output))) - dot(target, output))
    return total


# ---------------------------------------------------------------- the selector


@cache
def conservation() -> dict[str, sp.Expr]:
    """What p_s = c_s²/Σ c² implies for any loss of p: three subsets stand for any number.

    Returns
    -------
    dict
        Residuals, all 0: the flow's d(Σ c²)/dt; the discrete step's |c - ηg|² - |c|² - η²|g|²; and
        dp_s/dt + (4/Σ c²) p_s (g_s - Σ p g), where g = ∂loss/∂p.
    """
    c = sp.symbols("c1:4", real=True)
    g = sp.symbols("g1:4", real=True)
    eta = sp.Symbol("eta", positive=True)
    square = sp.Add(*(x**2 for x in c))
    p = [x**2 / square for x in c]
    # ∂loss/∂c by the chain rule.
    slopes = [dot(g, (sp.diff(pk, x) for pk in p)) for x in c]
    moved = [x - eta * s for x, s in zip(c, slopes, strict=True)]
    step = [eta * s for s in slopes]
    mean, rate = dot(p, g), -dot((sp.diff(p[0], x) for x in c), slopes)
    return {
        "d(Σ c²)/dt of the flow": sp.simplify(-2 * dot(c, slopes)),
        "|c - ηg|² - |c|² - |ηg|² of a step": sp.simplify(
            dot(moved, moved) - dot(c, c) - dot(step, step)
        ),
        "dp/dt + (4/Σ c²) p (g - Σ p g)": sp.simplify(rate + 4 / square * p[0] * (g[0] - mean)),
    }


def saturated(heads: int) -> dict[tuple[int, int], sp.Integer]:
    """Heads that copy one lag each: head h the state h steps back."""
    return {(h, j): sp.Integer(j == 0) for h in range(1, heads + 1) for j in range(heads)}


def first_order(kernel: Mapping, S: int, heads: int, degree: int, loss: str = "log") -> dict:
    """J_s of every subset: the loss is loss(0) - a Σ_s p_s J_s + O(a²), for saturated heads."""
    a = sp.Symbol("a", real=True)
    p = {s: sp.Symbol(f"p{k}") for k, s in enumerate(subsets(heads, degree))}
    explicit = explicit_loss(kernel, S, heads, p, saturated(heads), a, loss)
    slope = sp.diff(explicit, a).subs(a, 0)
    return {s: -sp.diff(slope, symbol) for s, symbol in p.items()}


def information(kernel: Mapping, S: int, subset: Subset) -> sp.Expr:
    """Σ_z μ(z)² [Σ_k μ(k|z)²/μ(k) - 1], z the states at the subset's lags: modified χ²."""
    parents = len(next(iter(kernel)))
    law = windows(kernel, S, max([parents, *subset]))
    joint: dict[tuple, sp.Expr] = {}
    for window, p in law.items():
        for k in range(S):
            z = tuple(window[lag - 1] for lag in subset)
            joint[z, k] = joint.get((z, k), 0) + p * kernel[window[:parents]][k]
    places = sorted({z for z, _ in joint})
    of_next = [sp.Add(*(joint[z, k] for z in places)) for k in range(S)]
    total = sp.S.Zero
    for z in places:
        of_z = sp.Add(*(joint[z, k] for k in range(S)))
        chi = sp.Add(*((joint[z, k] / of_z) ** 2 / of_next[k] for k in range(S))) - 1
        total += of_z**2 * chi
    return total


def two_state_chain() -> dict[tuple[int, ...], list[sp.Expr]]:
    """One parent, two states, any kernel."""
    alpha, beta = sp.symbols("alpha beta", positive=True)
    return {(0,): [1 - alpha, alpha], (1,): [beta, 1 - beta]}


def rational_chain(S: int, parents: int) -> dict[tuple[int, ...], list[sp.Expr]]:
    """A kernel of unlike rational numbers."""
    rows = {}
    for number, state in enumerate(itertools.product(range(S), repeat=parents)):
        raw = [sp.Integer(1 + (7 * number + 5 * k * k + 3 * number * k) % 11) for k in range(S)]
        rows[state] = [r / sp.Add(*raw) for r in raw]
    return rows


# ---------------------------------------------------------------- late times


@cache
def late_law() -> dict[str, sp.Expr]:
    """How a grows once the parents are selected by heads that copy one lag each.

    The query's parents have the probability m, the next state the law π given them and μ without:
    attention m·e^a on the match and the rest elsewhere gives
    o = (m π e^a + μ - m π)/(m e^a + 1 - m). For two states, in x = e^-a:

    Returns
    -------
    dict
        ``"ce"``: the loss's first-order coefficient in x, times m; ``"log"``: twice its second-
        order one, times m² (its first is 0: ``"log first"``). Then da/dt = -∂loss/∂a gives
        a = ln(G t), G = E_π Σ_q m(q)·(first order), and a = ln(2 G t)/2 with twice the second.
    """
    x, m, pi, mu = sp.symbols("x m pi mu", positive=True)
    law, base = (pi, 1 - pi), (mu, 1 - mu)
    o = [(m * l + x * (b - m * l)) / (m + x * (1 - m)) for l, b in zip(law, base, strict=True)]
    ce = sp.log(sp.exp(o[0]) + sp.exp(o[1])) - dot(law, o)
    log = -dot(law, map(sp.log, o))
    soft = [sp.exp(l) / (sp.exp(pi) + sp.exp(1 - pi)) for l in law]
    form = sp.Add(*((s - l) * (b - l) for s, l, b in zip(soft, law, base, strict=True)))
    chi = sp.Add(*((b - l) ** 2 / l for l, b in zip(law, base, strict=True)))
    first = sp.diff(ce, x).subs(x, 0) * m
    return {
        "ce": form,
        "log": chi,
        "ce - Σ_k (softmax(π)_k - π_k)(μ_k - π_k)": sp.simplify(first - form),
        "log first": sp.simplify(sp.diff(log, x).subs(x, 0)),
        "log second - Σ_k (μ_k - π_k)²/π_k": sp.simplify(
            sp.diff(log, x, 2).subs(x, 0) * m**2 - chi
        ),
    }
