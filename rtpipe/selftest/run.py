"""All checks, one after the other, on a driver that is made for it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version

from rtpipe.errors import RtpipeError, WorldError
from rtpipe.machine.cameras import Capability
from rtpipe.selftest import check_others, check_settings, check_situations, check_stream
from rtpipe.selftest.check_situations import Person
from rtpipe.selftest.result import Report, Result
from rtpipe.selftest.sample import Sample, skip, take
from rtpipe.stage import Driver
from rtpipe.types import Resolution, StreamInfo

WARM_S = 0.5
"""Let pass at the start: kernels compile, exposure settles."""


@dataclass
class Plan:
    """What is tested, and how long: ``seconds`` the main look, ``look_s`` at each setting, ``still_s`` at rest.
    ``capabilities`` of the camera's hardware; ``listed`` see :func:`rtpipe.selftest.check_situations.replug`."""

    name: str
    driver: Driver
    capabilities: Sequence[Capability] = ()
    seconds: float = 10.0
    look_s: float = 1.0
    still_s: float = 2.0
    stall_s: float = check_situations.STALL_S
    patience_s: float = check_situations.PATIENCE_S
    listed: Callable[[], bool] | None = None
    unplug: bool = True


def run(plan: Plan, person: Person) -> tuple[Report, Sample]:
    """Open the camera, check everything, let it go. What breaks the driver is a failed check, not an exception; only
    opening raises (``RtpipeError``). The sample is what the picture is drawn from."""
    driver = plan.driver
    streams = driver.open()
    results: list[Result] = []
    resolution = _resolution(streams)
    sample = Sample(resolution)
    facts: Mapping[str, str] = {}
    try:
        facts = dict(getattr(driver, "facts", {}))
        person.say(f"Opened: {about(facts) or plan.name}; it sends {', '.join(s.kind for s in streams)}.")
        for result in _checks(plan, person, streams, sample):
            results.append(result)
            person.say(line(result))
    except RtpipeError as error:
        results.append(Result("the driver", "failed", str(error)))
        person.say(line(results[-1]))
    finally:
        lost = check_stream.dropped(getattr(driver, "flows", {}))
        driver.close()
    dropped = {f"{kind}, {reason}": n for kind, reasons in lost.items() for reason, n in reasons.items()}
    report = Report(
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version("rtpipe"),
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}",
        plan.name,
        dict(facts),
        tuple(stream.kind for stream in streams),
        resolution,
        plan.seconds,
        tuple(results),
        dropped,
    )
    return report, sample


def _resolution(streams: Sequence[StreamInfo]) -> Resolution:
    for stream in streams:
        if stream.kind == "events" and stream.resolution is not None:
            return stream.resolution
    raise WorldError("this driver sends no events: there is nothing to test")


def _checks(plan: Plan, person: Person, streams: Sequence[StreamInfo], sample: Sample) -> Iterator[Result]:
    driver, resolution = plan.driver, sample.resolution
    kinds = [stream.kind for stream in streams]
    person.say(f"Move something in front of the camera, all over the picture, for {plan.seconds:.0f} s …")
    skip(driver, WARM_S)
    before = check_stream.dropped(getattr(driver, "flows", {}))
    vars(sample).update(vars(take(driver, resolution, plan.seconds)))  # what was taken is the caller's, whatever fails
    yield check_stream.rate(sample)
    yield check_stream.order(sample)
    yield check_stream.clock(sample)
    yield check_stream.coordinates(sample)
    yield check_stream.polarity(sample)
    if "frames" in kinds:
        yield check_others.frames(sample)
    if "triggers" in kinds:
        yield check_others.triggers(sample)
    if "imu" in kinds:
        person.say(f"Now put it down and let it rest for {plan.still_s:.0f} s …")
        yield check_others.imu(take(driver, resolution, plan.still_s))
    yield check_stream.losses(before, getattr(driver, "flows", {}))
    person.say("Go on moving something in front of it, evenly: settings are tried now …")
    yield from check_settings.settings(check_settings.Bench(driver, resolution, kinds, plan.look_s), plan.capabilities)
    yield check_situations.stall(driver, resolution, plan.stall_s)
    if plan.unplug:
        yield check_situations.replug(driver, resolution, person, plan.listed, plan.patience_s)


SIGNS = {"passed": "ok    ", "noted": "note  ", "failed": "FAILED", "skipped": "-     "}


def line(result: Result) -> str:
    """One result as it is printed."""
    return f"{SIGNS[result.state]} {result.check}: {result.says}"


def about(facts: Mapping[str, str]) -> str:
    """The driver's facts in one line."""
    return ", ".join(text if name in ("camera", "connection") else f"{name} {text}" for name, text in facts.items())


def summary(report: Report) -> str:
    """How it ended, in one line."""
    n = {state: sum(result.state == state for result in report.results) for state in SIGNS}
    says = f"{n['passed']} checks passed, {n['noted']} with a note, {n['failed']} failed, {n['skipped']} not tried"
    return f"{says}: {'this camera works here' if report.ok else 'this camera does not work here as it should'}"
