"""Pictures, the inertial sensor and signals, judged from one :class:`Sample`."""

from __future__ import annotations

import numpy as np

from rtpipe.selftest.result import Result
from rtpipe.selftest.sample import FrameTimes, Sample

GRAVITY, OFF_BY = 9.81, 1.0
"""m/s²: what a camera at rest feels, and by how much it may be wrong."""
STILL = 0.3
"""rad/s: slower than this the camera is held still enough for gravity to be judged."""
FLAT = 0.004
"""A picture whose pixels differ by less than this share of white shows nothing."""
UNSTEADY = 0.2
"""Share by which intervals between pictures may differ from their median."""


def frames(sample: Sample) -> Result:
    """Pictures come steadily, of the sensor's size, with an exposure, and show something."""
    times = sample.frame_times
    numbers: dict[str, float] = {"frames": float(len(times))}
    if not times:
        return Result("frames", "failed", f"none in {sample.seconds:.1f} s")
    sizes = {each.resolution for each in times}
    if sizes != {sample.resolution}:
        return Result("frames", "failed", f"of {sorted(sizes)}, the sensor has {sample.resolution}", numbers)
    numbers["exposure_ms"] = exposure_us(times) / 1000
    numbers["frames_per_s"] = len(times) / sample.seconds
    says = f"{numbers['frames_per_s']:.1f}/s"
    wrong = [each for each in times if each.exposure_start is not None and not _plausible(each)]
    if wrong:
        return Result("frames", "failed", f"{says}; {len(wrong)} exposures end before they begin", numbers)
    bare = sum(each.exposure_start is None or each.exposure_end is None for each in times)
    if bare:
        return Result("frames", "failed", f"{says}; {bare} of {len(times)} without an exposure", numbers)
    says += f", exposure {numbers['exposure_ms']:.2f} ms"
    flat = sum(each.deviation < FLAT for each in times)
    if flat > len(times) // 2:
        return Result(
            "frames", "noted", f"{says}; {flat} of {len(times)} show nothing (lens covered? too dark?)", numbers
        )
    starts = np.array([each.t for each in times], np.int64)
    intervals = np.diff(starts)
    if len(intervals) >= 4:
        median = float(np.median(intervals))
        numbers["interval_ms"] = median / 1000
        odd = int(np.count_nonzero(np.abs(intervals - median) > UNSTEADY * median))
        if odd > len(intervals) // 10:
            return Result("frames", "noted", f"{says}; {odd} of {len(intervals)} intervals are uneven", numbers)
    return Result("frames", "passed", says, numbers)


def exposure_us(times: list[FrameTimes]) -> float:
    """The median exposure, NaN where none is known."""
    known = [
        each.exposure_end - each.exposure_start
        for each in times
        if each.exposure_start is not None and each.exposure_end is not None
    ]
    return float(np.median(known)) if known else float("nan")


def _plausible(times: FrameTimes) -> bool:
    return times.exposure_end is None or times.exposure_start is None or times.exposure_end > times.exposure_start


def imu(sample: Sample) -> Result:
    """The inertial sensor feels gravity while the camera is still."""
    n = sum(len(part) for part in sample.imu)
    if not n:
        return Result("imu", "failed", f"no samples in {sample.seconds:.1f} s")
    acceleration = np.concatenate([part.acceleration for part in sample.imu]).astype(np.float64)
    rotation = np.concatenate([part.rotation for part in sample.imu]).astype(np.float64)
    if not (np.isfinite(acceleration).all() and np.isfinite(rotation).all()):
        return Result("imu", "failed", "samples that are no numbers")
    felt = float(np.linalg.norm(np.median(acceleration, axis=0)))
    turned = float(np.median(np.linalg.norm(rotation, axis=1)))
    rate = n / sample.seconds
    numbers = {"samples_per_s": rate, "gravity_m_s2": felt, "rotation_rad_s": turned}
    says = f"{rate:.0f}/s, feels {felt:.2f} m/s²"
    if abs(felt - GRAVITY) <= OFF_BY:
        return Result("imu", "passed", says, numbers)
    if turned > STILL:
        return Result("imu", "noted", f"{says} while it turns: hold it still and try again", numbers)
    return Result("imu", "failed", f"{says} at rest, {GRAVITY} wanted", numbers)


def triggers(sample: Sample) -> Result:
    """Signals at the input, if there are any."""
    t = np.concatenate([part.t for part in sample.triggers]) if sample.triggers else np.empty(0, np.int64)
    if not len(t):
        return Result("triggers", "skipped", "no signal came; connect one to the trigger input to try it")
    edges = np.concatenate([part.edge for part in sample.triggers])
    channels = sorted({int(each) for part in sample.triggers for each in part.channel})
    numbers = {"signals": float(len(t)), "rising": float(np.count_nonzero(edges == 1))}
    if np.any(np.diff(t) < 0):
        return Result("triggers", "failed", "their times go back", numbers)
    kinds = ", ".join(name for value, name in enumerate(("falling", "rising", "pulse")) if np.any(edges == value))
    return Result("triggers", "passed", f"{len(t)} ({kinds}) on channel {', '.join(map(str, channels))}", numbers)
