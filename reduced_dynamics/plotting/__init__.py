"""Style, and figures of trajectories."""
