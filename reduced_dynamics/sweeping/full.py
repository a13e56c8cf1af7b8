"""What a sweep knows of a full model whose trainings are its points."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from reduced_dynamics.core.progress import Progress
from reduced_dynamics.core.system import Parameter, ReducedSystem
from reduced_dynamics.sweeping.variables import Variable


class Trained(Protocol):
    """How a full model is trained at the points of a sweep.

    It travels to other processes, so its functions stand in modules.

    Attributes
    ----------
    home : str
        Where it stands, ``"module:OBJECT"``; what this module imports, its numbers follow from.
    settings : tuple of Parameter
        What can be set and swept of its training, beside the parameters of the reduced system.
    """

    home: str
    settings: tuple[Parameter, ...]

    def results(self, forms: Iterable[ReducedSystem]) -> Iterator[Variable]:
        """What is kept of a training, for all forms that the reduced system has."""

    def numbers(
        self,
        system: ReducedSystem,
        parameters: Mapping[str, Any],
        training: Mapping[str, Any],
        t_end: float | str,
        clamp: Mapping[str, Any],
        progress: Progress,
    ) -> dict[str, float | int | None]:
        """Train at one point and lay the reduced flow over it; the `results` by name.

        Parameters
        ----------
        system : ReducedSystem
        parameters, training : mapping
            Of the reduced system, and of `settings`, as far as they are given.
        t_end : float or str
            Horizon in reduced training time; "auto" leaves it to the training.
        clamp : mapping
            Coordinates that both hold.

        Raises
        ------
        InputError
            For what is impossible there.
        IntegrationError
            If the training diverges.
        """
