"""wang.heads: how many heads, and how wide a stream, it takes to learn the induction head."""

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments.experiment import Conclusion, Experiment
from reduced_dynamics.experiments.finding import Finding, holds
from reduced_dynamics.experiments.setting import Setting
from reduced_dynamics.families.wang import induction_runs as runs

SETTINGS = (
    Setting("vary", "heads", "heads: H, and D unless it is set; or one number of the model",
            kind="choice", choices=("heads", *(k for k in runs.NUMBERS if k != "H"))),
    Setting("over", (2.0, 4.0, 8.0), "of what is varied", (2.0, 8.0), (1.0, 3.0), many=True),
    Setting("width", 0, "D where heads are varied; 0: as many as heads", kind="int", low=0),
    Setting("seeds", (0, 1, 2, 3, 4), "of weights and sequences", (0, 1), (0,), kind="seeds"),
    *runs.settings(n=(4, 4, 3), L=(16, 16, 8), batch=(128, 128, 16), steps=(8000, 2200, 60),
                   record=(100, 100, 20)),
)  # fmt: skip


def parts(settings):
    if len(set(settings.over)) < len(settings.over):
        raise InputError("over names a value twice; give each once")
    return {
        f"{settings.vary}{value:g}-seed{seed}": runs.config(
            settings, seed=seed, **_changes(settings, value)
        )
        for value in settings.over
        for seed in settings.seeds
    }


def _changes(settings, value):
    if settings.vary != "heads":
        return {settings.vary: value}
    return {"H": value, "D": settings.width or value}


def conclude(settings, outcomes):
    rows, keys = [], iter(outcomes.items())
    for value in settings.over:
        rows += [runs.row(*next(keys)) | {"value": value} for _ in settings.seeds]
    points = sorted(runs.points(rows, ["value"]), key=lambda one: one["value"])
    numbers = runs.shared(settings) | {
        "vary": settings.vary,
        "values": [one["value"] for one in points],
        "varied": "H = D" if settings.vary == "heads" and not settings.width else
        "H" if settings.vary == "heads" else settings.vary,
        "points": points,
        "runs": rows,
        "least": points[0],
        "most": points[-1],
        "needed": settings.n - 1,
        "gap": points[0]["median_error"] / points[-1]["median_error"],
    }  # fmt: skip
    trajectories = {key: one["full"] for key, one in outcomes.items()}
    return Conclusion(numbers, runs.columns(rows, "value"), trajectories)


def judge(numbers):
    least, most, between = numbers["least"], numbers["most"], numbers["points"][1:-1]
    if numbers["vary"] != "heads":
        return [_measured(k) for k in range(len(numbers["points"]))]
    enough, few = most["H"] >= numbers["needed"], least["H"] < numbers["needed"]
    all_learn = most["learnt"] == most["runs"]
    none_learns = least["learnt"] == 0
    found = [
        Finding(
            "{varied} = {most[value]:g}: {most[learnt]} of {most[runs]} seeds learn the head, "
            "error at the end {most[error]:.4f}, probing distance {most[probing]:.2g}",
            holds(all_learn if enough else None),
            why="fewer than the n − 1 = {needed} heads that the construction has" * (not enough),
        ),
        Finding(
            "{varied} = {least[value]:g}: {least[learnt]} of {least[runs]} seeds learn it, error "
            "{least[error]:.4f}, probing distance {least[probing]:.2g}; these compare "
            "{least[compared]} tokens of {needed}; the median error is {gap:.3g} times that with "
            "{most[value]:g}",
            holds(none_learns if few else None),
            why="no fewer than n − 1 = {needed} heads" * (not few),
        ),
    ]
    for k, one in enumerate(between, start=1):
        text = f"in between, {{varied}} = {{points[{k}][value]:g}}: {{points[{k}][learnt]}} of "
        text += f"{{points[{k}][runs]}} seeds learn it, error {{points[{k}][error]:.4f}}"
        if one["learnt"] < one["runs"] and one["H"] >= numbers["needed"]:
            text += ": as many heads as the construction needs (n − 1 = {needed}) are not enough "
            text += "for training to find it from every seed"
        found.append(Finding(text))
    return found


def _measured(k):
    return Finding(
        f"{{varied}} = {{points[{k}][value]:g}} (H = {{points[{k}][H]}}, D = {{points[{k}][D]}}): "
        f"{{points[{k}][learnt]}} of {{points[{k}][runs]}} seeds learn IH_{{points[{k}][n]}}, "
        f"error {{points[{k}][error]:.4f}}, probing distance {{points[{k}][probing]:.2g}}"
    )


def draw(result):
    varied = result.numbers["varied"]
    return runs.runs_figure(result, ["value"], {"value": f"${varied}$".replace("_", r"\_")})


EXPERIMENT = Experiment.of(
    __name__,
    name="wang.heads",
    question="how many heads, and how wide a stream, does it take to learn the induction head?",
    title="the number of heads H and the width D that the induction head needs",
    claim="training on IH_4 succeeds with H = D = 8 and fails with H = D = 2, as the necessity of "
    "n − 1 heads in Theorem 3.3 says.",
    source="Wang et al., arXiv 2410.11474, Figure 4",
    caption="the two-layer transformer trained with {optimiser} on IH_{n} (L = {L}, batch {batch}, "
    "{steps} steps), {varied} = {values:g}, seeds {seeds}. Left: error over that of the answer 0, "
    "on held-out sequences; dotted, what predictors leave that compare only so many tokens. "
    "Middle: probing distance of the first layer. Right: the error at the end, of every run.",
    work=runs.train,
    cost={"full": 500, "quick": 38},
)
