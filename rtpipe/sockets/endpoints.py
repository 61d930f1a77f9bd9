"""Endpoints and keys: what may be bound or connected to, said in plain words before ZeroMQ says it in its own."""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

import zmq
import zmq.backend

from rtpipe.errors import InputError, WorldError
from rtpipe.sockets.curve import DOMAIN, CurveClient, CurveServer

Socket: TypeAlias = "zmq.Socket[bytes]"
Context: TypeAlias = "zmq.Context[zmq.Socket[bytes]]"

send_part = zmq.backend.Socket.send
receive_part = zmq.backend.Socket.recv
"""The methods beneath ``Socket.send`` and ``Socket.recv``: half the time for each part of a small message. Their flags
are :data:`MORE` and :data:`NOW`, plain numbers, because enumerations cost as much again."""
MORE, NOW = int(zmq.SNDMORE), int(zmq.NOBLOCK)

LONGEST_IPC = 107
"""Bytes in the path of an ipc endpoint: what the kernel's socket address holds."""
TCP_HEARTBEAT_MS, TCP_TIMEOUT_MS = 2000, 10_000
"""On tcp a peer that has been silent for this long is taken for dead. On ipc the kernel tells at once."""


def check_endpoint(endpoint: str, encrypted: bool) -> None:
    """Raises ``InputError`` for what cannot work or would leave the machine in the clear."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        if not rest:
            raise InputError(f"endpoint {endpoint!r}: a path must follow ipc://")
        if len(rest.encode()) > LONGEST_IPC:
            raise InputError(
                f"endpoint {endpoint!r}: its path has {len(rest.encode())} bytes, at most {LONGEST_IPC} are possible; "
                "use a shorter directory (XDG_RUNTIME_DIR)"
            )
    elif scheme == "tcp":
        host, _, port = rest.rpartition(":")
        if not host or not (port == "*" or (port.isdigit() and int(port) < 1 << 16)):
            raise InputError(f"endpoint {endpoint!r}: tcp://HOST:PORT is wanted")
        if not encrypted and not _loopback(host):
            raise InputError(
                f"endpoint {endpoint!r}: leaves this machine, so it needs CURVE keys (rtpipe keys); "
                "without them only 127.0.0.1, ::1 and localhost are allowed"
            )
    elif scheme != "inproc":
        raise InputError(f"endpoint {endpoint!r}: ipc://PATH or tcp://HOST:PORT is wanted")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _open(context: Context, kind: int, endpoint: str) -> Socket:
    socket: Socket = context.socket(kind)
    socket.setsockopt(zmq.SNDHWM, 0)  # credits bound what is under way, in bytes; a high-water mark counts messages
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, 0)
    if endpoint.startswith("tcp://"):
        socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        socket.setsockopt(zmq.HEARTBEAT_IVL, TCP_HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, TCP_TIMEOUT_MS)
    return socket


def bind(context: Context, endpoint: str, largest: int, curve: CurveServer | None) -> Socket:
    """A ROUTER at ``endpoint``. Raises ``InputError`` or ``WorldError``."""
    check_endpoint(endpoint, curve is not None)
    socket = _open(context, zmq.ROUTER, endpoint)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.MAXMSGSIZE, largest)
    if curve is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, curve.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, curve.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN.encode())
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise WorldError(f"cannot listen at {endpoint}: {error.strerror}") from None
    return socket


def connect(context: Context, endpoint: str, largest: int, curve: CurveClient | None) -> Socket:
    """A DEALER that connects to ``endpoint``, now or when somebody listens there, and again after every break; each
    time it sends an empty message. Raises ``InputError``."""
    check_endpoint(endpoint, curve is not None)
    socket = _open(context, zmq.DEALER, endpoint)
    socket.setsockopt(zmq.PROBE_ROUTER, 1)
    socket.setsockopt(zmq.IMMEDIATE, 1)  # no queue for a producer that is not there; also makes it probe each time
    socket.setsockopt(zmq.RECONNECT_IVL, 20)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    socket.setsockopt(zmq.MAXMSGSIZE, largest)
    if curve is not None:
        socket.setsockopt(zmq.CURVE_PUBLICKEY, curve.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, curve.secret)
        socket.setsockopt(zmq.CURVE_SERVERKEY, curve.server)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise InputError(f"cannot connect to {endpoint}: {error.strerror}") from None
    return socket
