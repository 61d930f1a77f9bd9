"""A camera's own bytes in front of the windows: the same windows as of decoded events, every event accounted for."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from rtpipe.stage import EngineSpec
from rtpipe.types import FrameFlag, RawEvents, StreamInfo
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WINDOWS, WindowStage
from tests.raw_runs import DRIVING, SIZE, camera_bytes, packets

SPEC = EngineSpec("test", "voxel", False, False, 5)
STREAM = StreamInfo("camera/events", SIZE, "Gen4.1", "evt3")


@pytest.fixture(scope="module")
def raw_packets(shared):
    return list(packets(camera_bytes(shared(DRIVING)), range(0, 309_000, 2_500)))


def decoded(packet):
    """The same packet as an ordinary driver would have sent it."""
    from rtpipe import encodings

    body = packet.body
    return packet if body is None else replace(packet, body=encodings.decode(body, SIZE).events)


def cut(sent, **settings):
    """The windows of these packets, each as (start, end, events, flags, hash of its tensor), and the stage."""
    stage = WindowStage(WindowSettings(**settings), SPEC)
    stage.open([STREAM])
    windows = []
    for packet in sent:
        for made in stage.process(packet):
            if made.stream == WINDOWS and made.body is not None:
                w = made.body
                windows.append(
                    (w.t_start, w.t_end, w.n_events, w.flags, hashlib.sha256(w.tensor.tobytes()).hexdigest())
                )
    return windows, stage


@pytest.mark.parametrize(
    "settings",
    [{"by": "time", "length_us": 1000}, {"by": "time", "length_us": 1500, "hop_us": 700, "mode": "edges"},
     {"by": "count", "events": 20_000}],
)  # fmt: skip
def test_windows_of_raw_packets_are_those_of_decoded_ones(raw_packets, settings):
    raw, stage = cut(raw_packets, **settings)
    plain, same = cut(map(decoded, raw_packets), **settings)
    assert raw == plain
    assert len(raw) >= 8
    assert stage.flows["events"].taken == same.flows["events"].taken == 219_596
    assert all(flow.balanced for flow in stage.flows.values())


def test_what_a_packet_said_is_what_is_taken_whatever_is_in_it(raw_packets):
    """Bytes overwritten on the way: the run decodes to something, or is refused whole; the ledger balances."""
    rng = np.random.default_rng(2)
    sent, said = [], 0
    for packet in raw_packets:
        body = packet.body
        if isinstance(body, RawEvents) and packet.seq % 3:
            data = body.data.copy()
            data[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
            packet = replace(packet, body=replace(body, data=data))
        sent.append(packet)
        said += packet.n_events
    _, stage = cut(sent, by="time", length_us=1000)
    flow = stage.flows["events"]
    assert flow.balanced
    assert flow.taken == said == 219_596
    assert set(flow.dropped) - {"miscounted", "times", "coordinates", "order"} <= {"stream_ended"}
    assert flow.dropped["miscounted"] > 0


def test_a_refused_run_marks_its_windows(raw_packets):
    sent = [replace(p, body=replace(p.body, n=p.body.n - 1)) if p.seq == 60 else p for p in raw_packets]
    windows, stage = cut(sent, by="time", length_us=1000)
    hurt = [w for w in windows if w[3] & FrameFlag.INCOMPLETE]
    lost = next(p for p in raw_packets if p.seq == 60)
    assert len(hurt) == sum(w[0] <= lost.t_last and w[1] > lost.t_first for w in windows) > 0
    assert stage.flows["events"].dropped["miscounted"] == lost.n_events - 1


def test_a_run_earlier_than_what_was_promised_is_refused(raw_packets):
    early = replace(raw_packets[3], seq=30)
    sent = [*raw_packets[:30], early, *(replace(p, seq=p.seq + 1) for p in raw_packets[30:])]
    _, stage = cut(sent, by="time", length_us=1000)
    flow = stage.flows["events"]
    assert flow.dropped["order"] == early.n_events
    assert flow.taken == 219_596 + early.n_events
    assert flow.balanced
