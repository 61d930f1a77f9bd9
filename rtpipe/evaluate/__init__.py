"""Scores that a paper can print: ``metrics`` of two pictures, ``truth`` of a whole recording, ``sheet`` to look at."""
