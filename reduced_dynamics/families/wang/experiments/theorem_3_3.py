"""wang.theorem-3-3: H heads make n − 1 shifts; error over H, the bound, L, and near the start."""

from dataclasses import replace

import numpy as np

from reduced_dynamics.experiments.experiment import Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.wang.approximation import shifts, tables
from reduced_dynamics.families.wang.approximation.constructions import theorem_3_3
from reduced_dynamics.families.wang.approximation.shifts import ROUNDING, Shifts
from reduced_dynamics.families.wang.approximation.tables import Table, logarithm, slope
from reduced_dynamics.plotting.style import BRIGHT

#: Errors below this part of the bound are no longer told apart by the linear program.
ROUNDED = 1e-10
#: "Of order one" is above this: it is 1 but for the rounding of the linear program.
ORDER_ONE = 0.99
#: "It falls with the heads" allows for as much rounding of the search.
NOISE = 1.001
#: An error near the start that is so many times that at the length of the fit.
SUFFERS = 2.0

SETTINGS = (
    Setting("n", (2, 3, 4), "IH_n compares n − 1 tokens", (2, 3), (3,), kind="int", many=True,
            low=2, high=8),
    Setting("H", (1, 2, 3, 4, 6, 8, 12), "heads of layer 1", (1, 2, 3, 6), (1, 2), kind="int",
            many=True, low=1, high=40),
    Setting("bound", (1e2, 1e3, 1e4), "of the sum of |c_h|, for each shift", (1e2, 1e4),
            (1e2, 1e4), many=True, low=1e-3, high=1e8),
    Setting("power_bounds", (1e2, 3e2, 1e3, 1e4, 1e5), "over which the power in the bound is "
            "fitted", (1e2, 1e3, 1e4, 1e5), (1e2, 1e4), many=True, low=1e-3, high=1e8),
    *tables.SHARED,
    *tables.TOKENS,
)  # fmt: skip


def parts(settings):
    """The fits of one n and one bound, in which fewer heads are where more begin."""
    n, bounds = tables.ascending(settings.n), tables.ascending(settings.bound)
    powers = tables.ascending(settings.power_bounds)
    fits = [(one, bound) for one in n for bound in [*bounds, *powers * (one > 2)]]
    found = {f"n{one}-B{bound:g}": ("fits", one, bound) for one, bound in fits}
    return found | {"start": ("start", n[-1], bounds[-1])}


def work(settings, part, context):
    kind, n, bound = part
    heads = tables.ascending(settings.H)
    if kind == "start":
        return start(settings, n, bound, heads)
    found = {"heads": [], "powers": [], "total": [], "lengths": []}
    tabled, few = bound in settings.bound, [n - 1, n, n + 1]
    power = n > 2 and bound in settings.power_bounds
    fits = chain(n, bound, heads * tabled + few * power, context)
    if power:
        found["powers"] = [[n, H, bound, fits[H].error] for H in few]
    if not tabled:
        return found
    found["heads"] = [
        [n, bound, H, fits[H].error, float(fits[H].lower.max()), fits[H].size] for H in heads
    ]
    found["heads"].append([n, bound, None, None, shifts.floor(n, bound), bound])
    if bound == max(settings.bound):
        for H in heads:
            context.progress(f"IH_{n} with H = {H}", 0.5)
            found["total"].append([n, H, n * settings.d, *_errors(settings, fits[H], settings.L)])
        if n == max(settings.n):
            H = heads[-1]
            for L in sorted({n + 1, n + 2, *(L for L in settings.lengths if n < L)}):
                context.progress(f"IH_{n} at L = {L}", 0.8)
                found["lengths"].append([n, H, L, *_errors(settings, fits[H], L)])
    return found


def chain(n, bound, heads, context=None) -> dict[int, Shifts]:
    """Fits with ever more heads, each of which also tries the slopes of the one before."""
    found: dict[int, Shifts] = {}
    for k, H in enumerate(tables.ascending(heads)):
        if context is not None:
            context.progress(f"fitting n = {n}, H = {H}, bound {bound:g}", k / len(heads))
        before = found[max(found)].slopes if found else None
        found[H] = shifts.fit("exponential", n, H, bound, start=before)
    return found


def start(settings, n, bound, heads):
    """Errors of the shifts over the S tokens before a position near the start."""
    H = next((H for H in heads if n < H), heads[-1])
    all_lags = chain(n, bound, [one for one in heads if one <= H])[H]
    unnormalised = replace(
        all_lags, coefficients=all_lags.coefficients * -np.expm1(-all_lags.slopes)
    )
    longest = max(settings.L, n)
    one_length = shifts.fit("polynomial", n, H, bound, (longest,))
    served = tuple(sorted({min(n - 1 + k, longest) for k in (0, 1, 2, 4, 8, 16)} | {longest}))
    every = shifts.fit("polynomial", n, H, bound, served)
    lengths = sorted(
        {*range(n - 1, min(n + 5, longest)), *np.geomspace(n + 5, longest, 8).astype(int).tolist()}
    )
    kinds = (all_lags, unnormalised, one_length, every)
    rows = [[S, *(one.error_over(S) for one in kinds)] for S in lengths]
    return {"rows": rows, "n": n, "H": H, "bound": bound, "longest": longest,
            "error": all_lags.error}  # fmt: skip


def _errors(settings, one: Shifts, L: int) -> list[float]:
    W = settings.strength * np.eye((one.n - 1) * settings.d)
    model = theorem_3_3(W, one, settings.d)
    return tables.induction_errors(settings, model, W, L, one.error, 33, one.n, L)


def conclude(settings, outcomes):
    near_start = outcomes.pop("start")
    rows = {
        kind: sorted((row for one in outcomes.values() for row in one[kind]),
                     key=lambda row: [np.inf if x is None else x for x in row[:3]])
        for kind in ("heads", "powers", "total", "lengths")
    }  # fmt: skip
    over_H = Table(
        "largest error of the shifts by 1..n−1 over H, ℓ₁ over all lags, exponential kernel",
        ("n", "bound", "H", "error", "lower", "sum|c|"), rows["heads"], [],
        "lower: what no coefficients within the bound beat with these slopes (without H: with 151 "
        "slopes at once); below H = n − 1 it is 1",
    )  # fmt: skip
    for n, bound in over_H.values("n", "bound"):
        enough = [row for row in over_H.where(n=n, bound=bound).rows if row[2] and n - 1 <= row[2]]
        errors = logarithm([row[3] for row in enough], max(10 * ROUNDING, ROUNDED * bound))
        name = f"d ln(error) / d ln H, n = {n}, bound {bound:g}, H ≥ n − 1"
        over_H.rates.extend(slope(name, np.log([row[2] for row in enough]), errors, None))
    powers = Table(
        "the same over the bound of Σ|c|", ("n", "H", "bound", "error"), rows["powers"], [],
        "expected −(H − i + 1)/(i − 1) for i = n − 1, from finite differences at decay 0; so "
        "without a bound n − 1 heads reach any accuracy",
    )  # fmt: skip
    for n, H in powers.values("n", "H"):
        part = powers.where(n=n, H=H)
        errors, bounds = part.column("error"), part.column("bound")
        # The power is that of small errors.
        small = np.where((bounds * ROUNDED < errors) & (errors < 0.1), errors, 0.0)
        name = f"d ln(error) / d ln(bound), n = {n}, H = {H}"
        expected = -(H - n + 2) / (n - 2)
        powers.rates.extend(slope(name, np.log(bounds), logarithm(small, 10 * ROUNDING), expected))
    total = Table(
        f"IH_n by the transformer with H heads, D = nd, at L = {settings.L}, "
        f"bound {max(settings.bound):g}",
        ("n", "H", "D", "sampled", "searched", "bound"), rows["total"],
        note="bound: 2 tanh(η/2) from the error of the shifts, every sequence; 2 is trivial",
    )  # fmt: skip
    n, H = rows["lengths"][0][:2]
    long = [row for row in rows["lengths"] if row[2] >= 16]
    lengths = Table(
        f"IH_{n} with H = {H} over L, from the shortest sequence there is",
        ("n", "H", "L", "sampled", "searched", "bound"), rows["lengths"],
        slope("d ln(error) / d ln L, L ≥ 16", np.log([row[2] for row in long]),
              logarithm([row[4] for row in long], tables.SMALLEST), 0.0),
    )  # fmt: skip
    of_start = Table(
        "largest error of the shifts by 1..{} over the S tokens before a position, H = {}, "
        "bound {:g}".format(near_start["n"] - 1, near_start["H"], near_start["bound"]),
        ("S", "exponential", "unnormalised", "polynomial", "polynomial, every S"),
        near_start["rows"],
        note=f"exponential: fitted on all lags ({near_start['error']:.3e}), never worse at any "
        "S ≥ i; unnormalised: with α instead of c = α/(1 − e^-β); polynomial: fitted at "
        f"S = {near_start['longest']}, and at several S together",
    )  # fmt: skip
    numbers = {
        "heads": _heads(over_H),
        "start": {k: v for k, v in near_start.items() if k != "rows"}
        | {
            "largest": of_start.column("exponential").max(),
            "largest_unnormalised": of_start.column("unnormalised").max(),
            "polynomial": of_start.column("polynomial")[-1],
            "largest_polynomial": of_start.column("polynomial").max(),
            "largest_polynomial_every": of_start.column("polynomial, every S").max(),
        },
    }
    return tables.conclusion(
        settings, numbers, H=over_H, bound=powers, total=total, L=lengths, start=of_start
    )


def _heads(table: Table) -> dict:
    """What the errors over H come to."""
    below, best, curves = [], None, []
    for n, bound in table.values("n", "bound"):
        rows = [row for row in table.where(n=n, bound=bound).rows if row[2] is not None]
        below += [row[3] for row in rows if row[2] < n - 1]
        enough = [row for row in rows if row[2] >= n - 1]
        if n > 2 and len(enough) > 1:
            curves.append({"n": n, "bound": bound, "first": enough[0][3], "last": enough[-1][3]})
        if n > 2 and enough:
            least = min(enough, key=lambda row: row[3])
            best = least if best is None or least[3] < best[3] else best
    n, bound = max(table.values("n")), min(table.values("bound"))
    floor = [row[4] for row in table.where(n=n, bound=bound).rows if row[2] is None]
    return {
        "below": min(below, default=None),
        "curves": curves,
        "best": best and dict(zip(("n", "bound", "H", "error"), best, strict=False)),
        "largest_n": n,
        "least_bound": bound,
        "floor": floor[0],
    }


def judge(numbers):
    heads, near_start = numbers["heads"], numbers["start"]
    necessary = None if heads["below"] is None else heads["below"] > ORDER_ONE
    falls = all(one["last"] < NOISE * one["first"] for one in heads["curves"])
    some = bool(heads["curves"])
    safe = near_start["largest"] <= near_start["error"]
    suffers = near_start["largest_polynomial"] > SUFFERS * near_start["polynomial"]
    return [
        Finding(
            "with fewer than n − 1 heads the error of the shifts is {heads[below]:.6f} or more, "
            "whatever the bound",
            holds(necessary),
            claim="n − 1 heads are necessary",
            why="no number of heads below n − 1 was tried" if necessary is None else "",
        ),
        Finding(
            ("with enough heads it falls" if falls else "with more heads it does not always fall")
            + (", to {heads[best][error]:.2g} (n = {heads[best][n]}, H = {heads[best][H]}, bound "
               "{heads[best][bound]:g})" if heads["best"] else ""),
            holds(falls if some else None),
            claim="the error falls with H",
            why="" if some else "no two numbers of heads from n − 1 on, for n > 2",
        ),
        Finding(
            "it does not fall forever: with Σ|c| bounded by {heads[least_bound]:g}, "
            "n = {heads[largest_n]}, any number of heads leaves at least {heads[floor]:.2g}"
        ),
        *tables.rates(numbers, "bound", "L", "H"),
        Finding(
            "near the start of the sequence, over few tokens, the construction with the "
            "exponential kernel errs by {start[largest]:.2e} at most, over all lags by "
            "{start[error]:.2e} (n = {start[n]}, H = {start[H]}); without the factor "
            "1/(1 − e^−β) in its coefficients by {start[largest_unnormalised]:.2g}",
            holds(safe),
            claim="derived in derivations/wang/periodised_kernel.py: the error over S tokens is "
            "never above that over all lags",
        ),
        Finding(
            "the polynomial kernel "
            + ("suffers near the start" if suffers else "does not suffer near the start")
            + ": fitted at S = {start[longest]} alone, where it errs by {start[polynomial]:.2g}, "
            "it errs by {start[largest_polynomial]:.2g} at most, fitted at several S together by "
            "{start[largest_polynomial_every]:.2g}"
        ),
        tables.bounds_hold(numbers, "total", "L"),
    ]  # fmt: skip


def draw(result):
    over_H, total, of_start = (tables.read(result, name) for name in ("H", "total", "start"))

    def fill(axes):
        left, middle, right = axes
        k = 0
        for n in [n for n in over_H.values("n") if n > 2]:
            bounds = over_H.values("bound")
            for bound in dict.fromkeys((bounds[0], bounds[-1])):
                part = over_H.where(n=n, bound=bound)
                H, errors = part.column("H")[:-1], part.column("error")[:-1]
                label = f"$n$ = {n}, $B$ = {_power(bound)}"
                tables.marks(left, H, np.maximum(errors, ROUNDING), k, label)
                k += 1
        left.set(xlabel="heads $H$", ylabel=r"error of the shifts, $\ell_1$")
        # One head copies one token exactly: n = 2 has no curve.
        for k, n in enumerate([n for n in total.values("n") if n > 2]):
            part = total.where(n=n)
            H = part.column("H")
            tables.marks(middle, H, part.column("searched"), k, f"$n$ = {n}")
            middle.plot(H, part.column("bound"), color=BRIGHT[k], **tables.PROVED)
        for ax in (left, middle):
            ax.xaxis.get_major_locator().set_params(integer=True)
        middle.set(xlabel="heads $H$ (dashed: proved)", ylabel=r"error of IH$_n$")
        S = of_start.column("S")
        for k, name in enumerate(of_start.columns[1:]):
            tables.marks(right, S, of_start.column(name), k, name)
        right.set_xscale("log", base=2)
        right.set(xlabel="tokens seen $S$", ylabel=r"error of the shifts over $S$")
        for ax in axes:
            if ax.get_legend_handles_labels()[0]:
                tables.key(ax)

    return tables.panels("Theorem 3.3: H heads copy n − 1 tokens. Largest errors", 3, fill)


def _power(bound: float) -> str:
    exponent = np.log10(bound)
    return f"$10^{{{exponent:.0f}}}$" if exponent == round(exponent) else f"{bound:g}"


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.theorem-3-3",
    question="do H heads express IH_n, are n − 1 necessary, and does it hold near the start?",
    title="H heads copy n − 1 tokens: the induction head IH_n",
    claim="a two-layer transformer with H heads in layer 1, D = nd, approximates IH_n, the error "
    "falling with H; n − 1 of them are necessary.",
    source="Wang et al., arXiv 2410.11474, Theorem 3.3",
    caption="for each shift by i < n coefficients c_h with Σ|c_h| ≤ B, on H slopes that are "
    "searched for. Left: the largest ℓ₁ error of the shifts over H. Middle: the error of IH_n by "
    "the transformer with these weights, the largest found over {samples} sampled sequences and "
    "{rounds} rounds of search (L = {L}, d = {d}, entries in [−1, 1]), and what is proved "
    "(dashed). Right: the error of the shifts over the S tokens before a position near the start, "
    "n = {start[n]}, H = {start[H]}.",
    cost={"full": 75, "quick": 19},
)
