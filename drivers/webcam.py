"""Driver ``webcam``: pictures of any camera that OpenCV can read: V4L2, RTSP, HTTP, GStreamer, or a video file.

Live: it never waits, and a camera that vanishes is waited for and taken up again. Times are microseconds of this
computer's CLOCK_MONOTONIC, as near to the light as the source tells (:mod:`drivers.camera.frame_times`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import cv2
import msgspec

from drivers.camera.frame_reader import Reader
from drivers.camera.frame_times import Stamper, Times
from drivers.camera.opencv_frames import OPEN_MS, READ_MS, Picture, Wanted, how, masked, times
from rtpipe.errors import InputError, WorldError
from rtpipe.ledger import Flow
from rtpipe.types import Array, Frame, Packet, Resolution, StreamInfo

STREAM = "camera/frames"
FIRST_S = 10.0
"""How long a camera that is there may take to send its first picture."""
HANG_S = (OPEN_MS + READ_MS) / 1e3 + 3.0
"""A thread that has not come back from OpenCV for so long is left to itself, and another takes its place."""
MOST_HUNG = 3
QUIET_US = 1_000_000
"""After so long without a picture it is said that there was none."""
MARGIN_US = 500_000
OVERFLOW, PAUSED, SIZE, LATE = "host queue", "paused", "size", "before the first read"
"""Why a picture is not passed on."""

Micros = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
Length = Annotated[int, msgspec.Meta(ge=1, le=16384)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which camera, and how it is set. What is left out stays as the camera comes; what it makes of the rest is in the
    run's report."""

    device: str | int = 0
    """A number or path (0, /dev/video0, /dev/v4l/by-id/…), an address (rtsp://, http://), a GStreamer pipeline that
    ends in appsink (where OpenCV is built with it), or a video file, which is played as if it were a camera."""
    login: str = ""
    """An environment variable that holds USER:PASSWORD for the address: the pipeline file is kept with recordings."""
    width: Length | None = None
    height: Length | None = None
    fps: Annotated[float, msgspec.Meta(gt=0, le=10_000)] | None = None
    fourcc: Annotated[str, msgspec.Meta(pattern="^([ -~]{4})?$")] = ""
    """How a V4L2 camera packs its pictures (MJPG, YUYV): many give their full rate only as MJPG."""
    exposure_us: Micros | None = None
    """The exposure: set on a V4L2 camera; of any other, what it is known to be. Left out: automatic, and frames have
    none that could be deblurred."""
    readout_us: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """From the end of the exposure to the instant that the camera stamps, where it stamps the end."""
    stamp: Literal["auto", "start", "middle", "end"] = "auto"
    """Which instant of the exposure a frame's time is. ``auto``: the start for V4L2 (as USB cameras say), the middle
    for streams' own times, the end for the moment of arrival."""
    times: Literal["auto", "device", "stream", "arrival"] = "auto"
    """Where frames' times come from; ``auto``: the best that there is."""
    grey: bool = False
    """Pass pictures on in grey."""
    loop: bool = False
    """A file begins again at its end."""
    wait: bool = False
    """Wait for a camera that is not there at the start, instead of saying so and ending."""


class Driver:
    """See :class:`Settings`; implements :class:`rtpipe.stage.Driver`."""

    live: ClassVar[bool] = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._device = _with_login(str(settings.device), settings.login)
        self._how = how(self._device)
        source: Times = times(self._how) if settings.times == "auto" else settings.times
        if (source == "device") != (self._how == "v4l2") and source != "arrival":
            raise InputError(f"times: {source} is not to be had of {masked(self._device)}")
        self._stamper = Stamper(source)
        self._reader: Reader | None = None
        self._hung: list[Reader] = []
        self._began_s = 0.0
        self._early: list[Picture] = []
        self._resolution: Resolution | None = None
        self._flow = Flow()
        self._seq = self._epoch = self._opened = 0
        self._begun_us: int | None = None
        self._newest = 0
        self._promised = 0
        self._paused = self._ended = False
        self._gone_s: float | None = None
        self._away_s: list[float] = []

    def ready(self, timeout_s: float) -> bool:
        """Open the camera and wait for its first picture, at most about ``timeout_s``; True when :meth:`open` will not
        wait. Raises ``RtpipeError`` where there is none."""
        if self._reader is None:
            self._began_s = time.monotonic()
            self._reader = self._begin()
        until = time.monotonic() + timeout_s
        while not self._early:
            taken = self._reader.take(max(0.0, until - time.monotonic()))
            self._early += [each for each in taken if each is not None]
            if not self._early:
                self._doubt(self._reader)
                if time.monotonic() >= until:
                    return False
        return True

    def _doubt(self, reader: Reader) -> None:
        """No first picture yet: raises where none will come."""
        if reader.failure is not None:
            raise reader.failure
        if reader.done:
            raise InputError(f"device {masked(self._device)}: there is no picture in it")
        waited = time.monotonic() - self._began_s
        missing = self._how in ("v4l2", "file") and bool(reader.why)
        if not self._settings.wait and (waited > FIRST_S or (missing and waited > 1.0)):
            raise WorldError(reader.why or f"device {masked(self._device)}: sends no picture")

    def _begin(self) -> Reader:
        s = self._settings
        wanted = Wanted(self._device, s.width, s.height, s.fps, s.fourcc, s.exposure_us)
        reader = Reader(wanted, paced=self._how == "file", loop=s.loop)
        reader.start()
        return reader

    def open(self) -> Sequence[StreamInfo]:
        """Open the camera; blocks until its first picture has come. Raises ``RtpipeError``."""
        while not self.ready(0.1):
            pass
        image = self._early[0].image
        self._resolution = (int(image.shape[1]), int(image.shape[0]))
        return (StreamInfo(STREAM, self._resolution, f"webcam {masked(self._device)}"),)

    def read(self, timeout_s: float) -> Sequence[Packet] | None:
        """The frames that have come, waiting at most ``timeout_s``; None only at the end of a file. What came before
        the first call is thrown away, but for a file, which begins at its beginning."""
        if self._ended:
            return None
        reader = self._attended()
        made: list[Packet] = []
        taken = reader.take(0.0 if self._early else timeout_s)
        if self._early:
            early = [*self._early, *(each for each in taken if each is not None)]
            self._early = []
            reader.flow()
            if self._how == "file":
                taken = list(early)
            else:
                self._flow.taken += len(early)
                self._flow.drop(LATE, len(early))
                taken = []
        for picture in taken:
            if picture is None:
                self._taken_up()
            else:
                made += self._frame(picture, reader)
        if not made and reader.done and not reader.is_alive():
            self._ended = True
            made.append(
                Packet(STREAM, self._seq, self._newest, self._newest, time.monotonic_ns(), None, self._epoch, True)
            )
        elif not made and not self._paused:
            made += self._silence()
        return made

    def _attended(self) -> Reader:
        """The thread that keeps the camera; another one where it hangs."""
        reader = self._reader
        if reader is None or self._resolution is None:
            raise InputError("the camera is not open")
        if reader.failure is not None:
            raise reader.failure
        if time.monotonic() - reader.beat_s > HANG_S and not reader.done:
            self._hung = [each for each in self._hung if each.is_alive()]
            if len(self._hung) < MOST_HUNG:
                reader.end()
                self._hung.append(reader)
                self._count_overflow(reader)
                reader = self._reader = self._begin()
                reader.why = "it does not answer"
        if reader.streaming or reader.done:
            if self._gone_s is not None:
                self._away_s.append(time.monotonic() - self._gone_s)
                self._gone_s = None
        elif self._gone_s is None:
            self._gone_s = time.monotonic()
        return reader

    def _taken_up(self) -> None:
        self._stamper.begin()
        self._epoch += 1

    def _count_overflow(self, reader: Reader) -> None:
        lost, reader.overflow = reader.overflow, 0
        self._flow.taken += lost
        self._flow.drop(OVERFLOW, lost)

    def _frame(self, picture: Picture, reader: Reader) -> Sequence[Packet]:
        self._flow.taken += 1
        image = picture.image
        if self._paused:
            self._flow.drop(PAUSED)
            return ()
        if (int(image.shape[1]), int(image.shape[0])) != self._resolution:
            self._flow.drop(SIZE)
            return ()
        if self._settings.grey and image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        stamp = self._stamper.stamp(picture.msec, picture.arrived_ns)
        self._epoch += stamp.jumped and self._newest > 0
        frame = exposed(image, stamp.t, reader.exposure_us, self._settings, self._stamper.source)
        t_last = frame.t if frame.exposure_end is None else frame.exposure_end
        by = max(0, self._promised - (frame.t if frame.exposure_start is None else frame.exposure_start))
        if by:  # it was said that nothing would come before
            frame, t_last = _later(frame, by), t_last + by
        self._flow.passed += 1
        self._newest = max(self._newest, t_last)
        self._begun_us = frame.t if self._begun_us is None else self._begun_us
        packet = Packet(STREAM, self._seq, frame.t, max(t_last, frame.t), picture.arrived_ns, frame, self._epoch)
        self._seq += 1
        return (packet,)

    def _silence(self) -> Sequence[Packet]:
        """A watermark where no picture has come for a while."""
        until = time.monotonic_ns() // 1000 - MARGIN_US
        if not self._newest or until - self._newest < QUIET_US:
            return ()
        self._newest = self._promised = until
        packet = Packet(STREAM, self._seq, until, until, time.monotonic_ns(), None, self._epoch)
        self._seq += 1
        return (packet,)

    def control(self, command: str) -> str:
        """``pause``, ``resume`` and ``set exposure_us N``. Raises ``InputError`` for anything else."""
        verb, _, argument = command.partition(" ")
        if verb == "set":
            return self._set(*argument.split(None, 1))
        if verb not in ("pause", "resume"):
            raise InputError(f"a live camera cannot {verb}: only a replay can")
        self._paused = verb == "pause"
        return "paused" if self._paused else "running"

    def _set(self, key: str = "", value: str = "") -> str:
        if key != "exposure_us" or not value.isdigit() or not 1 <= int(value) <= 10_000_000:
            raise InputError("of a frame camera only exposure_us (1 to 10000000) can be set while it runs")
        if self._reader is None:
            raise InputError("the camera is not open yet")
        self._settings = msgspec.structs.replace(self._settings, exposure_us=int(value))
        if self._how != "v4l2":
            self._reader.exposure_us = int(value)
            raise InputError("only a V4L2 camera's exposure can be set while it runs")
        self._reader.expose(int(value))
        return f"exposure_us {value}: the run's status says what the camera makes of it"

    def progress(self) -> tuple[float, float | None]:
        """Seconds since the first frame; a camera has no end."""
        return (0.0 if self._begun_us is None else (self._newest - self._begun_us) / 1e6), None

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``"frames"``: what came, was passed on, and was dropped by reason."""
        if self._reader is not None:
            self._count_overflow(self._reader)
        return {"frames": self._flow}

    @property
    def facts(self) -> Mapping[str, str]:
        """The camera, what it made of its settings, where times come from, what befell it."""
        reader, stamper = self._reader, self._stamper
        if reader is None:
            return {}
        if self._resolution is None:
            return {"camera": f"waiting: {reader.why}"} if reader.why else {}
        rate = f" at {reader.fps:g}/s" if reader.fps else ""
        told = {"camera": f"{masked(self._device)} {self._resolution[0]}x{self._resolution[1]}{rate}"}
        told["settings"] = ", ".join(f"{name} {value}" for name, value in reader.obtained.items())
        told["times"] = {"device": "of the device", "stream": "of the stream", "arrival": "of arrival"}[stamper.source]
        told["times"] += f" ({stamper.why})" if stamper.why else ""
        if stamper.missing:
            told["missing"] = f"{stamper.missing} frames, by gaps in the camera's times"
        if self._away_s:
            told["came back"] = f"{len(self._away_s)} times, the longest away {max(self._away_s):.1f} s"
        if self._gone_s is not None and not self._ended:
            told["gone"] = f"for {time.monotonic() - self._gone_s:.0f} s: {reader.why}"
        return {name: text for name, text in told.items() if text}

    def close(self) -> None:
        """Let the camera go. Blocks while OpenCV does: a process must not end under it."""
        if self._reader is not None:
            self._reader.end()
            self._reader.join(HANG_S)


def exposed(image: Array, t: int, exposure_us: int | None, settings: Settings, source: Times) -> Frame:
    """A frame whose time ``t`` (µs) is an instant of its exposure, as the settings say which."""
    if exposure_us is None:
        return Frame(image, t)
    usual = {"device": "start", "stream": "middle", "arrival": "end"}[source]
    stamp = usual if settings.stamp == "auto" else settings.stamp
    start = {"start": t, "middle": t - exposure_us // 2, "end": t - settings.readout_us - exposure_us}[stamp]
    return Frame(image, start + exposure_us // 2, start, start + exposure_us)


def _later(frame: Frame, by: int) -> Frame:
    start, end = frame.exposure_start, frame.exposure_end
    if start is None or end is None:
        return replace(frame, t=frame.t + by)
    return replace(frame, t=frame.t + by, exposure_start=start + by, exposure_end=end + by)


def _with_login(device: str, variable: str) -> str:
    """The address with what the environment variable holds in front of its host. Raises ``InputError``."""
    if not variable:
        return device
    login = os.environ.get(variable, "")
    scheme, separator, rest = device.partition("://")
    if not separator or not login or "@" in rest.partition("/")[0]:
        what = f"the environment has no {variable}" if not login else "it belongs to an address without one"
        raise InputError(f"login: {what}")
    return f"{scheme}://{login}@{rest}"
