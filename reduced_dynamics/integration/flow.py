"""Integrating the flow with scipy's stiff solvers, one step at a time."""

import math
import warnings

import numpy as np

from reduced_dynamics.core.errors import IntegrationError
from reduced_dynamics.core.trajectory import NODES, lobatto
from reduced_dynamics.integration.chart import chart_of
from reduced_dynamics.integration.events import may_cross, resolved, search
from reduced_dynamics.integration.problem import CONVERGENCE, Problem

#: The tolerances asked for are the trajectory's. Multistep methods control the error of a step,
#: and over some thousand steps these were measured to add up to some hundred times a step's; so
#: they are given this part of the tolerances: (precise systems, others). Radau's error estimate
#: is pessimistic instead. A system may state what was measured for it (`Hints.local`).
LOCAL = {"LSODA": (1e-4, 1e-3), "BDF": (1e-4, 1e-3), "Radau": (1.0, 1.0)}
#: Below this, rounding errors are taken for errors of the method.
LEAST_RTOL = 5e-14
#: A loss that rises in one step by so many times its size, at the start or now (or 1e-3), is no
#: error of a step: the solver has found its way over a singularity.
JUMP = 1e3
#: So many steps must advance the time by at least this part of it, or they lead nowhere.
PATIENCE, ADVANCE = 3_000, 1e-9
#: A precise system's may lead somewhere: the head of musat3 forms within N of N² units of time,
#: for which LSODA was measured to take 10 000 steps at N = 10¹². They get so many times as many.
PRECISE = 6
#: Of a costly system, a watched value further from its level than so many of its latest changes
#: does not cross it within a step, not even to turn back.
CHANGES = 10.0
#: How often the solver is restarted, with shorter steps, where the equations ceased to be finite.
RETRIES = 20


class _Clock:
    """scipy's solver on a flow that does not know the time, restarted when time gets too coarse.

    The flow is autonomous, so a run may be continued from time 0 of its own. That matters after a
    long plateau: at t = 5·10¹⁸ neighbouring floating-point numbers are 10³ apart, and the head
    forms within a hundred.

    A system with a `tempo` is integrated over s = log(1 + t/tempo): where its state moves as log t,
    steps of one length in s do, and multistep methods need not change theirs all the time.

    Where the problem has a chart, the solver's state is that of the chart; what `step` gives is in
    the problem's coordinates.
    """

    #: Restart when a step is this small a part of the solver's time; at most every so many steps.
    COARSE, LEAST = 1e-10, 50
    #: Every so many steps (ten times as many where a Jacobian is costly), look whether LSODA's
    #: explicit method is limited by stability: whether step times largest rate exceeds this.
    LOOK, STABILITY = 100, 0.3
    #: LSODA's implicit method renews its Jacobian at least every 20 steps (ODEPACK's MSBP); where
    #: so many have passed without a new one, it is the explicit method that steps.
    LASTS = 21

    def __init__(self, problem: Problem):
        self.problem = problem
        self.bases: list[float] = []
        self.spent = {"rhs": 0, "jac": 0}
        self.longest = problem.options.max_step
        self.tempo = problem.system.hints.tempo if self.longest == math.inf else None
        self.method = problem.options.method
        self.relief = 0.0
        self.chart = chart_of(problem)
        self._start(self.chart.start)

    def _start(self, z: np.ndarray) -> None:
        import scipy.integrate

        options = self.problem.options
        local = max(_local(self.problem.system, self.method), self.relief)
        self.steps = self.renewed = self.jacobians = 0
        self.solver = getattr(scipy.integrate, self.method)(
            self.chart.rate if self.tempo is None else self._rate,
            0.0,
            z,
            self._end(),
            rtol=max(options.rtol * local, LEAST_RTOL),
            atol=options.atol * local,
            jac=self.chart.jacobian if self.tempo is None else self._jacobian,
            max_step=self.longest,
        )

    def _rate(self, s: float, z: np.ndarray) -> np.ndarray:
        return self.tempo * math.exp(s) * self.chart.rate(s, z)

    def _jacobian(self, s: float, z: np.ndarray) -> np.ndarray:
        return self.tempo * math.exp(s) * self.chart.jacobian(s, z)

    def _end(self) -> float:
        """Where the solver's own time ends."""
        left = self.problem.t_end - math.fsum(self.bases)
        return left if self.tempo is None else math.log1p(left / self.tempo)

    def _own(self, s: float) -> float:
        """Training time since the solver's last start, from the solver's time."""
        return s if self.tempo is None else self.tempo * math.expm1(s)

    def relax(self) -> None:
        """After convergence, stop resolving the rounding errors of the right-hand side.

        What is left of the flow is smaller than the rounding of the terms that cancel in it; a
        step of a hundredth of the elapsed time then moves the state by (rounding × step), and
        tolerances below that only shorten steps. Errors no longer grow: the flow contracts.
        """
        z = self.solver.y
        shift = np.spacing(np.abs(z)) * np.where(np.arange(len(z)) % 2, -4.0, 4.0)
        change = self.chart.rate(0.0, z + shift) - self.chart.rate(0.0, z)
        rounding = np.abs(change - self.chart.jacobian(0.0, z) @ shift).max()
        moved = rounding * 0.01 * self.time() / np.abs(z).max()
        self.relief = min(moved / self.problem.options.rtol, 1.0)
        self._restart()

    def time(self) -> float:
        """Training time."""
        if self.solver.status == "finished":
            return self.problem.t_end
        return math.fsum([*self.bases, self._own(self.solver.t)])

    def _restart(self) -> None:
        self.spent = self.stats
        self.bases.append(self._own(self.solver.t))
        self._start(self.solver.y.copy())

    def _crawls(self, length: float) -> bool:
        """Whether LSODA is stuck with its explicit method on a stiff stretch.

        LSODA does not look for stiffness while its error estimate is near rounding, which under
        strict tolerances it is after emergence; it then crawls at the stability limit (measured:
        156 000 steps for musat19 at N = 10⁴, against 4 000). The run goes on with BDF.
        """
        every = self.LOOK * (10 if self.problem.system.hints.costly else 1)
        if self.solver.njev != self.jacobians:
            self.jacobians, self.renewed = self.solver.njev, self.steps
        explicit = self.steps - self.renewed >= self.LASTS
        if self.method != "LSODA" or self.steps % every or not explicit:
            return False
        jacobian = self.chart.jacobian(0.0, self.solver.y)
        rates = np.linalg.eigvals(jacobian) if np.isfinite(jacobian).all() else np.inf
        return length * np.abs(rates).max() > self.STABILITY

    def _advance(self) -> None:
        """One step of the solver.

        A trial that went too far, to where the equations are not finite, is no reason to give up:
        what lies before can be reached with shorter steps.
        """
        for attempt in range(RETRIES):
            before, z = self.solver.t, self.solver.y.copy()
            reason = self._try()
            if not reason:
                return
            if attempt or self.steps == 0 or self.solver.status != "failed":
                length = abs(self.solver.t - before) or self.solver.t_bound
                self.longest = 0.25 * min(length, self.longest)
                time = math.fsum([*self.bases, self._own(before)])
                if self._own(before + self.longest) - self._own(before) <= 4.0 * np.spacing(time):
                    break
            self.solver.t, self.solver.y = before, z
            self._restart()
        raise ArithmeticError(reason)

    def _try(self) -> str:
        """One step of the solver; why it failed, or nothing."""
        try:
            message = self.solver.step()
        except ValueError:  # scipy's linear algebra; LinAlgError is one of these
            return "the Jacobian is no longer finite"
        if self.solver.status == "failed":
            # What scipy says of LSODA's refusal helps nobody.
            unclear = not message or "istate" in message
            return "the steps became too short; the gradient may jump" if unclear else message
        if not np.isfinite(self.solver.y).all() or not self._moves():
            return "the state or its rate of change is no longer finite"
        return ""

    def _moves(self) -> bool:
        """Whether the rate of change is finite; of a costly system, the next step finds out."""
        costly = self.problem.system.hints.costly
        return costly or bool(np.isfinite(self.chart.rate(0.0, self.solver.y)).all())

    @property
    def stats(self) -> dict[str, int]:
        solver = self.solver
        return {
            "rhs": self.spent["rhs"] + int(solver.nfev),
            "jac": self.spent["jac"] + int(solver.njev),
        }

    def step(self):
        """One step: (t before, t after, state after, dense output over [0, 1])."""
        self._advance()
        self.steps += 1
        solver, bases = self.solver, tuple(self.bases)
        t_old, length, interpolant = solver.t_old, solver.t - solver.t_old, solver.dense_output()
        after = self.chart.states(solver.y.copy())
        began, now = math.fsum([*bases, self._own(t_old)]), self.time()
        if solver.status != "finished" and self.steps >= self.LEAST:
            if self._crawls(now - began):
                self.method = "BDF"
                self._restart()
            elif length < self.COARSE * solver.t:
                self._restart()
        return began, now, after, self._dense(t_old, length, interpolant)

    def _dense(self, t_old: float, length: float, interpolant):
        """The state at a part of a step's training time."""
        states = self.chart.states
        if self.tempo is None:
            return lambda x: states(interpolant(t_old + length * np.asarray(x)))
        # log(1 + t/tempo), from its value at the step's start.
        growth = math.expm1(length)
        return lambda x: states(interpolant(t_old + np.log1p(growth * np.asarray(x))))


def _local(system, method: str) -> float:
    """The part of the tolerances that a step gets."""
    if system.hints.local is not None and method != "Radau":
        return system.hints.local
    return LOCAL[method][0 if system.hints.precise else 1]


def run_flow(problem, recorder, progress) -> str:
    # scipy warns of what ends in an error or in another attempt here.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="scipy", category=UserWarning)
        return _run(problem, recorder, progress)


def _run(problem, recorder, progress) -> str:
    clock, settled = _Clock(problem), problem.system.hints.precise
    patience = PATIENCE * (PRECISE if problem.system.hints.precise else 1)
    recorder.stats |= clock.chart.stats
    inside = lobatto(NODES)[1:-1]
    mark = 0.0
    while True:
        try:
            t_old, t, state, dense = clock.step()
        except ArithmeticError as failure:
            raise _failure(problem, recorder, str(failure)) from None
        if reason := problem.outside(state):
            raise IntegrationError(reason, recorder.trajectory(reason))
        nodes = np.empty((NODES, len(state)))
        nodes[0], nodes[-1] = recorder.z[-1], state
        nodes[1:-1] = dense(inside).T
        nodes[:, problem.held] = problem.z0[problem.held]
        table = _values(problem, recorder, nodes)
        if not np.isfinite(table).all():
            names = ("loss", *problem.compiled.observables)
            name = names[int(np.flatnonzero(~np.isfinite(table).all(axis=0))[0])]
            raise _failure(problem, recorder, f"the value of '{name}' is no longer finite")
        before, after = recorder.loss, float(table[-1, 0])
        if after - before > JUMP * max(abs(before), abs(recorder.table[0][0]), 1e-3):
            raise _jumped(problem, recorder, before, after, t)
        _locate(problem, recorder, t_old, t, dense, nodes, table)
        recorder.stats |= clock.stats
        recorder.stats["steps"] += 1
        if clock.method != problem.options.method:
            recorder.stats.setdefault(f"{clock.method}_from_t", float(t_old))
        recorder.add_step(t, nodes, table[-1])
        if not settled and CONVERGENCE.name in recorder.seen:
            clock.relax()
            settled = True
        recorder.tell(progress)
        message = recorder.done()
        if message is not None:
            return message
        if recorder.stats["steps"] % patience == 0:
            if t - mark <= ADVANCE * t:
                raise _failure(problem, recorder, "steps no longer advance the time")
            mark = t
        if recorder.stats["steps"] >= problem.most_steps:
            raise _failure(problem, recorder, f"no end after {problem.most_steps} steps")


def _values(problem, recorder, nodes) -> np.ndarray:
    """Loss and observables at every second node without the first, or at the last node alone."""
    if problem.system.hints.costly:
        end = problem.compiled.value_table(nodes[-1:], problem.par)
        if _far(problem.watched_values(np.array([*recorder.table[-2:], end[0]]))):
            return end
    # With the known start, this is again a Lobatto grid.
    return problem.compiled.value_table(nodes[2::2].copy(), problem.par)


def _far(values: np.ndarray) -> bool:
    """Whether nothing watched can cross between the last two of (at most) three rows.

    A turn within the step, which its ends do not show, changes the value in the step before by
    about eight times what it adds.
    """
    change = np.abs(np.diff(values, axis=0)).max(axis=0)
    clear = np.abs(values[-2:]).min(axis=0) > CHANGES * change
    return len(values) == 3 and bool(clear.all())


def _locate(problem, recorder, t_old, t, dense, nodes, table) -> None:
    """Find all crossings within a step and record them."""
    found = []
    watched = [(problem.watched_states(nodes), problem.by_state, False)]
    if len(table) > 1:  # otherwise nothing crosses
        of_values = problem.watched_values(np.concatenate([recorder.table[-1][None], table]))
        watched.append((of_values, problem.by_value, True))
    for values, events, is_value in watched:
        for column in np.flatnonzero(may_cross(values) | ~resolved(values)):
            k = events[column]

            def value(x, column=column, is_value=is_value):
                state = np.ascontiguousarray(dense(x))
                state[problem.held] = problem.z0[problem.held]
                if is_value:
                    row = problem.compiled.value_table(state[None], problem.par)
                    return problem.watched_values(row)[0, column]
                return problem.watched_states(state[None])[0, column]

            for x, direction in search(values[:, column], value):
                found.append((x, problem.events[k], direction, dense(x)))
    for x, event, direction, state in sorted(found, key=lambda f: f[0]):
        recorder.cross(event, float(t_old + (t - t_old) * x), direction, state)


def _jumped(problem, recorder, before: float, after: float, t: float) -> IntegrationError:
    message = (
        f"the loss rose from {before:.4g} to {after:.4g} in the step from t = {recorder.t[-1]:g} "
        f"to {t:g}, which no gradient flow does: there is a singularity between; end before it "
        "(--t-end), or see it with shorter steps (--max-step)"
    )
    return IntegrationError(message, recorder.trajectory(message))


def _failure(problem, recorder, reason: str) -> IntegrationError:
    t = recorder.t[-1]
    other = next(m for m in ("Radau", "BDF", "LSODA") if m != problem.options.method)
    elsewhere = "a horizon before that time (--t-end)" if t > 0.0 else "another start (--start)"
    message = (
        f"{problem.options.method} failed at t = {t:g}: {reason}; try --method {other}, a looser "
        f"--rtol, or {elsewhere}"
    )
    return IntegrationError(message, recorder.trajectory(message))
