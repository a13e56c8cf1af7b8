"""Training in stages: one trajectory from several runs, each started where the last one ended."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reduced_dynamics.core.trajectory import Trajectory


def join(parts: Sequence[Trajectory]) -> Trajectory:
    """One trajectory from successive ones of the same coordinates.

    Times go on; of what already holds when a stage begins, only what is new counts as an event.
    """
    first, starts = parts[0], np.cumsum([0.0, *(p.t_end for p in parts[:-1])])
    crossings, seen = [], set()
    for part, start in zip(parts, starts, strict=True):
        crossings += [
            replace(c, t=c.t + start) for c in part.crossings if c.t > 0 or c.name not in seen
        ]
        seen |= {c.name for c in part.crossings}
    # The state at the end of a stage is the next one's start; it is kept once.
    tails = [slice(None), *[slice(1, None)] * (len(parts) - 1)]

    def chain(arrays):
        return np.concatenate([a[tail] for a, tail in zip(arrays, tails, strict=True)])

    loss = chain([p.loss for p in parts])
    counted = {
        k: sum(p.stats[k] for p in parts)
        for k, v in first.stats.items()
        if k in ("rhs", "jac", "steps", "wall_s")
    }
    nodes = [p.nodes for p in parts if p.nodes is not None]
    return replace(
        parts[-1],
        t=chain([p.t + start for p, start in zip(parts, starts, strict=True)]),
        z=chain([p.z for p in parts]),
        loss=loss,
        observables={k: chain([p.observables[k] for p in parts]) for k in first.observables},
        crossings=tuple(crossings),
        solver=first.solver,
        stats={**parts[-1].stats, **counted},
        invariants={k: max(p.invariants.get(k, 0.0) for p in parts) for k in first.invariants},
        loss_rise=float((loss - np.minimum.accumulate(loss)).max()),
        nodes=np.concatenate(nodes) if len(nodes) == len(parts) else None,
        message="; ".join(f"stage {k}: {p.message}" for k, p in enumerate(parts, start=1)),
    )
