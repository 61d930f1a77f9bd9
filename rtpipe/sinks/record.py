"""Sink ``record``: what arrives, into one of rtpipe's own recordings (docs/recording.md), live and append-only.

What arrived is handed to the operating system after 150 ms at the latest, so that ``kill -9`` of this or any other
process loses less than 250 ms. An existing file is never overwritten.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from rtpipe.errors import InputError, WorldError
from rtpipe.formats.mcap import Writer
from rtpipe.ledger import Flow
from rtpipe.types import Frame, Imu, Packet, StreamInfo, Trigger

DELIVERY = "every"
DIRECT = True
"""The camera's streams come from the driver, not from behind the history: a rewind never touches a recording."""
Kind = Literal["events", "frames", "imu", "triggers", "output", "picture"]
FREE_EVERY_S = 1.0
"""How often free space is looked at."""

OFF, DISK_FULL, INVALID, NOT_WANTED = "recording_off", "disk_full", "invalid", "not_wanted"
"""Why something was not recorded, as the ledger names it. ``invalid``: it contradicts its own stream (out of order,
outside the sensor, of a type that the stream has not)."""
PACKETS = "packets"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``dir`` is made if it is not there."""

    dir: str = "recordings"
    name: str | None = None
    """The file's name, without folder and ending; None: date and time in UTC, and the camera."""
    streams: tuple[Kind, ...] = ("events", "frames", "imu", "triggers")
    compression: Literal["lz4", "zstd"] = "lz4"
    """``zstd``: files a tenth smaller, a third of the speed."""
    min_free_mb: Annotated[int, Meta(ge=0)] = 200
    """Recording ends while so much is still free on the disk."""

    def __post_init__(self) -> None:
        if self.name is not None and (not self.name or "/" in self.name or self.name.startswith(".")):
            raise ValueError(f"name: {self.name!r} is not the name of a file; the folder goes into dir")
        if not self.streams:
            raise ValueError("streams: nothing to record; name some of events, frames, imu, triggers, output, picture")


def wants(settings: Settings) -> tuple[str, ...]:
    """The kinds of streams to record."""
    return settings.streams


class Sink:
    """Writes recordings (see :class:`rtpipe.stage.Sink`). ``process`` blocks for as long as compressing and the
    system's write take."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._flows = {kind: Flow() for kind in (*settings.streams, PACKETS)}
        self._streams: tuple[StreamInfo, ...] = ()
        self._writer: Writer | None = None
        self._why = OFF
        self._pending: Counter[str] = Counter()
        self._paths: list[Path] = []
        self._notes: dict[str, str] = {}
        self._marks = 0
        self._newest = 0
        self._looked = 0.0

    @property
    def flows(self) -> Mapping[str, Flow]:
        """By kind of stream, in events, frames or samples, and ``packets``. ``passed`` is what the operating system
        has; what still waits for it is neither passed nor dropped."""
        return self._flows

    @property
    def paths(self) -> Sequence[Path]:
        """The files written so far, the one being written last."""
        return tuple(self._paths)

    @property
    def facts(self) -> Mapping[str, str]:
        """What the run's report says of this sink: the files."""
        return {"recording": ", ".join(map(str, self._paths))} if self._paths else {}

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """Make the file. Raises ``InputError`` where that is not possible and ``WorldError`` where the disk is full."""
        self._streams = tuple(stream for stream in streams if stream.kind in self._settings.streams)
        self._start()
        return ()

    def process(self, packet: Packet) -> Sequence[Packet]:
        """Record one packet. Raises ``WorldError`` once where the disk is full; after that, packets are counted as
        dropped. What had reached the disk before stays readable."""
        kind, n = packet.stream.rsplit("/", 1)[-1], _elements(packet)
        amounts = {PACKETS: 1, kind: n} if kind in self._flows else {PACKETS: 1}
        for name, amount in amounts.items():
            self._flows[name].taken += amount
        self._newest = max(self._newest, packet.t_last)
        if kind not in self._flows or self._writer is None:
            self._drop(amounts, self._why if kind in self._flows else NOT_WANTED)
            return ()
        self._pending.update(amounts)
        try:
            self._writer.write(packet)
        except ValueError:
            self._pending.subtract(amounts)
            self._drop(amounts, INVALID)
        except WorldError:
            self._fail()
            raise
        self._settle()
        self._look()
        return ()

    def idle(self) -> Sequence[str]:
        """Hand over what has waited long enough, and look at the disk. Raises ``WorldError`` once where it is full."""
        if self._writer is not None:
            try:
                self._writer.flush_if_due()
            except WorldError:
                self._fail()
                raise
            self._settle()
            self._look()
        return ()

    def status(self, line: str) -> None:
        """Ignored."""

    def note(self, name: str, text: str) -> None:
        """Keep ``text`` (JSON) under ``name`` in this and every later file: settings, camera, ledger. The last of a
        name counts, but every ``mark`` is kept, with its time. Raises ``WorldError`` where the disk is full."""
        if name == "mark":
            self._marks += 1
            name = f"mark-{self._marks:03}"
            text = json.dumps({"text": text, "t": self._newest, "wall_ns": time.time_ns()})
        else:
            self._notes[name] = text
        if self._writer is not None:
            try:
                self._writer.metadata(name, text)
            except WorldError:
                self._fail()
                raise
            self._settle()

    def control(self, command: str) -> str:
        """Obey ``record on`` (begins a new file) and ``record off``; returns what was done. Raises ``InputError``."""
        if command == "record on":
            if self._writer is None:
                self._start()
                return f"recording to {self._paths[-1]}"
            return f"already recording to {self._paths[-1]}"
        if command == "record off":
            if self._writer is None:
                return "not recording"
            self._why = OFF
            self._stop()
            return f"recorded {self._paths[-1]}"
        raise InputError(f"the recorder cannot {command!r}; it knows record on and record off")

    def close(self) -> Sequence[Packet]:
        """Finish the file. Raises ``WorldError`` where its last part finds no room on the disk."""
        if self._writer is not None:
            self._why = OFF
            self._stop()
        return ()

    def _start(self) -> None:
        folder = Path(self._settings.dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: recordings cannot be put there: {error.strerror or error}") from error
        free = _free_mb(folder)
        if free < self._settings.min_free_mb:
            raise WorldError(
                f"{folder}: only {free:,} MB are free, recording needs {self._settings.min_free_mb:,} (min_free_mb)"
            )
        self._writer = self._create(folder)
        self._paths.append(self._writer.path)
        self._looked = time.monotonic()
        for name, text in self._notes.items():
            self.note(name, text)

    def _create(self, folder: Path) -> Writer:
        cameras = [stream.camera for stream in self._streams if stream.camera]
        camera = cameras[0] if cameras else next((s.name.split("/")[0] for s in self._streams), "recording")
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        stem = self._settings.name or f"{now}_{re.sub(r'[^A-Za-z0-9._-]+', '-', camera).strip('-.') or 'camera'}"
        for number in count(1):
            path = folder / f"{stem}{f'-{number}' if number > 1 else ''}.mcap"
            if not os.path.lexists(path):
                try:
                    return Writer(path, self._streams, codec=self._settings.compression)
                except InputError:
                    if not os.path.lexists(path):  # made by someone else a moment ago: try the next name
                        raise
        raise AssertionError("unreachable")

    def _stop(self) -> None:
        """Finish the file; what cannot be written any more is counted. Raises ``WorldError``."""
        writer, self._writer = self._writer, None
        assert writer is not None
        try:
            writer.flush()
            self._passed()
        except WorldError:
            self._fail()
            with suppress(WorldError):
                writer.close()
            raise
        writer.close()

    def _fail(self) -> None:
        """A write failed: count what was pending, let the file go as it is. It can be read without its index."""
        self._drop(self._pending, DISK_FULL)
        self._pending.clear()
        self._why = DISK_FULL
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(WorldError):
                writer.close()

    def _settle(self) -> None:
        if self._writer is not None and not self._writer.pending:
            self._passed()

    def _passed(self) -> None:
        for name, amount in self._pending.items():
            self._flows[name].passed += amount
        self._pending.clear()

    def _drop(self, amounts: Mapping[str, int], reason: str) -> None:
        for name, amount in amounts.items():
            self._flows[name].drop(reason, amount)

    def _look(self) -> None:
        """End the recording in good order before the disk is full."""
        now = time.monotonic()
        if self._writer is None or now - self._looked < FREE_EVERY_S:
            return
        self._looked = now
        free = _free_mb(self._writer.path.parent)
        if free < self._settings.min_free_mb:
            path, self._why = self._writer.path, DISK_FULL
            self._stop()
            raise WorldError(
                f"{path}: recording ended, only {free:,} MB are free on its disk (min_free_mb is "
                f"{self._settings.min_free_mb:,}); what was recorded is complete"
            )


def _elements(packet: Packet) -> int:
    body = packet.body
    if isinstance(body, Frame):
        return 1
    return len(body) if isinstance(body, Imu | Trigger) else packet.n_events


def _free_mb(folder: Path) -> int:
    try:
        stat = os.statvfs(folder)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}") from error
    return stat.f_bavail * stat.f_frsize // 1_000_000
