"""Reading ahead: a thread that decodes the next packets while the last ones are on their way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from rtpipe.types import Packet

MOST_PACKETS = 256
MOST_EVENTS = 1_000_000
"""How far ahead is read, whichever is reached first (1 M events are 13 MB)."""


class Prefetch:
    """The packets of ``packets``, taken from it in a thread of their own, at most ``MOST_PACKETS`` or ``MOST_EVENTS``
    ahead. The iterator is used by that thread alone until :meth:`close`, which waits for the packet in progress.
    An exception that it raises comes out of :meth:`peek` once everything before it has been taken."""

    def __init__(self, packets: Iterator[Packet]) -> None:
        self._packets = packets
        self._ready: deque[Packet] = deque()
        self._events = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._finished = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rtpipe read-ahead", daemon=True)
        self._thread.start()

    def peek(self, timeout_s: float) -> Packet | None:
        """The next packet, which stays; waits for it at most ``timeout_s``. None: none yet, or none any more
        (:attr:`finished`)."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._finished, timeout_s)
            if self._ready:
                return self._ready[0]
            if self._error is not None:
                raise self._error
            return None

    def pop(self) -> None:
        """Take away the packet that :meth:`peek` showed."""
        with self._changed:
            self._events -= self._ready.popleft().n_events
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """True once the last packet has been taken."""
        with self._changed:
            return self._finished and not self._ready

    def close(self) -> None:
        """Stop reading and let the iterator go; blocks until the thread has ended."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            for packet in self._packets:
                with self._changed:
                    self._changed.wait_for(self._room)
                    if self._stopped:
                        return
                    self._ready.append(packet)
                    self._events += packet.n_events
                    self._changed.notify_all()
        except BaseException as error:  # every error belongs to whoever reads
            self._error = error
        finally:
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _room(self) -> bool:
        return self._stopped or (len(self._ready) < MOST_PACKETS and self._events < MOST_EVENTS)
