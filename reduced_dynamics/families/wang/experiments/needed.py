"""wang.needed: the fewest heads with which training learns IH_n, for several n."""

from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.wang import induction_runs as runs

SETTINGS = (
    Setting("n", (2, 3, 4), "the targets IH_n; each is trained with H = 1 … n + 1 heads", (2, 3),
            (2,), kind="int", many=True, low=2),
    Setting("seeds", (0, 1, 2), "of weights and sequences", (0, 1), (0,), kind="seeds"),
    *runs.settings(["n", "H"], L=(16, 16, 6), batch=(128, 128, 8), steps=(8000, 2500, 20),
                   record=(100, 100, 20)),
)  # fmt: skip


def parts(settings):
    return {
        f"n{n}-H{H}-seed{seed}": runs.config(settings, n=n, H=H, seed=seed)
        for n in sorted(set(settings.n))
        for H in range(1, n + 2)
        for seed in settings.seeds
    }


def conclude(settings, outcomes):
    rows = [runs.row(key, one) for key, one in outcomes.items()]
    points = runs.points(rows, ["n", "H"])
    by_n = {n: [one for one in points if one["n"] == n] for n in sorted(set(settings.n))}
    below = [one for one in points if one["H"] < one["n"] - 1]
    numbers = runs.shared(settings) | {
        "n": list(by_n),
        "below": sum(one["learnt"] for one in below),
        "below_runs": sum(one["runs"] for one in below),
        "points": points,
        "runs": rows,
        "targets": [
            {
                "n": n,
                "needed": n - 1,
                "some": fewest({one["H"]: one["learnt"] > 0 for one in found}),
                "all": fewest({one["H"]: one["learnt"] == one["runs"] for one in found}),
                "learnt": [one["learnt"] for one in found],
                "of": [one["runs"] for one in found],
                "median_error": [one["median_error"] for one in found],
            }
            for n, found in by_n.items()
        ],
    }
    trajectories = {key: one["full"] for key, one in outcomes.items()}
    return Conclusion(numbers, runs.columns(rows), trajectories)


def fewest(enough: dict[int, bool]) -> int | None:
    """The fewest heads that are enough, with all that have more heads, too: a lucky number among
    unlucky ones is not. None if the most are not."""
    last = None
    for H in sorted(enough, reverse=True):
        if not enough[H]:
            break
        last = H
    return last


def judge(numbers):
    tried = numbers["below_runs"]
    found = [
        Finding(
            "with fewer than n − 1 heads {below} of {below_runs} runs learn their target",
            holds(numbers["below"] == 0 if tried else None),
            why="" if tried else "IH_2 needs one head; take n of 3 or more",
        )
    ]
    for k, one in enumerate(numbers["targets"]):
        some, every = (
            f"with H ≥ {one[which]}" if one[which] else "with none of these H"
            for which in ("some", "all")
        )
        found.append(
            Finding(
                f"IH_{{targets[{k}][n]}} (n − 1 = {{targets[{k}][needed]}}): some seeds learn it "
                f"{some}, all {every}; with H = 1, 2, … heads {{targets[{k}][learnt]}} of "
                f"{{targets[{k}][of]}} seeds learn it, error {{targets[{k}][median_error]:.4f}}"
            )
        )
    return found


def draw(result):
    return runs.runs_figure(result, ["n", "H"], {"n": "$n$", "H": "$H$"})


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.needed",
    question="are n − 1 heads necessary for IH_n, and are they enough for training to find it?",
    title="the fewest heads with which training learns IH_n",
    claim="with fewer than n − 1 heads in layer 1 no two-layer transformer approximates IH_n.",
    source="Wang et al., arXiv 2410.11474, Theorem 3.3 and Figure 4",
    caption="the two-layer transformer of width {D} trained with {optimiser} on IH_n, n = {n}, "
    "with H = 1 … n + 1 heads (L = {L}, batch {batch}, {steps} steps), seeds {seeds}. Left: error "
    "over that of the answer 0, on held-out sequences; middle: probing distance of the first "
    "layer; right: the error at the end over the number of heads. Colours are targets.",
    work=runs.train,
    cost={"full": 850, "quick": 100},
)
