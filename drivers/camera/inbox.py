"""What lies between a device's thread and the driver: batches in order, bounded in bytes, what overflows counted."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable

import numpy as np

from drivers.camera.contract import Batch
from rtpipe.types import Body, Events, Frame, PackedEvents, RawEvents

MOST_BYTES = 64 << 20
"""What waits at most for a driver that is held up."""
TRANSFERS = "transfers"


class Opened:
    """In the place of a batch: those behind it are of a camera that was opened anew."""


class Inbox:
    """Thread-safe. One puts, one takes. A batch that finds no room is dropped whole; what it held is counted."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._changed = threading.Condition()
        self._batches: deque[tuple[Batch | Opened, int]] = deque()
        self._bytes = 0
        self._quiet_ns = 0
        self._lost: Counter[str] = Counter()

    def put(self, batch: Batch) -> None:
        """Hand over a batch; never waits."""
        size = sum(body_bytes(reading.body) for reading in batch.readings)
        with self._changed:
            if self._bytes + size > self._most:
                self._lost.update(held(batch))
            else:
                self._batches.append((batch, size))
                self._bytes += size
            self._changed.notify()

    def opened(self) -> None:
        """What is put from now on is of a camera that was opened anew."""
        with self._changed:
            self._batches.append((Opened(), 0))
            self._quiet_ns = 0

    def quiet(self, since_ns: int) -> None:
        """Nothing had come at ``since_ns`` (CLOCK_MONOTONIC), and everything before it was put."""
        with self._changed:
            self._quiet_ns = since_ns

    def take(self, timeout_s: float) -> tuple[Batch | Opened | None, int]:
        """The next batch, waiting at most ``timeout_s``; or None, and until when nothing had come (0: unknown)."""
        with self._changed:
            if not self._batches and timeout_s > 0:
                self._changed.wait(timeout_s)
            if not self._batches:
                return None, self._quiet_ns
            batch, size = self._batches.popleft()
            self._bytes -= size
            return batch, 0

    def lost(self) -> Counter[str]:
        """What was dropped since this was last asked: by kind of reading, and ``"transfers"``."""
        with self._changed:
            lost, self._lost = self._lost, Counter()
            return lost

    @property
    def waiting_bytes(self) -> int:
        """How much waits."""
        return self._bytes


def held(batch: Batch) -> Counter[str]:
    """What is in a batch: events, frames and samples by kind, and one transfer."""
    found = Counter({TRANSFERS: 1})
    for reading in batch.readings:
        found[reading.kind] += elements(reading.body)
    found["events"] += sum(batch.refused.values())
    return found


def elements(body: Body) -> int:
    """Events, samples, or one frame."""
    if isinstance(body, Frame):
        return 1
    return 0 if body is None or not hasattr(body, "__len__") else len(body)


def body_bytes(body: Body) -> int:
    """Of its arrays."""
    if isinstance(body, Frame):
        return int(body.image.nbytes)
    if isinstance(body, RawEvents):
        return int(body.data.nbytes)
    if isinstance(body, PackedEvents):
        return 8 * len(body)
    if isinstance(body, Events):
        return 13 * len(body)
    return sum(_arrays(body))


def _arrays(body: Body) -> Iterable[int]:
    names = getattr(type(body), "__slots__", ())
    return (int(value.nbytes) for name in names if isinstance(value := getattr(body, name, None), np.ndarray))
