"""Biases of iniVation cameras by the names that dv-processing gives them, and registers that are numbers like them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from drivers.backends.dv_control import Control, integers, within
from drivers.camera.settings import Camera
from rtpipe.errors import InputError

COARSE, FINE, VOLTAGE, CONTRAST, DVS128_BIAS = (0, 7), (0, 255), (0, 63), (0, 17), (0, (1 << 24) - 1)
SWITCH = (0, 1)
READOUT = "readout_fps"
"""As neuromorphic-drivers' back end has it too."""
SUBSAMPLE = {1: "EVERY_PIXEL", 2: "EVERY_SECOND", 4: "EVERY_FOURTH", 8: "EVERY_EIGHTH"}


def _number(name: str, range_: tuple[int, int], get: Callable[[], int], put: Callable[[int], None]) -> Control:
    """A bias that is one number."""

    def check(value: int) -> None:
        within(f"biases.{name}", value, range_)

    says = f"{range_[0]:,} to {range_[1]:,}"
    return Control((f"biases.{name}",), says, lambda settings: settings.biases.get(name), get, put, check)


def _davis_biases(camera: Any) -> Iterator[Control]:
    """Coarse and fine of each current, by the SDK's names (``Diff.coarse``, ``Diff.fine``), and voltages."""
    sensor = str(camera.getSensorModel().name)
    family = "Davis240" if sensor.startswith("DAVIS240") else "CDavis" if sensor == "CDAVIS" else "Davis346"
    get, put = (getattr(camera, f"{verb}{family}BiasCoarseFine") for verb in ("get", "set"))
    for name, bias in getattr(camera, f"{family}BiasCF").__members__.items():
        yield _current(name, get, put, bias)
    if hasattr(camera, f"{family}BiasVDAC"):
        get, put = (getattr(camera, f"{verb}{family}BiasVoltage") for verb in ("get", "set"))
        for name, bias in getattr(camera, f"{family}BiasVDAC").__members__.items():
            yield _bias(name, VOLTAGE, get, put, bias)


def _current(name: str, get: Callable[[Any], Any], put: Callable[..., None], bias: Any) -> Control:
    names = (f"{name}.coarse", f"{name}.fine")

    def wanted(settings: Camera) -> tuple[int, int] | None:
        given = [settings.biases.get(each) for each in names]
        if given == [None, None]:
            return None
        coarse, fine = (now if value is None else value for value, now in zip(given, get(bias), strict=True))
        return coarse, fine

    def check(state: tuple[int, int]) -> None:
        for each, value, range_ in zip(names, state, (COARSE, FINE), strict=True):
            within(f"biases.{each}", value, range_)

    return Control(
        tuple(f"biases.{each}" for each in names),
        "coarse {} to {}, fine {} to {}".format(*COARSE, *FINE),
        wanted,
        lambda: integers(get(bias)),
        lambda state: put(bias, *state),
        check,
    )


def _bias(
    name: str, range_: tuple[int, int], get: Callable[[Any], int], put: Callable[[Any, int], None], bias: Any
) -> Control:
    return _number(name, range_, lambda: int(get(bias)), lambda value: put(bias, value))


def _dvs128_biases(camera: Any) -> Iterator[Control]:
    for name, bias in camera.Bias.__members__.items():
        yield _bias(name, DVS128_BIAS, camera.getBias, camera.setBias, bias)


def _contrast(camera: Any) -> Iterator[Control]:
    for side in ("On", "Off"):
        name = f"ContrastThreshold{side}"
        yield _number(name, CONTRAST, getattr(camera, f"get{name}"), getattr(camera, f"set{name}"))


def _global(camera: Any) -> Iterator[Control]:
    for name in ("GlobalHold", "GlobalReset"):
        get, put = getattr(camera, f"get{name}"), getattr(camera, f"set{name}")
        yield _number(name, SWITCH, _as_int(get), _as_bool(put))


def _readout(camera: Any) -> Iterator[Control]:
    """Readouts per second; a negative number is the same rate constant, at the price of events."""
    kinds = type(camera.getReadoutFPS())
    rates = {_rate(name): member for name, member in kinds.__members__.items()}
    yield _choice(
        camera, "ReadoutFPS", rates, "readouts per second; negative: constant, and loses events to be so", READOUT
    )


def _subsample(camera: Any) -> Iterator[Control]:
    for side in ("Horizontal", "Vertical"):
        kinds = type(getattr(camera, f"getSubSample{side}")())
        steps = {step: kinds.__members__[name] for step, name in SUBSAMPLE.items() if name in kinds.__members__}
        yield _choice(camera, f"SubSample{side}", steps, "only every so many pixels")


def _choice(camera: Any, name: str, members: dict[int, Any], about: str, called: str = "") -> Control:
    """A bias that is one of an SDK's enumeration, by a number; another member than those is kept as it came."""
    get, put = getattr(camera, f"get{name}"), getattr(camera, f"set{name}")
    called = called or name
    says = f"{', '.join(map(str, sorted(members)))} ({about})"

    def wanted(settings: Camera) -> Any:
        value = settings.biases.get(called)
        if value is not None and value not in members:
            raise InputError(f"biases.{called}: one of {says} wanted, not {value}")
        return None if value is None else members[value]

    return Control((f"biases.{called}",), says, wanted, get, put)


def _rate(name: str) -> int:
    rate = int(name.rsplit("_", 1)[-1])
    return -rate if "LOSSY" in name else rate


def _as_int(get: Callable[[], bool]) -> Callable[[], int]:
    return lambda: int(get())


def _as_bool(put: Callable[[bool], None]) -> Callable[[int], None]:
    return lambda value: put(bool(value))


TABLE: tuple[tuple[tuple[str, ...], Callable[[Any], Iterator[Control]]], ...] = (
    (("getSensorModel",), _davis_biases),
    (("setContrastThresholdOn", "setContrastThresholdOff"), _contrast),
    (("setGlobalHold", "setGlobalReset"), _global),
    (("getReadoutFPS",), _readout),
    (("getSubSampleHorizontal", "getSubSampleVertical"), _subsample),
    (("getBias",), _dvs128_biases),
)
"""The methods that a camera must have, and the controls they give."""
