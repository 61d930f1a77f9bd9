"""rtpipe: a real-time streaming pipeline for event cameras.

    import rtpipe
    rec = rtpipe.open("city_0000_25fps.h5")          # any supported file: .resolution, .t_start, .t_end, .streams
    ev = rec.events(t0, t1)                          # rtpipe.Events, times in µs
    for frame in rec.frames(): ...
    voxel = rtpipe.voxel_grid(ev, bins=5, resolution=rec.resolution, t0=t0, t1=t1)
    engine = rtpipe.load_engine("edi")

Names are looked up on first use, so that ``import rtpipe`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtpipe.engine import load_engine
    from rtpipe.errors import RtpipeError
    from rtpipe.formats import open_recording as open
    from rtpipe.packing import pack, unpack
    from rtpipe.types import Events, Frame, Imu, PackedEvents, Packet, Trigger, Window
    from rtpipe.window.count import event_count
    from rtpipe.window.letc import calibrated_voxel
    from rtpipe.window.scer import scer
    from rtpipe.window.stack import equal_count_stack
    from rtpipe.window.time_surface import time_surface
    from rtpipe.window.two_polarity import two_polarity_voxel_grid
    from rtpipe.window.voxel import voxel_grid

_HOMES = {
    "load_engine": "engine",
    "RtpipeError": "errors",
    "open": "formats:open_recording",
    "pack": "packing",
    "unpack": "packing",
    "Events": "types",
    "Frame": "types",
    "Imu": "types",
    "Packet": "types",
    "PackedEvents": "types",
    "Trigger": "types",
    "Window": "types",
    "calibrated_voxel": "window.letc",
    "equal_count_stack": "window.stack",
    "event_count": "window.count",
    "scer": "window.scer",
    "time_surface": "window.time_surface",
    "two_polarity_voxel_grid": "window.two_polarity",
    "voxel_grid": "window.voxel",
}

__all__ = [
    "Events",
    "Frame",
    "Imu",
    "PackedEvents",
    "Packet",
    "RtpipeError",
    "Trigger",
    "Window",
    "calibrated_voxel",
    "equal_count_stack",
    "event_count",
    "load_engine",
    "open",
    "pack",
    "scer",
    "time_surface",
    "two_polarity_voxel_grid",
    "unpack",
    "voxel_grid",
]


def __getattr__(name: str) -> Any:
    """The public name, imported from its home on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rtpipe' has no attribute {name!r}")
    home, _, inner = _HOMES[name].partition(":")
    value = getattr(import_module(f"rtpipe.{home}"), inner or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
