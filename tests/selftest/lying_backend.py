"""A camera that claims more than the fake back end: ROI, exposure and a bias in hardware, which it does or, where
``lies`` names them, only says. Also faults that a driver passes on: what it ``spoils``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drivers.camera.contract import Attached, Batch, Capability, Reading
from drivers.camera.settings import Camera, frames_of
from rtpipe.types import Events, Frame, Imu
from tests.drivers.camera import fake_backend

NAME = "lying"
TITLE = "A camera that may not do what it says"
MODELS = fake_backend.MODELS
INSTALL = ""

lies: set[str] = set()
"""Settings that are claimed and not done."""
spoils: set[str] = set()
"""``"polarity"``: no off events; ``"gravity"``: half of it; ``"exposure"``: none known."""
why_not = fake_backend.why_not


def attached() -> Sequence[Attached]:
    return [replace(each, backend=NAME) for each in fake_backend.attached()]


def open(which: Attached, settings: Camera) -> Device:
    return Device(fake_backend.open(which, settings), settings)


class Device:
    encoding = ""
    capabilities = (
        Capability("roi", "hardware"),
        Capability("frames.exposure_us", "hardware", "1 to 50,000 µs"),
        Capability("frames.enabled", "hardware"),
        Capability("biases.diff_on", "hardware", "-20 to 100"),
        Capability("sync", "hardware"),
    )

    def __init__(self, device: fake_backend.Device, settings: Camera) -> None:
        self._device, self._settings = device, settings
        self.attached = replace(device.attached, backend=NAME)

    @property
    def kinds(self) -> Sequence[str]:
        return self._device.kinds

    def apply(self, settings: Camera) -> None:
        self._device.apply(settings)
        self._settings = settings

    def read(self, timeout_s: float) -> Batch:
        batch = self._device.read(timeout_s)
        return replace(batch, readings=tuple(self._done(reading) for reading in batch.readings))

    def _done(self, reading: Reading) -> Reading:
        body = reading.body
        if isinstance(body, Events):
            body = self._events(body)
            return replace(reading, body=body if len(body) else None)
        if isinstance(body, Frame):
            return self._frame(reading, body)
        if isinstance(body, Imu) and "gravity" in spoils:
            body = Imu(body.t, body.acceleration / 2, body.rotation * 0, body.temperature)
        return replace(reading, body=body)

    def _events(self, events: Events) -> Events:
        keep = np.ones(len(events), bool)
        roi, bias = self._settings.roi, self._settings.biases.get("diff_on", 0)
        if roi is not None and "roi" not in lies:
            keep &= (events.x >= roi.x) & (events.x < roi.x + roi.width)
            keep &= (events.y >= roi.y) & (events.y < roi.y + roi.height)
        if bias > 40 and "biases.diff_on" not in lies:
            keep &= (events.x + events.y) % 4 == 0
        if "polarity" in spoils:
            keep &= events.p == 1
        return Events(events.t[keep], events.x[keep], events.y[keep], events.p[keep])

    def _frame(self, reading: Reading, frame: Frame) -> Reading:
        if "exposure" in spoils:
            return replace(reading, body=Frame(frame.image, frame.t))
        frames = frames_of(self._settings)
        asked = frames.exposure_us if frames is not None else None
        if asked is None or "frames.exposure_us" in lies or frame.exposure_end is None:
            return reading
        start = frame.exposure_end - asked
        image = np.clip(frame.image.astype(np.float64) * asked / 15_000, 0, 255).astype(np.uint8)
        return Reading("frames", start, frame.exposure_end, Frame(image, frame.t, start, frame.exposure_end))

    def close(self) -> None:
        self._device.close()
