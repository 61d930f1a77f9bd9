"""A worker's line to its supervisor: reports up, orders down. Never blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import zmq

from rtpipe.errors import WireError
from rtpipe.pipeline.messages import Stop, ToWorker, encode, to_worker

REPORT_EVERY_S = 0.25
_ORPHAN_CHECK_S = 0.5


class Link:
    """Owned by the worker's one thread. A supervisor that died is noticed by the change of the parent process, and
    reads as an order to stop: the pipeline drains and closes its files."""

    def __init__(self, endpoint: str, name: str, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.IDENTITY, name.encode())
        self.socket.setsockopt(zmq.LINGER, 500)
        self.socket.connect(endpoint)
        self._parent = os.getppid()
        self._orphan = False
        self._next_check = 0.0
        self._next_report = 0.0

    @property
    def report_due(self) -> bool:
        """True four times a second."""
        now = time.monotonic()
        if now < self._next_report:
            return False
        self._next_report = now + REPORT_EVERY_S
        return True

    def send(self, message: msgspec.Struct) -> None:
        """Tell the supervisor; dropped if it is not listening any more."""
        with suppress(zmq.Again):
            self.socket.send(encode(message), zmq.DONTWAIT)

    def receive(self) -> Iterator[ToWorker]:
        """The orders that have come, and :class:`Stop` once if the supervisor is gone."""
        while True:
            try:
                data = self.socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            try:
                yield to_worker(data)
            except WireError:
                continue  # not for us to judge: the supervisor is of the same version
        now = time.monotonic()
        if not self._orphan and now >= self._next_check:
            self._next_check = now + _ORPHAN_CHECK_S
            if os.getppid() != self._parent:
                self._orphan = True
                yield Stop()

    def close(self) -> None:
        """Send what is queued (half a second at most) and close."""
        self.socket.close()
