"""What Metavision hands over, as readings and as words: pure, no SDK.

The SDK's own decoder gives structured arrays (``EventCD``: x, y, p, t; ``EventExtTrigger``: p, t, id); its system
information is a dictionary of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from drivers.camera.contract import Reading
from rtpipe.types import Array, Edge, Events, Trigger

ENCODINGS = {"EVT2": "evt2", "EVT21": "evt21", "EVT2.1": "evt21", "EVT3": "evt3"}
"""The SDK's names of encodings that travel as they are."""

ANY = "Metavision camera"
"""The model of a camera that is known by no name of ours."""

PLUGINS = {
    "imx636_evk4": "EVK4",
    "imx636_evk3": "EVK3 HD",
    "gen41_evk3": "EVK3 HD",
    "gen31_evk3": "EVK3 VGA",
    "genx320_evk3": "EVK3 320",
    "imx636_evk2": "EVK2 HD",
    "gen41_evk2": "EVK2 HD",
}
"""The end of a plugin's name, up to SDK 4; later ones have one plugin for all, and the open camera tells the rest."""

BY_SENSOR = {"IMX636": "HD", "Gen4.1": "HD", "Gen41": "HD", "Gen3.1": "VGA", "Gen31": "VGA", "GenX320": "320"}


def copied(buffer: Any) -> Array:
    """A buffer of the SDK's (an array of bytes) as bytes of our own: it uses its memory again."""
    return np.frombuffer(bytes(memoryview(buffer).cast("B")), np.uint8)


def events(array: Array) -> Events:
    """Copies the SDK's columns."""
    return Events(array["t"].astype(np.int64), array["x"].copy(), array["y"].copy(), (array["p"] > 0).astype(np.uint8))


def triggers(array: Array) -> Trigger:
    """Copies the SDK's columns; channels as the SDK numbers them."""
    edges = np.where(array["p"] > 0, np.uint8(Edge.RISING), np.uint8(Edge.FALLING))
    return Trigger(array["t"].astype(np.int64), (array["id"] & 0xFF).astype(np.uint8), edges)


def readings(
    decoded: Sequence[Events], signals: Sequence[Trigger], until: int | None, kinds: Sequence[str]
) -> list[Reading]:
    """What one buffer held. ``until`` µs: how far the SDK's decoder has come (nothing later of the stream is earlier),
    None where it does not know a time yet. A kind of which nothing came is promised empty up to there."""
    found: list[Reading] = []
    for kind, parts in (("events", decoded), ("triggers", signals)):
        if kind in kinds:
            some = [part for part in parts if len(part)]
            found += [Reading(kind, int(part.t.min()), int(part.t.max()), part) for part in some]
            if some and until is not None:
                found[-1] = replace(found[-1], t_last=max(found[-1].t_last, until))
            elif until is not None:
                found.append(Reading(kind, until, until, None))
    return found


def source(text: str) -> tuple[str, str]:
    """``"Prophesee:hal_plugin_imx636_evk4:00ca0009"``, as the SDK lists a camera: its model and serial."""
    parts = text.split(":")
    plugin = parts[1] if len(parts) >= 3 else ""
    model = next((name for end, name in PLUGINS.items() if plugin.endswith(end)), ANY)
    return model, parts[-1]


def model(listed: str, sensor: str, information: Mapping[str, str]) -> str:
    """The model of an open camera: as it was listed, or else by its board's name in the system information and its
    sensor."""
    if listed != ANY:
        return listed
    size = next((value for key, value in BY_SENSOR.items() if key.lower() in sensor.lower()), "")
    text = " ".join([*information, *information.values()]).upper()
    board = next((name for name in ("EVK4", "EVK3", "EVK2") if name in text), "")
    if board == "EVK4":
        return board
    return f"{board} {size}" if board and size else ANY


def firmware(information: Mapping[str, str]) -> str:
    """The release of the camera's own software, ``""`` where it does not tell."""
    for key, value in information.items():
        if "release version" in key.lower() or "firmware version" in key.lower():
            return str(value)[:40]
    return ""


def connection(information: Mapping[str, str]) -> str:
    """``"USB 3, 5 Gbit/s"`` from the speed (Mbit/s) in the system information, else its connection (``"USB"``)."""
    for key, value in information.items():
        if key.lower().endswith("speed") and str(value).strip().isdigit():
            mbit_s = int(value)
            return f"USB 3, {mbit_s / 1000:g} Gbit/s" if mbit_s >= 5000 else f"USB 2, {mbit_s} Mbit/s"
    return str(information.get("Connection", ""))[:40]
