"""The notion of an experiment, and what all of them share."""
