"""``validate chen --study criterion|stages|step``: studies of the reduced system alone."""

from __future__ import annotations

import json
import sys
from typing import Any

from reduced_dynamics.commands.arguments import number, pairs, times
from reduced_dynamics.commands.progress import Reporter
from reduced_dynamics.core.errors import InputError
from reduced_dynamics.experiments.perform import as_json as finite
from reduced_dynamics.families.chen import studies as markov_studies
from reduced_dynamics.io.versions import versions

#: Study: what makes its rows, and the argument that --values sets.
STUDIES = {
    "criterion": (markov_studies.criterion_study, "priors"),
    "stages": (markov_studies.stage_study, None),
    "step": (markov_studies.step_study, "steps"),
}
#: Options of trainings on finite data.
STRANGERS = ("steps", "at", "learning_rate", "seeds", "checkpoint", "out")
INTERRUPTED = 130


def execute(options) -> int:
    """Print the rows of a study, those that were done if it is interrupted."""
    for name in STRANGERS:
        if getattr(options, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} belongs to trainings on finite data; the study "
                f"{options.study} takes --set, --t-end, --values, --plot and --json"
            )
    study, varied = STUDIES[options.study]
    keywords: dict[str, Any] = {}
    if options.t_end is not None:
        keywords["t_end"] = number("t-end", options.t_end)
    if options.values is not None:
        if varied is None:
            raise InputError(f"the study {options.study} goes over nothing that --values could set")
        keywords[varied] = times(options.values, "values")
    if options.plot:
        from reduced_dynamics.plotting.style import check_target

        check_target(options.plot)
    parameters = pairs("set", options.set)
    rows, code, reporter = [], 0, Reporter()
    try:
        for row in study(parameters, progress=reporter, **keywords):
            rows.append(row)
            reporter.close()
            if not options.json:
                print(_line(row, heading=len(rows) == 1), flush=True)
    except KeyboardInterrupt:
        reporter.close()
        print(f"simulate.py: interrupted after {len(rows)} rows", file=sys.stderr)
        code = INTERRUPTED
    if options.plot and rows:
        from reduced_dynamics.families.chen.study_figures import FIGURES
        from reduced_dynamics.plotting.style import save_figure

        save_figure(FIGURES[options.study](rows), options.plot)
        print(f"drew {options.plot}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        found = {
            "system": "chen",
            "parameters": parameters,
            "study": {"over": options.study, "rows": rows},
            "complete": code == 0,
            "versions": versions(),
        }
        print(json.dumps(finite(found), indent=1, allow_nan=False))
    elif options.study == "criterion" and rows:
        for name, said in (("right", "with the actual W"), ("saturated_right", "saturated")):
            right = sum(bool(row[name]) for row in rows)
            print(f"the criterion {said} predicted {right} of {len(rows)} winners")
        print("\n".join(_missed(rows)))
    return code


def _missed(rows: list[dict[str, Any]]) -> list[str]:
    """The settings whose winner a criterion did not predict, with its gap there."""
    lines = []
    for right, predicted, gap, said in (
        ("right", "predicted", "gap", "actual W"),
        ("saturated_right", "saturated", "saturated_gap", "saturated"),
    ):
        lines += [
            f"  missed ({said}): dirichlet = {row['dirichlet']:g}, w_plus = {row['w_plus']:g}, "
            f"loss = {row['loss']}: {row['winner'] or 'none'} won, not {row[predicted]}, which led "
            f"by {row[gap]:.2%}"
            for row in rows
            if not row[right]
        ]
    return lines


def _line(row: dict[str, Any], heading: bool) -> str:
    """A row for people, below the names of its columns if it is the first."""
    widths = {name: max(10, len(name) + 1) for name in row}
    line = " ".join(f"{_shown(value):>{widths[name]}}" for name, value in row.items())
    if heading:
        line = " ".join(f"{name:>{width}}" for name, width in widths.items()) + "\n" + line
    return line


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
