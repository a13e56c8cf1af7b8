"""Collecting a run's states, values and crossings, and ending it in a `Trajectory`."""

import bisect
import math
import time

import numpy as np

from reduced_dynamics.core.progress import Progress
from reduced_dynamics.core.system import Event
from reduced_dynamics.core.trajectory import NODES, Crossing, Trajectory, interpolate, lobatto
from reduced_dynamics.integration.problem import CONVERGED, CONVERGENCE, Problem
from reduced_dynamics.io.versions import versions

#: An automatic horizon ends AFTER times the moment when the loss has reached CONVERGED of its start
#: and the system's `formed` events have happened;
#: or, where it never does, at the first of the times 2^(k/2) × (formation) over whose second half
#: the loss fell by less than FLAT of its start. All of these are located events, so the horizon
#: does not depend on where the solver happened to step.
AFTER, FLAT = 1.05, 0.01
#: States there is room for at first: copies cost more than pages that are never touched.
ROOM = 2048


class Recorder:
    """Collects the states, values and crossings of a run and ends it in a `Trajectory`.

    What is recorded stands in arrays that grow; `t`, `z` and `table` (loss and observables) are
    their filled parts, and `nodes` what lies between two of the times.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        self.began = time.perf_counter()
        self.count = 0
        self._t, self._z = np.empty(ROOM), np.empty((ROOM, len(problem.z0)))
        self._table = np.empty((ROOM, len(problem.first)))
        self._nodes: np.ndarray | None = None  # of the step that ends at the same index
        self.add(0.0, problem.z0, problem.first)
        self.crossings: list[Crossing] = []
        self.seen: dict[str, float] = {}  # first crossing of every event so far
        self.stats = {"rhs": 0, "jac": 0, "steps": 0}
        self.looked = 0.0  # the last time at which an automatic horizon was considered
        start = problem.watched(problem.z0[None], problem.first[None])[0]
        for event, g in zip(problem.events, start, strict=True):
            # Already there: the level is first reached at the start.
            reached = event.from_start and event.direction >= 0 and g >= 0.0
            if reached and not event.of_start and event.watch not in problem.clamped:
                self.cross(event, 0.0, 1, problem.z0)

    def cross(self, event: Event, t: float, direction: int, state: np.ndarray) -> None:
        if event.direction not in (0, direction):
            return
        self.seen.setdefault(event.name, t)
        if event is not CONVERGENCE:
            self.crossings.append(Crossing(event.name, t, direction, tuple(map(float, state))))

    @property
    def t(self) -> np.ndarray:
        return self._t[: self.count]

    @property
    def z(self) -> np.ndarray:
        return self._z[: self.count]

    @property
    def table(self) -> np.ndarray:
        return self._table[: self.count]

    @property
    def nodes(self) -> np.ndarray | None:
        """(times − 1, NODES, d) for a flow; None before its first step, and for descent."""
        return None if self._nodes is None else self._nodes[1 : self.count]

    def room(self, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the next steps of a flow may be written: times, nodes, values; see `keep`."""
        if self._nodes is None:
            self._nodes = np.empty((len(self._t), NODES, self._z.shape[1]))
        self._grow(steps)
        free = slice(self.count, self.count + steps)
        return self._t[free], self._nodes[free], self._table[free]

    def _grow(self, more: int) -> None:
        size = max(2 * len(self._t), self.count + more)
        if self.count + more <= len(self._t):
            return
        for name in ("_t", "_z", "_table", "_nodes"):
            old = getattr(self, name)
            if old is not None:
                new = np.empty((size, *old.shape[1:]))
                new[: self.count] = old[: self.count]
                setattr(self, name, new)

    def keep(self, steps: int) -> None:
        """The first so many steps written into `room`, each of which changes the time, count."""
        new = slice(self.count, self.count + steps)
        self._z[new] = self._nodes[new, -1]
        self.count += steps

    def add(self, t: float, z: np.ndarray, values: np.ndarray) -> None:
        self._grow(1)
        self._t[self.count], self._z[self.count], self._table[self.count] = t, z, values
        self.count += 1  # last: an interruption leaves whole entries

    def add_step(self, t: float, nodes: np.ndarray, values: np.ndarray) -> None:
        """A step of the flow; one too short to change the time replaces the state there."""
        if t > self._t[self.count - 1]:
            self.room(1)[1][0] = nodes
            self.add(t, nodes[-1], values)
        else:
            self.z[-1], self.table[-1] = nodes[-1], values

    @property
    def loss(self) -> float:
        return float(self.table[-1][0])

    def horizon(self) -> float | None:
        """When an automatic horizon ends, once that is known."""
        formed = self.problem.system.horizon.formed
        if not all(name in self.seen for name in formed):
            return None
        if CONVERGENCE.name in self.seen:
            return AFTER * max(self.seen[name] for name in (CONVERGENCE.name, *formed))
        if self.problem.system.horizon.plateaus:
            return None
        at = max([self.seen[name] for name in formed], default=1.0)
        while (at := at * math.sqrt(2.0)) <= self.t[-1]:
            if at > self.looked:
                self.looked = at
                if self.loss_at(0.5 * at) - self.loss_at(at) < FLAT * abs(self.table[0][0]):
                    return at
        return None

    def loss_at(self, t: float) -> float:
        """The loss at a time already passed."""
        k = min(bisect.bisect_left(self.t, t), self.count - 1)
        if self.nodes is None or k == 0:
            return float(self.table[k][0])
        x = (t - self.t[k - 1]) / (self.t[k] - self.t[k - 1])
        state = interpolate(np.array([x]), self.nodes[k - 1][None])
        return float(self.problem.compiled.value_table(state, self.problem.par)[0, 0])

    def cut(self, t: float) -> None:
        """Drop what lies beyond `t`, which the last step has passed."""
        while self.count > 1 and self.t[-2] >= t:
            self.count -= 1
        if t < self.t[-1] and self.nodes is not None:
            part = (t - self.t[-2]) / (self.t[-1] - self.t[-2])
            nodes = interpolate(
                part * lobatto(NODES),
                np.broadcast_to(self.nodes[-1], (NODES, *self.nodes[-1].shape)),
            )
            nodes[0] = self.z[-2]
            self.t[-1], self.z[-1], self.nodes[-1] = t, nodes[-1], nodes
            self.table[-1] = self.problem.compiled.value_table(nodes[-1:], self.problem.par)[0]
        self.crossings = [c for c in self.crossings if c.t <= t]

    def done(self) -> str | None:
        """Why the run is complete, or None; ends the record at the horizon."""
        problem, t = self.problem, float(self.t[-1])
        known = self.horizon() if problem.automatic else None
        if known is not None:
            end = max(known, *problem.options.at, 0.0)
            if t >= end <= problem.t_end:
                self.cut(end)
                if CONVERGENCE.name in self.seen:
                    return f"the loss has fallen below {CONVERGED:g} of its start"
                return (
                    "the loss has settled: over the second half of the run it fell by less than "
                    f"{FLAT:.0%} of its start"
                )
        if t < problem.t_end:
            return None
        if not problem.automatic:
            return "the horizon was reached"
        if problem.system.horizon.plateaus:
            return "the bound of the automatic horizon was reached"
        missing = [name for name in problem.system.horizon.formed if name not in self.seen]
        what = f"{', '.join(missing)} did not happen" if missing else "the loss had not settled"
        bound = problem.system.horizon.bound
        return f"the bound of the automatic horizon, {bound}, was reached: {what}"

    def tell(self, progress: Progress) -> None:
        """Say how far the run is; which share that is, is not known of an automatic horizon."""
        t, t_end, automatic = float(self.t[-1]), self.problem.t_end, self.problem.automatic
        most = "at most " if automatic else ""
        progress(
            f"t = {t:.4g} of {most}{t_end:.4g}, {self.stats['steps']} steps, loss {self.loss:.4g}",
            math.nan if automatic else t / t_end,
        )

    def trajectory(self, message: str) -> Trajectory:
        problem = self.problem
        options, compiled = problem.options, problem.compiled
        # No copies: what is not filled of these arrays has never been touched.
        times, states, table = self.t, self.z, self.table
        self.crossings = [c for c in self.crossings if c.t <= times[-1]]
        names = problem.invariant_names()
        conserved = compiled.invariants(states, problem.par) if names else np.empty((len(times), 0))
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
            t=times,
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
            nodes=self.nodes if self.nodes is not None and self.count > 1 else None,
        )
