"""One room for each family of systems."""
