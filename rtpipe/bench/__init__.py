"""Measurements beside the peers that are installed: one module per question."""
