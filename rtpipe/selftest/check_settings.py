"""Does a setting do what it says, whoever does it? Each is set on the streaming camera, looked at, and set back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rtpipe.errors import InputError, RtpipeError
from rtpipe.machine.cameras import Capability
from rtpipe.selftest.check_others import exposure_us
from rtpipe.selftest.check_stream import words
from rtpipe.selftest.result import Result
from rtpipe.selftest.sample import Sample, skip, take
from rtpipe.stage import Driver
from rtpipe.types import Resolution

SETTLE_S = 0.4
"""After a setting: what was under way before is let pass."""
MOST_S = 4.0
"""No look is longer."""
FEW_FRAMES = 6
FEW_EVENTS = 200
"""In a look of :attr:`Bench.seconds`: with fewer nothing can be said."""
EXPOSURES_US = (3000, 12000)
REFRACTORY_US = 20_000
LEAST_EFFECT = 0.2
"""Share by which a rate must change for a bias to have had an effect."""
ONLY_AT_THE_START = ("opened only", "start only")
"""How back ends end the words for a setting that cannot change while the camera streams."""
GENTLY = (0.4, 0.6)
"""Where in its range a bias is set: enough for an effect, too little for a flood."""
MOST_OVER = 1.25
"""A rate limit is held if the rate stays below so many times its value."""

NEEDS = {
    "antiflicker_hz": "needs a flickering light: look at one and set it by hand",
    "trail_us": "no rule for its effect; set it and compare the rates",
    "activity_us": "no rule for its effect; set it and compare the rates",
    "sync": "needs two cameras and a cable: docs/cameras.md",
    "trigger_out_us": "needs a cable from the trigger output to the input",
    "flip": "look at the display",
}
"""What cannot be judged by itself, and what to do."""


@dataclass
class Bench:
    """A streaming camera to try settings on. ``seconds`` of each look."""

    driver: Driver
    resolution: Resolution
    kinds: Sequence[str]
    seconds: float = 1.0

    def set(self, key: str, value: str) -> str:
        """What the driver answers. Raises ``RtpipeError``."""
        return self.driver.control(f"set {key} {value}")

    def look(self, frames: int = 0) -> Sample:
        """What comes now, after a moment; longer where there are not yet so many pictures in it."""
        skip(self.driver, SETTLE_S)
        sample = take(self.driver, self.resolution, self.seconds)
        while len(sample.frame_times) < frames and sample.seconds < MOST_S:
            sample = take(self.driver, self.resolution, min(2 * sample.seconds, MOST_S))
        return sample


Effect: TypeAlias = "Callable[[Bench, str, Capability | None], Result]"


def settings(bench: Bench, capabilities: Sequence[Capability]) -> Iterator[Result]:
    """One result for each setting: those that the hardware does, and those that this computer can do instead."""
    able = {capability.name: capability for capability in capabilities}
    biases = [name for name in able if name.startswith("biases.")]
    tried = ["roi", "mask", "rate_limit_mev_s", "refractory_us", "frames.exposure_us", *_sensitivity(biases)]
    for name in tried:
        if name == "frames.exposure_us" and (name not in able or "frames" not in bench.kinds):
            continue
        yield one(bench, name, able.get(name))
    for name in able:
        if name not in tried and name in NEEDS:
            yield Result(f"setting {name}", "skipped", NEEDS[name])
    others = [name.partition(".")[2] for name in biases if name not in tried]
    if others:
        yield Result("setting biases", "skipped", f"not tried: {', '.join(others)}")


def one(bench: Bench, name: str, capability: Capability | None) -> Result:
    """Try one setting and set it back. ``capability``: what the hardware says of it, None: done by this computer."""
    effect: Effect = _bias if name.startswith("biases.") else EFFECTS[name]
    check = f"setting {name}"
    if capability is not None and capability.says.endswith(ONLY_AT_THE_START):
        return Result(check, "skipped", f"{capability.says}: put it into a pipeline file")
    try:
        result = effect(bench, name, capability)
    except InputError as error:
        result = Result(check, "failed" if capability is not None else "skipped", str(error))
    except RtpipeError as error:
        return Result(check, "failed", str(error))
    try:
        bench.set(name, "off")
    except RtpipeError as error:
        if result.state == "passed":
            return Result(check, "failed", f"cannot be set back: {error}", result.numbers)
    return result


def _by(answer: str) -> str:
    found = re.search(r"\((hardware|host)", answer)
    return found.group(1) if found else "?"


def _roi(bench: Bench, name: str, _: Capability | None) -> Result:
    width, height = bench.resolution
    x, y, w, h = width // 4, height // 4, width // 2, height // 2
    answer = bench.set(name, f"{x},{y},{w},{h}")
    sample = bench.look()
    events = sample.events
    inside = (events.x >= x) & (events.x < x + w) & (events.y >= y) & (events.y < y + h)
    outside = len(events) - int(np.count_nonzero(inside))
    numbers = {"inside": float(len(events) - outside), "outside": float(outside)}
    return _judged(
        name, answer, len(events), outside == 0, f"{outside:,} of {len(events):,} events outside it", numbers
    )


def _mask(bench: Bench, name: str, _: Capability | None) -> Result:
    counts = bench.look().counts()
    index = int(counts.argmax())
    y, x = divmod(index, bench.resolution[0])
    before = int(counts[y, x])
    answer = bench.set(name, f"{x},{y}")
    sample = bench.look()
    after = int(sample.counts()[y, x])
    numbers = {"before": float(before), "after": float(after)}
    says = f"pixel {x},{y} sent {before} before and {after} after"
    return _judged(name, answer, before * FEW_EVENTS // 5, after == 0, says, numbers)


def _rate_limit(bench: Bench, name: str, _: Capability | None) -> Result:
    before = bench.look().rate
    wanted = max(before / 2, 2000.0)
    answer = bench.set(name, f"{wanted / 1e6:.6f}")
    after = bench.look().rate
    numbers = {"before_per_s": before, "limit_per_s": wanted, "after_per_s": after}
    says = f"{words(before)}/s before, limited to {words(wanted)}/s: {words(after)}/s"
    enough = FEW_EVENTS if before > wanted else 0
    return _judged(name, answer, enough, after <= MOST_OVER * wanted, says, numbers)


def _refractory(bench: Bench, name: str, _: Capability | None) -> Result:
    answer = bench.set(name, str(REFRACTORY_US))
    sample = bench.look()
    events = sample.events
    pixel = events.y.astype(np.int64) * bench.resolution[0] + events.x
    order = np.argsort(pixel, kind="stable")
    same = pixel[order][1:] == pixel[order][:-1]
    gaps = np.diff(events.t[order])[same]
    broken = int(np.count_nonzero(gaps < REFRACTORY_US * 0.9))
    numbers = {"pairs": float(len(gaps)), "too_soon": float(broken)}
    says = f"{broken:,} of {len(gaps):,} events within {REFRACTORY_US / 1000:.0f} ms of their pixel's last"
    return _judged(name, answer, len(events), broken == 0, says, numbers)


def _exposure(bench: Bench, name: str, _: Capability | None) -> Result:
    found: list[tuple[float, float]] = []
    for wanted in EXPOSURES_US:
        answer = bench.set(name, str(wanted))
        times = bench.look(FEW_FRAMES).frame_times[1:]
        brightness = float(np.mean([each.mean for each in times])) if times else float("nan")
        found.append((exposure_us(times), brightness))
    numbers: dict[str, float] = {}
    for wanted, (obtained, brightness) in zip(EXPOSURES_US, found, strict=True):
        numbers |= {f"obtained_us_at_{wanted}": obtained, f"brightness_at_{wanted}": brightness}
    if any(math.isnan(obtained) for obtained, _ in found):
        return Result(f"setting {name}", "failed", "pictures without an exposure, or none", numbers)
    right = all(abs(got - wanted) <= 0.2 * wanted for wanted, (got, _) in zip(EXPOSURES_US, found, strict=True))
    says = ", ".join(f"{wanted} µs gives {got:.0f}" for wanted, (got, _) in zip(EXPOSURES_US, found, strict=True))
    if right and found[1][1] <= found[0][1] and found[0][1] < 0.9:
        return Result(
            f"setting {name}", "noted", f"{says}; but the pictures do not get brighter ({_by(answer)})", numbers
        )
    return Result(f"setting {name}", "passed" if right else "failed", f"{says} ({_by(answer)})", numbers)


def _bias(bench: Bench, name: str, capability: Capability | None) -> Result:
    low, high = _range(name, capability.says if capability is not None else "")
    if low is None or high is None:
        return Result(f"setting {name}", "skipped", "its range is not told")
    less, more = (low + round((high - low) * share) for share in GENTLY)
    rates, answer = [], ""
    for value in (less, more, less):  # twice the same: how much the scene itself changes
        answer = bench.set(name, str(value))
        rates.append((value, bench.look().rate))
    first, changed, again = (rate for _, rate in rates)
    most = max(first, changed, again, 1.0)
    change, scene = abs(changed - (first + again) / 2) / most, abs(first - again) / most
    says = ", ".join(f"{words(rate)}/s at {value}" for value, rate in rates) + f" ({_by(answer)})"
    numbers = {f"rate_at_{value}{' again' * (n == 2)}": rate for n, (value, rate) in enumerate(rates)}
    if max(rate for _, rate in rates) * bench.seconds < FEW_EVENTS:
        return Result(f"setting {name}", "skipped", f"{says}: too few events to judge", numbers)
    if change < max(LEAST_EFFECT, scene):
        return Result(
            f"setting {name}", "noted", f"{says}: no effect on the rate (did the scene move evenly?)", numbers
        )
    return Result(f"setting {name}", "passed", says, numbers)


EFFECTS: dict[str, Effect] = {
    "roi": _roi,
    "mask": _mask,
    "rate_limit_mev_s": _rate_limit,
    "refractory_us": _refractory,
    "frames.exposure_us": _exposure,
}


def _judged(name: str, answer: str, n: int, right: bool, says: str, numbers: dict[str, float]) -> Result:
    check = f"setting {name}"
    says = f"{says} ({_by(answer)})"
    if not right:
        return Result(check, "failed", says, numbers)
    if n < FEW_EVENTS:
        return Result(check, "skipped", f"{says}: too few events to judge", numbers)
    return Result(check, "passed", says, numbers)


def _sensitivity(biases: Sequence[str]) -> list[str]:
    """Those that set the contrast an event needs, which have a plain effect and do no harm. Of a current, its fine
    part: the coarse one changes it tenfold."""
    contrast = re.compile(r"diff_?on|diff_?off|onbn|offbn|threshold|contrast|sensitivity", re.IGNORECASE)
    return [name for name in biases if contrast.search(name) and not name.endswith(".coarse")]


def _range(name: str, says: str) -> tuple[int | None, int | None]:
    """``(-20, 100)`` from ``"-20 to 100"``; of ``"coarse 0 to 7, fine 0 to 255"`` the part that ``name`` ends with."""
    part = name.rpartition(".")[2]
    found = re.search(rf"{re.escape(part)} (-?[\d,]+) to (-?[\d,]+)", says)
    found = found or re.search(r"^(-?[\d,]+) to (-?[\d,]+)", says)
    if found is None:
        return None, None
    low, high = (int(each.rstrip(",").replace(",", "")) for each in found.groups())
    return low, high
