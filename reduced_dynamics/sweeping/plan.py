"""Which points a sweep has, in which order, and in which blocks they are computed and stored.

A plan alone decides what is computed: not the number of threads, nor interruptions. Points are
numbered; those of a block are made from their numbers when they are needed.
"""

import itertools
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from reduced_dynamics.core import memory
from reduced_dynamics.core.errors import InputError, unknown
from reduced_dynamics.core.expressions import evaluate
from reduced_dynamics.core.system import ReducedSystem, numeric
from reduced_dynamics.sweeping.axes import START, Axis, Range, axis, quantities, sampled
from reduced_dynamics.sweeping.kept import kept
from reduced_dynamics.sweeping.settings import FULL_START, Settings
from reduced_dynamics.sweeping.variables import Variable

SAMPLINGS = ("random", "sobol", "halton", "lhs")
#: The dimension of sampled points, where there is a grid as well.
SAMPLE = "sample"
#: Forms of a system (sizes, tasks) in one sweep, at most.
MOST_FORMS = 1000
#: Points at which it is tried whether the system accepts any.
TRIED = 64
#: A sweep is made of about so many blocks, so that processes have something to share …
BLOCKS = 64
#: … but a block has no fewer points than the first number, which are worth a file, and no more
#: than the second, which take a second or two: compiled ensembles in few coordinates, those in
#: many, and single trajectories. A training is a block of its own.
FEW, MANY, SINGLE = (4096, 16384), (16, 256), (4, 64)
FEW_COORDINATES = 6
#: How many times as long a trajectory takes whose end has to be found first.
SEARCH = 8
#: Bytes that the packed parameters (tables, banks of samples) of a block's points may take.
PACKED = 64 << 20


@dataclass(frozen=True, eq=False)
class Plan:
    """The points of a sweep.

    Points are numbered along the grid's axes in their order, the last one fastest; where points
    are sampled, all samples belong to every point of the grid.

    Attributes
    ----------
    settings : Settings
    axes : tuple of Axis
    ranges : tuple of Range
    samples, seed : int
        How many points are sampled, and from which seed; samples is 0 without ranges.
    sampling : {"random", "sobol", "halton", "lhs"}
    block : int
        Points in a block; the last one may have fewer.
    forms : tuple of ReducedSystem
        What the system looks like at these points (see `ReducedSystem.adapted`).
    """

    settings: Settings
    axes: tuple[Axis, ...]
    ranges: tuple[Range, ...]
    samples: int
    seed: int
    sampling: str
    block: int
    forms: tuple[ReducedSystem, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the grid's axes, and the number of samples if points are sampled."""
        return (*(len(a.values) for a in self.axes), *((self.samples,) if self.ranges else ()))

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions of `shape`."""
        return (*(a.name for a in self.axes), *((SAMPLE,) if self.ranges else ()))

    def __len__(self) -> int:
        return math.prod(self.shape)

    @property
    def blocks(self) -> int:
        return -(-len(self) // self.block)

    def span(self, block: int) -> tuple[int, int]:
        """The first point of a block, and the first one after it."""
        return block * self.block, min((block + 1) * self.block, len(self))

    def columns(self, first: int, last: int) -> dict[str, np.ndarray]:
        """What is swept, at the points first … last − 1: arrays of shape (last − first,)."""
        places = np.unravel_index(np.arange(first, last), self.shape)
        found = {a.name: a.values[k] for a, k in zip(self.axes, places, strict=False)}
        return found | {name: values[places[-1]] for name, values in self.sampled.items()}

    @cached_property
    def sampled(self) -> dict[str, np.ndarray]:
        """The sampled quantities by name, shape (samples,)."""
        if not self.ranges:
            return {}
        unit = _unit_cube(len(self.ranges), self.samples, self.sampling, self.seed)
        return {r.name: r.place(unit[:, k]) for k, r in enumerate(self.ranges)}

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """What is kept of every point.

        Raises
        ------
        InputError
            If a result bears the name of something swept.
        """
        found = kept(self.settings, self.forms)
        for name in sorted({v.name for v in found} & {*self.swept, "point", "at"}):
            raise InputError(f"'{name}' is a result as well as something swept; rename one of them")
        return found

    @property
    def swept(self) -> dict[str, Axis | Range]:
        """What is swept, by name."""
        return {s.name: s for s in (*self.axes, *self.ranges)}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that results depend on, as JSON has it; two equal ones are the same sweep."""
        found = {"grid": {a.name: a.spec for a in self.axes}}
        if self.ranges:
            found["random"] = {r.name: r.spec for r in self.ranges}
            found |= {"points": self.samples, "seed": self.seed, "sampling": self.sampling}
        return {**self.settings.identity, **found, "block": self.block}

    @property
    def remarks(self) -> list[str]:
        """What to tell about the points before they are computed."""
        said = [
            f"{a.name}: {len(a.values)} different values, {a.dropped} fewer than asked for "
            f"({'after rounding' if ':' in a.spec else 'given twice'})"
            for a in self.axes
            if a.dropped
        ]
        if self.sampling == "sobol" and self.ranges and self.samples & (self.samples - 1):
            said.append("Sobol points are balanced when their number is a power of two")
        return said


def plan(
    settings: Settings,
    *,
    grid: Mapping[str, Any] | None = None,
    random: Mapping[str, Any] | None = None,
    points: int | None = None,
    seed: int = 0,
    sampling: str = "random",
    block: int | None = None,
) -> Plan:
    """The points that are asked for, checked; see `sweep` for the arguments.

    Raises
    ------
    InputError
        For anything unknown, empty or contradictory.
    """
    grid, random = dict(grid or {}), dict(random or {})
    system = settings.system
    further = settings.full.settings if settings.full else ()
    everything = quantities(system, _startable(settings, grid, further), further)
    for name in [*grid, *random, *settings.parameters]:
        if settings.full and name.startswith(START):
            raise InputError(FULL_START.format(name))
        if name not in everything:
            known = [k for k in everything if not k.startswith(START)]
            if name.startswith(START):
                known = [k for k in everything if k.startswith(START)]
            raise unknown(f"quantity of {system.name}", name, known)
    for name, value in settings.parameters.items():
        if name.startswith(START):
            raise InputError(
                f"{name} is no parameter; fix a start by --start {name.removeprefix(START)}={value}"
            )
    _check_once(settings, grid, random)
    if not grid and not random:
        raise InputError("nothing is swept; give --grid NAME=SPEC or --random NAME=LOW:HIGH:log")
    axes = tuple(axis(everything[name], spec) for name, spec in grid.items())
    ranges = tuple(sampled(everything[name], spec) for name, spec in random.items())
    points, seed = _sampling(ranges, points, seed, sampling)
    for name, value in settings.parameters.items():
        if value is not None:
            everything[name].parameter.parse(value)
    found = Plan(settings, axes, ranges, points, seed, sampling, 1, ())
    if len(found) > 10**12:
        raise InputError(f"the grid has {len(found):.3g} points; make it smaller")
    memory.require(
        40.0 * (len(found) * (len(axes) + len(ranges))), "the points of this sweep", "take fewer"
    )
    known = list(_forms(found, further))
    forms = tuple(form for form, _ in known)
    if block is None:
        block = _block(found, known)
    elif not isinstance(block, int | np.integer) or block < 1:
        raise InputError(f"a block has at least one point, not {block}")
    made = replace(found, block=min(int(block), len(found)), forms=forms)
    made.variables  # noqa: B018  (names that meet are refused now)
    return made


def _startable(settings: Settings, grid: Mapping[str, Any], further) -> dict[str, str]:
    """Coordinates of the system as the fixed parameters make it, and as the grid does."""
    if settings.full:
        return {}
    own = settings.system
    if own.adapt is not None:
        given = {k: v for k, v in settings.parameters.items() if k not in grid}
        try:
            values = own.values(given)
        except InputError:
            values = own.values({})
        own = own.adapted(values)
    return {c.name: c.meaning for c in own.coordinates}


def _check_once(settings: Settings, grid, random) -> None:
    """Refuse what is said twice."""
    for name in grid:
        if name in random:
            raise InputError(f"{name} is both on the grid and sampled; give one of the two")
    for name in [*grid, *random]:
        coordinate = name.removeprefix(START) if name.startswith(START) else ""
        if name in settings.parameters or coordinate in settings.start:
            raise InputError(f"{name} is both fixed and swept; give one of the two")
        if coordinate in settings.clamp:
            raise InputError(f"{coordinate} is clamped, so its start cannot be swept; drop one")


def _sampling(ranges, points, seed, sampling) -> tuple[int, int]:
    if not ranges:
        if points is not None:
            raise InputError("--points counts samples; say what to sample: --random N=8:512:log")
        return 0, 0
    if sampling not in SAMPLINGS:
        raise unknown("sampling", sampling, SAMPLINGS)
    if points is None:
        raise InputError("say how many points to sample: --points 1000")
    for name, value, least in (("points", points, 1), ("seed", seed, 0)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least:
            raise InputError(f"{name} must be a whole number, at least {least}, not {value}")
    memory.require(40.0 * len(ranges) * points, f"{points} samples", "take fewer")
    return int(points), int(seed)


def _unit_cube(dimensions: int, count: int, sampling: str, seed: int) -> np.ndarray:
    """`count` points in the unit cube, shape (count, dimensions)."""
    rng = np.random.default_rng(seed)
    if sampling == "random":
        return rng.random((count, dimensions))
    from scipy.stats import qmc

    made = {"sobol": qmc.Sobol, "halton": qmc.Halton, "lhs": qmc.LatinHypercube}[sampling]
    with warnings.catch_warnings():  # about counts that are no powers of two; see `Plan.remarks`
        warnings.simplefilter("ignore")
        return made(dimensions, seed=rng).random(count)


def _values_of(plan: Plan, name: str) -> list:
    """The different values of a swept quantity."""
    for swept in plan.axes:
        if swept.name == name:
            return swept.values.tolist()
    return np.unique(plan.sampled[name]).tolist()


def _forms(plan: Plan, further) -> Iterator[tuple[ReducedSystem, dict[str, Any]]]:
    """The system's forms at the points, each with the parameter values of a point.

    Expressions are tried there.
    """
    settings = plan.settings
    system, others = settings.system, {p.name for p in further}
    swept = [name for name in plan.swept if not name.startswith(START)]
    shaping = [name for name in swept if name in system.structure]
    combinations = math.prod(len(_values_of(plan, name)) for name in shaping)
    if combinations > MOST_FORMS:
        raise InputError(
            f"these points are of {combinations} different forms of {system.name}, each compiled "
            f"on its own; sweep fewer values of {', '.join(shaping)}"
        )
    fixed = {k: v for k, v in settings.parameters.items() if k not in others}
    seen, failure = {}, None
    for values in itertools.product(*(_values_of(plan, name) for name in shaping)):
        form = dict(zip(shaping, values, strict=True))
        given, reason = _representative(plan, system, fixed | form, set(swept) - set(form) - others)
        failure = failure or reason
        if given is None:
            continue
        own = system.adapted(given)
        if (own.names, own.events, own.observables) not in seen:
            seen[own.names, own.events, own.observables] = own, given
            _check_expressions(settings, own, given)
    if not seen and len(plan) <= TRIED:
        raise InputError(f"no point of this sweep is possible: {failure}")
    yield from seen.values() or [(system, system.values({}))]


def _representative(plan: Plan, system, given, others) -> tuple[dict | None, InputError | None]:
    """Parameter values of a point with `given` ones that the system accepts; or why not."""
    failure = None
    places = [len(plan) // 2, 0, len(plan) - 1, *range(0, len(plan), -(-len(plan) // TRIED))]
    for k in places:
        point = plan.columns(k, k + 1)
        chosen = {name: point[name].tolist()[0] for name in others}
        try:
            return system.values(given | chosen), None
        except InputError as error:
            failure = failure or error
    return None, failure


def _check_expressions(settings: Settings, own: ReducedSystem, values) -> None:
    numbers = numeric(values)
    if settings.full:
        return
    if settings.t_end == "auto":
        if not (own.horizon.missing and settings.system.horizon.bound):
            own.horizon.of(own.name)
    elif isinstance(settings.t_end, str):
        evaluate(settings.t_end, numbers)
    for time in settings.at:
        if isinstance(time, str):
            evaluate(time, numbers)
    known = dict.fromkeys(own.names)
    for name in (*settings.clamp, *settings.start):
        if name not in known:
            raise unknown(f"coordinate of {own.name}", name, known)


def _block(plan: Plan, forms: list[tuple[ReducedSystem, dict[str, Any]]]) -> int:
    match plan.settings.engine:
        case "full":
            return 1
        case "single":
            least, most = SINGLE
        case _:
            few = max(len(form.names) for form, _ in forms) <= FEW_COORDINATES
            least, most = FEW if few else MANY
            if plan.settings.t_end == "auto":
                least, most = max(1, least // SEARCH), max(1, most // SEARCH)
            packed = max(len(form.pack(values)) for form, values in forms)
            most = max(1, min(most, PACKED // max(8 * packed, 1)))
    return min(len(plan), most, max(least, -(-len(plan) // BLOCKS)))
