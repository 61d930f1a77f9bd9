"""docs/wire.md says what the code does: its messages decode to what it says, and are what is encoded."""

import numpy as np
import pytest

from rtpipe import raw, wire
from rtpipe.types import Count, Counters, Events, Frame, FrameFlag, Imu, Packet, Trigger
from tests.test_wire import assert_same, message


def documented_vectors(text):
    """The messages that docs/wire.md gives in hex: name -> (resolution, parts)."""
    vectors = {}
    for block in text.split("```vector\n")[1:]:
        lines = block.split("```")[0].strip().splitlines()
        name, _, size = lines[0].partition(" ")
        resolution = tuple(int(side) for side in size.split("x")) if size else None
        parts = []
        for line in lines[1:]:
            if not line.startswith(" "):
                parts.append("")
            parts[-1] += line.partition("#")[0]
        vectors[name] = (resolution, [bytes.fromhex(part) for part in parts])
    return vectors


@pytest.fixture(scope="module")
def vectors(request):
    return documented_vectors((request.config.rootpath / "docs" / "wire.md").read_text())


def test_the_documents_vectors_decode_to_what_it_says(vectors):
    events = wire.decode(vectors["events"][1], vectors["events"][0])
    assert_same(
        Packet("camera/events", 5, 1_000_000, 1_001_000, 123_456_789,
               Events(np.array([1_000_000, 1_000_004, 1_000_999]), np.uint16([0, 345, 12]), np.uint16([0, 259, 34]),
                      np.uint8([1, 0, 1])),
               1, False, Counters(Count(5, 1003), {"queue_full": Count(1, 10)})),
        events,
    )  # fmt: skip
    watermark = wire.decode(vectors["watermark"][1], vectors["watermark"][0])
    assert_same(Packet("camera/events", 6, 1_001_000, 1_003_000, 123_556_789, None, 1, True,
                       Counters(Count(6, 1003), {"queue_full": Count(1, 10)})), watermark)  # fmt: skip
    frame = wire.decode(vectors["frame"][1], vectors["frame"][0])
    image = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    body = Frame(image, 5000, 1000, 9000, "edi", FrameFlag.INCOMPLETE, window_start=2000)
    assert_same(Packet("engine/output", 0, 1000, 9000, 7, body, counters=Counters(Count(1, 0))), frame)
    imu = wire.decode(vectors["imu"][1], vectors["imu"][0])
    body = Imu(np.array([1000]), np.float32([[0, 0, 9.8125]]), np.float32([[0.5, 0, -0.5]]), np.float32([25]))
    assert_same(Packet("camera/imu", 0, 1000, 1000, 7, body, counters=Counters(Count(1, 0))), imu)
    trigger = wire.decode(vectors["triggers"][1], vectors["triggers"][0])
    body = Trigger(np.array([1000, 2000]), np.uint8([0, 2]), np.uint8([1, 0]))
    assert_same(Packet("camera/triggers", 0, 1000, 2000, 7, body, counters=Counters(Count(1, 0))), trigger)


def test_what_is_encoded_is_what_the_document_says(vectors):
    for resolution, parts in vectors.values():
        packet = wire.decode(parts, resolution)
        assert message(packet) == parts


def test_the_documents_raw_words_decode_to_what_it_says(vectors):
    packet = wire.decode(vectors["raw"][1], vectors["raw"][0])
    assert (packet.seq, packet.t_first, packet.t_last, packet.epoch, packet.n_events) == (9, 1_004_101, 1_006_000, 2, 3)
    events, refused = raw.opened(packet.body, (1280, 720), packet.t_first, packet.t_last)
    assert refused == {}
    assert [events.t.tolist(), events.x.tolist()] == [[1_004_101] * 3, [200, 300, 301]]
    assert [events.y.tolist(), events.p.tolist()] == [[100] * 3, [1, 0, 0]]
