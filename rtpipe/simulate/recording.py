"""From a picture or a video to a recording: the simulator from end to end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from rtpipe.errors import InputError
from rtpipe.formats.ecm_h5 import Writer
from rtpipe.simulate import photograph
from rtpipe.simulate.camera import Camera, CameraSettings, exposures
from rtpipe.simulate.path import Interval, handheld
from rtpipe.simulate.scene import Scene, StillScene
from rtpipe.simulate.sensor import Sensor, SensorSettings
from rtpipe.simulate.video import VideoScene
from rtpipe.types import Array, Events, Frame, Resolution

DAVIS346: Resolution = (346, 260)
LONGEST_S = 600.0
LARGEST_SIDE = 4096


class SimulationReport(msgspec.Struct, frozen=True):
    """What was simulated, with what the file itself does not tell."""

    source: str
    path: str
    resolution: Resolution
    seed: int
    seconds: float
    """Length of the recording."""
    events: int
    on: int
    frames: int
    event_rate: float
    """Events per second, mean."""
    blur_px: tuple[float, ...]
    """How far the picture moves during each frame's exposure; empty for a video, where nobody knows."""
    contrast_on: tuple[float, float]
    """Mean and standard deviation over the pixels of the on threshold (natural log of light)."""
    contrast_off: tuple[float, float]
    mirrored: bool
    """Whether the camera looked past the picture's edge and saw it mirrored."""
    took_s: float


def play(
    scene: Scene,
    sensor: Sensor,
    camera: Camera,
    intervals: Sequence[Interval],
    duration: int,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Events | Frame]:
    """The recording as it arises, from 0 to ``duration`` µs: runs of events in order of time, and at the end of each
    exposure in ``intervals`` the truth at its middle (``source="truth"``), then the camera's frame.

    ``intervals`` must follow one another. ``progress`` is told the share that is done.
    """
    width, height = sensor.resolution
    light, before = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    total = np.zeros((height, width), np.float64)
    truth: Frame | None = None
    waiting = iter(intervals)
    current = next(waiting, None)
    last = 0
    for t in _instants(scene, intervals, duration):
        before, light = light, before
        scene.render(t, light)
        events = sensor.observe(light, t)
        if len(events):
            yield events
        if current is not None and current[0] < t <= current[1]:
            total += (0.5 * (t - last)) * (before + light)
            if 2 * t == current[0] + current[1]:
                truth = camera.ideal(light, t)
            if t == current[1]:
                if truth is not None:
                    yield truth
                yield camera.expose(total / (current[1] - current[0]), *current)
                total[:] = 0
                current = next(waiting, None)
        last = t
        if progress is not None:
            progress(t / duration)


def _instants(scene: Scene, intervals: Sequence[Interval], duration: int) -> Iterator[int]:
    """0 to ``duration`` µs in the scene's steps, with a stop at each edge and middle of an exposure."""
    marks = sorted({0, duration, *(t for a, b in intervals for t in (a, (a + b) // 2, b))})
    yield 0
    for t0, t1 in itertools.pairwise(marks):
        steps = min(scene.steps(t0, t1), t1 - t0)
        for i in range(1, steps + 1):
            yield t0 + (t1 - t0) * i // steps


def simulate(
    source: str | Path | None,
    out: str | Path,
    *,
    resolution: Resolution = DAVIS346,
    seconds: float = 2.5,
    seed: int = 0,
    blur_px: float = 8.0,
    sensor: SensorSettings | None = None,
    camera: CameraSettings | None = None,
    compression: Literal["gzip", "blosc"] = "blosc",
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> SimulationReport:
    """Simulate a DAVIS-like recording of ``source`` and write it to ``out`` (EFNet's raw HDF5 layout): events, blurred
    frames with their exposures, and the sharp truth at the middle of each.

    ``source`` is a picture, a video, or the name of a photograph that scikit-image ships
    (:data:`rtpipe.simulate.photograph.SHIPPED`; None: the default one). A picture is seen by a hand-held camera that
    blurs four frames in five by at least ``blur_px``; a video by a camera that stands still, for as long as it lasts
    but at most ``seconds``. ``seed`` decides path, thresholds and noise: the same arguments give the same recording.

    An existing ``out`` is replaced, when the simulation is complete, only with ``overwrite``. ``compression`` is the
    writer's: ``"blosc"`` is faster, ``"gzip"`` opens everywhere. ``progress`` is told the share that is done. Blocks:
    four or five seconds for a second of recording at 346x260.

    Raises ``InputError`` for a bad argument or source, ``WorldError`` where ``out`` cannot be written.
    """
    began = time.monotonic()
    camera = camera or CameraSettings()
    sensor = sensor or SensorSettings()
    _check(resolution, seconds, seed, blur_px, camera, sensor)
    duration = round(seconds * 1e6)
    if Path(out).exists() and not overwrite:
        raise InputError(f"{out}: exists already; choose another name or ask for it to be overwritten (--overwrite)")
    source = photograph.DEFAULT if source is None else source
    path = photograph.find(source)
    light = photograph.read(path)
    scene: Scene
    if light is None:
        scene = VideoScene(path, resolution)
        duration = min(duration, scene.duration or duration)
    intervals = exposures(camera, duration, seed)
    if not intervals:
        raise InputError(f"{source}: {duration * 1e-6:g} s hold no whole frame of {camera.period_us * 1e-3:g} ms")
    mirrored = False
    if light is not None:
        scene = StillScene(light, handheld(resolution, intervals, blur_px, seed), duration)
        mirrored = scene.mirrored
    pixels = Sensor(resolution, sensor, seed)
    counts = {"events": 0, "on": 0, "frames": 0}
    with Writer(out, resolution, camera="simulated DAVIS346", compression=compression) as writer:
        for item in play(scene, pixels, Camera(resolution, camera, seed), intervals, duration, progress):
            if isinstance(item, Events):
                writer.add_events(item)
                counts["events"] += len(item)
                counts["on"] += int(np.count_nonzero(item.p))
            elif item.source == "truth":
                writer.add_truth(item)
            else:
                writer.add_frame(item)
                counts["frames"] += 1
    blurs = [scene.blur(*interval) for interval in intervals]
    return SimulationReport(
        source=str(source),
        path=str(out),
        resolution=resolution,
        seed=seed,
        seconds=duration * 1e-6,
        **counts,
        event_rate=counts["events"] / (duration * 1e-6),
        blur_px=tuple(round(blur, 2) for blur in blurs if blur is not None),
        contrast_on=_spread(pixels.contrast_on),
        contrast_off=_spread(pixels.contrast_off),
        mirrored=mirrored,
        took_s=round(time.monotonic() - began, 2),
    )


def _spread(values: Array) -> tuple[float, float]:
    return round(float(values.mean()), 4), round(float(values.std()), 4)


def _check(
    resolution: Resolution,
    seconds: float,
    seed: int,
    blur_px: float,
    camera: CameraSettings,
    sensor: SensorSettings,
) -> None:
    """Raises ``InputError`` for an argument that nothing can be simulated with."""
    width, height = resolution
    if min(width, height) < photograph.SMALLEST or max(width, height) > LARGEST_SIDE:
        raise InputError(f"resolution {width}x{height}: {photograph.SMALLEST} to {LARGEST_SIDE} pixels on each side")
    if not 0 < seconds <= LONGEST_S:
        raise InputError(f"seconds {seconds:g}: more than 0 and at most {LONGEST_S:g} are wanted")
    if seed < 0:
        raise InputError(f"seed {seed}: 0 or a positive number is wanted")
    if not 0 <= blur_px <= width / 4:
        raise InputError(f"blur {blur_px:g} px: 0 to a quarter of the width ({width / 4:g}) is wanted")
    if not 0 < camera.exposure_us * (1 + camera.exposure_spread) <= camera.period_us:
        raise InputError(
            f"exposure {camera.exposure_us} µs (±{camera.exposure_spread:.0%}) must be positive and fit into the "
            f"frame period of {camera.period_us} µs"
        )
    if min(sensor.contrast_on, sensor.contrast_off) < 0.02 or sensor.dark <= 0:
        raise InputError("sensor: contrast thresholds of at least 0.02 and a dark level above 0 are wanted")
