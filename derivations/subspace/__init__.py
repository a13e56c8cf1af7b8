"""The general theory: feature spaces, their symmetries and commutants."""
