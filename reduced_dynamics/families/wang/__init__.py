"""Wang et al., arXiv 2410.11474: the mixed target and the approximation theorems."""
