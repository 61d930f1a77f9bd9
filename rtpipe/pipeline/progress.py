"""What an engine says while it makes ready (weights read, exported, loaded), passed on while the worker is blocked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STARTING = "starting"
"""The fact in a worker's report that holds it."""

LOGGERS = ("engines", "rtpipe")


class _Pass(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


@contextmanager
def told(say: Callable[[str], None]) -> Iterator[None]:
    """While this lasts, every remark (level INFO and above) of an engine's or rtpipe's log also goes to ``say``."""
    handler = _Pass(say)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
