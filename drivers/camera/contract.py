"""The contract between the live driver and the back ends: what is attached, what a device gives, what it can do.

A back end is a pair: device I/O here at the edge, and pure functions (in a module of their own) that turn what the SDK
hands over (objects or bytes) into :class:`Reading`. Tests hold the second half to real recordings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from drivers.camera.settings import Camera
from rtpipe.errors import WorldError
from rtpipe.types import Events, Frame, Imu, RawEvents, Resolution, Trigger

Where: TypeAlias = Literal["hardware", "host"]
"""Who does what a setting asks for: the camera itself, or this computer."""


class GoneError(WorldError):
    """The camera was unplugged, reset itself or stopped answering: the driver closes the device and waits for it."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A camera that a back end sees. Empty strings and None: not known without opening it. ``problem``: why it cannot
    be opened (permission, in use by another process, firmware too old), with what to do; ``""`` if nothing is known to
    be wrong. ``address``: whatever the back end finds it by."""

    backend: str
    model: str
    serial: str = ""
    resolution: Resolution | None = None
    connection: str = ""
    firmware: str = ""
    streams: tuple[str, ...] = ("events",)
    address: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Capability:
    """Something a setting of :class:`drivers.camera.settings.Camera` can ask for: ``name`` is the setting's
    (``"roi"``, ``"frames.exposure_us"``, ``"biases.diff_on"``), ``where`` it is done, ``says`` its range or what the
    device makes of it, in words."""

    name: str
    where: Where
    says: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One thing the camera sent. ``kind`` is a stream's (``"events"``, ``"frames"``, ``"imu"``, ``"triggers"``);
    ``t_first``, ``t_last`` µs of the camera's own clock, as far as the SDK unwraps it; nothing later of this kind is
    promised to be later: the driver finds jumps. ``body`` None: nothing of this kind happened until ``t_last``.
    Its arrays are the reading's own: no SDK buffer that is used again."""

    kind: str
    t_first: int
    t_last: int
    body: Events | RawEvents | Frame | Imu | Trigger | None


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one read gave. ``received_ns`` CLOCK_MONOTONIC when it reached this host (as exactly as the SDK tells).
    ``lost`` what the SDK knows to be missing in front of it, by reason (``"ring overflow": 3`` transfers): how many
    events were in it nobody knows. ``refused`` events that came and are not among the readings, by reason, beyond those
    in :class:`RawEvents` that whoever decodes them will refuse (``"after a gap": 12``: their time or row was in what
    was lost). ``backlog`` transfers that still wait in the SDK."""

    readings: Sequence[Reading] = ()
    received_ns: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    backlog: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)


class Device(Protocol):
    """An open camera. Used by one thread. Every call may raise :class:`GoneError`."""

    @property
    def attached(self) -> Attached:
        """Which camera this is, now with everything known."""
        ...

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of readings it will give, as configured."""
        ...

    @property
    def encoding(self) -> str:
        """The encoding of its :class:`RawEvents`, ``""`` where it gives decoded events."""
        ...

    @property
    def capabilities(self) -> Sequence[Capability]:
        """What its hardware does. What is not named here is done on the host, or refused, by the driver."""
        ...

    def apply(self, settings: Camera) -> None:
        """Bring the device to these settings, as far as they are among its capabilities; called at the start and at
        each change while it streams. Raises ``InputError`` for a value that the device refuses, in plain words with
        the range; it is then as it was."""
        ...

    def read(self, timeout_s: float) -> Batch:
        """What has come, waiting at most about ``timeout_s``. An empty batch: nothing yet."""
        ...

    def close(self) -> None:
        """Let it go; may be called twice, and after :class:`GoneError`."""
        ...


class Backend(Protocol):
    """A module of ``drivers/backends/`` has these."""

    NAME: str
    """As in settings: ``"dv-processing"``."""
    TITLE: str
    MODELS: Sequence[str]
    """The models it can open, by the names of :data:`drivers.camera.models.MODELS`."""
    INSTALL: str
    """The command, or in words what to do, to have it."""

    @staticmethod
    def why_not() -> str:
        """Why it cannot be used on this machine (not installed, cannot be loaded), ``""`` if it can. Imports it."""
        ...

    @staticmethod
    def attached() -> Sequence[Attached]:
        """The cameras that it sees. Blocks for up to a second; raises ``WorldError`` where USB cannot be asked."""
        ...

    @staticmethod
    def open(camera: Attached, settings: Camera) -> Device:
        """Open a camera that :meth:`attached` named, configured and streaming. Raises ``GoneError`` where it is not
        there any more, ``WorldError`` where it is refused (permission, in use), ``InputError`` for settings."""
        ...
