"""What dv-processing hands over, as readings: pure, the same for a live camera, a network stream and a recording.

Nothing of dv-processing is imported: its objects are known by their classes' names.

- ``EventStore.numpy()`` copies, so the columns made of it are the reading's own; its x and y are signed, and what is
  negative there becomes a coordinate off every sensor, which the live driver refuses and counts.
- ``Frame.timestamp`` is the **start** of the exposure and ``exposure`` its length; a frame that states none has none.
- IMU samples are in g and degrees per second, and become m/s² and rad/s.
- Triggers are put on the channels that :mod:`rtpipe.formats.aedat4` names, so that a live camera and its file agree.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import cv2
import numpy as np

from drivers.camera.contract import Reading
from rtpipe.formats.aedat4.build import OTHER_TRIGGERS, STANDARD_GRAVITY, TRIGGERS
from rtpipe.types import Array, Edge, Events, Frame, Imu, Resolution, Trigger

_MICROSECOND = timedelta(microseconds=1)


def reading(data: Any, resolution: Resolution | None = None) -> Reading | None:
    """A reading of an ``EventStore``, ``Frame``, ``ImuVector`` or ``TriggersVector``; None where nothing is in it,
    or it is something else (the flag that nothing has come). ``resolution``: the sensor's, into which a cropped picture
    is put back at its place, black around it."""
    kind = type(data).__name__
    if kind == "EventStore":
        return events(data)
    if kind == "Frame":
        return frame(data, resolution)
    if kind == "ImuVector":
        return imu(data)
    if kind == "TriggersVector":
        return triggers(data)
    return None


def events(store: Any) -> Reading | None:
    """A reading of an ``EventStore``."""
    stored = store.numpy()
    if not len(stored):
        return None
    t = stored["timestamp"].astype(np.int64)
    body = Events(
        t,
        stored["x"].astype(np.uint16, casting="unsafe"),
        stored["y"].astype(np.uint16, casting="unsafe"),
        stored["polarity"].astype(np.uint8, casting="unsafe"),
    )
    return Reading("events", int(t[0]), int(t[-1]), body)


def frame(taken: Any, resolution: Resolution | None = None) -> Reading | None:
    """A reading of a ``Frame``; uint8 or uint16, grey or BGR."""
    image = _whole(_plain(np.asarray(taken.image)), (int(taken.positionX), int(taken.positionY)), resolution)
    if image is None:
        return None
    start, length = int(taken.timestamp), taken.exposure // _MICROSECOND
    if length <= 0:
        return Reading("frames", start, start, Frame(image, start))
    end = start + length
    return Reading("frames", start, end, Frame(image, (start + end) // 2, start, end))


def imu(samples: Any) -> Reading | None:
    """A reading of an ``ImuVector``."""
    if not len(samples):
        return None
    rows = [
        (s.temperature, s.accelerometerX, s.accelerometerY, s.accelerometerZ, s.gyroscopeX, s.gyroscopeY, s.gyroscopeZ)
        for s in samples
    ]
    t = np.array([sample.timestamp for sample in samples], np.int64)
    values = np.array(rows, np.float32)
    acceleration, rotation = values[:, 1:4] * np.float32(STANDARD_GRAVITY), np.radians(values[:, 4:7])
    return Reading("imu", int(t.min()), int(t.max()), Imu(t, acceleration, rotation, values[:, 0].copy()))


def triggers(signals: Any) -> Reading | None:
    """A reading of a ``TriggersVector``."""
    if not len(signals):
        return None
    t = np.array([signal.timestamp for signal in signals], np.int64)
    kinds = [int(signal.type.value) for signal in signals]
    wired = np.array([TRIGGERS.get(kind, (OTHER_TRIGGERS + kind % 128, Edge.PULSE)) for kind in kinds], np.uint8)
    return Reading("triggers", int(t.min()), int(t.max()), Trigger(t, wired[:, 0].copy(), wired[:, 1].copy()))


def words(error: BaseException) -> str:
    """What an error of dv-processing says, without where in its source it was raised and its list of calls."""
    lines = [line.strip() for line in str(error).splitlines()]
    if "Stacktrace:" in lines:
        lines = lines[: lines.index("Stacktrace:")]
        if len(lines) > 1:
            lines = lines[1:]
    text = " ".join(" ".join(lines).split())
    return text.removeprefix("RuntimeError: ")[:300] or type(error).__name__


def _plain(image: Array) -> Array | None:
    """Grey (H, W) or BGR (H, W, 3), uint8 or uint16, contiguous; None for what is no such picture."""
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or not image.size:
        return None
    if image.ndim == 3:
        channels = image.shape[2]
        if channels == 4:
            image = np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGRA2BGR))
        elif channels == 1:
            image = image[:, :, 0]
        elif channels != 3:
            return None
    return np.ascontiguousarray(image)


def _whole(image: Array | None, at: tuple[int, int], resolution: Resolution | None) -> Array | None:
    """A cropped picture at its place in one of the sensor's size; None for one that does not fit on the sensor."""
    if image is None or resolution is None or image.shape[1::-1] == resolution:
        return image
    (x, y), (height, width) = at, image.shape[:2]
    if x < 0 or y < 0 or x + width > resolution[0] or y + height > resolution[1]:
        return None
    whole = np.zeros((resolution[1], resolution[0], *image.shape[2:]), image.dtype)
    whole[y : y + height, x : x + width] = image
    return whole
