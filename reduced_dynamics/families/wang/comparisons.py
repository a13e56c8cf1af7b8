"""What the experiments on the mixed target share: its parameters, the flow beside the network."""

from collections.abc import Mapping
from typing import Any

from reduced_dynamics.experiments.comparison import Comparison, Job
from reduced_dynamics.experiments.experiment import Conclusion
from reduced_dynamics.experiments.setting import Setting, Settings, of_parameters
from reduced_dynamics.experiments.study import Study
from reduced_dynamics.families.wang.full_model import HORIZON, plan
from reduced_dynamics.families.wang.system import WANG


def system(**sizes: tuple) -> tuple[Setting, ...]:
    """The reduced system's parameters, in Stage II, as settings; see `of_parameters`."""
    return of_parameters([p for p in WANG.parameters if p.name != "training"], **sizes)


#: At size tiny ten tokens: everything is over by t = 250.
SETTINGS = (
    *system(L=(40, 40, 10), w_star=(0.49, 0.49, 0.7), sigma_init=(0.01, 0.01, 0.1)),
    Setting("t_end", HORIZON, "horizon, training time", kind="text"),
)


def job(settings: Settings, seed: int, **training: Any) -> Job:
    """One comparison to be made; `InputError` if it is impossible."""
    return plan(WANG, parameters(settings), seeds=[seed], t_end=settings.t_end, **training)[0]


def parameters(settings: Settings) -> dict[str, Any]:
    """Those of the system among the settings."""
    return {p.name: settings[p.name] for p in WANG.parameters if p.name in settings}


def details(found: Comparison) -> dict[str, Any]:
    """What else is told of one run: events of both models, errors, losses side by side."""
    value, name, t = found.worst
    return {
        "events": {k: {"full": full, "reduced": own} for k, (full, own) in found.events.items()},
        "largest_error": {"value": value, "coordinate": name, "t": t},
        "max_error": found.max_error,
        "final_error": found.final_error,
        "final": {
            "full": {k: float(found.full[k][-1]) for k in found.names},
            "reduced": found.reduced.final,
        },
        "at": found.table,
    }


def conclude(study: Study, settings: Settings, outcomes: Mapping[str, Any]) -> Conclusion:
    """What the study concludes, with the details of every run."""
    found = study.conclude(settings, outcomes)
    runs = {key: outcome["details"] for key, outcome in outcomes.items()}
    return Conclusion({**dict(settings), **found.numbers, "runs": runs}, found.data)
