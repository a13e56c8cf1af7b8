"""What an experiment found: data, numbers, findings and trajectories, in one NetCDF file.

A result says how it was made, and is all that its figure needs: a stored one is drawn again
without computing anything.
"""

from __future__ import annotations

import html
import os
import shlex
import tempfile
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.core.trajectory import Trajectory
from reduced_dynamics.experiments.experiment import Experiment
from reduced_dynamics.experiments.finding import WIDTH, Finding, fill
from reduced_dynamics.io import bundle, files
from reduced_dynamics.io.jsonable import dumps, loads

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

FORMAT = "reduced_dynamics result"
#: Grows whenever the layout changes.
FORMAT_VERSION = 1
ENDINGS = (".nc",)
_TEXTS = ("experiment", "size", "command", "source")
_JSON = ("settings", "numbers", "versions", "wall_s")
#: What entries raise that are not those of a result.
_STRANGE = (LookupError, TypeError, ValueError, AttributeError, InputError)


@dataclass(frozen=True, eq=False)
class Result:
    """What an experiment found.

    Attributes
    ----------
    experiment : str
        Its name.
    size : str
    settings : mapping
        All of them, as JSON has them.
    numbers : mapping
        Everything that findings and caption say, as JSON has it.
    findings : tuple of Finding
        The answer first; their fields are filled.
    data : xarray.Dataset
        Labelled arrays.
    trajectories : mapping of str to Trajectory
    command : str
        That makes it again.
    versions : mapping
    source : str
        Hash of the sources that it depends on.
    wall_s : float
        Seconds it took, parts that were kept from before left out.
    path : str
        The file that it was read from, if it was.
    """

    experiment: str
    size: str
    settings: Mapping[str, Any]
    numbers: Mapping[str, Any]
    findings: tuple[Finding, ...]
    data: xarray.Dataset
    trajectories: Mapping[str, Trajectory]
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    wall_s: float = 0.0
    declared: Experiment | None = field(default=None, repr=False)
    path: str = ""

    # ------------------------------------------------------------ shown

    @property
    def caption(self) -> str:
        """What was run and what the panels show."""
        return " ".join(fill(self._declared("caption"), self.numbers).split())

    def _declared(self, name: str) -> str:
        return getattr(self.declared, name, "")

    def __str__(self) -> str:
        first, *others = self.findings or (Finding("nothing was found"),)
        lines = [str(first), "", f"{self.experiment}: {self._declared('question')}"]
        if claim := " ".join(self._declared("claim").split()):
            lines += textwrap.wrap(f"The paper ({self._declared('source')}): {claim}", WIDTH)
        if self.caption:
            lines += textwrap.wrap(f"Here: {self.caption}", WIDTH)
        for finding in others:
            lines += textwrap.wrap(
                str(finding), WIDTH, initial_indent="  ", subsequent_indent=" " * 6,
                break_long_words=False,
            )  # fmt: skip
        return "\n".join([*lines, f"Made by: {self.command} ({self.wall_s:.0f} s)"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        first, *others = self.findings or (Finding("nothing was found"),)
        rows = "".join(f"<li>{html.escape(str(finding))}</li>" for finding in others)
        question = html.escape(self._declared("question"))
        return (
            f"<h4>{html.escape(self.experiment)}: {question}</h4>"
            f"<p><b>{html.escape(str(first))}</b></p><p>{html.escape(self.caption)}</p>"
            f"<ul>{rows}</ul><p><code>{html.escape(self.command)}</code></p>"
        )

    def plot(self) -> Figure:
        """The figure, drawn from what the result holds."""
        if self.declared is None:
            raise InputError(f"the experiment {self.experiment} that draws this is not there")
        try:
            return self.declared.draw(self)
        except _STRANGE:
            if not self.path:
                raise
            raise _unreadable(self.path, "it does not hold what its figure shows") from None

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "experiment": self.experiment,
            **{name: self._declared(name) for name in ("question", "claim", "source")},
            "size": self.size,
            "settings": dict(self.settings),
            "findings": [finding.as_json() for finding in self.findings],
            "numbers": dict(self.numbers),
            "command": self.command,
            "versions": dict(self.versions),
            "sources": self.source,
            "wall_s": self.wall_s,
        }

    # ------------------------------------------------------------ files

    def save(self, path) -> None:
        """Write it to a NetCDF file, whole or not at all.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        files.ending(path, ENDINGS)
        attributes = {
            "Conventions": "CF-1.11",
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **{name: getattr(self, name) for name in _TEXTS},
            **{name: dumps(getattr(self, name)) for name in _JSON},
            "findings": dumps([finding.as_json() for finding in self.findings]),
        }
        data = self.data.assign_attrs(attributes)
        for name, trajectory in self.trajectories.items():
            # Trajectories travel whole, dense states and settings too.
            content = np.frombuffer(bundle.encode(trajectory), dtype=np.uint8)
            data[f"trajectory {name}"] = (f"bytes of {name}", content)
        encoding = {name: {"_FillValue": None} for name in data.variables}
        with tempfile.TemporaryDirectory() as folder:
            there = Path(folder) / "result.nc"
            data.to_netcdf(there, engine="netcdf4", encoding=encoding)
            files.write(path, there.read_bytes())

    @classmethod
    def load(cls, path, experiment: Experiment | None = None) -> Result:
        """Read what `save` wrote.

        Parameters
        ----------
        path
        experiment : Experiment, optional
            Which it must be of.

        Raises
        ------
        InputError
            If there is no such file, it is damaged or no result, or it is another experiment's
            or of another version: what differs is said.
        """
        import xarray

        content = files.read(path)
        shown = os.fspath(path)
        try:
            found = xarray.load_dataset(content, engine="netcdf4")
        except Exception:
            raise _unreadable(shown, "it is damaged or of another kind") from None
        attributes = found.attrs
        if attributes.get("format") != FORMAT:
            raise _unreadable(shown, "it holds something else")
        if attributes.get("format_version") != FORMAT_VERSION:
            other = attributes.get("format_version")
            reason = f"it is of version {other}, this program reads {FORMAT_VERSION}"
            raise _unreadable(shown, reason)
        if experiment is not None and attributes.get("experiment") != experiment.name:
            raise InputError(
                f"'{shown}' is a result of {attributes.get('experiment')}, not of "
                f"{experiment.name}; draw it with: experiment {attributes.get('experiment')} "
                f"--from {shlex.quote(shown)}"
            )
        try:
            texts = {name: str(attributes[name]) for name in _TEXTS}
            tables = {name: loads(attributes[name]) for name in _JSON}
            findings = tuple(map(Finding.from_json, loads(attributes["findings"])))
            trajectories = {
                name.removeprefix("trajectory "): bundle.decode(found[name].values.tobytes())
                for name in found.variables
                if name.startswith("trajectory ")
            }
            data = found.drop_vars([f"trajectory {name}" for name in trajectories])
            data.attrs = {name: attributes[name] for name in ("settings", "versions")}
            result = cls(
                **texts, **tables, findings=findings, data=data, trajectories=trajectories,
                declared=experiment, path=shown,
            )  # fmt: skip
            known = {setting.name for setting in experiment.settings} if experiment else set()
            if not findings or not known <= set(result.settings):
                raise ValueError
            str(result)  # which takes captions and numbers
        except _STRANGE:
            raise _unreadable(shown, "its entries make no sense") from None
        return result


def _unreadable(path: str, reason: str) -> InputError:
    return InputError(
        f"'{path}' cannot be read as the result of an experiment ({reason}); make sure that the "
        "file is complete and was written by this program, or perform the experiment again"
    )
