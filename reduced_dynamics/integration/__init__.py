"""From a compiled system to a trajectory, or to many."""
