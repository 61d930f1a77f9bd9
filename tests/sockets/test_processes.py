"""Real processes that are stopped, killed and restarted in the middle of it."""

import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest

from rtpipe.ledger import ReceivedLedger, SentLedger, check
from rtpipe.sockets import Subscriber
from tests.sockets.pair import is_packet, packet, pair
from tests.sockets.peer import Process


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def started(both, **settings):
    """A consumer in a process of its own, ready for packets."""
    peer = Process("consumer", endpoint=both.endpoint, **settings)
    name = settings["name"]
    was = both.publisher._edges.get(name)
    before = was.hello.instance if was is not None and was.hello is not None else None

    def up():
        edge = both.publisher._edges.get(name)
        return edge is not None and edge.state.name == "OPEN" and edge.hello.instance != before

    both.until(up)
    return peer


def wait(both, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        both.publisher.socket.poll(5)
        both.publisher.serve()
    assert condition()


def test_a_stopped_consumer_makes_a_replay_wait_and_nothing_is_lost(tmp_path):
    with pair(tmp_path, queue_bytes=1 << 20) as both, started(both, name="engine", n=1000) as engine:
        engine.signal(signal.SIGSTOP)
        seq = 0
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            if both.publisher.room:
                both.publisher.publish(packet(seq, 1000))
                seq += 1
            both.publisher.serve()
        assert not both.publisher.room
        assert seq * 8000 < 2 << 20
        engine.signal(signal.SIGCONT)
        wait(both, lambda: both.publisher.room)
        both.end(seq)
        wait(both, lambda: both.publisher.drained)
        assert engine.said() == {"up": True}
        assert engine.said() == {"whole": True, "ordered": True, "first": 0, "last": seq, "count": seq + 1}
        assert check(both.sent(), engine.ledger(ReceivedLedger)) is None
        assert not both.sent().dropped


def test_a_stopped_consumer_makes_a_live_source_drop_and_both_count_the_same(tmp_path):
    with pair(tmp_path, live=True, queue_bytes=1 << 20) as both, started(both, name="engine", n=1000) as engine:
        engine.signal(signal.SIGSTOP)
        before = resident_bytes()
        for seq in range(5000):
            both.publisher.publish(packet(seq, 1000))
        assert resident_bytes() - before < 30 << 20  # 40 MB were offered
        engine.signal(signal.SIGCONT)
        wait(both, lambda: both.publisher.drained)
        both.publisher.publish(packet(5000, 1000))
        both.end(5001)
        wait(both, lambda: both.publisher.drained)
        assert engine.said()["up"]
        assert engine.said()["ordered"]
        received = engine.ledger(ReceivedLedger)
        assert received.missed["queue_full"] == both.sent().dropped["queue_full"]
        assert received.missed["queue_full"].packets > 4000
        assert check(both.sent(), received) is None


def test_a_stopped_display_neither_slows_nor_grows_the_source(tmp_path):
    with (
        pair(tmp_path, expected=("display",)) as both,
        started(both, name="display", n=10_000, delivery="latest") as display,
    ):
        display.signal(signal.SIGSTOP)
        before = resident_bytes()
        for seq in range(2000):
            assert both.publisher.room
            both.publisher.publish(packet(seq, 10_000))
        assert resident_bytes() - before < 20 << 20  # 160 MB were offered
        display.signal(signal.SIGCONT)
        both.end(2000)
        wait(both, lambda: both.publisher.drained)
        assert display.said()["up"]
        assert display.said()["last"] == 2000
        assert check(both.sent("display"), display.ledger(ReceivedLedger)) is None


@pytest.mark.parametrize("live", [False, True])
def test_a_killed_consumer_is_counted_and_its_successor_goes_on(tmp_path, live):
    with pair(tmp_path, live=live, queue_bytes=1 << 20) as both:
        with started(both, name="engine", n=100) as first:
            for seq in range(500):
                wait(both, lambda: live or both.publisher.room)
                both.publisher.publish(packet(seq, 100))
            first.kill()
            both.publisher.mark_absent("engine", will_return=True)
            if live:
                both.publisher.publish(packet(500, 100))
        with started(both, name="engine", n=100) as second:
            for seq in range(501 if live else 500, 1000):
                wait(both, lambda: live or both.publisher.room)
                both.publisher.publish(packet(seq, 100))
            both.end(1000)
            wait(both, lambda: both.publisher.drained)
            assert second.said()["up"]
            assert second.said()["whole"]
            received = second.ledger(ReceivedLedger)
        sent = both.sent()
        died = sent.dropped["consumer_died"].packets if "consumer_died" in sent.dropped else 0
        absent = sent.dropped["consumer_absent"].packets if live else 0
        assert sent.acknowledged.packets + died + absent == 1001 == sent.offered.packets
        assert not received.unexplained.packets
        assert check(sent, received) is None


def test_a_killed_consumer_that_nobody_reports_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("rtpipe.sockets.edge.RETURN_S", 0.3)
    with pair(tmp_path, expected=()) as both:
        with started(both, name="recorder", n=100) as recorder:
            recorder.signal(signal.SIGSTOP)
            for seq in range(20):
                both.publisher.publish(packet(seq, 100))
            recorder.kill()
        wait(both, lambda: both.publisher.drained)
        assert both.sent("recorder").dropped["consumer_died"].packets == 20
        assert both.publisher.room


def test_a_killed_replay_is_taken_up_again_without_a_gap_or_a_repetition(tmp_path):
    endpoint = f"ipc://{tmp_path}/edge"
    settings = {"endpoint": endpoint, "expected": ["engine"], "count": 3000, "pause": 0.0001}
    engine = Subscriber(endpoint, consumer="engine", producer="camera", kinds=["events"], credit_bytes=100_000)
    seqs = []

    def take_until(condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            received = engine.receive()
            if received is None:
                engine.socket.poll(5)
                engine.serve()
                continue
            assert received.end or is_packet(received, received.seq)
            seqs.append(received.seq)
            engine.processed(received)

    with Process("producer", **settings) as first:
        take_until(lambda: engine.streams is not None)
        engine.say_ready()
        take_until(lambda: len(seqs) > 1000)
        first.kill()
    with Process("producer", **settings) as second:
        take_until(lambda: engine.ended)
        engine.serve()
        assert second.said()["start"] > 900
        sent = second.ledger(SentLedger)
    assert seqs == list(range(3001))
    assert not engine.ledger().missed
    assert check(sent, engine.ledger()) is None
    engine.close()


def lossless(tmp_path, count, seed):
    endpoint = f"ipc://{tmp_path}/edge"
    with (
        Process("consumer", endpoint=endpoint, name="engine", credit=60_000, seed=seed) as consumer,
        Process("producer", endpoint=endpoint, expected=["engine"], count=count) as producer,
    ):
        assert consumer.said() == {"up": True}
        assert producer.said() == {"start": 0}
        chance = random.Random(seed)
        for _ in range(20):
            for peer in (producer, consumer):
                if peer.process.poll() is None and chance.random() < 0.5:
                    peer.signal(signal.SIGSTOP)
                    time.sleep(chance.random() * 0.02)
                    peer.signal(signal.SIGCONT)
            time.sleep(chance.random() * 0.05)
        assert consumer.said() == {"whole": True, "ordered": True, "first": 0, "last": count, "count": count + 1}
        received, sent = consumer.ledger(ReceivedLedger), producer.ledger(SentLedger)
    assert sent.acknowledged.packets == received.processed.packets == count + 1
    assert not sent.dropped
    assert check(sent, received) is None


def test_nothing_is_lost_whoever_stalls(tmp_path):
    lossless(tmp_path, 10_000, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_in_a_long_run(tmp_path, seed):
    lossless(tmp_path, 300_000, seed)


def test_the_producer_names_the_edge_of_a_packet_that_was_lost_uncounted(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "RTPIPE_TEST_LOSE", "camera->engine:50")
    endpoint = f"ipc://{tmp_path}/edge"
    with (
        Process("consumer", endpoint=endpoint, name="engine") as consumer,
        Process("producer", endpoint=endpoint, expected=["engine"], count=100) as producer,
    ):
        assert consumer.said()["up"]
        assert consumer.said()["count"] == 100
        assert producer.said() == {"start": 0}
        assert "edge camera->engine" in check(producer.ledger(SentLedger), consumer.ledger(ReceivedLedger))
