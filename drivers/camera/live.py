"""The driver around a device: what every live camera has in common, whatever SDK opens it.

The device lives in a thread of its own (:mod:`drivers.camera.keeper`); here its batches become packets
(:mod:`drivers.camera.packets`) on one line of time (:mod:`drivers.camera.timeline`). A camera that is unplugged, reset
or hung is waited for and taken up again while time goes on downstream; what is lost is counted by its name.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from drivers.camera import host, saved, sift, told
from drivers.camera.change import changed
from drivers.camera.choose import Chosen, choose
from drivers.camera.contract import Where
from drivers.camera.inbox import Inbox, Opened
from drivers.camera.keeper import Keeper, Known
from drivers.camera.packets import Packets
from drivers.camera.settings import Camera, frames_of
from drivers.camera.timeline import Timeline
from rtpipe import packing, raw
from rtpipe.errors import InputError, RtpipeError, WorldError
from rtpipe.ledger import Flow
from rtpipe.types import Packet, StreamInfo

FIRST_S = 20.0
"""How long a camera that is there may take to stream for the first time."""
ANSWER_S = 1.0
"""How long a change of settings waits for the device."""
END_S = 1.0
MOST_PACKETS = 32
"""What one read gives at about the most, so that the caller's queues are looked at in between."""
MOST_LOST = 4
"""Threads that hang in an SDK at the same time, at the most: then no other is sent after them."""
MOST_CHANGES = 1000
PAUSED, HOST_QUEUE = "paused", "host queue"
"""Why what came is not passed on: someone said pause; this process was held up and its queue full."""


class Live:
    """A live camera (see :class:`rtpipe.stage.Driver`). A driver says which ``models`` it opens; empty: any of
    Prophesee's. Beside the driver's verbs it has ``ready`` (opening without blocking), ``finish`` (what is still inside
    at the end), ``flows``, ``facts``, ``notes`` and ``progress``."""

    live: ClassVar[bool] = True
    models: ClassVar[Sequence[str]] = ()

    def __init__(self, settings: Camera) -> None:
        self._settings = settings
        self._inbox = Inbox()
        self._time = Timeline()
        self._keeper: Keeper | None = None
        self._given_up: list[Keeper] = []
        self._began_s = 0.0
        self._known: Known | None = None
        self._packets: Packets | None = None
        self._host = host.Host((1, 1))
        self._where: dict[str, Where] = {}
        self._streams: tuple[StreamInfo, ...] = ()
        self._changes: list[dict[str, Any]] = []
        self._paused = self._reading = False
        self._opened = 0
        self._gone_s: float | None = None
        self._away_s: list[float] = []
        self._backlog = 0
        self._first_us: int | None = None

    # opening

    def returning(self) -> None:
        """This process takes the place of one that died: a camera that is not there yet is waited for."""
        self._settings = msgspec.structs.replace(self._settings, wait=True)

    def find(self, settings: Camera) -> Chosen:
        """Which camera is meant. A driver whose camera no SDK lists says itself."""
        return choose(self.models, settings)

    def ready(self, timeout_s: float) -> bool:
        """Look for the camera and open it, waiting at most about ``timeout_s``; True when :meth:`open` will not wait.
        Raises ``RtpipeError`` where it cannot be opened; with ``wait`` one that is not attached is waited for."""
        if self._keeper is None:
            self._settings = saved.loaded(self._settings)
            self._began_s = time.monotonic()
            self._keeper = Keeper(self.find, self._settings, self._inbox, self._check)
        keeper, until = self._keeper, time.monotonic() + timeout_s
        while keeper.state != "streaming":
            if keeper.failure is not None:
                raise keeper.failure
            hangs = keeper.overdue()
            if hangs:
                raise WorldError(f"the camera does not answer ({hangs})")
            waited = time.monotonic() - self._began_s
            if waited > FIRST_S and not self._settings.wait:
                raise WorldError(keeper.why or "the camera does not stream")
            if time.monotonic() >= until:
                return False
            time.sleep(0.005)
        return True

    def open(self) -> Sequence[StreamInfo]:
        """Open the camera; what it sends before the first :meth:`read` is thrown away. Blocks until it is there, with
        ``wait`` for as long as it takes (:meth:`ready` does not). Raises ``RtpipeError``."""
        while not self.ready(0.1):
            pass
        assert self._keeper is not None
        known = self._keeper.known
        assert known is not None
        self._known = known
        resolution = known.attached.resolution
        if resolution is None:
            raise WorldError(f"{known.attached.model}: its back end does not say its resolution")
        self._streams = self._infos(known)
        self._host = host.Host(resolution)
        self._packets = Packets(self._streams, resolution, self._time, self._host, self._settings.packet_us)
        self._take_on(self._settings, known)
        self._warm(known)
        return self._streams

    def _infos(self, known: Known) -> tuple[StreamInfo, ...]:
        camera = f"{known.attached.model} {known.attached.serial}".strip()
        resolution, frames = known.attached.resolution, frames_of(self._settings)
        left_out = {
            kind for kind, wanted in (("imu", self._settings.imu), ("triggers", self._settings.triggers)) if not wanted
        } | ({"frames"} if frames is not None and not frames.enabled else set())
        return tuple(
            StreamInfo(
                f"camera/{kind}",
                resolution if kind in ("events", "frames") else None,
                camera,
                known.encoding if kind == "events" else "",
            )
            for kind in known.kinds
            if kind not in left_out
        )

    def _check(self, known: Known, settings: Camera) -> None:
        """Whether a device that was opened can do what is asked (on its thread)."""
        if settings.raw and not known.encoding:
            raise InputError(f"raw: {known.attached.model} by {known.chosen.backend.NAME} gives no bytes of its own")
        host.where(settings, known.capabilities, known.encoding)

    def _warm(self, known: Known) -> None:
        sift.warm()
        packing.warm()
        raw.warm(known.encoding)

    # reading

    def read(self, timeout_s: float) -> Sequence[Packet] | None:
        """The packets that are due, waiting at most ``timeout_s``. Never None: a camera has no end, and one that is
        gone is waited for."""
        keeper, packets = self._attended()
        if not self._reading:
            self._reading = True
            keeper.flow()
        made: list[Packet] = []
        wait_s, quiet_ns = timeout_s, 0
        while len(made) < MOST_PACKETS:
            batch, quiet_ns = self._inbox.take(wait_s)
            if batch is None:
                break
            wait_s = 0.0
            if isinstance(batch, Opened):
                made += self._taken_up()
            elif self._paused:
                packets.pass_over(batch, PAUSED)
            else:
                self._backlog = batch.backlog
                made += packets.take(batch)
        self._count_lost()
        if batch is None and not self._paused:
            made += packets.due(time.monotonic_ns())
            gone = keeper.state != "streaming"
            if gone or quiet_ns:
                made += packets.silence(time.monotonic_ns() if gone else quiet_ns)
        if made and self._first_us is None:
            self._first_us = made[0].t_first
        return made

    def _attended(self) -> tuple[Keeper, Packets]:
        """The thread that keeps the camera; another one where it hangs."""
        keeper, packets = self._keeper, self._packets
        if keeper is None or packets is None:
            raise InputError("the camera is not open")
        if keeper.failure is not None:
            raise keeper.failure
        if keeper.overdue() and keeper.known is not None:
            self._given_up = [each for each in self._given_up if each.alive]
            if len(self._given_up) < MOST_LOST:
                keeper.give_up()
                self._given_up.append(keeper)
                known = keeper.known
                keeper = self._keeper = Keeper(self.find, self._settings, self._inbox, self._check, known)
                keeper.why = "it does not answer"
        if keeper.state == "streaming":
            if self._gone_s is not None:
                self._away_s.append(time.monotonic() - self._gone_s)
                self._gone_s = None
        elif self._gone_s is None:
            self._gone_s = time.monotonic()
        return keeper, packets

    def _taken_up(self) -> list[Packet]:
        """The camera was opened (again): its clock is another."""
        self._opened += 1
        assert self._packets is not None
        made = self._packets.flush()
        self._time.begin()
        return made

    def _count_lost(self) -> None:
        assert self._packets is not None
        for kind, n in self._inbox.lost().items():
            self._packets.refuse(kind, HOST_QUEUE, n)

    def finish(self) -> Sequence[Packet]:
        """The end: let the camera go, and give what was still inside."""
        if self._packets is None or self._keeper is None:
            return ()
        self._keeper.end(END_S)
        made: list[Packet] = []
        while True:
            batch, _ = self._inbox.take(0.0)
            if batch is None:
                break
            if isinstance(batch, Opened):
                made += self._taken_up()
            elif self._paused:
                self._packets.pass_over(batch, PAUSED)
            else:
                made += self._packets.take(batch)
        self._count_lost()
        return [*made, *self._packets.flush()]

    def close(self) -> None:
        """Let the camera go; what hangs is left to the process's end."""
        if self._keeper is not None:
            self._keeper.end(END_S)

    # control

    def control(self, command: str) -> str:
        """``pause``, ``resume`` and ``set KEY VALUE``; a live camera cannot seek or change its speed."""
        verb, _, argument = command.partition(" ")
        if verb == "pause":
            self._paused = True
        elif verb == "resume":
            if self._paused:
                self._time.begin()
            self._paused = False
        elif verb == "set":
            key, _, value = argument.partition(" ")
            return self._set(key, value)
        else:
            raise InputError(f"a live camera cannot {verb}: only a replay can")
        return PAUSED if self._paused else "running"

    def _set(self, key: str, value: str) -> str:
        """Change one setting, on the device or here; what cannot be done leaves everything as it was."""
        if self._keeper is None or self._known is None:
            raise InputError("the camera is not open yet")
        known = self._keeper.known or self._known
        new = changed(self._settings, key, value)
        there = {info.kind for info in self._streams}
        for kind in known.kinds:
            if kind not in there and kind in {info.kind for info in self._all(new, known)}:
                raise InputError(f"{kind} were switched off at the start, so that this run has no such stream")
        done = host.where(new, known.capabilities, known.encoding)
        old, now = host.asked(self._settings), host.asked(new)
        by_device = any(
            self._side(name, known) == "hardware" for name in {*old, *now} if old.get(name) != now.get(name)
        )
        before = self._settings
        self._take_on(new, known)
        try:
            reached = not by_device or self._keeper.apply(new, ANSWER_S)
        except RtpipeError:
            self._take_on(before, known)
            raise
        side = done.get(key) or self._side(key, known)
        entry = {"t": self._time.newest, "wall_ns": time.time_ns(), "set": f"{key} {value}".strip(), "by": side}
        self._changes = [*self._changes[-MOST_CHANGES + 1 :], entry]
        shown = now.get(key, "as the camera has it" if side == "hardware" else "off")
        later = "" if reached else ", when the camera is back"
        return f"{key} {told.words(shown)} ({side}{later})"

    def _all(self, settings: Camera, known: Known) -> tuple[StreamInfo, ...]:
        before, self._settings = self._settings, settings
        try:
            return self._infos(known)
        finally:
            self._settings = before

    @staticmethod
    def _side(name: str, known: Known) -> Where:
        able = {capability.name: capability.where for capability in known.capabilities}
        return able.get(name, "host")

    def _take_on(self, settings: Camera, known: Known) -> None:
        """These settings from now on, as far as this computer is concerned."""
        done = host.where(settings, known.capabilities, known.encoding)
        self._host.change(host.filters(settings, done))
        self._settings, self._where = settings, done
        if self._packets is not None:
            switched = {"imu": "imu", "triggers": "triggers", "frames.enabled": "frames"}
            self._packets.off = frozenset(kind for name, kind in switched.items() if name in done)

    # what is told

    @property
    def flows(self) -> Mapping[str, Flow]:
        """By kind what came, was passed on and was dropped by reason; ``"transfers"``, with those that the SDK knows to
        be lost; and what this computer's filters took out."""
        return {} if self._packets is None else {**self._packets.flows, **self._host.flows}

    @property
    def facts(self) -> Mapping[str, str]:
        """The camera and what befell it, in words."""
        return told.facts(self._about(), self._keeper.why if self._keeper is not None else "")

    @property
    def notes(self) -> Mapping[str, str]:
        """What is kept with every recording (JSON): the camera, its settings and who does them, each live change."""
        return {} if self._known is None else {saved.NOTE: told.note(self._about())}

    def _about(self) -> told.About:
        gone_s = None if self._gone_s is None else time.monotonic() - self._gone_s
        return told.About(
            self._known, self._settings, self._where, self._changes, self._opened, self._away_s, gone_s, self._backlog
        )

    def progress(self) -> tuple[float, float | None]:
        """Seconds of camera time so far; there is no end."""
        newest = self._packets.newest if self._packets is not None else None
        return (0.0 if newest is None or self._first_us is None else (newest - self._first_us) / 1e6), None
