"""Cameras by Prophesee (and others' with its sensors) through the Metavision SDK or OpenEB, where the system has it.

It comes from the maker's packages or is compiled, into the system's Python: a virtual environment sees it with
``--system-site-packages`` (docs/cameras.md). Written by the documented Python bindings of its HAL, 4.x and 5.x; nothing
of it has run against the SDK: it is not to be had here. EVK3 HD and EVK4 need none of it (neuromorphic-drivers).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from drivers.backends import metavision_packets as packets
from drivers.backends import metavision_settings
from drivers.camera.contract import Attached, Batch, Capability, GoneError
from drivers.camera.raw_stream import RawStream
from drivers.camera.settings import Camera
from rtpipe.errors import InputError, RtpipeError, WorldError
from rtpipe.types import Events, Resolution, Trigger

NAME = "metavision"
TITLE = "Metavision SDK or OpenEB (Prophesee)"
MODELS = ("EVK4", "EVK3 HD", "EVK3 VGA", "EVK3 320", "EVK2 HD", packets.ANY)
INSTALL = "install OpenEB or the Metavision SDK on the system, then: python3 -m venv --system-site-packages .venv"

POLL_S = 0.0005
"""Between two looks for a buffer: the SDK's own waiting holds Python's lock."""


def why_not() -> str:
    """Imports the SDK."""
    try:
        import metavision_hal  # noqa: F401
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "metavision_hal":
            return "not installed, or not visible from this virtual environment"
        return f"does not load: {' '.join(str(error).split())[:200]}"
    except Exception as error:  # a plugin of the SDK may raise anything
        return f"does not load: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def attached() -> Sequence[Attached]:
    """Those on this machine (none on the network: looking for them takes long)."""
    hal = _hal()
    discovery = hal.DeviceDiscovery
    listed = getattr(discovery, "list_local", discovery.list)
    try:
        found = listed()
    except RuntimeError as error:
        raise WorldError(f"Metavision cannot look for cameras: {_words(error)}") from error
    cameras = []
    for text in found:
        model, serial = packets.source(str(text))
        cameras.append(Attached(NAME, model, serial, streams=("events", "triggers"), address=str(text)))
    return cameras


def open(camera: Attached, settings: Camera) -> Device:
    """By the text that the SDK lists it by."""
    hal = _hal()
    try:
        device = hal.DeviceDiscovery.open(camera.address or camera.serial)
    except RuntimeError as error:
        if camera.address not in {each.address for each in attached()}:
            raise GoneError(f"{camera.model} {camera.serial} is not there any more") from error
        raise WorldError(
            f"{camera.model} {camera.serial} cannot be opened (in use, or no permission: rtpipe doctor "
            f"--install-udev): {_words(error)}"
        ) from error
    if device is None:
        raise GoneError(f"{camera.model} {camera.serial} is not there any more")
    opened = Device(hal, device, camera)
    try:
        opened.start(settings)
    except RtpipeError:
        opened.close()
        raise
    return opened


class Device:
    """An open camera; see :class:`drivers.camera.contract.Device`. Where the bindings give the bytes (4.x: as an array)
    they are decoded by rtpipe or passed on; where they are opaque (5.x) the SDK decodes. It tells of no losses."""

    def __init__(self, hal: Any, device: Any, camera: Attached) -> None:
        self._hal, self._device = hal, device
        self._stream = device.get_i_events_stream()
        self._decoder = device.get_i_events_stream_decoder()
        self._facilities = metavision_settings.Facilities.of(hal, device)
        self._settings: Camera | None = None
        self._events: list[Events] = []
        self._triggers: list[Trigger] = []
        self._kinds: tuple[str, ...] = ("events",)
        self._running = False
        self._bytes: RawStream | None = None
        self._encoding = ""
        self._attached = self._described(camera)

    def _described(self, camera: Attached) -> Attached:
        identification, geometry = self._device.get_i_hw_identification(), self._device.get_i_geometry()
        information = {str(key): str(value) for key, value in identification.get_system_info().items()}
        sensor = str(getattr(identification.get_sensor_info(), "name", ""))
        return replace(
            camera,
            model=packets.model(camera.model, sensor, information),
            serial=str(identification.get_serial()) or camera.serial,
            resolution=(int(geometry.get_width()), int(geometry.get_height())),
            connection=packets.connection(information),
            firmware=packets.firmware(information),
        )

    def start(self, settings: Camera) -> None:
        """Configure it and let it stream. Raises ``InputError``, ``GoneError``."""
        wants_triggers = settings.triggers and self._facilities.trigger_in is not None
        self._kinds = ("events", "triggers") if wants_triggers else ("events",)
        self._make_decoder(settings.raw, wants_triggers)
        self.apply(settings)
        try:
            self._stream.start()
        except RuntimeError as error:
            raise GoneError(f"{self._attached.model} does not start: {_words(error)}") from error
        self._running = True

    def _make_decoder(self, raw: bool, triggers: bool) -> None:
        identification = self._device.get_i_hw_identification()
        encoding = packets.ENCODINGS.get(
            str(identification.get_current_data_encoding_format()).split(";")[0].upper(), ""
        )
        opaque = any(hasattr(self._hal, name) for name in ("RawDataBuffer", "RawBuffer"))
        if encoding and not opaque:
            self._bytes = RawStream(encoding, self.resolution, raw=raw, triggers=triggers)
            self._bytes.warm()
            self._encoding = encoding if raw else ""
            return
        if raw:
            raise InputError(
                f"raw: this version of {NAME} does not give the camera's bytes in one piece; raw: false, or backend: "
                "neuromorphic-drivers for an EVK3 HD or EVK4"
            )
        decoder = self._device.get_i_event_cd_decoder()
        decoder.add_event_buffer_callback(lambda array: self._events.append(packets.events(array)))
        signals = self._device.get_i_event_ext_trigger_decoder()
        if signals is not None and triggers:
            signals.add_event_buffer_callback(lambda array: self._triggers.append(packets.triggers(array)))

    @property
    def encoding(self) -> str:
        """Of the bytes that it passes on, ``""`` where it gives events."""
        return self._encoding

    @property
    def attached(self) -> Attached:
        """With what the open camera tells."""
        return self._attached

    @property
    def resolution(self) -> Resolution:
        """Of its sensor."""
        assert self._attached.resolution is not None
        return self._attached.resolution

    @property
    def kinds(self) -> Sequence[str]:
        """Events, and triggers where it has an input."""
        return self._kinds

    @property
    def capabilities(self) -> Sequence[Capability]:
        """By the facilities that the SDK has for it."""
        return metavision_settings.capabilities(self._facilities)

    def apply(self, settings: Camera) -> None:
        """All values are checked first; what the SDK then refuses all the same is undone."""
        before = self._settings
        metavision_settings.check(self._facilities, settings, self.resolution)
        for name, step in metavision_settings.steps(self._facilities, settings, before):
            try:
                refused = "" if step() is not False else "the camera refuses it"
            except (RuntimeError, ValueError, TypeError) as error:
                refused = _words(error)
            if refused:
                self._undo(settings, before)
                raise InputError(f"{name}: {refused}")
        self._settings = settings

    def _undo(self, settings: Camera, before: Camera | None) -> None:
        for _, step in metavision_settings.steps(self._facilities, before or Camera(), settings):
            with contextlib.suppress(RuntimeError, ValueError, TypeError):
                step()

    def read(self, timeout_s: float) -> Batch:
        """One buffer of the SDK's."""
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                state = self._stream.poll_buffer()
                if state < 0:
                    raise GoneError(f"{self._attached.model} {self._attached.serial} stopped streaming")
                if state > 0:
                    return self._take(time.monotonic_ns())
                if time.monotonic() >= deadline:
                    return Batch()
                time.sleep(POLL_S)
        except RuntimeError as error:
            raise GoneError(f"{self._attached.model} {self._attached.serial}: {_words(error)}") from error

    def _take(self, received_ns: int) -> Batch:
        self._events.clear()
        self._triggers.clear()
        data = self._stream.get_latest_raw_data()
        if data is None:
            return Batch()
        if self._bytes is not None:
            taken = self._bytes.push(packets.copied(data))
            return Batch(taken.readings, received_ns, refused=taken.refused)
        self._decoder.decode(data)  # calls back
        until = int(self._decoder.get_last_timestamp())
        readings = packets.readings(self._events, self._triggers, until if until >= 0 else None, self._kinds)
        return Batch(readings, received_ns)

    def close(self) -> None:
        """Stops the stream; the SDK lets the camera go with the last reference."""
        if self._running:
            self._running = False
            with contextlib.suppress(RuntimeError):
                self._stream.stop()
        self._device = self._stream = self._decoder = None
        self._facilities = metavision_settings.Facilities(None)


def _hal() -> Any:
    trouble = why_not()
    if trouble:
        raise WorldError(f"Metavision: {trouble}; {INSTALL}")
    import metavision_hal

    return metavision_hal


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
