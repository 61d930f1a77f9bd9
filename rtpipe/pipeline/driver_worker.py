"""The loop around a driver: read what is due, publish it, wait for consumers where the driver can wait."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import zmq

from rtpipe.clocks.host import CameraClock
from rtpipe.clocks.relation import reading
from rtpipe.errors import RtpipeError
from rtpipe.pipeline.link import Link
from rtpipe.pipeline.messages import DONE, RUNNING, WAITING, Absent, Answer, Do, Report, Stop, WorkerPlan
from rtpipe.pipeline.watchdog import Watchdog
from rtpipe.sockets import Publisher
from rtpipe.stage import Driver
from rtpipe.types import Packet, StreamInfo

READ_TIMEOUT_S = 0.002
LIVE_QUEUE, REPLAY_QUEUE = 64 << 20, 1 << 20
"""Bytes that wait for one consumer: a camera's bursts must fit, a replay waits instead."""
LOOK_S = 0.05
"""How long a driver that waits for its camera blocks at a time."""
DRAIN_S = 30.0
"""How long a consumer may give no sign of life at the end before its packets are given up and counted: one picture of a
large network takes seconds on a CPU. One that dies is not waited for: the supervisor tells."""


class DriverWorker:
    """Runs one :class:`~rtpipe.stage.Driver` until its end or an order to stop."""

    def __init__(self, plan: WorkerPlan, driver: Driver, link: Link, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        assert plan.endpoint is not None
        self._plan, self._driver, self._link = plan, driver, link
        self._publisher = Publisher(
            plan.endpoint,
            plan.name,
            live=plan.live,
            queue_bytes=LIVE_QUEUE if plan.live else REPLAY_QUEUE,
            expected=plan.consumers,
            context=context,
        )
        self._poller = zmq.Poller()
        self._poller.register(self._publisher.socket, zmq.POLLIN)
        self._poller.register(link.socket, zmq.POLLIN)
        self._stopping = False
        self._last: dict[str, Packet] = {}
        self._clock = CameraClock()
        self._epoch = 0
        self._timed = ""  # the stream whose packets tell of the clock
        self._streams: tuple[StreamInfo, ...] = ()
        self._watchdog = Watchdog(plan.live and hasattr(driver, "returning"))
        # what a live source sends after its death does not follow on what it sent before: state is void
        self._epochs_before = plan.life << 16 if plan.live and not hasattr(driver, "resume_after") else 0

    def run(self) -> None:
        """Blocks until every packet is accounted for. Raises ``RtpipeError`` where the device or file fails."""
        try:
            if self._plan.life:
                self._driver_has("returning", None)
            if not self._await_driver():
                self._report(DONE)
                return
            self._streams = tuple(replace(s, name=self._named(s.name)) for s in self._driver.open())
            self._publisher.announce(self._streams)
            self._timed = next((s.name for kind in ("events", "frames") for s in self._streams if s.kind == kind), "")
            self._await_consumers()
            self._resume()
            failure = self._pump()
            self._watchdog.off()
            for packet in self._driver_has("finish", ()):
                self._publish(self._of_this_life(packet))
            self._end()
            self._drain()
            self._publisher.give_up()
            self._report(DONE)
            if failure is not None:
                raise failure
        finally:
            self._driver.close()
            self._publisher.close(200)

    def _driver_has(self, verb: str, otherwise: Any, *words: object) -> Any:
        """What a driver's verb gives that not every driver has."""
        method = getattr(self._driver, verb, None)
        return otherwise if method is None else method(*words)

    def _await_driver(self) -> bool:
        """Wait until the driver can be opened at once; False where there is an order to stop before."""
        while not self._driver_has("ready", True, LOOK_S):
            self._attend(0)
            if self._stopping:
                return False
        return True

    def _named(self, stream: str) -> str:
        """A driver calls its streams ``camera/…``; in a pipeline they bear the source's name."""
        return f"{self._plan.name}/{stream.rsplit('/', 1)[-1]}"

    def _await_consumers(self) -> None:
        while not self._publisher.ready and not self._stopping:
            self._attend(10)

    def _resume(self) -> None:
        resume_after = getattr(self._driver, "resume_after", None)
        resume = self._publisher.resume
        seen = {
            s.name.replace(self._plan.name, "camera", 1): resume[s.name] for s in self._streams if resume[s.name] >= 0
        }
        if resume_after is not None and seen:
            resume_after(seen)

    def _pump(self) -> RtpipeError | None:
        """Read and publish until the end; returns what broke the driver: what was read by then is still delivered."""
        while not self._stopping:
            self._watchdog.alive()
            self._attend(0)
            if not self._plan.live and not self._publisher.room:
                self._attend(5)
                continue
            try:
                packets = self._driver.read(READ_TIMEOUT_S)
            except RtpipeError as error:
                return error
            if packets is None:
                return None
            for packet in packets:
                self._publish(self._of_this_life(packet))
        return None

    def _of_this_life(self, packet: Packet) -> Packet:
        return replace(packet, epoch=packet.epoch + self._epochs_before) if self._epochs_before else packet

    def _publish(self, packet: Packet) -> None:
        name = self._named(packet.stream)
        if name != packet.stream:
            packet = replace(packet, stream=name)
        self._last[packet.stream] = packet
        if packet.stream == self._timed and packet.body is not None and packet.received_ns:
            if packet.epoch != self._epoch:
                self._epoch, self._clock = packet.epoch, CameraClock()
            self._clock.add(packet.t_last, packet.received_ns)
        self._publisher.publish(packet)

    def _end(self) -> None:
        """Every announced stream gets its end packet, if the driver did not send one itself (stopped, failed)."""
        now = time.monotonic_ns()
        for stream in self._streams:
            last = self._last.get(stream.name)
            if last is None:
                self._publish(Packet(stream.name, 0, 0, 0, now, end=True))
            elif not last.end:
                self._publish(
                    Packet(stream.name, last.seq + 1, last.t_last, last.t_last, now, epoch=last.epoch, end=True)
                )

    def _drain(self) -> None:
        began = time.monotonic()
        while not self._publisher.drained and time.monotonic() - max(began, self._publisher.stirred) < DRAIN_S:
            self._attend(10)

    def _attend(self, timeout_ms: int) -> None:
        """Serve consumers and obey orders, waiting at most ``timeout_ms`` for either."""
        if timeout_ms:
            self._poller.poll(timeout_ms)
        self._publisher.serve()
        for order in self._link.receive():
            if isinstance(order, Stop):
                self._stopping = True
            elif isinstance(order, Absent):
                self._publisher.mark_absent(order.consumer, order.will_return)
            elif isinstance(order, Do):
                try:
                    self._link.send(Answer(order.id, True, self._driver.control(order.command)))
                except RtpipeError as error:
                    self._link.send(Answer(order.id, False, str(error)))
        if self._link.report_due:
            self._report(RUNNING if self._publisher.ready else WAITING)

    def _report(self, state: str) -> None:
        now_s, duration_s = self._driver_has("progress", (None, None))
        notes: Mapping[str, str] = getattr(self._driver, "notes", {})
        self._link.send(
            Report(
                self._plan.name,
                state,
                os.getpid(),
                sent=self._publisher.ledgers(),
                flows=dict(getattr(self._driver, "flows", {})),
                facts=dict(getattr(self._driver, "facts", {})),
                clock=reading(self._clock),
                notes={f"{name}/{self._plan.name}": text for name, text in notes.items()},
                position_s=now_s,
                duration_s=duration_s,
            )
        )
