"""What an edge promises: everything in order, or only the newest, and never a loss without a name."""

import pytest

from rtpipe.errors import WireError
from rtpipe.ledger import check
from rtpipe.types import Count, Packet, Window
from tests.sockets.pair import EVENTS, is_packet, packet, pair


def test_every_packet_arrives_whole_and_in_order(tmp_path):
    with pair(tmp_path) as both:
        engine = both.join()
        assert engine.streams == (EVENTS,)
        for seq in range(200):
            both.publisher.publish(packet(seq))
        both.end(200)
        taken = both.take_all()
        assert all(is_packet(received, seq) for seq, received in enumerate(taken[:-1]))
        assert taken[-1].end
        assert both.sent().acknowledged.count == Count(201, 2000) == both.sent().offered.count
        assert engine.ledger().processed.count == Count(201, 2000)
        assert taken[100].counters.sent == Count(101, 1010)
        assert check(both.sent(), engine.ledger()) is None


def test_large_payloads_go_through_reused_buffers_unharmed(tmp_path):
    with pair(tmp_path) as both:
        both.join()
        both.join("recorder")
        for seq in range(40):
            both.publisher.publish(packet(seq, 20_000 + seq))
            assert all(is_packet(r, seq, 20_000 + seq) for r in both.take() + both.take("recorder"))


def test_only_the_kinds_that_were_asked_for_are_sent(tmp_path):
    with pair(tmp_path, expected=("engine", "display")) as both:
        both.join()
        display = both.join("display", kinds=("frames",))
        both.publisher.publish(packet(0))
        both.publisher.publish(packet(0, 0, "camera/frames", end=True))
        assert [p.stream for p in both.take_all("display")] == ["camera/frames"]
        assert display.ended
        assert [p.stream for p in both.take()] == ["camera/events"]
        assert both.sent("display").offered.count == Count(1, 0)


def test_a_consumer_to_whom_nothing_will_come_is_at_its_end_at_once(tmp_path):
    with pair(tmp_path) as both:
        assert both.join(kinds=("imu",)).ended


def test_ready_when_all_who_are_expected_have_said_so(tmp_path):
    with pair(tmp_path, expected=("engine", "recorder")) as both:
        both.join()
        recorder = both.join("recorder", ready=False)
        both.settle()
        assert not both.publisher.ready
        assert not both.publisher.room
        recorder.say_ready()
        both.until(lambda: both.publisher.ready)
        assert both.publisher.room


def test_a_consumer_that_joins_later_is_told_where_it_starts(tmp_path):
    with pair(tmp_path) as both:
        both.join()
        for seq in range(5):
            both.publisher.publish(packet(seq))
        late = both.join("recorder", ready=False)
        for seq in range(5, 8):
            both.publisher.publish(packet(seq))
        late.say_ready()
        both.until(lambda: late._opened_by == both.publisher.instance)
        for seq in range(8, 10):
            both.publisher.publish(packet(seq))
        both.end(10)
        assert [p.seq for p in both.take_all("recorder")] == [8, 9, 10]
        assert [p.seq for p in both.take_all()] == list(range(11))
        assert not late.ledger().missed
        assert both.sent("recorder").offered.count == Count(3, 20)
        assert check(both.sent("recorder"), late.ledger()) is None
        assert check(both.sent(), both.subscribers["engine"].ledger()) is None


def test_a_consumer_that_joins_after_the_end_is_told_that_it_is_over(tmp_path):
    with pair(tmp_path, expected=()) as both:
        both.publisher.publish(packet(0))
        both.end(1)
        late = both.join("recorder")
        assert [p.seq for p in both.take_all("recorder")] == [1]
        assert check(both.sent("recorder"), late.ledger()) is None


def test_a_replay_has_no_room_when_a_queue_is_full(tmp_path):
    with pair(tmp_path, queue_bytes=20_000) as both:
        both.join()
        seq = 0
        while both.publisher.room:
            both.publisher.publish(packet(seq, 100))
            seq += 1
        assert 10 < seq < 20
        both.take()
        both.until(lambda: both.publisher.room)
        both.end(seq)
        both.take_all()
        assert not both.sent().dropped


def test_a_live_source_drops_the_newest_when_a_queue_is_full_and_both_sides_count_it(tmp_path):
    with pair(tmp_path, live=True, queue_bytes=20_000) as both:
        engine = both.join()
        for seq in range(100):
            both.publisher.publish(packet(seq, 100))
        kept = both.sent().offered.packets - both.sent().dropped["queue_full"].packets
        first = both.take(wanted=kept)
        assert [p.seq for p in first] == list(range(kept))
        both.until(lambda: both.publisher.drained)
        both.publisher.publish(packet(100, 100))
        both.end(101)
        both.take_all()
        lost = Count(100 - kept, 100 * (100 - kept))
        assert both.sent().dropped["queue_full"].count == lost
        assert engine.ledger().missed["queue_full"].count == lost
        assert engine.ledger().unexplained.packets == 0
        assert check(both.sent(), engine.ledger()) is None


def test_the_end_is_delivered_even_when_a_live_queue_is_full(tmp_path):
    with pair(tmp_path, live=True, queue_bytes=2000) as both:
        engine = both.join()
        for seq in range(50):
            both.publisher.publish(packet(seq, 100))
        both.end(50)
        assert both.take_all()[-1].end
        assert check(both.sent(), engine.ledger()) is None


def test_what_is_under_way_never_exceeds_the_credit(tmp_path):
    with pair(tmp_path) as both:
        both.join(credit_bytes=10_000)
        for seq in range(50):
            both.publisher.publish(packet(seq, 100))
        both.settle()
        assert both.sent().sent.packets == 7  # 7 · (800 + 512) bytes fit into 10,000
        both.take(wanted=50)


def test_a_packet_larger_than_queue_and_credit_passes_alone(tmp_path):
    for live in (False, True):
        with pair(tmp_path, live=live, queue_bytes=1000) as both:
            both.join(credit_bytes=1000)
            for seq in range(3):
                both.until(lambda: both.publisher.room)
                both.publisher.publish(packet(seq, 10_000))
                assert is_packet(both.take()[0], seq, 10_000)
                both.until(lambda: both.publisher.drained)


def test_latest_gets_the_newest_and_the_end_and_counts_the_rest_as_skipped(tmp_path):
    with pair(tmp_path, expected=("display",)) as both:
        display = both.join("display", delivery="latest")
        for seq in range(100):
            both.publisher.publish(packet(seq))
        both.end(100)
        assert [p.seq for p in both.take_all("display")] == [0, 99, 100]
        assert both.sent("display").dropped["skipped"].count == Count(98, 980)
        assert display.ledger().missed["skipped"].count == Count(98, 980)
        assert check(both.sent("display"), display.ledger()) is None


def test_latest_keeps_the_newest_of_each_stream(tmp_path):
    with pair(tmp_path, expected=("display",)) as both:
        both.join("display", delivery="latest", kinds=("events", "frames"))
        for seq in range(10):
            both.publisher.publish(packet(seq))
            both.publisher.publish(packet(seq, 0, "camera/frames"))
        assert {(p.stream, p.seq) for p in both.take("display", 4)} == {
            ("camera/events", 0), ("camera/frames", 0), ("camera/events", 9), ("camera/frames", 9),
        }  # fmt: skip


@pytest.mark.parametrize("live", [False, True])
def test_a_latest_consumer_that_is_stuck_neither_slows_nor_grows_anything(tmp_path, live):
    with pair(tmp_path, live=live, expected=("display",), queue_bytes=10_000) as both:
        both.join("display", delivery="latest")
        for seq in range(1000):
            assert both.publisher.room
            both.publisher.publish(packet(seq, 1000))
            both.publisher.serve()
        queue = both.publisher._edges["display"].queue
        assert len(queue.waiting) + len(queue.under_way) == 2
        assert both.sent("display").sent.packets == 1
        both.publisher._edges["display"].progress_at -= 3  # as if three seconds had gone by
        assert both.publisher.drained


def test_an_acknowledgement_covers_everything_before_it(tmp_path):
    with pair(tmp_path) as both:
        engine = both.join()
        for seq in range(5):
            both.publisher.publish(packet(seq))
        both.settle(0.05)
        held = [engine.receive() for _ in range(5)]
        assert engine.receive() is None
        assert both.sent().acknowledged.packets == 0
        engine.processed(held[2])
        both.settle(0.05)
        assert both.sent().acknowledged.packets == 3
        with pytest.raises(ValueError, match="not waiting"):
            engine.processed(held[2])
        engine.processed(held[4])
        both.until(lambda: both.publisher.drained)
        assert engine.ledger().processed.packets == 5


def test_a_packet_that_cannot_travel_is_refused_where_it_is_published(tmp_path):
    with pair(tmp_path) as both:
        engine = both.join()
        with pytest.raises(WireError):
            both.publisher.publish(Packet("camera/events", 0, 0, 1, 0, Window(0, 1, 0)))
        with pytest.raises(KeyError):
            both.publisher.publish(Packet("camera/imu", 0, 0, 1, 0))
        both.publisher.publish(packet(0))
        both.end(1)
        both.take_all()
        assert check(both.sent(), engine.ledger()) is None


def test_a_packet_lost_without_a_count_is_named_with_its_edge(tmp_path, monkeypatch):
    monkeypatch.setenv("RTPIPE_TEST_LOSE", "camera->engine:3")
    with pair(tmp_path, expected=("engine", "recorder")) as both:
        engine, recorder = both.join(), both.join("recorder")
        for seq in range(6):
            both.publisher.publish(packet(seq))
        both.end(6)
        assert [p.seq for p in both.take_all()] == [0, 1, 3, 4, 5, 6]
        assert len(both.take_all("recorder")) == 7
        assert engine.ledger().unexplained.count == Count(1, 10)
        assert "camera->engine" in check(both.sent(), engine.ledger())
        assert check(both.sent("recorder"), recorder.ledger()) is None
