"""Experiments of Chen et al., one file each."""
