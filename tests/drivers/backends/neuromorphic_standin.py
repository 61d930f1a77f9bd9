"""neuromorphic-drivers' compiled half, played by the camera of :mod:`tests.drivers.camera.faults`. The package's own
Python above it (configurations, their serialization, status, masks) runs as it is.

:func:`install` puts it in the place of ``neuromorphic_drivers.neuromorphic_drivers``; its class, methods and argument
names are held to the installed package's by ``test_neuromorphic_api.py``.
"""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from rtpipe.encodings.evt3 import Encoder
from rtpipe.errors import InputError
from rtpipe.formats.later import later
from rtpipe.types import Events, Frame, Imu, Trigger
from tests.drivers.camera import faults

PACKAGE, EXTENSION = "neuromorphic_drivers", "neuromorphic_drivers.neuromorphic_drivers"
POLARITY = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])
IMU = np.dtype(
    [("t", "<u8"), *((f"{what}_{axis}", "<f4") for what in ("accelerometer", "gyroscope") for axis in "xyz"),
     ("temperature", "<f4")]
)  # fmt: skip
TRIGGER = np.dtype([("t", "<u8"), ("id", "u1"), ("rising", "u1")])

NAMES = {
    "DAVIS346": ("iniVation DAVIS 346", "inivation_davis346"),
    "DVXplorer": ("iniVation DVXplorer", "inivation_dvxplorer"),
    "EVK3 HD": ("Prophesee EVK3 HD", "prophesee_evk3_hd"),
    "EVK4": ("Prophesee EVK4", "prophesee_evk4"),
}
BOUNDS = {"inivation_davis346": (0, 2040), "prophesee_evk3_hd": (0, 255), "prophesee_evk4": (-100, 140)}
DVXPLORER_BOUNDS = {"amp": 8, "on": 17, "off": 17, "sf": 3, "log_d": 2}

camera: Callable[[], faults.Camera] = faults.camera
"""Whose camera is played; a test in this process puts its own."""
opening_fails = ""
"""What opening raises, if anything."""
listing_fails = ""
listed_error: str | None = None
"""What is listed as wrong with the camera."""


def list_devices() -> list[tuple[str, str, str, str | None, str | None]]:
    if listing_fails:
        raise RuntimeError(listing_fails)
    if not camera().present:
        return []
    script = camera().script
    serial = None if listed_error else script.serial
    return [(NAMES[script.model][0], "USB 3.0 SuperSpeed (5.0 Gb/s)", "2:7", serial, listed_error)]


def polarity(events: Events) -> np.ndarray:
    made = np.empty(len(events), POLARITY)
    made["t"], made["x"], made["y"], made["on"] = events.t.view(np.uint64), events.x, events.y, events.p
    return made


def imu(samples: Imu) -> np.ndarray:
    made = np.empty(len(samples), IMU)
    made["t"], made["temperature"] = samples.t.astype(np.uint64), samples.temperature
    for i, axis in enumerate("xyz"):
        made[f"accelerometer_{axis}"], made[f"gyroscope_{axis}"] = samples.acceleration[:, i], samples.rotation[:, i]
    return made


def triggers(signals: Trigger) -> np.ndarray:
    made = np.empty(len(signals), TRIGGER)
    made["t"], made["id"], made["rising"] = signals.t.astype(np.uint64), signals.channel, signals.edge
    return made


def frame(picture: Frame, package: Any) -> Any:
    """With the sensor's 16-bit pixels: what is below the upper eight bits is not in the recording."""
    made = package.packet.Frame()
    start, end = picture.exposure_start, picture.exposure_end
    made.exposure_start_t, made.exposure_end_t = start, end
    made.start_t = (picture.t if start is None else start) - 100
    made.t = (picture.t if end is None else end) + 100
    made.pixels = picture.image.astype(np.uint16) << 8 | 0x40
    return made


class Device:
    """As the extension's: what it gives is a tuple that the package's own ``Device`` makes a status of."""

    def __new__(
        cls,
        raw: bool,
        iterator_maximum_raw_packets: int,
        device_type: str | None,
        configuration: bytes | None,
        serial: str | None,
        address: str | None,
        ring_configuration: bytes | None,
        iterator_timeout: float | None,
    ) -> Device:
        if opening_fails:
            raise RuntimeError(opening_fails)
        self = super().__new__(cls)
        played = camera()
        if not played.present or (serial is not None and serial != played.script.serial):
            raise RuntimeError("device with serial not found")
        self._camera, self._raw, self._type, self._timeout = played, raw, device_type, iterator_timeout or 0.1
        self._session: int | None = played.open()
        self._dropped = 0
        self._encoder: Encoder | None = None
        self._most = iterator_maximum_raw_packets
        self._note("configured", configuration)
        played.log("ring", bytes=(ring_configuration or b"").hex())
        return self

    def _note(self, what: str, configuration: bytes | None) -> None:
        package = sys.modules[PACKAGE]
        name = package.Name(NAMES[self._camera.script.model][0])
        assert configuration is not None
        assert getattr(package, self._type).Configuration.type() == self._type
        unions = importlib.import_module(f"{PACKAGE}.generated.unions")
        made = unions.deserialize_configuration(name, configuration)
        self._camera.log(what, session=self._session, text=re.sub(r"np\.\w+\(([^)]*)\)", r"\1", repr(made)))

    def _open(self) -> int:
        if self._session is None:
            raise RuntimeError("__next__ called after __exit__")
        return self._session

    def __enter__(self) -> Device:
        return self

    def __exit__(self, _exception_type: Any, _value: Any, _traceback: Any) -> None:
        if self._session is not None:
            self._session = None
            self._camera.close()

    def __iter__(self) -> Device:
        return self

    def __next__(self) -> tuple[float, Any, Any]:
        session = self._open()
        try:
            got = self._camera.take(session, self._timeout)
        except faults.Unplugged:
            raise RuntimeError("Usb(Rusb(NoDevice))") from None
        now = time.time()
        if not got.until:
            return now, None, None
        arrived = now - (time.monotonic_ns() - got.received_ns) / 1e9
        packet = self._bytes(got) if self._raw else self._packet(got)
        self._dropped += got.lost
        overflow = [0] if got.lost else []
        ring = (arrived, got.backlog, 1, False, overflow, None if self._raw else got.until, self._dropped)
        return now, ring, packet

    def _bytes(self, got: faults.Transfer) -> bytes:
        """EVT3, as the camera goes on saying only what has changed: what was lost was said too."""
        span = self._camera.script.transfer_us
        if got.lost:
            at, by = self._camera._at, got.until - self._camera._at
            gone = self._camera.seen(at - (got.lost + 1) * span, at - span)
            self._encode([later(body, by) for body in gone])
        return self._encode(got.bodies)

    def _encode(self, bodies: Any) -> bytes:
        events = Events.concatenate([body for body in bodies if isinstance(body, Events)])
        signals = [body for body in bodies if isinstance(body, Trigger)]
        data = b""
        falls = np.flatnonzero(np.diff(events.t) < 0) + 1
        for part in np.split(np.arange(len(events)), falls):
            if len(part):
                data += self._said(events[int(part[0]) : int(part[-1]) + 1], None)
        return data + b"".join(self._said(Events.empty(), body) for body in signals)

    def _said(self, events: Events, signals: Trigger | None) -> bytes:
        first = int(events.t[0]) if len(events) else int(signals.t[0]) if signals is not None else 0
        try:
            assert self._encoder is not None
            return self._encoder.encode(events, signals).tobytes()
        except (InputError, AssertionError):
            self._encoder = Encoder(first >> 24 << 24)
            return self._encoder.encode(events, signals).tobytes()

    def _packet(self, got: faults.Transfer) -> Any:
        package = sys.modules[PACKAGE]
        davis = self._type == "inivation_davis346"
        made = package.packet.Davis346Packet() if davis else package.packet.DvxplorerPacket()
        arrays: dict[str, Any] = {"polarity_events": None, "imu_events": None, "trigger_events": None}
        for kind, name, convert in (
            (Events, "polarity_events", polarity),
            (Imu, "imu_events", imu),
            (Trigger, "trigger_events", triggers),
        ):
            found = [convert(body) for body in got.bodies if isinstance(body, kind)]
            arrays[name] = np.concatenate(found) if found else None
        if davis:
            arrays["frames"] = [frame(body, package) for body in got.bodies if isinstance(body, Frame)]
        for name, array in arrays.items():
            setattr(made, name, array)
            known = array is not None and len(array) > 0
            setattr(made, f"{name}_overflow_indices", np.zeros(1, np.uint64) if got.lost and known else None)
        return made

    def backlog(self) -> int:
        return 0

    def clear_backlog(self, until: int) -> None:
        self._open()

    def overflow(self) -> bool:
        return self._dropped > 0

    def name(self) -> str:
        return NAMES[self._camera.script.model][0]

    def serial(self) -> str:
        return self._camera.script.serial

    def address(self) -> str:
        return "2:7"

    def connection(self) -> str:
        return "USB 3.0 SuperSpeed (5.0 Gb/s)"

    def biases_bounds(self) -> bytes:
        package = sys.modules[PACKAGE]
        module = getattr(package, self._type)
        names = list(module.BiasesBounds.__dataclass_fields__)
        pairs = [BOUNDS.get(self._type, (0, DVXPLORER_BOUNDS.get(name, 0))) for name in names]
        bounds = module.BiasesBounds(**{n: module.Bounds(*pair) for n, pair in zip(names, pairs, strict=True)})
        made: bytes = package.serde.bincode.serialize(bounds, module.BiasesBounds)
        return made

    def update_configuration(self, device_type: str, configuration: bytes) -> None:
        self._open()
        assert device_type == self._type
        self._note("updated", configuration)


def install() -> ModuleType:
    """The package, imported anew with this module's names in the place of its compiled half."""
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
        del sys.modules[name]
    extension = ModuleType(EXTENSION)
    extension.Device, extension.list_devices = Device, list_devices  # type: ignore[attr-defined]
    sys.modules[EXTENSION] = extension
    return importlib.import_module(PACKAGE)


@contextmanager
def standing_in(played: faults.Camera) -> Iterator[ModuleType]:
    """For a test in this process: the package plays ``played``; afterwards everything is as it was."""
    global camera, opening_fails, listing_fails, listed_error
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == PACKAGE}
    camera = lambda: played  # noqa: E731
    try:
        yield install()
    finally:
        camera, opening_fails, listing_fails, listed_error = faults.camera, "", "", None
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
        sys.modules.update(kept)
