"""Chen et al., arXiv 2409.10559: copier, selector, classifier on n-gram Markov chains."""
