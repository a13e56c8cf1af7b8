"""Greek letters by the names that coordinates have."""

#: In the order of the alphabet, which is that of the weights.
GREEK = dict(
    zip(
        ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"],
        "αβγδεζηθικ",
        strict=True,
    )
)
