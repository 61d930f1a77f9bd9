"""Consumers and producers that leave, die, come back or lose their connection, in one process."""

import pytest

from rtpipe.ledger import check
from rtpipe.sockets import edge as edge_module
from rtpipe.types import Count
from tests.sockets.pair import packet, pair


def test_what_a_consumer_leaves_behind_is_counted_and_it_holds_up_nobody(tmp_path):
    with pair(tmp_path) as both:
        engine = both.join(credit_bytes=5000)
        for seq in range(20):
            both.publisher.publish(packet(seq))
        both.take(wanted=4)
        both.settle(0.05)
        held = engine.receive()
        assert held is not None
        del both.subscribers["engine"]
        engine.close()
        both.until(lambda: both.publisher.drained)
        assert both.sent().dropped["consumer_left"].count == Count(16, 160)
        assert engine.ledger().refused["not_processed"].count == Count(1, 10)
        assert both.publisher.room
        both.publisher.publish(packet(20))
        assert both.sent().offered.packets == 20
        assert check(both.sent(), engine.ledger()) is None


def test_a_dead_consumer_is_counted_and_a_live_source_goes_on(tmp_path):
    with pair(tmp_path, live=True) as both:
        both.join(credit_bytes=5000)
        for seq in range(20):
            both.publisher.publish(packet(seq))
        both.take(wanted=4)
        both.until(lambda: both.sent().acknowledged.packets == 4)
        both.vanish()
        both.publisher.mark_absent("engine", will_return=True)
        assert both.sent().dropped["consumer_died"].count == Count(16, 160)
        for seq in range(20, 25):
            both.publisher.publish(packet(seq))
        assert both.sent().dropped["consumer_absent"].count == Count(5, 50)
        again = both.join()
        both.publisher.publish(packet(25))
        both.end(26)
        assert [p.seq for p in both.take_all()] == [25, 26]
        assert not again.ledger().missed
        assert check(both.sent(), again.ledger()) is None
        assert both.sent().offered.packets == 27


def test_a_replay_waits_for_a_consumer_that_will_return_and_loses_only_what_was_under_way(tmp_path):
    with pair(tmp_path) as both:
        both.join(credit_bytes=5000)  # eight packets
        for seq in range(20):
            both.publisher.publish(packet(seq))
        both.take(wanted=4)
        both.settle(0.05)
        under_way = both.sent().sent.packets - both.sent().acknowledged.packets
        both.vanish()
        both.publisher.mark_absent("engine", will_return=True)
        assert not both.publisher.room
        both.publisher.publish(packet(20))  # of the same batch: kept
        again = both.join(ready=False)
        both.settle(0.05)
        assert not both.publisher.room
        again.say_ready()
        both.until(lambda: both.publisher.room)
        both.end(21)
        assert [p.seq for p in both.take_all()] == list(range(4 + under_way, 22))
        assert both.sent().dropped["consumer_died"].count == Count(under_way, 10 * under_way)
        assert set(both.sent().dropped) == {"consumer_died"}
        assert again.ledger().unexplained.packets == 0
        assert not again.ledger().missed  # what its forerunner lost is not its own loss
        assert check(both.sent(), again.ledger()) is None


def test_a_replay_goes_on_without_a_consumer_that_will_not_return(tmp_path):
    with pair(tmp_path, expected=("engine", "recorder")) as both:
        both.join()
        recorder = both.join("recorder")
        both.vanish()
        both.publisher.mark_absent("engine", will_return=False)
        assert both.publisher.ready
        assert both.publisher.room
        both.publisher.publish(packet(0))
        both.end(1)
        both.take_all("recorder")
        assert both.sent().dropped["consumer_absent"].count == Count(2, 10)
        assert check(both.sent("recorder"), recorder.ledger()) is None


def test_a_consumer_that_never_came_and_will_not_is_not_waited_for(tmp_path):
    with pair(tmp_path) as both:
        both.publisher.mark_absent("engine", will_return=True)
        assert not both.publisher.ready
        both.publisher.mark_absent("engine", will_return=False)
        both.publisher.mark_absent("nobody", will_return=False)
        assert both.publisher.ready
        assert both.publisher.room


@pytest.mark.parametrize("live", [False, True])
def test_without_a_supervisor_a_silent_death_is_found_and_counted(tmp_path, live, monkeypatch):
    monkeypatch.setattr(edge_module, "RETURN_S", 0.2)
    monkeypatch.setattr(edge_module, "FIRST_PING_S", 0.05)
    with pair(tmp_path, live=live, expected=("engine",)) as both:
        both.join(credit_bytes=1)
        for seq in range(3):
            both.publisher.publish(packet(seq))
        both.settle(0.05)
        both.vanish()
        both.until(lambda: both.publisher.drained)  # found by pings: nothing can be sent for want of credit
        assert both.sent().dropped["consumer_died"].count == Count(3, 30)
        assert both.publisher.room


def test_a_second_process_of_the_same_name_means_that_the_first_died(tmp_path):
    with pair(tmp_path, live=True) as both:
        first = both.join()
        both.publisher.publish(packet(0))
        both.subscribers.clear()
        second = both.join()
        assert both.sent().dropped["consumer_died"].count == Count(1, 10)
        both.publisher.publish(packet(1))
        both.end(2)
        assert [p.seq for p in both.take_all()] == [1, 2]
        assert check(both.sent(), second.ledger()) is None
        first.socket.close(0)


@pytest.mark.parametrize("live", [False, True])
def test_a_broken_connection_costs_nothing(tmp_path, live):
    with pair(tmp_path, live=live) as both:
        engine = both.join()
        taken = []
        for seq in range(40):
            both.publisher.publish(packet(seq))
            if seq % 10 == 3:
                taken += both.take(wanted=2)
                if seq == 23:
                    for _ in range(1000):  # more is under way; on a busy machine it takes its time
                        if (held := engine.receive()) is not None:
                            break
                        both.settle(0.01)
                    taken.append(held)  # held over the break
                engine.socket.disconnect(both.endpoint)
                engine.socket.connect(both.endpoint)
                if seq == 23:
                    both.settle(0.05)
                    engine.processed(taken[-1])
        both.end(40)
        taken += both.take_all()
        assert [p.seq for p in taken] == list(range(41))
        assert not both.sent().dropped
        assert not engine.ledger().refused
        assert both.sent().sent.packets == 41
        assert check(both.sent(), engine.ledger()) is None


def test_a_restarted_replay_learns_where_to_go_on_and_nothing_is_delivered_twice(tmp_path):
    with pair(tmp_path, expected=("engine", "recorder")) as both:
        engine, recorder = both.join(), both.join("recorder")
        for seq in range(10):
            both.publisher.publish(packet(seq))
        taken = {"engine": both.take("engine", 4), "recorder": both.take("recorder", 7)}
        both.publisher.socket.close(0)
        while (left := engine.receive()) is not None and len(taken["engine"]) < 6:
            engine.processed(left)
            taken["engine"].append(left)
        last = taken["engine"][-1].seq if left is None else left.seq
        if left is not None:
            engine.processed(left)
            taken["engine"].append(left)
        both.publisher = both.make_publisher()
        while not both.publisher.ready:
            both.publisher.serve()
            for name, consumer in both.subscribers.items():
                received = consumer.receive()
                if received is not None:
                    taken[name].append(received)
                    consumer.processed(received)
        resume = both.publisher.resume
        assert resume["camera/frames"] == -1
        assert last <= resume["camera/events"] <= 9
        start = resume["camera/events"] + 1
        for seq in range(start - 2, 20):  # two more than need be: they must be recognised
            both.publisher.publish(packet(seq))
        both.end(20)
        for name in ("engine", "recorder"):
            seqs = [p.seq for p in taken[name] + both.take_all(name)]
            assert seqs == list(range(21))
        for name, consumer in (("engine", engine), ("recorder", recorder)):
            assert consumer.ledger().refused["duplicate"].packets >= 2
            assert consumer.ledger().unexplained.packets == 0
            assert check(both.sent(name), consumer.ledger()) is None


def test_a_restarted_camera_counts_anew_and_nothing_of_it_is_refused(tmp_path):
    with pair(tmp_path, live=True) as both:
        engine = both.join()
        for seq in range(5):
            both.publisher.publish(packet(seq))
        both.take(wanted=5)
        both.publisher.socket.close(0)
        both.publisher = both.make_publisher()
        while not both.publisher.ready:
            both.publisher.serve()
            assert engine.receive() is None
        for seq in range(3):
            both.publisher.publish(packet(seq))
        both.end(3)
        assert [p.seq for p in both.take_all()] == [0, 1, 2, 3]
        assert not engine.ledger().refused
        assert check(both.sent(), engine.ledger()) is None


def test_what_a_dead_replay_took_with_it_is_named(tmp_path):
    with pair(tmp_path) as both:
        engine = both.join()
        for seq in range(3):
            both.publisher.publish(packet(seq))
        both.take(wanted=3)
        both.publisher.socket.close(0)
        both.publisher = both.make_publisher()
        for seq in range(7):
            both.publisher.publish(packet(seq))  # nobody is there yet
        while not both.publisher.ready:
            both.publisher.serve()
            assert engine.receive() is None
        both.publisher.publish(packet(7))
        both.end(8)
        assert [p.seq for p in both.take_all()] == [7, 8]
        assert engine.ledger().missed["producer_died"].packets == 4
        assert check(both.sent(), engine.ledger()) is None


def test_close_counts_what_nobody_acknowledged(tmp_path):
    with pair(tmp_path) as both:
        both.join(credit_bytes=5000)
        for seq in range(20):
            both.publisher.publish(packet(seq))
        both.publisher.close()
        assert both.sent().dropped["closed"].count == Count(20, 200)
        assert both.sent().offered.packets == 20
