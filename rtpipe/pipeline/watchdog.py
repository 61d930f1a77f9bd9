"""A process that hangs is ended by the kernel: the last resort against an SDK that never gives Python's lock back.

Nothing written in Python runs then, no thread and no signal handler; but the default action of SIGALRM is the kernel's.
The supervisor sees the death and starts the process anew.
"""

from __future__ import annotations

import signal
import time

PATIENCE_S = 15.0
"""So long without a sign of life (:meth:`Watchdog.alive`) is a hang; compiling a filter takes a second or two."""
EVERY_S = 1.0


class Watchdog:
    """Of one process, for its main loop. Does nothing where SIGALRM is in other use (a test's time limit)."""

    def __init__(self, wanted: bool) -> None:
        self._armed = wanted and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
        self._next = 0.0

    def alive(self) -> None:
        """The loop goes round."""
        now = time.monotonic()
        if self._armed and now >= self._next:
            self._next = now + EVERY_S
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)

    def off(self) -> None:
        """From now on it may take as long as it likes."""
        if self._armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._next = 0.0
