"""What a run of `wang` says besides its numbers."""

from reduced_dynamics.core.trajectory import Trajectory


def remarks(trajectory: Trajectory) -> list[str]:
    """How little of the induction loss is left for the plateau: h moves before w does."""
    if trajectory.events.get("T_plateau_in") is None:
        return []
    part = 1.01 / float(trajectory["L_IH_over_L_sad"][0])
    stuck = []
    if trajectory["w_Q"][0] == -trajectory["w_K"][0]:
        stuck = [
            "w_Q = -w_K at the start leads into the saddle, which the exact flow never leaves: any "
            "time after T_plateau_in is one of rounding errors"
        ]
    return [
        "",
        *stuck,
        f"L_IH is down to {100 * part:.2g} % of its start when it enters the plateau: h rises "
        "while w_Q w_K is near 0",
    ]
