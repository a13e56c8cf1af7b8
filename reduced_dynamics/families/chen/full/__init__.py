"""The full model of Chen et al., in numpy."""
