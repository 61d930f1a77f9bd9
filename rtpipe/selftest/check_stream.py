"""Do events come, in order, on the sensor, on a clock that keeps time? Judged from one :class:`Sample`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from rtpipe.ledger import Flow
from rtpipe.selftest.result import Result
from rtpipe.selftest.sample import Arrival, Sample
from rtpipe.types import Array

FEW_EVENTS = 1000
"""Per second: fewer are noise alone, nothing moved."""
CLOCK_OFF, DOUBT_NS = 0.002, 15e6
"""A camera's second may differ from the host's by this share, and by what the quickest arrivals at both ends of the
sample may have been late all the same (a busy computer)."""
ONE_SIDED = (0.02, 0.98)
UNEVEN = (0.2, 0.8)
HOT = 50.0
"""A pixel that sends so many times as much as the median of those that sent is hot."""
LATE_MS = 50.0


def rate(sample: Sample) -> Result:
    """Events come at all, and enough of them for what follows."""
    numbers = {
        "events": float(sample.n_events),
        "events_per_s": sample.rate,
        "packets": float(len(sample.of("events"))),
    }
    if not sample.n_events:
        return Result("events", "failed", f"none in {sample.seconds:.1f} s: is the lens covered?", numbers)
    says = f"{words(sample.rate)}/s"
    if sample.rate < FEW_EVENTS:
        return Result("events", "noted", f"{says}: too few to judge; move something in front of the lens", numbers)
    return Result("events", "passed", says, numbers)


JUMPS = "jumps_of_the_clock"


def order(sample: Sample) -> Result:
    """Packets are numbered without gaps; time never goes back in a stream, nor in a packet; no jump of the clock."""
    gaps = backwards = 0
    jumps: Counter[str] = Counter()  # each stream takes part in a jump
    last: dict[str, Arrival] = {}
    for arrival in sample.arrivals:
        before = last.get(arrival.stream)
        last[arrival.stream] = arrival
        backwards += arrival.t_last < arrival.t_first
        if before is None:
            continue
        gaps += arrival.seq != before.seq + 1
        jumps[arrival.stream] += arrival.epoch != before.epoch
        backwards += arrival.epoch == before.epoch and arrival.t_first < before.t_last
    numbers = {
        "gaps": float(gaps),
        "packets_back": float(backwards),
        "events_out_of_order": float(sample.disorder),
        JUMPS: float(max(jumps.values(), default=0)),
    }
    wrong = [f"{int(n)} {name.replace('_', ' ')}" for name, n in numbers.items() if n]
    if wrong:
        return Result("order", "failed", ", ".join(wrong), numbers)
    return Result("order", "passed", f"{len(sample.arrivals)} packets, all in order", numbers)


def clock(sample: Sample) -> Result:
    """The camera's seconds are as long as the host's, and what it sees arrives soon and steadily."""
    arrivals = sample.of("events")
    if len(arrivals) < 10:
        return Result("clock", "skipped", "too few packets")
    camera_ns = np.array([arrival.t_last for arrival in arrivals], np.int64) * 1000
    late = np.array([arrival.received_ns for arrival in arrivals], np.int64) - camera_ns
    thirds = len(late) // 3
    first, last = int(late[:thirds].min()), int(late[-thirds:].min())  # the earliest arrivals know best
    begin, end = int(late[:thirds].argmin()), len(late) - thirds + int(late[-thirds:].argmin())
    span_ns = int(camera_ns[end] - camera_ns[begin])
    drift = (last - first) / span_ns if span_ns > 0 else 1.0
    jitter = (late - (first + drift * (camera_ns - camera_ns[begin]))) / 1e6
    numbers = {"drift_ppm": drift * 1e6, "late_p50_ms": float(np.median(jitter)), "late_p99_ms": _p99(jitter)}
    if span_ns <= 0 or abs(drift) > CLOCK_OFF + DOUBT_NS / span_ns:
        says = f"the camera's second lasts {1 + drift:.4f} s of this computer's"
        return Result("clock", "failed", says, numbers)
    says = f"{drift * 1e6:+.0f} ppm against this computer over {span_ns / 1e9:.1f} s"
    says += f"; packets arrive up to {numbers['late_p99_ms']:.1f} ms later than the quickest (99 %)"
    return Result("clock", "noted" if numbers["late_p99_ms"] > LATE_MS else "passed", says, numbers)


def coordinates(sample: Sample) -> Result:
    """Every event is on the sensor, and all parts of the sensor send."""
    width, height = sample.resolution
    counts = sample.counts()
    active = counts[counts > 0]
    numbers = {"off_sensor": float(sample.outside), "pixels_active": float((counts > 0).mean())}
    if sample.outside:
        return Result("coordinates", "failed", f"{sample.outside:,} events off a sensor of {width}x{height}", numbers)
    if not len(active):
        return Result("coordinates", "skipped", "no events")
    hot = int((counts > max(HOT * float(np.median(active)), 20)).sum())
    numbers["hot_pixels"] = float(hot)
    quarters = [counts[: height // 2], counts[height // 2 :], counts[:, : width // 2], counts[:, width // 2 :]]
    silent = [name for name, part in zip(("upper", "lower", "left", "right"), quarters, strict=True) if not part.any()]
    says = f"{numbers['pixels_active']:.0%} of the pixels sent, {hot} are hot"
    if silent:
        return Result("coordinates", "noted", f"{says}; the {' and '.join(silent)} half is silent", numbers)
    return Result("coordinates", "passed", says, numbers)


def polarity(sample: Sample) -> Result:
    """Pixels get brighter and darker."""
    if sample.n_events < FEW_EVENTS:
        return Result("polarity", "skipped", "too few events")
    share = sample.n_on / sample.n_events
    numbers = {"on_share": share}
    says = f"{share:.0%} on"
    if not ONE_SIDED[0] <= share <= ONE_SIDED[1]:
        return Result("polarity", "failed", f"{says}: one polarity is missing", numbers)
    return Result("polarity", "passed" if UNEVEN[0] <= share <= UNEVEN[1] else "noted", says, numbers)


Lost: TypeAlias = "dict[str, dict[str, int]]"
"""What was dropped up to some moment, by kind and reason."""


def losses(before: Lost, flows: Mapping[str, Flow]) -> Result:
    """What the driver dropped since ``before`` (see :func:`dropped`), by its own ledger; what filters of this computer
    were told to take out is no loss."""
    lost = {
        f"{kind}, {reason}": float(n - before.get(kind, {}).get(reason, 0))
        for kind, reasons in dropped(flows).items()
        for reason, n in reasons.items()
        if n > before.get(kind, {}).get(reason, 0)
    }
    if not flows:
        return Result("losses", "skipped", "this driver keeps no ledger")
    if lost:
        return Result("losses", "failed", "; ".join(f"{int(n):,} {reason}" for reason, n in lost.items()), lost)
    return Result("losses", "passed", "nothing dropped, by the driver's own ledger")


def dropped(flows: Mapping[str, Flow]) -> Lost:
    """What was dropped so far."""
    return {kind: dict(flow.dropped) for kind, flow in flows.items() if not kind.startswith("filter")}


def _p99(values: Array) -> float:
    return float(np.quantile(values, 0.99))


def words(number: float) -> str:
    """``"2.31 M"``."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.2f} {unit}"
    return f"{number:.0f} "
