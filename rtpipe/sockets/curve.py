"""CURVE keys, and who is let in: encryption alone would admit everybody who has seen the producer's public key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import zmq
from zmq.auth.thread import ThreadAuthenticator

from rtpipe.errors import InputError

DOMAIN = "rtpipe"


@dataclass(frozen=True, slots=True)
class CurveServer:
    """A producer's keys (Z85, 40 characters each) and the public keys of the consumers it admits."""

    public: bytes
    secret: bytes
    clients: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class CurveClient:
    """A consumer's keys (Z85, 40 characters each) and the public key of the producer it expects."""

    public: bytes
    secret: bytes
    server: bytes


class Admission:
    """A ZeroMQ context of its own in which only the listed keys may connect. Asked by a thread of its own, and only at
    handshakes; :meth:`close` ends both."""

    def __init__(self, clients: Sequence[bytes]) -> None:
        if not clients:
            raise InputError("CURVE: no consumer's public key is listed, so nobody could connect")
        self._clients = frozenset(clients)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = ThreadAuthenticator(self.context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(DOMAIN, self)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the owner of this public key (Z85) may connect."""
        return domain == DOMAIN and key in self._clients

    def close(self) -> None:
        """Let nobody in any more. The sockets must be closed already."""
        self._authenticator.stop()
        self.context.term()
