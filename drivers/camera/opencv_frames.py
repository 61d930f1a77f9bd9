"""Pictures by OpenCV: from a V4L2 device, an RTSP or HTTP stream, a GStreamer pipeline or a video file.

What ``CAP_PROP_POS_MSEC`` means depends on who captures: with V4L2 the time of the buffer (CLOCK_MONOTONIC, for USB
cameras the start of the exposure), with FFmpeg the stream's own time since its start (RTP's for RTSP; for MJPEG over
HTTP a guess by the nominal rate), with GStreamer the buffer's since the pipeline's start.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2

from drivers.camera.frame_times import Times
from rtpipe.errors import InputError, WorldError
from rtpipe.types import Array

How: TypeAlias = Literal["v4l2", "rtsp", "http", "gstreamer", "file"]

OPEN_MS, READ_MS = 3000, 2000
"""How long a stream may take to answer, and then to send a frame."""
MANUAL, AUTOMATIC = 1.0, 3.0
"""V4L2's menu of exposure: by hand, by the camera (aperture priority)."""
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_ERRORS = 2
_FFMPEG = {"rtsp": "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay", "http": "fflags;nobuffer|flags;low_delay"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a device; None: as it comes."""

    device: str
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    fourcc: str = ""
    exposure_us: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """``image`` uint8 (H, W, 3) BGR or (H, W), its own; ``msec`` as OpenCV says it; ``arrived_ns`` CLOCK_MONOTONIC."""

    image: Array
    msec: float
    arrived_ns: int


def how(device: str) -> How:
    """What kind of source a device's name means. Raises ``InputError`` for one that is none."""
    if re.fullmatch(r"\d{1,3}", device) or device.startswith("/dev/"):
        return "v4l2"
    if "!" in device:
        return "gstreamer"
    scheme = device.partition("://")[0].lower() if "://" in device else ""
    if scheme in ("rtsp", "rtsps", "rtsph"):
        return "rtsp"
    if scheme in ("http", "https", "udp", "tcp", "rtp", "srt"):
        return "http"
    if scheme:
        raise InputError(f"device {masked(device)}: rtsp://, http:// and the like can be read, not {scheme}://")
    if Path(device).is_file():
        return "file"
    raise InputError(
        f"device {device}: there is no such file; a camera is a number, /dev/videoN, an address (rtsp://, http://), a "
        "GStreamer pipeline (with ! and appsink) or a video file"
    )


def times(kind: How) -> Times:
    """The best time that such a source gives."""
    return {"v4l2": "device", "rtsp": "stream", "gstreamer": "stream", "file": "stream"}.get(kind, "arrival")  # type: ignore[return-value]


def masked(device: str) -> str:
    """A device's name without a password, for people and recordings."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", device)


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer (the index's is not, a distribution's usually is)."""
    return re.search(r"GStreamer:\s*YES", cv2.getBuildInformation()) is not None


class Capture:
    """An open source. Every call may block, for seconds where a stream is dead: to be used from a thread of its own.

    Raises ``InputError`` for what can never be opened and ``WorldError`` where it is not there, or not now.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.kind = how(wanted.device)
        self.obtained: dict[str, str] = {}
        """What was asked of the device, and what it does: ``"width": "640 (asked 1920)"``."""
        self.exposure_us: int | None = wanted.exposure_us
        """As the device does it; where it cannot be asked, as given."""
        self._capture = self._open(wanted)
        if not self._capture.isOpened():
            self._capture.release()
            raise WorldError(f"device {masked(wanted.device)}: {self._why_not(wanted.device)}")
        if self.kind == "v4l2":
            self._configure(wanted)

    def _open(self, wanted: Wanted) -> Any:
        if self.kind == "v4l2":
            os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(READ_MS // 1000))
            device = int(wanted.device) if wanted.device.isdigit() else wanted.device
            return cv2.VideoCapture(device, cv2.CAP_V4L2)
        if self.kind == "gstreamer":
            if not has_gstreamer():
                raise InputError(
                    "this OpenCV is built without GStreamer: use the system's (python3-opencv, in a virtual "
                    "environment with --system-site-packages), or rtsp://, /dev/videoN"
                )
            return cv2.VideoCapture(wanted.device, cv2.CAP_GSTREAMER)
        if self.kind in _FFMPEG and os.environ.get(_OPTIONS) in (None, *_FFMPEG.values()):  # a user's own go before
            os.environ[_OPTIONS] = _FFMPEG[self.kind]
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is said once, in the run's own words
        cv2.utils.logging.setLogLevel(_ERRORS)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
        return cv2.VideoCapture(wanted.device, cv2.CAP_FFMPEG, limits)

    def _why_not(self, device: str) -> str:
        if self.kind == "v4l2":
            path = Path(f"/dev/video{device}" if device.isdigit() else device)
            if not path.exists():
                there = ", ".join(sorted(str(each) for each in Path("/dev").glob("video*"))) or "no camera at all"
                return f"is not there; there is {there}"
            if not os.access(path, os.R_OK | os.W_OK):
                return "no permission: add yourself to the group video (sudo usermod -aG video $USER) and log in again"
            return "cannot be opened: in use by another program, or no camera that takes pictures"
        if self.kind == "file":
            return "no video can be read from it"
        return "does not answer, or sends no video"

    def _configure(self, wanted: Wanted) -> None:
        ask = self._capture
        if wanted.fourcc:
            ask.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted.fourcc))
            code = int(ask.get(cv2.CAP_PROP_FOURCC))
            self._tell("fourcc", wanted.fourcc, "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)).strip())
        sizes = {"width": cv2.CAP_PROP_FRAME_WIDTH, "height": cv2.CAP_PROP_FRAME_HEIGHT, "fps": cv2.CAP_PROP_FPS}
        values: Mapping[str, float | None] = {"width": wanted.width, "height": wanted.height, "fps": wanted.fps}
        for name, prop in sizes.items():
            if values[name] is not None:
                ask.set(prop, float(values[name] or 0))
        for name, prop in sizes.items():
            if values[name] is not None:
                self._tell(name, f"{values[name]:g}", f"{ask.get(prop):g}")
        ask.set(cv2.CAP_PROP_BUFFERSIZE, 4)
        if wanted.exposure_us is not None:
            self.expose(wanted.exposure_us)

    def _tell(self, name: str, asked: str, got: str) -> None:
        self.obtained[name] = got if got == asked else f"{got} (asked {asked})"

    def expose(self, exposure_us: int) -> None:
        """Set the exposure (V4L2 counts in 100 µs); what the device makes of it is :attr:`exposure_us`, None where it
        cannot be set."""
        ask = self._capture
        ask.set(cv2.CAP_PROP_AUTO_EXPOSURE, MANUAL)
        done = ask.set(cv2.CAP_PROP_EXPOSURE, max(1.0, round(exposure_us / 100)))
        got = ask.get(cv2.CAP_PROP_EXPOSURE)
        self.exposure_us = round(got * 100) if done and got > 0 else None
        shown = "the camera does not let it be set" if self.exposure_us is None else str(self.exposure_us)
        self._tell("exposure_us", str(exposure_us), shown)

    @property
    def fps(self) -> float:
        """Frames per second as the source says, 0 where it does not."""
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate < 10_000 else 0.0

    def read(self) -> Picture | None:
        """The next picture; None where there is none any more: the end of a file, a device that is gone, a stream that
        sent nothing for two seconds. Blocks."""
        if not self._capture.grab():
            return None
        arrived_ns = time.monotonic_ns()
        msec = float(self._capture.get(cv2.CAP_PROP_POS_MSEC))
        done, image = self._capture.retrieve()
        return Picture(image, msec, arrived_ns) if done and image is not None and image.size else None

    def close(self) -> None:
        """Let it go."""
        self._capture.release()
