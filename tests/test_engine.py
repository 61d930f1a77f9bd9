"""The engine stage: its ledger, its resets, and how engines are found."""

from collections.abc import Sequence

import numpy as np
import pytest

from rtpipe.engine import FAILED, OUTPUT, EngineStage, load_engine
from rtpipe.errors import InputError
from rtpipe.stage import EngineSpec
from rtpipe.types import Events, Frame, FrameFlag, Packet, Resolution, StreamInfo, Window


class Recorder:
    """An engine that writes down what is done with it and copies frames; fails, says nothing or says more on order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.answers = 1

    @property
    def spec(self) -> EngineSpec:
        return EngineSpec("recorder", "events", needs_frame=True, stateful=True)

    def warm(self, resolution: Resolution) -> None:
        self.done.append(f"warm {resolution}")

    def reset(self) -> None:
        self.done.append("reset")

    def infer(self, window: Window) -> Sequence[Frame]:
        self.done.append("infer")
        if self.answers < 0:
            raise ValueError("no good")
        image = np.zeros((2, 2), np.uint8)
        return [Frame(image, window.t_start + k, source="recorder") for k in range(self.answers)]


def window(t: int, frame: bool = True, epoch: int = 0, end: bool = False) -> Packet:
    camera = Frame(np.full((2, 2), 7, np.uint8), t + 5, t, t + 10) if frame else None
    return Packet("engine/window", 0, t, t + 10, 1000 + t, Window(t, t + 10, 0, frame=camera), epoch, end)


WINDOWS = StreamInfo("engine/window", (2, 2), "DAVIS346")


def test_opening_warms_the_engine_and_names_the_streams() -> None:
    engine = Recorder()
    others = [StreamInfo("engine/picture", (2, 2)), StreamInfo("camera/imu")]
    emitted = EngineStage(engine).open([others[0], WINDOWS, others[1]])
    assert set(emitted) == {*others, StreamInfo(OUTPUT, (2, 2), "DAVIS346")}
    assert engine.done[0] == "warm (2, 2)"


@pytest.mark.parametrize(
    "streams", [[], [StreamInfo("camera/events", (2, 2))], [StreamInfo("engine/window")], [WINDOWS, WINDOWS]]
)
def test_opening_without_one_stream_of_windows_is_refused(streams: list[StreamInfo]) -> None:
    with pytest.raises(InputError, match="recorder"):
        EngineStage(Recorder()).open(streams)


def test_a_programming_error_at_open_is_not_hidden() -> None:
    class Broken(Recorder):
        def warm(self, resolution: Resolution) -> None:
            raise TypeError("wrong")

    with pytest.raises(TypeError):
        EngineStage(Broken()).open([WINDOWS])


def test_frames_bear_their_windows_arrival_and_their_own_count() -> None:
    stage = EngineStage(Recorder())
    stage.open([WINDOWS])
    packets = [out for t in (0, 10, 20) for out in stage.process(window(t))]
    assert [p.stream for p in packets] == [OUTPUT] * 3
    assert [p.seq for p in packets] == [0, 1, 2]
    assert [p.received_ns for p in packets] == [1000, 1010, 1020]
    assert all(isinstance(p.body, Frame) and p.t_first == p.t_last == p.body.t for p in packets)


def test_other_streams_pass_unchanged() -> None:
    stage = EngineStage(Recorder())
    stage.open([WINDOWS])
    picture = Packet("engine/picture", 4, 1, 2, 3, Frame(np.zeros((2, 2), np.uint8), 1))
    events = Packet("camera/events", 4, 1, 2, 3, Events.empty())
    assert stage.process(picture) == (picture,)
    assert stage.process(events) == (events,)
    assert stage.flows["windows"].taken == 0


def test_watermarks_and_the_end_go_on_as_the_outputs_own() -> None:
    stage = EngineStage(Recorder())
    stage.open([WINDOWS])
    (mark,) = stage.process(Packet("engine/window", 0, 0, 50, 9))
    assert (mark.stream, mark.body, mark.t_last, mark.end) == (OUTPUT, None, 50, False)
    (late,) = stage.process(window(20))
    assert late.t_last == 50  # time in a stream never runs back
    (end,) = stage.process(Packet("engine/window", 2, 60, 60, 9, end=True))
    assert end.end
    frame, end = stage.process(window(70, end=True))
    assert isinstance(frame.body, Frame)
    assert not frame.end
    assert end.end
    assert [mark.seq, late.seq, frame.seq, end.seq] == [0, 1, 3, 4]


def test_a_new_epoch_resets_the_engine_and_marks_the_next_frame() -> None:
    engine = Recorder()
    stage = EngineStage(engine)
    stage.open([WINDOWS])
    engine.done.clear()

    def flags(packet: Packet) -> list[bool]:
        return [bool(p.body.flags & FrameFlag.STATE_RESET) for p in stage.process(packet) if isinstance(p.body, Frame)]

    assert flags(window(100)) == [True]  # the start
    assert flags(window(110)) == [False]
    assert "reset" not in engine.done
    engine.answers = 0
    assert flags(window(5, epoch=1)) == []
    assert engine.done.count("reset") == 1
    engine.answers = 2
    assert flags(window(15, epoch=1)) == [True, False]  # the first frame there is, however late
    (back,) = stage.process(Packet("engine/window", 0, 16, 17, 0, epoch=1))
    assert (back.epoch, back.t_last) == (1, 17)  # the jump back is seen downstream
    assert engine.done.count("reset") == 1


def test_a_window_on_which_the_engine_fails_is_counted_and_shown_as_it_came() -> None:
    engine = Recorder()
    stage = EngineStage(engine)
    stage.open([WINDOWS])
    engine.answers = -1
    (shown,) = stage.process(window(0))
    assert isinstance(shown.body, Frame)
    assert shown.body.flags & FrameFlag.PASSED_THROUGH
    assert (shown.body.image == 7).all()
    assert stage.process(window(10, frame=False)) == []
    engine.answers = 1
    assert len(stage.process(window(20))) == 1
    flow = stage.flows["windows"]
    assert (flow.taken, flow.passed, flow.dropped) == (3, 1, {FAILED: 2})
    assert flow.balanced
    assert stage.last_error == "ValueError: no good"
    assert stage.close() == ()


def test_the_report_says_what_was_passed_through_and_what_failed() -> None:
    engine = Recorder()
    stage = EngineStage(engine)
    stage.open([WINDOWS])
    stage.process(window(0))
    assert stage.facts == {}
    engine.answers = -1
    stage.process(window(20))
    assert "1 of 2" in stage.facts["passed through"]
    assert "no good" in stage.facts["engine error"]


def test_engines_are_found_by_name_with_checked_settings() -> None:
    engine = load_engine("edi", at=0.25, contrast=0.3)
    assert engine.spec == EngineSpec("edi", "events", needs_frame=True, stateful=False)
    with pytest.raises(InputError, match=r"no engine 'eddi'.*edi"):
        load_engine("eddi")
    with pytest.raises(InputError, match=r"contrats.*at, frames, contrast"):
        load_engine("edi", contrats=0.3)
    with pytest.raises(InputError, match="edi"):
        load_engine("edi", contrast="high")
    with pytest.raises(InputError, match="edi"):
        load_engine("edi", at=1.5)
