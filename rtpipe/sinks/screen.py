"""A window on the screen, by OpenCV, and whether there is a screen at all."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np

from rtpipe.sinks.overlay import USUAL
from rtpipe.types import Array

_PROBE = "import cv2; cv2.namedWindow('rtpipe', cv2.WINDOW_GUI_NORMAL); cv2.waitKey(1); cv2.destroyAllWindows()"
_PROBE_S = 20.0


def why_no_screen() -> str:
    """Why no window can be opened here, in words; empty where one can. Blocks for about half a second.

    OpenCV aborts the whole process when its first window finds no display, so a short-lived process tries before us.
    """
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not display:
        return "DISPLAY is not set"
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _PROBE], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return f"the screen at {display} does not answer"
    if trial.returncode == 0:
        return ""
    if b"not implemented" in trial.stderr:
        return "this OpenCV was built without windows; install opencv-python in place of the headless build"
    return f"the screen at {display} cannot be used"


class Window:
    """One window. To be used from one thread, and only where :func:`why_no_screen` finds nothing against it."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._size: tuple[int, int] | None = None
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        self._open = True

    @property
    def closed(self) -> bool:
        """Whether it has been closed, by the user or by :meth:`close`."""
        return not self._open

    def show(self, image: Array) -> None:
        """Show ``image``, uint8 (H, W, 3) BGR; drawn at the next :meth:`poll`. Where its size changes, the window
        takes that size, made smaller to fit a usual screen."""
        if not self._open:
            return
        height, width = image.shape[:2]
        if self._size != (width, height):
            self._size = width, height
            shrink = min(1.0, USUAL[0] / width, USUAL[1] / height)
            cv2.resizeWindow(self._title, max(1, round(width * shrink)), max(1, round(height * shrink)))
        cv2.imshow(self._title, np.ascontiguousarray(image))

    def poll(self) -> int:
        """Let the window draw itself and see to the mouse; the code of a key that was pressed, or -1. About 1 ms."""
        if not self._open:
            return -1
        key = int(cv2.waitKeyEx(1))
        try:
            self._open = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # what some back ends answer for a window that is gone
            self._open = False
        return key

    def close(self) -> None:
        """Close it, if it is open."""
        if self._open:
            self._open = False
            cv2.destroyWindow(self._title)
            cv2.waitKeyEx(1)
