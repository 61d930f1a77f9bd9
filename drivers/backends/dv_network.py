"""A camera at the other end of a network: the streams of a dv-runtime, or of dv-processing's ``NetworkWriter``.

One stream per port or UNIX socket. dv-processing's reader has its own thread; asking it for what has come takes
microseconds. Connecting does not: it waits for the server's first words with Python's lock in its hands, so that a
server which accepts and then says nothing would stop this whole process. Each is asked for its first words here before.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drivers.backends import dv_objects
from drivers.backends.dv import INSTALL, POLL_S, why_not
from drivers.backends.dv_objects import words
from drivers.camera.contract import Attached, Batch, Capability, GoneError, Reading
from drivers.camera.settings import Camera
from rtpipe.errors import InputError, WorldError
from rtpipe.types import Resolution

PATIENCE_S = 2.0
"""A server that has not said its first words by then says none."""
UNDER_WAY_S = 0.5
"""So long after the last that came, more of it is taken to be under way: a network has no moment when it is empty."""
MAGIC = b"IOHE"
"""Every stream begins with a FlatBuffer of this kind, behind its length."""
GETTERS = {
    "events": "getNextEventBatch",
    "frames": "getNextFrame",
    "imu": "getNextImuBatch",
    "triggers": "getNextTriggerBatch",
}
_AVAILABLE = {"events": "Event", "frames": "Frame", "imu": "Imu", "triggers": "Trigger"}


@dataclass(frozen=True)
class Place:
    """Where a stream is to be had: a port of ``host``, or the path of a UNIX socket (``port`` 0)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


@dataclass(frozen=True)
class Credentials:
    """For a server that wants TLS: files with the client's certificate chain and its private key (PEM)."""

    certificate: Path
    key: Path


class Network:
    """The streams of one camera, as a back end (:class:`drivers.camera.contract.Backend`) that knows one camera."""

    NAME = "dv-processing"
    TITLE = "dv streams over the network"
    MODELS: Sequence[str] = ()
    INSTALL = INSTALL

    def __init__(self, places: Mapping[str, Place], credentials: Credentials | None = None) -> None:
        self._places, self._credentials = places, credentials
        address = ", ".join(f"{kind} {place}" for kind, place in places.items())
        self._camera = Attached(self.NAME, "dv stream", streams=tuple(places), connection="network", address=address)

    @staticmethod
    def why_not() -> str:
        """As dv-processing's cameras."""
        return why_not()

    def reach(self) -> None:
        """Raises ``GoneError`` for the first stream that nobody offers, ``WorldError`` where there is no SDK."""
        if reason := why_not():
            raise WorldError(f"{self.NAME}: {reason} ({self.INSTALL})")
        for kind, place in self._places.items():
            first_words(kind, place, self._credentials)

    def attached(self) -> Sequence[Attached]:
        """The camera: whether it is there, opening it tells."""
        return [self._camera]

    def open(self, camera: Attached, settings: Camera) -> Streams:
        """Connect to every stream. Raises ``GoneError``, ``WorldError``, ``InputError``."""
        if settings.raw:
            raise InputError("raw: a dv stream has decoded events; leave it out")
        self.reach()
        import dv_processing as dv

        readers: dict[str, Any] = {}
        for kind, place in self._places.items():
            try:
                readers[kind] = self._reader(dv, place)
            except RuntimeError as error:
                raise GoneError(f"{kind}: {place}: {words(error)}") from error
        known = described(camera, readers, self._places)
        wanted = settings.serial.strip().lstrip("0")
        if wanted and known.serial.lstrip("0") != wanted:
            raise WorldError(
                f"serial {settings.serial} is wanted; {self._camera.address} is {known.model} {known.serial}"
            )
        self._camera = known
        return Streams(readers, known)

    def _reader(self, dv: Any, place: Place) -> Any:
        if not place.port:
            return dv.io.NetworkReader(place.host)
        if self._credentials is None:
            return dv.io.NetworkReader(place.host, place.port)
        return dv.io.NetworkReader(
            place.host, place.port, str(self._credentials.certificate), str(self._credentials.key)
        )


class Streams:
    """Open streams; see :class:`drivers.camera.contract.Device`. Nothing of the camera can be set from here."""

    encoding = ""
    capabilities: Sequence[Capability] = ()

    def __init__(self, readers: Mapping[str, Any], camera: Attached) -> None:
        self._readers = dict(readers)
        self._order = list(readers)
        self._attached = camera
        self._came_s = time.monotonic()

    @property
    def attached(self) -> Attached:
        """As the streams describe it."""
        return self._attached

    @property
    def kinds(self) -> Sequence[str]:
        """Those that were asked for."""
        return self._attached.streams

    def apply(self, settings: Camera) -> None:
        """There is nothing to set: the computer's own filters are the driver's."""

    def read(self, timeout_s: float) -> Batch:
        """The next thing of any stream, in turn."""
        deadline = time.monotonic() + timeout_s
        while True:
            reading = self._next()
            now = time.monotonic()
            if reading is not None:
                self._came_s = now
                return Batch((reading,), time.monotonic_ns())
            if now >= deadline:
                return Batch((), time.monotonic_ns(), backlog=int(now - self._came_s < UNDER_WAY_S))
            time.sleep(min(POLL_S, deadline - now))

    def close(self) -> None:
        """Disconnect."""
        self._readers = {}

    def _next(self) -> Reading | None:
        if not self._readers:
            raise GoneError("the streams are closed")
        for kind in list(self._order):
            reader = self._readers[kind]
            try:
                data = getattr(reader, GETTERS[kind])()
                reading = dv_objects.reading(data)
                ended = data is None and not reader.isRunning()
            except (RuntimeError, IndexError) as error:
                raise GoneError(f"{kind}: the stream broke: {words(error)}") from error
            if ended:
                raise GoneError(f"{kind}: the server has gone")
            if reading is not None:
                self._order.remove(kind)
                self._order.append(kind)
                return reading
        return None


def described(camera: Attached, readers: Mapping[str, Any], places: Mapping[str, Place]) -> Attached:
    """What the streams say of their camera. Raises ``InputError`` for a stream of another kind than was said,
    ``WorldError`` for streams of different cameras or sizes."""
    names, sizes = set(), set()
    for kind, reader in readers.items():
        if not getattr(reader, f"is{_AVAILABLE[kind]}StreamAvailable")():
            is_ = [each for each, name in _AVAILABLE.items() if getattr(reader, f"is{name}StreamAvailable")()]
            raise InputError(f"{kind}: {places[kind]} sends {' and '.join(is_) or 'something else'}, not {kind}")
        names.add(str(reader.getCameraName()))
        size = reader.getEventResolution() if kind == "events" else None
        size = reader.getFrameResolution() if kind == "frames" else size
        if kind in ("events", "frames"):
            if size is None:
                raise WorldError(f"{kind}: {places[kind]} does not say its size")
            sizes.add((int(size[0]), int(size[1])))
    if len(names) > 1:
        raise WorldError(f"the streams are of different cameras: {', '.join(sorted(names))}")
    if len(sizes) > 1:
        pair = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise WorldError(f"events and frames are of different sizes, {pair}: take one of them")
    model, _, serial = names.pop().rpartition("_")
    resolution: Resolution | None = next(iter(sizes), None)
    return replace(camera, model=model or serial, serial=serial if model else "", resolution=resolution)


def first_words(kind: str, place: Place, credentials: Credentials | None) -> None:
    """Connect and hear whether a stream begins, then hang up. Raises ``GoneError`` that says what is there instead.
    Waits up to :data:`PATIENCE_S`."""
    said = b""
    try:
        with contextlib.closing(_connected(place, credentials)) as line:
            while len(said) < 12 and (more := line.recv(12 - len(said))):
                said += more
    except TimeoutError as error:
        raise GoneError(f"{kind}: {place} does not answer within {PATIENCE_S:g} s") from error
    except ssl.SSLError as error:
        raise GoneError(f"{kind}: {place}: TLS: {error.reason or error}") from error
    except OSError as error:
        raise GoneError(f"{kind}: {place}: {error.strerror or error}") from error
    if said[8:12] != MAGIC:
        tls = "" if credentials else "; a server that wants TLS needs certificate and key"
        raise GoneError(f"{kind}: what {place} offers is no dv stream{tls}")


def _connected(place: Place, credentials: Credentials | None) -> socket.socket:
    if not place.port:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(PATIENCE_S)
        try:
            line.connect(place.host)
        except BaseException:
            line.close()
            raise
        return line
    line = socket.create_connection((place.host, place.port), PATIENCE_S)
    if credentials is None:
        return line
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing of it is believed here
        context.load_cert_chain(credentials.certificate, credentials.key)
        return context.wrap_socket(line)
    except BaseException:
        line.close()
        raise
