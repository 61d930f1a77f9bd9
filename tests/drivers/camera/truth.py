"""What left the camera of :mod:`tests.drivers.camera.faults`, read from its log, and what of it a recording holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rtpipe.formats import open_recording
from rtpipe.types import Events
from tests.drivers.camera.faults import Camera, Script

KINDS = ("events", "frames", "imu", "triggers")


@dataclass(frozen=True)
class Truth:
    """``transfers`` that held anything, in order; ``lines`` all that happened."""

    script: Script
    lines: tuple[dict[str, Any], ...]

    @property
    def transfers(self) -> list[dict[str, Any]]:
        """Those that were handed over with something in them, or behind a loss."""
        found = [line for line in self.lines if line["what"] == "transfer"]
        return [line for line in found if line["lost"] or any(line.get(kind) for kind in KINDS)]

    def of(self, what: str) -> list[dict[str, Any]]:
        """The lines of one kind."""
        return [line for line in self.lines if line["what"] == what]

    def last(self, n: int) -> list[dict[str, Any]]:
        """The last ``n`` transfers: those that came once the pipeline was ready."""
        return self.transfers[len(self.transfers) - n :]

    def events(self, transfers: list[dict[str, Any]]) -> tuple[Events, np.ndarray]:
        """The good events of these transfers in order, at the instants when they truly were (µs since the camera was
        first opened), and the session of each."""
        camera = Camera(msgspec.structs.replace(self.script, log="/dev/null", faults=()))
        parts, sessions = [], []
        for line in transfers:
            bodies = camera.seen(line["start"], line["stop"]) if line.get("events") else []
            runs = [body for body in bodies if isinstance(body, Events)]
            for run, refused in zip(runs, line["refused"], strict=True):
                n = sum(refused.values())
                kept = Events.concatenate([run[:5], run[5 + n :]]) if n else run
                parts.append(kept)
                sessions.append(np.full(len(kept), line["session"]))
        return Events.concatenate(parts), np.concatenate(sessions)


def read(script: Script) -> Truth:
    """The log of a run, as far as whole lines of it are written."""
    written = Path(script.log).read_bytes()
    lines = written[: written.rfind(b"\n") + 1].splitlines()
    return Truth(script, tuple(msgspec.json.decode(line) for line in lines))


def recorded(path: Path) -> Events:
    """All events of a recording."""
    with open_recording(path) as recording:
        return recording.events()
