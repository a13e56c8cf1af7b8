"""The full models of Wang et al., in numpy."""
