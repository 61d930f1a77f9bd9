"""iniVation's cameras through dv-processing: DAVIS346, DVXplorer, DVXplorer Mini, DVS128.

The SDK has a thread of its own at the USB and queues what it parsed; it does not tell what it lost. Its calls hold
Python's lock, and none of them waits. Times are the camera's clock, set to the computer's (Unix µs) when the camera was
opened: they do not wrap, and begin anew with each opening.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from drivers.backends import dv_objects
from drivers.backends.dv_objects import words
from drivers.backends.dv_settings import Controls
from drivers.camera.contract import Attached, Batch, Capability, GoneError, Reading
from drivers.camera.settings import Camera, frames_of
from rtpipe.errors import InputError, RtpipeError, WorldError
from rtpipe.machine.usb import speed_words
from rtpipe.types import Resolution

NAME = "dv-processing"
TITLE = "dv-processing (iniVation)"
MODELS = ("DAVIS346", "DVXplorer", "DVXplorer Mini", "DVS128")
INSTALL = "pip install 'rtpipe[cameras]'"

POLL_S = 0.001
"""Between two looks: the SDK has no call that waits."""

_CLASSES = {
    "DAVIS": ("DAVIS346", "DAVIS"),
    "DVXPLORER": ("DVXplorer", "DVXplorer"),
    "DVXPLORER_M": ("DVXplorer Mini", "DVXplorerM"),
    "DVS128": ("DVS128", "DVS128"),
}
"""By the SDK's model: its name here and its class there. Others are opened by the SDK's own choice of class."""
_SPEEDS = {"LOW": 1, "FULL": 12, "HIGH": 480, "SUPER": 5000, "SUPER_PLUS": 10000, "SUPER_PLUS_X2": 20000}
"""Mbit/s by the end of the SDK's name."""
_STREAMS = {"events": "Event", "frames": "Frame", "imu": "Imu", "triggers": "Trigger"}


def why_not() -> str:
    """Imports the SDK."""
    try:
        import dv_processing as dv
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "dv_processing":
            return "not installed"
        return f"does not load: {words(error)}"
    if not hasattr(dv.io, "camera"):
        return f"version {getattr(dv, '__version__', '1')} is too old: 2.0 is needed"
    return ""


def attached() -> Sequence[Attached]:
    """What the SDK finds on the USB, without opening it: a DAVIS that is none of 346x260 shows only when it is open."""
    return [_described(descriptor) for descriptor in _discovered(_sdk())]


def open(camera: Attached, settings: Camera) -> Device:
    """By its descriptor, never by its place in the list. What the SDK prints beyond errors is silenced."""
    if settings.raw:
        raise InputError(f"raw: {NAME} hands over decoded events; leave it out, or use a back end that has the bytes")
    sdk = _sdk()
    descriptor = next((each for each in _discovered(sdk) if _described(each).address == camera.address), None)
    if descriptor is None:
        raise GoneError(f"{camera.model} {camera.serial} is not there any more")
    quiet = sdk.USBDevice.LogLevel.LVL_ERROR
    _, kind = _CLASSES.get(descriptor.cameraModel.name, ("", ""))
    try:
        device = getattr(sdk, kind)(descriptor, quiet) if kind else sdk.open(descriptor, quiet)
    except (RuntimeError, IndexError) as error:
        raise _refused(camera, error) from error
    opened = Device(device, camera)
    try:
        opened.start(settings)
    except RtpipeError:
        opened.close()
        raise
    return opened


class Device:
    """An open camera, the SDK's object; see :class:`drivers.camera.contract.Device`."""

    encoding = ""

    def __init__(self, source: Any, camera: Attached) -> None:
        self._source = source
        self._kinds: tuple[str, ...] = ()
        self._attached = camera
        self._controls: Controls | None = None

    def start(self, settings: Camera) -> None:
        """Ask what it is and can do, and bring it to ``settings``. Raises ``InputError``, ``GoneError``."""
        try:
            self._attached = _known(self._source, self._attached)
            self._controls = Controls(self._source)
            self._source.setTimeInterval(timedelta(microseconds=settings.packet_us))
        except RuntimeError as error:
            raise self._gone(error) from error
        self.apply(settings)
        frames = frames_of(settings)
        wanted = {"imu": settings.imu, "triggers": settings.triggers, "frames": frames is not None and frames.enabled}
        self._kinds = tuple(kind for kind in self._attached.streams if wanted.get(kind, True))

    @property
    def attached(self) -> Attached:
        """With what the open camera tells."""
        return self._attached

    @property
    def resolution(self) -> Resolution | None:
        """Of its sensor."""
        return self._attached.resolution

    @property
    def kinds(self) -> Sequence[str]:
        """What it has and was not told to leave out."""
        return self._kinds

    @property
    def capabilities(self) -> Sequence[Capability]:
        """What the open camera's class and logic have."""
        return () if self._controls is None else self._controls.capabilities

    def apply(self, settings: Camera) -> None:
        """See :class:`drivers.camera.contract.Device`."""
        assert self._controls is not None
        try:
            self._controls.apply(settings)
        except InputError as error:
            if not self._runs():
                raise self._gone(error) from error
            raise

    def read(self, timeout_s: float) -> Batch:
        """The next thing in the SDK's queue, one at a time: whatever the call after it does, this one is safe."""
        deadline = time.monotonic() + timeout_s
        while True:
            reading, more = self._next()
            now = time.monotonic()
            if reading is not None or now >= deadline:
                return Batch(() if reading is None else (reading,), time.monotonic_ns())
            if not more:
                time.sleep(min(POLL_S, deadline - now))

    def close(self) -> None:
        """The SDK closes a camera when nobody holds it any more."""
        self._source = None
        self._controls = None

    def _next(self) -> tuple[Reading | None, bool]:
        """What the queue had, None where it is nothing of ours, and whether it had anything."""
        if self._source is None:
            raise GoneError(f"{self._attached.model} is closed")
        try:
            data = self._source.readNext()
            reading = dv_objects.reading(data, self._attached.resolution)
        except RuntimeError as error:
            raise self._gone(error) from error
        more = type(data).__name__ not in ("OutputFlag", "NoneType")
        if not more and not self._runs():
            raise self._gone(None)
        return reading, more

    def _runs(self) -> bool:
        """Whether it is still there. ``isRunning()`` alone is also false where one of its streams is switched off."""
        try:
            return bool(self._source.isRunning() or self._source.isRunningAny())
        except (RuntimeError, IndexError, AttributeError):
            return False

    def _gone(self, error: BaseException | None) -> GoneError:
        said = f": {words(error)}" if error is not None else ""
        return GoneError(f"{self._attached.model} {self._attached.serial} was unplugged, or stopped answering{said}")


def _sdk() -> Any:
    """The SDK's module of cameras. Raises ``WorldError`` where it cannot be used."""
    reason = why_not()
    if reason:
        raise WorldError(f"{NAME}: {reason} ({INSTALL})")
    import dv_processing as dv

    return dv.io.camera


def _discovered(sdk: Any) -> list[Any]:
    try:
        return list(sdk.discover())
    except (RuntimeError, IndexError) as error:
        raise WorldError(f"{NAME} cannot ask the USB for cameras: {words(error)}") from error


def _described(descriptor: Any) -> Attached:
    kind = str(descriptor.cameraModel.name)
    model, _ = _CLASSES.get(kind, (kind.replace("_", " "), ""))
    streams = ("events", "frames", "imu", "triggers") if kind.startswith("DAVIS") else ("events",)
    return Attached(
        NAME,
        model,
        str(descriptor.serialNumber),
        firmware=str(descriptor.firmwareVersion),
        streams=streams,
        address=f"{descriptor.busNumber}:{descriptor.devAddress}",
    )


def _known(source: Any, camera: Attached) -> Attached:
    """With what only the open camera tells."""
    size = source.getEventResolution()
    streams = tuple(kind for kind, name in _STREAMS.items() if getattr(source, f"is{name}StreamAvailable")())
    firmware = str(source.getFirmwareVersion())
    if hasattr(source, "getLogicVersion"):
        firmware += f", logic {source.getLogicVersion()}.{source.getLogicPatchLevel()}"
    speed = str(source.getConnectionSpeed().name).removeprefix("LIBUSB_SPEED_")
    return replace(
        camera,
        resolution=None if size is None else (int(size[0]), int(size[1])),
        connection=speed_words(_SPEEDS.get(speed, 0)),
        firmware=firmware,
        streams=streams,
    )


def _refused(camera: Attached, error: BaseException) -> RtpipeError:
    """Why a camera cannot be opened, in words that say what to do."""
    name, said = f"{camera.model} {camera.serial}".strip(), words(error)
    if isinstance(error, IndexError) or "could not find" in said.lower() or "serial number" in said:
        return GoneError(f"{name} is not there any more: {said}")
    if "already in use" in said or "permission" in said:
        return WorldError(f"{name} cannot be opened: another program has it, or no permission (rtpipe doctor "
                          f"--install-udev): {said}")  # fmt: skip
    return WorldError(f"{name} cannot be opened: {said}")
