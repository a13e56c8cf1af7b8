"""Experiments of Musat et al., one file each."""
