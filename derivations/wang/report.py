"""What ``derive`` prints and typesets of `wang`: the derivation of the mixed target."""

import re
from collections.abc import Iterator

import sympy as sp

from derivations.core.report import Article, Check, Equation, Heading, Part, Report
from derivations.core.staged import N
from derivations.wang import derive, four_gram, overlap


def _text(expr: sp.Expr) -> str:
    """An expression in plain text, with the papers' names."""
    text = sp.sstr(expr).replace("**", "^").replace("c_4", "c4").replace("a_star", "a'")
    return re.sub(r"(?<=\w)\*(?=[\w(])|(?<=\))\*(?=[\w(])", "·", text)


def _checks(found: dict[str, sp.Expr]) -> Iterator[Check]:
    yield from (Check(name, residual) for name, residual in found.items())


def steps() -> Iterator[Heading | Check | str]:
    """The derivation, line by line."""
    yield "Tokens x_1 .. x_L, iid N(0, 1); N = L - 3 pairs; c4 = α*/(1 + α*), c = 1/(1 + α*),"
    yield "a' = (w*)^teacher_exponent; a = w_Q·w_K."
    yield "Loss ½E|f* - f|^2 = L_G4(p, g) + L_IH(w_Q, w_K, h)"

    yield Heading(
        "The 4-gram: L_G4 = ½[c4^2 - 2·c4·g·π_0 + g^2·Σ π_k^2], π_k = r^k/Σ_j r^j, r = e^(-p)"
    )
    first, second = four_gram.weights()
    yield f"    π_0 = {_text(first)}"
    yield f"    Σ π_k^2 = {_text(second)} = tanh(p/2)/tanh(N p/2)"
    yield "  the square expanded over explicit tokens and averaged, minus the closed form"
    for n in (2, 3, 4, 5):
        form = (four_gram.c4**2 - 2 * four_gram.c4 * four_gram.g * first) / 2
        form += four_gram.g**2 * second / 2
        yield Check(f"N = {n}", sp.simplify(four_gram.explicit_loss(n) - form.subs(N, n)))
    yield "  closed forms and their derivatives, for all N"
    yield from _checks(four_gram.closed_form_residuals())
    yield f"  for N|p| < 1 by series of {four_gram.TERMS} terms, for all N"
    yield from _checks(four_gram.series_residuals())
    yield from _checks(four_gram.small_residuals())

    yield Heading("The induction head: Q(a, b) = E[o_a o_b], keys x_i, values x_(i+1), i = 1 .. N")
    yield "    1/S = ∫ e^(-tS) dt turns the average given z = x_L into products over tokens of"
    yield "    A_k = E[x^k f], E_a = E[e^(azx) f], X_a = E[x e^(azx) f], E_ab = E[e^((a+b)zx) f]"
    yield Check("∫∫ e^(-t_a S_a - t_b S_b) - 1/(S_a S_b)", overlap.laplace_residual())
    yield Check("in t_a = tθ, t_b = t(1 - θ): Jacobian - t", overlap.polar_residual())
    yield "  how two pairs i, j share tokens: multiplicity × product"
    for name, count, example in overlap.classes():
        product = overlap.contribution(example)
        yield f"    {name:22} {_text(count):>18} × {_text(product)}"
    yield "  their sum for symbolic N, minus all pairs of pairs enumerated token by token"
    yield from _checks(overlap.combinatorial_residuals())

    yield Heading("To leading order in 1/N")
    leading = overlap.leading_order()
    yield f"    orders in 1/N of the classes above: {', '.join(map(str, leading['orders']))}"
    yield f"    N·E[o_a o_b | z] → {_text(leading['given z'])}"
    yield f"    N·Q(a, b) → {_text(leading['Q'])}, for 2ab < 1"
    yield "    L_IH needs it for 2a^2, 2a·a' and 2a'^2 < 1. At 2ab = 1 the average over z diverges:"
    yield "    there the largest key takes the softmax, Q is not O(1/N): the exact engine's range"
    x = sp.Symbol("x", real=True)
    slope = overlap.annealed(x).diff(x)
    yield Check(
        "annealed' minus its rule",
        sp.simplify(sp.diff(overlap.annealed.form(), x) - derive.closed(slope)),
    )

    yield Heading(
        "The exact engine's loss: Q tabulated in y = asinh(a/stretch), without cancellation"
    )
    yield "    L_IH = ½[(c-h)^2·Q* - (c-h)·h·(y-y*)·D(y) + c·h·(y-y*)^2·W(y)]"
    yield "    D = (Q(a,a) - Q*)/(y - y*), W = E(o_a - o_*)^2/(y - y*)^2"
    yield Check("minus ½[c^2 Q* - 2ch Q(a, a') + h^2 Q(a, a)]", derive.deflation_residual())

    yield Heading("Finite p1: key y_s of variance V and covariance C with x_(s-1), of s - 1 terms")
    yield f"    log E[e^(azy + bzx) | z] = {_text(derive.key_overlap())}"
    yield "    values later than both keys are free, so pairs s ≠ t vanish at this order:"
    for length in (6, 9):
        yield Check(f"L = {length}: later values seen", derive.later_value_is_free(length))
    yield from _checks(derive.finite_p1_limits())
    law = derive.stage1_law()
    yield f"    Stage I, L → ∞: dp1/dt → K·e^(-p1), K = {_text(law['K'])}"
    yield f"    for small a, a': K = {_text(law['leading'])};  p1 = {_text(law['p1'])}"

    yield Heading("What Stage II does")
    yield Check("d/dt (w_Q^2 - w_K^2), any loss of w_Q·w_K", derive.balance_residual())
    drop = derive.early_drop()
    yield f"    first h moves, at w = 0: h = {_text(drop['h'])}"
    yield f"    and L_IH falls to {_text(drop['part'])} of its start before the plateau:"
    part = drop["part"].subs(derive.a_star, sp.Rational(2401, 10000))
    yield f"    {sp.N(part, 4)} at w* = 0.49"
    saddle = derive.saddle()
    yield f"    saddle w = 0, h = {_text(saddle['h'])}: L_sad = {_text(saddle['loss'])}"
    yield f"    unstable rate {_text(saddle['rate'])}; h relaxes at {_text(-saddle['relaxation'])}"
    yield "    so the escape takes log(1/σ)·N·(1 + α*)^2/a': each factor L, (1+α*)^2, 1/a', log 1/σ"
    yield "    (exact engine: h = c·N·Q(0, a'), close to c; L_sad is the least loss at w = 0)"
    late = derive.late_rates()
    yield "  at the minimum w_Q = w_K = √a', h = c"
    yield Check("gradient", late["gradient"])
    yield Check("Hessian along w_Q - w_K (balance)", late["flat"])
    yield f"    the other two rates: sum {_text(late['trace'])}"
    yield f"    product {_text(late['determinant'])}"
    four = four_gram.late_law()
    yield f"  4-gram, late: g on {_text(four['manifold'])}, L_G4 = {_text(four['loss'])}"
    yield f"    dp/dt = {_text(four['speed'])}, p = {_text(four['p'])}, t·L_G4 → {four['limit']}"
    speed = four["speed"].subs(four_gram.r, sp.exp(-four["p"]))
    drift = sp.diff(four["p"], sp.Symbol("t", positive=True)) - speed
    yield Check("dp/dt along that solution", sp.simplify(drift))


# ---------------------------------------------------------------- LaTeX

_NAMES = {
    derive.alpha_star: r"\alpha^*",
    derive.w_star: "w^*",
    derive.a_star: "a^*",
    derive.Q_star: "Q^*",
    derive.p1: "p_1",
}


def _tex(expr: sp.Expr) -> str:
    return sp.latex(expr, symbol_names=_NAMES)


def _equation(name: str, text: str, *rows: tuple[str, sp.Expr]) -> Equation:
    lines = " \\\\\n".join(f"{left} &= {_tex(right)}" for left, right in rows)
    return Equation(name, text, f"\\begin{{aligned}}\n{lines}\n\\end{{aligned}}")


def article() -> Article:
    """The two components and what the flow does."""
    first, second = four_gram.weights()
    slope_g, slope_p = (derive.closed(four_gram.loss_g4().diff(s)) for s in (derive.g, derive.p))
    by = r"\partial L_{\mathrm{G4}}/\partial "
    loss = r"L_{\mathrm{G4}} = \tfrac12\left[c_4^2 - 2 c_4 g \pi_0 + g^2 \textstyle\sum_k \pi_k^2"
    shares = ("\\pi_0", first), (r"\textstyle\sum_k \pi_k^2", second)
    g4 = [
        _equation("weights", "the weights of the head", *shares),
        Equation("L_G4", "the loss", loss + r"\right]"),
        _equation(
            "slopes", "its gradient, in closed form", (by + "g", slope_g), (by + "p", slope_p)
        ),
    ]
    loss = r"L_{\mathrm{IH}} = \tfrac12\left[c^2 Q(a^*, a^*) - 2 c h\, Q(a, a^*) + h^2 Q(a, a)"
    exact = r"Q(a, b) = \mathrm{E}_z \int_0^\infty\!\!\int_0^\infty I \, dt_a\, dt_b, \qquad f ="
    terms = " \\\\\n& + ".join(map(_tex, sp.Add.make_args(overlap.integrand())))
    integrand = f"\\begin{{aligned}}\nI =\\ & {terms}\n\\end{{aligned}}"
    leading = rf"N Q(a, b) \to {_tex(overlap.leading_order()['Q'])}, \ 2ab < 1"
    induction = [
        Equation("L_IH", "the loss", loss + r"\right], \qquad a = w_Q w_K"),
        Equation("Q", "the overlap, exactly", exact + r" e^{-t_a e^{azx} - t_b e^{bzx}}"),
        Equation("integrand", "its integrand", integrand),
        Equation("asymptotic", "leading order", leading),
    ]
    saddle, late = derive.saddle(), derive.late_rates()
    drop, law, four = derive.early_drop(), derive.stage1_law(), four_gram.late_law()
    left = (r"L_{\mathrm{IH}}(\infty)/L_{\mathrm{IH}}(0)", drop["part"])
    at = ("h", saddle["h"]), (r"L_{\mathrm{sad}}", saddle["loss"]), (r"\lambda", saddle["rate"])
    rates = (r"\mu_1 + \mu_2", late["trace"]), (r"\mu_1 \mu_2", late["determinant"])
    end = ("p", four["p"]), (r"\lim_{t \to \infty} t L_{\mathrm{G4}}", four["limit"])
    laws = [
        Equation("balance", "first integral", r"w_Q^2 - w_K^2 = \mathrm{const}"),
        _equation("early drop", "while $w = 0$", ("h", drop["h"]), left),
        _equation("saddle", "the saddle $w = 0$, its loss and unstable rate", *at),
        _equation("late rates", "sum and product of the rates at the minimum", *rates),
        _equation("late p", "the 4-gram at late times", *end),
        _equation("stage 1", "late Stage I", ("K", law["K"]), ("p_1", law["p1"])),
    ]
    averages = r"$A_k = \mathrm{E}[x^k f]$, $E_a = \mathrm{E}[e^{azx} f]$,"
    averages += r" $X_a = \mathrm{E}[x e^{azx} f]$, $E_{ab} = \mathrm{E}[e^{(a+b)zx} f]$."
    introduction = (
        r"Wang et al., arXiv 2410.11474. Tokens $x_1, \dots, x_L$ are iid $N(0, 1)$, $N = L - 3$,"
        r" $c_4 = \alpha^*/(1 + \alpha^*)$, $c = 1/(1 + \alpha^*)$, $r = e^{-p}$, $z = x_L$."
    )
    parts = [
        Part("The 4-gram component", "", g4),
        Part("The induction component", averages, induction),
        Part("What the flow does", "Stage II with the asymptotic overlaps.", laws),
    ]
    return Article("The mixed target: a 4-gram and an in-context 2-gram", introduction, parts)


WANG = Report("wang: a 4-gram and an in-context 2-gram, mixed (arXiv 2410.11474)", steps, article)
