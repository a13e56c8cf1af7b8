"""One trajectory: a system, its parameters, a method, a horizon.

The flow is stiff once the head has formed, so the methods are implicit ones with strict defaults;
loose tolerances would move emergence times without any warning.
"""

from __future__ import annotations

import bisect
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reduced_dynamics._version import __version__
from reduced_dynamics.compiled import CompiledSystem, compile_system
from reduced_dynamics.errors import InputError, IntegrationError, unknown
from reduced_dynamics.events import may_cross, roots
from reduced_dynamics.expressions import evaluate
from reduced_dynamics.system import Event, ReducedSystem
from reduced_dynamics.systems import get
from reduced_dynamics.trajectory import NODES, Crossing, Trajectory, interpolate, lobatto

METHODS = ("LSODA", "Radau", "BDF")
DYNAMICS = ("flow", "gd")
RTOL, ATOL, THRESHOLD = 1e-9, 1e-12, 0.5

#: The tolerances asked for are the trajectory's. Multistep methods control the error of a step,
#: and over some thousand steps these were measured to add up to some hundred times a step's; so
#: they are given this part of the tolerances: (precise systems, others). Radau's error estimate
#: is pessimistic instead.
LOCAL = {"LSODA": (1e-4, 1e-3), "BDF": (1e-4, 1e-3), "Radau": (1.0, 1.0)}
#: Below this, rounding errors are taken for errors of the method.
LEAST_RTOL = 5e-14

#: A step count no healthy run comes near; beyond it a run is stuck.
MAX_STEPS = 200_000
#: An automatic horizon ends AFTER times the moment when the loss reaches CONVERGED of its start;
#: or, where it never does, at the first of the times 2^(k/2) × (formation) over whose second half
#: the loss fell by less than FLAT of its start. All of these are located events, so the horizon
#: does not depend on where the solver happened to step.
CONVERGED, AFTER, FLAT = 1e-6, 1.05, 0.01
#: Discrete dynamics keep at most about this many recorded states.
RECORDED = 5_000
#: Discrete steps per call into compiled code.
CHUNK = 4_096


class Interrupted(KeyboardInterrupt):
    """The user interrupted; `trajectory` holds what was done so far."""

    def __init__(self, trajectory: Trajectory):
        super().__init__("interrupted")
        self.trajectory = trajectory


@dataclass(frozen=True)
class Progress:
    """What a running integration reports: time reached, horizon, steps, loss, seconds."""

    t: float
    t_end: float
    steps: int
    loss: float
    wall_s: float


@dataclass(frozen=True)
class Options:
    """How to integrate; see `integrate` for the meaning of every field."""

    t_end: str | float = "auto"
    method: str = "LSODA"
    rtol: float = RTOL
    atol: float = ATOL
    threshold: float = THRESHOLD
    clamp: Mapping[str, float] = field(default_factory=dict)
    start: Mapping[str, float] = field(default_factory=dict)
    dynamics: str = "flow"
    step: float | None = None
    at: Sequence[float] = ()

    def __post_init__(self):
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        if self.dynamics not in DYNAMICS:
            raise unknown("dynamics", self.dynamics, DYNAMICS)
        for name, low, high in (("rtol", 1e-13, 0.1), ("atol", 0.0, math.inf)):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and low <= value <= high and value < math.inf):
                raise InputError(f"{name} = {value} must be a number in {low:g} .. {high:g}")
        if not math.isfinite(self.threshold):
            raise InputError(f"threshold must be a finite number, not {self.threshold}")
        if self.dynamics == "gd" and not (self.step and 0 < self.step < math.inf):
            raise InputError("dynamics=gd needs a step size: give --step with a positive number")
        if self.dynamics == "flow" and self.step is not None:
            raise InputError("a step size belongs to dynamics=gd; add --dynamics gd or drop --step")
        for t in self.at:
            if not (0 <= t < math.inf):
                raise InputError(f"the state can be reported at times >= 0, not at {t}")


CONVERGENCE = Event("", "the loss has converged", "loss", CONVERGED, of_start=True, direction=-1)


class _Problem:
    """A system with its numbers: compiled functions, packed parameters, start, events."""

    def __init__(self, system: ReducedSystem, parameters: Mapping[str, Any], options: Options):
        self.system, self.options = system, options
        self.values = system.values(parameters)
        clamp = {k: system.place(k, v) for k, v in options.clamp.items()}
        start = {k: system.place(k, v) for k, v in options.start.items()}
        both = sorted(clamp.keys() & start.keys())
        if both:
            raise InputError(f"{both[0]} is both clamped and started; give one of the two")
        self.z0 = np.array([(start | clamp).get(c.name, c.start) for c in system.coordinates])
        self.held = np.array([name in clamp for name in system.names])
        self.clamped = frozenset(clamp)
        self.t_end, self.automatic = self._horizon()
        self.compiled: CompiledSystem = compile_system(system, self.values)
        self.par = np.array(system.pack(self.values), dtype=float)
        self.columns = {"loss": 0} | {
            name: 1 + k for k, name in enumerate(self.compiled.observables)
        }
        first = self.compiled.value_table(self.z0[None], self.par)
        if not np.isfinite(first).all():
            raise InputError("the loss is not finite at the start; start nearer to the origin")
        self.first = first[0]
        # The last event is for the horizon only.
        self.events = (*system.events, CONVERGENCE)
        self.levels = np.array([self._level(e) for e in self.events])
        watches = [e.watch for e in self.events]
        self.by_value = np.array([k for k, w in enumerate(watches) if w in self.columns])
        self.by_state = np.array([k for k, w in enumerate(watches) if w not in self.columns], int)
        self.value_columns = np.array([self.columns[watches[k]] for k in self.by_value])
        self.state_columns = np.array([system.index(watches[k]) for k in self.by_state], int)

    def _horizon(self) -> tuple[float, bool]:
        t_end = self.options.t_end
        if t_end == "auto":
            if not self.system.horizon:
                raise InputError(
                    f"{self.system.name} declares no automatic horizon; give t_end (--t-end)"
                )
            horizon, automatic = self.system.horizon, True
        else:
            horizon, automatic = t_end, False
        numbers = {
            k: float(v)
            for k, v in self.values.items()
            if isinstance(v, int | float) and not isinstance(v, bool)
        }
        number = evaluate(horizon, numbers) if isinstance(horizon, str) else float(horizon)
        if not (0 < number < math.inf):
            raise InputError(f"the horizon must be a positive time, not {number:g}; mend --t-end")
        late = [t for t in self.options.at if t > number]
        if late:
            raise InputError(f"time {late[0]:g} lies beyond the horizon {number:g}; raise --t-end")
        return number, automatic

    def _level(self, event: Event) -> float:
        level = self.options.threshold if event.level is None else event.level
        if event.of_start:
            if event.watch in self.columns:
                return level * self.first[self.columns[event.watch]]
            return level * self.z0[self.system.index(event.watch)]
        return level

    def rate(self, t: float, z: np.ndarray) -> np.ndarray:
        f = self.compiled.flow(t, z, self.par)
        f[self.held] = 0.0
        return f

    def jacobian(self, t: float, z: np.ndarray) -> np.ndarray:
        matrix = self.compiled.jacobian(t, z, self.par)
        matrix[self.held] = 0.0
        return matrix

    def watched(self, states: np.ndarray, table: np.ndarray) -> np.ndarray:
        """What the events watch, minus its level, shape (times, events)."""
        result = np.empty((len(states), len(self.events)))
        result[:, self.by_state] = self.watched_states(states)
        result[:, self.by_value] = self.watched_values(table)
        return result

    def watched_states(self, states: np.ndarray) -> np.ndarray:
        """The columns of `watched` that watch a coordinate."""
        return states[:, self.state_columns] - self.levels[self.by_state]

    def watched_values(self, table: np.ndarray) -> np.ndarray:
        """The columns of `watched` that watch the loss or an observable."""
        return table[:, self.value_columns] - self.levels[self.by_value]

    def invariant_names(self) -> list[str]:
        """The first integrals that these parameters and clamps leave valid."""
        holds = {i.name: i.holds(self.values) for i in self.system.invariants}
        return [
            name
            for name, involved in self.compiled.invariant_coordinates.items()
            if holds.get(name, True) and not self.clamped & set(involved)
        ]


class _Recorder:
    """Collects the states, values and crossings of a run and ends it in a `Trajectory`."""

    def __init__(self, problem: _Problem):
        self.problem = problem
        self.began = time.perf_counter()
        self.t = [0.0]
        self.z = [problem.z0.copy()]
        self.table = [problem.first]
        self.nodes: list[np.ndarray] = []
        self.crossings: list[Crossing] = []
        self.seen: dict[str, float] = {}  # first crossing of every event so far
        self.stats = {"rhs": 0, "jac": 0, "steps": 0}
        self.looked = 0.0  # the last time at which an automatic horizon was considered
        start = problem.watched(problem.z0[None], problem.first[None])[0]
        for event, g in zip(problem.events, start, strict=True):
            # Already there: the level is first reached at the start.
            if event.direction >= 0 and g >= 0.0 and not event.of_start:
                self.cross(event, 0.0, 1, problem.z0)

    def cross(self, event: Event, t: float, direction: int, state: np.ndarray) -> None:
        if event.direction not in (0, direction):
            return
        self.seen.setdefault(event.name, t)
        if event is not CONVERGENCE:
            self.crossings.append(Crossing(event.name, t, direction, tuple(map(float, state))))

    def add(self, t: float, z: np.ndarray, values: np.ndarray) -> None:
        self.t.append(t)
        self.z.append(z)
        self.table.append(values)

    def add_step(self, t: float, nodes: np.ndarray, values: np.ndarray) -> None:
        """A step of the flow; one too short to change the time replaces the state there."""
        if t > self.t[-1]:
            self.nodes.append(nodes)
            self.add(t, nodes[-1], values)
        else:
            self.z[-1], self.table[-1] = nodes[-1], values

    @property
    def loss(self) -> float:
        return float(self.table[-1][0])

    def horizon(self) -> float | None:
        """When an automatic horizon ends, once that is known."""
        formed = self.problem.system.formed
        if not all(name in self.seen for name in formed):
            return None
        if CONVERGENCE.name in self.seen:
            return AFTER * self.seen[CONVERGENCE.name]
        at = max([self.seen[name] for name in formed], default=1.0)
        while (at := at * math.sqrt(2.0)) <= self.t[-1]:
            if at > self.looked:
                self.looked = at
                if self.loss_at(0.5 * at) - self.loss_at(at) < FLAT * abs(self.table[0][0]):
                    return at
        return None

    def loss_at(self, t: float) -> float:
        """The loss at a time already passed."""
        k = min(bisect.bisect_left(self.t, t), len(self.t) - 1)
        if not self.nodes or k == 0:
            return float(self.table[k][0])
        x = (t - self.t[k - 1]) / (self.t[k] - self.t[k - 1])
        state = interpolate(np.array([x]), self.nodes[k - 1][None])
        return float(self.problem.compiled.value_table(state, self.problem.par)[0, 0])

    def cut(self, t: float) -> None:
        """Drop what lies beyond `t`, which the last step has passed."""
        while len(self.t) > 1 and self.t[-2] >= t:
            for kept in (self.t, self.z, self.table, *([self.nodes] if self.nodes else [])):
                kept.pop()
        if t < self.t[-1] and self.nodes:
            part = (t - self.t[-2]) / (self.t[-1] - self.t[-2])
            nodes = interpolate(
                part * lobatto(NODES),
                np.broadcast_to(self.nodes[-1], (NODES, *self.nodes[-1].shape)),
            )
            nodes[0] = self.z[-2]
            self.t[-1], self.z[-1], self.nodes[-1] = t, nodes[-1], nodes
            self.table[-1] = self.problem.compiled.value_table(nodes[-1:], self.problem.par)[0]
        self.crossings = [c for c in self.crossings if c.t <= t]

    def progress(self) -> Progress:
        wall = time.perf_counter() - self.began
        return Progress(self.t[-1], self.problem.t_end, self.stats["steps"], self.loss, wall)

    def trajectory(self, message: str) -> Trajectory:
        problem = self.problem
        options, compiled = problem.options, problem.compiled
        states, table = np.array(self.z), np.array(self.table)
        names = problem.invariant_names()
        conserved = (
            compiled.invariants(states, problem.par) if names else np.empty((len(states), 0))
        )
        columns = list(compiled.invariant_coordinates)
        drift = {}
        for name in names:
            column = conserved[:, columns.index(name)]
            drift[name] = float(np.abs(column - column[0]).max())
        running = np.minimum.accumulate(table[:, 0])
        solver = {"method": options.method, "rtol": options.rtol, "atol": options.atol}
        if options.dynamics == "gd":
            solver = {"method": "gradient descent", "step": options.step}
        solver |= {"dynamics": options.dynamics, "threshold": options.threshold}
        solver |= {"t_end": str(options.t_end)}
        solver |= {f"clamp.{k}": float(v) for k, v in options.clamp.items()}
        solver |= {f"start.{k}": float(v) for k, v in options.start.items()}
        self.crossings.sort(key=lambda c: c.t)
        return Trajectory(
            system=problem.system.name,
            coordinates=problem.system.names,
            t=np.array(self.t),
            z=states,
            loss=table[:, 0].copy(),
            observables={k: table[:, c].copy() for k, c in problem.columns.items() if c},
            parameters=problem.values,
            crossings=tuple(self.crossings),
            event_names=tuple(e.name for e in problem.system.events),
            solver=solver,
            invariants=drift,
            loss_rise=float((table[:, 0] - running).max()),
            stats=self.stats
            | {"wall_s": time.perf_counter() - self.began}
            | dict(problem.system.sampling(problem.values, compiled, problem.par, states[-1])),
            versions=versions(),
            source=compiled.source,
            message=message,
            nodes=np.array(self.nodes) if self.nodes else None,
        )


def versions() -> dict[str, str]:
    """Versions of what computes: this package, Python, numpy, scipy, numba."""
    import numba
    import scipy

    return {
        "reduced_dynamics": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
    }


def integrate(
    system: ReducedSystem | str,
    parameters: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Trajectory:
    """Integrate one trajectory of a reduced system.

    Parameters
    ----------
    system : ReducedSystem or str
        A system, or the name of a built-in one.
    parameters : mapping, optional
        Parameter values by name; defaults for the rest.
    t_end : float or str
        Horizon in reduced training time; an expression over the parameters such as ``"8*N**2"``;
        or ``"auto"``: until the head has formed (the system's `formed` events happened) and the
        loss has converged (5 % longer than it takes to reach 10⁻⁶ of its start) or settled at
        another value (see `CONVERGED`), at the latest at the system's own bound, `horizon`.
    method : {"LSODA", "Radau", "BDF"}
        scipy's stiff integrators, with the derived Jacobian.
    rtol, atol : float
        Tolerances of the trajectory; the multistep methods are given stricter ones a step.
    threshold : float
        Level at which a coordinate counts as emerged.
    clamp : mapping of str to float
        Coordinates held fixed at these values.
    start : mapping of str to float
        Coordinates that start elsewhere than the system says.
    dynamics : {"flow", "gd"}
        Gradient flow, or gradient descent with `step`; a step advances the time by `step`.
    step : float
        Learning rate in reduced time, for ``dynamics="gd"``.
    at : sequence of float
        Times the run must reach: an automatic horizon does not end before them.
    progress : callable, optional
        Called with a `Progress` after every step (or chunk of discrete steps).

    Returns
    -------
    Trajectory
        With every crossing of every event in order of time, the drift of the first integrals and
        the largest rise of the loss.

    Raises
    ------
    InputError
        For unknown names and values out of range.
    IntegrationError
        If the integration fails or is stuck, with the reason and a remedy; what was computed is
        in its `trajectory`.
    Interrupted
        On Ctrl-C, with what was computed.
    """
    system = get(system) if isinstance(system, str) else system
    problem = _Problem(system, parameters or {}, Options(**options))
    recorder = _Recorder(problem)
    run = _run_flow if problem.options.dynamics == "flow" else _run_descent
    try:
        with np.errstate(all="ignore"):
            message = run(problem, recorder, progress)
    except KeyboardInterrupt:
        raise Interrupted(
            recorder.trajectory(f"interrupted by the user at t = {recorder.t[-1]:g}")
        ) from None
    return recorder.trajectory(message)


def report_at(
    system: ReducedSystem, trajectory: Trajectory, times: Sequence[float]
) -> dict[str, list[float]]:
    """Loss, observables and coordinates at `times`, by name; empty without times.

    Raises
    ------
    InputError
        If a time lies outside the trajectory.
    """
    if len(times) == 0:
        return {}
    compiled = compile_system(system, trajectory.parameters)
    par = np.array(system.pack(trajectory.parameters), dtype=float)
    states = np.ascontiguousarray(trajectory.at(np.asarray(times, dtype=float)))
    table = compiled.value_table(states, par)
    columns = {"t": np.asarray(times, dtype=float), "loss": table[:, 0]}
    columns |= {name: table[:, 1 + k] for k, name in enumerate(compiled.observables)}
    columns |= {name: states[:, k] for k, name in enumerate(trajectory.coordinates)}
    return {name: column.tolist() for name, column in columns.items()}


def _done(problem: _Problem, recorder: _Recorder) -> str | None:
    """Why the run is complete, or None; ends the record at the horizon."""
    t = recorder.t[-1]
    if problem.automatic:
        end = recorder.horizon()
        if end is not None and t >= max(end, *problem.options.at, 0.0) <= problem.t_end:
            recorder.cut(max(end, *problem.options.at, 0.0))
            converged = CONVERGENCE.name in recorder.seen
            return "the head has formed and the loss has " + (
                f"fallen below {CONVERGED:g} of its start" if converged else "settled"
            )
    if t < problem.t_end:
        return None
    if not problem.automatic:
        return "the horizon was reached"
    missing = [name for name in problem.system.formed if name not in recorder.seen]
    what = f"{', '.join(missing)} did not happen" if missing else "the loss had not settled"
    return f"the bound of the automatic horizon, {problem.system.horizon}, was reached: {what}"


class _Clock:
    """scipy's solver on a flow that does not know the time, restarted when time gets too coarse.

    The flow is autonomous, so a run may be continued from time 0 of its own. That matters after a
    long plateau: at t = 5·10¹⁸ neighbouring floating-point numbers are 10³ apart, and the head
    forms within a hundred.
    """

    #: Restart when a step is this small a part of the solver's time; at most every so many steps.
    COARSE, LEAST = 1e-10, 50
    #: Every so many steps, look whether LSODA's explicit method is limited by stability: whether
    #: its step times the largest rate exceeds this.
    LOOK, STABILITY = 100, 0.3

    def __init__(self, problem: _Problem):
        self.problem = problem
        self.bases: list[float] = []
        self.spent = {"rhs": 0, "jac": 0}
        self.method = problem.options.method
        self.relief = 0.0
        self._start(problem.z0.copy())

    def _start(self, z: np.ndarray) -> None:
        import scipy.integrate

        options = self.problem.options
        local = max(LOCAL[self.method][0 if self.problem.system.precise else 1], self.relief)
        self.steps = 0
        self.solver = getattr(scipy.integrate, self.method)(
            self.problem.rate,
            0.0,
            z,
            self.problem.t_end - self.time(0.0),
            rtol=max(options.rtol * local, LEAST_RTOL),
            atol=options.atol * local,
            jac=self.problem.jacobian,
        )

    def relax(self) -> None:
        """After convergence, stop resolving the rounding errors of the right-hand side.

        What is left of the flow is smaller than the rounding of the terms that cancel in it; a
        step of a hundredth of the elapsed time then moves the state by (rounding × step), and
        tolerances below that only shorten steps. Errors no longer grow: the flow contracts.
        """
        z = self.solver.y
        shift = np.spacing(np.abs(z)) * np.where(np.arange(len(z)) % 2, -4.0, 4.0)
        change = self.problem.rate(0.0, z + shift) - self.problem.rate(0.0, z)
        rounding = np.abs(change - self.problem.jacobian(0.0, z) @ shift).max()
        moved = rounding * 0.01 * self.time(self.solver.t) / np.abs(z).max()
        self.relief = min(moved / self.problem.options.rtol, 1.0)
        self._restart()

    def time(self, t: float) -> float:
        return math.fsum([*self.bases, t])

    def _restart(self) -> None:
        self.spent = self.stats
        self.bases.append(self.solver.t)
        self._start(self.solver.y.copy())

    def _crawls(self, length: float) -> bool:
        """Whether LSODA is stuck with its explicit method on a stiff stretch.

        LSODA does not look for stiffness while its error estimate is near rounding, which under
        strict tolerances it is after emergence; it then crawls at the stability limit (measured:
        156 000 steps for musat19 at N = 10⁴, against 4 000). The run goes on with BDF.
        """
        if self.method != "LSODA" or self.steps % self.LOOK:
            return False
        explicit = self.solver._lsoda_solver._integrator.iwork[18] == 1
        if not explicit:
            return False
        rates = np.linalg.eigvals(self.problem.jacobian(0.0, self.solver.y))
        return length * np.abs(rates).max() > self.STABILITY

    @property
    def stats(self) -> dict[str, int]:
        solver = self.solver
        return {
            "rhs": self.spent["rhs"] + int(solver.nfev),
            "jac": self.spent["jac"] + int(solver.njev),
        }

    def step(self):
        """One step: (t before, t after, state after, dense output over [0, 1])."""
        message = self.solver.step()
        if self.solver.status == "failed" and self.steps > 0:
            self._restart()
            message = self.solver.step()
        if self.solver.status == "failed":
            raise ArithmeticError(message)
        if not np.isfinite(self.solver.y).all():
            raise ArithmeticError("the state is no longer finite")
        self.steps += 1
        solver, bases = self.solver, tuple(self.bases)
        t_old, length, interpolant = solver.t_old, solver.t - solver.t_old, solver.dense_output()
        after = solver.y.copy()
        now = self.time(solver.t)
        if solver.status != "finished" and self.steps >= self.LEAST:
            if self._crawls(length):
                self.method = "BDF"
                self._restart()
            elif length < self.COARSE * solver.t:
                self._restart()
        return (
            math.fsum([*bases, t_old]),
            now,
            after,
            lambda x: interpolant(t_old + length * np.asarray(x)),
        )


def _run_flow(problem, recorder, progress) -> str:
    clock, settled = _Clock(problem), problem.system.precise
    inside = lobatto(NODES)[1:-1]
    while True:
        try:
            t_old, t, state, dense = clock.step()
        except ArithmeticError as failure:
            raise _failure(problem, recorder, str(failure)) from None
        nodes = np.empty((NODES, len(state)))
        nodes[0], nodes[-1] = recorder.z[-1], state
        nodes[1:-1] = dense(inside).T
        nodes[:, problem.held] = problem.z0[problem.held]
        # Every second node, without the first, is again a Lobatto grid with the known start.
        table = problem.compiled.value_table(nodes[2::2].copy(), problem.par)
        if not np.isfinite(table).all():
            raise _failure(problem, recorder, "the loss is no longer finite")
        _locate(problem, recorder, t_old, t, dense, nodes, table)
        recorder.stats |= clock.stats
        recorder.stats["steps"] += 1
        recorder.add_step(t, nodes, table[-1])
        if not settled and CONVERGENCE.name in recorder.seen:
            clock.relax()
            settled = True
        if progress is not None:
            progress(recorder.progress())
        message = _done(problem, recorder)
        if message is not None:
            return message
        if recorder.stats["steps"] >= MAX_STEPS:
            raise _failure(problem, recorder, f"no end after {MAX_STEPS} steps")


def _locate(problem, recorder, t_old, t, dense, nodes, table) -> None:
    """Find all crossings within a step and record them."""
    found = []
    of_states = problem.watched_states(nodes)
    of_values = problem.watched_values(np.concatenate([recorder.table[-1][None], table]))
    for values, events, is_value in (
        (of_states, problem.by_state, False),
        (of_values, problem.by_value, True),
    ):
        for column in np.flatnonzero(may_cross(values)):
            k = events[column]

            def watched(x, column=column, is_value=is_value):
                state = np.ascontiguousarray(dense(x))
                state[problem.held] = problem.z0[problem.held]
                if is_value:
                    row = problem.compiled.value_table(state[None], problem.par)
                    return problem.watched_values(row)[0, column]
                return problem.watched_states(state[None])[0, column]

            for x, direction in roots(values[:, column], watched):
                found.append((x, problem.events[k], direction, dense(x)))
    for x, event, direction, state in sorted(found, key=lambda f: f[0]):
        recorder.cross(event, float(t_old + (t - t_old) * x), direction, state)


def _failure(problem, recorder, reason: str) -> IntegrationError:
    t = recorder.t[-1]
    other = next(m for m in ("Radau", "BDF", "LSODA") if m != problem.options.method)
    message = (
        f"{problem.options.method} failed at t = {t:g}: {reason}; try --method {other}, a looser "
        f"--rtol, or a horizon before that time (--t-end)"
    )
    return IntegrationError(message, recorder.trajectory(message))


def _run_descent(problem, recorder, progress) -> str:
    step = problem.options.step
    total = math.ceil(problem.t_end / step * (1 - 1e-12))
    if total > 2**53:
        raise InputError(f"{total:.3g} steps are too many; raise --step or lower --t-end")
    # States are kept at even spacing, and (automatic horizons end long before their bound) at
    # least at every hundredth part of the time run so far.
    even = 1 if problem.automatic else -(-total // RECORDED)
    done, z = 0, problem.z0.copy()
    previous = problem.watched(z[None], recorder.table[0][None])[0]
    next_record = 1
    while done < total:
        n = min(CHUNK, total - done)
        path = problem.compiled.descend(z, problem.par, step, n, problem.held)[1:]
        table = problem.compiled.value_table(path, problem.par)
        finite = np.isfinite(table).all(axis=1) & np.isfinite(path).all(axis=1)
        too_far = table[:, 0] > 1e6 * max(1.0, abs(recorder.table[0][0]))
        bad = np.flatnonzero(~finite | too_far)
        n = int(bad[0]) if len(bad) else n
        path, table = path[:n], table[:n]
        watched = np.vstack([previous, problem.watched(path, table)])
        changed = (watched[1:] >= 0) != (watched[:-1] >= 0)
        for row, k in zip(*np.nonzero(changed), strict=True):
            direction = 1 if watched[row + 1, k] >= 0 else -1
            recorder.cross(problem.events[k], (done + row + 1) * step, direction, path[row])
        previous = watched[-1]
        for row in range(n):
            index = done + row + 1
            if index >= next_record or index == total or (len(bad) and row == n - 1):
                recorder.add(index * step, path[row].copy(), table[row])
                next_record = index + max(even, index // 1000 if problem.automatic else 1)
        done += n
        if len(bad):
            raise _divergence(problem, recorder, done + 1)
        z = path[-1].copy()
        recorder.stats |= {"rhs": done, "steps": done}
        if progress is not None:
            progress(recorder.progress())
        message = _done(problem, recorder)
        if message is not None:
            return message
    return "the horizon was reached"


def _divergence(problem, recorder, step_number: int) -> IntegrationError:
    """Gradient descent that blows up: say where, and which step would do."""
    states = [
        z
        for z, row in zip(recorder.z, recorder.table, strict=True)
        if row[0] <= recorder.table[0][0]
    ][-20:]
    curvature = max(np.linalg.eigvalsh(-problem.jacobian(0.0, z))[-1] for z in states)
    stable = f"; a step under {2.0 / curvature:.3g} was stable so far" if curvature > 0 else ""
    message = (
        f"gradient descent with step {problem.options.step:g} diverged at step {step_number} "
        f"(t = {step_number * problem.options.step:g}){stable}; lower --step"
    )
    return IntegrationError(message, recorder.trajectory(message))
