"""Cameras by neuromorphic-drivers: USB without a maker's SDK (DAVIS346, DVXplorer, EVK3 HD, EVK4 and some others).

Prophesee sensors are always read as bytes, which rtpipe decodes itself (several times as fast, nothing left out before
the first time and row are known) or passes on. One transfer per call: so its arrival is exact, and what the ring lost
is told at its place. Configurations take effect in the SDK's own thread; one that fails there is a camera that is gone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

from drivers.backends import neuromorphic_packets as packets
from drivers.backends import neuromorphic_settings as typed
from drivers.backends import neuromorphic_words as words
from drivers.backends.neuromorphic_settings import Kind
from drivers.camera.contract import Attached, Batch, Capability, GoneError, Reading
from drivers.camera.raw_stream import MOST_BYTES, RawStream
from drivers.camera.settings import Camera
from rtpipe.errors import InputError, RtpipeError, WorldError

NAME = "neuromorphic-drivers"
TITLE = "neuromorphic-drivers (USB, no maker's SDK)"
MODELS = tuple(kind.model for kind in typed.KINDS)
INSTALL = "pip install 'rtpipe[cameras]'"

OVERFLOW, CLEARED = "ring overflow", "ring cleared"
"""Why transfers are lost: the ring was full when they came; or we threw them away to catch up: with a full ring each
transfer would stand alone between two gaps, and nothing in it could be placed in time."""
NEXT_S = 0.005
"""How long one call of the SDK waits: fixed when a camera is opened."""
PACE_S = 0.001
"""At low rates transfers come four times as often: they are taken together."""
RING_LENGTH = 1024
"""Transfers of 128 KiB that wait for us: half a second of the fastest camera. The SDK's own 4096 grow to 512 MiB."""


def why_not() -> str:
    """Imports the package."""
    try:
        import neuromorphic_drivers  # noqa: F401
    except ImportError as error:
        return "not installed" if isinstance(error, ModuleNotFoundError) else f"does not load: {words.plain(error)}"
    return ""


def attached() -> Sequence[Attached]:
    """Asks each camera for its serial: one that is in use, or may not be opened, is there with its problem."""
    sdk = _sdk()
    try:
        listed = sdk.list_devices()
    except RuntimeError as error:
        raise WorldError(words.listing(str(error))) from error
    return [words.attached(NAME, each) for each in listed]


def open(camera: Attached, settings: Camera) -> Device:
    """By serial, where the camera told one. An EVK4 takes some three seconds."""
    sdk, kind = _sdk(), typed.kind_of(camera.model)
    if settings.raw and not kind.encoding:
        raise InputError(f"raw: the bytes of a {kind.model} cannot be passed on, only those of Prophesee's sensors")
    configuration = typed.configuration(kind, sdk, settings)
    stream = RawStream(kind.encoding, kind.resolution, raw=settings.raw) if kind.encoding else None
    if stream is not None:
        stream.warm()
    try:
        device = sdk.open(
            configuration,
            iterator_timeout=NEXT_S,
            raw=stream is not None,
            serial=camera.serial or None,
            address=camera.address or None if camera.model == "Lucid Triton" and not camera.serial else None,
            ring_configuration=_ring(kind, sdk),
            iterator_maximum_raw_packets=1,
        )
    except RuntimeError as error:
        raise words.refused(camera, str(error)) from error
    except (ValueError, OverflowError) as error:  # a value that the configuration's types cannot hold
        raise InputError(f"{kind.model}: the settings cannot be said to the camera: {words.plain(error)}") from error
    opened = Device(device, sdk, kind, settings, configuration, stream)
    try:
        typed.check_biases(kind, sdk, settings, opened.bounds)
    except RtpipeError:
        opened.close()
        raise
    return opened


class Device:
    """An open camera; see :class:`drivers.camera.contract.Device`. ``stream`` None: the SDK decodes."""

    def __init__(
        self, device: Any, sdk: ModuleType, kind: Kind, settings: Camera, configuration: Any, stream: RawStream | None
    ) -> None:
        self._device, self._sdk, self._kind = device, sdk, kind
        self._configuration, self._stream = configuration, stream
        self.kinds: Sequence[str] = kind.streams
        self.encoding = kind.encoding if settings.raw else ""
        self.bounds = typed.bounds_of(device.biases_bounds())
        self.capabilities: Sequence[Capability] = typed.capabilities(kind, sdk, self.bounds, len(settings.mask))
        properties, connection = device.properties(), device.connection().value
        size = int(properties.width), int(properties.height)
        serial = str(device.serial())
        self.attached = Attached(NAME, kind.model, serial, size, connection, streams=kind.streams)
        self._closed = False
        self._wraps = None if kind.encoding else packets.MissedWraps()
        self._told = 0  # transfers that were said to be lost
        self._received_ns = 0
        self._last_call = 0.0
        self._backlog = 0
        self._waiting: deque[Batch] = deque()
        self._gone: GoneError | None = None

    def apply(self, settings: Camera) -> None:
        """Live, as far as the SDK takes a change while the camera streams; the rest is refused."""
        typed.check_biases(self._kind, self._sdk, settings, self.bounds)
        hardware = {capability.name for capability in self.capabilities}
        if len(settings.mask) > self._kind.pixels and "mask" in hardware:
            raise InputError(
                f"mask: this camera's hardware masks {self._kind.pixels} pixels at the most, not {len(settings.mask)}; "
                "given so many when it is opened, this computer does it"
            )
        wanted = typed.configuration(self._kind, self._sdk, settings)
        fixed = typed.not_live(self._kind, self._configuration, wanted)
        if fixed:
            raise InputError(f"{', '.join(fixed)}: taken only when the camera is opened: stop, and start with it")
        if wanted == self._configuration:
            return
        try:
            self._device.update_configuration(wanted)
        except RuntimeError as error:
            raise GoneError(f"{self._title} does not take settings any more: {words.plain(error)}") from error
        except (ValueError, OverflowError) as error:
            raise InputError(f"{self._title}: {words.plain(error)}") from error
        self._configuration = wanted

    def read(self, timeout_s: float) -> Batch:
        """What has come: several transfers of bytes as one batch, one of all else."""
        if self._waiting:
            return self._waiting.popleft()
        if self._gone is not None:
            raise self._gone
        deadline = time.monotonic() + timeout_s
        if not self._backlog:
            time.sleep(max(0.0, min(self._last_call + PACE_S, deadline) - time.monotonic()))
        while True:
            status, packet = self._next()
            if status.ring is not None and packet is not None:
                break
            if time.monotonic() >= deadline:
                return Batch(received_ns=time.monotonic_ns())
        if self._stream is None:
            self._decoded(status, packet)
        else:
            self._bytes(self._stream, status, packet)
        return self._waiting.popleft()

    def close(self) -> None:
        """Ends its transfers; the SDK's close is called once."""
        if not self._closed:
            self._closed = True
            with suppress(RuntimeError):
                self._device.close()

    @property
    def _title(self) -> str:
        return f"{self._kind.model} {self.attached.serial}".strip()

    def _next(self) -> tuple[Any, Any]:
        if self._closed:
            raise GoneError(f"{self._title} is closed")
        try:
            status, packet = next(self._device)
        except (RuntimeError, StopIteration) as error:
            raise GoneError(
                f"{self._title} was unplugged or reset itself: {words.plain(error) or 'no more data'}"
            ) from error
        self._last_call = time.monotonic()
        self._backlog = 0 if status.ring is None else int(status.ring.backlog)
        return status, packet

    def _arrival(self, status: Any) -> int:
        """CLOCK_MONOTONIC of the transfer's arrival; the SDK tells it by the wall clock, which may be set meanwhile."""
        now = time.monotonic_ns()
        ago = int((status.system_time - status.ring.system_time) * 1e9)
        return max(self._received_ns, now - max(0, ago)) if ago < 60_000_000_000 else now

    def _lost(self, ring: Any, gap: bool) -> dict[str, int]:
        """Transfers lost in front of this one. The ring counts them when they are lost, long before we come to the
        place; where nothing marks the place, it is where all that waited has been read."""
        missing = int(ring.dropped_packets) - self._told
        if missing <= 0 or not (gap or not self._backlog):
            return {}
        self._told += missing
        return {OVERFLOW: missing}

    def _decoded(self, status: Any, packet: Any) -> None:
        received, until = self._arrival(status), int(status.ring.current_t)
        wraps = self._wraps
        assert wraps is not None
        before = wraps.lag_us
        found = packets.parts(packet, until, before)
        gap = any(after_loss for after_loss, _ in found)
        lost = self._lost(status.ring, gap)
        if lost:
            wraps.lost(until, received // 1000)
            if wraps.lag_us != before:
                found = self._moved(packet, until, before, wraps.lag_us)
        wraps.arrived(until, received // 1000)
        self._received_ns = received
        for after_loss, readings in found:
            told = lost if after_loss or not gap else {}
            lost = {} if told else lost
            self._waiting.append(Batch(readings, received, told, self._backlog))

    @staticmethod
    def _moved(packet: Any, until: int, before: int, after: int) -> list[packets.Part]:
        """Only what came after the loss is later by the wraps that were in it."""
        early, late = packets.parts(packet, until, before), packets.parts(packet, until, after)
        cut = next((i for i, (after_loss, _) in enumerate(early) if after_loss), 0)
        return [*early[:cut], *late[cut:]]

    def _bytes(self, stream: RawStream, status: Any, data: bytes) -> None:
        """Push transfers until nothing waits, or enough came for one batch; a loss begins a batch of its own."""
        readings: list[Reading] = []
        refused: dict[str, int] = {}
        lost: dict[str, int] = {}
        size = 0
        while True:
            received = self._arrival(status)
            gap = bool(getattr(status.ring, "overflow_indices", None))
            missing = self._lost(status.ring, gap)
            if gap or missing:
                status, data = self._catch_up(status, data, missing)
                received = self._arrival(status)
                if readings or refused:
                    self._waiting.append(Batch(tuple(readings), self._received_ns, lost, self._backlog, refused))
                elapsed = (received - self._received_ns) // 1000 if self._received_ns else None
                readings, refused, lost = [], dict(stream.gap(elapsed).refused), missing
            self._received_ns = received
            taken = stream.push(data)
            readings += taken.readings
            for reason, n in taken.refused.items():
                refused[reason] = refused.get(reason, 0) + n
            size += len(data)
            if not self._backlog or size >= MOST_BYTES:
                break
            try:
                status, following = self._next()
            except GoneError as error:  # what came before it is handed over first
                self._gone = error
                break
            if status.ring is None or following is None:
                break
            data = following
        self._waiting.append(Batch(tuple(readings), self._received_ns, lost, self._backlog, refused))

    def _catch_up(self, status: Any, data: bytes, lost: dict[str, int]) -> tuple[Any, bytes]:
        """Behind a loss: throw away what waits until the ring is three quarters free, counted in ``lost``; the transfer
        to go on with."""
        if self._backlog <= RING_LENGTH // 2:
            return status, data
        thrown = 0
        while self._backlog > RING_LENGTH // 4 and thrown < RING_LENGTH:  # a hopeless rate must not hold us here
            try:
                following, more = self._next()
            except GoneError as error:
                self._gone = error
                break
            if following.ring is None or more is None:
                break
            status, data = following, more
            thrown += 1
            for reason, n in self._lost(status.ring, True).items():
                lost[reason] = lost.get(reason, 0) + n
        lost[CLEARED] = lost.get(CLEARED, 0) + thrown
        return status, data


def _sdk() -> ModuleType:
    """The package. Raises ``WorldError`` where it is not to be had."""
    try:
        import neuromorphic_drivers
    except ImportError as error:
        raise WorldError(f"neuromorphic-drivers {why_not()}: {INSTALL}") from error
    found: ModuleType = neuromorphic_drivers
    return found


def _ring(kind: Kind, sdk: ModuleType) -> Any:
    made = getattr(sdk, kind.module).RingConfiguration()
    made.ring_length = max(made.parallel_submissions + 1, min(made.ring_length, RING_LENGTH))
    return made if kind.model != "Lucid Triton" else None
