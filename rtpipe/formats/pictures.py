"""Picture files beside a recording (PNG, JPEG), which may be damaged or hostile: their size is read from their header
and checked before a decoder allocates anything."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from rtpipe.errors import FormatError
from rtpipe.types import MAX_SIDE, Array, Resolution

LARGEST_FILE = 1 << 28
LARGEST_PICTURE = 1 << 26
"""Pixels of one picture."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


class Pictures:
    """The picture files of one stream, all of one size, read when they are asked for.

    ``root`` is the recording's path (what errors name first), ``files`` the pictures in order. ``color`` None: pictures
    whose three channels are equal (looked at in the first, middle and last) are read as grey; False: all as grey; True:
    as they are. Raises ``FormatError`` where the first cannot be read.
    """

    def __init__(self, root: Path, files: Sequence[Path], color: bool | None) -> None:
        self._root = root
        self._files = files
        self._told = color
        self._grey = False
        self.notes: tuple[str, ...] = ()
        self.size: Resolution = (0, 0)
        if files:
            self.size = _size(self._bytes(0), self._place(0))
            looked_at = [self._decoded(k) for k in sorted({0, len(files) // 2, len(files) - 1})]
            if color is None and all(image.ndim == 3 and _is_grey(image) for image in looked_at):
                self._grey = True
                self.notes = ("pictures have three equal channels: read as grey",)

    def __len__(self) -> int:
        return len(self._files)

    def read(self, k: int) -> Array:
        """Picture ``k``: uint8 or uint16, (H, W) grey or (H, W, 3) BGR. Raises ``FormatError`` naming its file."""
        image = self._decoded(k)
        if image.ndim == 2 or not (self._grey or self._told is False):
            return image
        if _is_grey(image):
            return np.ascontiguousarray(image[:, :, 0])
        if self._told is False:
            return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        raise FormatError(f"{self._place(k)} is in colour, others are grey: set the option color")

    def _place(self, k: int) -> str:
        file = self._files[k]
        return str(file) if file.is_relative_to(self._root) else f"{self._root}: {file.name}"

    def _bytes(self, k: int) -> bytes:
        file = self._files[k]
        try:
            if not file.is_file():
                raise FormatError(f"{self._place(k)}: the picture is missing")
            if file.stat().st_size > LARGEST_FILE:
                raise FormatError(f"{self._place(k)}: a picture of more than {LARGEST_FILE} bytes")
            return file.read_bytes()
        except OSError as error:
            raise FormatError(f"{self._place(k)}: cannot be read: {error.strerror or error}") from error

    def _decoded(self, k: int) -> Array:
        data = self._bytes(k)
        size = _size(data, self._place(k))
        if size != self.size:
            raise FormatError(
                f"{self._place(k)}: {size[0]}x{size[1]}, other pictures are {self.size[0]}x{self.size[1]}"
            )
        if data.startswith(_PNG):
            data = _plain_png(data, self._place(k))
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except (cv2.error, MemoryError):
            image = None
        if image is None or image.shape[:2] != size[::-1] or image.dtype not in (np.uint8, np.uint16):
            raise FormatError(f"{self._place(k)}: the picture is damaged, it cannot be decoded")
        if image.ndim == 3 and image.shape[2] == 4:
            return np.ascontiguousarray(image[:, :, :3])
        return np.asarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def _is_grey(image: Array) -> bool:
    return bool(np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(image[..., 0], image[..., 2]))


def _size(data: bytes, place: str) -> Resolution:
    """(width, height) as the header of a PNG or JPEG states it. Raises ``FormatError``."""
    size = None
    if data.startswith(_PNG) and len(data) >= 24 and data[12:16] == b"IHDR":
        width, height = struct.unpack_from(">II", data, 16)
        size = (width, height)
    elif data.startswith(b"\xff\xd8"):
        size = _jpeg_size(data)
    if size is None:
        raise FormatError(f"{place}: damaged, or no picture in PNG or JPEG")
    if not 0 < min(size) <= max(size) <= MAX_SIDE or size[0] * size[1] > LARGEST_PICTURE:
        raise FormatError(f"{place}: a picture of {size[0]}x{size[1]} is too large to be one of a camera's")
    return size


def _plain_png(data: bytes, place: str) -> bytes:
    """The chunks of a PNG that make its picture, each whole and sound: decoders believe a chunk's length and reserve
    that much. Raises ``FormatError``."""
    kept = [_PNG]
    at = len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        kind = data[at + 4 : at + 8]
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            break
        if kind in _PICTURE_CHUNKS:
            kept.append(data[at:end])
        if kind == b"IEND":
            return b"".join(kept)
        at = end
    raise FormatError(f"{place}: the picture is cut off or damaged at byte {at}")


def _jpeg_size(data: bytes) -> Resolution | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header, of whichever coding
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None
