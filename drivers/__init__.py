"""Drivers: one module per kind of camera, and the replay of recordings."""
