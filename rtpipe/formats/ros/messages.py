"""ROS messages from bytes, as ROS 1 serialises them and as CDR does (ROS 2): pure, every length checked.

The layouts are those of the message definitions ``event_camera_msgs/EventPacket``, ``dvs_msgs/EventArray`` and
``prophesee_event_msgs/EventArray``, ``sensor_msgs/Image`` and ``sensor_msgs/Imu``. Times are nanoseconds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np

from rtpipe.types import MAX_SIDE, Array, Resolution


class Broken(ValueError):
    """The bytes are no such message; the text says what is wrong with them."""


class Cursor:
    """Reads one message from front to back. Raises ``Broken`` at its end."""

    def __init__(self, data: bytes, cdr: bool) -> None:
        self._data, self._cdr = data, cdr
        self._at = self._origin = 4 if cdr else 0
        self._order = "<"
        if cdr:
            if len(data) < 4 or data[0] != 0 or data[1] > 1:
                raise Broken("no CDR")
            self._order = "<" if data[1] == 1 else ">"

    def number(self, code: str) -> int:
        """An integer, by its :mod:`struct` letter."""
        return int(self._unpack(code))

    def real(self) -> float:
        """A float64."""
        return float(self._unpack("d"))

    def text(self) -> str:
        """A string."""
        raw = bytes(self.run(self.number("I")))
        return (raw[:-1] if self._cdr and raw.endswith(b"\0") else raw).decode("utf-8", "replace")

    def run(self, size: int) -> memoryview:
        """The next ``size`` bytes."""
        if size > len(self._data) - self._at:
            raise Broken(f"{size} bytes do not fit a message of {len(self._data)}")
        self._at += size
        return memoryview(self._data)[self._at - size : self._at]

    def header(self) -> int:
        """``std_msgs/Header``: its stamp (ns)."""
        if not self._cdr:
            self.number("I")
        stamp = self.number("i" if self._cdr else "I") * 1_000_000_000 + self.number("I")
        self.text()
        return stamp

    def events(self, n: int) -> Array:
        """``n`` events of an ``EventArray``, as a structured array (x, y, sec, nsec, p) of the file's own layout."""
        order = self._order
        fields: list[tuple[str, str]] = [("x", "u2"), ("y", "u2"), ("sec", "u4"), ("nsec", "u4"), ("p", "u1")]
        if 13 * n > len(self._data):
            raise Broken(f"{n} events do not fit a message of {len(self._data)} bytes")
        if not self._cdr:
            dtype = np.dtype([(name, order + code) for name, code in fields])
            return np.frombuffer(self.run(13 * n), dtype)
        # CDR aligns each number to its size: from the second event on, y is followed by two bytes of padding
        dtype = np.dtype(
            {
                "names": [name for name, _ in fields],
                "formats": [order + code for _, code in fields],
                "offsets": [0, 2, 6, 10, 14],
                "itemsize": 16,
            }
        )
        padded = np.zeros(16 * n, np.uint8)
        if n:
            raw = np.frombuffer(self.run(16 * n - 3), np.uint8)
            padded[2 : 16 * n - 1] = raw
            padded[:4] = raw[:4]
        return padded.view(dtype)

    def _unpack(self, code: str) -> int | float:
        size = struct.calcsize(code)
        if self._cdr:
            self._at += -(self._at - self._origin) % size
        if self._at + size > len(self._data):
            raise Broken(f"cut off at byte {len(self._data)}")
        value: int | float = struct.unpack_from(self._order + code, self._data, self._at)[0]
        self._at += size
        return value


@dataclass(frozen=True, slots=True)
class EventPacket:
    """``event_camera_msgs/EventPacket``: ``stamp`` and ``time_base`` in ns, ``data`` uint8 in ``encoding``."""

    stamp: int
    resolution: Resolution
    seq: int
    time_base: int
    encoding: str
    data: Array


@dataclass(frozen=True, slots=True)
class EventArray:
    """``dvs_msgs/EventArray`` (and Prophesee's): ``t`` int64 ns, ``x``, ``y`` uint16, ``p`` uint8."""

    stamp: int
    resolution: Resolution
    t: Array
    x: Array
    y: Array
    p: Array


def event_packet(data: bytes, cdr: bool) -> EventPacket:
    """Raises ``Broken``."""
    cursor = Cursor(data, cdr)
    stamp = cursor.header()
    size = _size(cursor)
    seq, base = cursor.number("Q"), cursor.number("Q")
    encoding = cursor.text()
    big = cursor.number("B")
    raw = cursor.run(cursor.number("I"))
    if big:
        raise Broken("its events are big-endian, which no camera known writes")
    return EventPacket(stamp, size, seq, base, encoding, np.frombuffer(raw, np.uint8))


def event_array(data: bytes, cdr: bool) -> EventArray:
    """Raises ``Broken``."""
    cursor = Cursor(data, cdr)
    stamp = cursor.header()
    size = _size(cursor)
    stored = cursor.events(cursor.number("I"))
    t = stored["sec"].astype(np.int64) * 1_000_000_000 + stored["nsec"].astype(np.int64)
    columns = (stored["x"].astype(np.uint16), stored["y"].astype(np.uint16), stored["p"].astype(np.uint8))
    return EventArray(stamp, size, t, *columns)


_GREY = {"mono8": "u1", "8UC1": "u1", "mono16": "u2", "16UC1": "u2"}
_COLOUR = {"bgr8": None, "8UC3": None, "rgb8": cv2.COLOR_RGB2BGR}
_FOUR = {"bgra8": cv2.COLOR_BGRA2BGR, "rgba8": cv2.COLOR_RGBA2BGR, "8UC4": cv2.COLOR_BGRA2BGR}
_BAYER = {  # OpenCV names the pattern by its second row
    "bayer_rggb8": cv2.COLOR_BayerBG2BGR,
    "bayer_bggr8": cv2.COLOR_BayerRG2BGR,
    "bayer_gbrg8": cv2.COLOR_BayerGR2BGR,
    "bayer_grbg8": cv2.COLOR_BayerGB2BGR,
}


def image(data: bytes, cdr: bool) -> tuple[int, Array]:
    """``sensor_msgs/Image``: its stamp (ns) and the picture, (H, W) or (H, W, 3) BGR, uint8 or uint16 (a copy).
    Raises ``Broken``."""
    cursor = Cursor(data, cdr)
    stamp = cursor.header()
    width, height = _size(cursor)
    encoding = cursor.text()
    big, step = cursor.number("B"), cursor.number("I")
    raw = np.frombuffer(cursor.run(cursor.number("I")), np.uint8)
    channels = 3 if encoding in _COLOUR else 4 if encoding in _FOUR else 1
    code = _GREY.get(encoding, "u1")
    if encoding not in (*_GREY, *_COLOUR, *_FOUR, *_BAYER):
        raise Broken(f"a picture in {encoding[:20]!r}; {', '.join((*_GREY, *_COLOUR, *_FOUR, *_BAYER))} are read")
    row = width * channels * np.dtype(code).itemsize
    if step < row or step * height != len(raw):
        raise Broken(f"{len(raw)} bytes as picture of {width}x{height}, {encoding}")
    rows = np.ascontiguousarray(raw.reshape(height, step)[:, :row])
    if code == "u2":
        return stamp, rows.view(">u2" if big else "<u2").astype(np.uint16)
    if channels == 1:
        return stamp, np.asarray(cv2.cvtColor(rows, _BAYER[encoding])) if encoding in _BAYER else rows
    picture = rows.reshape(height, width, channels)
    conversion = _FOUR.get(encoding, _COLOUR.get(encoding))
    return stamp, picture if conversion is None else np.asarray(cv2.cvtColor(picture, conversion))


def imu(data: bytes, cdr: bool) -> tuple[int, list[float], list[float]]:
    """``sensor_msgs/Imu``: its stamp (ns), acceleration (m/s²) and rotation (rad/s). Raises ``Broken``."""
    cursor = Cursor(data, cdr)
    stamp = cursor.header()
    values = [cursor.real() for _ in range(4 + 9 + 3 + 9 + 3)]
    return stamp, values[25:28], values[13:16]


def _size(cursor: Cursor) -> Resolution:
    height, width = cursor.number("I"), cursor.number("I")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise Broken(f"a sensor or picture of {width}x{height}")
    return width, height
