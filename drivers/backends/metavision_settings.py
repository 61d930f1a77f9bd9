"""Settings of a Prophesee camera through Metavision's facilities: what it can do, checked, then done.

Each facility (``device.get_i_roi()``) is None where the camera has none. Facts from the SDK's documented Python
bindings (4.x and 5.x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from drivers.camera.contract import Capability
from drivers.camera.settings import Camera
from rtpipe.errors import InputError
from rtpipe.types import Resolution

DUTY = 0.5
"""Share of its period for which the trigger output is high."""


@dataclass(frozen=True)
class Facilities:
    """Those of one camera, None where it has none; ``hal`` the SDK's module, for its small types."""

    hal: Any
    biases: Any = None
    roi: Any = None
    mask: Any = None
    erc: Any = None
    trail: Any = None
    antiflicker: Any = None
    trigger_in: Any = None
    trigger_out: Any = None
    synchronization: Any = None
    initial: Mapping[str, int] = field(default_factory=dict)
    """The biases as the camera came."""

    @staticmethod
    def of(hal: Any, device: Any) -> Facilities:
        """Ask an open device. A facility that this version's bindings do not know is none."""

        def get(name: str) -> Any:
            getter = getattr(device, f"get_i_{name}", None)
            return getter() if getter is not None else None

        biases = get("ll_biases")
        return Facilities(
            hal,
            biases,
            get("roi"),
            get("digital_event_mask"),
            get("erc_module"),
            get("event_trail_filter_module"),
            get("antiflicker_module"),
            get("trigger_in"),
            get("trigger_out"),
            get("camera_synchronization"),
            {str(name): int(value) for name, value in biases.get_all_biases().items()} if biases is not None else {},
        )


def bias_ranges(facilities: Facilities) -> Mapping[str, tuple[int, int] | None]:
    """The camera's biases that can be changed; the range where the SDK tells it (it may name none that it refuses)."""
    if facilities.biases is None:
        return {}
    ranges: dict[str, tuple[int, int] | None] = {}
    for name in facilities.biases.get_all_biases():
        ranges[str(name)] = None
        describe = getattr(facilities.biases, "get_bias_info", None)
        if describe is not None:
            info = describe(name)
            if not info.is_modifiable():
                del ranges[str(name)]
                continue
            low, high = info.get_bias_range()
            ranges[str(name)] = (int(low), int(high))
    return ranges


def capabilities(facilities: Facilities) -> list[Capability]:
    """What this camera's hardware does."""
    able = []
    for name, range_ in bias_ranges(facilities).items():
        says = f"{range_[0]} to {range_[1]}" if range_ else ""
        able.append(Capability(f"biases.{name}", "hardware", says))
    if facilities.roi is not None:
        able.append(Capability("roi", "hardware", "one rectangle; whole rows and columns are switched off"))
    if pixels := _masks(facilities):
        able.append(Capability("mask", "hardware", f"up to {len(pixels)} pixels"))
    if facilities.erc is not None:
        low, high = (each / 1e6 for each in _rates(facilities.erc))
        able.append(Capability("rate_limit_mev_s", "hardware", f"{low:g} to {high:g}"))
    if facilities.trail is not None:
        able.append(Capability("trail_us", "hardware", "{} to {} µs".format(*_thresholds(facilities.trail))))
    if facilities.antiflicker is not None:
        able.append(Capability("antiflicker_hz", "hardware", "{} to {} Hz".format(*_band(facilities.antiflicker))))
    if facilities.trigger_in is not None:
        able.append(Capability("triggers", "hardware", "the main input, both edges"))
    if facilities.trigger_out is not None:
        able.append(Capability("trigger_out_us", "hardware", f"high for {DUTY:.0%} of the period"))
    if facilities.synchronization is not None:
        able.append(Capability("sync", "hardware", "at the start only"))
    return able


def check(facilities: Facilities, settings: Camera, resolution: Resolution) -> None:
    """Raises ``InputError`` for the first value that this camera refuses, with what it takes. Settings for which it has
    no facility are left to the driver. Changes nothing."""
    ranges = bias_ranges(facilities)
    for name, value in settings.biases.items():
        if name not in ranges:
            raise InputError(f"biases.{name}: this camera has {', '.join(ranges) or 'no biases that can be set'}")
        _within(f"biases.{name}", value, ranges[name])
    roi = settings.roi
    if facilities.roi is not None and roi is not None:
        width, height = resolution
        if roi.x + roi.width > width or roi.y + roi.height > height:
            raise InputError(f"roi: {roi.width}x{roi.height} at {roi.x},{roi.y} is not on a sensor of {width}x{height}")
    pixels = _masks(facilities)
    if pixels and len(settings.mask) > len(pixels):
        raise InputError(f"mask: this camera silences up to {len(pixels)} pixels, not {len(settings.mask)}")
    if facilities.erc is not None and settings.rate_limit_mev_s is not None:
        slow, fast = _rates(facilities.erc)
        _within("rate_limit_mev_s", settings.rate_limit_mev_s, (slow / 1e6, fast / 1e6))
    if facilities.trail is not None and settings.trail_us is not None:
        _within("trail_us", settings.trail_us, _thresholds(facilities.trail))
    if facilities.antiflicker is not None and settings.antiflicker_hz is not None:
        low, high = settings.antiflicker_hz
        if low >= high:
            raise InputError(f"antiflicker_hz: the lower frequency first, not {low:g}, {high:g}")
        for hz in settings.antiflicker_hz:
            _within("antiflicker_hz", hz, _band(facilities.antiflicker))


def steps(facilities: Facilities, settings: Camera, before: Camera | None) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is to be done, in order, each with the setting's name; only what differs from ``before`` (None: the camera
    as it comes, so only what is asked for). A step that returns False or raises was refused by the SDK."""

    def changed(name: str, unset: object = None) -> bool:
        value = getattr(settings, name)
        return bool(value != (unset if before is None else getattr(before, name)))

    old = {} if before is None else before.biases
    for name, value in settings.biases.items():
        if old.get(name) != value:
            yield f"biases.{name}", partial(facilities.biases.set, name, value)
    for name in old.keys() - settings.biases.keys():
        yield f"biases.{name}", partial(facilities.biases.set, name, facilities.initial[name])
    if facilities.roi is not None and changed("roi"):
        yield "roi", lambda: _set_roi(facilities, settings)
    if _masks(facilities) and changed("mask", []):
        yield "mask", lambda: _set_mask(facilities, settings)
    if facilities.erc is not None and changed("rate_limit_mev_s"):
        yield "rate_limit_mev_s", lambda: _set_rate(facilities.erc, settings.rate_limit_mev_s)
    if facilities.trail is not None and changed("trail_us"):
        yield "trail_us", lambda: _set_trail(facilities.trail, settings.trail_us)
    if facilities.antiflicker is not None and changed("antiflicker_hz"):
        yield "antiflicker_hz", lambda: _set_band(facilities, settings.antiflicker_hz)
    if facilities.trigger_in is not None and changed("triggers", False):
        channel = facilities.hal.I_TriggerIn.Channel.MAIN
        wanted = facilities.trigger_in.enable if settings.triggers else facilities.trigger_in.disable
        yield "triggers", lambda: wanted(channel)
    if facilities.trigger_out is not None and changed("trigger_out_us"):
        yield "trigger_out_us", lambda: _set_pulses(facilities.trigger_out, settings.trigger_out_us)
    if facilities.synchronization is not None and before is None and settings.sync:
        modes = {"master": "set_mode_master", "secondary": "set_mode_slave"}
        yield "sync", getattr(facilities.synchronization, modes[settings.sync])


def _within(name: str, value: float, range_: tuple[float, float] | None) -> None:
    if range_ is not None and not range_[0] <= value <= range_[1]:
        raise InputError(f"{name}: {range_[0]:g} to {range_[1]:g} wanted, not {value:g}")


def _masks(facilities: Facilities) -> list[Any]:
    return list(facilities.mask.get_pixel_masks()) if facilities.mask is not None else []


def _rates(erc: Any) -> tuple[int, int]:
    return int(erc.get_min_supported_cd_event_rate()), int(erc.get_max_supported_cd_event_rate())


def _thresholds(trail: Any) -> tuple[int, int]:
    return int(trail.get_min_supported_threshold()), int(trail.get_max_supported_threshold())


def _band(antiflicker: Any) -> tuple[int, int]:
    return int(antiflicker.get_min_supported_frequency()), int(antiflicker.get_max_supported_frequency())


def _set_roi(facilities: Facilities, settings: Camera) -> bool:
    roi = settings.roi
    if roi is None:
        return facilities.roi.enable(False) is not False
    window = facilities.hal.I_ROI.Window(roi.x, roi.y, roi.width, roi.height)
    return facilities.roi.set_window(window) is not False and facilities.roi.enable(True) is not False


def _set_mask(facilities: Facilities, settings: Camera) -> bool:
    pixels = [*((x, y, True) for x, y in settings.mask)]
    done = True
    for number, mask in enumerate(_masks(facilities)):
        x, y, on = pixels[number] if number < len(pixels) else (0, 0, False)
        done = mask.set_mask(x, y, on) is not False and done
    return done


def _set_rate(erc: Any, mev_s: float | None) -> bool:
    if mev_s is None:
        return erc.enable(False) is not False
    return erc.set_cd_event_rate(round(mev_s * 1e6)) is not False and erc.enable(True) is not False


def _set_trail(trail: Any, threshold_us: int | None) -> bool:
    if threshold_us is None:
        return trail.enable(False) is not False
    done = trail.enable(False) is not False and trail.set_trail_filter() is not False  # set before it is switched on
    return done and trail.set_threshold(threshold_us) is not False and trail.enable(True) is not False


def _set_band(facilities: Facilities, band: tuple[float, float] | None) -> bool:
    module = facilities.antiflicker
    if band is None:
        return module.enable(False) is not False
    stop = facilities.hal.I_AntiFlickerModule.AntiFlickerMode.BandStop
    done = module.set_filtering_mode(stop) is not False
    return (done and module.set_frequency_band(round(band[0]), round(band[1])) is not False) and module.enable(
        True
    ) is not False


def _set_pulses(output: Any, period_us: int | None) -> bool:
    if period_us is None:
        return output.disable() is not False
    output.set_period(period_us)
    output.set_duty_cycle(DUTY)
    return output.enable() is not False
