"""Wang et al.: model, derivation, proofs."""
