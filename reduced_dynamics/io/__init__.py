"""Files: written whole or not at all, and trajectories in them."""
