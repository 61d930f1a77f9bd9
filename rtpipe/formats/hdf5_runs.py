"""Columns of a recording taken side by side and read ahead on threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

Read: TypeAlias = Callable[[int, int], Any]
"""What a column holds from one index to another; called in a thread."""

THREADS = max(2, min(4, os.cpu_count() or 1))
AHEAD = 2
"""Runs that are read while one is looked at; the first run is read alone, so that a short look stays cheap."""


class Runs:
    """Reads the same run of several columns at once, each by its own function, in threads of its own.

    The functions are called in several threads at once, in no order; they must be done with before what they read is
    closed: :meth:`close` waits for them.
    """

    def __init__(self, columns: Sequence[Read]) -> None:
        self._columns = tuple(columns)
        self._pool: ThreadPoolExecutor | None = None

    def read(self, bounds: Iterable[tuple[int, int]]) -> Iterator[tuple[Any, ...]]:
        """For each of ``bounds`` (first, end) what every column holds there, in their order. What a column raises comes
        out when its run is reached. Stopping early (closing the iterator) cancels what has not been begun."""
        pool = self._threads()
        under_way: deque[list[Future[Any]]] = deque()
        try:
            waiting = iter(bounds)
            allowed = 1
            while True:
                while len(under_way) < allowed and (next_one := next(waiting, None)) is not None:
                    under_way.append([pool.submit(column, *next_one) for column in self._columns])
                if not under_way:
                    return
                yield tuple(future.result() for future in under_way.popleft())
                allowed = 1 + AHEAD
        finally:
            for futures in under_way:
                for future in futures:
                    future.cancel()

    def close(self) -> None:
        """Wait for what is being read and end the threads. May be called twice."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="rtpipe columns")
        return self._pool
