"""The loop around stages: packets in from every edge, through the chain, out to every consumer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import zmq

from rtpipe.clocks.host import CameraClock
from rtpipe.errors import RtpipeError
from rtpipe.ledger import Flow
from rtpipe.pipeline.driver_worker import DRAIN_S, LIVE_QUEUE, REPLAY_QUEUE
from rtpipe.pipeline.link import Link
from rtpipe.pipeline.messages import (
    DONE,
    MADE,
    RUNNING,
    SHOWN,
    WAITING,
    Absent,
    Answer,
    Ask,
    Do,
    Note,
    Report,
    Status,
    Stop,
    WorkerPlan,
)
from rtpipe.pipeline.metrics import Histogram
from rtpipe.pipeline.progress import STARTING, told
from rtpipe.sockets import Publisher, Subscriber
from rtpipe.stage import Stage
from rtpipe.types import Packet, StreamInfo

IDLE_MS = 10
BATCH = 16
"""Packets taken from one edge before the others, the control line and the consumers get their turn."""
LOOK_UP_S = 0.1
"""How long orders and consumers may wait while much is made of one packet."""
LIVE_CREDIT, REPLAY_CREDIT = 16 << 20, 2 << 20
"""Bytes under way on an edge. A replay waits for slow consumers, and what it has sent by then is latency: little."""


class StageWorker:
    """Runs a chain of stages (windows then engine, or one sink) until every input has ended."""

    def __init__(
        self, plan: WorkerPlan, chain: Sequence[Stage], link: Link, context: zmq.Context[zmq.Socket[bytes]]
    ) -> None:
        self._plan, self._chain, self._link = plan, chain, link
        self._inputs = [
            Subscriber(
                item.endpoint,
                consumer=plan.name,
                producer=item.producer,
                kinds=item.kinds,
                delivery=item.delivery,
                credit_bytes=LIVE_CREDIT if plan.live else REPLAY_CREDIT,
                context=context,
            )
            for item in plan.inputs
        ]
        self._latency = {f"{item.producer}->{plan.name}": Histogram() for item in plan.inputs}
        self._publisher = (
            Publisher(
                plan.endpoint,
                plan.name,
                live=plan.live,
                queue_bytes=LIVE_QUEUE if plan.live else REPLAY_QUEUE,
                expected=plan.consumers,
                context=context,
                continues=False,
            )
            if plan.endpoint is not None
            else None
        )
        self._poller = zmq.Poller()
        for subscriber in self._inputs:
            self._poller.register(subscriber.socket, zmq.POLLIN)
        self._poller.register(link.socket, zmq.POLLIN)
        if self._publisher is not None:
            self._poller.register(self._publisher.socket, zmq.POLLIN)
        self._made: tuple[StreamInfo, ...] = ()
        self._clock = CameraClock()
        self._epoch = 0
        self._timed = f"{(plan.window or {}).get('of', '')}/" if plan.window else ""
        self._since_camera = Histogram()
        self._attended = 0.0
        self._last: dict[str, Packet] = {}
        self._open = 0
        self._orphaned = False
        self._starting = ""
        self._state = WAITING
        self._broken = False

    def run(self) -> None:
        """Blocks until all inputs have ended and all output is accounted for. Raises ``RtpipeError`` of a stage."""
        try:
            self._wait(lambda: all(subscriber.streams is not None for subscriber in self._inputs))
            if not self._orphaned:
                with told(self._say_starting):
                    self._open_chain()
                self._starting = ""
                self._wait(lambda: self._publisher is None or self._publisher.ready)
                for subscriber in self._inputs:
                    subscriber.say_ready()
                self._state = RUNNING
                self._pump()
        except BaseException:
            self._broken = True
            raise
        finally:
            try:
                self._close_chain()
                self._drain()
                self._report(self._state if self._broken else DONE)
            finally:
                for subscriber in self._inputs:
                    subscriber.close()
                if self._publisher is not None:
                    self._publisher.close(200)

    def _open_chain(self) -> None:
        streams: Sequence[StreamInfo] = [s for subscriber in self._inputs for s in subscriber.streams or ()]
        for stage in self._chain:
            note = getattr(stage, "note", None)
            if note is not None:
                for name, text in self._plan.notes.items():
                    note(name, text)
            self._open += 1  # a stage that failed half way through open is closed too
            streams = stage.open(streams)
        self._made = tuple(streams)
        if self._publisher is not None:
            self._publisher.announce(self._made)

    def _say_starting(self, text: str) -> None:
        """A part that is being opened blocks the loop: what it says is reported at once."""
        self._starting = text
        self._report(self._state)

    def _pump(self) -> None:
        while self._going:
            moved = self._play()
            for subscriber, latency in zip(self._inputs, self._latency.values(), strict=True):
                for _ in range(BATCH):
                    if not self._taking:
                        break
                    packet = subscriber.receive()
                    if packet is None:
                        break
                    moved = True
                    self._keep_time(packet)
                    for made in self._through(self._chain, [packet]):
                        self._publish([made])
                        self._time_made(packet, made)
                        self._look_up()
                    subscriber.processed(packet)
                    if packet.received_ns and not packet.end:
                        latency.add(time.monotonic_ns() - packet.received_ns)
                    self._serve_consumers()
            self._attend(0 if moved else self._idle_ms)
            if self._orphaned and not moved:
                return

    @property
    def _going(self) -> bool:
        """Whether anything more can come of this worker."""
        return not all(subscriber.ended for subscriber in self._inputs)

    @property
    def _taking(self) -> bool:
        """Whether another packet may be taken: a replay's waits while a consumer has no room."""
        return self._publisher is None or self._plan.live or self._publisher.room

    @property
    def _idle_ms(self) -> int:
        return IDLE_MS

    @property
    def _rewound_s(self) -> float | None:
        """How far what is sent is behind what came, where something is sent again."""
        return None

    def _play(self) -> bool:
        """Publish what is due without a packet having come; whether there was anything."""
        return False

    def _keep_time(self, packet: Packet) -> None:
        """Learn the camera's clock from when its events came."""
        if self._publisher is not None and packet.received_ns and packet.n_events and not packet.end:
            if not packet.stream.startswith(self._timed):
                return
            if packet.epoch != self._epoch:  # time jumped: what is known of the camera's clock is void
                self._epoch, self._clock = packet.epoch, CameraClock()
            self._clock.add(packet.t_last, packet.received_ns)

    def _time_made(self, packet: Packet, made: Packet) -> None:
        """Stamp what an engine made: from the camera's instant to now."""
        picture = made.body is not None and not made.stream.endswith("/picture")
        if self._publisher is not None and picture and packet.received_ns and not packet.end and self._clock.steady:
            self._since_camera.add(time.monotonic_ns() - self._clock.host_ns(made.t_last))

    def _look_up(self) -> None:
        """In the middle of a packet of which much is made: others wait for an answer now and then."""
        if self._plan.role == "engine" and time.monotonic() - self._attended > LOOK_UP_S:
            self._attend(0)

    @classmethod
    def _through(cls, chain: Sequence[Stage], packets: Iterable[Packet]) -> Iterator[Packet]:
        """What comes out at the chain's end, one after the other: a stage that has ``each`` makes the next only when
        all behind it are done with the one before."""
        if not chain:
            yield from packets
            return
        first: Callable[[Packet], Iterable[Packet]] = getattr(chain[0], "each", chain[0].process)
        for packet in packets:
            yield from cls._through(chain[1:], first(packet))

    def _publish(self, packets: Iterable[Packet]) -> None:
        if self._publisher is None:
            return
        for packet in packets:
            self._last[packet.stream] = packet
            self._publisher.publish(packet)

    def _close_chain(self) -> None:
        """Close every stage that was opened, what the earlier ones still held going through the later ones."""
        opened, self._open = list(self._chain[: self._open]), 0
        failure: RtpipeError | None = None
        for index, stage in enumerate(opened):
            try:
                self._publish(self._through(opened[index + 1 :], stage.close()))
            except RtpipeError as error:
                failure = failure or error
        now = time.monotonic_ns()
        for stream in self._made:
            last = self._last.get(stream.name)
            seq, t, epoch = (last.seq + 1, last.t_last, last.epoch) if last is not None else (0, 0, 0)
            if last is None or not last.end:
                self._publish([Packet(stream.name, seq, t, t, now, epoch=epoch, end=True)])
        if failure is not None:
            raise failure

    def _drain(self) -> None:
        began = time.monotonic()
        while self._publisher is not None and not self._publisher.drained:
            if time.monotonic() - max(began, self._publisher.stirred) > DRAIN_S:
                self._publisher.give_up()
                return
            self._attend(IDLE_MS)

    def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition() and not self._orphaned:
            self._attend(IDLE_MS)

    def _serve_consumers(self) -> None:
        if self._publisher is not None:
            self._publisher.serve()

    def _attend(self, timeout_ms: int) -> None:
        """Serve both sides, obey orders, let a sink do what is due; waits at most ``timeout_ms`` for something."""
        self._attended = time.monotonic()
        if timeout_ms:
            self._poller.poll(timeout_ms)
        for subscriber in self._inputs:
            subscriber.serve()
        self._serve_consumers()
        if self._open:
            for stage in self._chain:
                idle = getattr(stage, "idle", None)
                for command in idle() if idle is not None else ():
                    self._link.send(Ask(self._plan.name, command))
        for order in self._link.receive():
            self._obey(order)
        if self._link.report_due:
            self._report(self._state)

    def _obey(self, order: Do | Absent | Status | Note | Stop) -> None:
        if isinstance(order, Stop):
            self._orphaned = True  # only said when nothing more can come: producers or supervisor are gone
        elif isinstance(order, Absent):
            if self._publisher is not None:
                self._publisher.mark_absent(order.consumer, order.will_return)
        elif isinstance(order, Status):
            self._tell("status", order.line)
            self._tell("rewound", order.rewound_s)
            self._tell("clock", order.clock)
        elif isinstance(order, Note):
            self._tell("note", order.name, order.text)
        elif isinstance(order, Do):
            self._control(order)

    def _tell(self, verb: str, *words: object) -> None:
        for stage in self._chain:
            method = getattr(stage, verb, None)
            if method is not None:
                method(*words)

    def _control(self, order: Do) -> None:
        """Obey, and answer."""
        self._link.send(self._answer(order))

    def _answer(self, order: Do) -> Answer:
        for stage in self._chain:
            control = getattr(stage, "control", None)
            if control is not None:
                try:
                    return Answer(order.id, True, control(order.command))
                except RtpipeError as error:
                    return Answer(order.id, False, str(error))
        return Answer(order.id, False, f"{self._plan.name} takes no commands")

    def _report(self, state: str) -> None:
        flows: dict[str, Flow] = {}
        latency = {edge: histogram.summary() for edge, histogram in self._latency.items()}
        if self._publisher is not None:
            latency[MADE] = self._since_camera.summary()
        facts: dict[str, str] = {STARTING: self._starting} if self._starting else {}
        for stage in self._chain:
            for kind, flow in stage.flows.items():
                flows[kind if kind not in flows else f"{kind} inferred"] = flow
            own: Mapping[str, str] = getattr(stage, "facts", {})
            facts.update(own)
            shown = getattr(stage, "latencies", None)
            for duration_ns in shown() if shown is not None else ():
                self._since_camera.add(duration_ns)
            if shown is not None:
                latency[SHOWN] = self._since_camera.summary()
        self._link.send(
            Report(
                self._plan.name,
                state,
                os.getpid(),
                sent=self._publisher.ledgers() if self._publisher is not None else [],
                received=[subscriber.ledger() for subscriber in self._inputs],
                flows=flows,
                latency=latency,
                facts=facts,
                rewound_s=self._rewound_s,
            )
        )
