"""From a derivation to a compiled system, stage by stage."""
