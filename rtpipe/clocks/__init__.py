"""Clocks of cameras: a camera's on the host's, and one camera's on another's."""
