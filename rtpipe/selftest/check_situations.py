"""What befalls a camera: nobody reads for a while, someone pulls the cable."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from rtpipe.selftest import check_stream
from rtpipe.selftest.result import Result
from rtpipe.selftest.sample import Sample, packets, take
from rtpipe.stage import Driver
from rtpipe.types import Resolution

STALL_S = 2.0
AFTER_S = 1.0
PATIENCE_S = 60.0
"""How long a person may take to pull a cable, and to put it back."""
BACK_S = 2.0
"""From the kernel's seeing the camera again to its events."""


class Person(Protocol):
    """Who stands beside the camera."""

    def say(self, text: str) -> None:
        """Tell what happens, or what to do."""
        ...

    def ask(self, text: str) -> bool:
        """Ask for something to be done; False: it is skipped."""
        ...


def stall(driver: Driver, resolution: Resolution, seconds: float = STALL_S) -> Result:
    """Nobody reads for so long: afterwards the stream goes on in order, and what no queue could hold is named."""
    flows = getattr(driver, "flows", {})
    before = check_stream.dropped(flows)
    sample = take(driver, resolution, 0.3)
    time.sleep(seconds)
    began_ns = time.monotonic_ns()
    after = take(driver, resolution, AFTER_S)
    fresh = [arrival for arrival in after.arrivals if arrival.n and arrival.received_ns > began_ns]
    sample.arrivals += after.arrivals
    sample.disorder += after.disorder
    order = check_stream.order(sample)
    lost = check_stream.losses(before, getattr(driver, "flows", {}))
    numbers = {**order.numbers, **lost.numbers}
    name = "stalled reader"
    if not fresh:
        return Result(name, "failed", f"nothing new came after {seconds:g} s without reading", numbers)
    if order.state == "failed":
        return Result(name, "failed", f"after {seconds:g} s without reading: {order.says}", numbers)
    if lost.state == "failed":
        return Result(name, "noted", f"goes on after {seconds:g} s; did not fit: {lost.says}", numbers)
    return Result(name, "passed", f"goes on after {seconds:g} s, everything kept", numbers)


def replug(
    driver: Driver,
    resolution: Resolution,
    person: Person,
    listed: Callable[[], bool] | None = None,
    patience_s: float = PATIENCE_S,
) -> Result:
    """The cable is pulled and put back: the driver takes the camera up again by itself. ``listed``: whether the kernel
    lists the camera just now, None where that cannot be asked."""
    name = "unplug and replug"
    if not person.ask("Pull the camera's cable, please"):
        return Result(name, "skipped", "nobody pulled the cable")
    sample = Sample(resolution)
    gone = _until(driver, sample, patience_s, lambda _: "gone" in _facts(driver) or "came back" in _facts(driver))
    if gone is None:
        return Result(name, "failed", f"the driver did not notice within {patience_s:.0f} s that the camera is gone")
    person.say("It is noticed. Put the cable back in.")
    seen = None if listed is None else _until(driver, sample, patience_s, lambda _: listed())
    begun = len(sample.arrivals)

    def streams(sample: Sample) -> bool:
        return "gone" not in _facts(driver) and any(arrival.n for arrival in sample.arrivals[begun:])

    back = _until(driver, sample, patience_s, streams)
    if back is None:
        return Result(name, "failed", f"it was not taken up again within {patience_s:.0f} s")
    numbers = {"gone_s": back - gone}
    if listed is not None and seen is not None:
        numbers["back_s"] = back - seen
    order = check_stream.order(sample)
    wrong = [f"{int(n)} {key.replace('_', ' ')}" for key, n in order.numbers.items() if n and key != check_stream.JUMPS]
    if wrong:
        return Result(name, "failed", f"taken up again, but {', '.join(wrong)}", numbers)
    took = numbers.get("back_s")
    says = f"taken up again after {back - gone:.1f} s without it"
    if took is not None:
        says += f", {took:.1f} s after the computer saw it"
    return Result(name, "passed" if took is None or took <= BACK_S else "noted", says, numbers)


def _facts(driver: Driver) -> dict[str, Any]:
    return dict(getattr(driver, "facts", {}))


def _until(driver: Driver, sample: Sample, patience_s: float, done: Callable[[Sample], bool]) -> float | None:
    """Read until ``done``; when that was (time.monotonic), None: not within ``patience_s``."""
    until = time.monotonic() + patience_s
    while (now := time.monotonic()) < until:
        for packet in packets(driver):
            sample.add(packet)
        sample.parts.clear()  # a minute of events is not kept
        if done(sample):
            return now
    return None
