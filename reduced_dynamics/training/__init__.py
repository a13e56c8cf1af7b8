"""The one training loop of all full models, and its optimisers."""
