"""Event cameras on the USB: which are plugged in, at what speed, and whether this user may open them.

Read from the kernel's own tables, with no SDK: what a back end does not see is seen here all the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rtpipe.machine.fact import Fact

SYS, DEV = Path("/sys/bus/usb/devices"), Path("/dev/bus/usb")

INSTALL_UDEV = "rtpipe doctor --install-udev"
"""What lets people open cameras."""

FAST_ENOUGH = 5000
"""Mbit/s: a USB 3 port. Slower ones lose events as soon as something moves."""

LONGEST = 120
"""Characters that are believed of a text that a device says of itself."""


class Known(NamedTuple):
    """A camera by what the kernel prints: ``vendor`` and the ``products`` in hexadecimal, lower case."""

    name: str
    maker: str
    vendor: str
    products: tuple[str, ...]


KNOWN = (
    Known("DAVIS346", "iniVation", "152a", ("841a", "841b")),
    Known("DVXplorer", "iniVation", "152a", ("8419",)),
    Known("DVS128", "iniVation", "152a", ("8400",)),
    Known("EVK3 HD", "Prophesee", "04b4", ("00f4",)),
    Known("EVK4", "Prophesee", "04b4", ("00f5",)),
    Known("EVK", "Prophesee", "03fd", ("5832",)),
    Known("EVK", "Prophesee", "1fc9", ("5838",)),
    Known("SilkyEvCam", "CenturyArks", "31f7", ("0002", "0003", "0004")),
    Known("uEye XCP-E", "IDS", "1409", ("8e00",)),
)
"""From the lists of neuromorphic-drivers (152a, 04b4, 31f7, 1409), OpenEB (03fd, 1fc9, and 31f7:0002) and iniVation.
152a is Thesycon's number and 04b4, 03fd and 1fc9 are the chip makers': others' devices have the same vendor, so every
product is named."""


@dataclass(frozen=True)
class UsbCamera:
    """A camera that the kernel lists. ``node``: what a back end opens; ``may_open``: whether this user may.
    ``speed_mbit_s`` 0: not told. ``serial`` and ``says`` (maker, product) are the device's own words, often empty."""

    known: Known
    node: Path
    may_open: bool
    serial: str = ""
    says: str = ""
    speed_mbit_s: int = 0

    @property
    def name(self) -> str:
        """``"DAVIS346"``."""
        return self.known.name

    @property
    def identity(self) -> str:
        """``"152a:841a"``."""
        return f"{self.known.vendor}:{self.known.products[0]}"


def cameras(sys: Path = SYS, dev: Path = DEV) -> list[UsbCamera] | None:
    """The event cameras in ``sys`` (normally ``/sys/bus/usb/devices``), in its order; None where there is no USB to
    look at (a container that was not given it). Raises nothing: a device that goes away meanwhile is left out."""
    if not sys.is_dir():
        return None
    found = []
    for device in sorted(sys.iterdir()):
        vendor, product = _text(device / "idVendor").lower(), _text(device / "idProduct").lower()
        known = next((each for each in KNOWN if each.vendor == vendor and product in each.products), None)
        if known is None:
            continue
        try:
            bus, number = int(_text(device / "busnum")), int(_text(device / "devnum"))
        except ValueError:
            continue
        node = dev / f"{bus:03}" / f"{number:03}"
        says = " ".join(filter(None, (_text(device / "manufacturer"), _text(device / "product"))))
        found.append(
            UsbCamera(
                known._replace(products=(product,)),
                node,
                os.access(node, os.R_OK | os.W_OK),
                _text(device / "serial"),
                says,
                _speed(_text(device / "speed")),
            )
        )
    return found


def speed_words(mbit_s: int) -> str:
    """``"USB 3, 5 Gbit/s"``; ``""`` for 0."""
    if mbit_s <= 0:
        return ""
    generation = 3 if mbit_s >= FAST_ENOUGH else 2 if mbit_s >= 480 else 1
    return f"USB {generation}, {mbit_s / 1000:g} Gbit/s" if mbit_s >= 1000 else f"USB {generation}, {mbit_s} Mbit/s"


def too_slow(camera: UsbCamera) -> bool:
    """Whether the camera hangs on a port (or cable) that is slower than USB 3. The DVS128 itself is."""
    return 0 < camera.speed_mbit_s < FAST_ENOUGH and camera.name != "DVS128"


def facts(sys: Path = SYS, dev: Path = DEV) -> list[Fact]:
    """The same as lines of the doctor's answer."""
    found = cameras(sys, dev)
    if found is None:
        says = "this machine shows no USB (a container sees it only if it is passed in)"
        return [Fact("cameras", "USB", "note", says)]
    lines = []
    for camera in found:
        if not camera.may_open:
            says = f"attached at {camera.node}, but this user may not open it"
            lines.append(Fact("cameras", camera.name, "missing", says, INSTALL_UDEV))
        elif too_slow(camera):
            says = f"attached at {camera.node}, {speed_words(camera.speed_mbit_s)}: use a USB 3 port and cable"
            lines.append(Fact("cameras", camera.name, "note", says))
        else:
            says = ", ".join(filter(None, (f"attached at {camera.node}", speed_words(camera.speed_mbit_s))))
            lines.append(Fact("cameras", camera.name, "ok", says))
    return lines or [Fact("cameras", "USB", "note", "no event camera is attached")]


def among(models: Sequence[str], camera: UsbCamera) -> bool:
    """Whether a back end for ``models`` opens such a camera: ``"DVXplorer Mini"`` is on the USB a ``"DVXplorer"``."""
    return any(model == camera.name or model.startswith(f"{camera.name} ") for model in models)


def _text(path: Path) -> str:
    """One line of the kernel's, or of the device's: printable and short; ``""`` where there is none."""
    try:
        with path.open("rb") as file:
            line = file.read(4 * LONGEST).decode(errors="replace")
    except OSError:
        return ""
    return "".join(letter for letter in line if letter.isprintable()).strip()[:LONGEST]


def _speed(text: str) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return 0
