"""What neuromorphic-drivers hands over, to readings. Pure: arrays and numbers in, readings out.

Its packets hold structured arrays (13 bytes per event, packed: ``t`` uint64 µs, ``x``, ``y`` uint16, ``on`` bool); they
are copied into columns. IMU: m/s², rad/s, °C; x points right, y up, z along the optical axis, seen as the camera looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drivers.camera.contract import Reading
from rtpipe.errors import WorldError
from rtpipe.types import Array, Edge, Events, Frame, Imu, Trigger

WRAP_US = 1 << 15
"""The cameras of iniVation send 15 bits of the time, and a word for each wrap; words in lost transfers are not seen."""
EARLY_US = WRAP_US // 4
"""A transfer cannot arrive early: so much is left to the clocks' drift and to the fastest transfer not seen yet."""
RECENT_US = 1_000_000

Part = tuple[bool, tuple[Reading, ...]]
"""Readings, and whether transfers were lost in front of them."""


def parts(packet: Any, until: int, later_us: int = 0) -> list[Part]:
    """The readings of a packet (``Davis346Packet``, ``DvxplorerPacket``, ``Evt3Packet``), cut where it overflowed.

    ``until``: the camera's time at its end (µs): a promise where there are no events; ``later_us`` is added to all
    times. Raises ``WorldError`` for arrays that this version of rtpipe does not know.
    """
    kinds = (
        ("events", packet.polarity_events, packet.polarity_events_overflow_indices, _events),
        ("frames", getattr(packet, "frames", None), getattr(packet, "frames_overflow_indices", None), _frames),
        ("imu", getattr(packet, "imu_events", None), getattr(packet, "imu_events_overflow_indices", None), _imu),
        ("triggers", packet.trigger_events, packet.trigger_events_overflow_indices, _triggers),
    )
    cuts = {name: _cuts(array, indices) for name, array, indices, _ in kinds}
    losses = max(map(len, cuts.values()))
    made: list[list[Reading]] = [[] for _ in range(losses + 1)]
    for name, array, _, convert in kinds:
        n = 0 if array is None else len(array)
        edges = [0, *([0] * (losses - len(cuts[name]))), *cuts[name], n]
        for into, start, stop in zip(made, edges[:-1], edges[1:], strict=True):
            if stop > start and array is not None:
                into += convert(array[start:stop], later_us)
    if not any(reading.kind == "events" for reading in made[-1]):
        made[-1].append(Reading("events", until + later_us, until + later_us, None))
    parts = [(i > 0, tuple(readings)) for i, readings in enumerate(made)]
    return parts if parts[0][1] else parts[1:]


def _cuts(array: Any, indices: Any) -> list[int]:
    """Where a kind is cut: sorted, inside the array whatever the SDK says."""
    if array is None or indices is None:
        return []
    return sorted(min(max(int(index), 0), len(array)) for index in indices)


def _field(array: Array, *names: str) -> Array:
    """The first of these fields that there is."""
    known = array.dtype.names or ()
    for name in names:
        if name in known:
            found: Array = array[name]
            return found
    raise WorldError(
        f"neuromorphic-drivers gives arrays of {', '.join(known)[:200] or array.dtype}, without {names[0]}: "
        "this version of it is not known here"
    )


def _times(array: Array, later_us: int) -> Array:
    t = _field(array, "t").astype(np.int64)
    return t + later_us if later_us else t


def _events(array: Array, later_us: int) -> list[Reading]:
    t = _times(array, later_us)
    x, y = (np.ascontiguousarray(_field(array, name), np.uint16) for name in "xy")
    on = np.ascontiguousarray(_field(array, "on", "polarity")).view(np.uint8)
    return [Reading("events", int(t[0]), int(t[-1]), Events(t, x, y, on))]


def _imu(array: Array, later_us: int) -> list[Reading]:
    t = _times(array, later_us)
    acceleration, rotation = (
        np.stack([_field(array, f"{what}_{axis}") for axis in "xyz"], axis=1).astype(np.float32, copy=False)
        for what in ("accelerometer", "gyroscope")
    )
    temperature = np.ascontiguousarray(_field(array, "temperature"), np.float32)
    return [Reading("imu", int(t[0]), int(t[-1]), Imu(t, acceleration, rotation, temperature))]


def _triggers(array: Array, later_us: int) -> list[Reading]:
    t = _times(array, later_us)
    channel = np.ascontiguousarray(_field(array, "id"), np.uint8)
    edge = np.ascontiguousarray(_field(array, "rising", "polarity")).astype(np.uint8)  # 0 falling, 1 rising, 2 pulse
    return [Reading("triggers", int(t[0]), int(t[-1]), Trigger(t, channel, np.minimum(edge, Edge.PULSE)))]


def _frames(frames: Sequence[Any], later_us: int) -> list[Reading]:
    return [_frame(frame, later_us) for frame in frames]


def _frame(frame: Any, later_us: int) -> Reading:
    """Its pixels are the sensor's 10 bits times 64: the upper eight are kept, as every other source gives them."""
    image = (np.asarray(frame.pixels) >> 8).astype(np.uint8)
    start, end = frame.exposure_start_t, frame.exposure_end_t
    if start is None or end is None:  # begun before the stream, or its words were lost
        middle = (int(frame.start_t) + int(frame.t)) // 2 + later_us
        return Reading("frames", middle, middle, Frame(image, middle))
    start, end = int(start) + later_us, int(end) + later_us
    return Reading("frames", start, end, Frame(image, (start + end) // 2, start, end))


class MissedWraps:
    """How far a camera's time lags behind because wraps of its 15 bits were in transfers that were lost.

    The delay from the camera's clock to the arrival on this host is known to the millisecond; after a loss it has
    grown by a multiple of 32.768 ms. Times in µs.
    """

    def __init__(self) -> None:
        self.lag_us = 0
        """To be added to every time."""
        self._delays = [(0, 1 << 62), (0, 1 << 62)]  # the least of each of the last two seconds, and when it began

    def arrived(self, t: int, received_us: int) -> None:
        """Everything up to ``t`` of the camera's time, as the SDK says it, had reached this host at ``received_us``."""
        delay = received_us - (t + self.lag_us)
        begun, least = self._delays[-1]
        if received_us - begun > RECENT_US:
            self._delays = [self._delays[-1], (received_us, delay)]
        else:
            self._delays[-1] = (begun, min(least, delay))

    def lost(self, t: int, received_us: int) -> None:
        """The same of the first transfer after a loss."""
        usual = min(least for _, least in self._delays)
        if usual < 1 << 62:
            grown = received_us - (t + self.lag_us) - usual
            self.lag_us += max(0, (grown + EARLY_US) // WRAP_US) * WRAP_US
