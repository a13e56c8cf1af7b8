"""Musat et al., arXiv 2511.01033: the disentangled transformer on item–label recall."""
