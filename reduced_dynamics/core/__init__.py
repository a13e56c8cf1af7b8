"""What everything stands on: errors, expressions, memory, systems, trajectories, fits."""
