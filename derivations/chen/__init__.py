"""Chen et al.: model, derivation, limits, proofs."""
