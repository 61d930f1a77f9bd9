"""A video as the scene: linear light, faded from each picture to the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from rtpipe.errors import InputError
from rtpipe.simulate import photograph
from rtpipe.simulate.scene import fitted
from rtpipe.types import Array, Resolution

_STEP_US = 2000


class VideoScene:
    """The video in ``path``, scaled and cut to fill ``resolution``, seen by a camera that stands still.

    Between two pictures the light fades linearly, so that real motion needs a high frame rate: 240 Hz or more. Decoded
    as it is rendered, in constant memory; it is opened twice, once to learn how long it is. Raises ``InputError``.
    """

    def __init__(self, path: Path, resolution: Resolution) -> None:
        self._path = path
        self._resolution = resolution
        self.duration: int | None = 0
        pictures = 0
        for t, _ in self._times():
            self.duration, pictures = t, pictures + 1
        if pictures < 2:
            raise InputError(f"{path}: neither a picture nor a video of two pictures or more")
        self.rate_hz = (pictures - 1) / (self.duration * 1e-6)
        self._pictures = self._decoded()
        self._before = self._after = next(self._pictures)

    def render(self, t: int, out: Array) -> None:
        """See :class:`~rtpipe.simulate.scene.Scene`."""
        while t > self._after[0]:
            following = next(self._pictures, None)
            if following is None:
                break
            self._before, self._after = self._after, following
        (t0, before), (t1, after) = self._before, self._after
        share = np.float32(min(1.0, max(0.0, (t - t0) / (t1 - t0)))) if t1 > t0 else np.float32(1)
        np.multiply(after - before, share, out=out)
        out += before

    def steps(self, t0: int, t1: int) -> int:
        """One for every 2 ms."""
        return max(1, -(-(t1 - t0) // _STEP_US))

    def blur(self, t0: int, t1: int) -> float | None:  # noqa: ARG002
        """Nobody knows."""
        return None

    def _times(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Each picture with its time since the first, µs, strictly growing."""
        try:
            with av.open(str(self._path)) as container:
                if not container.streams.video:
                    raise InputError(f"{self._path}: has no video stream")
                first = last = None
                for frame in container.decode(container.streams.video[0]):
                    if frame.pts is None or frame.time_base is None:
                        raise InputError(f"{self._path}: its pictures have no times")
                    t = round(float(frame.pts * frame.time_base) * 1e6)
                    first = t if first is None else first
                    if last is None or t > last:
                        last = t
                        yield t - first, frame
        except (av.FFmpegError, OSError) as error:
            reason = error.strerror or error
            raise InputError(f"{self._path}: neither a picture nor a video that can be decoded: {reason}") from error

    def _decoded(self) -> Iterator[tuple[int, Array]]:
        for t, frame in self._times():
            light = photograph.linear(frame.to_ndarray(format="bgr24"))
            photograph.check_size(self._path, light)
            yield t, fitted(light, self._resolution)
