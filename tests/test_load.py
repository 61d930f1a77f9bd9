"""When pictures take too long: latency stays bounded, nothing is lost without a name, and a recording waits."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import pytest

from rtpipe.engine import SKIPPED, EngineStage
from rtpipe.load import LEAST_MS, LoadSettings, Patience, patience
from rtpipe.stage import EngineSpec
from rtpipe.types import Frame, FrameFlag, Packet, Resolution, StreamInfo, Window

MS = 1_000_000
PERIOD_US = 40_000
WINDOWS = StreamInfo("engine/window", (2, 2))


class Clock:
    """CLOCK_MONOTONIC in the hands of the test."""

    def __init__(self) -> None:
        self.now = 1_000 * MS

    def __call__(self) -> int:
        return self.now


class Slow:
    """An engine that takes its time, on the test's clock."""

    def __init__(self, clock: Clock, takes_ms: float, name: str = "slow", stateful: bool = True) -> None:
        self.clock, self.takes_ms, self.name, self.stateful = clock, takes_ms, name, stateful
        self.seen: list[int] = []
        self.missed: list[int] = []

    @property
    def spec(self) -> EngineSpec:
        return EngineSpec(self.name, "events", needs_frame=False, stateful=self.stateful)

    def warm(self, resolution: Resolution) -> None: ...
    def reset(self) -> None: ...

    def infer(self, window: Window) -> Sequence[Frame]:
        self.clock.now += round(self.takes_ms * MS)
        self.seen.append(window.t_end)
        return [Frame(np.zeros((2, 2), np.uint8), window.t_end, source=self.name)]

    def skipped(self, window: Window) -> None:
        self.missed.append(window.t_end)


def window(k: int, clock: Clock, begun: int, epoch: int = 0) -> Packet:
    """The k-th window of a camera that began at ``begun`` on the clock."""
    end = (k + 1) * PERIOD_US
    return Packet("engine/window", k, end - 20_000, end, begun + end * 1000, Window(end - 20_000, end, 5), epoch)


def live(stage: EngineStage, clock: Clock, windows: int) -> tuple[list[Packet], list[float]]:
    """Run as the worker does: one window after the other, as soon as it is there. What came out, and how old each
    picture was when it did, in ms."""
    stage.open([WINDOWS])
    begun = clock.now
    queue = deque(window(k, clock, begun) for k in range(windows))
    made: list[Packet] = []
    ages = []
    while queue:
        packet = queue.popleft()
        clock.now = max(clock.now, packet.received_ns)
        for out in stage.process(packet):
            made.append(out)
            if out.body is not None:
                ages.append((clock.now - out.received_ns) / MS)
    return made, ages


@pytest.mark.parametrize("takes_ms", [10, 39, 41, 60, 130, 400])
def test_latency_is_bounded_by_the_budget_and_one_picture(takes_ms: float) -> None:
    clock = Clock()
    stage = EngineStage(Slow(clock, takes_ms), Patience(True, now_ns=clock))
    _, ages = live(stage, clock, 100)
    assert max(ages) <= 2 * PERIOD_US / 1000 + takes_ms + 1
    flow = stage.flows["windows"]
    assert flow.balanced
    assert flow.taken == 100
    assert flow.passed == len(ages)
    assert (SKIPPED in flow.dropped) == (takes_ms > PERIOD_US / 1000)
    possible = 100 * PERIOD_US / 1000 / takes_ms
    assert len(ages) >= min(100, 0.9 * possible - 2), "no more is skipped than must be"


def test_without_patience_and_of_a_recording_everything_waits() -> None:
    for given in (None, patience(LoadSettings(), live=False), patience(LoadSettings(late="wait"), live=True)):
        clock = Clock()
        stage = EngineStage(Slow(clock, 130), given)
        _, ages = live(stage, clock, 50)
        assert len(ages) == 50
        assert max(ages) > 4000
        assert stage.flows["windows"].dropped == {}
        assert stage.facts == {}


def test_what_is_skipped_of_what() -> None:
    assert patience(LoadSettings(), live=True)._skipping
    assert patience(LoadSettings(late="skip"), live=False)._skipping


def test_the_picture_after_a_gap_says_so_and_the_gap_is_told_downstream() -> None:
    clock = Clock()
    engine = Slow(clock, 130)
    stage = EngineStage(engine, Patience(True, now_ns=clock))
    made, _ = live(stage, clock, 30)
    assert sorted(engine.seen + engine.missed) == [(k + 1) * PERIOD_US for k in range(30)]
    previous = 0
    for packet in made:
        if packet.body is None:  # a watermark where a picture would have been
            continue
        assert isinstance(packet.body, Frame)
        gap = packet.body.t - previous > PERIOD_US
        assert bool(packet.body.flags & FrameFlag.SKIPPED_BEFORE) == gap
        previous = packet.body.t
    assert len(made) == 30
    times = [packet.t_last for packet in made]
    assert times == sorted(times)
    assert [packet.seq for packet in made] == list(range(30))


def test_the_report_says_how_many_and_why() -> None:
    clock = Clock()
    stage = EngineStage(Slow(clock, 130), Patience(True, 55.0, clock))
    live(stage, clock, 30)
    skipped = stage.flows["windows"].dropped[SKIPPED]
    assert stage.facts["skipped"] == f"{skipped} of 30 (waited over 55 ms)"


@pytest.mark.parametrize("stateful", [True, False])
def test_a_lighter_engine_stands_in_for_what_would_be_skipped(stateful: bool) -> None:
    clock = Clock()
    heavy, light = Slow(clock, 100), Slow(clock, 2, "light", stateful)
    stage = EngineStage(heavy, Patience(True, now_ns=clock), light)
    made, ages = live(stage, clock, 60)
    sources = [packet.body.source for packet in made if isinstance(packet.body, Frame)]
    assert len(sources) == 60
    assert set(sources) == {"slow", "light"}
    flow = stage.flows["windows"]
    assert (flow.taken, flow.passed, flow.dropped) == (60, 60, {})
    assert max(ages) <= 2 * PERIOD_US / 1000 + 104 + 1
    assert len(light.seen) == (60 if stateful else sources.count("light")), "one with a state follows all along"
    assert stage.facts["late"] == f"{sources.count('light')} of 60, made by light"
    assert not any(p.body.flags & FrameFlag.SKIPPED_BEFORE for p in made if isinstance(p.body, Frame))


def test_the_budget_follows_the_windows_and_forgets_jumps() -> None:
    waits = Patience(True)
    assert waits.budget_ms == LEAST_MS
    clock = Clock()
    for k in range(20):
        waits.late(window(k, clock, 0), Window((k + 1) * PERIOD_US - 5, (k + 1) * PERIOD_US, 0))
    assert waits.budget_ms == pytest.approx(80)
    far = 10**9
    waits.late(window(20, clock, 0, epoch=1), Window(far, far + 5, 0))
    assert waits.budget_ms == pytest.approx(80)
    assert Patience(True, 7.0).budget_ms == 7.0


def test_what_says_nothing_of_its_arrival_is_never_late() -> None:
    packet = Packet("engine/window", 0, 0, 10, 0, Window(0, 10, 0))
    assert not Patience(True, 1.0).late(packet, Window(0, 10, 0))
