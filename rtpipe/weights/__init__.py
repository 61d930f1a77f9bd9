"""Weights of networks: where they are kept, how checkpoints are read without running anything, and what they say."""
