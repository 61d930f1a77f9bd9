"""What becomes of a connection, as ZeroMQ itself tells it: made, refused, broken."""

from __future__ import annotations

import zmq
from zmq.utils.monitor import parse_monitor_message

from rtpipe.sockets.endpoints import Socket

REFUSED = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)


class Watch:
    """Watches a socket that connects. Ask :meth:`look` now and then; nothing blocks."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._monitor: Socket | None = socket.get_monitor_socket()
        self.connected = False
        """Somebody has listened there at least once."""
        self.refused = False
        """The last handshake failed: keys that do not fit, or one side alone encrypts."""
        self.breaks = 0
        """How often a connection that stood was lost."""
        self._stands = False

    def look(self) -> None:
        """Take in what happened since the last call."""
        while self._monitor is not None and self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())["event"]
            if event in REFUSED:
                self.refused = True
            elif event == zmq.EVENT_CONNECTED:
                self.connected = True
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.refused, self._stands = False, True
            elif event == zmq.EVENT_DISCONNECTED:
                self.breaks += self._stands
                self._stands = False

    def close(self) -> None:
        """Stop watching; before the socket is closed. May be called twice."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._monitor = None
