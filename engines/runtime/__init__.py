"""Runtimes: libraries that compute a network; :mod:`engines.runtime.choose` finds the right one.

One module each, with the same names inside. ``available() -> (version, precisions by device)`` imports the library and
says what it can do on this machine; it raises ``ImportError`` where something must be installed. ``open(graph, device,
precision, threads, progress) -> Session`` loads, exports or compiles what is needed (``progress`` is told in words) and
runs it once; it raises ``ImportError``, or whatever the library raises where it cannot run this graph.
"""
