"""How many events a second go through each filter on one core, beside dv-processing's.

A call is a fresh pass over the first events of a recording, in packets of 20,000, with a filter that has seen nothing.
``rtpipe``: packed events as they come off the wire into columns that are made for each packet, as the filter stage runs
them. dv-processing: event stores made beforehand (it has no way to make them from arrays at once); what comes out is an
event store. The clock is the CPU time of this process. dv-processing 2.0 has no hot pixels, refractory period, flip or
rate limit for Python.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from rtpipe.bench.peers import Work
from rtpipe.bench.row import Row
from rtpipe.bench.window import SIZES, first_events, in_turns, synthetic
from rtpipe.packing import pack
from rtpipe.types import Events, PackedEvents, Resolution
from rtpipe.window.filters.chain import make

PACKET_EVENTS = 20_000
MOST_EVENTS = 1_000_000
DURATION_US = 2000
LENS = (-0.3, 0.1, 0.001, -0.002, 0.0)

OURS, PEER = "rtpipe", "dv-processing"


def questions(resolution: Resolution) -> Mapping[str, Mapping[str, Any]]:
    """What is asked, and the filter's settings for a sensor of ``resolution``."""
    width, height = resolution
    middle = {"x": width // 4, "y": height // 4, "width": width // 2, "height": height // 2}
    return {
        "background activity": {"filter": "background", "duration_us": DURATION_US},
        "region of interest": {"filter": "roi", **middle},
        "downsampling by 2": {"filter": "downsample", "factor": 2},
        "undistortion": {"filter": "undistort", "matrix": _matrix(resolution), "distortion": LENS},
        "hot pixels": {"filter": "hot_pixels"},
        "refractory period": {"filter": "refractory"},
        "event trails": {"filter": "trail"},
        "flip": {"filter": "flip", "horizontal": True},
        "rate limit": {"filter": "rate_limit", "mev_s": 1.0},
    }


def measure(
    files: Sequence[Path] | None = None, seconds: float = 1.0, sizes: Sequence[Resolution] = SIZES[::2]
) -> list[Row]:
    """Rows for every filter on every file, on synthetic streams of ``sizes`` where no file is given.

    ``seconds``: roughly how long each contender is measured per input. Raises ``InputError`` for a file that cannot be
    opened or holds no events. Blocks.
    """
    rows: list[Row] = []
    for path in files or ():
        rows += on(path.name, *first_events(path), seconds)
    for resolution in () if files else sizes:
        rows += on("synthetic", resolution, synthetic(resolution), seconds)
    return rows


def on(name: str, resolution: Resolution, events: Events, seconds: float = 1.0) -> list[Row]:
    """Rows for every filter on the first million of these events."""
    events = events[:MOST_EVENTS]
    n = len(events)
    packets = [events[first : first + PACKET_EVENTS] for first in range(0, n, PACKET_EVENTS)]
    packed = [pack(packet) for packet in packets]
    peers = dv_passes(packets, resolution) if importlib.util.find_spec("dv_processing") is not None else {}
    label = f"{name} {resolution[0]}x{resolution[1]}, {n / 1000:.0f}k events"
    rows: list[Row] = []
    for what, choice in questions(resolution).items():
        contenders: dict[str, tuple[Work, str]] = {OURS: ([our_pass(choice, packed, resolution)], "")}
        if what in peers:
            contenders[PEER] = [peers[what]], "from and to its own event stores"
        rows += in_turns(what, label, contenders, n, seconds)
    return rows


def our_pass(
    choice: Mapping[str, Any], packets: Sequence[PackedEvents], resolution: Resolution
) -> Callable[[], list[PackedEvents]]:
    """A call that takes all packets through a filter that has seen nothing."""
    (filter_,) = make([choice])
    filter_.open(resolution)

    def run() -> list[PackedEvents]:
        filter_.reset()
        return [filter_.apply(packet) for packet in packets]

    return run


def dv_passes(packets: Sequence[Events], resolution: Resolution) -> Mapping[str, Callable[[], list[Any]]]:
    """The same calls by dv-processing, where it has the filter. Must be installed."""
    import dv_processing as dv

    stores = [_store(dv.EventStore(), packet) for packet in packets]
    width, height = resolution
    fx, fy, cx, cy = _matrix(resolution)
    lens = dv.camera.CameraGeometry(list(LENS), fx, fy, cx, cy, resolution, dv.camera.DistortionModel.RADIAL_TANGENTIAL)

    def filtered(new: Callable[[], Any]) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            filter_ = new()
            made = []
            for store in stores:
                filter_.accept(store)
                made.append(filter_.generateEvents())
            return made

        return run

    duration = timedelta(microseconds=DURATION_US)
    middle = (width // 4, height // 4, width // 2, height // 2)
    return {
        "background activity": filtered(lambda: dv.noise.BackgroundActivityNoiseFilter(resolution, duration)),
        "region of interest": filtered(lambda: dv.EventRegionFilter(middle)),
        "downsampling by 2": lambda: [dv.scale(store, 2, 2) for store in stores],
        "undistortion": lambda: [lens.undistortEvents(store) for store in stores],
    }


def _store(store: Any, events: Events) -> Any:
    for row in zip(
        events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.astype(bool).tolist(), strict=True
    ):
        store.push_back(*row)
    return store


def _matrix(resolution: Resolution) -> tuple[float, float, float, float]:
    width, height = resolution
    return 0.8 * width, 0.8 * width, width / 2, height / 2
