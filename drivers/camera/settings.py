"""What a user can ask of a camera: settings in the camera's words, done by its hardware or else on this computer."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from rtpipe.types import MAX_SIDE

Side = Annotated[int, msgspec.Meta(ge=0, lt=MAX_SIDE)]
Length = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]
Micros = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class Roi(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rectangle of the sensor (px): events outside it are not sent. Pictures and events keep the sensor's size."""

    x: Side = 0
    y: Side = 0
    width: Length
    height: Length


class Frames(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The pictures of a camera that also takes some. ``exposure_us``: fixed; left out: automatic where the camera can.
    ``interval_us`` from one picture to the next."""

    enabled: bool = True
    exposure_us: Micros | None = None
    interval_us: Micros | None = None


class Camera(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings that all event cameras share. Left out: as the camera comes. What a camera's hardware cannot do is done
    on this computer, and the run's report says which; what neither can is refused."""

    serial: str = ""
    """Which one, where several are attached."""
    backend: str = "auto"
    """The SDK to open it with; ``auto``: the first that is installed and sees it."""
    load: str = ""
    """A recording (or its settings as a file): its camera settings are taken, what is written here goes before."""
    wait: bool = False
    """Wait for the camera where none is attached at the start, instead of saying so and ending."""
    raw: bool = False
    """Pass the camera's own bytes on undecoded (Prophesee): recorded as they are, decoded once for the windows."""
    biases: dict[str, int] = {}
    """By the names of the camera's own data sheet."""
    roi: Roi | None = None
    mask: list[tuple[Side, Side]] = []
    """Pixels (x, y) that are to be silent."""
    rate_limit_mev_s: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None
    """Most million events per second."""
    activity_us: Micros | None = None
    """Events without a neighbour's in this time before them are noise."""
    refractory_us: Micros | None = None
    """A pixel is silent for so long after an event."""
    trail_us: Micros | None = None
    """Events of the same polarity that follow a pixel's first within this time are its trail."""
    antiflicker_hz: tuple[float, float] | None = None
    """Suppress lights that flicker between these frequencies (hardware only)."""
    flip: Literal["", "horizontal", "vertical", "both"] = ""
    imu: bool = True
    triggers: bool = True
    """Signals at the trigger input are a stream of their own."""
    trigger_out_us: Micros | None = None
    """A pulse at the trigger output, so often (hardware only)."""
    sync: Literal["", "master", "secondary"] = ""
    """The camera's part on a synchronisation cable (hardware only)."""
    packet_us: Annotated[int, msgspec.Meta(ge=100, le=100_000)] = 2000
    """Packets of about so much camera time."""


HOST = ("roi", "mask", "rate_limit_mev_s", "activity_us", "refractory_us", "trail_us", "flip")
"""What this computer can do where the camera cannot."""

IDENTITY = ("serial", "backend", "load", "wait", "raw", "packet_us")
"""What says which camera and how it is opened, not what it is set to: fixed while it streams."""


class FrameCamera(Camera, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A camera that also takes pictures (DAVIS)."""

    frames: Frames = Frames()
    """Its pictures."""


def frames_of(settings: Camera) -> Frames | None:
    """What is asked of the pictures; None for a camera that takes none."""
    return settings.frames if isinstance(settings, FrameCamera) else None
