"""Programs, their derivatives, first integrals and printing, for any family."""
