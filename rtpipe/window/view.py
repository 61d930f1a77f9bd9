"""A frame camera's picture as an event camera beside it would see it: the same size, the same places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from rtpipe.errors import ConfigError, InputError
from rtpipe.types import Array, Resolution

MOST_BYTES = 1 << 16
ASPECT = 0.02
"""Shapes whose sides' ratio differs by more than this part cannot see the same."""


class View:
    """Turns pictures of ``frame`` size into such of ``events`` size. ``how`` as
    :class:`~rtpipe.window.join_settings.JoinSettings`' ``view``. Raises ``ConfigError`` where sizes do not go together
    and ``InputError`` for a file that cannot be used."""

    def __init__(self, how: str, frame: Resolution, events: Resolution) -> None:
        self._frame, self._events = frame, events
        self._matrix: Array | None = None
        if how == "same":
            if frame != events:
                raise ConfigError(
                    f"window: frames are {_size(frame)}, events {_size(events)}: say join: {{view: resize}} if both "
                    "see the same, or give a file with a homography as view"
                )
        elif how == "resize":
            ratio = frame[0] * events[1] / (frame[1] * events[0])
            if abs(ratio - 1) > ASPECT:
                raise ConfigError(
                    f"window: frames of {_size(frame)} are not shaped as events of {_size(events)}, both cannot see "
                    "the same: give a file with a homography as view"
                )
        else:
            self._matrix, of = homography(Path(how))
            if of is not None and of != frame:
                raise ConfigError(f"window: {how} is for frames of {_size(of)}, these are {_size(frame)}")

    def apply(self, image: Array) -> Array:
        """The picture in the events' view: the same array where nothing is to be done, else a new one (what lies
        outside the frame camera's picture is black). Raises ``ValueError`` for a picture of another size."""
        if image.shape[1::-1] != self._frame:
            raise ValueError(f"picture of {_size(image.shape[1::-1])} among pictures of {_size(self._frame)}")
        if self._matrix is not None:
            return np.asarray(cv2.warpPerspective(image, self._matrix, self._events, flags=cv2.INTER_LINEAR))
        if self._frame == self._events:
            return image
        smaller = self._events[0] < self._frame[0]
        return np.asarray(
            cv2.resize(image, self._events, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        )


def _size(resolution: Any) -> str:
    return f"{resolution[0]}x{resolution[1]}"


def homography(path: Path) -> tuple[Array, Resolution | None]:
    """The 3x3 matrix (float64, from a frame's pixels to the events') of a file, and the frames' size it is for if it
    says one. Raises ``InputError``."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise InputError(f"{path}: too long for a homography")
        data = yaml.safe_load(text.decode("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no homography can be read from it: {' '.join(str(error).split())[:200]}") from None
    values = data.get("homography") if isinstance(data, dict) else None
    try:
        matrix = np.array(values, np.float64).reshape(3, 3)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{path}: homography: nine numbers wanted, row by row") from None
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 1e9 or abs(np.linalg.det(matrix)) < 1e-12:
        raise InputError(f"{path}: homography: this matrix takes a plane to a line, or has no finite numbers")
    size = data.get("frame_size")
    if size is None:
        return matrix, None
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and 0 < n < 1 << 15 for n in size)):
        raise InputError(f"{path}: frame_size: [width, height] wanted")
    return matrix, (size[0], size[1])
