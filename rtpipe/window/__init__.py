"""The numba stage: when a window closes, and what it becomes."""
