"""Settings of an iniVation camera through dv-processing: what an open camera can do, checked, then done.

The camera's object is asked what it has: a method that it lacks, or a getter that raises because the camera's logic has
no such part, is a capability less. Ranges are the maker's documented ones; what the SDK refuses beyond them is said in
its words, and everything is then as it was. Nothing of dv-processing is imported here.

Flips are left to this computer: dv-processing offers them for every camera, some of whose hardware has none, and tells
not who does it; here events and pictures are flipped alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from drivers.backends import dv_biases
from drivers.backends.dv_control import Control, integers
from drivers.backends.dv_objects import words
from drivers.camera.contract import Capability
from drivers.camera.settings import Camera, frames_of
from rtpipe.errors import InputError

STEP_US = 250
"""The noise filters of a DAVIS count time in units of this."""
MOST_STEPS = 4095
MOST_EXPOSURE_US = 4_194_303
MOST_INTERVAL_US = 8_388_607
_MICROSECOND = timedelta(microseconds=1)


class Controls:
    """All of an open camera, as it came and as it is now."""

    def __init__(self, camera: Any) -> None:
        self._all: list[Control] = []
        self._came: dict[tuple[str, ...], Any] = {}
        for control in _offered(camera):
            try:
                state = control.get()
            except RuntimeError:  # this camera's logic has no such part
                continue
            self._all.append(control)
            self._came[control.names] = state
        self._now = dict(self._came)

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """What its hardware does, by the names of settings."""
        return tuple(Capability(name, "hardware", each.says) for each in self._all for name in each.names)

    def apply(self, settings: Camera) -> None:
        """Bring the camera to these settings. Raises ``InputError``; everything is then as it was."""
        known = {name for control in self._all for name in control.names}
        for name in settings.biases:
            if f"biases.{name}" not in known:
                has = ", ".join(sorted(each.removeprefix("biases.") for each in known if each.startswith("biases.")))
                raise InputError(f"biases.{name}: there is none of that name; this camera has {has or 'none'}"[:480])
        change: list[tuple[Control, Any]] = []
        for control in self._all:
            asked = control.wanted(settings)
            if asked is not None:
                control.check(asked)
            state = self._came[control.names] if asked is None else asked
            if state != self._now[control.names]:
                change.append((control, state))
        done: list[Control] = []
        for control, state in change:
            done.append(control)
            try:
                control.put(state)
            except (RuntimeError, ValueError, TypeError, OverflowError) as error:
                self._undo(done)
                raise InputError(f"{control.names[0]}: the camera refused: {words(error)} ({control.says})") from error
        self._now.update({control.names: state for control, state in change})

    def _undo(self, done: list[Control]) -> None:
        for control in reversed(done):
            try:
                control.put(self._now[control.names])
            except (RuntimeError, ValueError, TypeError, OverflowError):
                continue  # the first refusal is what a person is told


def _offered(camera: Any) -> Iterator[Control]:
    """The controls whose methods the camera's class has."""
    for wanted, make in (*_TABLE, *dv_biases.TABLE):
        if all(hasattr(camera, name) for name in wanted):
            try:
                yield from list(make(camera))
            except RuntimeError:  # this camera's logic has no such part
                continue


def _roi(camera: Any) -> Iterator[Control]:
    davis = hasattr(camera, "setCropAreaEvents")  # its pictures keep the sensor's size
    get = camera.getCropAreaEvents if davis else camera.getCropArea
    put = camera.setCropAreaEvents if davis else camera.setCropArea
    width, height = camera.getEventResolution() or (0, 0)

    def check(area: tuple[int, int, int, int]) -> None:
        x, y, w, h = area
        if x + w > width or y + h > height:
            raise InputError(f"roi: {w}x{h} at {x},{y} is not on a sensor of {width}x{height}")

    def wanted(settings: Camera) -> tuple[int, int, int, int] | None:
        roi = settings.roi
        return None if roi is None else (roi.x, roi.y, roi.width, roi.height)

    yield Control(("roi",), f"one rectangle of {width}x{height}", wanted, lambda: integers(get()), put, check)


def _noise(camera: Any) -> Iterator[Control]:
    says = f"in steps of {STEP_US} µs, to {STEP_US * MOST_STEPS:,} µs"

    def control(name: str, get: Callable[[], int], put: Callable[[int], None]) -> Control:
        def wanted(settings: Camera) -> int | None:
            value = getattr(settings, name)
            return None if value is None else max(1, round(value / STEP_US))

        def check(steps: int) -> None:
            if steps > MOST_STEPS:
                raise InputError(f"{name}: {says} wanted, not {steps * STEP_US:,} µs")

        return Control((name,), says, wanted, get, put, check)

    yield control("activity_us", camera.getBackgroundActivityFilter, camera.setBackgroundActivityFilter)
    yield control("refractory_us", camera.getRefractoryPeriodFilter, camera.setRefractoryPeriodFilter)


def _frames(camera: Any) -> Iterator[Control]:
    if not camera.isFrameStreamAvailable():
        return

    def asked(settings: Camera, name: str) -> int | None:
        frames = frames_of(settings)
        value: int | None = None if frames is None else getattr(frames, name)
        return value

    def enabled(settings: Camera) -> bool:
        frames = frames_of(settings)
        return frames is not None and frames.enabled

    def exposure(settings: Camera) -> tuple[bool, int]:
        value = asked(settings, "exposure_us")
        return (True, 0) if value is None else (False, value)

    def expose(state: tuple[bool, int]) -> None:
        automatic, length = state
        camera.setAutoExposure(automatic)
        if not automatic:
            camera.setExposureDuration(timedelta(microseconds=length))

    def exposed() -> tuple[bool, int]:
        return (True, 0) if camera.getAutoExposure() else (False, camera.getExposureDuration() // _MICROSECOND)

    def within(name: str, most: int) -> Callable[[Any], None]:
        def check(state: Any) -> None:
            value = state[1] if isinstance(state, tuple) else state
            if value > most:
                raise InputError(f"frames.{name}: up to {most:,} µs wanted, not {value:,}")

        return check

    says = f"1 to {MOST_EXPOSURE_US:,} µs; left out: automatic"
    yield Control(("frames.exposure_us",), says, exposure, exposed, expose, within("exposure_us", MOST_EXPOSURE_US))
    yield Control(
        ("frames.interval_us",),
        f"1 to {MOST_INTERVAL_US:,} µs; longer where exposure and readout take longer",
        lambda settings: asked(settings, "interval_us"),
        lambda: camera.getFrameInterval() // _MICROSECOND,
        lambda value: camera.setFrameInterval(timedelta(microseconds=value)),
        within("interval_us", MOST_INTERVAL_US),
    )
    yield Control(("frames.enabled",), "", enabled, camera.isFramesRunning, camera.setFramesRunning)


def _imu(camera: Any) -> Iterator[Control]:
    if not camera.isImuStreamAvailable():
        return
    parts = ("Accelerometer", "Gyroscope", "Temperature")

    def get() -> tuple[bool, ...]:
        return tuple(getattr(camera, f"isImuRunning{part}")() for part in parts)

    def put(state: tuple[bool, ...]) -> None:
        for part, runs in zip(parts, state, strict=True):
            getattr(camera, f"setImuRunning{part}")(runs)

    yield Control(("imu",), "", lambda settings: (settings.imu,) * len(parts), get, put)


def _trigger_in(camera: Any) -> Iterator[Control]:
    def put(runs: bool) -> None:
        if runs:
            camera.setDetectorRisingEdges(True)
            camera.setDetectorFallingEdges(True)
        camera.setDetectorRunning(runs)

    def get() -> bool:
        return bool(camera.isDetectorRunning() and camera.getDetectorRisingEdges() and camera.getDetectorFallingEdges())

    yield Control(("triggers",), "signal input, both edges", lambda settings: settings.triggers, get, put)


def _trigger_out(camera: Any) -> Iterator[Control]:
    def wanted(settings: Camera) -> tuple[bool, int, int] | None:
        period = settings.trigger_out_us
        return None if period is None else (True, period // 2, period - period // 2)

    def check(state: tuple[bool, int, int]) -> None:
        if state[1] < 1:
            raise InputError("trigger_out_us: at least 2 µs wanted")

    def get() -> tuple[bool, int, int]:
        times = (camera.getGeneratorHighTime(), camera.getGeneratorLowTime())
        return camera.isGeneratorRunning(), times[0] // _MICROSECOND, times[1] // _MICROSECOND

    def put(state: tuple[bool, int, int]) -> None:
        runs, high, low = state
        if runs:
            camera.setGeneratorHighTime(timedelta(microseconds=high))
            camera.setGeneratorLowTime(timedelta(microseconds=low))
        camera.setGeneratorRunning(runs)

    yield Control(("trigger_out_us",), "high for half of the period", wanted, get, put, check)


def _sync(camera: Any) -> Iterator[Control]:
    by_cable = not hasattr(camera, "setMaster")
    says = "the cable decides who is master, this is checked; open the secondary first" if by_cable else ""

    def wanted(settings: Camera) -> bool | None:
        return None if not settings.sync else settings.sync == "master"

    def check(master: bool) -> None:
        if by_cable and camera.isMaster() != master:
            now, end = ("secondary", "OUT") if master else ("master", "IN")
            raise InputError(
                f"sync: by its cable this camera is {now}: plug the cable into its {end} socket, or swap the settings"
            )

    def put(master: bool) -> None:
        if not by_cable:
            camera.setMaster(master)

    yield Control(("sync",), says, wanted, camera.isMaster, put, check)


_TABLE: tuple[tuple[tuple[str, ...], Callable[[Any], Iterator[Control]]], ...] = (
    (("getCropArea", "setCropArea"), _roi),
    (("getBackgroundActivityFilter", "getRefractoryPeriodFilter"), _noise),
    (("setFramesRunning", "setAutoExposure", "setExposureDuration", "setFrameInterval"), _frames),
    (("setImuRunningAccelerometer",), _imu),
    (("setDetectorRunning",), _trigger_in),
    (("setGeneratorRunning",), _trigger_out),
    (("isMaster",), _sync),
)
"""The methods that a camera must have, and the controls they give."""
