"""Writing EventHDR's HDF5, one more variant of the events_contrast_maximization layout.

``events/xs``, ``ys`` (int16), ``ts`` (float64 seconds), ``ps`` (bool); ``images/image%09d`` (8 or 16 bit) with
``event_idx``, ``size``, ``timestamp``, ``type``; ``num_images`` on the group; ``sensor_resolution`` (height, width).
Read by :mod:`rtpipe.formats.ecm_h5`, which knows the file by its content: this module says no to every file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rtpipe.formats import ecm_h5
from rtpipe.formats.ecm_h5 import write
from rtpipe.types import Frame

__all__ = ["DESCRIPTION", "SUFFIXES", "Reader", "Writer", "probe"]

DESCRIPTION = "EventHDR's HDF5, for writing; read as ecm_h5"
SUFFIXES: tuple[str, ...] = ()
"""``.h5`` is EFNet's layout: this one is asked for by name."""

Reader = ecm_h5.Reader


def probe(path: Path, head: bytes) -> bool:  # noqa: ARG001
    """Never: :mod:`rtpipe.formats.ecm_h5` reads this layout."""
    return False


class Writer(write.Writer):
    """A recording in EventHDR's layout (see :class:`rtpipe.formats.ecm_h5.write.Writer`).

    A picture's ``timestamp`` is the end of its exposure, its ``t`` where none is known; exposures are not kept.
    """

    HOLDS: ClassVar[tuple[str, ...]] = ("events", "frames")
    POLARITY: ClassVar[type] = np.bool_

    def _describe(self, stored: Any, frame: Frame, end: int) -> None:
        with self._world():
            stored.attrs["type"] = np.bytes_(b"color_bgr" if frame.image.ndim == 3 else b"greyscale")
        self._to_index.append((end, write.last_before(stored)))

    def _finish(self) -> None:
        super()._finish()
        self._file.attrs["num_flow"] = 0
        self._file["images"].attrs["num_images"] = self._written["images"]
