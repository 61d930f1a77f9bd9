"""Whether every runtime of this machine computes the same pictures, and how fast: ``rtpipe engines check``."""
