"""Engines: one module per model-free method, one folder per network."""
