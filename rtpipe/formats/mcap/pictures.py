"""Frames as they lie in a recording: a PNG that other tools show, and beside it what a PNG cannot say."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np

from rtpipe.formats.mcap.messages import FRAME, PICTURE
from rtpipe.formats.mcap.records import Damaged
from rtpipe.formats.mcap.totals import counters_json
from rtpipe.types import MAX_SIDE, Array, Frame, FrameFlag, Packet

MAX_BYTES = 1 << 27
"""No picture is larger once decoded."""
_KINDS = {"mono8": (8, 0), "mono16": (16, 0), "bgr8": (8, 2), "bgr16": (16, 2)}
"""A PNG's bit depth and colour type."""
_INSTANTS = ("exposure_start", "exposure_end", "window_start", "window_end")
"""What a frame may say of itself, or not, in µs."""
_FAST = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
"""On frames of a DAVIS346 a sixth smaller and a fifth faster than zlib's own strategy at any level."""


def encoding_of(image: Array) -> str:
    """``mono8``, ``mono16``, ``bgr8`` or ``bgr16``; ``ValueError`` for any other array."""
    depth = {np.dtype(np.uint8): "8", np.dtype(np.uint16): "16"}.get(image.dtype)
    colour = "mono" if image.ndim == 2 else "bgr" if image.ndim == 3 and image.shape[2] == 3 else None
    if depth is None or colour is None or not image.size or max(image.shape[:2]) > MAX_SIDE:
        raise ValueError(f"a frame of shape {image.shape} and type {image.dtype} cannot be recorded")
    return colour + depth


def encode_frame(packet: Packet, epoch: int) -> tuple[bytes, bytes | None]:
    """The frame's :data:`FRAME` and :data:`PICTURE` messages; no picture for a packet without a body. ``ValueError``
    for an image that cannot be kept."""
    frame = packet.body
    values: dict[str, Any] = dict.fromkeys(("t", "width", "height", "flags"), 0)
    values |= (
        dict.fromkeys(_INSTANTS, 0) | {f"has_{name}": False for name in _INSTANTS} | {"encoding": "", "source": ""}
    )
    picture = None
    if isinstance(frame, Frame):
        values |= {"encoding": encoding_of(frame.image), "source": frame.source, "flags": int(frame.flags)}
        values |= {"t": frame.t, "width": frame.resolution[0], "height": frame.resolution[1]}
        for name in _INSTANTS:
            instant = getattr(frame, name)
            values |= {"has_" + name: instant is not None, name: instant or 0}
        if frame.image.nbytes > MAX_BYTES:
            raise ValueError(f"a frame of {frame.image.nbytes:,} bytes is too large to be recorded")
        _, png = cv2.imencode(".png", np.ascontiguousarray(frame.image), _FAST)
        second, micros = divmod(frame.t, 1_000_000)
        stamp = {"sec": min(max(second, -(1 << 31)), (1 << 31) - 1), "nanosec": micros * 1000}
        picture = PICTURE.encode(**stamp, frame_id=packet.stream, format="png", data=png.tobytes())
    info = FRAME.encode(
        seq=packet.seq,
        t_first=packet.t_first,
        t_last=packet.t_last,
        received_ns=packet.received_ns,
        epoch=epoch,
        end=packet.end,
        picture=picture is not None,
        counters=counters_json(packet.counters),
        **values,
    )
    return info, picture


def decode_frame(info: dict[str, Any], data: memoryview) -> Frame:
    """The frame of a decoded :data:`FRAME` message and the picture that followed it; raises
    :class:`~rtpipe.formats.mcap.records.Damaged`. The PNG's size is checked before it is decoded."""
    kind = _KINDS.get(info["encoding"])
    size = (info["width"], info["height"])
    if kind is None or not 0 < min(size) <= max(size) <= MAX_SIDE:
        raise Damaged("a frame has an impossible size or type")
    shape = (size[1], size[0]) if kind[1] == 0 else (size[1], size[0], 3)
    if size[0] * size[1] * (kind[0] // 8) * (3 if kind[1] else 1) > MAX_BYTES:
        raise Damaged("a frame is too large")
    png = PICTURE.decode(data)["data"]
    head = png[:26].tobytes()
    if head != b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBB", *size, *kind):
        raise Damaged("a picture is not the PNG that its frame promises")
    try:
        image = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise Damaged("a picture cannot be decoded") from error
    if image is None or image.shape != shape or image.itemsize * 8 != kind[0]:
        raise Damaged("a picture cannot be decoded")
    instants = {name: info[name] if info["has_" + name] else None for name in _INSTANTS}
    return Frame(image, info["t"], source=info["source"], flags=FrameFlag(info["flags"] & 15), **instants)
