"""Runtimes: libraries that compute a network. One module each, with the same names inside.

``available() -> Availability`` imports the library and says what it can do here; ``open(graph, device, precision,
progress) -> Session`` loads, exports or compiles what is needed (``progress`` is told in words) and runs it once.
"""
