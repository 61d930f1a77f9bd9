"""From the network's image to a picture of 8 bits: cropped, clipped to 0 ... 1, times 255, fractions cut off.

No percentiles, no rounding, no sharpening, as published (whose pictures keep the padding; ours do not).
"""

from __future__ import annotations

import numpy as np

from rtpipe.errors import InputError, WorldError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Resolution


@kernel()
def _cut(image: Array, top: int, left: int, out: Array) -> int:
    """Returns how many values are no numbers (they become black)."""
    strange = 0
    for y in range(out.shape[0]):
        taken, row = image[top + y], out[y]
        for x in range(out.shape[1]):
            scaled = taken[left + x] * np.float32(255)
            strange += int(not np.isfinite(scaled))
            row[x] = np.uint8(min(max(scaled, np.float32(0)), np.float32(255))) if np.isfinite(scaled) else np.uint8(0)
    return strange


def finish(image: Array, resolution: Resolution) -> Array:
    """The picture, a new uint8 (H, W), of an image (1, 1, H, W) or (H, W), float32, about 0 to 1, with or without its
    padding. Raises ``InputError`` where it is smaller than ``resolution``, ``WorldError`` where it holds values that
    are not finite."""
    (rows, columns), (width, height) = image.shape[-2:], resolution
    if rows < height or columns < width:
        raise InputError(f"an image of {columns}x{rows} holds no picture of {width}x{height}")
    out = np.empty((height, width), np.uint8)
    strange = _cut(image.reshape(rows, columns), (rows - height + 1) // 2, (columns - width + 1) // 2, out)
    if strange:
        raise WorldError(f"nernet: {strange} values of the network's image are not finite numbers")
    return out
