"""Scores that a paper can print."""
