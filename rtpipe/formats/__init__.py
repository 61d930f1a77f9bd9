"""Recording formats: one module per format, each with ``probe``, ``Reader`` and, where it can be written, ``Writer``.

``open_recording(path)`` finds the module that knows the file (entry points ``rtpipe.formats``) and opens it.
"""
