"""Experiments of Wang et al., one file each."""
