"""Writing RLED, NER-Net's data set: HDF5 in the events_contrast_maximization layout with a window for each picture.

``events/xs``, ``ys`` (int16), ``ts`` (float64 µs), ``ps`` (bool); ``images/image%09d`` with ``event_idx``, ``size`` and
``timestamp`` (the end of the exposure, µs); ``event_indices`` [n, 2], the first event of each picture's window and the
one after its last; ``sensor_resolution`` (width, height). Read by :mod:`rtpipe.formats.ecm_h5`, which knows the file by
its content: this module says no to every file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from rtpipe.formats import ecm_h5
from rtpipe.formats.ecm_h5 import write
from rtpipe.formats.ecm_h5.indices import HALF_US
from rtpipe.types import Frame, Resolution

__all__ = ["DESCRIPTION", "SUFFIXES", "Reader", "Writer", "probe"]

DESCRIPTION = "RLED's HDF5, for writing; read as ecm_h5"
SUFFIXES: tuple[str, ...] = ()
"""``.h5`` is EFNet's layout: this one is asked for by name."""

Reader = ecm_h5.Reader


def probe(path: Path, head: bytes) -> bool:  # noqa: ARG001
    """Never: :mod:`rtpipe.formats.ecm_h5` reads this layout."""
    return False


class Writer(write.Writer):
    """A recording in RLED's layout (see :class:`rtpipe.formats.ecm_h5.write.Writer`).

    A picture's window is what the frame says (``Frame.window_start``), else 10 ms either side of mid-exposure, of its
    ``t`` where no exposure is known. The layout has no exposures: only their ends survive, as ``timestamp``.
    ``event_idx`` is, as in the data set, the index of the last event before ``timestamp`` (0 where there is none).
    """

    HOLDS: ClassVar[tuple[str, ...]] = ("events", "frames")
    TIME_UNIT: ClassVar[Literal["s", "us"]] = "us"
    POLARITY: ClassVar[type] = np.bool_
    HEIGHT_FIRST: ClassVar[bool] = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        resolution: Resolution,
        camera: str = "",
        *,
        compression: write.Compression = "gzip",
    ) -> None:
        super().__init__(path, resolution, camera, compression=compression)
        self._rows: list[list[int]] = []

    def _describe(self, stored: Any, frame: Frame, end: int) -> None:
        self._to_index.append((end, write.last_before(stored)))
        middle = frame.t
        if frame.exposure_start is not None and frame.exposure_end is not None:
            middle = (frame.exposure_start + frame.exposure_end) // 2
        window = middle - HALF_US, middle + HALF_US
        if frame.window_start is not None and frame.window_end is not None:
            window = frame.window_start, frame.window_end
        row = [0, 0]
        self._rows.append(row)
        for k, instant in enumerate(window):
            self._check_time(instant)
            self._to_index.append((instant, _into(row, k)))

    def _finish(self) -> None:
        super()._finish()
        self._file["event_indices"] = np.array(self._rows, np.int64).reshape(-1, 2)


def _into(row: list[int], k: int) -> Callable[[int], None]:
    def tell(n: int) -> None:
        row[k] = n

    return tell
