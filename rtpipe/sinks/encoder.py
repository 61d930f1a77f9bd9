"""Pictures to a video file that is readable at every moment: H.264 in fragmented MP4 or Matroska, FFV1 in Matroska.

Each picture is a fragment (MP4) or cluster (Matroska) of its own and goes to the operating system at once, so a process
that is killed loses its last picture. A file that is closed properly becomes an ordinary MP4 with an index for
seeking; its header is switched over by the very last write.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeAlias

import av
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from rtpipe.errors import InputError, WorldError
from rtpipe.types import Array, Resolution

Codec: TypeAlias = Literal["h264", "ffv1"]

NAMES: dict[Codec, str] = {"h264": "libx264", "ffv1": "ffv1"}
"""What FFmpeg calls the encoders."""

KEY_FRAME_US = 250_000
"""There is a key frame at least this often in video time (where the pictures themselves come more often)."""
USUAL_STEP_US = 40_000
LONGEST_JUMP_US = 1_000_000
"""A jump of time (seek, loop, reconnection) that is longer is cut out of the video."""
THREADS = 2
LARGE = 1_000_000
"""Pictures of more pixels are encoded in half the time, into files half as large again."""
_BT709 = 1


def check_codec(codec: Codec) -> None:
    """Raise ``InputError`` where the installed PyAV has no encoder for ``codec``."""
    if NAMES[codec] not in av.codecs_available:
        raise InputError(
            f"video: the installed PyAV cannot write {codec} (no {NAMES[codec]}); install av from the index"
        )


class Timeline:
    """Video time of each picture, µs from the first, strictly increasing also where the camera's time jumps back.

    ``fps`` None: the pictures' own times, so the rate varies; a number: one picture after another at that rate.
    """

    def __init__(self, fps: float | None = None, tick_us: float = 1.0) -> None:
        self._fps, self._tick = fps, tick_us
        self._n = 0
        self._last: tuple[int, int] = (0, 0)
        self._us = 0.0
        self._step = float(USUAL_STEP_US)

    @property
    def step_us(self) -> float:
        """How far the last picture lay from the one before."""
        return self._step

    def stamp(self, t: int, epoch: int) -> float:
        """Where the picture of camera time ``t`` (µs) goes."""
        step = float(t - self._last[1])
        if self._n == 0:
            step = 0.0
        elif self._fps is not None:
            step = self._step = 1e6 / self._fps
        elif epoch != self._last[0] and not 0 < step <= LONGEST_JUMP_US:
            step = self._step
        else:
            step = self._step = max(step, self._tick)
        self._n, self._last = self._n + 1, (epoch, t)
        self._us += step
        return self._us


class _File:
    """What PyAV writes to: unbuffered, and once a write has failed it takes everything and writes nothing, so that
    neither a trailer nor a switched header can spoil what is already on disk."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self.error: OSError | None = None
        self.sound = 0  # the length up to which whole pictures have been written

    def write(self, data: Any) -> int:
        view = memoryview(data)
        while self.error is None and len(view):
            try:
                view = view[self._file.write(view) :]
            except OSError as error:
                self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def check(self) -> None:
        """Raise the ``OSError`` that a write met, cutting off what it left half written."""
        if self.error is not None:
            os.ftruncate(self._file.fileno(), self.sound)
            raise self.error
        self.sound = self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._file.close()


class Encoder:
    """Writes pictures of one resolution to ``path``, an existing file (it is overwritten; ``.mp4`` or ``.mkv``).

    ``quality`` is x264's constant rate factor: 0 lossless, 18 hardly to be told from the original, 51 worst. Blocking:
    each call encodes one picture on up to ``THREADS`` threads. Raises ``WorldError`` where the file cannot be written;
    what is in it stays readable.
    """

    def __init__(self, path: Path, codec: Codec, resolution: Resolution, quality: int, fps: float | None) -> None:
        self._path, self._written = path, 0
        matroska = path.suffix == ".mkv"
        self._tick = Fraction(1, 1000 if matroska else 90000)
        self._timeline = Timeline(fps, float(self._tick * 1_000_000))
        self._last_pts, self._key_us = -1, float("-inf")
        self._lossless = codec == "ffv1"
        try:
            self._file = _File(path)
        except OSError as error:
            raise self._failed(error) from error
        # For Matroska: a cluster longer than 1 ms is closed by the next picture.
        options = {"cluster_time_limit": "1"} if matroska else {"movflags": "+hybrid_fragmented+frag_every_frame"}
        self._container = av.open(
            self._file,
            "w",
            format="matroska" if matroska else "mp4",
            container_options={**options, "flush_packets": "1"},
        )
        self._stream: Any = self._container.add_stream(NAMES[codec], rate=30)
        self._stream.width, self._stream.height = resolution
        context = self._stream.codec_context
        context.time_base = self._stream.time_base = self._tick
        context.thread_count = THREADS
        if self._lossless:
            self._stream.pix_fmt = "bgr0"
            context.gop_size = 1
            context.options = {"level": "3", "slices": "4", "slicecrc": "1"}
        else:
            self._stream.pix_fmt = "yuv420p"
            context.gop_size = 250
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = ColorRange.MPEG
            context.options = {
                "preset": "veryfast" if resolution[0] * resolution[1] <= LARGE else "ultrafast",
                "tune": "zerolatency",
                "crf": str(quality),
                "forced-idr": "1",
            }

    def write(self, image: Array, t: int, epoch: int = 0) -> None:
        """Append ``image`` uint8 (H, W, 3) BGR, not kept, shown at camera time ``t`` (µs)."""
        us = self._timeline.stamp(t, epoch)
        pts = max(self._last_pts + 1, round(us * self._tick.denominator / 1_000_000))
        frame: Any = av.VideoFrame.from_ndarray(image, format="bgr24")
        if self._lossless:
            frame = frame.reformat(format="bgr0")
        else:
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = pts, self._tick
        if us + self._timeline.step_us > self._key_us + KEY_FRAME_US:
            frame.pict_type, self._key_us = PictureType.I, us
        self._last_pts = pts
        try:
            packets = self._stream.encode(frame)
        except av.FFmpegError as error:
            size = f"{image.shape[1]}x{image.shape[0]}"
            raise WorldError(f"video: {self._path}: {size} pictures cannot be encoded: {error.strerror}") from error
        self._mux(packets)
        self._written += 1

    def close(self) -> None:
        """Finish the file. Raises ``WorldError`` where that fails; what is in it stays readable."""
        try:
            self._mux(self._stream.encode(None))
            self._container.close()
            self._check()
        finally:
            self._file.close()

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            packet.duration = max(1, round(self._timeline.step_us * self._tick.denominator / 1_000_000))
            self._container.mux(packet)
        self._check()

    def _check(self) -> None:
        try:
            self._file.check()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> WorldError:
        safe = self._written - 1  # the last one was still to be written when this went wrong
        so_far = f"; the {safe} pictures before that are in it" if safe > 0 else ""
        return WorldError(f"video: {self._path} cannot be written: {error.strerror}{so_far}")
