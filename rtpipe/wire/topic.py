"""A stream's name as the topic of its messages."""

from __future__ import annotations

from functools import lru_cache

from rtpipe.errors import WireError
from rtpipe.types import KINDS


@lru_cache(1024)
def topic_of(stream: str) -> bytes:
    """The topic of ``stream``. Raises ``WireError`` for what is not a stream's name."""
    topic = stream.encode()
    if stream_of(topic) != stream:
        raise WireError("topic", f"{stream!r} is not a stream's name")
    return topic


@lru_cache(1024)
def stream_of(topic: bytes) -> str:
    """The stream's name: ``stage/kind``, printable, at most 128 bytes. Raises ``WireError`` for anything else."""
    try:
        name = topic.decode()
    except UnicodeDecodeError:
        name = ""
    stage, _, kind = name.rpartition("/")
    if not stage or kind not in KINDS or len(topic) > 128 or not name.isprintable():
        raise WireError("topic", f"a message for {topic[:40]!r}, which is not a stream's name")
    return name
