"""`wang`: losses, flows and laws of the two-layer transformer on the mixed target.

Six scalars: p1 (layer 1's relative positional encoding), p (that of the 4-gram head), g, w_Q, w_K,
h. The target's components and the model's outputs are orthogonal, so the loss splits,

    L = L_G4(p, g) + L_IH(p1, w_Q, w_K, h),
    L_IH = ½ [c² Q(a*, a*) − 2 c h Q(a, a*) + h² Q(a, a)],  a = w_Q w_K, a* = (w*)^teacher_exponent,

with L_G4 from `four_gram` and Q from `overlap`. Stage II has p1 = ∞, where
layer 1 copies the previous token; with finite p1 the student's keys are averages of earlier tokens.

Source: Wang et al., arXiv 2410.11474 (model, target, stages); the equations are derived here.
"""

from functools import cache

import sympy as sp

from derivations.core.derivation import Derivation
from derivations.core.named import Tabulated, closed
from derivations.core.staged import N, Program, Region, Scalar, Sum, i
from derivations.wang.four_gram import c4, collision, from_zero, g, loss_g4, p, share
from derivations.wang.overlap import annealed, gaussian, z

p1, w_Q, w_K, h = sp.symbols("p1 w_Q w_K h", real=True)
alpha_star, w_star = sp.symbols("alpha_star w_star", nonnegative=True)
teacher_exponent = sp.Symbol("teacher_exponent", positive=True)
#: The exact Q(a*, a*) and the scale of the tables' variable y = asinh(a/stretch), given with them.
Q_star, stretch = sp.symbols("Q_star stretch", positive=True)

#: Names of stages: c = 1/(1 + α*), a* and a = w_Q w_K.
c, a_star = sp.symbols("c a_star", positive=True)
a = sp.Symbol("a", real=True)

STAGE2 = (p, g, w_Q, w_K, h)
JOINT = (p1, *STAGE2)
OBSERVABLES = ("L_G4", "L_IH", "L_IH_over_L_sad")
ENGINES, TRAININGS = ("asymptotic", "exact"), ("stage1", "stage2", "joint")


def induction_loss(own: sp.Expr, cross: sp.Expr, target: sp.Expr) -> sp.Expr:
    """L_IH from Q(a, a), Q(a, a*) and Q(a*, a*): ½ E(c o_* − h o_a)², expanded."""
    return (c**2 * target - 2 * c * h * cross + h**2 * own) / 2


# ---------------------------------------------------------------- the exact engine's form

y = sp.Symbol("y", real=True)


def table_place(product: sp.Expr) -> sp.Expr:
    """The tables' variable y for given w_Q w_K."""
    return sp.asinh(product / stretch)


def deflated_loss(slope: sp.Expr, curve: sp.Expr) -> sp.Expr:
    """L_IH without cancellation at its minimum, h = c and y = y*.

    `slope` is (Q(a, a) − Q*)/(y − y*) and `curve` is E(o_a − o_*)²/(y − y*)², both smooth in y.
    """
    away, short = y - table_place(a_star), c - h
    return (short**2 * Q_star - short * h * away * slope + c * h * away**2 * curve) / 2


def deflation_residual() -> sp.Expr:
    """`deflated_loss` minus `induction_loss`, with slope and curve in terms of Q."""
    own, cross = sp.symbols("Q_aa Q_ab", real=True)
    away = y - table_place(a_star)
    slope, curve = (own - Q_star) / away, (Q_star - 2 * cross + own) / away**2
    return sp.simplify(deflated_loss(slope, curve) - induction_loss(own, cross, Q_star))


# ---------------------------------------------------------------- finite p1


def key_overlap() -> sp.Expr:
    """log E[e^{az y + bz x} | z] for the key y and the previous token x, with variance V of y and
    covariance C: y = C x + √(V − C²) ξ with independent x, ξ."""
    v, cov, b = sp.symbols("V C b", real=True)
    rest = sp.sqrt(v - cov**2)
    joint = gaussian(0, (a * cov + b) * z) * gaussian(0, a * z * rest)
    return sp.expand(sp.expand_log(sp.log(joint), force=True))


def later_value_is_free(length: int) -> sp.Expr:
    """How many pairs s ≠ t have their later value in a key of either; 0 proves that they vanish.

    y_s = Σ_{τ<s} ρ_τ x_τ and the target's key x_{t−1} see earlier tokens only, so E[x_s x_t ...]
    holds the later of the two values once, and is 0 where the normalisers are replaced by means.
    """
    seen = 0
    for s in range(2, length - 1):
        for t in range(2, length - 1):
            keys = {*range(1, s), *range(1, t), t - 1}
            seen += s != t and max(s, t) in keys
    return sp.Integer(seen)


def finite_p1_stages() -> tuple[tuple[Sum | Scalar, ...], sp.Expr, sp.Expr]:
    """Stages over the N pairs and, in their names, Q(a, a) and Q(a, a*) for finite p1.

    The key of pair i averages i tokens: variance V_i = Σ π² and covariance C_i = π_0 with the
    previous token, from `collision` and `share` of i terms. To leading order in 1/N,

        E[o o | z] = Σ_i e^{2a²z²V_i} / (Σ_i e^{a²z²V_i/2})²

    and alike for Q(a, a*); the normaliser is taken at the mean variance V̄, which is exact to second
    order in a²z²(V_i − V̄), and both averages over z are `annealed`.
    """
    each, mean = collision(p1, i), sp.Symbol("V_mean", real=True)
    previous = share(p1, i)
    v, cov, b = sp.symbols("V C b", real=True)

    def excess(exponent, normalisers):
        """E_z e^{kz²} = annealed(2k), k from the exponent of the sum and of the normalisers."""
        found = sp.expand(2 * (sp.expand_log(exponent, force=True) - normalisers) / z**2)
        return found.subs({v: each, cov: previous, b: a_star})

    both = key_overlap()
    own = sp.log(gaussian(0, 2 * a * z * sp.sqrt(v)))  # the same key twice
    norm = (a * z) ** 2 / 2 * mean
    own_terms = annealed(excess(own, 2 * norm)) / N**2
    cross_terms = annealed(excess(both, norm + (b * z) ** 2 / 2)) / N**2
    names = sp.Symbol("Q_own", real=True), sp.Symbol("Q_cross", real=True)
    stages = (
        Sum(mean, {"pair": each / N}),
        Sum(names[0], {"pair": own_terms}),
        Sum(names[1], {"pair": cross_terms}),
    )
    return stages, *names


def finite_p1_limits() -> dict[str, sp.Expr]:
    """Residuals of the finite-p1 form against p1 = ∞ (V = C = 1), and its value at a = 0."""
    v, cov, b = sp.symbols("V C b", real=True)
    both = key_overlap()
    norm = z**2 * (a**2 + b**2) / 2
    return {
        "exponent at V = C = 1 − ab z²": sp.expand(both.subs({v: 1, cov: 1}) - norm - a * b * z**2),
        "exponent at a = 0": sp.expand(both.subs(a, 0) - z**2 * b**2 / 2),
        "exponent of a key with itself": sp.expand(
            both.subs({cov: 1, v: 1, b: a})
            - sp.expand_log(sp.log(gaussian(0, 2 * a * z)), force=True)
        ),
    }


# ---------------------------------------------------------------- programs


def program(engine: str, training: str) -> Program:
    """The loss and its parts as a staged program; coordinates `STAGE2` or `JOINT`."""
    finite = training != "stage2"
    stages = [
        Scalar(c, 1 / (1 + alpha_star)),
        Scalar(c4, alpha_star * c),
        Scalar(a_star, w_star**teacher_exponent),
        Scalar(a, w_Q * w_K),
    ]
    table = (Q_star, stretch) if engine == "exact" else ()
    target = annealed(2 * a_star**2) / N
    plateau = saddle_loss(induction_loss(1 / N, 1 / N, target))
    if engine == "exact":
        stages.append(Scalar(y, table_place(a)))
        induction = deflated_loss(Tabulated(0, 0, y), Tabulated(1, 0, y))
        plateau = saddle_loss(induction.subs(y, 0))
    elif finite:
        sums, own, cross = finite_p1_stages()
        stages += sums
        induction = induction_loss(own, cross, target)
    else:
        own, cross = annealed(2 * a**2) / N, annealed(2 * a * a_star) / N
        induction = induction_loss(own, cross, target)
    names = sp.symbols("L_G4 L_IH L_sad", real=True)
    exprs = (loss_g4(), induction, plateau)
    stages += [Scalar(name, expr) for name, expr in zip(names, exprs, strict=True)]
    four_gram, induction, saddle = names
    return Program(
        coordinates=JOINT if finite else STAGE2,
        parameters=(N, alpha_star, w_star, teacher_exponent, *table),
        regions=(Region("pair", sp.S.One, N),) if finite else (),
        stages=tuple(stages),
        outputs={
            "loss": four_gram + induction,
            "L_G4": four_gram,
            "L_IH": induction,
            "L_IH_over_L_sad": induction / saddle,
        },
    )


def saddle_loss(still: sp.Expr) -> sp.Expr:
    """L_sad: the least induction loss with w = 0, from that loss at w = 0 as a function of h.

    A quadratic ½(k − 2lh + mh²) has the least value ½(k − l²/m), written over one denominator, so
    that it does not cancel where a* is small.
    """
    slopes = [sp.diff(still, h, k).subs(h, 0) for k in range(3)]
    return sp.factor(sp.together(sp.expand(slopes[0] - slopes[1] ** 2 / (2 * slopes[2]))))


def derive_wang(engine: str, training: str) -> Derivation:
    """The system for given `ENGINES` and `TRAININGS`."""
    derived = program(engine, training)
    frozen = STAGE2 if training == "stage1" else ()
    return Derivation(
        name="wang",
        coordinates=derived.coordinates,
        parameters=derived.parameters,
        variants=((None, derived),),
        observables=OBSERVABLES,
        invariants={"balance": w_Q**2 - w_K**2},
        mobility=dict.fromkeys(frozen, sp.S.Zero),
        update={s: s for s in frozen},
        summary=f"Mixed target of a 4-gram and an in-context 2-gram; engine={engine},"
        f" training={training}.",
    )


# ---------------------------------------------------------------- laws


def balance_residual() -> sp.Expr:
    """d/dt (w_Q² − w_K²) along the flow of any loss that sees w_Q, w_K by their product only."""
    any_loss = sp.Function("F")(w_Q * w_K, h, p1)
    rates = {s: -sp.diff(any_loss, s) for s in (w_Q, w_K)}
    conserved = w_Q**2 - w_K**2
    return sp.simplify(sp.Add(*(sp.diff(conserved, s) * rate for s, rate in rates.items())).doit())


def asymptotic_loss() -> sp.Expr:
    """L_IH(w_Q, w_K, h) of Stage II with the asymptotic Q, in closed form."""
    product = w_Q * w_K
    own, cross, target = (
        closed(annealed(2 * x)) / N for x in (product**2, product * a_star, a_star**2)
    )
    return induction_loss(own, cross, target)


@cache
def saddle() -> dict[str, sp.Expr]:
    """The saddle of the asymptotic L_IH: its h, its loss, its gradient and the unstable rate.

    The linearised flow at (0, 0, h) couples w_Q with w_K and leaves h alone.

    Raises
    ------
    ArithmeticError
        If the linearisation has another form.
    """
    loss = asymptotic_loss()
    still = {w_Q: 0, w_K: 0}
    level = sp.solve(sp.diff(loss, h).subs(still), h)[0]
    place = still | {h: level}
    order = (w_Q, w_K, h)
    slopes = [sp.simplify(sp.diff(loss, s).subs(place)) for s in order]
    matrix = -sp.hessian(loss, order).subs(place)
    rate = sp.simplify(matrix[0, 1])
    expected = sp.Matrix([[0, rate, 0], [rate, 0, 0], [0, 0, matrix[2, 2]]])
    if sp.simplify(matrix - expected) != sp.zeros(3) or any(slopes):
        raise ArithmeticError(f"the linearisation at the saddle is {matrix}")
    return {
        "h": level,
        "loss": sp.simplify(loss.subs(place)),
        "rate": rate,
        "relaxation": sp.simplify(matrix[2, 2]),
    }


@cache
def early_drop() -> dict[str, sp.Expr]:
    """L_IH while w is still 0: h relaxes alone, and takes most of the loss with it.

    ``h``: solution from h = 0; ``part``: what is left of the loss.
    """
    loss = asymptotic_loss().subs({w_Q: 0, w_K: 0})
    part = sp.simplify(loss.subs(h, c) / loss.subs(h, 0))
    return {"h": from_zero(lambda at: -sp.diff(loss, h).subs(h, at)), "part": part}


@cache
def late_rates() -> dict[str, sp.Expr]:
    """The Hessian of the asymptotic L_IH at its minimum, for w_Q = w_K: what decays how fast.

    One direction is flat (balance); the other two decay with the eigenvalues of a 2×2 matrix in
    the directions (w_Q + w_K)/√2 and h.
    """
    half = sp.sqrt(a_star)
    place = {w_Q: half, w_K: half, h: c}
    matrix = sp.simplify(sp.hessian(asymptotic_loss(), (w_Q, w_K, h)).subs(place))
    turn = sp.Matrix([[1, 1, 0], [1, -1, 0], [0, 0, sp.sqrt(2)]]) / sp.sqrt(2)
    turned = sp.simplify(turn * matrix * turn.T)
    block = turned.extract([0, 2], [0, 2])
    flat = list(turned.row(1)) + list(turned.col(1))
    gradient = [sp.simplify(sp.diff(asymptotic_loss(), s).subs(place)) for s in place]
    return {
        "flat": sp.Add(*map(sp.Abs, flat)),
        "gradient": sp.Add(*map(sp.Abs, gradient)),
        "trace": sp.factor(block.trace()),
        "determinant": sp.factor(block.det()),
    }


@cache
def stage1_law() -> dict[str, sp.Expr]:
    """Late Stage I, L → ∞ at fixed p1: dp1/dt = K e^{−p1}, and p1(t) from p1(0) = 0.

    ``K``: lim e^{p1} dp1/dt; ``leading``: K to lowest order in (a, a*); ``p1``: the solution.
    """
    big = sp.Symbol("r", positive=True)  # r = e^{−p1}
    variance, previous = (1 - big) / (1 + big), 1 - big
    own, cross = (closed(annealed(2 * x)) / N for x in (a**2 * variance, a * a_star * previous))
    loss = induction_loss(own, cross, closed(annealed(2 * a_star**2)) / N)
    constant = sp.simplify(sp.diff(loss, big).subs(big, 0))  # −∂L/∂p1 = r ∂L/∂r, as dr/dp1 = −r
    scale = sp.Symbol("s", positive=True)
    small = constant.subs({a: scale * a, a_star: scale * a_star}, simultaneous=True)
    leading = sp.series(small, scale, 0, 3).removeO().coeff(scale, 2)
    rate = sp.Symbol("K", positive=True)
    path = from_zero(lambda at: rate * sp.exp(-at))
    return {"K": constant, "leading": sp.factor(leading), "p1": path}
