"""What a live camera says of itself: in the run's report, and beside every recording."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from drivers.camera import host
from drivers.camera.contract import Where
from drivers.camera.keeper import Known
from drivers.camera.settings import Camera


@dataclass(frozen=True)
class About:
    """A camera and what befell it. ``where``: who does each setting; ``opened``: how often it was; ``away_s``: how long
    it was gone each time; ``gone_s``: for how long it is gone now; ``backlog``: transfers that wait in its SDK."""

    known: Known | None
    settings: Camera
    where: Mapping[str, Where]
    changes: Sequence[Mapping[str, Any]]
    opened: int
    away_s: Sequence[float]
    gone_s: float | None
    backlog: int


def facts(about: About, why: str) -> dict[str, str]:
    """Lines for the report. ``why`` the camera is not there, if it is not."""
    if about.known is None:
        return {"camera": f"waiting: {why}"} if why else {}
    attached, asked = about.known.attached, host.asked(about.settings)
    said = {"camera": f"{attached.model} {attached.serial}".strip(), "back end": about.known.chosen.backend.NAME}
    said |= {"firmware": attached.firmware, "connection": attached.connection}
    said["settings"] = ", ".join(f"{name} {words(asked[name])} ({side})" for name, side in about.where.items())
    if about.away_s:
        times = "once" if len(about.away_s) == 1 else f"{len(about.away_s)} times"
        said["came back"] = f"{times}, away for {max(about.away_s):.1f} s at the most"
    if about.gone_s is not None:
        said["gone"] = f"for {about.gone_s:.0f} s: {why}"
    if about.backlog:
        said["backlog"] = f"{about.backlog} transfers"
    return {name: text for name, text in said.items() if text}


def note(about: About) -> str:
    """The same for programs, as JSON: with all settings, and every change that was made live."""
    assert about.known is not None
    attached = about.known.attached
    return json.dumps(
        {
            "model": attached.model,
            "serial": attached.serial,
            "backend": about.known.chosen.backend.NAME,
            "firmware": attached.firmware,
            "connection": attached.connection,
            "settings": msgspec.to_builtins(about.settings),
            "by": dict(about.where),
            "changes": list(about.changes),
            "opened": max(about.opened, 1),
        }
    )


def words(value: object) -> str:
    """A setting's value for a person."""
    if isinstance(value, dict):
        return ",".join(str(each) for each in value.values())
    if isinstance(value, list):
        return " ".join(",".join(map(str, each)) if isinstance(each, list | tuple) else str(each) for each in value[:8])
    return str(value)
