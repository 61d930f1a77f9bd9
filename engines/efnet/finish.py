"""From EFNet's output to a picture of the camera's kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engines.efnet.prepare import ColorOrder, Rounding
from rtpipe.errors import WorldError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Frame, FrameFlag


def sharp_frame(
    output: Array, frame: Frame, order: ColorOrder, rounding: Rounding, flags: FrameFlag = FrameFlag.NONE
) -> Frame:
    """The camera's ``frame`` made sharp, in a new array of its picture's own dtype and shape.

    ``output`` float32 (1, 3, H, W) at least as large as the picture; what is padding is cut off. Clamped to [0, 1],
    times white, rounded half to even or ``"truncate"`` as the checkpoint's route says. Of a grey camera: the mean of
    the three channels. ``flags`` are added to the frame's. Raises ``WorldError`` where the network gave no numbers.
    """
    return replace(
        frame, image=picture(output[0], frame.image, order, rounding), source="efnet", flags=frame.flags | flags
    )


def picture(output: Array, like: Array, order: ColorOrder, rounding: Rounding = "nearest") -> Array:
    """``output`` (3, >=H, >=W), in the network's ``order``, as a picture like ``like``: (H, W) or (H, W, 3) BGR, 8 or
    16 bits. Raises ``WorldError`` where ``output`` is not made of numbers."""
    made = np.empty(like.shape, like.dtype)
    white = np.float32(np.iinfo(like.dtype).max)
    if like.ndim == 2:
        whole = _grey(output, white, rounding == "nearest", made)
    else:
        whole = _colour(output, 0 if order == "bgr" else 2, white, rounding == "nearest", made)
    if not whole:
        raise WorldError("efnet: the network's picture has values that are no numbers; try precision: fp32")
    return made


@kernel()
def _level(value: np.float32, white: np.float32, nearest: bool) -> np.float32:
    level = min(max(value, np.float32(0)), np.float32(1)) * white
    rounded: np.float32 = np.rint(level) if nearest else np.floor(level)
    return rounded


@kernel()
def _colour(output: Array, first: int, white: np.float32, nearest: bool, made: Array) -> bool:
    height, width = made.shape[:2]
    total = np.float32(0)  # of zeros, unless there are NaN or infinite values
    for y in range(height):
        blue, green, red = output[first, y], output[1, y], output[2 - first, y]
        for x in range(width):
            made[y, x, 0] = _level(blue[x], white, nearest)
            made[y, x, 1] = _level(green[x], white, nearest)
            made[y, x, 2] = _level(red[x], white, nearest)
            total += (blue[x] + green[x] + red[x]) * np.float32(0)
    return bool(total == 0)


@kernel()
def _grey(output: Array, white: np.float32, nearest: bool, made: Array) -> bool:
    height, width = made.shape
    total = np.float32(0)
    for y in range(height):
        a, b, c = output[0, y], output[1, y], output[2, y]
        for x in range(width):
            mean = (a[x] + b[x] + c[x]) / np.float32(3)
            made[y, x] = _level(mean, white, nearest)
            total += mean * np.float32(0)
    return bool(total == 0)
