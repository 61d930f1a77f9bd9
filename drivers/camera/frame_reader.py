"""The thread that keeps a frame camera open: it blocks in OpenCV so that nobody else does, and opens what was gone."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping

from drivers.camera.opencv_frames import Capture, Picture, Wanted
from rtpipe.errors import InputError, RtpipeError

AGAIN_S = 0.25
"""How often a camera that is gone is looked for."""
MOST_WAITING = 8
"""Pictures that wait for whoever reads; beyond that the oldest are dropped and counted."""


class Reader(threading.Thread):
    """Opens, reads, and opens again. ``paced``: a file, which is played at its own pace, from the start again with
    ``loop``. To be watched from one other thread: :attr:`beat_s` says when it last came back from OpenCV."""

    def __init__(self, wanted: Wanted, *, paced: bool, loop: bool) -> None:
        super().__init__(daemon=True, name="frames")
        self._wanted, self._paced, self._loop = wanted, paced, loop
        self._pictures: deque[Picture | None] = deque()  # None: it was opened (again), what follows is new
        self._came = threading.Condition()
        self._ending = threading.Event()
        self._flowing = threading.Event()
        self._exposure: int | None = None
        self.failure: RtpipeError | None = None
        self.streaming = self.done = False
        self.why = ""
        self.beat_s = time.monotonic()
        self.overflow = 0
        self.obtained: Mapping[str, str] = {}
        self.fps = 0.0
        self.exposure_us = wanted.exposure_us

    def run(self) -> None:
        """Until :meth:`end`, or the end of a file."""
        try:
            while not self._ending.is_set() and not self.done:
                self._once()
        except InputError as error:
            self.failure = error
        except Exception as error:  # of OpenCV: said where it can be seen
            self.failure = InputError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        with self._came:
            self._came.notify_all()

    def _once(self) -> None:
        self.beat_s = time.monotonic()
        try:
            capture = Capture(self._wanted)
        except InputError:
            raise
        except RtpipeError as error:
            self.why, self.streaming = str(error), False
            self._ending.wait(AGAIN_S)
            return
        try:
            self._stream(capture)
        finally:
            self.streaming = False
            capture.close()
        if self.done or self._ending.is_set():
            return
        self.why = "it stopped sending"
        self._ending.wait(AGAIN_S)

    def _stream(self, capture: Capture) -> None:
        self._put(None)
        began_s, first_ms = time.monotonic(), None
        while not self._ending.is_set():
            self.beat_s = time.monotonic()
            wanted, self._exposure = self._exposure, None
            if wanted is not None:
                capture.expose(wanted)
            picture = capture.read()
            if picture is None:
                self.done = self._paced and not self._loop
                return
            self.obtained, self.fps, self.exposure_us = dict(capture.obtained), capture.fps, capture.exposure_us
            if self._paced:
                if first_ms is None:
                    first_ms = picture.msec
                elif not self._flowing.is_set():  # its first picture was shown; the rest waits for whoever reads
                    while not self._flowing.wait(0.05) and not self._ending.is_set():
                        self.beat_s = time.monotonic()
                    began_s = time.monotonic()
                due_s = began_s + (picture.msec - first_ms) / 1e3
                if due_s > time.monotonic() and self._ending.wait(due_s - time.monotonic()):
                    return
                picture = Picture(picture.image, picture.msec, time.monotonic_ns())
            self._put(picture)
            self.streaming, self.why = True, ""

    def _put(self, picture: Picture | None) -> None:
        with self._came:
            self._pictures.append(picture)
            while sum(each is not None for each in self._pictures) > MOST_WAITING:
                oldest = next(i for i, each in enumerate(self._pictures) if each is not None)
                del self._pictures[oldest]
                self.overflow += 1
            self._came.notify()

    def take(self, timeout_s: float) -> list[Picture | None]:
        """What has come, waiting at most ``timeout_s``; a None among them: opened anew, time begins again."""
        with self._came:
            if not self._pictures and timeout_s > 0 and not self.done:
                self._came.wait(timeout_s)
            taken = list(self._pictures)
            self._pictures.clear()
        return taken

    def flow(self) -> None:
        """Whoever reads is ready: a file may go on after its first picture."""
        self._flowing.set()

    def expose(self, exposure_us: int) -> None:
        """Ask for another exposure; done between two pictures."""
        self._exposure = exposure_us

    def end(self) -> None:
        """Finish; does not wait for OpenCV."""
        self._ending.set()
