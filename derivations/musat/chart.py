"""A chart for the solver on `musat3`: γ measured from where the attention has formed it.

With A the attention on the right label, B = 1 − A and M = 2N − 1 wrong keys, the loss is
½[(1 − γA)² + γ²B²/M]. Once the head has formed, γA is 1 to within B/M, and what moves the
coordinates is the rounding of 1 − γA. In

    v = γ − h,   h = A / (A² + q),   q = B²/M + f

it is q/(A² + q) − vA, without a cancellation where f ≪ B²/M. With f = 0, v is γ's distance from
its slow manifold; but h is then √M/2 at A = M^(−1/2), through which γ does not follow, and γ loses
digits there. f = exp(−A/a) with a = 1/200 keeps h below about 20 there and is gone where the head
has formed, at A = 1/γ, which is about (2 ln M)^(−1/2).
"""

from functools import cache

import sympy as sp

from derivations.core.derivation import Chart
from derivations.core.staged import N, Scalar, Softmax, defined
from derivations.musat.head import alpha, beta, gamma, query_last

#: 1/a, the rate at which f falls with A.
SHARPNESS = 200

v = sp.Symbol("v", real=True)
A, B, w, x, f = sp.symbols("A B w x f", real=True)  # the attentions, B = 1 − A, x = 1 − w, and f
wrong = 2 * N - 1
#: A² + B²/M, A² + q and h.
_P = A**2 + B**2 / wrong
_D = _P + f
_h = A / _D


def along(expr: sp.Expr) -> dict[sp.Symbol, sp.Expr]:
    """Derivatives by α and β of an expression in the attentions, by the rule of a softmax.

    dA/ds = AB = −dB/ds with the score s = βw, and dw/dα = wx = −dx/dα.
    """
    by_w = (sp.diff(expr, w) - sp.diff(expr, x)) * w * x
    by_score = A * B * (sp.diff(expr, A) - sp.diff(expr, B) - SHARPNESS * f * sp.diff(expr, f))
    return {alpha: sp.diff(expr, alpha) + by_w + by_score * beta * w * x,
            beta: sp.diff(expr, beta) + by_score * w}  # fmt: skip


def exactly(expr: sp.Expr) -> sp.Expr:
    """An expression in the attentions in its normal form: 0 if and only if it vanishes."""
    return sp.cancel(sp.together(expr.subs({B: 1 - A, x: 1 - w})))


@cache
def weights() -> tuple[sp.Symbol, sp.Symbol, sp.Symbol, sp.Symbol]:
    """The weights of the staged program: the right key's and another's, layer 1 and layer 2."""
    first, second = (s for s in query_last().stages if isinstance(s, Softmax))
    own, other = sorted(first.classes, key=lambda c: c.multiplicity != 1)
    right, rest = sorted(second.classes, key=lambda c: c.multiplicity != 1)
    if (rest.multiplicity, other.multiplicity) != (wrong, wrong - 1):
        raise ArithmeticError("the softmaxes of musat3 are not of two classes any more")
    return own.name, other.name, right.name, rest.name


@cache
def attention_loss() -> sp.Expr:
    """The loss in A, B and γ, from the staged program."""
    _, _, right, rest = weights()
    loss = query_last().outputs["loss"]
    for stage in reversed(query_last().stages):
        if isinstance(stage, Scalar):
            loss = loss.subs(stage.name, stage.expr)
    return loss.subs({right: A, rest: B / wrong})


@cache
def flow() -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """dα/dt, dβ/dt, dv/dt in α, β, v and the attentions, arranged so that nothing cancels."""
    g = _h + v
    error = (B**2 / wrong + f) / _D - v * A  # 1 − γA
    pull = g * (error + g * B / wrong) * A * B  # −∂loss/∂s
    slope = _h * B * (f - A**2 + B**2 / wrong + 2 * A * B / wrong + SHARPNESS * f * A) / _D  # dh/ds
    speed = pull * (w**2 + (beta * w * x) ** 2)  # ds/dt
    return pull * beta * w * x, pull * w, _h * f - v * _P - slope * speed


@cache
def checks() -> dict[str, sp.Expr]:
    """Residuals of the chart: its flow less that of the loss, by the chain rule; exactly 0."""
    loss = attention_loss()
    in_chart = {gamma: _h + v}
    rates = {c: -e.subs(in_chart) for c, e in along(loss).items()}
    rates[gamma] = -sp.diff(loss, gamma).subs(in_chart)
    turned = along(_h)
    rates[v] = rates.pop(gamma) - sum(turned[c] * rates[c] for c in (alpha, beta))
    found = dict(zip((alpha, beta, v), flow(), strict=True))
    return {f"d{c}/dt": exactly(found[c] - rates[c]) for c in found}


@cache
def chart() -> Chart:
    """The chart, to be printed as code.

    Raises
    ------
    ArithmeticError
        If its flow is not that of the loss.
    """
    if any(checks().values()):
        raise ArithmeticError(f"the chart's flow is not that of musat3: {checks()}")
    own, other, right, rest = weights()
    needed = {own, other, right, rest}
    stages = [s for s in query_last().stages if isinstance(s, Softmax)]
    scores = set().union(*(c.score.free_symbols for s in stages for c in s.classes)) - needed
    stages = [s for s in query_last().stages if isinstance(s, Softmax) or {*defined(s)} & scores]
    stages += [Scalar(w, own), Scalar(x, (wrong - 1) * other)]
    stages += [Scalar(A, right), Scalar(B, wrong * rest), Scalar(f, sp.exp(-SHARPNESS * A))]
    slopes = [{**along(rate), v: sp.diff(rate, v)} for rate in flow()]
    return Chart(
        coordinates=(alpha, beta, v),
        stages=tuple(stages),
        rate=flow(),
        jacobian=tuple(row[c] for row in slopes for c in (alpha, beta, v)),
        inward=(alpha, beta, gamma - _h),
        outward=(alpha, beta, v + _h),
    )
