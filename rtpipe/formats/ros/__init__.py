"""ROS 1 and ROS 2 bags (``.bag``; ``.db3``, ``.mcap`` or their folder) with events, pictures and inertial samples.

Events are ``event_camera_msgs/EventPacket`` (evt3, libcaer_cmp, libcaer, mono), ``dvs_msgs/EventArray`` or
``prophesee_event_msgs/EventArray``; pictures ``sensor_msgs/Image``; inertial samples ``sensor_msgs/Imu``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats.packets import cut
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.formats.ros import messages
from rtpipe.formats.ros.bag import Bag, Topic, is_bag
from rtpipe.formats.ros.events import EVENT_ARRAYS, EVENT_PACKET, EventStream
from rtpipe.types import Events, Frame, Imu, StreamInfo, Trigger

__all__ = ["DESCRIPTION", "Reader", "probe"]

DESCRIPTION = "ROS 1 and ROS 2 bags with event messages"

IMAGE, IMU = "sensor_msgs/Image", "sensor_msgs/Imu"
SAMPLES = 64
"""Inertial samples in one run."""
MARGIN_US = 1_000_000
"""How much earlier than what is wanted reading begins: messages are logged when they arrive, later than their stamp, by
a clock that need not be the sensor's."""
_Run = TypeVar("_Run", Events, Imu, Trigger)


def probe(path: Path, head: bytes) -> bool:
    """A ROS 1 bag, a ROS 2 bag's folder, or one of its files, but no recording of ours."""
    return is_bag(path, head)


class Reader(Recording):
    """A bag (see :class:`rtpipe.formats.contract.Reader`), read message by message.

    ``topic``, ``image_topic``, ``imu_topic``: which, where there are several (``""``: none). ``exposure_us``: the
    exposure of the pictures, their stamp being its middle; without it they have none. Events keep the sensor's clock
    where they come alone; beside pictures or inertial samples they are put on the clock of the stamps.
    """

    def __init__(
        self,
        path: Path,
        *,
        topic: str | None = None,
        image_topic: str | None = None,
        imu_topic: str | None = None,
        exposure_us: int | None = None,
    ) -> None:
        self.path = Path(path)
        if exposure_us is not None and exposure_us < 1:
            raise InputError(f"exposure_us {exposure_us}: microseconds, at least 1")
        self._exposure_us = exposure_us
        self._bag = Bag(self.path)
        try:
            of_events = self._choose("topic", topic, (EVENT_PACKET, *EVENT_ARRAYS), None)
            if of_events is None:
                there = ", ".join(f"{each.name} ({each.type})" for each in self._bag.topics) or "nothing"
                raise FormatError(f"{self.path}: no topic of events in it; there is {there}"[:490])
            self._image = self._choose("image_topic", image_topic, (IMAGE,), of_events.name)
            self._imu = self._choose("imu_topic", imu_topic, (IMU,), of_events.name)
            self._events = EventStream(self._bag, of_events, self._image is not None or self._imu is not None)
            self._describe(of_events)
        except BaseException:
            self._bag.close()
            raise

    def _choose(self, option: str, name: str | None, types: tuple[str, ...], beside: str | None) -> Topic | None:
        """The topic of one of these types: the one named, or the only one, or that in the namespace of ``beside``."""
        if name == "":
            return None
        there = [each for each in self._bag.topics if each.type in types and each.n]
        if name is not None:
            found = [each for each in there if each.name == name]
            if not found:
                offered = ", ".join(each.name for each in there) or "none"
                raise InputError(f"{self.path}: no topic {name!r} of {' or '.join(types)}; there are: {offered}"[:490])
            return found[0]
        if len(there) > 1 and beside is not None:
            space = beside.rsplit("/", 1)[0] + "/"
            there = [each for each in there if each.name.startswith(space)] or there
        if len(there) > 1:
            offered = ", ".join(each.name for each in there)
            raise InputError(f"{self.path}: several topics; choose with the option {option}: {offered}"[:490])
        return there[0] if there else None

    def _describe(self, of_events: Topic) -> None:
        events = self._events
        self.resolution = events.resolution
        camera = of_events.name.strip("/").rsplit("/", 1)[0]
        streams = [StreamInfo("camera/events", self.resolution, camera)]
        first, last = [events.t_start], [events.t_end]
        if self._image is not None:
            early, late = (self._frame_of(data) for data in self._ends(self._image))
            streams.append(StreamInfo("camera/frames", early.resolution, camera))
            first.append(early.t if early.exposure_start is None else early.exposure_start)
            last.append(late.t if late.exposure_end is None else late.exposure_end)
        if self._imu is not None:
            streams.append(StreamInfo("camera/imu", None, camera))
            stamps = [self._stamp(data) for data in self._ends(self._imu)]
            first.append(min(stamps))
            last.append(max(stamps))
        if events.triggers:
            streams.append(StreamInfo("camera/triggers", None, camera))
        self.streams = tuple(streams)
        self.t_start, self.t_end = min(first), max(last)
        self.notes = events.notes
        if self._image is not None and self._exposure_us is None:
            self.notes += ("the exposure of the pictures is not stated; say it with the option exposure_us",)
        if not 0 <= self.t_end - self.t_start <= LONGEST_S * 1_000_000:
            raise FormatError(f"{self.path}: its stamps run from {self.t_start} to {self.t_end} µs, it is damaged")

    def _ends(self, topic: Topic) -> tuple[bytes, bytes]:
        """The first and the last message of a topic."""
        first, last = next(self._bag.messages([topic.name]), None), self._bag.last([topic.name])
        if first is None or last is None:
            raise FormatError(f"{self.path}: {topic.name} should hold {topic.n} messages, and there are none")
        return first.data, last.data

    def counts(self) -> Mapping[str, int]:
        """Elements per stream; decodes all events once."""
        totals = {"events": 0, "triggers": 0}
        for events, triggers in self._events.runs(None):
            totals["events"] += len(events)
            totals["triggers"] += len(triggers)
        totals["frames"] = self._image.n if self._image is not None else 0
        totals["imu"] = self._imu.n if self._imu is not None else 0
        return {stream.name: totals[stream.kind] for stream in self.streams}

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order, message by message. Raises ``FormatError`` naming the message."""
        return _between((events for events, _ in self._events.runs(t0)), t0, t1)

    def triggers(self, t0: int | None = None, t1: int | None = None) -> Iterator[Trigger]:
        """Trigger signals with ``t0 <= t < t1`` (µs) that came with the events, message by message."""
        if not self._events.triggers:
            return iter(())
        return _between((triggers for _, triggers in self._events.runs(t0)), t0, t1)

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Pictures with ``t0 <= t < t1`` (µs), in order of time. Raises ``FormatError`` where they are not."""
        newest: int | None = None
        for data in self._since(self._image, t0):
            frame = self._frame_of(data)
            if newest is not None and frame.t < newest:
                raise FormatError(f"{self.path}: a picture stamped {frame.t} µs comes after one of {newest} µs")
            newest = frame.t
            if t1 is not None and frame.t >= t1:
                return
            if t0 is None or frame.t >= t0:
                yield frame

    def imu(self, t0: int | None = None, t1: int | None = None) -> Iterator[Imu]:
        """Inertial samples with ``t0 <= t < t1`` (µs), in runs of 64; the temperature is not known."""
        return _between(self._samples(t0), t0, t1)

    def close(self) -> None:
        """Let the bag go. May be called twice."""
        self._bag.close()

    def _since(self, topic: Topic | None, t0: int | None) -> Iterator[bytes]:
        """The messages of a topic from a second before ``t0`` (µs of the stamps) on."""
        if topic is not None:
            start = None if t0 is None else max(0, (t0 - MARGIN_US) * 1000)
            for message in self._bag.messages([topic.name], start):
                yield message.data

    def _samples(self, t0: int | None) -> Iterator[Imu]:
        stamps: list[int] = []
        values: list[list[float]] = []
        newest = -(1 << 62)
        for data in self._since(self._imu, t0):
            try:
                stamp, acceleration, rotation = messages.imu(data, self._bag.cdr)
            except messages.Broken as error:
                raise FormatError(f"{self.path}: a damaged message of inertial samples: {error}") from error
            if stamp // 1000 < newest:
                raise FormatError(f"{self.path}: an inertial sample of {stamp // 1000} µs comes after {newest} µs")
            newest = stamp // 1000
            stamps.append(newest)
            values.append([*acceleration, *rotation])
            if len(stamps) == SAMPLES:
                yield _imu_of(stamps, values)
                stamps, values = [], []
        if stamps:
            yield _imu_of(stamps, values)

    def _frame_of(self, data: bytes) -> Frame:
        try:
            stamp, image = messages.image(data, self._bag.cdr)
        except messages.Broken as error:
            raise FormatError(f"{self.path}: a damaged picture: {error}") from error
        t = stamp // 1000
        if self._exposure_us is None:
            return Frame(image, t)
        start = t - self._exposure_us // 2
        return Frame(image, t, start, start + self._exposure_us)

    def _stamp(self, data: bytes) -> int:
        try:
            return messages.Cursor(data, self._bag.cdr).header() // 1000
        except messages.Broken as error:
            raise FormatError(f"{self.path}: a damaged message: {error}") from error


def _imu_of(stamps: list[int], values: list[list[float]]) -> Imu:
    rows = np.array(values, np.float32).reshape(-1, 6)
    return Imu(np.array(stamps, np.int64), rows[:, :3].copy(), rows[:, 3:].copy(), np.full(len(rows), np.nan, "f4"))


def _between(runs: Iterator[_Run], t0: int | None, t1: int | None) -> Iterator[_Run]:
    """The part of ordered runs with ``t0 <= t < t1``."""
    for run in runs:
        if not len(run):
            continue
        low = 0 if t0 is None else int(np.searchsorted(run.t, t0))
        high = len(run) if t1 is None else int(np.searchsorted(run.t, t1))
        if low < high:
            yield cut(run, low, high)
        if high < len(run):
            return
