"""How packets leave the history: numbered anew, a new epoch wherever one does not follow the one before it."""

from __future__ import annotations

from collections.abc import Sequence

from rtpipe.types import Frame, Packet, StreamInfo


class Outlet:
    """Gives packets their ``seq`` and ``epoch``; ``epoch`` begins at the one given.

    A packet follows the last one where its number in the ring is the next and the driver's epoch the same. Where it
    does not, a new epoch begins; and where the history made the jump, frames whose events began before the first events
    there are left out: their windows could not be whole.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._seq: dict[str, int] = {}
        self._has_events = False
        self._sent: tuple[int, int] | None = None  # number and the driver's epoch of the packet before
        self._cut = False  # frames that began before _begins (None: not known yet) are left out
        self._begins: int | None = None

    def open(self, streams: Sequence[StreamInfo]) -> None:
        """Learn which streams there are."""
        self._seq = {stream.name: 0 for stream in streams}
        self._has_events = any(stream.kind == "events" for stream in streams)

    def break_off(self) -> None:
        """The next packet does not follow, whatever its number."""
        if self._sent is not None:
            self._sent = (-2, self._sent[1])

    def send(self, packet: Packet, number: int, received_ns: int) -> Packet | None:
        """The packet as it leaves, its body the same; None for a frame that is left out."""
        if self._sent is not None and self._sent != (number - 1, packet.epoch):
            self._epoch += 1
            self._cut, self._begins = self._has_events and self._sent[0] != number - 1, None
        self._sent = number, packet.epoch
        if self._cut and self._left_out(packet):
            return None
        return self.numbered(packet, received_ns)

    def numbered(self, packet: Packet, received_ns: int) -> Packet:
        """The packet as it leaves, wherever it belongs."""
        seq = self._seq[packet.stream]
        self._seq[packet.stream] = seq + 1
        t = packet.t_first, packet.t_last
        return Packet(packet.stream, seq, *t, received_ns, packet.body, self._epoch, packet.end)

    def _left_out(self, packet: Packet) -> bool:
        frame = packet.body
        if not isinstance(frame, Frame):
            if self._begins is None and packet.stream.endswith("/events"):
                self._begins = packet.t_first
            return False
        start = frame.exposure_start if frame.window_start is None else frame.window_start
        return start is not None and (self._begins is None or start < self._begins)
