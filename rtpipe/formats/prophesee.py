"""What RAW and DAT files of Prophesee have in common: a header of text, and sensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rtpipe.errors import FormatError
from rtpipe.types import MAX_SIDE, Resolution

LONGEST_HEADER = 1 << 16
_LONGEST_LINE = 1024

SENSORS: dict[Resolution, str] = {
    (304, 240): "ATIS",
    (320, 320): "GenX320",
    (640, 480): "Gen3",
    (1280, 720): "Gen4 or IMX636",
}
"""Prophesee's sensors, smallest first."""

_PLUGINS: tuple[tuple[str, Resolution], ...] = (
    ("genx320", (320, 320)),
    ("gen3", (640, 480)),
    ("gen4", (1280, 720)),
    ("imx636", (1280, 720)),
    ("imx646", (1280, 720)),
)


@dataclass(frozen=True)
class Header:
    """The lines ``% KEY VALUE`` at the head of a file: ``values`` by key in lower case; ``size`` in bytes."""

    values: Mapping[str, str]
    size: int

    @property
    def begun(self) -> bool:
        """Whether there is a header at all."""
        return self.size > 0

    @property
    def geometry(self) -> Resolution | None:
        """The sensor's size as the header states it, None where it does not."""
        stated = {key: value for key, value in self.values.items() if key in ("width", "height")}
        stated |= {key: value for key, value in self.format_fields.items() if key in ("width", "height")}
        if "width" in stated and "height" in stated and (stated["width"] + stated["height"]).isdecimal():
            return int(stated["width"][:9]), int(stated["height"][:9])
        found = re.fullmatch(r"(\d{1,6})\s*x\s*(\d{1,6})", self.values.get("geometry", "").strip())
        return (int(found[1]), int(found[2])) if found else None

    @property
    def format_fields(self) -> Mapping[str, str]:
        """What follows the name in ``% format NAME;KEY=VALUE;...``, by key in lower case."""
        fields = (field.partition("=") for field in self.values.get("format", "").split(";")[1:])
        return {key.strip().lower(): value.strip() for key, _, value in fields}

    @property
    def camera(self) -> str:
        """Maker, sensor and serial number, as far as known."""
        if "rtpipe_camera" in self.values:
            return self.values["rtpipe_camera"]
        plugin = self.values.get("plugin_name", "").removeprefix("hal_plugin_")
        plugin = "" if plugin == "prophesee" else plugin  # whichever it is
        serial = self.values.get("serial_number", "")
        return " ".join(word for word in ("Prophesee" if plugin else "", plugin, serial) if word)[:200]


def read_header(head: bytes) -> Header:
    """The header at the beginning of a file's first ``LONGEST_HEADER`` bytes. It ends with ``% end`` or before the
    first line that is no line of text that begins with ``%``."""
    values: dict[str, str] = {}
    at = 0
    while head[at : at + 1] == b"%":
        stop = head.find(b"\n", at, at + _LONGEST_LINE)
        line = head[at : max(stop, at)].rstrip(b"\r")
        if stop < 0 or not all(byte >= 32 or byte == 9 for byte in line) or line[1:2] not in (b" ", b""):
            break
        at = stop + 1
        key, _, value = line[1:].decode("utf-8", "replace").strip().partition(" ")
        if key.lower() == "end" and not value:
            break
        values.setdefault(key.lower(), value.strip())
    return Header(values, at)


def sound_size(path: Path, size: Resolution, most: int = MAX_SIDE) -> Resolution:
    """``size``, if a sensor can have it. Raises ``FormatError``."""
    if not 0 < min(size) <= max(size) <= most:
        raise FormatError(f"{path}: a sensor of {size[0]}x{size[1]} in its header; option resolution says another")
    return size


def hinted_size(header: Header) -> tuple[Resolution, str] | None:
    """The sensor's size by the name of the camera's plugin, with a note that says so; None where that says nothing."""
    plugin = header.values.get("plugin_name", "").lower()
    for name, size in _PLUGINS:
        if name in plugin:
            return size, (
                f"no geometry in the header: {size[0]}x{size[1]} by its plugin_name {plugin[:60]!r}; "
                "option resolution says another"
            )
    return None


def fitting_size(largest: tuple[int, int]) -> tuple[Resolution, str]:
    """The smallest Prophesee sensor that holds an event at ``largest`` (x, y), or what just holds it, with a note."""
    for size, name in SENSORS.items():
        if largest[0] < size[0] and largest[1] < size[1]:
            return size, (
                f"no geometry in the header: {size[0]}x{size[1]} ({name}) is the smallest Prophesee sensor that holds "
                f"the largest coordinates, {largest}; option resolution says another"
            )
    size = (largest[0] + 1, largest[1] + 1)
    return size, f"no geometry in the header: {size[0]}x{size[1]} just holds its events; option resolution says another"
