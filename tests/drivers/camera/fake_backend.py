"""A back end without an SDK: the camera of :mod:`tests.drivers.camera.faults` as a device, or devices."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.camera.contract import Attached, Batch, Capability, GoneError, Reading
from drivers.camera.settings import Camera as Settings
from rtpipe.errors import InputError
from rtpipe.types import Events, Frame, Imu, Trigger
from tests.drivers.camera.faults import Unplugged, camera

NAME = "fake"
TITLE = "A camera that is none"
MODELS = ("DAVIS346", "DVXplorer", "EVK4")
INSTALL = "nothing to install"

KIND = {Events: "events", Frame: "frames", Imu: "imu", Trigger: "triggers"}


def why_not() -> str:
    return ""


def attached() -> Sequence[Attached]:
    fake = camera()
    if not fake.present:
        return []
    return [Attached(NAME, fake.script.model, fake.script.serial, fake.resolution, "USB 3 (5 Gbit/s)", "1.0")]


def open(which: Attached, settings: Settings) -> Device:
    try:
        session = camera().open()
    except Unplugged:
        raise GoneError("the fake camera is not there") from None
    device = Device(which, session)
    device.apply(settings)
    return device


class Device:
    """Its hardware does ROI, which is only logged, an exposure and one bias; the rest is left to the host."""

    encoding = ""
    capabilities = (
        Capability("frames.enabled", "hardware"),
        Capability("frames.exposure_us", "hardware", "1 to 50,000 µs"),
        Capability("biases.diff_on", "hardware", "-20 to 100"),
        Capability("imu", "hardware"),
    )

    def __init__(self, which: Attached, session: int) -> None:
        self.attached = which
        self._session = session
        self._closed = False

    @property
    def kinds(self) -> Sequence[str]:
        return camera().script.kinds

    def apply(self, settings: Settings) -> None:
        for name, value in settings.biases.items():
            if name == "diff_on" and not -20 <= value <= 100:
                raise InputError(f"biases.diff_on: -20 to 100 wanted, not {value}")
        frames = getattr(settings, "frames", None)
        exposure = frames.exposure_us if frames is not None else None
        camera().log("applied", session=self._session, biases=settings.biases, exposure_us=exposure)

    def read(self, timeout_s: float) -> Batch:
        try:
            got = camera().take(self._session, timeout_s)
        except Unplugged:
            raise GoneError("the fake camera was unplugged") from None
        lost = {"ring overflow": got.lost} if got.lost else {}
        return Batch(tuple(_reading(body) for body in got.bodies), got.received_ns, lost, got.backlog)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            camera().close()


def _reading(body: Events | Frame | Imu | Trigger) -> Reading:
    if isinstance(body, Frame):
        known = body.exposure_start is not None and body.exposure_end is not None
        first, last = (body.exposure_start, body.exposure_end) if known else (body.t, body.t)
        return Reading("frames", first, last, body)
    return Reading(KIND[type(body)], int(body.t.min()), int(body.t.max()), body)
