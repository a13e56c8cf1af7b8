"""The full models of Musat et al., in numpy."""
