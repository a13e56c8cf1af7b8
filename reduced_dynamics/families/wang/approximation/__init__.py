"""The approximation theorems of Wang et al., arXiv 2410.11474, as weights of a small transformer.

Targets (`targets`): the induction head IH₂, IH_n which compares n − 1 tokens, and GIH_n which
compares them by any similarity g. One model (`transformer`): two layers of attention with relative
positional encoding, and a ReLU network between them. Every theorem is a function of `constructions`
that returns weights for that model; `supremum` looks for the inputs on which they are worst, and
`theorem_3_1`, `theorem_3_3`, `theorem_3_4` tabulate the error against what the theorem varies.
"""
