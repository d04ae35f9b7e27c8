"""The model bundle, and how a causal language model gets an image vocabulary."""
