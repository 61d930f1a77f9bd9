"""dv-processing with a camera attached: a stand-in of ``dv_processing.io.camera`` that plays the camera of
:mod:`tests.drivers.camera.faults` through the real names, with the real objects.

Its classes are made from the installed ones: every public method of a real camera class, with the arguments that its
signature states, and no other. A call that the real class would not take fails here too. What the methods do is this
file's: setters are remembered and logged, getters give back what was set.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
import re
import sys
import types
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from rtpipe.formats.aedat4.build import STANDARD_GRAVITY, TRIGGERS
from rtpipe.types import Events, Frame, Imu, Trigger
from tests.drivers.camera.faults import Transfer, Unplugged, camera

MODEL_KINDS = {"DAVIS346": "DAVIS", "DVXplorer": "DVXPLORER", "DVXplorer Mini": "DVXPLORER_M", "DVS128": "DVS128"}
CLASSES = {"DAVIS": "DAVIS", "DVXPLORER": "DVXplorer", "DVXPLORER_M": "DVXplorerM", "DVS128": "DVS128"}

SHIM = """\
from tests.drivers.backends import dv_standin
dv_standin.install()
"""
"""What stands in a folder that comes first on the path, as ``dv_processing.py``."""


def put_first(folder: Path) -> None:
    """Make ``folder``, which is on a run's ``PYTHONPATH``, the place where its processes find dv-processing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dv_processing.py").write_text(SHIM)


def install() -> None:
    """In the place of ``dv_processing``: the real package, but for its cameras."""
    dv = real()
    dv.io.camera = Cameras(dv)
    sys.modules["dv_processing"] = dv


def real() -> Any:
    """The installed package, wherever the shim stands."""
    paths = [path for path in sys.path if not (Path(path or ".") / "dv_processing.py").exists()]
    spec = importlib.machinery.PathFinder.find_spec("dv_processing", paths)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# signatures, as pybind11 writes them


def signatures(method: Any) -> list[list[tuple[str, str, bool]]]:
    """Of each overload: its arguments as (name, type, whether it may be left out), without ``self``."""
    found = []
    for line in (method.__doc__ or "").splitlines():
        match = re.match(r"(?:\d+\. )?\w+\((.*)\) -> ", line.strip())
        if match and match.group(1) != "*args, **kwargs":
            given = [_argument(each) for each in _split(match.group(1))]
            found.append([each for each in given if each[0] != "self"])
    return found


def _split(arguments: str) -> list[str]:
    """At the commas outside of brackets."""
    parts, depth = [""], 0
    for letter in arguments:
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _argument(text: str) -> tuple[str, str, bool]:
    name, _, rest = text.partition(":")
    kind, _, default = rest.partition("=")
    return name.strip(), kind.strip(), bool(default)


def result(method: Any) -> str:
    """The type that a method says it returns."""
    match = re.search(r"\) -> (.+)", (method.__doc__ or "").splitlines()[0] if method.__doc__ else "")
    return match.group(1).strip() if match else ""


def fits(value: Any, kind: str) -> bool:
    """Whether pybind11 would take a value for an argument of this type."""
    if kind == "bool":
        return isinstance(value, bool)
    if kind.startswith("typing.Supports"):
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "datetime.timedelta":
        return isinstance(value, timedelta)
    if kind in ("tuple_xywh", "tuple_xy"):
        return isinstance(value, tuple) and len(value) == (4 if kind == "tuple_xywh" else 2)
    if kind == "str":
        return isinstance(value, str)
    return type(value).__name__ == kind.rsplit(".", 1)[-1]


# the module


class Descriptor:
    """As the SDK's, which nobody can make."""

    def __init__(self, dv: Any) -> None:
        script, io = camera().script, dv.io.camera
        self.cameraModel = io.CameraModel.__members__[MODEL_KINDS[script.model]]
        self.deviceType = io.USBDeviceType.FX3_BLUE
        self.serialNumber, self.firmwareVersion, self.pid = script.serial, 6, 0x841A
        self.busNumber, self.devAddress = 2, 1 + camera()._session % 100  # another after each plugging in


Descriptor.__name__ = "DeviceDescriptor"


class Cameras(types.ModuleType):
    """``dv_processing.io.camera``."""

    def __init__(self, dv: Any) -> None:
        super().__init__("dv_processing.io.camera")
        original = dv.io.camera
        for name in ("CameraModel", "USBDeviceType", "USBDevice", "libusb_speed", "imu"):
            setattr(self, name, getattr(original, name))
        for name in CLASSES.values():
            setattr(self, name, standin(dv, getattr(original, name)))
        self._dv = dv

    def discover(self) -> list[Descriptor]:
        return [Descriptor(self._dv)] if camera().present else []


def standin(dv: Any, original: Any) -> type:
    """A class with every public method of ``original``, and its enumerations."""
    body: dict[str, Any] = {}
    for name in dir(original):
        member = getattr(original, name)
        if name.startswith("_") or name == "findDevices":
            continue
        own = getattr(Does, name, None)
        body[name] = member if isinstance(member, type) else _checked(original, name, member, own or _remembering(name))
    body["_dv"], body["_original"] = dv, original
    body["__init__"] = _checked(original, "__init__", original.__init__, Playing._begin)
    return type(original.__name__, (Playing,), body)


def _checked(original: Any, name: str, member: Any, does: Callable[..., Any]) -> Callable[..., Any]:
    overloads = signatures(member)

    def method(self: Any, *given: Any) -> Any:
        for arguments in overloads:
            least = sum(not optional for _, _, optional in arguments)
            if least <= len(given) <= len(arguments) and all(
                fits(value, kind) for value, (_, kind, _) in zip(given, arguments, strict=False)
            ):
                break
        else:
            raise TypeError(f"{original.__name__}.{name}(): incompatible function arguments {given}: {overloads}")
        return does(self, *given)

    method.__name__ = name
    return method


def _remembering(name: str) -> Callable[..., Any]:
    """A setter's or a getter's work."""

    def method(self: Any, *given: Any) -> Any:
        if name.startswith("set"):
            self._refuse(name, given)
            camera().log("set", name=name, given=[getattr(each, "name", str(each)) for each in given])
            key = (name[3:], *given[:-1]) if len(given) > 1 and hasattr(given[0], "name") else (name[3:],)
            if len(given) == 3:
                key, given = (name[3:], given[0]), ((given[1], given[2]),)
            self._state[key] = given[-1]
            return None
        if name.startswith("get"):
            return self._state.get((name[3:], *given), self._default(name))
        if name.startswith("is"):
            return self._state.get((name[2:],), False)
        raise AssertionError(f"{name}: the stand-in does nothing for it")

    return method


class Playing:
    """What a camera of the stand-in does."""

    _dv: Any
    _original: Any

    def _begin(self, descriptor: Any, level: Any = None) -> None:
        self._state: dict[tuple[Any, ...], Any] = {("AutoExposure",): True}
        self._queue: deque[Any] = deque()
        self._gone = False
        try:
            self._camera = camera()
            self._session = self._camera.open()
        except Unplugged:
            raise RuntimeError(
                "/project/usb_device.hpp(9): USBDevice()\nRuntimeError: Could not find a device with VID=152A, "
                f"PID={descriptor.pid:X} and USB Bus Address=2:1.\nStacktrace:\n 0# 0x0000 in x.so\n"
            ) from None

    def __del__(self) -> None:
        if hasattr(self, "_session"):
            self._camera.close()

    def _refuse(self, name: str, given: tuple[Any, ...]) -> None:
        """As the SDK's own words have it."""
        wrong = ""
        if name == "setExposureDuration" and self._state[("AutoExposure",)]:
            wrong = "Cannot set exposure manually when auto-exposure enabled."
        elif name.startswith("setCropArea") and given[0][2] % 2:
            wrong = "The events crop area is invalid."
        if wrong:
            raise RuntimeError(
                f"/project/x.hpp(9): void set()\nInvalidArgument: {wrong}\nStacktrace:\n 0# 0x0 in x.so\n"
            )

    def _default(self, name: str) -> Any:
        kind = result(getattr(self._original, name))
        width, height = camera().resolution
        simple = {"bool": False, "int": 0, "datetime.timedelta": timedelta(microseconds=10_000), "str": ""}
        simple |= {"tuple_xywh": (0, 0, width, height), "tuple[int, int]": (4, 100)}
        if kind in simple:
            return simple[kind]
        where = self._dv
        for part in kind.split(".")[1:]:
            where = getattr(where, part)
        return next(iter(where.__members__.values()))

    def _objects(self, transfer: Transfer) -> list[Any]:
        found: list[Any] = []
        for body in transfer.bodies:
            if isinstance(body, Events):
                found += stores(self._dv, body)
            elif isinstance(body, Frame):
                found.append(frame(self._dv, body))
            elif isinstance(body, Imu):
                found.append(imu(self._dv, body))
            elif isinstance(body, Trigger):
                found.append(triggers(self._dv, body))
        return found


class Does:
    """What methods of the SDK do that are no plain setters and getters: taken where the real class has them."""

    def getEventResolution(self) -> tuple[int, int]:
        return camera().resolution

    def getSensorModel(self) -> Any:
        return self._original.SensorModel.DAVIS346

    def getFirmwareVersion(self) -> int:
        return 6

    def getLogicVersion(self) -> int:
        return 18

    def getLogicPatchLevel(self) -> int:
        return 1

    def getConnectionSpeed(self) -> Any:
        return self._dv.io.camera.libusb_speed.LIBUSB_SPEED_SUPER

    def getSerialNumber(self) -> str:
        return camera().script.serial

    def isEventStreamAvailable(self) -> bool:
        return True

    def isFrameStreamAvailable(self) -> bool:
        return "DAVIS" in self._original.__name__

    def isImuStreamAvailable(self) -> bool:
        return "DVS" not in self._original.__name__

    def isTriggerStreamAvailable(self) -> bool:
        return True

    def isMaster(self) -> bool:
        return bool(self._state.get(("Master",), True))

    def isRunning(self) -> bool:
        return not self._gone and camera().present

    def isRunningAny(self) -> bool:
        return self.isRunning()

    def readNext(self) -> Any:
        if not self._queue and not self._gone:
            try:
                self._queue.extend(self._objects(camera().take(self._session, 0.0)))
            except Unplugged:
                self._gone = True
        return self._queue.popleft() if self._queue else self._dv.io.DataReadHandler.OutputFlag.CONTINUE


def stores(dv: Any, events: Events) -> list[Any]:
    """Events as ``EventStore``s, which take none that is earlier than the one before: one for each run in order."""
    cuts = [0, *(np.flatnonzero(np.diff(events.t) < 0) + 1).tolist(), len(events)]
    found = []
    for start, stop in itertools.pairwise(cuts):
        part, store = events[start:stop], dv.EventStore()
        columns = (part.t.tolist(), part.x.tolist(), part.y.tolist(), part.p.astype(bool).tolist())
        for t, x, y, p in zip(*columns, strict=True):
            store.push_back(t, x, y, p)
        found.append(store)
    return found


def frame(dv: Any, body: Frame) -> Any:
    """A ``Frame`` whose time is the start of its exposure."""
    if body.exposure_start is None or body.exposure_end is None:
        return dv.Frame(body.t, body.image)
    made = dv.Frame(body.exposure_start, body.image)
    made.exposure = timedelta(microseconds=body.exposure_end - body.exposure_start)
    return made


def imu(dv: Any, body: Imu) -> Any:
    """An ``ImuVector``, in g and degrees per second."""
    a, w = body.acceleration / STANDARD_GRAVITY, np.degrees(body.rotation)
    rows = zip(body.t.tolist(), body.temperature.tolist(), a.tolist(), w.tolist(), strict=True)
    return dv.IMUPacket.ImuVector([dv.IMU(t, warm, *ax, *wx, 0.0, 0.0, 0.0) for t, warm, ax, wx in rows])


def triggers(dv: Any, body: Trigger) -> Any:
    """A ``TriggersVector``."""
    kinds = {wired: dv.TriggerType(kind) for kind, wired in TRIGGERS.items()}
    rows = zip(body.t.tolist(), body.channel.tolist(), body.edge.tolist(), strict=True)
    return dv.TriggerPacket.TriggersVector([dv.Trigger(t, kinds[(channel, edge)]) for t, channel, edge in rows])
