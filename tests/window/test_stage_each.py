"""Windows one after the other: as many as a packet closes, in as many buffers as are open at a time."""

import pytest

from rtpipe.types import FrameFlag, Packet
from rtpipe.window.stage import LONGEST_SILENCE_US
from tests.window.test_stage import EVENTS, Feed, bits, pack, ramp, stage


@pytest.mark.parametrize("representation", ["voxel", "scer", "count", "events"])
@pytest.mark.parametrize("by", [{"length_us": 10}, {"length_us": 30, "hop_us": 10}, {"length_us": 10, "hop_us": 30}])
def test_one_after_the_other_they_are_the_same_as_all_at_once(representation, by):
    at_once, in_turn = (stage(representation, picture=True, by="time", **by) for _ in range(2))
    packets = [
        Packet(EVENTS, 0, 0, 300, 1, pack(ramp(0, 300))),
        Packet(EVENTS, 1, 300, 900, 1),  # silence
        Packet(EVENTS, 2, 900, 950, 1, pack(ramp(900, 950))),
        Packet(EVENTS, 3, 0, 100, 1, pack(ramp(0, 100)), epoch=1),
        Packet(EVENTS, 4, 100, 100, 1, end=True, epoch=1),
    ]
    made = [bits(out) for packet in packets for out in at_once.process(packet)]
    assert [bits(out) for packet in packets for out in in_turn.each(packet)] == made
    assert in_turn.flows == at_once.flows
    assert len(made) > 60


def test_a_long_silence_closes_many_windows_in_one_buffer():
    made = stage("count", by="time", length_us=10)
    feed = Feed(made)
    feed.events(ramp(0, 5))
    tensors = {id(out.body.tensor) for out in made.each(Packet(EVENTS, 1, 5, 100_000, 1))}
    assert made.flows["windows"].passed == 10_000
    assert len(tensors) <= 2


def test_beyond_the_longest_silence_time_has_jumped():
    feed = Feed(stage("count", by="time", length_us=1_000_000))
    feed.events(ramp(0, 50))
    far = LONGEST_SILENCE_US + 100
    assert len(feed.events(ramp(far, far + 50), t_last=far + 1_000_000)) == 1
    (window,) = feed.made
    assert window.body.flags & FrameFlag.STATE_RESET
    assert window.body.n_events == 50
    assert feed.stage.flows["windows"].dropped == {"discontinuity": 1}
    assert feed.stage.flows["events"].dropped == {"discontinuity": 50}


def test_a_time_without_reason_makes_no_windows_without_end():
    feed = Feed(stage("count", by="time", length_us=10))
    feed.events(ramp(0, 50))
    assert feed(EVENTS, 50, 1 << 61) == []
