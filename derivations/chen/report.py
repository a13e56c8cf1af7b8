"""What ``derive`` prints and typesets of `chen`: the derivation on Markov chains."""

import random
import re
from collections.abc import Iterator, Mapping

import sympy as sp
from sympy.printing.latex import LatexPrinter

from derivations.chen import derive, limits
from derivations.chen.selector import label, subsets
from derivations.core.latex import WIDE, displayed, glyphs, rows
from derivations.core.report import Article, Check, Equation, Heading, Part, Report
from derivations.core.residuals import DIGITS, WORKING, numbers, slope_residual, to_digits
from derivations.core.windows import Constant, Exponential, Stage, Windows, cell, gradient, unroll

#: The recorded run's sizes.
SIZES = {"S": 3, "n": 3, "H": 3, "degree": 2}
#: A size at which the stages are held against the model written out.
SMALL = {"S": 2, "n": 2, "H": 2, "degree": 2}
#: What is added to probabilities there.
EPSILON = sp.Float("1e-8", WORKING)


# ---------------------------------------------------------------- stages as text


def _text(expr: sp.Expr) -> str:
    text = sp.sstr(expr).replace("**", "^").replace("*", "·").replace("1/10000000", "10^-7")
    return re.sub(r"\[([^\]]*)\]", lambda m: f"[{m[1].replace(', ', ',')}]", text)


def _line(stage: Stage) -> str:
    over = f"Σ_{{{','.join(stage.over)}}} " if stage.over else ""
    expr = _text(stage.expr)
    if isinstance(stage, Exponential):
        weight = "" if stage.weight == 1 else f"{_text(stage.weight)}·"
        expr = f"{weight}exp({expr})"
    elif over and stage.expr.is_Add:
        expr = f"({expr})"
    return f"    {_text(stage.cell)} = {over}{expr}"


def _shown(program: Windows) -> Iterator[Stage]:
    """The stages but for the softmaxes over coordinates, which are alike."""
    return (s for s in program.stages if s.indices or s.over)


def _set(subset: tuple[int, ...]) -> str:
    return f"{{{','.join(map(str, subset))}}}"


# ---------------------------------------------------------------- checks


def _enumerated(kernel: Mapping, S: int, n: int, H: int, limit: str):
    """The tables of every query of one kernel, each weighed by its probability."""
    length = derive.window_length(H)
    law = limits.windows(kernel, S, length)
    tables = {name: {} for name in derive.data(n, H, limit)}
    for b, query in enumerate(law):
        tables["share"][b,] = law[query]
        for k in range(S):
            tables["y"][k, b] = kernel[query[: n - 1]][k]
            for lag in range(1, length + 1):
                tables[f"m{lag}"][k, b] = sp.Integer(query[lag - 1] == k)
        for window, p in law.items():
            parents = window[: n - 1]
            if limit == "infinite":
                tables["rho"][*window, b] = p
                tables["pi"] |= {(*parents, k, b): kernel[parents][k] for k in range(S)}
            else:
                tables["F"] |= {(*window, k, b): p * kernel[parents][k] for k in range(S)}
    return tables, len(law)


def _explicit(kernel: Mapping, point: Mapping, loss: str) -> sp.Expr:
    """The loss by `limits.explicit_loss` at these coordinates."""
    S, H, degree = SMALL["S"], SMALL["H"], SMALL["degree"]
    squares = {s: sp.exp(point[c]) for s, c in derive.selector(H, degree).items()}
    p = {s: v / sp.Add(*squares.values()) for s, v in squares.items()}
    logits = {k: sp.exp(point[w]) for k, w in derive.copier(H).items()}
    w = {(h, j): v / sp.Add(*(logits[h, i] for i in range(H))) for (h, j), v in logits.items()}
    a = point[derive.a]
    return limits.explicit_loss(kernel, S, H, p, w, a, loss, EPSILON, derive.NORM_EPSILON)


def against_the_model(limit: str, loss: str, seed: int = 0) -> tuple[sp.Expr, sp.Expr]:
    """Staged loss minus the model's, and staged slope along a random line minus differences of it.

    0 if they agree to `DIGITS` digits.
    """
    draw = random.Random(seed)
    program = derive.program(**SMALL, limit=limit, loss=loss)
    kernel = {
        state: [sp.N(v, WORKING) for v in row]
        for state, row in limits.rational_chain(SMALL["S"], SMALL["n"] - 1).items()
    }
    tables, samples = _enumerated(kernel, SMALL["S"], SMALL["n"], SMALL["H"], limit)
    point = numbers(program.coordinates, draw)
    given = {**point, derive.epsilon: EPSILON}
    found = unroll(gradient(program), tables, given, samples)
    slopes = {c: found[f"d_{c}"] for c in point}

    def explicit(at):
        return _explicit(kernel, at, loss)

    value = to_digits(found["loss"] - explicit(point))
    return value, slope_residual(explicit, slopes, point, draw)


def steps() -> Iterator[Heading | Check | str]:
    """The derivation, line by line."""
    yield "Head h copies from the lags h .. h+H-1 with softmax W_h and normalises; p_s = c_s²/Σ c²;"
    yield "κ(i) = Σ_s p_s Π_{h∈s} <v_h(query), v_h(i)>; A ∝ exp(a κ); output o = Σ A_i e_x"

    yield Heading(
        "The population loss, as sums over the states c1, c2, … at lags 1, 2, … of a window"
    )
    yield "  S = 3, n = 3, H = 3, degree 2, L → ∞; w and p are softmaxes of W and of log c²"
    program = derive.program(**SIZES)
    yield from map(_line, _shown(program))
    finite = derive.program(**SIZES, limit="finite")
    known = {s.name: s for s in program.stages}
    yield "  limit=finite: F is the law of windows and next states in L positions"
    yield from (_line(s) for s in _shown(finite) if known.get(s.name) != s)
    log = derive.program(**SIZES, loss="log")
    yield "  loss=log"
    yield from (_line(s) for s in log.stages if known.get(s.name) != s)

    yield Heading("The gradient, stage by stage backwards")
    for limit in ("infinite", "finite"):
        found = derive.program(**SIZES, limit=limit)
        forward, both = len(found.stages), len(gradient(found).stages)
        yield f"  limit={limit}: {forward} stages forward, {both - forward} backward"
    constants = sum(isinstance(s, Constant) for s in program.stages)
    yield f"  {constants} of them shift softmaxes, which do not depend on the shift"
    yield f"  against the model written out, S = 2, n = 2, H = 2, all queries, {DIGITS} digits"
    for limit in ("infinite", "finite"):
        for loss in ("ce", "log"):
            value, slope = against_the_model(limit, loss)
            yield Check(f"limit={limit}, loss={loss}: loss", value)
            yield Check(f"limit={limit}, loss={loss}: slope along a random line", slope)

    yield Heading("The selector: l = log c² moves as dl/dt = -4 exp(-l) ∂loss/∂l")
    for name, residual in limits.conservation().items():
        yield Check(name, residual)
    yield "  a step of descent: l ← l + log(1 - 2 η exp(-l) ∂loss/∂l)², so |c|² ← |c|² + |ηg|²"
    yield f"  l below {derive.DEEPEST} counts as that in p and in exp(-l) alike: no subset freezes"

    yield Heading(
        "Small a: loss = loss(0) - a Σ_s p_s J_s + …, dp_s/dt = (4a/Σ c²) p_s (J_s - Σ p J)"
    )
    yield "  with heads that copy one lag each, loss=log and eps → 0, J_s is the modified χ² mutual"
    yield "  information Σ_z μ(z)² [Σ_k μ(k|z)²/μ(k) - 1] of the states z at the lags in s"
    chain = limits.two_state_chain()
    yield "  two states, one parent, any kernel (1-α, α; β, 1-β):"
    for subset, j in limits.first_order(chain, 2, 2, 2).items():
        found = limits.information(chain, 2, subset)
        yield f"    J_{_set(subset)} = {_text(sp.factor(found))}"
        yield Check("from the loss, minus the information", sp.cancel(sp.together(j - found)))
    chain = limits.rational_chain(2, 2)
    yield "  two states, two parents, H = 3, a kernel of rational numbers:"
    for subset, j in limits.first_order(chain, 2, 3, 2).items():
        found = limits.information(chain, 2, subset)
        yield Check(f"{_set(subset)}: {sp.N(found, 8)}", j - found)

    yield Heading(
        "Late times: the parents z selected, m = μ(z), π the next state's law, x = exp(-a)"
    )
    yield "  o = (m π + x(μ - m π))/(m + x(1 - m)); to leading order in x"
    law = limits.late_law()
    yield "  loss=ce: first order, d loss/da = -G exp(-a), so a = ln t + ln G,"
    yield "    G = E_π Σ_z Σ_k (softmax(π)_k - π_k)(μ_k - π_k)"
    yield Check("two states", law["ce - Σ_k (softmax(π)_k - π_k)(μ_k - π_k)"])
    yield "  loss=log: no first order, d loss/da = -G exp(-2a), so a = (ln t + ln 2G)/2,"
    yield "    G = E_π Σ_z (1/m) Σ_k (μ_k - π_k)²/π_k"
    yield Check("first order, two states", law["log first"])
    yield Check("second order, two states", law["log second - Σ_k (μ_k - π_k)²/π_k"])


# ---------------------------------------------------------------- LaTeX


class _Tex(LatexPrinter):
    """SymPy's LaTeX with the cells of a program."""

    def _print_Symbol(self, expr):
        name, places = cell(expr)
        return _tex_name(name) + (_tex_places(places) if places else "")


_HEADS = {
    "bar": r"\bar{%s}",
    "exp": r"e^{%s}",
    "top": r"\max %s",
    "sum": r"\textstyle\sum %s",
    "lift": r"\mathrm{lift}\,%s",
}


def _tex_name(name: str) -> str:
    head, _, rest = name.partition("_")
    if re.fullmatch(r"d\d+", head) and rest:
        return rf"\partial^{{({head[1:]})}}{_tex_name(rest)}"
    if head in _HEADS and rest:
        return _HEADS[head] % _tex_name(rest)
    if head == "c":
        return rf"\ell_{{{_tex_subset(rest)}}}"
    if head == "p":
        return f"p_{{{_tex_subset(rest)}}}"
    if head in "wW" and rest:
        return f"{head}_{{{rest.replace('_', ',')}}}"
    letters, digits = re.fullmatch(r"([A-Za-z]+)(\d*)", head).groups()
    greek = {"loss": r"\mathcal{L}", "rho": r"\rho", "pi": r"\pi", "eps": r"\varepsilon"}
    word = greek.get(letters, letters if len(letters) == 1 else rf"\mathrm{{{letters}}}")
    return f"{word}_{{{digits}}}" if digits else word


def _tex_subset(text: str) -> str:
    return {"empty": r"\emptyset", "": ""}.get(text, text)


def _tex_places(places: tuple[str, ...]) -> str:
    shown = (re.sub(r"(?<=c)(\d+)", r"_{\1}", place) for place in places)
    return f"({','.join(shown)})"


def _equation(stage: Stage) -> Equation:
    printer = _Tex()
    left = printer.doprint(stage.cell)
    over = rf"\sum_{{{_tex_places(stage.over)[1:-1]}}} " if stage.over else ""
    # Sums under a root, which stand in it twice, are named.
    roots = {p.base for p in stage.expr.atoms(sp.Pow) if p.base.is_Add and p.exp.q == 2}
    names = {base: sp.Symbol(f"R{k or ''}") for k, base in enumerate(sorted(roots, key=str))}
    expr = stage.expr.xreplace(names)
    body = displayed(printer, expr)
    if isinstance(stage, Exponential):
        weight = "" if stage.weight == 1 else printer.doprint(stage.weight)
        body = rf"{weight} \exp\left({body}\right)"
    elif over and expr.is_Add:
        body = rf"\left({body}\right)".replace("{aligned}[t]", "{aligned}")
    lines = [f"{left} = {over}{body}"]
    if glyphs(lines[0]) > WIDE and "aligned" not in body:
        lines = [f"{left} = {over}", rf"\quad {body}"]
    lines += [f"{name} = {displayed(printer, base)}" for base, name in names.items()]
    tex = lines[0] if len(lines) == 1 else rows(lines)
    return Equation(stage.name, stage.name.replace("_", r"\_"), tex)


def article() -> Article:
    """The loss on three states, its gradient, and what follows from them."""
    forward = derive.program(**SIZES)
    backward = gradient(forward).stages[len(forward.stages) :]
    tex = LatexPrinter().doprint
    slope = r"\,\partial\mathcal L/\partial\ell_s"
    step = r"\ell_s \leftarrow \ell_s + \log\left(1 - 2\eta e^{-\ell_s}" + slope + r"\right)^2"
    selector = [
        Equation("flow", "the flow", r"\dot\ell_s = -4 e^{-\ell_s}" + slope),
        Equation("step", "a step of gradient descent with rate $\\eta$", step),
        Equation("square", "what a step adds", r"|c|^2 \leftarrow |c|^2 + |\eta g|^2"),
    ]
    first = (
        r"\mathcal L = \mathcal L_0 - a\sum_s p_s J_s,\qquad"
        r"\dot p_s = \frac{4a}{\sum c^2}\,p_s\Big(J_s - \sum_{s'} p_{s'} J_{s'}\Big)"
    )
    chi = r"J_s = \mathrm E_\pi \sum_z \mu(z)^2\Big[\sum_k \frac{\mu(k|z)^2}{\mu(k)} - 1\Big]"
    small = [
        Equation("J", "to first order in $a$", first),
        Equation("information", "modified $\\chi^2$ mutual information", chi),
    ]
    for s in subsets(2, 2)[1:]:
        found = tex(sp.factor(limits.information(limits.two_state_chain(), 2, s)))
        told = "for two states and one parent"
        small.append(Equation(f"J{label(s)}", told, f"J_{_set(s)} = {found}"))
    ce = (
        r"a = \ln t + \ln \mathrm E_\pi \sum_z\sum_k"
        r"\big(\mathrm{softmax}(\pi)_k - \pi_k\big)\big(\mu_k - \pi_k\big)"
    )
    log = (
        r"a = \tfrac12\ln t + \tfrac12\ln\Big(2\,\mathrm E_\pi \sum_z \frac1{\mu(z)}\sum_k"
        r"\frac{(\mu_k - \pi_k)^2}{\pi_k}\Big)"
    )
    late = [Equation("ce", "cross-entropy", ce), Equation("log", "log loss", log)]
    introduction = (
        "Chen, Sheen, Wang, Yang, arXiv 2409.10559. Three states, two parents, three heads, subsets"
        " of at most two. $c_1, c_2, \\dots$ are the states at lags $1, 2, \\dots$, $k$ the next"
        " state, $s$ any state, $b$ a sample of the bank: a kernel with a query. The tag of an"
        " equation is the name of the stage in the program; $\\ell$ is $\\log c^2$ of a subset."
    )
    parts = [
        Part("The population loss", "", [*map(_equation, forward.stages)]),
        Part("Its gradient", "A bar is the derivative of the loss.", [*map(_equation, backward)]),
        Part("The selector", "", selector),
        Part("Small $a$", "Heads that copy one lag each; $\\varepsilon \\to 0$.", small),
        Part("Late times", "The parents selected.", late),
    ]
    title = "Copier, selector and classifier on $n$-gram Markov chains"
    return Article(title, introduction, parts)


_TITLE = "chen: copier, selector and classifier on n-gram Markov chains (arXiv 2409.10559)"
CHEN = Report(_TITLE, steps, article)
