"""A camera that is none: a real recording on the USB, in real time, with faults on demand. No SDK: stand-ins of SDKs
and the fake back end (``tests/drivers/camera/fake_backend.py``) play it through their own calls.

A test writes a :class:`Script` and hands the run its environment (:func:`environment`); the driver's process makes the
one :class:`Camera` of it by :func:`camera`. Everything that leaves the camera, and everything that befalls it, is
logged, one JSON line each, for :func:`tests.drivers.camera.truth.read`: what came out of the pipeline is held to it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import numpy as np

from rtpipe.formats import open_recording
from rtpipe.formats.later import later
from rtpipe.types import Body, Events, Frame, Imu, Trigger

VARIABLE = "RTPIPE_TEST_CAMERA"
"""The environment's: the script's file."""

What = Literal[
    "unplug",
    "overflow",
    "back",
    "wrap",
    "off_sensor",
    "disorder",
    "stall",
    "no_exposure",
    "raise",
    "hang",
    "seize",
    "silence",
]
"""``unplug``: gone for ``for_s``, its clock begins anew. ``overflow``: ``n`` transfers are lost in its ring. ``back``:
its clock falls back by 5 s for good; ``wrap``: goes ahead by 2**24 µs for good. ``off_sensor``, ``disorder``: ``n``
events of one transfer are off the sensor, or earlier than those before them by up to 5 ms. ``stall``: whoever reads is
held up for ``for_s``; what its ring cannot hold is lost. ``no_exposure``: ``n`` frames come without one. ``raise``: the
call raises ``RuntimeError``. ``hang``: the call does not return for ``for_s``, the camera meanwhile goes on.
``seize``: the same without ever giving Python's lock back, as a compiled SDK can, once in all processes.
``silence``: no events for ``for_s``, nothing else stops."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """``at_s`` seconds after the camera was first opened, or after the script's ``go`` was there."""

    what: What
    at_s: float
    for_s: float = 0.5
    n: int = 3


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """``recording`` is played again and again; ``log`` is written; ``transfer_us``: how often the camera hands over;
    ``ring``: transfers that wait for a reader; ``appears_s``: it is plugged in so long after the process began."""

    recording: str
    log: str
    model: str = "DAVIS346"
    serial: str = "00000499"
    faults: tuple[Fault, ...] = ()
    transfer_us: int = 2000
    ring: int = 2000
    appears_s: float = 0.0
    kinds: tuple[str, ...] = ("events", "frames", "imu", "triggers")
    clock_us: int = 5_000
    """What the camera's clock shows when it gets power."""
    go: str = ""
    """A file: the times of faults are counted from when it is there (a pipeline takes its time to be ready)."""


Sample = TypeVar("Sample", Imu, Trigger)


class Unplugged(Exception):
    """The camera is not there (any more)."""


@dataclass(frozen=True)
class Transfer:
    """What a call hands over: ``bodies`` in the camera's own time, ``until`` (µs of it) all of them are before;
    ``lost`` transfers in front of it, ``backlog`` that still wait."""

    bodies: tuple[Body, ...]
    until: int
    received_ns: int
    lost: int = 0
    backlog: int = 0


def environment(folder: Path, script: Script, backends: dict[str, str] | None = None) -> dict[str, str]:
    """The environment in which a run finds this camera. ``backends``: entry points, as ``{"fake":
    "tests.drivers.camera.fake_backend"}``, made known as a package installed in ``folder`` would."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "camera.json"
    file.write_bytes(msgspec.json.encode(script))
    about = folder / "rtpipe_test_camera-0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: rtpipe-test-camera\nVersion: 0\n")
    lines = "".join(f"{name} = {module}\n" for name, module in (backends or {}).items())
    (about / "entry_points.txt").write_text(f"[rtpipe.backends]\n{lines}")
    root = Path(__file__).resolve().parents[3]
    paths = [str(folder), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {VARIABLE: str(file), "PYTHONPATH": os.pathsep.join(paths)}


@functools.cache
def camera() -> Camera:
    """The one camera of this process, from the environment's script."""
    return Camera(msgspec.json.decode(Path(os.environ[VARIABLE]).read_bytes(), type=Script))


def joined(runs: list[Sample], names: tuple[str, ...]) -> list[Sample]:
    """Runs as one, or none: what is looked into for every transfer."""
    if not runs:
        return []
    columns = (np.concatenate([getattr(run, name) for run in runs]) for name in names)
    return [type(runs[0])(*columns)]


class Camera:
    """The camera on the USB. ``present``, :meth:`open`, :meth:`take`, :meth:`close`: threads may differ."""

    def __init__(self, script: Script) -> None:
        self.script = script
        with open_recording(script.recording) as recording:
            self.resolution = recording.resolution
            self.t_start, self.length = recording.t_start, recording.t_end - recording.t_start + 1
            self._events = recording.events()
            self._frames = [
                f for f in recording.frames() if f.exposure_start is None or f.exposure_start > self.t_start
            ]
            self._imu = joined(list(recording.imu()), ("t", "acceleration", "rotation", "temperature"))
            self._triggers = joined(list(recording.triggers()), ("t", "channel", "edge"))
        self._born = time.monotonic()
        self._go: int | None = None if script.go else 0
        self._begun: float | None = None
        self._session = -1
        self._power = 0  # when it got power: µs since it was first opened
        self._at = 0  # up to where it was handed over: µs since then
        self._shift = 0  # of its clock: back, wrap
        self._done: set[int] = set()
        self._no_exposure = 0
        self._silent_until = 0
        self._gone_logged: set[int] = set()
        self._lock = threading.Lock()
        self._log = Path(script.log).open("a", encoding="utf-8")  # noqa: SIM115

    def log(self, what: str, **more: object) -> None:
        """One line of what happened, with the host's clock."""
        with self._lock:
            self._log.write(msgspec.json.encode({"what": what, "host_ns": time.monotonic_ns(), **more}).decode() + "\n")
            self._log.flush()

    @property
    def now_us(self) -> int:
        """Since it was first opened."""
        return 0 if self._begun is None else int((time.monotonic() - self._begun) * 1e6)

    def _since_go(self, now_us: int) -> float:
        """Seconds (of ``now_us``) since faults count; negative before."""
        if self._go is None and self._begun is not None and Path(self.script.go).exists():
            self._go = self.now_us
            self.log("go", at_us=self._go)
        return -1.0 if self._go is None else (now_us - self._go) / 1e6

    @property
    def present(self) -> bool:
        """Whether it is plugged in."""
        if time.monotonic() - self._born < self.script.appears_s:
            return False
        now = self._since_go(self.now_us)
        for number, fault in enumerate(self.script.faults):
            if fault.what != "unplug" or self._begun is None:
                continue
            if fault.at_s <= now < fault.at_s + fault.for_s:
                return False
            if now >= fault.at_s + fault.for_s and number not in self._gone_logged:
                self._gone_logged.add(number)
                assert self._go is not None
                self._power = self._go + int((fault.at_s + fault.for_s) * 1e6)
                self.log("plugged", at_us=self._power, late_us=self.now_us - self._power)
        return True

    def open(self) -> int:
        """Its stream begins; returns the session's number. Raises :class:`Unplugged`."""
        if not self.present:
            raise Unplugged
        if self._begun is None:
            self._begun = time.monotonic()
        self._session += 1
        self._at = self.now_us
        if self._session == 0:
            self._power = 0
        self.log("opened", session=self._session, at_us=self._at)
        return self._session

    def close(self) -> None:
        """Its stream ends."""
        self.log("closed", session=self._session)

    def take(self, session: int, timeout_s: float) -> Transfer:
        """The next transfer, waiting at most about ``timeout_s`` (an empty one then: ``until`` is 0)."""
        deadline = time.monotonic() + timeout_s
        self._befall(session)
        span = self.script.transfer_us
        while self.now_us < self._at + span:
            if time.monotonic() >= deadline:
                return Transfer((), 0, time.monotonic_ns())
            time.sleep(min(0.001, span / 1e6))
            if not self.present or session != self._session:
                raise Unplugged
        lost, waiting = 0, (self.now_us - self._at) // span
        if waiting > self.script.ring:
            lost = waiting - self.script.ring
            self._lose(lost)
        lost += self._overflow()
        start = self._at
        self._at = start + span
        return self._transfer(start, self._at, lost, max(0, (self.now_us - self._at) // span))

    def _lose(self, n: int) -> None:
        start = self._at
        self._at = start + n * self.script.transfer_us
        events = sum(len(body) for body in self.seen(start, self._at) if isinstance(body, Events))
        self.log("lost", transfers=n, events=events)

    def _overflow(self) -> int:
        fault = self._due("overflow")
        if fault is None:
            return 0
        self._lose(fault.n)
        return fault.n

    def _due(self, *what: What) -> Fault | None:
        """The next fault of these kinds whose time has come, once."""
        for number, fault in enumerate(self.script.faults):
            if fault.what in what and number not in self._done and self._since_go(self._at) >= fault.at_s:
                self._done.add(number)
                self.log("fault", fault=fault.what, at_us=self._at)
                return fault
        return None

    def _befall(self, session: int) -> None:
        if not self.present or session != self._session:
            raise Unplugged
        if self._due("raise"):
            raise RuntimeError("the transfer was cancelled (scripted)")
        seized = self._due("seize")
        if seized is not None and not Path(f"{self.script.log}.seized").exists():
            Path(f"{self.script.log}.seized").touch()
            ctypes.PyDLL(None).sleep(int(seized.for_s))
        held = self._due("hang", "stall")
        if held is not None:
            time.sleep(held.for_s)
            if session != self._session:  # whoever called has long been given up
                raise Unplugged
        if self._due("back"):
            self._shift -= 5_000_000
        if self._due("wrap"):
            self._shift += 1 << 24
        silence = self._due("silence")
        if silence is not None:
            self._silent_until = self._at + int(silence.for_s * 1e6)

    def _transfer(self, start: int, stop: int, lost: int, backlog: int) -> Transfer:
        by = self.script.clock_us - self._power + self._shift
        bodies: list[Body] = []
        entry: dict[str, object] = {}
        spoiled: list[dict[str, int]] = []
        for body in self.seen(start, stop):
            moved = later(body, by)
            if isinstance(moved, Events):
                moved, refused = self._spoil(moved)
                spoiled.append(refused)
            bodies.append(moved)
            kind = {Events: "events", Frame: "frames", Imu: "imu", Trigger: "triggers"}[type(body)]
            entry[kind] = int(entry.get(kind, 0)) + (1 if isinstance(body, Frame) else len(body))  # type: ignore[call-overload]
        self.log("transfer", session=self._session, start=start, stop=stop, by=by, lost=lost, refused=spoiled, **entry)
        return Transfer(tuple(bodies), stop + by, time.monotonic_ns(), lost, backlog)

    def _spoil(self, events: Events) -> tuple[Events, dict[str, int]]:
        if len(events) < 20:
            return events, {}
        t, x = events.t.copy(), events.x.copy()
        refused = {}
        fault = self._due("off_sensor")
        if fault is not None:
            x[5 : 5 + fault.n] = self.resolution[0] + 7
            refused["off_sensor"] = fault.n
        fault = self._due("disorder")
        if fault is not None:
            t[5 : 5 + fault.n] -= 5_000
            refused["disorder"] = fault.n
        return Events(t, x, events.y, events.p), refused

    def seen(self, start: int, stop: int) -> list[Body]:
        """What it sees from ``start`` to ``stop`` (µs since it was first opened, also the times of what is given)."""
        found: list[Body] = []
        lap = start // self.length
        while lap * self.length < stop:
            by = lap * self.length - self.t_start
            low, high = start - by, stop - by
            found += [later(body, by) for body in self._lap(low, high) if body is not None]
            lap += 1
        return found

    def _lap(self, low: int, high: int) -> list[Body]:
        wanted = self.script.kinds
        bodies: list[Body] = []
        i, j = np.searchsorted(self._events.t, [low, high])
        if j > i and "events" in wanted and self._at >= self._silent_until:
            bodies.append(self._events[int(i) : int(j)])
        for runs, kind in ((self._imu, "imu"), (self._triggers, "triggers")):
            for run in runs if kind in wanted else ():
                i, j = np.searchsorted(run.t, [low, high])
                if j > i:
                    names = (
                        ("t", "acceleration", "rotation", "temperature") if kind == "imu" else ("t", "channel", "edge")
                    )
                    bodies.append(type(run)(*(getattr(run, name)[i:j] for name in names)))
        for frame in self._frames if "frames" in wanted else ():
            end = frame.t if frame.exposure_end is None else frame.exposure_end
            if low <= end < high:
                bodies.append(self._bare(frame))
        return bodies

    def _bare(self, frame: Frame) -> Frame:
        fault = self._due("no_exposure")
        if fault is not None:
            self._no_exposure = fault.n
        if self._no_exposure <= 0:
            return frame
        self._no_exposure -= 1
        return Frame(frame.image, frame.t)
