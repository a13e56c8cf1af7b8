"""Musat et al.: model, derivation, limits, proofs."""
