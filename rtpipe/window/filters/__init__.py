"""Filters in front of the windows: one file per filter, each with ``Settings`` and ``Filter``.

``filtered(recording, filters)`` reads a recording through them.
"""

from rtpipe.window.filters.recording import Filtered, filtered

__all__ = ["Filtered", "filtered"]
