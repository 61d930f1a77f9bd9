"""Cameras by name: their size, and what identifies them on the USB."""

from __future__ import annotations

from typing import NamedTuple

from rtpipe.types import Resolution


class Model(NamedTuple):
    """``usb``: (vendor, product) pairs in hexadecimal as the kernel prints them. ``frames``: it also takes pictures."""

    name: str
    maker: str
    resolution: Resolution
    frames: bool
    usb: tuple[tuple[str, str], ...]
    encoding: str = ""
    """Of its own bytes, where they can travel as they are."""


MODELS = (
    Model("DAVIS346", "iniVation", (346, 260), True, (("152a", "841a"), ("152a", "841b"))),
    Model("DVXplorer", "iniVation", (640, 480), False, (("152a", "8419"),)),
    Model("DVXplorer Mini", "iniVation", (640, 480), False, (("152a", "8419"),)),
    Model("DVS128", "iniVation", (128, 128), False, (("152a", "8400"),)),
    Model("EVK3 HD", "Prophesee", (1280, 720), False, (("04b4", "00f4"),), "evt3"),
    Model("EVK4", "Prophesee", (1280, 720), False, (("04b4", "00f5"),), "evt3"),
)


def model(name: str) -> Model:
    """By name. Raises ``KeyError``."""
    return next(each for each in MODELS if each.name == name)
