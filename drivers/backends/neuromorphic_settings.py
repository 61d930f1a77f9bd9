"""Settings of cameras in neuromorphic-drivers' typed configurations, and what of them the hardware does. Pure but for
the SDK's own data classes.

What stands here of the SDK's insides (rows counted from below in masks, units of 250 µs, what is taken at opening only)
is from its source, version 0.18; no camera has confirmed it yet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from drivers.camera.contract import Capability
from drivers.camera.settings import Camera, Roi, frames_of
from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution

TICK_US = 250
"""The DAVIS' filters count in these."""
LONGEST_EXPOSURE_US, LONGEST_INTERVAL_US = (1 << 22) - 1, (1 << 23) - 1
"""The DAVIS' registers hold no more."""
READOUT = "readout_fps"
READOUTS = {100: "CONSTANT100", 200: "CONSTANT200", 500: "CONSTANT500", 1000: "CONSTANT1000", 2000: "VARIABLE2000",
            5000: "VARIABLE5000", 10000: "VARIABLE10000", 15000: "VARIABLE15000"}  # fmt: skip
ERC_PERIOD_US, SLOW_ERC_PERIOD_US, MOST_PER_PERIOD = 200, 1000, (1 << 22) - 1
CLOCKS = {"": "INTERNAL", "master": "INTERNAL_WITH_OUTPUT_ENABLED", "secondary": "EXTERNAL"}


@dataclass(frozen=True)
class Kind:
    """A model as the SDK has it. ``module`` of ``neuromorphic_drivers``, ``name`` as it lists it, ``encoding`` of its
    bytes (``""``: only the SDK decodes them), ``pixels`` that its hardware can mask, ``roi``: whether by its masks of
    rows and columns, ``live``: configuration fields that are taken while it streams."""

    model: str
    name: str
    module: str
    resolution: Resolution
    streams: tuple[str, ...]
    encoding: str = ""
    pixels: int = 0
    roi: bool = False
    live: tuple[str, ...] = ("biases",)


_MASKS = ("biases", "x_mask", "y_mask", "mask_intersection_only")
_DAVIS = ("biases", "pixel_mask", "activity_filter", "exposure_us", "frame_interval_us")
KINDS = (
    Kind("DAVIS346", "iniVation DAVIS 346", "inivation_davis346", (346, 260),
         ("events", "frames", "imu", "triggers"), pixels=8, live=_DAVIS),
    Kind("DVXplorer", "iniVation DVXplorer", "inivation_dvxplorer", (640, 480), ("events", "imu", "triggers"), live=()),
    Kind("EVK3 HD", "Prophesee EVK3 HD", "prophesee_evk3_hd", (1280, 720), ("events", "triggers"), "evt3",
         roi=True, live=_MASKS),
    Kind("EVK4", "Prophesee EVK4", "prophesee_evk4", (1280, 720), ("events", "triggers"), "evt3", 64,
         roi=True, live=(*_MASKS, "pixel_mask")),
    Kind("CenturyArks VGA", "CenturyArks VGA", "centuryarks_vga", (640, 480), ("events", "triggers"), "evt3"),
    Kind("Lucid Triton", "Lucid Triton", "lucid_triton", (1280, 720), ("events", "triggers"), "evt3"),
)  # fmt: skip


def kind_of(model: str) -> Kind:
    """By our name of the model. Raises ``InputError``."""
    for kind in KINDS:
        if kind.model == model:
            return kind
    raise InputError(f"neuromorphic-drivers does not drive a {model}; it drives {', '.join(k.model for k in KINDS)}")


def capabilities(kind: Kind, sdk: ModuleType, bounds: Mapping[str, tuple[int, int]], masked: int) -> list[Capability]:
    """What the hardware of a camera does. ``bounds`` of its biases; ``masked`` pixels that were asked for when it was
    opened: more than it can mask are left to the host, all of them."""
    found = [Capability(f"biases.{name}", "hardware", _bias_words(kind, name, bounds)) for name in _biases(kind, sdk)]
    fields = _fields(kind, sdk)
    if kind.pixels and masked <= kind.pixels:
        found.append(Capability("mask", "hardware", f"up to {kind.pixels} pixels"))
    if kind.roi:
        found.append(Capability("roi", "hardware", "by rows and columns"))
    if "rate_limiter" in fields:
        says = f"per {ERC_PERIOD_US} µs (per {SLOW_ERC_PERIOD_US} µs below 0.1 Mev/s); when it is opened only"
        found.append(Capability("rate_limit_mev_s", "hardware", says))
    if "activity_filter" in fields:
        says = f"in steps of {TICK_US} µs, rounded up; left out: off"
        found += [Capability(name, "hardware", says) for name in ("activity_us", "refractory_us")]
    if "exposure_us" in fields:
        says = f"1 to {LONGEST_EXPOSURE_US} µs; left out: 4000 µs (this SDK knows no automatic exposure)"
        found.append(Capability("frames.exposure_us", "hardware", says))
        says = f"1 to {LONGEST_INTERVAL_US} µs; left out: 40000 µs"
        found.append(Capability("frames.interval_us", "hardware", says))
    if "clock" in fields:
        says = "master sends its clock, secondary takes it from the cable; when it is opened only"
        found.append(Capability("sync", "hardware", says))
    if "enable_external_trigger" in fields:
        found.append(Capability("triggers", "hardware", "when it is opened only; else left out by this computer"))
    return found


def bounds_of(biases_bounds: Any) -> dict[str, tuple[int, int]]:
    """The SDK's ``BiasesBounds`` as numbers: the least and the most that each bias takes."""
    return {
        field.name: (int(bounds.minimum), int(bounds.maximum))
        for field in dataclasses.fields(biases_bounds)
        for bounds in [getattr(biases_bounds, field.name)]
    }


def check_bias_names(kind: Kind, sdk: ModuleType, settings: Camera) -> None:
    """Raises ``InputError`` for a bias that the camera does not have."""
    known = _biases(kind, sdk)
    for name, value in settings.biases.items():
        if name not in known:
            raise InputError(f"biases.{name}: no such bias on this camera ({kind.model}); it has {', '.join(known)}")
        if name == READOUT and value not in READOUTS:
            raise InputError(f"biases.{name}: {value} is none of {', '.join(map(str, READOUTS))}")


def check_biases(kind: Kind, sdk: ModuleType, settings: Camera, bounds: Mapping[str, tuple[int, int]]) -> None:
    """Raises ``InputError`` for a bias that the camera does not have, or not at this value."""
    check_bias_names(kind, sdk, settings)
    for name, value in settings.biases.items():
        if name == READOUT:
            continue
        least, most = bounds.get(name, (0, 1))
        if not least <= value <= most:
            raise InputError(f"biases.{name}: {least} to {most} wanted, not {value}")


def configuration(kind: Kind, sdk: ModuleType, settings: Camera) -> Any:
    """The SDK's ``Configuration`` for these settings, as far as its fields go. Raises ``InputError`` for a value that
    cannot be said; the values of biases are for :func:`check_biases`."""
    check_bias_names(kind, sdk, settings)
    made = getattr(sdk, kind.module).Configuration()
    for name, value in settings.biases.items():
        if name == READOUT and hasattr(made, "readout_frames_per_second"):
            made.readout_frames_per_second = getattr(type(made.readout_frames_per_second), READOUTS[value])
        elif hasattr(made.biases, name):
            default = getattr(made.biases, name)
            setattr(made.biases, name, bool(value) if isinstance(default, bool) else int(value))
    if kind.roi and settings.roi is not None:
        _confine(made, kind, settings.roi)
    if kind.pixels and 0 < len(settings.mask) <= kind.pixels:
        made.pixel_mask = _masked(kind, sdk, settings.mask)
    if hasattr(made, "rate_limiter") and settings.rate_limit_mev_s is not None:
        made.rate_limiter = _limiter(kind, sdk, settings.rate_limit_mev_s)
    if hasattr(made, "activity_filter"):
        _filters(made.activity_filter, settings)
    if hasattr(made, "exposure_us"):
        _exposure(made, settings)
    if hasattr(made, "clock"):
        made.clock = getattr(type(made.clock), CLOCKS[settings.sync])
    if hasattr(made, "enable_external_trigger"):
        made.enable_external_trigger = settings.triggers
    return made


def not_live(kind: Kind, before: Any, after: Any) -> list[str]:
    """Fields that differ but are taken only when the camera is opened, in a user's words."""
    words = {"rate_limiter": "rate_limit_mev_s", "clock": "sync", "enable_external_trigger": "triggers",
             "readout_frames_per_second": f"biases.{READOUT}"}  # fmt: skip
    changed = [f.name for f in dataclasses.fields(before) if getattr(before, f.name) != getattr(after, f.name)]
    return [words.get(name, name) for name in changed if name not in kind.live]


def _fields(kind: Kind, sdk: ModuleType) -> set[str]:
    return {field.name for field in dataclasses.fields(getattr(sdk, kind.module).Configuration)}


def _biases(kind: Kind, sdk: ModuleType) -> list[str]:
    module = getattr(sdk, kind.module)
    names = [field.name for field in dataclasses.fields(module.Biases)]
    return [*names, READOUT] if hasattr(module, "ReadoutFramesPerSecond") else names


def _bias_words(kind: Kind, name: str, bounds: Mapping[str, tuple[int, int]]) -> str:
    when = "" if "biases" in kind.live else "; when it is opened only"
    if name == READOUT:
        return f"readouts per second: {', '.join(map(str, READOUTS))}{when}"
    least, most = bounds.get(name, (0, 1))
    return f"{least} to {most}{when}"


def _confine(made: Any, kind: Kind, roi: Roi) -> None:
    """Silence the rows and columns outside; the SDK counts rows from below."""
    width, height = kind.resolution
    if roi.x + roi.width > width or roi.y + roi.height > height:
        raise InputError(
            f"roi: {roi.width}x{roi.height} at ({roi.x}, {roi.y}) is not inside the sensor's {width}x{height}"
        )
    columns, rows = np.ones(width, bool), np.ones(height, bool)
    columns[roi.x : roi.x + roi.width] = False
    rows[roi.y : roi.y + roi.height] = False
    made.x_mask, made.y_mask = _words(columns, len(made.x_mask)), _words(rows[::-1], len(made.y_mask))


def _words(lines: Array, n: int) -> tuple[int, ...]:
    """A bit per line, the first in the lowest bit of the first of ``n`` words of 64."""
    padded = np.zeros(64 * n, bool)
    padded[: len(lines)] = lines
    return tuple(np.packbits(padded, bitorder="little").view("<u8").tolist())


def _masked(kind: Kind, sdk: ModuleType, pixels: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    width, height = kind.resolution
    for x, y in pixels:
        if x >= width or y >= height:
            raise InputError(f"mask: there is no pixel ({x}, {y}) on a sensor of {width}x{height}")
    if kind.module != "prophesee_evk4":
        codes = [y * width + x + 1 for x, y in pixels]
        return tuple(codes + [0] * (kind.pixels - len(codes)))
    mask = sdk.PropheseeEvk4PixelMask()
    for index, (x, y) in enumerate(pixels):
        mask.set(index, x, height - 1 - y)
    found: tuple[int, ...] = mask.pixel_mask()
    return found


def _limiter(kind: Kind, sdk: ModuleType, mev_s: float) -> Any:
    period = ERC_PERIOD_US if mev_s >= 0.1 else SLOW_ERC_PERIOD_US
    most = min(max(1, round(mev_s * period)), MOST_PER_PERIOD)
    return getattr(sdk, kind.module).RateLimiter(reference_period_us=period, maximum_events_per_period=most)


def _filters(made: Any, settings: Camera) -> None:
    made.mask_isolated_enable = settings.activity_us is not None
    if settings.activity_us is not None:
        made.mask_isolated_tau = -(-settings.activity_us // TICK_US)
    made.refractory_period_enable = settings.refractory_us is not None
    if settings.refractory_us is not None:
        made.refractory_period_tau = -(-settings.refractory_us // TICK_US)


def _exposure(made: Any, settings: Camera) -> None:
    frames = frames_of(settings)
    if frames is None:
        return
    for name, value, most in (
        ("exposure_us", frames.exposure_us, LONGEST_EXPOSURE_US),
        ("interval_us", frames.interval_us, LONGEST_INTERVAL_US),
    ):
        if value is not None and value > most:
            raise InputError(f"frames.{name}: 1 to {most} µs wanted, not {value}")
    made.exposure_us = frames.exposure_us if frames.exposure_us is not None else made.exposure_us
    made.frame_interval_us = frames.interval_us if frames.interval_us is not None else made.frame_interval_us
