"""Writing what the ring holds to a recording, beside the stream and without a stop to it."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from threading import Thread

from rtpipe.errors import InputError, RtpipeError, WorldError
from rtpipe.formats.mcap import Writer
from rtpipe.history.ring import Kept, Segment
from rtpipe.types import StreamInfo

FREE_BYTES = 200_000_000
"""So much stays free on the disk."""


class Save(Thread):
    """Writes pinned packets to a new recording in ``folder``, on a thread of its own.

    :attr:`written` are the segments it is done with, for the ring's owner to release; :attr:`path` the file and
    :attr:`problem` what went wrong, both final once the thread is not alive. A file that could not be written whole is
    removed. Raises ``InputError`` where the folder or file cannot be made, ``WorldError`` where the disk is too full.
    """

    def __init__(
        self,
        folder: Path,
        streams: Sequence[StreamInfo],
        pinned: Sequence[tuple[Segment, Sequence[Kept]]],
        notes: Mapping[str, str],
    ) -> None:
        super().__init__(name="save", daemon=True)
        self._waiting = deque(pinned)
        self.written: deque[Segment] = deque()
        self.problem = ""
        self.packets = self.events = self.refused = 0
        first, last = pinned[0][1][0], pinned[-1][1][-1]
        self.seconds = (last.at - first.at) / 1e6
        self._writer = _create(folder, streams, sum(len(segment.memory) for segment, _ in pinned))
        self.path = self._writer.path
        for name, text in notes.items():
            self._writer.metadata(name, text)

    def run(self) -> None:
        """Write everything; lets others have their turn after each packet."""
        try:
            while self._waiting:
                segment, kept = self._waiting[0]
                for one in kept:
                    self._write(one)
                    time.sleep(0)
                self._writer.flush()  # before the memory is somebody else's
                self._waiting.popleft()
                self.written.append(segment)
            self._writer.close()
        except Exception as error:  # said by whoever asked for the file; the stream does not care
            self.problem = str(error) if isinstance(error, RtpipeError) else f"{type(error).__name__}: {error}"
            with suppress(RtpipeError, OSError):
                self._writer.close()
            with suppress(OSError):
                self.path.unlink()
        finally:
            self.written.extend(segment for segment, _ in self._waiting)
            self._waiting.clear()

    def _write(self, kept: Kept) -> None:
        try:
            self._writer.write(replace(kept.packet, end=False))
        except ValueError:  # it contradicts its own stream: a recorder would refuse it too
            self.refused += 1
            return
        self.packets, self.events = self.packets + 1, self.events + kept.packet.n_events

    @property
    def outcome(self) -> str:
        """What became of it, in words; only once the thread is not alive."""
        if self.problem:
            return f"not saved: {self.problem}"
        refused = f", {self.refused:,} refused" if self.refused else ""
        what = f"{self.packets:,} packets, {self.events:,} events{refused}"
        return f"saved {self.seconds:.2f} s ({what}) to {self.path}"


def _create(folder: Path, streams: Sequence[StreamInfo], size: int) -> Writer:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stat = os.statvfs(folder)
    except OSError as error:
        raise InputError(f"{folder}: recordings cannot be put there: {error.strerror or error}") from error
    if stat.f_bavail * stat.f_frsize < size + FREE_BYTES:
        raise WorldError(f"{folder}: {size / 1e6:,.0f} MB to be saved, and too little is free on the disk")
    camera = next((stream.camera for stream in streams if stream.camera), streams[0].name.split("/")[0])
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    stem = f"{now}_{re.sub(r'[^A-Za-z0-9._-]+', '-', camera).strip('-.') or 'camera'}_saved"
    for number in count(1):
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}.mcap"
        if not os.path.lexists(path):
            try:
                return Writer(path, streams)
            except InputError:
                if not os.path.lexists(path):
                    raise
    raise AssertionError("unreachable")
