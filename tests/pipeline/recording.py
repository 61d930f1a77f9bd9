"""A small recording made by the tests themselves: a bar drifting over a small sensor, blurred frames with exposures."""

from pathlib import Path

import numpy as np

from rtpipe.formats.ecm_h5 import Writer
from rtpipe.types import Events, Frame

RESOLUTION = (64, 48)
PERIOD_US, EXPOSURE_US = 20_000, 10_000


def make(path: Path, *, frames: int = 10, events_per_frame: int = 4000, seed: int = 0) -> Path:
    """Write ``frames`` frames and their events as HDF5; returns ``path``."""
    rng = np.random.default_rng(seed)
    n = frames * events_per_frame
    span = frames * PERIOD_US
    t = np.sort(rng.integers(0, span, n)).astype(np.int64) + 1_000_000
    x = ((t // 500 + rng.integers(0, 6, n)) % RESOLUTION[0]).astype(np.uint16)
    y = rng.integers(0, RESOLUTION[1], n).astype(np.uint16)
    p = rng.integers(0, 2, n).astype(np.uint8)
    writer = Writer(path, RESOLUTION)
    writer.add_events(Events(t, x, y, p))
    for k in range(frames):
        start = 1_000_000 + k * PERIOD_US + 3_000
        image = (rng.integers(60, 190, (RESOLUTION[1], RESOLUTION[0]))).astype(np.uint8)
        writer.add_frame(Frame(image, start + EXPOSURE_US // 2, start, start + EXPOSURE_US))
    writer.close()
    return path
