"""Sensors by their size, for recordings that do not state their geometry."""

from __future__ import annotations

from rtpipe.types import Resolution

KNOWN: dict[Resolution, str] = {
    (128, 128): "DVS128",
    (240, 180): "DAVIS240",
    (304, 240): "ATIS",
    (320, 240): "DVXplorer Lite",
    (320, 320): "GenX320",
    (346, 260): "DAVIS346",
    (480, 360): "CeleX-IV or half a Gen3",
    (640, 480): "DVXplorer or Prophesee Gen3",
    (1280, 720): "Prophesee Gen4 or IMX636",
    (1280, 800): "CeleX-V",
    (1632, 1224): "ALPIX-Eiger",
}
"""Usual event sensors, smallest first."""


def fitting(largest: tuple[int, int]) -> tuple[Resolution, str]:
    """The smallest known sensor that holds an event at ``largest`` (x, y), and a note that says how it was found; for
    an event beyond all of them the size that just holds it."""
    for size, name in KNOWN.items():
        if largest[0] < size[0] and largest[1] < size[1]:
            return size, (
                f"no geometry in it: {size[0]}x{size[1]} ({name}) is the smallest usual sensor that holds the largest "
                f"coordinates, {largest}; the option resolution says another"
            )
    size = (largest[0] + 1, largest[1] + 1)
    return size, f"no geometry in it: {size[0]}x{size[1]} just holds its events; the option resolution says another"
