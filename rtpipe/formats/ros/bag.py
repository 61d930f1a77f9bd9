"""ROS bags as containers: topics, and messages as bytes in order of their log time, over the ``rosbags`` package."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rtpipe.errors import FormatError, InputError
from rtpipe.formats.mcap import probe as is_ours

MAGIC_1 = b"#ROSBAG V"
MAGIC_SQLITE = b"SQLite format 3\0"
MAGIC_MCAP = b"\x89MCAP0\r\n"
_METADATA = "metadata.yaml"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its name, its type without the ``msg`` in the middle (``"sensor_msgs/Imu"``), how many messages."""

    name: str
    type: str
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A message as it is stored: ``log_ns``, when it was recorded; ``data`` in CDR or as ROS 1 has it."""

    topic: str
    log_ns: int
    data: bytes


def is_bag(path: Path, head: bytes) -> bool:
    """A ROS 1 bag, a ROS 2 bag's folder, or one of its files, but no recording of ours."""
    if not head:
        try:
            text = (path / _METADATA).read_bytes()[:4096] if path.is_dir() else b""
        except OSError:
            return False
        return b"rosbag2_bagfile_information" in text
    if head.startswith(MAGIC_MCAP):
        return head[21:25] == b"ros2" and not is_ours(path, head)
    return head.startswith(MAGIC_1) or (head.startswith(MAGIC_SQLITE) and path.suffix == ".db3")


class Bag:
    """An open bag. Raises ``FormatError`` for whatever is wrong with it, and ``InputError`` where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cdr = True
        with suppress(OSError), (path / _METADATA if path.is_dir() else path).open("rb") as file:
            self.cdr = file.read(len(MAGIC_1)) != MAGIC_1
        try:
            self._bag: Any = _reader(self.cdr)(path)
            self._bag.open()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        except Exception as error:
            self._refuse(error)
        try:
            counted: dict[tuple[str, str], int] = {}
            for each in self._bag.connections:
                key = (str(each.topic), str(each.msgtype).replace("/msg/", "/"))
                counted[key] = counted.get(key, 0) + int(each.msgcount)
            self.topics = tuple(Topic(name, kind, n) for (name, kind), n in counted.items())
            self.start_ns, self.end_ns = int(self._bag.start_time), int(self._bag.end_time)
        except Exception as error:
            self.close()
            self._refuse(error)

    def messages(self, topics: Sequence[str], start_ns: int | None = None) -> Iterator[Message]:
        """The messages of these topics, those logged before ``start_ns`` left out."""
        wanted = [each for each in self._bag.connections if each.topic in topics]
        if not wanted:
            return
        try:
            for connection, log_ns, data in self._bag.messages(wanted, start=start_ns):
                yield Message(connection.topic, log_ns, bytes(data))
        except GeneratorExit:
            raise
        except Exception as error:
            self._refuse(error)

    def last(self, topics: Sequence[str]) -> Message | None:
        """The last message of these topics."""
        span = 1_000_000_000
        while True:
            start = self.end_ns - span
            newest = deque(self.messages(topics, max(start, 0)), maxlen=1)
            if newest or start <= self.start_ns:
                return newest[0] if newest else None
            span *= 8

    def close(self) -> None:
        """Let the file go. May be called twice."""
        with suppress(Exception):
            self._bag.close()

    def _refuse(self, error: Exception) -> NoReturn:
        said = str(error).split("\n")[0][:200] or type(error).__name__
        raise FormatError(f"{self.path}: a ROS bag that cannot be read: {said}") from error


def _reader(cdr: bool) -> Callable[[Path], Any]:
    """The reader for a ROS 2 bag (``cdr``) or a ROS 1 bag."""
    if cdr:
        from rosbags.rosbag2 import Reader as Reader2

        return Reader2
    from rosbags.rosbag1 import Reader as Reader1

    return Reader1
